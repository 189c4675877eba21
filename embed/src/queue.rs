//! The embedder behind a queue: one worker thread, two lanes, one cache.
//!
//! Single queries go before bulk work. A query that is already known is answered from the cache, one
//! that is already under way is waited for instead of computed twice, and those that wait together
//! are evaluated together. Bulk work advances in pieces of about `BULK_BYTES`, which bounds how
//! long a query waits behind it. `queue/worker.rs` has the thread and what it shares.

mod worker;

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{EmbedError, Embedder};
use worker::{Bulk, Shared};

/// A clonable handle to an embedder on a thread of its own; the thread ends with the last handle.
#[derive(Debug, Clone)]
pub struct EmbedQueue {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    dimensions: usize,
    revision: String,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl EmbedQueue {
    /// Starts the worker thread.
    #[must_use]
    pub fn new(embedder: Embedder) -> Self {
        let (dimensions, revision) = (embedder.dimensions(), embedder.revision().to_owned());
        Self::start((dimensions, revision), move |texts| embedder.embed(texts))
    }

    fn start(
        (dimensions, revision): (usize, String),
        embed: impl Fn(&[&str]) -> Result<Vec<Vec<f32>>, EmbedError> + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let work = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("weir-embed-queue".to_owned())
            .spawn(move || work.run(embed))
            .expect("the system can start one more thread");
        Self {
            handle: Arc::new(Handle {
                shared,
                dimensions,
                revision,
            }),
        }
    }

    /// Length of every vector.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.handle.dimensions
    }

    /// Digest of the model's files.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.handle.revision
    }

    /// Embeds one query. A caller that goes away takes its query out of the queue.
    ///
    /// # Errors
    /// The model could not be evaluated, or the worker has stopped.
    pub async fn embed(&self, text: &str) -> Result<Arc<[f32]>, EmbedError> {
        let waiting = match self.handle.shared.ask(text)? {
            worker::Asked::Known(vector) => return Ok(vector),
            worker::Asked::Waiting(answer) => answer,
        };
        waiting.await.unwrap_or(Err(EmbedError::Stopped))
    }

    /// Forgets the queries that are answered from the cache, their texts included.
    pub fn forget(&self) {
        self.handle.shared.forget();
    }

    /// Embeds many texts, in their order, without holding up single queries.
    ///
    /// # Errors
    /// As [`EmbedQueue::embed`]; one text that fails fails the call.
    pub async fn embed_many(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EmbedError> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, answer) = oneshot::channel();
        self.handle.shared.add_bulk(Bulk::new(texts, reply))?;
        answer.await.unwrap_or(Err(EmbedError::Stopped))
    }
}

#[cfg(test)]
mod tests;
