//! How a command ends when it did not work: one message, one exit code.

use std::process::ExitCode;

/// Why a command failed, ready to be printed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What, where and what instead; empty when everything was printed already.
    message: String,
}

impl Failure {
    /// A failure with its own words.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }

    /// A failure whose explanation is the command's output.
    pub(crate) fn said() -> Self {
        Self {
            message: String::new(),
        }
    }

    /// Prints the message and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            anstream::eprintln!("{} {}", crate::output::error("weir:"), self.message);
        }
        ExitCode::FAILURE
    }
}

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(weir_plan::chain(&error))
    }
}
