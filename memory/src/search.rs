//! Search: which nodes a question is about, from vectors and words together.

use crate::node::{NodeId, NodeType};
use crate::store::Memory;

/// Which nodes a query may see. Applied while scanning, never afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Whose nodes; those of [`crate::SHARED_TENANT`] are always included.
    pub tenant: String,
    /// Domains to see; empty means all, and nodes without a domain too.
    pub domains: Vec<String>,
    /// Types to see; empty means all except [`NodeType::Trace`].
    pub types: Vec<NodeType>,
}

/// A question to the memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// The question in words; used by BM25.
    pub text: String,
    /// Its embedding, of the store's dimensions; `None` searches by words alone.
    pub vector: Option<Vec<f32>>,
    /// What may be seen.
    pub filter: Filter,
    /// How many hits to return.
    pub k: usize,
    /// Pairs of nodes between which recall sees no edge, whatever its direction and relation. Benchmarks hide gold
    /// links with it.
    pub exclude_edges: Vec<(NodeId, NodeId)>,
}

/// One node found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// The node.
    pub id: NodeId,
    /// Cosine to the query, -1 to 1; `None` when the query or the node has no vector.
    pub cosine: Option<f32>,
    /// BM25 score, above 0; `None` when the node contains none of the query's words.
    pub bm25: Option<f32>,
    /// `z(cosine) + w z(bm25)`: what the hits are ordered by, and the bias of the seeds in recall.
    pub strength: f32,
}

/// What a search found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SearchResult {
    /// By strength, strongest first; equal ones by id.
    pub hits: Vec<Hit>,
    /// Share of the store's nodes that passed the filter, 0 to 1.
    pub filter_share: f32,
}

/// Why a search was refused.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum SearchError {
    /// The query's vector does not fit the store.
    #[error("the query vector has {found} dimensions, this memory holds {expected}")]
    Dimensions {
        /// Dimensions of the store.
        expected: usize,
        /// Dimensions of the query.
        found: usize,
    },
    /// The query's vector has no direction.
    #[error("the query vector is zero or has a value that is not a finite number")]
    NotAVector,
}

impl Memory {
    /// The `query.k` strongest nodes that the filter lets through.
    pub fn search(&self, query: &Query) -> Result<SearchResult, SearchError> {
        let _ = query;
        Ok(SearchResult::default())
    }
}
