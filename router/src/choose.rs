//! The first decision: which recall, model and context answer the request.
//!
//! Inputs and result of the choice, serialisable as they stand in a log row. A pure function of
//! its arguments: chance enters as `draw`. The second decision is [`crate::judge`].

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::router::{Router, State};

/// How much wider near ties are judged on a ladder the artifact was not trained on.
const COLD_START_WIDENING: f64 = 3.0;

/// What the choice needs besides the state: masks, the pools' measured model, the objective.
///
/// `permitted`, `latency_s` and `cost` have one entry per arm of the router's table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChoiceInputs {
    /// Privacy, availability, context fit and budget, per arm.
    pub permitted: Vec<bool>,
    /// Expected seconds of each arm.
    pub latency_s: Vec<f64>,
    /// Expected cost of each arm, in cost units.
    pub cost: Vec<f64>,
    /// Quality points one second is worth.
    pub per_second: f64,
    /// Quality points one cost unit is worth.
    pub per_cost_unit: f64,
    /// Share of requests spread evenly over the permitted arms; 0 turns exploration off.
    pub floor: f64,
    /// Arms whose utility is this close to the best share its probability.
    pub near_tie_margin: f64,
    /// A uniform number in [0, 1).
    pub draw: f64,
}

/// What was chosen, and with what probability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Choice {
    /// The arm to execute.
    pub arm: usize,
    /// The arm of highest utility; where that one is held back, the one instead of it.
    pub greedy: usize,
    /// The sampling class.
    pub sampling: usize,
    /// Expected quality of every arm, 1 to 5.
    pub qualities: Vec<f64>,
    /// Probability of every arm; sums to 1.
    pub probabilities: Vec<f64>,
    /// Probability of `arm`.
    pub propensity: f64,
    /// Whether `arm` is not the greedy one.
    pub explored: bool,
    /// Arms of the least capable model that the artifact's certificate holds back here ([`crate::guard`]); their
    /// probability went to the biggest permitted model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<usize>,
    /// The arm among them that would have been chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_back: Option<usize>,
}

/// Why no arm could be chosen.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ChooseError {
    /// Every arm is masked.
    #[error("choose an arm: none of the {arms} arms is permitted")]
    NothingPermitted {
        /// Arms of the table.
        arms: usize,
    },
    /// A list has another length than the arm table.
    #[error("choose an arm: {field} has {got} entries, the router has {arms} arms")]
    Length {
        /// Which list.
        field: &'static str,
        /// Its length.
        got: usize,
        /// Arms of the table.
        arms: usize,
    },
    /// A number is not finite or out of range.
    #[error("choose an arm: {field} is {value}, which is not usable as a number there")]
    Number {
        /// Which number.
        field: &'static str,
        /// Its value.
        value: f64,
    },
}

impl Router {
    /// Chooses an arm: utilities U = quality - `per_second` latency - `per_cost_unit` cost.
    ///
    /// The share `floor` is spread evenly over the permitted arms; the rest goes to the arm of
    /// highest utility and, in proportion to exp(U / tau), to those within `near_tie_margin` of it. With `floor` 0 the best
    /// arm is certain. What the artifact's certificate holds back goes to the biggest permitted model. `draw` selects by
    /// inverse distribution function in table order, so the same arguments give the same choice.
    pub fn choose(&self, state: &State, inputs: &ChoiceInputs) -> Result<Choice, ChooseError> {
        let arms = self.arms().arms.len();
        inputs.check(arms)?;
        let qualities: Vec<f64> = (0..arms).map(|arm| self.arm_quality(state, arm)).collect();
        let utilities: Vec<Option<f64>> = (0..arms)
            .map(|arm| inputs.permitted[arm].then(|| inputs.utility(arm, qualities[arm])))
            .collect();
        let greedy = best(&utilities).ok_or(ChooseError::NothingPermitted { arms })?;
        let widening = if self.cold_start() {
            COLD_START_WIDENING
        } else {
            1.0
        };
        let exploration = Exploration {
            floor: inputs.floor,
            near_tie_margin: inputs.near_tie_margin * widening,
            tau: self.artifact().manifest().tau,
        };
        let mut probabilities = exploration.probabilities(&utilities);
        let drawn = drawn(&probabilities, inputs.draw).unwrap_or(greedy);
        let certificate = self.artifact().manifest().certificate.as_ref();
        let held = certificate
            .and_then(|of| of.held(&self.arms().arms, &qualities, &utilities))
            .inspect(|held| held.move_probability(&mut probabilities));
        let allowed = |arm| match &held {
            Some(held) if held.holds(arm) => held.instead,
            _ => arm,
        };
        let (arm, greedy) = (allowed(drawn), allowed(greedy));
        Ok(Choice {
            arm,
            greedy,
            sampling: self.best_sampling(state),
            qualities,
            propensity: probabilities[arm],
            probabilities,
            explored: arm != greedy,
            held_back: (arm != drawn).then_some(drawn),
            held: held.map(|held| held.arms).unwrap_or_default(),
        })
    }
}

