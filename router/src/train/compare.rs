//! The router beside other ways to decide, on the same features and folds.
//!
//! Folds are cut by group, so that questions of one source are never on both sides. Every policy that learns does so on the
//! other folds, once per seed (which also cuts the folds anew); what is returned is what each policy was worth on each
//! question, averaged over seeds, for callers to resample. `policy` has the list, `decide` how they decide.

use super::optimise::{folds, part};
use super::sample::Dataset;
use super::worth::{Valuer, tried};
use super::{Episode, TrainError, TrainOptions, Worth, usable};
use crate::arms::ArmTable;

mod decide;
mod policy;

use decide::{Decided, Decider, decide};
use policy::Learned;
pub use policy::{FeatureGroup, Policy};

/// Utilities this close count as equal when a choice is held against the best arm tried.
pub const NEAR: f64 = 0.25;

/// What a second is worth when policies are followed along the frontier, as multiples of the objective's own price.
pub const PRICES: [f64; 6] = [1.0, 0.0, 0.25, 2.0, 5.0, 10.0];

/// How to compare.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// The group of every episode with outcomes, in order.
    pub groups: &'a [String],
    /// Folds; at most one per group.
    pub folds: usize,
    /// Training runs of every policy that learns; each cuts folds anew.
    pub seeds: u64,
    /// How networks are trained.
    pub options: TrainOptions,
    /// What is compared.
    pub policies: Vec<Policy>,
}

/// One expectation that can be held against what came out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    /// Quality expected before the answer.
    pub before: f64,
    /// Quality expected of the answer, once it was read.
    pub after: Option<f64>,
    /// Quality that came out.
    pub quality: f64,
}

/// What came of one policy.
#[derive(Debug, Clone)]
pub struct Compared {
    /// The policy.
    pub policy: Policy,
    /// At each of [`PRICES`], what it was worth on each question.
    pub worth: Vec<Vec<Worth>>,
    /// Share of the questions that went to each arm; empty where a policy does not choose one.
    pub routes: Vec<f64>,
    /// Share of first tries that were asked again.
    pub asked_again: f64,
    /// Of choices whose arm was tried, the share whose utility is within [`NEAR`] of the best arm tried; `None` where
    /// none was.
    pub near_oracle: Option<f64>,
    /// Expectations of the first seed, for reliability.
    pub expected: Vec<Expected>,
    /// Mean seconds of the chosen arm on the whole, and of the middle model's arm with its rank, then its context
    /// changed to the chosen one's: what each part of the choice does to latency.
    pub attributed_s: Attributed,
}

/// Mean seconds on the way from the fixed middle model to a policy's choices.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Attributed {
    /// The middle model with the largest vector context.
    pub fixed_mid: f64,
    /// After the choice of the model.
    pub model: f64,
    /// After the choice of the context, too.
    pub context: f64,
    /// After the choice of the recall, too: the chosen arm.
    pub recall: f64,
}

/// Compares policies on a log. `done` is called after each policy in each fold, [`Plan::rounds`] times in all.
pub fn compare(
    episodes: &[Episode],
    table: &ArmTable,
    plan: &Plan<'_>,
    done: &mut dyn FnMut(),
) -> Result<Vec<Compared>, TrainError> {
    let episodes = usable(episodes, table)?;
    let mut tallies: Vec<Tally> = plan
        .policies
        .iter()
        .map(|policy| Tally::new(*policy, episodes.len(), table.arms.len()))
        .collect();
    let names: Vec<&str> = plan.groups.iter().map(String::as_str).collect();
    for seed in 1..=plan.seeds.max(1) {
        let options = TrainOptions {
            seed,
            ..plan.options.clone()
        };
        let fold_of = folds(&names, plan.folds, options.seed ^ 0x00F0_1D50);
        for fold in 0..plan.folds.max(2) {
            let training = part(&episodes, &fold_of, (fold, false));
            let held_out = part(&episodes, &fold_of, (fold, true));
            if training.is_empty() || held_out.is_empty() {
                plan.policies.iter().for_each(|_| done());
                continue;
            }
            let places = (0..episodes.len()).filter(|index| fold_of[*index] == fold);
            let round = Round {
                training: &training,
                held_out: &held_out,
                places: places.collect(),
                table,
                options: &options,
            };
            round.run(&mut tallies, seed == 1, done);
        }
    }
    Ok(tallies.into_iter().map(|tally| tally.end(plan)).collect())
}

impl Plan<'_> {
    /// How often [`compare`] calls `done`.
    pub fn rounds(&self) -> usize {
        self.policies.len() * self.folds.max(2) * self.seeds.max(1) as usize
    }
}

