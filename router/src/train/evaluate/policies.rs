//! The policies compared, and what each is worth on one question.

use super::{
    Arm, ArmStatistics, ArmTable, ChoiceInputs, Episode, RecallMode, Router, Sample, State,
    TrainOptions, VerdictInputs,
};
use crate::train::sample::inverse_probability;

pub(super) const ROUTED: &str = "routed";

/// The policies, in the order of [`Outcomes::values`].
pub(super) const NAMES: [&str; 7] = [
    ROUTED,
    "random",
    "best single",
    "always biggest",
    "fixed mid",
    "always smallest",
    "oracle",
];

/// Position of a policy in [`NAMES`].
pub(super) fn index(name: &str) -> usize {
    NAMES
        .iter()
        .position(|known| *known == name)
        .expect("policies are named by constants")
}

/// What a policy is worth on one question.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Worth {
    pub(super) quality: f64,
    pub(super) latency_s: f64,
    pub(super) cost: f64,
}

impl Worth {
    pub(super) fn utility(&self, options: &TrainOptions) -> f64 {
        self.quality - options.per_second * self.latency_s - options.per_cost_unit * self.cost
    }

    fn add(&mut self, other: Self, scale: f64) {
        self.quality += scale * other.quality;
        self.latency_s += scale * other.latency_s;
        self.cost += scale * other.cost;
    }
}

/// What all folds found.
pub(super) struct Outcomes {
    /// Per question, per policy.
    pub(super) values: Vec<[Worth; NAMES.len()]>,
    pub(super) routes: Vec<(Arm, usize)>,
    pub(super) first_attempts: f64,
    pub(super) asked_again: f64,
}

impl Outcomes {
    pub(super) fn new(table: &ArmTable) -> Self {
        let routes = table.arms.iter().map(|arm| (*arm, 0)).collect();
        Self {
            values: Vec::new(),
            routes,
            first_attempts: 0.0,
            asked_again: 0.0,
        }
    }
}

/// A router and what its training questions say about the arms.
pub(super) struct Fold<'a> {
    pub(super) router: Router,
    pub(super) arms: &'a ArmStatistics,
    pub(super) options: &'a TrainOptions,
}

