//! Forward: from a subgraph and weights to a share for each node.
//!
//! ```text
//! seeds   p0 = softmax over seeds of w_s . f
//! edge    e  = w_r . f
//! head    A  = softmax over a group of e / tau_r;  pi = softmax over the groups at a node of a_r + log W_r
//! layers  p <- (1-g) p0 + g (sum_r pi_r A^r p, dangling mass to p0)
//! score   w . phi, softmax
//! ```
//!
//! `W_r`, the sum of the weights under a head, is that of `exp(e)`: without biases the edges' own.

use super::features::NodeFeature;
use super::subgraph::{Edges, Subgraph};
use super::weights::{AttentionWeights, Head};
use super::{NODE, softmax, softmax_in_place};

/// Added to a weight before its logarithm: what less makes no difference.
pub(super) const LEAST: f64 = 1e-5;

/// How the edges of each source share what it hands on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shares {
    /// Logit of each edge.
    pub(super) logits: Vec<f64>,
    /// Share of each edge within its group, at the head's temperature.
    pub(super) within: Vec<f64>,
    /// Share of each edge within its group at temperature 1.
    pub(super) plain: Vec<f64>,
    /// Share of each group at its source.
    pub(super) heads: Vec<f64>,
    /// Share of each edge at its source.
    pub(crate) edges: Vec<f64>,
}

/// Once no weight moves by more than this in a layer, further ones change no place: a score is kept in `f32`.
const STILL: f64 = 1e-9;

/// What every layer computed, kept for the gradients.
#[derive(Clone, Debug)]
pub(super) struct Forward {
    /// Weight of each node at the start: the seeds'.
    pub(super) start: Vec<f64>,
    /// How edges share.
    pub(super) shares: Shares,
    /// Weight of each node before each layer and after the last.
    pub(super) layers: Vec<Vec<f64>>,
    /// What came to each node in each layer, and what went back from nodes without edges.
    pub(super) received: Vec<(Vec<f64>, f64)>,
    /// Features of each node, complete.
    pub(super) features: Vec<[f64; NODE]>,
    /// Share of each node; they sum to 1.
    pub(super) scores: Vec<f64>,
}

impl Shares {
    /// Evaluates every edge. `heads` has the weights of each of the edges' heads.
    pub(crate) fn of(edges: &Edges, heads: &[Head]) -> Self {
        let count = edges.targets.len();
        let mut shares = Self {
            logits: vec![0.0; count],
            within: vec![0.0; count],
            plain: vec![0.0; count],
            heads: vec![0.0; edges.groups.len()],
            edges: vec![0.0; count],
        };
        for source in 0..edges.sources.len() - 1 {
            let first = edges.sources[source];
            let groups = edges.groups_of(source);
            for (group, logit) in groups.iter().zip(first..) {
                let head = &heads[group.head];
                shares.heads[logit] = head.bias + shares.group(edges, group.edges.clone(), head);
            }
            softmax_in_place(&mut shares.heads[first..first + groups.len()]);
            for (group, share) in groups.iter().zip(&shares.heads[first..]) {
                for edge in group.edges.clone() {
                    shares.edges[edge] = share * shares.within[edge];
                }
            }
        }
        shares
    }

    /// Evaluates a group and returns `log W_r`.
    fn group(&mut self, edges: &Edges, range: std::ops::Range<usize>, head: &Head) -> f64 {
        let mut highest = f64::MIN;
        for edge in range.clone() {
            let logit = dot(&head.edge, &edges.features[edge]);
            self.logits[edge] = logit;
            highest = highest.max(logit);
        }
        let (mut sum, mut sum_plain) = (0, 0);
        for edge in range.clone() {
            let above = self.logits[edge] - highest;
            self.plain[edge] = above.exp();
            sum_plain += fixed(self.plain[edge]);
        }
        for edge in range.clone() {
            self.within[edge] = if head.temperature == 1.0 {
                self.plain[edge]
            } else {
                ((self.logits[edge] - highest) / head.temperature).exp()
            };
            sum += fixed(self.within[edge]);
        }
        let (sum, sum_plain) = (sum as f64 / ONE, sum_plain as f64 / ONE);
        for edge in range {
            self.plain[edge] /= sum_plain;
            self.within[edge] /= sum;
        }
        highest + sum_plain.ln()
    }
}

/// One in fixed point.
const ONE: f64 = (1_u64 << 52) as f64;

