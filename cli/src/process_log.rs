//! The log of a process in a cluster: on standard error, where the cluster collects it. `WEIR_LOG` filters.
//!
//! The log of `weir up` is a file (`up.rs`), and reading logs is `logs.rs`.

use clap::ValueEnum;
use tracing::subscriber::set_global_default;
use tracing_subscriber::EnvFilter;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One object a line, for programs
    Json,
    /// For people
    Text,
}

/// Begins the log of this process.
pub(crate) fn to_stderr(format: LogFormat) {
    let filter = EnvFilter::try_from_env("WEIR_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // Only a second call could fail, and there is none.
    let _ = match format {
        LogFormat::Json => set_global_default(log.json().flatten_event(true).finish()),
        LogFormat::Text => set_global_default(log.finish()),
    };
}
