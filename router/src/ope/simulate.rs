//! A log whose truth is known: few contexts, arms, answers and verdicts, so that a policy's value is a finite sum.
//!
//! Quality, 1 or 5, depends on context, arm, answer and verdict by a table that no linear model fits, and askers differ
//! by an effect of mean 0 that all of their rows share. [`World::value`] is the truth, [`World::log`] a sample,
//! [`coverage`] how often intervals hold the truth.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::{Evaluation, Interval, Label, Options, Refusal, Step, Trajectory, evaluate};
use crate::statistics::normal;

const CONTEXTS: usize = 40;
const ARMS: usize = 6;
/// Signals that an answer may give before the verdict.
const SIGNALS: usize = 3;
/// Accept, or ask again.
const VERDICTS: usize = 2;

/// How a log is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scenario {
    /// What it is called.
    pub name: &'static str,
    /// Rows of the log.
    pub rows: usize,
    /// Probability with which a row is judged.
    pub label: f64,
    /// Share of decisions that the logged policy spreads evenly over all arms.
    pub floor: f64,
    /// Whether a verdict follows the choice.
    pub verdict: bool,
    /// Rows of one asker.
    pub rows_per_asker: usize,
    /// Standard deviation of what an asker's rows share, in quality points.
    pub asker_effect: f64,
}

/// The scenarios that coverage is claimed for.
pub const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "choice alone, all judged",
        rows: 2_000,
        label: 1.0,
        floor: 0.3,
        verdict: false,
        rows_per_asker: 1,
        asker_effect: 0.0,
    },
    Scenario {
        name: "choice and verdict, half judged",
        rows: 2_000,
        label: 0.5,
        floor: 0.3,
        verdict: true,
        rows_per_asker: 1,
        asker_effect: 0.0,
    },
    Scenario {
        name: "little exploration, a fifth judged",
        rows: 10_000,
        label: 0.2,
        floor: 0.1,
        verdict: true,
        rows_per_asker: 1,
        asker_effect: 0.0,
    },
    Scenario {
        name: "ten rows an asker, half judged",
        rows: 4_000,
        label: 0.5,
        floor: 0.3,
        verdict: true,
        rows_per_asker: 10,
        asker_effect: 0.7,
    },
];

/// Tables that everything is drawn from.
#[derive(Clone, Debug)]
pub struct World {
    scenario: Scenario,
    /// What is seen of a context.
    seen: Vec<[f64; 2]>,
    /// Probability of each signal, by context and arm.
    signals: Vec<[f64; SIGNALS]>,
    /// Probability of quality 5, by context, arm, signal and verdict.
    right: Vec<[[f64; VERDICTS]; SIGNALS]>,
    policies: [Tables; 2],
}

/// One policy.
#[derive(Clone, Debug)]
struct Tables {
    /// Probability of each arm, by context.
    arms: Vec<Vec<f64>>,
    /// Probability of each verdict, by signal.
    verdicts: [[f64; VERDICTS]; SIGNALS],
}

/// How often the intervals of many logs hold the truth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Coverage {
    /// The estimator.
    pub estimator: &'static str,
    /// Share of logs whose interval holds the truth.
    pub held: f64,
    /// Mean estimate less the truth.
    pub bias: f64,
    /// Root of the mean squared error.
    pub error: f64,
    /// Mean width of the interval.
    pub width: f64,
}

impl World {
    /// A world of a scenario; the same seed gives the same.
    pub fn new(scenario: Scenario, seed: u64) -> Self {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let seen: Vec<[f64; 2]> = (0..CONTEXTS).map(|_| [normal(rng), normal(rng)]).collect();
        let cells = CONTEXTS * ARMS;
        let mut signals = Vec::with_capacity(cells);
        let mut right = Vec::with_capacity(cells);
        for [one, other] in &seen {
            for arm in 0..ARMS {
                let of_signal: [f64; SIGNALS] = std::array::from_fn(|_| 0.2 + rng.random::<f64>());
                let sum: f64 = of_signal.iter().sum();
                signals.push(of_signal.map(|weight| weight / sum));
                // Bigger arms are better, hard contexts need them, and a part is left to chance.
                let hard = one * other;
                let base = 0.5 * arm as f64 - hard + 0.8 * normal(rng) - 1.0;
                right.push(std::array::from_fn(|signal| {
                    let answered = base + 0.9 * (signal as f64 - 1.0);
                    [sigmoid(answered), sigmoid(base + 1.0)]
                }));
            }
        }
        let policies = [scenario.floor, scenario.floor / 2.0].map(|floor| Tables {
            arms: (0..CONTEXTS).map(|_| spread(rng, floor)).collect(),
            verdicts: std::array::from_fn(|_| {
                let ask = 0.1 + 0.8 * rng.random::<f64>();
                [1.0 - ask, ask]
            }),
        });
        Self {
            scenario,
            seen,
            signals,
            right,
            policies,
        }
    }

    /// The candidate's value: a sum over everything that can happen.
    pub fn value(&self) -> f64 {
        let [_, candidate] = &self.policies;
        let mut value = 0.0;
        for context in 0..CONTEXTS {
            for arm in 0..ARMS {
                let cell = context * ARMS + arm;
                for signal in 0..SIGNALS {
                    let reached = candidate.arms[context][arm] * self.signals[cell][signal];
                    let right = self.right[cell][signal];
                    let verdicts = self.verdicts(candidate, signal).into_iter().zip(right);
                    let expected: f64 = verdicts.map(|(p, right)| p * (1.0 + 4.0 * right)).sum();
                    value += reached * expected / CONTEXTS as f64;
                }
            }
        }
        value
    }

