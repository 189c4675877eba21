//! What can be asked of a memory, whoever owns it, and what it answers. Data and one trait; the answers are made in
//! `live.rs` and `recall.rs`.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use weir_memory::context::Candidate;
use weir_memory::upkeep::Erased;
use weir_memory::{
    Access, Batch, CacheCounts, Counts, Filter, Node, NodeId, Query, Recall, RecallLimits,
    SearchError, SearchResult, WriteError, Written,
};
use weir_plan::chain;

use crate::embedder::Embedder;

/// An answer that is waited for.
pub type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T, MemoryError>> + Send + 'a>>;

/// A memory, in this process or behind a service. A call is answered when it has been done, which cannot be stopped in the
/// middle; whoever asks decides how long to wait.
pub trait MemoryCalls: fmt::Debug + Send + Sync {
    /// Whether it can be asked now and what it was last seen to hold. Asks nobody.
    fn presence(&self) -> Presence;

    /// How the cache of recall does; `None` where another process has it.
    fn cache_counts(&self) -> Option<CacheCounts> {
        None
    }

    /// Everything that answering a question needs, in one call. A step that fails or is late is skipped: its part of the
    /// recollection is missing.
    fn recall(&self, asked: Asked) -> Reply<'_, Recollection>;

    /// The nodes that a search finds.
    fn search(&self, sought: Sought) -> Reply<'_, Found>;

    /// The nodes that attention finds, from the hits of the search.
    fn attend(&self, sought: Sought, limits: RecallLimits) -> Reply<'_, Attended>;

    /// Writes for a caller, all or nothing; durable when it is answered.
    fn write(&self, access: Access, batch: Batch) -> Reply<'_, Written>;

    /// Removes a node for a caller. False when it is not there for it.
    fn delete(&self, access: Access, id: NodeId) -> Reply<'_, bool>;

    /// Removes everything about a subject, in one tenant or in all, and forgets the questions that were embedded. For admins.
    fn erase(&self, access: Access, subject: String, tenant: Option<String>) -> Reply<'_, Erased>;

    /// Vectors by the memory's own embedder, in the order of the texts.
    fn embed(&self, texts: Vec<String>) -> Reply<'_, Vec<Vec<f32>>>;
}

/// Whether a memory can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It can, and holds this much.
    Here(Counts),
    /// It cannot, for this reason, which names no address.
    Away(String),
}

/// A question before it is answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The question.
    pub text: String,
    /// Its vector, where the caller knows it.
    pub vector: Option<Vec<f32>>,
    /// Whether the text may travel to the embedder.
    pub embed: bool,
    /// What to recall; `None` for the question's vector alone.
    pub wanted: Option<Wanted>,
}

/// What to recall for a question.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Which nodes may be recalled.
    pub filter: Filter,
    /// How far attention goes; as many hits as it takes seeds are searched.
    pub limits: RecallLimits,
    /// Nodes of the search and of the attention that come with their text.
    pub candidates: usize,
}

/// What a memory gave to a question.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recollection {
    /// The question's vector.
    pub vector: Option<Arc<[f32]>>,
    /// The search, with the text of its best hits.
    pub found: Option<(SearchResult, Vec<Candidate>)>,
    /// The attention, with the text of its best nodes. Only those are listed; the numbers are of all.
    pub attended: Option<(Recall, Vec<Candidate>)>,
    /// Number of the last write that the memory had seen.
    pub generation: u64,
    /// How long it took.
    pub spent: Spent,
}

/// Milliseconds of the steps of a recall, also of those that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// Embedding the question.
    pub embed: f64,
    /// Searching.
    pub search: f64,
    /// Attention.
    pub attend: f64,
}

/// What is looked for on somebody's behalf.
#[derive(Clone, Debug, PartialEq)]
pub struct Sought {
    /// A question or words.
    pub text: String,
    /// Its vector, where the caller knows it.
    pub vector: Option<Vec<f32>>,
    /// Whether the text may travel to the embedder.
    pub embed: bool,
    /// Which nodes may be found.
    pub filter: Filter,
    /// Most hits.
    pub k: usize,
}

impl Sought {
    /// The query of a memory of vectors of `dimensions` values, with its vector where it can have one: the caller's, or the
    /// embedder's in time.
    pub async fn query(self, embedder: Option<&Embedder>, dimensions: usize) -> Query {
        let vector = match self.vector {
            Some(vector) => Some(vector),
            None if self.embed => Embedder::fitting(embedder, &self.text, dimensions)
                .await
                .map(|vector| vector.to_vec()),
            None => None,
        };
        Query {
            text: self.text,
            vector,
            filter: self.filter,
            k: self.k,
            exclude_edges: Vec::new(),
        }
    }
}

/// Hits of a search and their nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The hits, strongest first.
    pub result: SearchResult,
    /// Their nodes, in the same order; one that was removed meanwhile is missing.
    pub nodes: Vec<Node>,
}

/// What attention found, and its nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attended {
    /// By attention.
    pub recall: Recall,
    /// Their nodes, in the same order; one that was removed meanwhile is missing.
    pub nodes: Vec<Node>,
}

/// Why a memory did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// The caller may not.
    #[error("{0}")]
    Forbidden(String),
    /// A field of the request names something that is not there.
    #[error("{field}: {message}")]
    Field {
        /// The field, as `edges[0].src`.
        field: String,
        /// What is wrong.
        message: String,
    },
    /// Readable, but it does not fit what is stored.
    #[error("{0}")]
    Refused(String),
    /// There is no room for it.
    #[error("{0}")]
    Full(String),
    /// Nobody could be asked.
    #[error("{0}")]
    Away(String),
    /// No answer in time; what was sent may still be stored.
    #[error("the memory did not finish in time")]
    Late,
    /// It failed itself.
    #[error("{what}: {why}")]
    Failed {
        /// What it was doing.
        what: &'static str,
        /// What went wrong.
        why: String,
    },
}

impl From<WriteError> for MemoryError {
    fn from(error: WriteError) -> Self {
        match &error {
            WriteError::NeedsAdmin { .. }
            | WriteError::EraseNeedsAdmin
            | WriteError::OtherTenant { .. }
            | WriteError::SharedEdge { .. } => Self::Forbidden(error.to_string()),
            WriteError::NotReadable { edge, end, .. } => Self::Field {
                field: format!("edges[{edge}].{end}"),
                message: error.to_string(),
            },
            WriteError::Full { .. } => Self::Full(error.to_string()),
            WriteError::Stored(_) | WriteError::Storage(_) | WriteError::Elsewhere(_) => {
                Self::Failed {
                    what: "writing to the memory",
                    why: chain(&error),
                }
            }
            _ => Self::Refused(error.to_string()),
        }
    }
}

impl From<SearchError> for MemoryError {
    fn from(error: SearchError) -> Self {
        Self::Refused(error.to_string())
    }
}