/// A number of at most 1 in fixed point. Sums of these are the same in any order, and edges come in an order that a store which is
/// opened again does not keep.
fn fixed(share: f64) -> u64 {
    (share * ONE) as u64
}

/// The share of each node; they sum to 1. Runs layers until nothing moves and keeps none of them.
pub(crate) fn scores(graph: &Subgraph, weights: &AttentionWeights) -> Vec<f64> {
    let start = start(graph, weights);
    let shares = Shares::of(&graph.edges, &weights.heads_of(&graph.edges.heads)).edges;
    let mut spread = start.clone();
    let mut came = vec![0.0; start.len()];
    for _ in 0..weights.layers {
        let dangling = step(&graph.edges, &shares, &spread, &mut came);
        let moved = settle(weights.moves, (&start, dangling), &came, &mut spread);
        if moved < STILL {
            break;
        }
    }
    let scored = graph.nodes.iter().enumerate();
    let logits: Vec<f64> = scored
        .map(|(at, node)| dot(&weights.score, &complete(node, spread[at], came[at])))
        .collect();
    softmax(&logits)
}

impl Forward {
    /// Runs all layers and the scorer.
    pub(super) fn run(graph: &Subgraph, weights: &AttentionWeights) -> Self {
        let start = start(graph, weights);
        let shares = Shares::of(&graph.edges, &weights.heads_of(&graph.edges.heads));
        let mut layers = vec![start.clone()];
        let mut received = Vec::with_capacity(weights.layers);
        let mut spread = start.clone();
        for _ in 0..weights.layers {
            let mut came = vec![0.0; start.len()];
            let dangling = step(&graph.edges, &shares.edges, &spread, &mut came);
            settle(weights.moves, (&start, dangling), &came, &mut spread);
            layers.push(spread.clone());
            received.push((came, dangling));
        }
        let came = received.last().map_or(&start, |(came, _)| came);
        let nodes = graph.nodes.iter().enumerate();
        let features: Vec<[f64; NODE]> = nodes
            .map(|(at, node)| complete(node, spread[at], came[at]))
            .collect();
        let logits: Vec<f64> = features
            .iter()
            .map(|node| dot(&weights.score, node))
            .collect();
        Self {
            scores: softmax(&logits),
            start,
            shares,
            layers,
            received,
            features,
        }
    }

    /// Weight of each node after the last layer.
    #[cfg(test)]
    pub(super) fn spread(&self) -> &[f64] {
        self.layers.last().unwrap_or(&self.start)
    }
}

/// Weight of each node before the first layer: the seeds', which come first.
fn start(graph: &Subgraph, weights: &AttentionWeights) -> Vec<f64> {
    let seeds = graph.seeds.iter();
    let logits: Vec<f64> = seeds.map(|seed| weights.seed_logit(seed)).collect();
    let mut start = softmax(&logits);
    start.resize(graph.nodes.len(), 0.0);
    start
}

/// Puts what comes to each node along edges into `came`, and returns the weight at nodes without any.
fn step(edges: &Edges, shares: &[f64], spread: &[f64], came: &mut [f64]) -> f64 {
    came.fill(0.0);
    let mut dangling = 0.0;
    for (source, weight) in spread.iter().enumerate() {
        let range = edges.edges_of(source);
        if range.is_empty() {
            dangling += weight;
        } else if *weight > 0.0 {
            for (target, share) in edges.targets[range.clone()].iter().zip(&shares[range]) {
                came[*target as usize] += weight * share;
            }
        }
    }
    dangling
}

/// The weights after a layer, in place of those before it. Returns the largest difference.
fn settle(moves: f64, (start, dangling): (&[f64], f64), came: &[f64], spread: &mut [f64]) -> f64 {
    let mut moved = 0.0_f64;
    for ((slot, seed), came) in spread.iter_mut().zip(start).zip(came) {
        let after = (1.0 - moves) * seed + moves * (came + dangling * seed);
        moved = moved.max((after - *slot).abs());
        *slot = after;
    }
    moved
}

/// The scorer's features of a node: its own and what the layers found.
fn complete(node: &[f64; NODE], spread: f64, came: f64) -> [f64; NODE] {
    let mut features = *node;
    features[NodeFeature::LogAttention as usize] = (spread + LEAST).ln();
    features[NodeFeature::LogReceived as usize] = (came + LEAST).ln();
    features
}

/// Sum of the products.
pub(super) fn dot<const N: usize>(weights: &[f64; N], features: &[f64; N]) -> f64 {
    weights.iter().zip(features).map(|(w, f)| w * f).sum()
}