impl ChoiceInputs {
    fn check(&self, arms: usize) -> Result<(), ChooseError> {
        let lengths = [
            ("permitted", self.permitted.len()),
            ("latency_s", self.latency_s.len()),
            ("cost", self.cost.len()),
        ];
        if let Some(&(field, got)) = lengths.iter().find(|(_, got)| *got != arms) {
            return Err(ChooseError::Length { field, got, arms });
        }
        let numbers = [
            ("per_second", self.per_second),
            ("per_cost_unit", self.per_cost_unit),
            ("near_tie_margin", self.near_tie_margin),
        ];
        let usable = |&(_, value): &(&str, f64)| value.is_finite() && value >= 0.0;
        let permitted = |&(arm, _): &(usize, &f64)| self.permitted[arm];
        let latencies = self.latency_s.iter().enumerate().filter(permitted);
        let costs = self.cost.iter().enumerate().filter(permitted);
        let per_arm = latencies.map(|(_, value)| ("latency_s", *value));
        let per_arm = per_arm.chain(costs.map(|(_, value)| ("cost", *value)));
        let shares = [("floor", self.floor), ("draw", self.draw)];
        let not_a_share = shares
            .into_iter()
            .find(|(_, value)| !(0.0..=1.0).contains(value));
        let unusable = numbers
            .into_iter()
            .chain(per_arm)
            .find(|entry| !usable(entry));
        match unusable.or(not_a_share) {
            Some((field, value)) => Err(ChooseError::Number { field, value }),
            None => Ok(()),
        }
    }

    fn utility(&self, arm: usize, quality: f64) -> f64 {
        quality - self.per_second * self.latency_s[arm] - self.per_cost_unit * self.cost[arm]
    }
}

/// How probability is spread over actions whose utility is known.
pub(crate) struct Exploration {
    pub(crate) floor: f64,
    pub(crate) near_tie_margin: f64,
    pub(crate) tau: f64,
}

impl Exploration {
    /// Probabilities over actions; `None` marks one that is not permitted. Sums to 1 when any is.
    pub(crate) fn probabilities(&self, utilities: &[Option<f64>]) -> Vec<f64> {
        let Some(greedy) = best(utilities) else {
            return vec![0.0; utilities.len()];
        };
        let highest = utilities[greedy].unwrap_or_default();
        let permitted = utilities.iter().flatten().count();
        let floor = self.floor / permitted as f64;
        let margin = if floor > 0.0 {
            self.near_tie_margin
        } else {
            0.0
        };
        let weight = |(action, utility): (usize, &Option<f64>)| match utility {
            _ if action == greedy => 1.0,
            Some(utility) if margin > 0.0 && highest - utility <= margin => {
                ((utility - highest) / self.tau).exp()
            }
            _ => 0.0,
        };
        let weights: Vec<f64> = utilities.iter().enumerate().map(weight).collect();
        let total: f64 = weights.iter().sum();
        let left = 1.0 - self.floor;
        let share = |(weight, utility): (&f64, &Option<f64>)| match utility {
            Some(_) => floor + left * weight / total,
            None => 0.0,
        };
        weights.iter().zip(utilities).map(share).collect()
    }
}

/// The action of highest utility; the first of equals.
pub(crate) fn best(utilities: &[Option<f64>]) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (action, utility) in utilities.iter().enumerate() {
        if let Some(utility) = utility
            && best.is_none_or(|(_, highest)| *utility > highest)
        {
            best = Some((action, *utility));
        }
    }
    best.map(|(action, _)| action)
}

/// The action at `draw` of the distribution function; the last possible one when rounding leaves
/// the sum below it.
pub(crate) fn drawn(probabilities: &[f64], draw: f64) -> Option<usize> {
    let mut below = 0.0;
    for (action, probability) in probabilities.iter().enumerate() {
        below += probability;
        if draw < below {
            return Some(action);
        }
    }
    probabilities
        .iter()
        .rposition(|probability| *probability > 0.0)
}
