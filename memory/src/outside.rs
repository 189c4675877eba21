//! What a store in other servers needs of this crate: the same words, the same fusion, the same recall.
//!
//! Such a store keeps rows, edges and vectors elsewhere. It checks what it is given with the rules of the embedded store,
//! weighs the words of a text for a sparse index, fuses what its servers found, and recalls over a part of the graph that
//! it fetched. Nothing here knows a server.

use std::collections::HashMap;

use crate::attention::AttentionWeights;
use crate::bm25::{self, Known};
use crate::graph::EdgeFacts;
use crate::index::{Change, Index, Labels, VectorChange};
use crate::node::{Edge, NewEdge, NewNode, Node, NodeId};
use crate::recall::{self, Recall, RecallLimits};
use crate::search::{self, Hit, Query, SearchError, SearchResult};
use crate::store::{self, WriteError};
use crate::summaries;
use crate::vectors::{self, HnswParameters};
use crate::words;

/// Length of a text, in terms, that counts as neither long nor short. A store of many processes has no exact mean, and a
/// weight that was written stays: it is that of passages as ingest cuts them.
pub const MEAN_LENGTH: f32 = 100.0;

/// A term of a text as a sparse index knows it: the same number in every build and on every machine.
pub fn term_number(term: &str) -> u32 {
    // FNV-1a.
    term.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// The terms of a text and how often each occurs, by term.
pub fn terms(text: &str) -> Vec<(Box<str>, u16)> {
    words::count(text).terms
}

/// The BM25 weights of a text's terms without their idf, by [`term_number`]: what a sparse index keeps of it.
pub fn sparse(text: &str) -> Vec<(u32, f32)> {
    let counts = words::count(text);
    let (length, counted) = (counts.length as f32, bm25::saturation(MEAN_LENGTH));
    let mut weights: HashMap<u32, f32> = HashMap::new();
    for (term, occurrences) in &counts.terms {
        *weights.entry(term_number(term)).or_default() += counted(*occurrences, length);
    }
    let mut weights: Vec<(u32, f32)> = weights.into_iter().collect();
    weights.sort_unstable_by_key(|(number, _)| *number);
    weights
}

/// Whether a node fits a memory of vectors of `dimensions` values.
///
/// # Errors
/// What is wrong with it.
pub fn check_node(node: &NewNode, dimensions: usize) -> Result<(), WriteError> {
    store::check_node(node, dimensions)
}

/// Whether an edge can be weighed and named, and its evidence kept.
///
/// # Errors
/// What is wrong with it.
pub fn check_edge(edge: &NewEdge) -> Result<(), WriteError> {
    store::check_edge(edge)
}

/// Whether an edge from a node says what a summary was made from: such edges change nothing about the source.
pub fn says_source(src: &Node, rel: &str) -> bool {
    summaries::says_source(Some(src.node_type), rel)
}

/// Whether a summary may be made from a source, and was made from what the source says now.
///
/// # Errors
/// The source belongs to another tenant, or says something else.
pub fn check_source(new: &NewEdge, [summary, source]: [&Node; 2]) -> Result<(), WriteError> {
    summaries::check_source(new, [summary, source])
}

/// A vector at length 1; `None` when it has no direction.
pub fn normalised(vector: &[f32]) -> Option<Vec<f32>> {
    vectors::normalised(vector)
}

/// The vector of a node at length 1.
///
/// # Errors
/// It does not fit a memory of vectors of `dimensions` values.
pub fn unit_vector(id: NodeId, vector: &[f32], dimensions: usize) -> Result<Vec<f32>, WriteError> {
    store::unit_vector(id, vector, dimensions)
}

/// The vector of a question at length 1.
///
/// # Errors
/// It does not fit a memory of vectors of `dimensions` values.
pub fn unit_query(vector: &[f32], dimensions: usize) -> Result<Vec<f32>, SearchError> {
    search::unit(vector, dimensions)
}

/// Whether as many of the nodes have vectors as it takes for these to say which node is nearer. Below that, words alone
/// find nodes wherever they find any.
pub fn by_vector_pays(vectors: usize, nodes: usize) -> bool {
    search::by_vector_pays(vectors, nodes)
}

/// Nodes that are taken from each of the two rankings for a query of `k` hits.
pub fn pool(k: usize) -> usize {
    search::pool(k)
}

/// Fuses cosines and BM25 scores of the same nodes into hits, strongest first. `by_vector` says whether any node was found
/// by its vector.
pub fn fuse(found: Vec<(NodeId, Option<f32>, Option<f32>)>, by_vector: bool) -> Vec<Hit> {
    let hits = found.into_iter().map(|(id, cosine, bm25)| Hit {
        id,
        cosine,
        bm25,
        strength: 0.0,
    });
    search::by_strength(hits.collect(), by_vector)
}

/// A part of a memory: nodes around the hits of a search, with what is known of the whole.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// Length of a vector.
    pub dimensions: usize,
    /// The nodes, each with its vector, where it has one, and the number of its edges in the whole memory.
    pub nodes: Vec<(Node, Option<Vec<f32>>, usize)>,
    /// The edges between them.
    pub edges: Vec<Edge>,
    /// Time of the newest node of the whole memory, in Unix milliseconds.
    pub newest: u64,
    /// Inverse document frequency of the question's terms in the whole memory.
    pub idf: Vec<(Box<str>, f32)>,
}