/// One fold under one seed.
struct Round<'a> {
    training: &'a [&'a Episode],
    held_out: &'a [&'a Episode],
    /// Where the held-out questions stand in the log.
    places: Vec<usize>,
    table: &'a ArmTable,
    options: &'a TrainOptions,
}

impl Round<'_> {
    fn run(&self, tallies: &mut [Tally], first_seed: bool, done: &mut dyn FnMut()) {
        let data = Dataset::new(self.training, self.table, self.options);
        let samples = data.held_out(self.held_out).samples;
        let valuer = Valuer {
            arms: &data.arms,
            table: self.table,
            options: self.options,
        };
        // What the router may take on the training questions bounds the best single arm at its latency.
        let mut router_s = f64::INFINITY;
        for tally in tallies {
            let learned = Learned::of(tally.policy, self, &data);
            if tally.policy == Policy::FastGrnn {
                router_s = learned.training_latency(&data);
            }
            for (index, sample) in samples.iter().enumerate() {
                let question = (self.held_out[index], sample);
                let decider = learned.decider(index, &valuer, router_s);
                for (at, price) in PRICES.iter().enumerate() {
                    let per_second = price * self.options.per_second;
                    let decided = decide(&decider, &valuer, question, per_second);
                    tally.worth[at][self.places[index]].add(decided.worth, 1.0);
                    if at == 0 {
                        tally.add(&decided, &valuer, question.0);
                    }
                }
                if first_seed && let Decider::Expect(expectation) = &decider {
                    let outcomes = question.0.outcomes.iter().enumerate();
                    tally
                        .expected
                        .extend(outcomes.map(|(index, outcome)| Expected {
                            before: expectation.arms[outcome.arm],
                            after: expectation.after.get(index).map(|after| after.answer),
                            quality: outcome.quality,
                        }));
                }
            }
            done();
        }
    }
}

/// Sums over folds and seeds.
struct Tally {
    policy: Policy,
    worth: Vec<Vec<Worth>>,
    routes: Vec<f64>,
    decisions: f64,
    first_tries: f64,
    asked_again: f64,
    tried: f64,
    near: f64,
    attributed: Attributed,
    expected: Vec<Expected>,
}

impl Tally {
    fn new(policy: Policy, questions: usize, arms: usize) -> Self {
        Self {
            policy,
            worth: vec![vec![Worth::default(); questions]; PRICES.len()],
            routes: vec![0.0; arms],
            decisions: 0.0,
            first_tries: 0.0,
            asked_again: 0.0,
            tried: 0.0,
            near: 0.0,
            attributed: Attributed::default(),
            expected: Vec::new(),
        }
    }

    fn add(&mut self, decided: &Decided, valuer: &Valuer<'_>, episode: &Episode) {
        let Some(arm) = decided.arm else { return };
        self.routes[arm] += 1.0;
        self.decisions += 1.0;
        self.first_tries += decided.first_tries;
        self.asked_again += decided.asked_again;
        let own = valuer.attributed(arm);
        self.attributed.fixed_mid += own.fixed_mid;
        self.attributed.model += own.model;
        self.attributed.context += own.context;
        self.attributed.recall += own.recall;
        if let Some(worth) = tried(episode, arm) {
            let best = valuer.oracle(episode).utility(valuer.options);
            self.tried += 1.0;
            let near = worth.utility(valuer.options) >= best - NEAR;
            self.near += f64::from(u8::from(near));
        }
    }

    fn end(self, plan: &Plan<'_>) -> Compared {
        let seeds = plan.seeds.max(1) as f64;
        let mean = |sum: &Worth| {
            let mut mean = Worth::default();
            mean.add(*sum, 1.0 / seeds);
            mean
        };
        let decisions = self.decisions.max(1.0);
        let Attributed {
            fixed_mid,
            model,
            context,
            recall,
        } = self.attributed;
        Compared {
            policy: self.policy,
            worth: self
                .worth
                .iter()
                .map(|questions| questions.iter().map(mean).collect())
                .collect(),
            routes: if self.decisions > 0.0 {
                self.routes.iter().map(|count| count / decisions).collect()
            } else {
                Vec::new()
            },
            asked_again: self.asked_again / self.first_tries.max(1.0),
            near_oracle: (self.tried > 0.0).then(|| self.near / self.tried),
            expected: self.expected,
            attributed_s: Attributed {
                fixed_mid: fixed_mid / decisions,
                model: model / decisions,
                context: context / decisions,
                recall: recall / decisions,
            },
        }
    }
}
