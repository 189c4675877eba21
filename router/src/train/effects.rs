//! What a question's outcomes say about the arms that were not tried on it.
//!
//! The residual of an outcome, its quality less the arm's mean, is taken as a sum of what the
//! question is like for every arm, for arms that recall alike (something or nothing), for arms of
//! the same model, and noise. How much each part varies over questions is measured on the log by
//! moments, products of residuals of one question; the effect on another arm is then the best
//! linear prediction (Henderson 1975). On a log whose outcomes do not hang together the parts are
//! nothing, and so is every effect.

use super::Episode;
use crate::arms::{Arm, ArmTable, RecallMode};
use crate::linear::solve;

/// Variance over questions of each part of a residual, in squared quality points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Effects {
    every_arm: f64,
    same_recall: f64,
    same_rank: f64,
    noise: f64,
}

/// Pairs of outcomes that pull each measured variance towards nothing.
const PAIRS_SHRINKAGE: f64 = 20.0;

/// The least noise that is believed; it keeps the equations solvable.
const NOISE_MIN: f64 = 0.1;

impl Effects {
    /// Outcomes that say nothing about each other.
    pub(super) fn none() -> Self {
        Self {
            every_arm: 0.0,
            same_recall: 0.0,
            same_rank: 0.0,
            noise: NOISE_MIN,
        }
    }

    /// Measures the parts, given each arm's mean quality.
    pub(super) fn of(episodes: &[&Episode], table: &ArmTable, means: &[f64]) -> Self {
        // Mean product of residuals by what two arms share: nothing, recall, model, both.
        let mut products = [(0.0, PAIRS_SHRINKAGE); 4];
        let mut squares = (0.0, 0.0);
        for episode in episodes {
            let residual = |index: usize| {
                let outcome = &episode.outcomes[index];
                (
                    table.arms[outcome.arm],
                    outcome.quality - means[outcome.arm],
                )
            };
            for one in 0..episode.outcomes.len() {
                let (arm, own) = residual(one);
                squares = (squares.0 + own * own, squares.1 + 1.0);
                for (other, others) in (0..one).map(residual) {
                    let shared = usize::from(recalls_alike(&arm, &other))
                        + 2 * usize::from(arm.rank == other.rank);
                    let sum = &mut products[shared];
                    *sum = (sum.0 + own * others, sum.1 + 1.0);
                }
            }
        }
        let [nothing, recall, rank, both] = products.map(|(sum, pairs)| sum / pairs);
        // Least squares with equal weights for p = every + [recall] recall + [rank] rank.
        let same_recall = ((recall - nothing + both - rank) / 2.0).max(0.0);
        let same_rank = ((rank - nothing + both - recall) / 2.0).max(0.0);
        let mean = (nothing + recall + rank + both) / 4.0;
        let every_arm = (mean - (same_recall + same_rank) / 2.0).max(0.0);
        let total: f64 = squares.0 / f64::max(squares.1, 1.0);
        Self {
            every_arm,
            same_recall,
            same_rank,
            noise: (total - every_arm - same_recall - same_rank).max(NOISE_MIN),
        }
    }

    /// The expected residual of `arm` on the question, from the outcomes of other arms.
    pub(super) fn on(&self, episode: &Episode, arm: usize, table: &ArmTable, means: &[f64]) -> f64 {
        let others: Vec<(Arm, f64)> = episode
            .outcomes
            .iter()
            .filter(|outcome| outcome.arm != arm)
            .map(|outcome| {
                (
                    table.arms[outcome.arm],
                    outcome.quality - means[outcome.arm],
                )
            })
            .collect();
        let rows = (0..others.len()).map(|row| {
            let own = |column: usize| {
                let noise = if row == column { self.noise } else { 0.0 };
                self.covariance(&others[row].0, &others[column].0) + noise
            };
            (0..others.len()).map(own).chain([others[row].1]).collect()
        });
        let weights = solve(rows.collect());
        let with_arm = others
            .iter()
            .map(|(other, _)| self.covariance(other, &table.arms[arm]));
        with_arm.zip(&weights).map(|(c, w)| c * w).sum()
    }

    fn covariance(&self, one: &Arm, other: &Arm) -> f64 {
        let part = |shared: bool, variance: f64| if shared { variance } else { 0.0 };
        self.every_arm
            + part(recalls_alike(one, other), self.same_recall)
            + part(one.rank == other.rank, self.same_rank)
    }
}

fn recalls_alike(one: &Arm, other: &Arm) -> bool {
    (one.recall == RecallMode::None) == (other.recall == RecallMode::None)
}
