//! Backward: the gradient of a question's loss, by hand.
//!
//! The loss is a listwise softmax: each gold node against all nodes that are not gold, so that two
//! gold nodes do not compete. Goes back through scorer, layers and both softmaxes; a test compares
//! each derivative with finite differences.

use super::features::NodeFeature;
use super::forward::{Forward, LEAST};
use super::subgraph::Subgraph;
use super::weights::AttentionWeights;
use super::{EDGE, NODE, SEED};

/// Derivatives by the weights of one head.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct HeadGradient {
    pub(super) bias: f64,
    pub(super) temperature: f64,
    pub(super) edge: [f64; EDGE],
}

/// Derivatives by all weights that a subgraph sees.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Gradient {
    pub(super) seed: [f64; SEED],
    pub(super) moves: f64,
    pub(super) score: [f64; NODE],
    /// In the order of the subgraph's heads.
    pub(super) heads: Vec<HeadGradient>,
}

/// The loss of one question whose gold nodes are `gold`, without repetition.
pub(super) fn loss(forward: &Forward, gold: &[usize]) -> f64 {
    let others = others(forward, gold);
    let sum: f64 = (gold.iter())
        .map(|node| -(forward.scores[*node] / (forward.scores[*node] + others)).ln())
        .sum();
    sum / gold.len() as f64
}

/// Share of the nodes that are not gold.
fn others(forward: &Forward, gold: &[usize]) -> f64 {
    let all = forward.scores.iter().enumerate();
    let others = all.filter(|(node, _)| !gold.contains(node));
    others.map(|(_, share)| share).sum::<f64>() + f64::MIN_POSITIVE
}

/// Derivatives of [`loss`].
pub(super) fn gradient(
    graph: &Subgraph,
    weights: &AttentionWeights,
    forward: &Forward,
    gold: &[usize],
) -> Gradient {
    let mut gradient = Gradient {
        seed: [0.0; SEED],
        moves: 0.0,
        score: [0.0; NODE],
        heads: vec![HeadGradient::default(); graph.edges.heads.len()],
    };
    let logits = by_logits(forward, gold);
    for (by_logit, features) in logits.iter().zip(&forward.features) {
        for (slot, feature) in gradient.score.iter_mut().zip(features) {
            *slot += by_logit * feature;
        }
    }
    let (by_start, by_shares) = layers(graph, weights, forward, &logits, &mut gradient);
    seeds(graph, forward, &by_start, &mut gradient);
    heads(graph, weights, forward, &by_shares, &mut gradient);
    gradient
}

/// Derivatives by the scorer's output at each node.
fn by_logits(forward: &Forward, gold: &[usize]) -> Vec<f64> {
    let others = others(forward, gold);
    let each = 1.0 / gold.len() as f64;
    let mut by_logits = vec![0.0; forward.scores.len()];
    let mut pull = 0.0;
    for node in gold {
        let with = forward.scores[*node] + others;
        by_logits[*node] = each * (forward.scores[*node] / with - 1.0);
        pull += each / with;
    }
    for (node, slot) in by_logits.iter_mut().enumerate() {
        if !gold.contains(&node) {
            *slot = pull * forward.scores[node];
        }
    }
    by_logits
}

/// Back through the layers. Returns derivatives by the start and by the share of each edge.
fn layers(
    graph: &Subgraph,
    weights: &AttentionWeights,
    forward: &Forward,
    by_logits: &[f64],
    gradient: &mut Gradient,
) -> (Vec<f64>, Vec<f64>) {
    let (edges, start, moves) = (&graph.edges, &forward.start, weights.moves);
    let mut by_start = vec![0.0; start.len()];
    let mut by_shares = vec![0.0; edges.targets.len()];
    let spread = forward.layers.last().unwrap_or(start);
    let last = forward.received.len() - 1;
    let by = |feature: NodeFeature, values: &[f64]| -> Vec<f64> {
        let weight = weights.score[feature as usize];
        let each = by_logits.iter().zip(values);
        each.map(|(by, value)| by * weight / (value + LEAST))
            .collect()
    };
    let mut by_after = by(NodeFeature::LogAttention, spread);
    let by_received = by(NodeFeature::LogReceived, &forward.received[last].0);
    for layer in (0..=last).rev() {
        let ((came, dangling), before) = (&forward.received[layer], &forward.layers[layer]);
        let mut by_came: Vec<f64> = by_after.iter().map(|by| moves * by).collect();
        if layer == last {
            for (slot, by) in by_came.iter_mut().zip(&by_received) {
                *slot += by;
            }
        }
        let mut by_dangling = 0.0;
        for (node, by) in by_after.iter().enumerate() {
            by_dangling += moves * by * start[node];
            gradient.moves += by * (came[node] + dangling * start[node] - start[node]);
            by_start[node] += by * (1.0 - moves + moves * dangling);
        }
        for (source, slot) in by_after.iter_mut().enumerate() {
            let range = edges.edges_of(source);
            *slot = if range.is_empty() { by_dangling } else { 0.0 };
            for edge in range {
                let by = by_came[edges.targets[edge] as usize];
                *slot += forward.shares.edges[edge] * by;
                by_shares[edge] += before[source] * by;
            }
        }
    }
    for (slot, by) in by_start.iter_mut().zip(&by_after) {
        *slot += by;
    }
    (by_start, by_shares)
}

/// Back through the softmax over seeds.
fn seeds(graph: &Subgraph, forward: &Forward, by_start: &[f64], gradient: &mut Gradient) {
    let shares = &forward.start[..graph.seeds.len()];
    let mean: f64 = shares.iter().zip(by_start).map(|(s, by)| s * by).sum();
    for ((share, by), features) in shares.iter().zip(by_start).zip(&graph.seeds) {
        let by_logit = share * (by - mean);
        for (slot, feature) in gradient.seed.iter_mut().zip(features) {
            *slot += by_logit * feature;
        }
    }
}

/// Back through both softmaxes of every source.
fn heads(
    graph: &Subgraph,
    weights: &AttentionWeights,
    forward: &Forward,
    by_shares: &[f64],
    gradient: &mut Gradient,
) {
    let (edges, shares) = (&graph.edges, &forward.shares);
    let heads = weights.heads_of(&edges.heads);
    for source in 0..edges.sources.len() - 1 {
        let first = edges.sources[source];
        let groups = edges.groups_of(source);
        let by_head: Vec<f64> = (groups.iter())
            .map(|group| {
                let edges = group.edges.clone();
                edges
                    .map(|edge| by_shares[edge] * shares.within[edge])
                    .sum()
            })
            .collect();
        let of_heads = &shares.heads[first..first + groups.len()];
        let mean: f64 = of_heads.iter().zip(&by_head).map(|(s, by)| s * by).sum();
        for ((group, share), by) in groups.iter().zip(of_heads).zip(&by_head) {
            let (head, slot) = (&heads[group.head], &mut gradient.heads[group.head]);
            let by_logit = share * (by - mean);
            slot.bias += by_logit;
            for edge in group.edges.clone() {
                // A is a softmax of e / tau, so by its own mean, which is `by`.
                let by_tempered = share * shares.within[edge] * (by_shares[edge] - by);
                slot.temperature -=
                    by_tempered * shares.logits[edge] / (head.temperature * head.temperature);
                let by_edge = by_tempered / head.temperature + by_logit * shares.plain[edge];
                for (slot, feature) in slot.edge.iter_mut().zip(&edges.features[edge]) {
                    *slot += by_edge * feature;
                }
            }
        }
    }
}
