//! The store: what is durable, and the order in which it becomes so.
//!
//! redb holds the only truth: node rows, stamps, vectors, edges, which passages a document has, and
//! the number of the last write. The index in memory (`index.rs`) follows each committed
//! transaction and is rebuilt from the rows at open, so a crash can lose nothing that was
//! acknowledged. The graph over the vectors is the one part that has a file of its own, which may be lost. One process
//! owns a store. Reading on: `store/open.rs`, `store/write.rs`, `store/read.rs`, `store/linker.rs` (the graph);
//! `store/row.rs` has the tables, `store/weights.rs` the weights of attention, `store/tuning.rs` how hard searches look,
//! `store/embedding.rs` what makes the vectors.

mod calls;
mod damaged;
mod embedding;
mod files;
mod linker;
mod open;
mod read;
mod row;
mod snapshot;
mod storage;
mod transaction;
mod tuning;
mod weights;
mod write;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError,
};

use crate::attention::{AttentionError, AttentionWeights};
use crate::index::Index;
use crate::node::{NewEdge, NewNode, NodeId};
use crate::recall::RecallCache;
use crate::vectors::snapshot::SnapshotError;
use linker::Linker;
use redb::StorageError;
use storage::Storage;

pub use calls::Call;
pub use damaged::{DamagedRow, damaged_rows, remove_damaged_rows};
pub use embedding::{Embedding, MoveError, Shadow};
pub(crate) use snapshot::Snapshot;
pub use transaction::Erased;
pub(crate) use transaction::{EdgeKey, Repairs};
pub use tuning::Tuning;
pub use weights::KeepError;
pub(crate) use write::{Edit, check_edge, check_node, unit_vector};

/// An open memory. Cheap to clone; all clones are the same memory.
#[derive(Clone)]
pub struct Memory {
    inner: Arc<Inner>,
}

struct Inner {
    /// Ends before the file is closed, so that the next process finds its snapshot.
    linker: Linker,
    storage: Storage,
    config: MemoryConfig,
    index: Arc<RwLock<Index>>,
    folder: PathBuf,
    attention: RwLock<Arc<AttentionWeights>>,
    tuning: RwLock<Option<Tuning>>,
    recollected: RecallCache,
    /// Calls that are being answered.
    calls: AtomicUsize,
    /// Whether there is a second set of vectors.
    shadowed: AtomicBool,
    /// Held from the start of a transaction until the index has followed it, so that both see
    /// writes in one order.
    writer: Mutex<()>,
    /// The generation of the text that was handed out for embedding, so that a vector of an older
    /// text is not taken for the present one.
    handed_out: Mutex<HashMap<NodeId, u64>>,
}

/// The identity of a store, fixed when it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryConfig {
    /// Length of every vector.
    pub dimensions: usize,
    /// Name of the model that makes the vectors.
    pub embedding_model: String,
}

/// What to write, all or nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Nodes, new or replaced.
    pub nodes: Vec<NewNode>,
    /// Edges, new or replaced.
    pub edges: Vec<NewEdge>,
}

/// What a write did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Nodes that were not there.
    pub inserted: usize,
    /// Nodes whose content changed.
    pub updated: usize,
    /// Nodes that were there with the same content.
    pub unchanged: usize,
    /// Nodes that were removed.
    pub removed: usize,
    /// Edges that were new or changed.
    pub edges: usize,
    /// The generation this write made, or the present one when nothing changed.
    pub generation: u64,
}

/// How much a memory holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Nodes.
    pub nodes: usize,
    /// Edges.
    pub edges: usize,
    /// Nodes with a vector.
    pub vectors: usize,
    /// Nodes that wait for one.
    pub pending: usize,
}

/// How far the graph over the vectors is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GraphCounts {
    /// Vectors that have their place.
    pub linked: usize,
    /// Vectors that came, changed or went since, and are compared one by one meanwhile.
    pub waiting: usize,
}

