//! What an arm is worth on a question, from a log that has only some arms of it.
//!
//! Every policy is valued by the doubly robust estimate of [`super::sample`], so that policies can be compared by
//! question; the oracle alone is the best observed arm, which flatters it.

use super::sample::{ArmStatistics, Sample, inverse_probability};
use super::{Episode, TrainOptions};
use crate::arms::{ArmTable, RecallMode};

/// What a policy is worth on one question.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Worth {
    /// Quality, 1 to 5.
    pub quality: f64,
    /// Seconds, first tries charged.
    pub latency_s: f64,
    /// Cost units.
    pub cost: f64,
}

impl Worth {
    /// Quality less seconds and cost at the objective's prices.
    pub fn utility(&self, options: &TrainOptions) -> f64 {
        self.utility_at(options.per_second, options)
    }

    /// The same at another price of a second.
    pub(super) fn utility_at(&self, per_second: f64, options: &TrainOptions) -> f64 {
        self.quality - per_second * self.latency_s - options.per_cost_unit * self.cost
    }

    /// What a second attempt makes of a first one: its answer counts, and both are charged.
    pub(super) fn asked_again(self, second: Self) -> Self {
        Self {
            quality: second.quality,
            latency_s: self.latency_s + second.latency_s,
            cost: self.cost + second.cost,
        }
    }

    /// Adds another, `scale` times.
    pub(super) fn add(&mut self, other: Self, scale: f64) {
        self.quality += scale * other.quality;
        self.latency_s += scale * other.latency_s;
        self.cost += scale * other.cost;
    }
}

/// What training questions say about the arms, for valuing others.
pub(super) struct Valuer<'a> {
    pub(super) arms: &'a ArmStatistics,
    pub(super) table: &'a ArmTable,
    pub(super) options: &'a TrainOptions,
}

impl Valuer<'_> {
    /// An arm as observed on this question, else as estimated.
    pub(super) fn attempt(&self, episode: &Episode, sample: &Sample, arm: usize) -> Worth {
        tried(episode, arm).unwrap_or_else(|| self.estimate(sample, arm))
    }

    fn estimate(&self, sample: &Sample, arm: usize) -> Worth {
        Worth {
            quality: sample.estimate[arm],
            latency_s: self.arms.latency_s[arm],
            cost: self.arms.cost[arm],
        }
    }

    /// An arm whose first answer is accepted.
    pub(super) fn single(&self, episode: &Episode, sample: &Sample, arm: usize) -> Worth {
        self.value((episode, sample), arm, &|index| observed(episode, index))
    }

    /// An arm at random.
    pub(super) fn random(&self, episode: &Episode, sample: &Sample) -> Worth {
        let arms = self.table.arms.len();
        let mut worth = Worth::default();
        (0..arms).for_each(|arm| worth.add(self.single(episode, sample, arm), 1.0 / arms as f64));
        worth
    }

    /// Doubly robust: the estimate, corrected by what was observed of this very arm. `attempt` says what an outcome led
    /// to.
    pub(super) fn value(
        &self,
        (episode, sample): (&Episode, &Sample),
        arm: usize,
        attempt: &dyn Fn(usize) -> Worth,
    ) -> Worth {
        let estimate = self.estimate(sample, arm);
        let mut value = estimate;
        let of_arm = || {
            episode
                .outcomes
                .iter()
                .enumerate()
                .filter(|(_, o)| o.arm == arm)
        };
        let count = of_arm().count() as f64;
        for (index, outcome) in of_arm() {
            let weight = inverse_probability(outcome) / count;
            value.add(attempt(index), weight);
            value.add(estimate, -weight);
        }
        value
    }

    /// The arm of highest mean utility among those permitted.
    pub(super) fn best_single(&self, permitted: &dyn Fn(usize) -> bool) -> usize {
        let utility = |arm: usize| self.arms.quality[arm] - self.arms.price[arm];
        let arms = (0..self.arms.quality.len()).filter(|arm| permitted(*arm));
        let better = |best: Option<usize>, arm: usize| match best {
            Some(best) if utility(arm) <= utility(best) => Some(best),
            _ => Some(arm),
        };
        arms.fold(None, better).unwrap_or(0)
    }

    /// The best observed arm.
    pub(super) fn oracle(&self, episode: &Episode) -> Worth {
        self.oracle_at(episode, self.options.per_second)
    }

    /// The best observed arm at another price of a second.
    pub(super) fn oracle_at(&self, episode: &Episode, per_second: f64) -> Worth {
        let utility = |worth: &Worth| worth.utility_at(per_second, self.options);
        let attempts = (0..episode.outcomes.len()).map(|index| observed(episode, index));
        let better = |a: &Worth, b: &Worth| utility(a).total_cmp(&utility(b));
        attempts.max_by(better).unwrap_or_default()
    }
}

pub(super) fn observed(episode: &Episode, index: usize) -> Worth {
    let outcome = &episode.outcomes[index];
    Worth {
        quality: outcome.quality,
        latency_s: outcome.latency_s,
        cost: outcome.cost,
    }
}

/// What came of an arm, where it was tried.
pub(super) fn tried(episode: &Episode, arm: usize) -> Option<Worth> {
    let place = episode
        .outcomes
        .iter()
        .position(|outcome| outcome.arm == arm);
    place.map(|index| observed(episode, index))
}

/// The arm of a rank with the largest vector context, else any arm of the rank.
pub(super) fn largest_vector(table: &ArmTable, rank: usize) -> usize {
    let of_rank = table
        .arms
        .iter()
        .enumerate()
        .filter(|(_, arm)| arm.rank == rank);
    let preferred = |arm: &crate::Arm| (arm.recall == RecallMode::Vector, arm.context_tokens);
    of_rank
        .max_by_key(|(_, arm)| preferred(arm))
        .map_or(0, |(index, _)| index)
}
