//! Moving the memory of a stack that nobody serves to the embedding that its files name now.
//!
//! The store holds both sets of vectors meanwhile (weir-memory's `store/embedding.rs`); this file gets the other embedder,
//! makes what is missing, and lets the store exchange them. What was made is kept whenever it breaks off: the next run goes
//! on, also when the gateway served the old vectors and took writes in between.

use crate::home::{Home, StateLock};
use crate::offline::{self, OfflineError};
use crate::stack::Loaded;
use crate::stage::EMBEDDER_FILES;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use weir_embed::{EmbedError, EmbedQueue, Embedder, LoadError};
use weir_memory::upkeep::Progress;
use weir_memory::{Embedding, Memory, MemoryConfig, MoveError, OpenError, ReadError, Shadow};
use weir_models::{Access, FetchError, Fetcher, Source, SourceError};

/// Nodes that are embedded and written together.
const BATCH: usize = 32;

/// An open memory, and the embedding that its store is to have.
#[derive(Debug)]
pub struct Moving {
    memory: Memory,
    target: Embedding,
    /// `None` when a pool embeds.
    embed: Option<EmbedQueue>,
    _lock: StateLock,
}

/// The embeddings of a memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Embeddings {
    /// Whose vectors are in use.
    pub in_use: Embedding,
    /// The other set, if there is one.
    pub other: Option<Shadow>,
}

