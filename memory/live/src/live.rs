//! `LiveMemory`: an open store with its embedder, answering what `calls.rs` asks.
//!
//! Store calls touch a disk and a CPU, so they run beside the async threads, as many at a time as can get on. They are
//! answered when they end, however long that takes: the store cannot be stopped in the middle, and whoever waits decides
//! when to stop waiting; a call that nobody waits for any more is not begun. The recall of a question, which skips what is
//! late, is in `recall.rs`.

use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinHandle};
use weir_memory::upkeep::Erased;
use weir_memory::{
    Access, Batch, CacheCounts, Memory, NodeId, Query, ReadError, RecallLimits, Written,
};
use weir_plan::chain;

use crate::calls::{
    Asked, Attended, Found, MemoryCalls, MemoryError, Presence, Recollection, Reply, Sought,
};
use crate::embedder::Embedder;
use crate::recall::recollect;

/// Reads of the store that run at a time, for each processor; more would take each other's time.
const READS_PER_PROCESSOR: usize = 2;

/// An open store with what makes its vectors. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LiveMemory {
    pub(crate) store: Memory,
    pub(crate) embedder: Option<Embedder>,
    pub(crate) reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
}

impl LiveMemory {
    /// Without an embedder, words alone find what they can.
    pub fn new(store: Memory, embedder: Option<Embedder>) -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        Self {
            store,
            embedder,
            reads: Arc::new(Semaphore::new(processors * READS_PER_PROCESSOR)),
            // The store writes one batch after the other.
            writes: Arc::new(Semaphore::new(1)),
        }
    }

    /// The question's vector when it can be had in time and fits the store.
    pub(crate) async fn vector_of(&self, text: &str) -> Option<Arc<[f32]>> {
        Embedder::fitting(self.embedder.as_ref(), text, self.dimensions()).await
    }

    async fn query(&self, sought: Sought) -> Query {
        sought
            .query(self.embedder.as_ref(), self.dimensions())
            .await
    }

    fn dimensions(&self) -> usize {
        self.store.config().dimensions
    }

    /// Reads the store beside the async threads, when it is this call's turn.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Memory) -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        self.begun(&self.reads, work).await.await
    }

    /// Begins to read when it is this call's turn.
    pub(crate) async fn begin_read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Memory) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.begun(&self.reads, work).await
    }

    /// Reads if a place is free at once.
    pub(crate) async fn read_if_free<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Memory) -> T + Send + 'static,
    ) -> Option<T> {
        let place = Arc::clone(&self.reads).try_acquire_owned().ok()?;
        self.spawn(place, work).await.ok()
    }

    async fn begun<T: Send + 'static>(
        &self,
        places: &Arc<Semaphore>,
        work: impl FnOnce(&Memory) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let place = Arc::clone(places).acquire_owned().await;
        self.spawn(place.expect("nobody closes the places"), work)
    }

    fn spawn<T: Send + 'static>(
        &self,
        place: OwnedSemaphorePermit,
        work: impl FnOnce(&Memory) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || {
            let done = work(&store);
            drop(place);
            done
        })
    }
}

/// What a call gave, or that its thread died.
fn ended<T>(done: Result<Result<T, MemoryError>, JoinError>) -> Result<T, MemoryError> {
    done.unwrap_or_else(|error| {
        Err(MemoryError::Failed {
            what: "the memory call",
            why: error.to_string(),
        })
    })
}

impl MemoryCalls for LiveMemory {
    fn presence(&self) -> Presence {
        Presence::Here(self.store.counts())
    }

    fn cache_counts(&self) -> Option<CacheCounts> {
        Some(self.store.cache_counts())
    }

    fn recall(&self, asked: Asked) -> Reply<'_, Recollection> {
        Box::pin(async move {
            let _call = self.store.begin_call();
            Ok(recollect(self, asked).await)
        })
    }

    fn search(&self, sought: Sought) -> Reply<'_, Found> {
        Box::pin(async move {
            let _call = self.store.begin_call();
            let query = self.query(sought).await;
            let found = self.read(move |store| -> Result<Found, MemoryError> {
                let result = store.search(&query)?;
                let ids: Vec<NodeId> = result.hits.iter().map(|hit| hit.id).collect();
                let nodes = store.nodes(&ids)?;
                Ok(Found { result, nodes })
            });
            ended(found.await)
        })
    }

    fn attend(&self, sought: Sought, limits: RecallLimits) -> Reply<'_, Attended> {
        Box::pin(async move {
            let _call = self.store.begin_call();
            let query = self.query(sought).await;
            let attended = self.read(move |store| -> Result<Attended, MemoryError> {
                let recall = store.recall(&query, &store.search(&query)?, &limits);
                let ids: Vec<NodeId> = recall.nodes.iter().map(|node| node.id).collect();
                let nodes = store.nodes(&ids)?;
                Ok(Attended { recall, nodes })
            });
            ended(attended.await)
        })
    }

    fn write(&self, access: Access, batch: Batch) -> Reply<'_, Written> {
        Box::pin(async move {
            let _call = self.store.begin_call();
            let work =
                move |store: &Memory| store.write_as(&access, &batch).map_err(MemoryError::from);
            ended(self.begun(&self.writes, work).await.await)
        })
    }

    fn delete(&self, access: Access, id: NodeId) -> Reply<'_, bool> {
        Box::pin(async move {
            let _call = self.store.begin_call();
            let work =
                move |store: &Memory| store.delete_as(&access, id).map_err(MemoryError::from);
            ended(self.begun(&self.writes, work).await.await)
        })
    }

    fn erase(&self, access: Access, subject: String, tenant: Option<String>) -> Reply<'_, Erased> {
        Box::pin(async move {
            let _call = self.store.begin_call();
            let work = move |store: &Memory| {
                let erased = store.erase_as(&access, &subject, tenant.as_deref());
                erased.map_err(MemoryError::from)
            };
            let erased = ended(self.begun(&self.writes, work).await.await)?;
            if let Some(embedder) = &self.embedder {
                embedder.forget_questions();
            }
            Ok(erased)
        })
    }

    fn embed(&self, texts: Vec<String>) -> Reply<'_, Vec<Vec<f32>>> {
        Box::pin(Embedder::texts(self.embedder.as_ref(), texts))
    }
}

impl From<ReadError> for MemoryError {
    fn from(error: ReadError) -> Self {
        Self::Failed {
            what: "reading the memory",
            why: chain(&error),
        }
    }
}
