//! The policies compared, and what each is worth on one question.

use super::{Arm, ArmTable, ChoiceInputs, Episode, Router, Sample, State, VerdictInputs};
use crate::train::sample::inverse_probability;
use crate::train::worth::{Valuer, Worth, largest_vector, observed};

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
    pub(super) valuer: Valuer<'a>,
}

impl Fold<'_> {
    /// Values every policy on one held-out question.
    pub(super) fn add(&self, episode: &Episode, sample: &Sample, all: &mut Outcomes) {
        let table = self.router.arms();
        let top = table.models.saturating_sub(1);
        let single = |arm: usize| self.valuer.single(episode, sample, arm);
        let routed = self.routed(episode, sample, all);
        all.values.push([
            routed,
            self.valuer.random(episode, sample),
            single(self.valuer.best_single(&|_| true)),
            single(largest_vector(table, top)),
            single(largest_vector(table, top / 2)),
            single(largest_vector(table, 0)),
            self.valuer.oracle(episode),
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
                worth = worth.asked_again(self.valuer.attempt(episode, sample, again));
            }
            if outcome.arm == arm {
                let weight = inverse_probability(outcome);
                all.first_attempts += weight;
                all.asked_again += if ask.is_some() { weight } else { 0.0 };
            }
            attempts.push(worth);
        }
        self.valuer
            .value((episode, sample), arm, &|index| attempts[index])
    }

    fn choose(&self, state: &State) -> usize {
        let Valuer { arms, options, .. } = &self.valuer;
        let inputs = ChoiceInputs {
            permitted: vec![true; arms.quality.len()],
            latency_s: arms.latency_s.clone(),
            cost: arms.cost.clone(),
            per_second: options.per_second,
            per_cost_unit: options.per_cost_unit,
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
        let Valuer {
            arms,
            options,
            table,
        } = &self.valuer;
        let outcome = &episode.outcomes[outcome];
        let mut state = state.clone();
        self.router.observe(&mut state, &outcome.answer);
        let at_rank = |rank| table.with_rank(outcome.arm, rank).unwrap_or(outcome.arm);
        let inputs = VerdictInputs {
            rank: table.arms[outcome.arm].rank,
            permitted: vec![true; table.models],
            latency_s: (0..table.models)
                .map(|rank| arms.latency_s[at_rank(rank)])
                .collect(),
            cost: (0..table.models)
                .map(|rank| arms.cost[at_rank(rank)])
                .collect(),
            per_second: options.per_second,
            per_cost_unit: options.per_cost_unit,
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
}