/// Why a memory was not moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MovingError {
    /// The memory cannot be opened.
    #[error(transparent)]
    Offline(#[from] OfflineError),
    /// There is nothing in it.
    #[error(
        "MemoryStore/{0} has no memory on this machine yet: `weir up` makes one, with the embedding that the files name"
    )]
    NoStore(String),
    /// The store cannot be opened.
    #[error("open the memory: {}", weir_plan::chain(.0))]
    Open(#[from] Box<OpenError>),
    /// What the stack says where the embedder is.
    #[error("embedding.source: {}", weir_plan::chain(.0))]
    Source(#[from] SourceError),
    /// The embedder cannot be had.
    #[error("get the embedder: {}", weir_plan::chain(.0))]
    Fetch(#[from] FetchError),
    /// The embedder cannot be used.
    #[error("load the embedder: {}", weir_plan::chain(.0))]
    Load(#[from] LoadError),
    /// The embedder makes other vectors than the stack says.
    #[error(
        "the embedder makes vectors of {found} dimensions, embedding.dimensions is {wanted}: write {found}"
    )]
    Dimensions {
        /// In the stack.
        wanted: usize,
        /// Of the embedder.
        found: usize,
    },
    /// A pool embeds, which runs with a gateway only.
    #[error(
        "embedding.pool {0} makes vectors while a gateway serves: `weir memory migrate --now` moves at once, and passages are \
         found by their words until `weir up` has made their vectors"
    )]
    Pool(String),
    /// A text was not embedded.
    #[error("make vectors: {}", weir_plan::chain(.0))]
    Embed(#[from] EmbedError),
    /// The memory cannot be read.
    #[error("read the memory: {}", weir_plan::chain(.0))]
    Read(#[from] ReadError),
    /// The store did not move.
    #[error("{}", weir_plan::chain(.0))]
    Move(#[from] MoveError),
}

/// Opens the memory that the stack's gateway names with the embedding that it has, and gets the embedder that the stack
/// names. `fetching` is told how many bytes of the embedder are here, of how many.
///
/// # Errors
/// There is no memory, another process has it, or the embedder cannot be had.
pub async fn open_moving(
    home: &Home,
    loaded: &Loaded,
    fetching: &(dyn Fn(u64, Option<u64>) + Send + Sync),
) -> Result<Moving, MovingError> {
    let (store, folder, lock) = offline::lock(home, loaded)?;
    let name = store.metadata.name.clone().unwrap_or_default();
    let stored = Memory::embedding_in(&folder).map_err(Box::new)?;
    let stored = stored.ok_or_else(|| MovingError::NoStore(name.clone()))?;
    let wanted = &store.spec.embedding;
    let embed = match &wanted.source {
        Some(source) => {
            let base = loaded.stack.base_dir("MemoryStore", &name);
            let fetcher = Fetcher::new(home.models(), Access::from_env())?;
            let tell = |at: weir_models::Progress| fetching(at.downloaded, at.total);
            let source = Source::parse(source, base)?;
            let folder: PathBuf = fetcher.fetch_dir(&source, &EMBEDDER_FILES, &tell).await?;
            Some(EmbedQueue::new(Embedder::load(&folder)?))
        }
        None => None,
    };
    let target = Embedding {
        model: wanted.model.clone(),
        dimensions: wanted.dimensions as usize,
        revision: embed.as_ref().map(|queue| queue.revision().to_owned()),
    };
    if let Some(queue) = &embed
        && queue.dimensions() != target.dimensions
    {
        let (wanted, found) = (target.dimensions, queue.dimensions());
        return Err(MovingError::Dimensions { wanted, found });
    }
    let config = MemoryConfig {
        dimensions: stored.dimensions,
        embedding_model: stored.model,
    };
    let memory = Memory::open(&folder, &config).map_err(Box::new)?;
    Ok(Moving {
        memory,
        target,
        embed,
        _lock: lock,
    })
}

impl Moving {
    /// The embeddings of the memory now.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn embeddings(&self) -> Result<Embeddings, MovingError> {
        Ok(Embeddings {
            in_use: self.memory.embedding()?,
            other: self.memory.shadow()?,
        })
    }

    /// Makes the vectors of the stack's embedding that are missing, and uses them from then on. With `now`, those that are
    /// missing are made later, by a gateway that serves.
    ///
    /// # Errors
    /// The memory has that embedding already, or vectors cannot be made or written; those that were made are kept.
    pub async fn run(
        self,
        now: bool,
        progress: &dyn Fn(Progress),
    ) -> Result<Embeddings, MovingError> {
        let in_use = self.memory.embedding()?;
        // A store from before revisions were kept has that of the model of its name.
        let unknown = in_use.revision.is_none() || self.target.revision.is_none();
        if unknown
            && in_use.model == self.target.model
            && in_use.dimensions == self.target.dimensions
        {
            return Err(MoveError::Same(in_use.to_string()).into());
        }
        let shadow = self.memory.begin_shadow(&self.target)?;
        if !now {
            let Some(embed) = &self.embed else {
                return Err(MovingError::Pool(self.target.model));
            };
            fill(&self.memory, embed, &shadow, progress).await?;
        }
        self.exchange(now)
    }

    /// Uses the vectors again that were in use before the memory was moved. Nodes that were written since wait for theirs.
    ///
    /// # Errors
    /// It was not moved.
    pub fn undo(self) -> Result<Embeddings, MovingError> {
        match self.memory.shadow()? {
            Some(shadow) if shadow.was_in_use => self.exchange(true),
            _ => Err(MoveError::NoShadow.into()),
        }
    }

    /// Lets go of the vectors that are not in use.
    ///
    /// # Errors
    /// There are none.
    pub fn forget(self) -> Result<Embeddings, MovingError> {
        match self.memory.forget_shadow()? {
            true => self.embeddings(),
            false => Err(MoveError::NoShadow.into()),
        }
    }

    fn exchange(self, incomplete: bool) -> Result<Embeddings, MovingError> {
        let before = self.memory.embedding()?;
        let shadow = self.memory.shadow()?.ok_or(MoveError::NoShadow)?;
        let counts = self.memory.counts();
        self.memory.swap_embedding(incomplete)?;
        Ok(Embeddings {
            in_use: shadow.embedding,
            other: Some(Shadow {
                embedding: before,
                vectors: counts.vectors as u64,
                pending: counts.pending as u64,
                was_in_use: !shadow.was_in_use,
            }),
        })
    }
}

async fn fill(
    memory: &Memory,
    embed: &EmbedQueue,
    shadow: &Shadow,
    progress: &dyn Fn(Progress),
) -> Result<(), MovingError> {
    let total = shadow.vectors + shadow.pending;
    let mut done = shadow.vectors;
    loop {
        progress(Progress { done, total });
        let waiting = memory.shadow_pending(BATCH)?;
        if waiting.is_empty() {
            return Ok(());
        }
        let texts = waiting.iter().map(|(_, text, _)| text.clone());
        let vectors = embed.embed_many(texts.collect()).await?;
        let nodes = waiting.into_iter().zip(vectors);
        let made: Vec<_> = nodes
            .map(|((id, _, generation), vector)| (id, generation, vector))
            .collect();
        done += memory.set_shadow_vectors(&made)? as u64;
    }
}
