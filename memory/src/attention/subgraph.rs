//! The subgraph of a question as flat arrays.
//!
//! Edges lie by source, within it by head (a relation in one direction), so that both softmaxes run
//! over neighbouring numbers. Built by `recall.rs`, read by `forward.rs` and `backward.rs`.

use std::ops::Range;

use super::forward::scores;
use super::weights::AttentionWeights;
use super::{EDGE, NODE, SEED};

/// Edges by source and head.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Edges {
    /// Relation and direction (true forwards) of each head that occurs.
    pub(crate) heads: Vec<(String, bool)>,
    /// First group of each source; one more entry ends the last.
    pub(crate) sources: Vec<usize>,
    /// The groups.
    pub(crate) groups: Vec<Group>,
    /// Target of each edge.
    pub(crate) targets: Vec<u32>,
    /// Features of each edge.
    pub(crate) features: Vec<[f64; EDGE]>,
}

/// The edges of one source under one head.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Group {
    /// Place in [`Edges::heads`].
    pub(crate) head: usize,
    /// Its edges.
    pub(crate) edges: Range<usize>,
}

impl Edges {
    /// No sources yet.
    pub(crate) fn new() -> Self {
        Self {
            sources: vec![0],
            ..Self::default()
        }
    }

    /// Makes room for `count` edges more.
    pub(crate) fn reserve(&mut self, count: usize) {
        self.targets.reserve(count);
        self.features.reserve(count);
    }

    /// Adds an edge to the source in hand. Edges of one head come one after the other.
    pub(crate) fn push(&mut self, head: usize, target: u32, features: [f64; EDGE]) {
        let at = self.targets.len();
        let first = self.sources.last().copied().unwrap_or(0);
        match self.groups[first..].last_mut() {
            Some(group) if group.head == head => group.edges.end = at + 1,
            _ => self.groups.push(Group {
                head,
                edges: at..at + 1,
            }),
        }
        self.targets.push(target);
        self.features.push(features);
    }

    /// Ends the source in hand.
    pub(crate) fn end_source(&mut self) {
        self.sources.push(self.groups.len());
    }

    /// The groups of a source.
    pub(crate) fn groups_of(&self, source: usize) -> &[Group] {
        &self.groups[self.sources[source]..self.sources[source + 1]]
    }

    /// The edges of a source.
    pub(crate) fn edges_of(&self, source: usize) -> Range<usize> {
        match self.groups_of(source) {
            [] => 0..0,
            [first, .., last] => first.edges.start..last.edges.end,
            [only] => only.edges.clone(),
        }
    }
}

/// What attention sees of a question: nodes, the first of which are seeds, and the edges among them.
#[derive(Clone, Debug, PartialEq)]
pub struct Subgraph {
    /// Features of each seed.
    pub(crate) seeds: Vec<[f64; SEED]>,
    /// Features of each node; the first two are what the layers find.
    pub(crate) nodes: Vec<[f64; NODE]>,
    /// Edges from each node.
    pub(crate) edges: Edges,
}

/// An edge of a [`Subgraph`], walked from one end to the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SubgraphEdge<'a> {
    /// Place of the node that it is walked from.
    pub source: usize,
    /// Place of the node that it leads to.
    pub target: usize,
    /// Place of its head: a relation in one direction.
    pub head: usize,
    /// Its features, in the order of the weights' file.
    pub features: &'a [f64],
}

impl Subgraph {
    /// The share of each node with these weights; they sum to 1.
    pub fn scores(&self, weights: &AttentionWeights) -> Vec<f64> {
        scores(self, weights)
    }

    /// Features of each seed, in the order of the nodes.
    pub fn seeds(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.seeds.iter().map(<[f64; SEED]>::as_slice)
    }

    /// Features of each node, without what layers find.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.nodes.iter().map(<[f64; NODE]>::as_slice)
    }

    /// Relation and direction (true forwards) of each head.
    pub fn heads(&self) -> &[(String, bool)] {
        &self.edges.heads
    }

    /// The edges by source and head.
    pub fn edges(&self) -> impl Iterator<Item = SubgraphEdge<'_>> {
        let sources = 0..self.edges.sources.len() - 1;
        let groups = sources.flat_map(|source| {
            let groups = self.edges.groups_of(source).iter();
            groups.map(move |group| (source, group))
        });
        groups.flat_map(move |(source, group)| {
            group.edges.clone().map(move |edge| SubgraphEdge {
                source,
                target: self.edges.targets[edge] as usize,
                head: group.head,
                features: &self.edges.features[edge],
            })
        })
    }
}