/// Why a memory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be made or read.
    #[error("cannot use {} as a memory", path.display())]
    Directory {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process has it.
    #[error(
        "the memory in {} is open in another process; stop that one or talk to it instead",
        path.display()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// Vectors of another length.
    #[error("the memory in {} holds vectors of {stored} dimensions, not {wanted}: `weir memory migrate` makes those of another \
         embedding", path.display())]
    Dimensions {
        /// The folder.
        path: PathBuf,
        /// What the store was made for.
        stored: usize,
        /// What was asked for.
        wanted: usize,
    },
    /// Vectors of another model.
    #[error(
        "the memory in {} holds vectors of the model {stored:?}, not {wanted:?}; \
         vectors of two models cannot be compared: `weir memory migrate` makes those of the other",
        path.display()
    )]
    EmbeddingModel {
        /// The folder.
        path: PathBuf,
        /// What the store was made for.
        stored: String,
        /// What was asked for.
        wanted: String,
    },
    /// Vectors of other files of the model.
    #[error(
        "the memory in {} holds vectors of revision {stored} of {model:?}, and the embedder's files are revision {wanted}: \
         give it the files of before, or make new vectors with `weir memory migrate`",
        path.display()
    )]
    Revision {
        /// The folder.
        path: PathBuf,
        /// Name of the model.
        model: String,
        /// What the vectors were made with.
        stored: String,
        /// What is there now.
        wanted: String,
    },
    /// Written by another version of this crate.
    #[error(
        "the memory in {} has format {stored}, this build reads format {supported}",
        path.display()
    )]
    Format {
        /// The folder.
        path: PathBuf,
        /// The format found.
        stored: String,
        /// The format of this build.
        supported: &'static str,
    },
    /// The weights of attention beside the rows cannot be used.
    #[error("cannot use {}; train again or remove the file", path.display())]
    Attention {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: AttentionError,
    },
    /// What was measured of the index cannot be read.
    #[error("cannot use {}; remove the file and run `weir memory tune`", path.display())]
    Tuning {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A vector length of zero was asked for.
    #[error("a memory needs vectors of at least 1 dimension")]
    NoDimensions,
    /// The file is damaged or is no memory.
    #[error("cannot read the memory in {}", path.display())]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// What was found.
        source: ReadError,
    },
}

