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
use super::{NODE, softmax};

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

/// What the layers computed, kept for the gradients.
#[derive(Clone, Debug)]
pub(crate) struct Forward {
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
    pub(crate) scores: Vec<f64>,
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
        let mut logits = Vec::new();
        for source in 0..edges.sources.len() - 1 {
            logits.clear();
            for group in edges.groups_of(source) {
                let head = &heads[group.head];
                logits.push(head.bias + shares.group(edges, group.edges.clone(), head));
            }
            let first = edges.sources[source];
            for (place, share) in softmax(&logits).into_iter().enumerate() {
                shares.heads[first + place] = share;
                for edge in edges.groups[first + place].edges.clone() {
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
        let (mut sum, mut sum_plain) = (0.0, 0.0);
        for edge in range.clone() {
            let above = self.logits[edge] - highest;
            self.plain[edge] = above.exp();
            self.within[edge] = (above / head.temperature).exp();
            sum_plain += self.plain[edge];
            sum += self.within[edge];
        }
        for edge in range {
            self.plain[edge] /= sum_plain;
            self.within[edge] /= sum;
        }
        highest + sum_plain.ln()
    }
}

impl Forward {
    /// Runs all layers and the scorer.
    pub(crate) fn run(graph: &Subgraph, weights: &AttentionWeights) -> Self {
        let heads = weights.heads_of(&graph.edges.heads);
        let mut start = vec![0.0; graph.nodes.len()];
        let logits: Vec<f64> = (graph.seeds.iter())
            .map(|seed| weights.seed_logit(seed))
            .collect();
        start[..logits.len()].copy_from_slice(&softmax(&logits));
        let shares = Shares::of(&graph.edges, &heads);
        let mut layers = vec![start.clone()];
        let mut received = Vec::with_capacity(weights.layers);
        for _ in 0..weights.layers {
            let before = layers.last().unwrap_or(&start);
            let (came, dangling) = step(&graph.edges, &shares.edges, before);
            let after = (start.iter().zip(&came))
                .map(|(seed, came)| {
                    (1.0 - weights.moves) * seed + weights.moves * (came + dangling * seed)
                })
                .collect();
            layers.push(after);
            received.push((came, dangling));
        }
        let features = features(graph, &start, &layers, &received);
        let scores: Vec<f64> = (features.iter())
            .map(|features| dot(&weights.score, features))
            .collect();
        Self {
            scores: softmax(&scores),
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

/// What comes to each node along edges, and the weight at nodes without any.
fn step(edges: &Edges, shares: &[f64], weights: &[f64]) -> (Vec<f64>, f64) {
    let mut came = vec![0.0; weights.len()];
    let mut dangling = 0.0;
    for (source, weight) in weights.iter().enumerate() {
        let range = edges.edges_of(source);
        if range.is_empty() {
            dangling += weight;
        }
        for edge in range {
            came[edges.targets[edge] as usize] += weight * shares[edge];
        }
    }
    (came, dangling)
}

/// The scorer's features: those of the nodes and what the layers found.
fn features(
    graph: &Subgraph,
    start: &[f64],
    layers: &[Vec<f64>],
    received: &[(Vec<f64>, f64)],
) -> Vec<[f64; NODE]> {
    let spread = layers.last().map_or(start, Vec::as_slice);
    let mut all = graph.nodes.clone();
    for (at, features) in all.iter_mut().enumerate() {
        let came = received.last().map_or(0.0, |(came, _)| came[at]);
        features[NodeFeature::LogAttention as usize] = (spread[at] + LEAST).ln();
        features[NodeFeature::LogReceived as usize] = (came + LEAST).ln();
    }
    all
}

/// Sum of the products.
pub(super) fn dot<const N: usize>(weights: &[f64; N], features: &[f64; N]) -> f64 {
    weights.iter().zip(features).map(|(w, f)| w * f).sum()
}