    /// A log of the logged policy.
    pub fn log(&self, seed: u64) -> Vec<Trajectory> {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let Scenario {
            rows,
            rows_per_asker,
            asker_effect,
            ..
        } = self.scenario;
        let mut effect = 0.0;
        let mut log = Vec::with_capacity(rows);
        for row in 0..rows {
            if row % rows_per_asker == 0 {
                effect = asker_effect * normal(rng);
            }
            let mut trajectory = self.row(effect, rng);
            trajectory.id = row.to_string();
            trajectory.asker = (rows_per_asker > 1).then(|| (row / rows_per_asker).to_string());
            log.push(trajectory);
        }
        log
    }

    fn row(&self, effect: f64, rng: &mut ChaCha8Rng) -> Trajectory {
        let [logged, candidate] = &self.policies;
        let context = rng.random_range(0..CONTEXTS);
        let arm = drawn(&logged.arms[context], rng);
        let cell = context * ARMS + arm;
        let signal = drawn(&self.signals[cell], rng);
        let seen = self.seen[context];
        let mut steps = vec![Step {
            taken: arm,
            logged: logged.arms[context].clone(),
            candidate: candidate.arms[context].clone(),
            features: (0..ARMS).map(|arm| arm_features(seen, arm)).collect(),
        }];
        let verdicts = self.verdicts(logged, signal);
        let verdict = drawn(&verdicts, rng);
        if self.scenario.verdict {
            let features = |verdict| {
                let mut features = arm_features(seen, arm);
                features.extend([signal as f64, verdict as f64, (signal * verdict) as f64]);
                features
            };
            steps.push(Step {
                taken: verdict,
                logged: verdicts.to_vec(),
                candidate: self.verdicts(candidate, signal).to_vec(),
                features: (0..VERDICTS).map(features).collect(),
            });
        }
        let right = rng.random::<f64>() < self.right[cell][signal][verdict];
        let reward = if right { 5.0 } else { 1.0 } + effect;
        let judged = rng.random::<f64>() < self.scenario.label;
        Trajectory {
            steps,
            label: judged.then_some(Label {
                reward,
                propensity: self.scenario.label,
            }),
            ..Trajectory::default()
        }
    }

    fn verdicts(&self, policy: &Tables, signal: usize) -> [f64; VERDICTS] {
        if self.scenario.verdict {
            policy.verdicts[signal]
        } else {
            [1.0, 0.0]
        }
    }
}

/// Evaluates logs `first..last` of a world. A log that is refused has no interval and counts as one that does not hold
/// the truth.
pub fn replicates(
    world: &World,
    (first, last): (u64, u64),
    options: &Options,
) -> Vec<Result<Evaluation, Refusal>> {
    (first..last)
        .map(|seed| evaluate(&world.log(seed), options))
        .collect()
}

/// An estimator's name, and its interval in an evaluation.
type Estimator = (&'static str, fn(&Evaluation) -> Interval);

/// How often the intervals of these evaluations hold the world's truth.
pub fn coverage(world: &World, evaluations: &[Result<Evaluation, Refusal>]) -> Vec<Coverage> {
    let truth = world.value();
    let estimators: [Estimator; 4] = [
        ("inverse propensity", |of| of.inverse_propensity),
        ("self-normalised", |of| of.self_normalised),
        ("doubly robust", |of| of.doubly_robust),
        ("switch", |of| of.switch),
    ];
    let row = |(estimator, of): Estimator| {
        let intervals: Vec<Interval> = evaluations.iter().flatten().map(of).collect();
        let mean = |value: &dyn Fn(&Interval) -> f64| {
            intervals.iter().map(value).sum::<f64>() / intervals.len().max(1) as f64
        };
        let held = |at: &&Interval| at.low <= truth && truth <= at.high;
        Coverage {
            estimator,
            held: intervals.iter().filter(held).count() as f64 / evaluations.len().max(1) as f64,
            bias: mean(&|at| at.value - truth),
            error: mean(&|at| (at.value - truth).powi(2)).sqrt(),
            width: mean(&|at| at.high - at.low),
        }
    };
    estimators.into_iter().map(row).collect()
}

/// A constant, what is seen of the context, which arm: the model of rewards is linear in these, the truth is not.
fn arm_features(seen: [f64; 2], arm: usize) -> Vec<f64> {
    let one_hot = (1..ARMS).map(|other| f64::from(u8::from(other == arm)));
    [1.0, seen[0], seen[1]].into_iter().chain(one_hot).collect()
}

/// A policy that prefers one arm, spreads `floor` evenly and the rest by a random softmax.
fn spread(rng: &mut ChaCha8Rng, floor: f64) -> Vec<f64> {
    let weights: Vec<f64> = (0..ARMS).map(|_| (1.5 * normal(rng)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let share = |weight: f64| floor / ARMS as f64 + (1.0 - floor) * weight / sum;
    weights.into_iter().map(share).collect()
}

fn drawn(probabilities: &[f64], rng: &mut ChaCha8Rng) -> usize {
    crate::choose::drawn(probabilities, rng.random()).unwrap_or(0)
}

fn sigmoid(value: f64) -> f64 {
    1.0 / (1.0 + (-value).exp())
}
