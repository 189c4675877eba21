//! What a stack may name as the source of a model.

use std::path::{Path, PathBuf};

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file of a repository on the Hugging Face hub; no file stands for the whole repository.
    HuggingFace {
        /// `owner/name`.
        repo: String,
        /// Path inside the repository.
        file: Option<String>,
        /// Branch, tag or commit; `main` when the source names none.
        revision: String,
    },
    /// An https (or http) address.
    Https(String),
    /// A file or folder on this machine.
    File(PathBuf),
}

/// Why a source could not be understood.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceError {
    /// The scheme is missing or unknown.
    #[error("model source `{0}` has no known scheme: write hf://owner/repo/file.gguf, https://... or file://...")]
    Scheme(String),
}

impl Source {
    /// Reads a source as a stack writes it.
    ///
    /// # Errors
    /// The scheme is unknown or its parts are missing.
    pub fn parse(text: &str, _base_dir: &Path) -> Result<Self, SourceError> {
        Err(SourceError::Scheme(text.into()))
    }
}
