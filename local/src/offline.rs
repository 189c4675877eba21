//! The memory of a stack that nobody serves, opened by a command itself.
//!
//! Only with the state folder's lock in hand, so that a `weir up` that starts meanwhile says who is in its way.

use crate::home::{Home, HomeError, StateLock};
use crate::memory::{self, MemoryCommandError};
use crate::search::{self, Found, Picture, SearchOptions};
use crate::stack::{Loaded, StackError};
use std::path::{Path, PathBuf};
use weir_crds::MemoryStore;
use weir_embed::{EmbedQueue, Embedder};
use weir_memory::{Memory, MemoryConfig, OpenError, ReadError, RecallLimits};
use weir_models::Source;

/// An open memory and, when its files are on this machine, its embedder.
#[derive(Debug)]
pub struct OfflineMemory {
    /// The memory.
    pub memory: Memory,
    /// The embedder; without it, passages are found by their words.
    embed: Option<EmbedQueue>,
    limits: RecallLimits,
    /// Where its files are.
    pub folder: PathBuf,
    _lock: StateLock,
}

/// Why the memory of a stack cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfflineError {
    /// The files are wrong.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// The state folder cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Another command holds the state folder.
    #[error(
        "the memory of gateway {0:?} is being used by another weir command: wait until it has ended"
    )]
    InUse(String),
    /// The gateway has no memory.
    #[error(
        "gateway {0:?} names no memory: write spec.memory: NAME and add a MemoryStore of that name"
    )]
    NoMemory(String),
    /// The store cannot be opened.
    #[error("MemoryStore/{name}: {}{}", weir_plan::chain(.source), remedy(.source))]
    Open {
        /// The store.
        name: String,
        /// Where its files are.
        folder: PathBuf,
        /// The cause.
        source: Box<OpenError>,
    },
}

impl OfflineMemory {
    /// Finds passages as a request would.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub async fn search(&self, options: &SearchOptions) -> Result<Vec<Found>, MemoryCommandError> {
        let vector = self.vector(&options.text).await;
        search::search(&self.memory, vector, self.limits, options)
    }

    /// Finds passages as a request would, and what led to them.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub async fn picture(&self, options: &SearchOptions) -> Result<Picture, MemoryCommandError> {
        let vector = self.vector(&options.text).await;
        search::picture(&self.memory, vector, self.limits, options)
    }

    /// The vector of a text, when the embedder is on this machine and does not fail: words alone find something too.
    pub async fn vector(&self, text: &str) -> Option<Vec<f32>> {
        let vector = self.embed.as_ref()?.embed(text).await.ok()?;
        Some(vector.to_vec())
    }

    /// How far a request's recall goes.
    #[must_use]
    pub fn limits(&self) -> RecallLimits {
        self.limits
    }
}

/// What can be done about a row that cannot be read.
fn remedy(error: &OpenError) -> &'static str {
    match error {
        OpenError::Damaged {
            source: ReadError::Damaged { .. },
            ..
        } => "; `weir memory doctor` names all such rows",
        _ => "",
    }
}

/// Opens the memory that the stack's gateway names. Loading an embedder blocks for a moment.
///
/// # Errors
/// The gateway names none, or another process has it.
pub fn open_offline(home: &Home, loaded: &Loaded) -> Result<OfflineMemory, OfflineError> {
    let (store, folder, lock) = lock(home, loaded)?;
    let name = store.metadata.name.clone().unwrap_or_default();
    let embedding = &store.spec.embedding;
    let config = MemoryConfig {
        dimensions: embedding.dimensions as usize,
        embedding_model: embedding.model.clone(),
    };
    let refused = |source| OfflineError::Open {
        name: name.clone(),
        folder: folder.clone(),
        source: Box::new(source),
    };
    let memory = Memory::open(&folder, &config).map_err(refused)?;
    let base = loaded.stack.base_dir("MemoryStore", &name);
    let embed = embedding
        .source
        .as_deref()
        .and_then(|source| embedder(source, base));
    let embed = embed.filter(|queue| queue.dimensions() == config.dimensions);
    if let Some(queue) = &embed {
        memory.embedded_by(queue.revision()).map_err(refused)?;
    }
    Ok(OfflineMemory {
        memory,
        embed,
        limits: memory::limits(&store.spec.attention),
        folder,
        _lock: lock,
    })
}

/// The memory that the stack's gateway names and where its files are, with the lock of the state folder.
pub(crate) fn lock<'a>(
    home: &Home,
    loaded: &'a Loaded,
) -> Result<(&'a MemoryStore, PathBuf, StateLock), OfflineError> {
    let gateway = loaded.name().to_owned();
    let name = loaded.gateway.spec.memory.as_deref();
    let store = name.and_then(|name| loaded.stack.memory(name));
    let (Some(name), Some(store)) = (name, store) else {
        return Err(OfflineError::NoMemory(gateway));
    };
    let state = home.gateway(&gateway);
    state.create()?;
    let lock = state.lock()?.ok_or(OfflineError::InUse(gateway))?;
    Ok((store, state.memory(name), lock))
}

/// The embedder, when it is a folder of this machine. Downloading one is the business of `weir up`.
fn embedder(source: &str, base: &Path) -> Option<EmbedQueue> {
    let Ok(Source::File(folder)) = Source::parse(source, base) else {
        return None;
    };
    Embedder::load(&folder).ok().map(EmbedQueue::new)
}