impl Part {
    /// Spreads attention from the hits of `found`, as the embedded store does over all that it holds.
    pub fn recall(
        self,
        weights: &AttentionWeights,
        (query, found): (&Query, &SearchResult),
        limits: &RecallLimits,
    ) -> Recall {
        let asked = ((query, None), found);
        recall::spread(&self.index(), weights, asked, limits, usize::MAX)
    }

    fn index(self) -> Index {
        let mut index = Index::new(self.dimensions, HnswParameters::default());
        let mut changes = Vec::with_capacity(self.nodes.len() + self.edges.len());
        let mut degrees = Vec::with_capacity(self.nodes.len());
        for (node, vector, degree) in self.nodes {
            degrees.push((node.id, degree));
            let counts = words::count(&node.indexed_text());
            let unit = vector.as_deref().and_then(vectors::normalised);
            changes.push(Change::Node {
                id: node.id,
                labels: Labels::of(node.tenant, node.node_type, &node.metadata),
                words: Some((None, counts)),
                vector: unit.map_or(VectorChange::Keep, VectorChange::Set),
            });
        }
        changes.extend(self.edges.into_iter().map(|edge| Change::Edge {
            facts: EdgeFacts::of(edge.weight, edge.metadata),
            src: edge.src,
            dst: edge.dst,
            rel: edge.rel,
        }));
        index.apply(changes, 0);
        for (id, degree) in degrees {
            if let Some(slot) = index.slot(id) {
                index.graph.set_degree(slot, degree);
            }
        }
        index.newest_beyond = u32::try_from(self.newest / 1000).unwrap_or(u32::MAX);
        index.words.known = Some(Known {
            idf: self.idf.into_iter().collect(),
            mean_length: MEAN_LENGTH,
        });
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_has_the_number_that_written_indexes_know_it_by() {
        assert_eq!(term_number(""), 0x811c_9dc5);
        assert_eq!(term_number("whale"), 0x6700_01f6);
    }

    #[test]
    fn a_text_of_mean_length_weighs_a_word_that_occurs_once_as_one() {
        let text: String = (0..100).map(|word| format!("word{word} ")).collect();
        let weights = sparse(&text);
        assert_eq!(weights.len(), 100);
        assert!(
            weights
                .iter()
                .all(|(_, weight)| (weight - 1.0).abs() < 1e-6)
        );
    }
}
