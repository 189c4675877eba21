//! The sentence embedder.

use std::path::{Path, PathBuf};

/// A sentence embedder: text to a vector of unit length.
#[derive(Debug)]
pub struct Embedder {
    dimensions: usize,
}

/// Why an embedder could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file is missing.
    #[error("embedder file {0} is missing")]
    Missing(PathBuf),
}

/// Why a text could not be embedded.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedError {
    /// The worker thread has ended.
    #[error("the embedder has stopped")]
    Stopped,
}

impl Embedder {
    /// Loads `model.safetensors`, `tokenizer.json` and `config.json` from `dir`.
    ///
    /// # Errors
    /// A file is missing, cut short or of another shape.
    pub fn load(dir: &Path) -> Result<Self, LoadError> {
        Err(LoadError::Missing(dir.into()))
    }

    /// Length of every vector.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Embeds each text; the vectors have unit length.
    ///
    /// # Errors
    /// The model could not be evaluated.
    pub fn embed(&self, _texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
        Err(EmbedError::Stopped)
    }
}
