//! Attention: how weight spreads from seeds along the edges of a small graph.
//!
//! Pure numbers over local node indexes. Each edge carries a logit within its head (a relation in
//! one direction), each head a logit among the heads at a node, so trained weights can replace the
//! constants without changing the shape. With the logarithm of the edge's weight as its logit and
//! equal heads this is weighted personalised PageRank (Haveliwala, "Topic-Sensitive PageRank",
//! 2002), which a test asserts. `recall.rs` builds the graph.

/// Share of the weight that moves along edges in each step; the rest returns to the seeds.
pub(crate) const MOVE: f64 = 0.5;

/// Steps at most; with half of the weight returning, what is left to move after 32 steps is below
/// `f32` precision.
const STEPS_MAX: usize = 32;

/// A step that moves less than this in total is the last.
const CONVERGED: f64 = 1e-7;

/// The edges that leave one node under one head.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Group {
    /// Local index of the node they leave.
    pub(crate) from: usize,
    /// Logit of the head (`a_r`): how much its relation counts next to the other relations at the
    /// node.
    pub(crate) head_logit: f64,
    /// Local index of each target with the logit of its edge.
    pub(crate) targets: Vec<(usize, f64)>,
}

/// Spreads `seeds` (which sum to 1) over the groups, sorted by `from`. The result sums to 1.
///
/// `p <- (1-g) p0 + g sum_r pi_r A^r p`, where `A^r` is the softmax of the edge logits in a group
/// and `pi_r` the softmax over the groups at a node of `a_r + log W_r`; weight at nodes without
/// edges goes back to the seeds.
pub(crate) fn spread(seeds: &[f64], groups: &[Group]) -> Vec<f64> {
    let moves = transitions(seeds.len(), groups);
    let mut weights = seeds.to_vec();
    for _ in 0..STEPS_MAX {
        let mut next = vec![0.0; seeds.len()];
        let mut dangling = 0.0;
        for (from, targets) in moves.iter().enumerate() {
            if targets.is_empty() {
                dangling += weights[from];
            }
            for (to, share) in targets {
                next[*to] += weights[from] * share;
            }
        }
        let mut change = 0.0;
        for (at, seed) in seeds.iter().enumerate() {
            next[at] = (1.0 - MOVE) * seed + MOVE * (next[at] + dangling * seed);
            change += (next[at] - weights[at]).abs();
        }
        weights = next;
        if change < CONVERGED {
            break;
        }
    }
    weights
}

/// For each node its targets with shares that sum to 1.
fn transitions(nodes: usize, groups: &[Group]) -> Vec<Vec<(usize, f64)>> {
    let mut moves = vec![Vec::new(); nodes];
    for at_node in groups.chunk_by(|a, b| a.from == b.from) {
        let totals: Vec<f64> = at_node.iter().map(Group::log_weight).collect();
        let heads: Vec<f64> = at_node
            .iter()
            .zip(&totals)
            .map(|(group, total)| group.head_logit + total)
            .collect();
        for (group, head_share) in at_node.iter().zip(softmax(&heads)) {
            let logits: Vec<f64> = group.targets.iter().map(|(_, logit)| *logit).collect();
            let shares = softmax(&logits);
            let targets = group.targets.iter().zip(shares);
            moves[group.from].extend(targets.map(|((to, _), share)| (*to, head_share * share)));
        }
    }
    moves
}

impl Group {
    /// `log W_r`: the logarithm of the sum of weights.
    fn log_weight(&self) -> f64 {
        let highest = self
            .targets
            .iter()
            .map(|(_, logit)| *logit)
            .fold(f64::MIN, f64::max);
        let sum: f64 = self
            .targets
            .iter()
            .map(|(_, logit)| (logit - highest).exp())
            .sum();
        highest + sum.ln()
    }
}

/// Shares that sum to 1, in proportion to the exponentials of `logits`.
pub(crate) fn softmax(logits: &[f64]) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f64::MIN, f64::max);
    let exponentials: Vec<f64> = logits.iter().map(|logit| (logit - highest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|value| value / sum).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The textbook: a dense matrix, rows normalised by the sum of all weights, many steps.
    fn pagerank(seeds: &[f64], weights: &[Vec<f64>]) -> Vec<f64> {
        let mut ranks = seeds.to_vec();
        for _ in 0..200 {
            let mut next: Vec<f64> = seeds.iter().map(|seed| (1.0 - MOVE) * seed).collect();
            for (from, row) in weights.iter().enumerate() {
                let total: f64 = row.iter().sum();
                for (to, slot) in next.iter_mut().enumerate() {
                    let share = if total > 0.0 {
                        row[to] / total
                    } else {
                        seeds[to]
                    };
                    *slot += MOVE * ranks[from] * share;
                }
            }
            ranks = next;
        }
        ranks
    }

    #[test]
    fn equal_heads_are_weighted_personalised_pagerank() {
        let seeds = [0.7, 0.3, 0.0, 0.0];
        let log = |weight: f64| weight.ln();
        let groups = [
            Group {
                from: 0,
                head_logit: 0.0,
                targets: vec![(1, log(2.0)), (2, log(1.0))],
            },
            Group {
                from: 0,
                head_logit: 0.0,
                targets: vec![(3, log(5.0))],
            },
            Group {
                from: 1,
                head_logit: 0.0,
                targets: vec![(2, log(0.5))],
            },
            Group {
                from: 2,
                head_logit: 0.0,
                targets: vec![(0, log(1.0)), (3, log(3.0))],
            },
        ];
        let dense = [
            vec![0.0, 2.0, 1.0, 5.0],
            vec![0.0, 0.0, 0.5, 0.0],
            vec![1.0, 0.0, 0.0, 3.0],
            vec![0.0; 4],
        ];
        let (ours, theirs) = (spread(&seeds, &groups), pagerank(&seeds, &dense));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert!((ours - theirs).abs() < 1e-6, "{ours} is not {theirs}");
        }
        assert!((ours.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_stronger_head_draws_more_weight() {
        let groups = |logit: f64| {
            [
                Group {
                    from: 0,
                    head_logit: logit,
                    targets: vec![(1, 0.0)],
                },
                Group {
                    from: 0,
                    head_logit: 0.0,
                    targets: vec![(2, 0.0)],
                },
            ]
        };
        let even = spread(&[1.0, 0.0, 0.0], &groups(0.0));
        let tilted = spread(&[1.0, 0.0, 0.0], &groups(1.0));
        assert!((even[1] - even[2]).abs() < 1e-12);
        assert!(tilted[1] > 2.0 * tilted[2]);
    }

    #[test]
    fn entropy_goes_from_certain_to_even() {
        assert!(relative_entropy(&[1.0, 0.0, 0.0]) < 1e-9);
        assert!((relative_entropy(&[0.25; 4]) - 1.0).abs() < 1e-9);
        assert!(relative_entropy(&[1.0]) < 1e-9);
    }
}