impl Fold<'_> {
    /// Values every policy on one held-out question.
    pub(super) fn add(&self, episode: &Episode, sample: &Sample, all: &mut Outcomes) {
        let table = self.router.arms();
        let top = table.models.saturating_sub(1);
        let single = |arm: usize| self.value(episode, sample, arm, &|i| observed(episode, i));
        let mut random = Worth::default();
        let share = 1.0 / table.arms.len() as f64;
        (0..table.arms.len()).for_each(|arm| random.add(single(arm), share));
        let routed = self.routed(episode, sample, all);
        all.values.push([
            routed,
            random,
            single(self.best_single()),
            single(largest_vector(table, top)),
            single(largest_vector(table, top / 2)),
            single(largest_vector(table, 0)),
            self.oracle(episode),
        ]);
    }

    fn routed(&self, episode: &Episode, sample: &Sample, all: &mut Outcomes) -> Worth {
        let mut state = self.router.start();
        let steps = [
            Some(&episode.query),
            episode.search.as_ref(),
            episode.recall.as_ref(),
        ];
        steps
            .into_iter()
            .flatten()
            .for_each(|step| self.router.observe(&mut state, step));
        let arm = self.choose(&state);
        all.routes[arm].1 += 1;
        let mut attempts = Vec::with_capacity(episode.outcomes.len());
        for (index, outcome) in episode.outcomes.iter().enumerate() {
            let ask = (outcome.arm == arm)
                .then(|| self.judge(&state, episode, index))
                .flatten();
            let mut worth = observed(episode, index);
            if let Some(again) = ask {
                let second = self.attempt(episode, sample, again);
                let first = Worth {
                    quality: 0.0,
                    ..worth
                };
                worth = second;
                worth.add(first, 1.0);
            }
            if outcome.arm == arm {
                let weight = inverse_probability(outcome);
                all.first_attempts += weight;
                all.asked_again += if ask.is_some() { weight } else { 0.0 };
            }
            attempts.push(worth);
        }
        self.value(episode, sample, arm, &|index| attempts[index])
    }

    fn choose(&self, state: &State) -> usize {
        let inputs = ChoiceInputs {
            permitted: vec![true; self.arms.quality.len()],
            latency_s: self.arms.latency_s.clone(),
            cost: self.arms.cost.clone(),
            per_second: self.options.per_second,
            per_cost_unit: self.options.per_cost_unit,
            floor: 0.0,
            near_tie_margin: 0.0,
            draw: 0.0,
        };
        self.router
            .choose(state, &inputs)
            .expect("every arm is permitted")
            .arm
    }

    /// The arm asked next after an outcome, if the verdict is not to accept.
    fn judge(&self, state: &State, episode: &Episode, outcome: usize) -> Option<usize> {
        let table = self.router.arms();
        let outcome = &episode.outcomes[outcome];
        let mut state = state.clone();
        self.router.observe(&mut state, &outcome.answer);
        let at_rank = |rank| table.with_rank(outcome.arm, rank).unwrap_or(outcome.arm);
        let inputs = VerdictInputs {
            rank: table.arms[outcome.arm].rank,
            permitted: vec![true; table.models],
            latency_s: (0..table.models)
                .map(|rank| self.arms.latency_s[at_rank(rank)])
                .collect(),
            cost: (0..table.models)
                .map(|rank| self.arms.cost[at_rank(rank)])
                .collect(),
            per_second: self.options.per_second,
            per_cost_unit: self.options.per_cost_unit,
            floor: 0.0,
            draw: 0.0,
            arm: outcome.arm,
        };
        let verdict = self
            .router
            .judge(&state, &inputs)
            .expect("the log's arms are checked");
        verdict.ask.map(at_rank)
    }

    /// An arm as observed on this question, else as estimated.
    fn attempt(&self, episode: &Episode, sample: &Sample, arm: usize) -> Worth {
        let seen = (0..episode.outcomes.len()).find(|index| episode.outcomes[*index].arm == arm);
        seen.map_or_else(
            || self.estimate(sample, arm),
            |index| observed(episode, index),
        )
    }

    fn estimate(&self, sample: &Sample, arm: usize) -> Worth {
        Worth {
            quality: sample.estimate[arm],
            latency_s: self.arms.latency_s[arm],
            cost: self.arms.cost[arm],
        }
    }

    /// Doubly robust: the estimate, corrected by what was observed of this very arm.
    fn value(
        &self,
        episode: &Episode,
        sample: &Sample,
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

    fn best_single(&self) -> usize {
        let utility = |arm: usize| self.arms.quality[arm] - self.arms.price[arm];
        let arms = 1..self.arms.quality.len();
        arms.fold(0, |best, arm| {
            if utility(arm) > utility(best) {
                arm
            } else {
                best
            }
        })
    }

    fn oracle(&self, episode: &Episode) -> Worth {
        let attempts = (0..episode.outcomes.len()).map(|index| observed(episode, index));
        let better =
            |a: &Worth, b: &Worth| a.utility(self.options).total_cmp(&b.utility(self.options));
        attempts.max_by(better).unwrap_or_default()
    }
}

fn observed(episode: &Episode, index: usize) -> Worth {
    let outcome = &episode.outcomes[index];
    Worth {
        quality: outcome.quality,
        latency_s: outcome.latency_s,
        cost: outcome.cost,
    }
}

/// The arm of a rank with the largest vector context, else any arm of the rank.
fn largest_vector(table: &ArmTable, rank: usize) -> usize {
    let of_rank = table
        .arms
        .iter()
        .enumerate()
        .filter(|(_, arm)| arm.rank == rank);
    let preferred = |arm: &Arm| (arm.recall == RecallMode::Vector, arm.context_tokens);
    of_rank
        .max_by_key(|(_, arm)| preferred(arm))
        .map_or(0, |(index, _)| index)
}
