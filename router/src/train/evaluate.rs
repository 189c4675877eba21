//! Hold-out numbers: what the router is worth on questions it was not trained on.
//!
//! Each fold trains a router on the other folds (choosing its own number of passes there) and
//! decides on its questions. A log has only some arms of a question, so every policy is valued by
//! the doubly robust estimate of [`super::sample`]; the oracle alone is the best observed arm,
//! which flatters it. Differences are paired by question. Where an interval holds zero the
//! finding is a tie and says so.

use serde::{Deserialize, Serialize};

use super::optimise::{folds, part};
use super::sample::{Dataset, Sample};
use super::worth::Valuer;
use super::{Episode, TrainError, TrainOptions, train_on, usable};
use crate::arms::{Arm, ArmTable};
use crate::{ChoiceInputs, Router, State, VerdictInputs};

mod bootstrap;
mod policies;

use bootstrap::Resamples;
use policies::{Fold, NAMES, Outcomes, ROUTED};

/// A value with its 95 % bootstrap interval, questions resampled.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// One policy on the held-out questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct System {
    /// `routed`, `random`, `best single`, ...
    pub name: String,
    /// Expected quality, 1 to 5.
    pub quality: Estimate,
    /// Expected seconds, second attempts included.
    pub latency_s: Estimate,
    /// Quality less seconds and cost at the objective's prices.
    pub utility: Estimate,
}

/// How often the router chose an arm on held-out questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteShare {
    /// The arm.
    pub arm: Arm,
    /// Its share of the questions.
    pub share: f64,
}

/// How a router did on held-out questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evaluation {
    /// Held-out questions, over all folds.
    pub questions: usize,
    /// Their observed outcomes.
    pub outcomes: usize,
    /// Folds.
    pub folds: usize,
    /// Every policy compared.
    pub systems: Vec<System>,
    /// Quality of always asking the biggest model with the largest context, less the router's.
    pub quality_regret: Estimate,
    /// Utility of the oracle over the observed arms, less the router's.
    pub utility_regret: Estimate,
    /// The router's utility less that of the arm that was best on the training folds.
    pub gain_over_best_single: Estimate,
    /// The router's utility less that of a uniformly random arm.
    pub gain_over_random: Estimate,
    /// Seconds of the fixed middle model with the largest vector context over the router's.
    pub speed_up: Estimate,
    /// Share of first attempts that the verdict asked again.
    pub second_attempts: f64,
    /// Where the requests went.
    pub routes: Vec<RouteShare>,
    /// The comparison with the best single arm in words.
    pub finding: String,
}

/// Cross-validated hold-out numbers of [`super::train`] on this log.
pub fn evaluate(
    episodes: &[Episode],
    table: &ArmTable,
    options: &TrainOptions,
) -> Result<Evaluation, TrainError> {
    let episodes = usable(episodes, table)?;
    // Folds of their own, so that they do not coincide with those inside each training run.
    let ids: Vec<&str> = episodes.iter().map(|e| e.question.as_str()).collect();
    let fold_of = folds(&ids, options.folds, options.seed ^ 0x00F0_1D50);
    let mut all = Outcomes::new(table);
    for fold in 0..options.folds.max(2) {
        let training = part(&episodes, &fold_of, (fold, false));
        let held_out = part(&episodes, &fold_of, (fold, true));
        let (artifact, _) = train_on(&training, table, options);
        let data = Dataset::new(&training, table, options);
        let samples = data.held_out(&held_out).samples;
        let router = Router::new(artifact).expect("a trained artifact has arms");
        let valuer = Valuer {
            arms: &data.arms,
            table,
            options,
        };
        let fold = Fold { router, valuer };
        for (episode, sample) in held_out.iter().zip(&samples) {
            fold.add(episode, sample, &mut all);
        }
    }
    let outcomes = episodes.iter().map(|episode| episode.outcomes.len()).sum();
    Ok(all.summarise(options, outcomes))
}

impl Outcomes {
    fn summarise(&self, options: &TrainOptions, outcomes: usize) -> Evaluation {
        let questions = self.values.len();
        let resamples = Resamples::new(questions, options.seed);
        let value = |question: usize, name: &str| self.values[question][policies::index(name)];
        let utility = |question: usize, name: &str| value(question, name).utility(options);
        let mean = |of: &dyn Fn(usize) -> f64| resamples.mean(of);
        let systems = NAMES.map(|name| System {
            name: name.to_owned(),
            quality: mean(&|question| value(question, name).quality),
            latency_s: mean(&|question| value(question, name).latency_s),
            utility: mean(&|question| utility(question, name)),
        });
        let gain = |name| mean(&|question| utility(question, ROUTED) - utility(question, name));
        let gain_over_best_single = gain("best single");
        let shares = self.routes.iter().filter(|(_, count)| *count > 0);
        let share = |count: usize| count as f64 / questions as f64;
        Evaluation {
            questions,
            outcomes,
            folds: options.folds.max(2),
            systems: systems.to_vec(),
            quality_regret: mean(&|question| {
                value(question, "always biggest").quality - value(question, ROUTED).quality
            }),
            utility_regret: mean(&|question| {
                utility(question, "oracle") - utility(question, ROUTED)
            }),
            gain_over_random: gain("random"),
            speed_up: resamples.ratio(
                &|question| value(question, "fixed mid").latency_s,
                &|question| value(question, ROUTED).latency_s,
            ),
            second_attempts: self.asked_again / self.first_attempts.max(1.0),
            routes: shares
                .map(|(arm, count)| RouteShare {
                    arm: *arm,
                    share: share(*count),
                })
                .collect(),
            finding: finding(&gain_over_best_single, questions),
            gain_over_best_single,
        }
    }
}

fn finding(gain: &Estimate, questions: usize) -> String {
    let Estimate { value, low, high } = gain;
    let word = if *low > 0.0 {
        "better than"
    } else if *high < 0.0 {
        "worse than"
    } else {
        "a tie with"
    };
    format!(
        "on {questions} held-out questions the router is {word} the best single arm: \
         utility {value:+.3}, 95 % interval {low:+.3} to {high:+.3}"
    )
}