/// Why a write was refused. Nothing of the batch was written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A vector that does not fit the store.
    #[error("the vector of node {id} has {found} dimensions, this memory holds {expected}")]
    Dimensions {
        /// The node.
        id: NodeId,
        /// Dimensions of the store.
        expected: usize,
        /// Dimensions of the vector.
        found: usize,
    },
    /// A vector without a direction.
    #[error("the vector of node {id} is zero or has a value that is not a finite number")]
    NotAVector {
        /// The node.
        id: NodeId,
    },
    /// A node without text.
    #[error("node {id} has no text")]
    NoText {
        /// The node.
        id: NodeId,
    },
    /// A node without tenant.
    #[error(
        "node {id} has no tenant; use {:?} for what everybody may see",
        crate::SHARED_TENANT
    )]
    NoTenant {
        /// The node.
        id: NodeId,
    },
    /// An edge at a node that is not there.
    #[error("an edge {rel:?} names node {id}, which is neither in the memory nor in the batch")]
    UnknownNode {
        /// The missing node.
        id: NodeId,
        /// The relation.
        rel: String,
    },
    /// An edge that cannot be weighed or named.
    #[error(
        "the edge {rel:?} from {src} to {dst} has weight {weight}; \
         an edge needs a relation and a finite weight above 0"
    )]
    BadEdge {
        /// Where it starts.
        src: NodeId,
        /// Where it ends.
        dst: NodeId,
        /// The relation.
        rel: String,
        /// The weight.
        weight: f32,
    },
    /// An edge whose evidence is no sentence.
    #[error(
        "the evidence of the edge {rel:?} from {src} to {dst} has {chars} characters, more than the {} that are kept: \
         send the sentence alone",
        crate::EVIDENCE_CHARS_MAX
    )]
    LongEvidence {
        /// Where it starts.
        src: NodeId,
        /// Where it ends.
        dst: NodeId,
        /// The relation.
        rel: String,
        /// Length of the evidence.
        chars: usize,
    },
    /// A node that the caller may not change.
    #[error("node {id} belongs to another tenant")]
    OtherTenant {
        /// The node.
        id: NodeId,
    },
    /// A node for a tenant that is not the caller's.
    #[error("tenant {tenant:?} needs an admin key")]
    NeedsAdmin {
        /// The tenant.
        tenant: String,
    },
    /// An edge at a node that the caller may not know of.
    #[error("node {id} is not in your memory")]
    NotReadable {
        /// Place of the edge in the batch.
        edge: usize,
        /// `src` or `dst`.
        end: &'static str,
        /// The node.
        id: NodeId,
    },
    /// An edge between two nodes that the caller may read and not change.
    #[error("edges[{edge}] joins shared nodes only: that needs an admin key")]
    SharedEdge {
        /// Place of the edge in the batch.
        edge: usize,
    },
    /// An erasure that the caller may not ask for.
    #[error("erasing a subject needs an admin key")]
    EraseNeedsAdmin,
    /// A summary of what its tenant's requests may not read.
    #[error(
        "summary {id} and its source {made_from} belong to two tenants: a summary is its sources' tenant's, or made from shared nodes"
    )]
    SummaryTenant {
        /// The summary.
        id: NodeId,
        /// What it was made from.
        made_from: NodeId,
    },
    /// A summary of what was there before.
    #[error(
        "summary {id} was made from node {made_from} as it was before: read that again and summarise it anew"
    )]
    SourceChanged {
        /// The summary.
        id: NodeId,
        /// What it was made from.
        made_from: NodeId,
    },
    /// A row that is there cannot be read.
    #[error("cannot compare with what is stored")]
    Stored(#[source] ReadError),
    /// The disk has no room.
    #[error(
        "no space is left for the memory in {}: {free_mib} MiB are free and {needed_mib} MiB are needed: free some, delete nodes, or \
         give it a larger disk (in a cluster: a larger volume in the MemoryStore's store.embedded); nothing of this was written",
        path.display()
    )]
    Full {
        /// The folder.
        path: PathBuf,
        /// What is free, in MiB.
        free_mib: u64,
        /// What must be, in MiB.
        needed_mib: u64,
    },
    /// The disk or the file failed.
    #[error("cannot write to the memory")]
    Storage(#[source] Box<redb::Error>),
    /// The servers of a memory that is kept elsewhere.
    #[error("cannot write to the external memory: {0}")]
    Elsewhere(String),
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk or the file failed.
    #[error("the storage failed")]
    Storage(#[source] Box<redb::Error>),
    /// A row is not what this version writes.
    #[error("the row {row} is damaged: {reason}")]
    Damaged {
        /// Which row.
        row: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl<E: Into<redb::Error>> From<E> for WriteError {
    fn from(error: E) -> Self {
        Self::Storage(Box::new(error.into()))
    }
}

impl WriteError {
    /// The same of a write that is part of opening.
    fn into_read(self) -> ReadError {
        match self {
            Self::Storage(error) => ReadError::Storage(error),
            Self::Stored(error) => error,
            other => StorageError::Io(std::io::Error::other(other)).into(),
        }
    }
}

impl<E: Into<redb::Error>> From<E> for ReadError {
    fn from(error: E) -> Self {
        Self::Storage(Box::new(error.into()))
    }
}

impl Memory {
    /// The identity it was opened with.
    pub fn config(&self) -> &MemoryConfig {
        &self.inner.config
    }

    /// The number of the last write: it grows with every change and survives a restart.
    pub fn generation(&self) -> u64 {
        self.index().generation
    }

    /// How much there is.
    pub fn counts(&self) -> Counts {
        let index = self.index();
        let (nodes, vectors) = (index.len(), index.vectors.len());
        Counts {
            nodes,
            edges: index.graph.len(),
            vectors,
            pending: nodes - vectors,
        }
    }

    /// How far the graph over the vectors is; `None` while there are so few that all are compared.
    pub fn graph_counts(&self) -> Option<GraphCounts> {
        let index = self.index();
        let linked = index.vectors.linked()?;
        let waiting = index.vectors.waiting();
        Some(GraphCounts { linked, waiting })
    }

    /// Returns when every vector written so far has its place in the graph, which may be minutes after many were written.
    /// Nobody needs to wait for it: a search finds them before, only slower.
    pub fn settle(&self) {
        self.inner.linker.settle();
    }

    /// What last went wrong with the file that keeps the graph between two starts; said once. It is worth a warning and no
    /// more: searches are right without the file, and slower until the graph is built.
    pub fn snapshot_problem(&self) -> Option<SnapshotError> {
        self.inner.linker.problem()
    }

    /// The index for reading. A poisoned lock is passed over: changes are applied whole or the
    /// process is gone.
    pub(crate) fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.inner
            .index
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Memory::index`], without waiting for a write that is being taken over.
    pub(crate) fn index_now(&self) -> Option<RwLockReadGuard<'_, Index>> {
        match self.inner.index.try_read() {
            Ok(index) => Some(index),
            Err(TryLockError::Poisoned(index)) => Some(index.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    pub(crate) fn recall_cache(&self) -> &RecallCache {
        &self.inner.recollected
    }

    fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.inner
            .index
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_writer(&self) -> MutexGuard<'_, ()> {
        self.inner
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn handed_out(&self) -> MutexGuard<'_, HashMap<NodeId, u64>> {
        self.inner
            .handed_out
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts();
        f.debug_struct("Memory")
            .field("config", self.config())
            .field("counts", &counts)
            .finish()
    }
}
