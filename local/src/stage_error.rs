//! Why a stack cannot be served: every way in which `stage.rs` and `world.rs` give up, with what to write instead.

use crate::engine::{LocateError, StartError};
use crate::stack::StackError;

/// Why a stack cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// The files are wrong.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// The gateway uses what only a cluster has.
    #[error("{0}")]
    ClusterOnly(Box<weir_reconcile::Problem>),
    /// There is no engine program.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// A model or embedder could not be brought here.
    #[error("{object}: {}", weir_plan::chain(.source.as_ref()))]
    Source {
        /// `ModelPool/small` or `MemoryStore/kb`.
        object: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An engine does not start.
    #[error(transparent)]
    Engine(#[from] StartError),
    /// The memory cannot be opened.
    #[error("MemoryStore/{name}: {}", weir_plan::chain(.source))]
    Memory {
        /// The store.
        name: String,
        /// The cause.
        source: Box<weir_memory::OpenError>,
    },
    /// The stack changes the embedding of a memory that is open.
    #[error(
        "MemoryStore/{0}: embedding cannot change while its memory is served: end the gateway with `weir down`, then \
         `weir memory migrate -f FILE` makes the other vectors"
    )]
    EmbeddingChanged(String),
    /// The embedder's vectors do not fit the memory.
    #[error(
        "MemoryStore/{name}: spec.embedding.dimensions is {wanted}, the embedder gives {found}: write dimensions: {found}"
    )]
    EmbedderDimensions {
        /// The store.
        name: String,
        /// What the stack says.
        wanted: usize,
        /// What the embedder gives.
        found: usize,
    },
    /// The external pool that embeds is of no use to the memory.
    #[error("ModelPool/{name}: {reason}")]
    Embedder {
        /// The pool.
        name: String,
        /// What it lacks.
        reason: String,
    },
    /// The router artifact does not match.
    #[error("RouterVersion/{name}: {message}")]
    Router {
        /// The version.
        name: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// The plan cannot be made or is refused by the gateway.
    #[error("{0}")]
    Plan(String),
    /// A task of this process failed.
    #[error("internal: {0}")]
    Internal(String),
}
