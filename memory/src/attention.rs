//! Attention: which nodes of a small graph a question is about.
//!
//! Seeds hand their weight on along edges; how much each edge takes depends on the question, with
//! one head for each relation and direction, and a linear scorer turns what arrived into shares.
//! Personalised PageRank (Haveliwala, "Topic-Sensitive PageRank", 2002) is the limit case without
//! biases, which a test asserts. Pure numbers over local node indexes: `recall.rs` builds the
//! subgraph. Reading on: `attention/weights.rs` (what is trained), `attention/subgraph.rs` (the
//! shape), `attention/forward.rs` (the layers), `attention/backward.rs` (their gradients),
//! `attention/train.rs` (the training), `attention/labels.rs` (what it learns from).

mod backward;
mod features;
mod forward;
mod labels;
mod optimise;
mod parameters;
mod subgraph;
mod train;
mod weights;

#[cfg(test)]
mod tests;

pub(crate) use features::{EDGE, EdgeFeature, NODE, NodeFeature, SEED, SeedFeature};
pub(crate) use forward::Shares;
pub use labels::LabelledQuestion;
pub(crate) use optimise::Example;
pub use parameters::Frozen;
pub(crate) use subgraph::Edges;
pub use subgraph::{Subgraph, SubgraphEdge};
pub use train::{TrainError, TrainOptions, TrainProgress, TrainReport, train};
pub(crate) use weights::Wanted;
pub use weights::{AttentionError, AttentionWeights};

/// Shares that sum to 1, in proportion to the exponentials of `logits`.
pub(crate) fn softmax(logits: &[f64]) -> Vec<f64> {
    let mut shares = logits.to_vec();
    softmax_in_place(&mut shares);
    shares
}

/// The same in place of the logits.
fn softmax_in_place(logits: &mut [f64]) {
    let highest = logits.iter().copied().fold(f64::MIN, f64::max);
    let mut sum = 0.0;
    for logit in logits.iter_mut() {
        *logit = (*logit - highest).exp();
        sum += *logit;
    }
    logits.iter_mut().for_each(|share| *share /= sum);
}

/// Entropy of shares over the logarithm of their number: 0 when one has all, 1 when all are equal.
pub(crate) fn relative_entropy(shares: &[f64]) -> f64 {
    if shares.len() < 2 {
        return 0.0;
    }
    let positive = shares.iter().filter(|share| **share > 0.0);
    let entropy: f64 = positive.map(|share| -share * share.ln()).sum();
    (entropy / (shares.len() as f64).ln()).clamp(0.0, 1.0)
}
