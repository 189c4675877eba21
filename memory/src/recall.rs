//! Recall: from the hits of a search to the nodes around them.
//!
//! Takes the strongest hits as seeds, walks outwards hop by hop into a bounded subgraph, and lets
//! attention (`attention.rs`) decide how much each node matters. Only nodes that the query's filter
//! lets through are walked, so no tenant reaches another's nodes through an edge. Reads no rows;
//! the same index, query and weights give the same result. Reading on: `recall/walk.rs` (which nodes),
//! `recall/view.rs` (what attention sees of them), `recall/cache.rs` (what was recalled lately).

mod cache;
mod view;
mod walk;

pub use cache::{CacheCounts, Freshness, RecallKey, Recollected};
pub(crate) use cache::{RecallCache, sees};
pub(crate) use walk::DEGREE_MAX;

use self::walk::{Member, Walk};
use crate::attention::{self, AttentionWeights, Example, LabelledQuestion, Subgraph, Wanted};
use crate::index::Index;
use crate::node::NodeId;
use crate::search::{Prepared, Query, SearchError, SearchResult};
use crate::store::{Memory, ReadError};

/// How far recall may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecallLimits {
    /// Hits that become seeds, strongest first; never more than `nodes_max`.
    pub seeds: usize,
    /// Steps from the seeds.
    pub hops: u8,
    /// Largest number of nodes in the subgraph, seeds included.
    pub nodes_max: usize,
}

impl Default for RecallLimits {
    fn default() -> Self {
        Self {
            seeds: 64,
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
    /// By score, highest first; equal ones by id. All of the subgraph, or the first of them.
    pub nodes: Vec<Recalled>,
    /// Entropy of the scores over the logarithm of their number, 0 (one node has all) to 1 (all
    /// equal).
    pub entropy: f32,
    /// Depth of the deepest node.
    pub depth: u8,
    /// Number of nodes in the subgraph.
    pub nodes_used: usize,
}

impl Memory {
    /// Spreads attention from the hits of `found` through the graph. Deterministic; empty when
    /// nothing was found.
    pub fn recall(&self, query: &Query, found: &SearchResult, limits: &RecallLimits) -> Recall {
        self.recall_prepared((query, None), found, limits, usize::MAX)
    }

    /// The same with what was prepared for the question, which is not used where it no longer holds; of the nodes those
    /// `most` that receive the most.
    pub fn recall_prepared(
        &self,
        asked: (&Query, Option<&Prepared>),
        found: &SearchResult,
        limits: &RecallLimits,
        most: usize,
    ) -> Recall {
        let weights = self.attention();
        spread(&self.index(), &weights, (asked, found), limits, most)
    }

    /// As [`Memory::recall`], with other weights than the memory's own.
    ///
    /// # Errors
    /// What the weights look at cannot be read; the memory's own have it at hand.
    pub fn recall_with(
        &self,
        weights: &AttentionWeights,
        query: &Query,
        found: &SearchResult,
        limits: &RecallLimits,
    ) -> Result<Recall, ReadError> {
        self.make_ready(&weights.wanted())?;
        let asked = ((query, None), found);
        Ok(spread(&self.index(), weights, asked, limits, usize::MAX))
    }

    /// What attention sees of a question, every feature of it, and which nodes they are: to measure it, and to train
    /// something else on the same. The weights decide which nodes the places go to.
    ///
    /// # Errors
    /// What features are made of cannot be read.
    pub fn subgraph(
        &self,
        weights: &AttentionWeights,
        query: &Query,
        found: &SearchResult,
        limits: &RecallLimits,
    ) -> Result<(Vec<NodeId>, Subgraph), ReadError> {
        self.make_ready(&Wanted::ALL)?;
        let index = self.index();
        let walk = Walk::new(&index, (query, None), (weights, Wanted::ALL));
        let members = walk.members(found, limits);
        let ids = members.iter().map(|member| index.id(member.slot)).collect();
        Ok((ids, walk.subgraph(&members)))
    }

    /// The subgraph of a question with its gold nodes; `None` when it has none of them.
    pub(crate) fn example(
        &self,
        weights: &AttentionWeights,
        question: &LabelledQuestion,
        limits: &RecallLimits,
    ) -> Result<Option<Example>, SearchError> {
        let found = self.search(&question.query)?;
        let index = self.index();
        let walk = Walk::new(&index, (&question.query, None), (weights, Wanted::ALL));
        let members = walk.members(&found, limits);
        let of = |member: &Member| index.id(member.slot);
        let places = members.iter().enumerate();
        let gold: Vec<usize> = places
            .filter(|(_, member)| question.gold.contains(&of(member)))
            .map(|(place, _)| place)
            .collect();
        if gold.is_empty() || gold.len() == members.len() {
            return Ok(None);
        }
        let graph = walk.subgraph(&members);
        Ok(Some(Example { graph, gold }))
    }
}

/// Spreads attention from the hits through the graph of an index, which may hold a part of a memory, and tells the `most` nodes that
/// receive the most.
pub(crate) fn spread(
    index: &Index,
    weights: &AttentionWeights,
    (asked, found): ((&Query, Option<&Prepared>), &SearchResult),
    limits: &RecallLimits,
    most: usize,
) -> Recall {
    let walk = Walk::new(index, asked, (weights, weights.wanted()));
    let members = walk.members(found, limits);
    if members.is_empty() {
        return Recall::default();
    }
    let scores = walk.subgraph(&members).scores(weights);
    summarise(&walk, &members, &scores, most)
}

fn summarise(walk: &Walk<'_>, members: &[Member], scores: &[f64], most: usize) -> Recall {
    let mut ranked: Vec<(f32, NodeId, &Member)> = (members.iter().zip(scores))
        .map(|(member, score)| (*score as f32, walk.id(member.slot), member))
        .collect();
    ranked.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let told = ranked.into_iter().take(most);
    let nodes = told.map(|(score, id, member)| Recalled {
        id,
        score,
        cosine: walk.cosine(member.slot),
        depth: member.depth,
    });
    Recall {
        nodes: nodes.collect(),
        entropy: attention::relative_entropy(scores) as f32,
        depth: members.iter().map(|member| member.depth).max().unwrap_or(0),
        nodes_used: members.len(),
    }
}
