//! The second decision: accept the answer in hand, or ask a bigger model.
//!
//! The first try is sunk: its seconds and cost are charged whatever is decided, so they cancel.
//! The first decision is [`crate::choose`].

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::choose::{Exploration, best, drawn};
use crate::router::{Router, State};

/// What the verdict needs besides the state after the answer step.
///
/// `permitted`, `latency_s` and `cost` have one entry per rank of the ladder; ranks up to `rank`
/// are never asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerdictInputs {
    /// The rank that produced the answer in hand.
    pub rank: usize,
    /// Which ranks may be asked.
    pub permitted: Vec<bool>,
    /// Expected seconds of a second attempt at each rank.
    pub latency_s: Vec<f64>,
    /// Expected cost of a second attempt at each rank.
    pub cost: Vec<f64>,
    /// Quality points one second is worth.
    pub per_second: f64,
    /// Quality points one cost unit is worth.
    pub per_cost_unit: f64,
    /// Share of verdicts spread evenly over the permitted actions; 0 turns exploration off.
    pub floor: f64,
    /// A uniform number in [0, 1).
    pub draw: f64,
    /// The arm that answered: a second attempt keeps its recall and context.
    pub arm: usize,
}

/// Accept or ask again, and with what probability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// The rank to ask; `None` accepts.
    pub ask: Option<usize>,
    /// Expected quality of the answer in hand, 1 to 5.
    pub quality: f64,
    /// Expected utility of accepting, then of asking each rank.
    pub expected: Vec<f64>,
    /// Probability of accepting, then of asking each rank; sums to 1.
    pub probabilities: Vec<f64>,
    /// Probability of what was decided.
    pub propensity: f64,
    /// Whether this is not the action of highest utility.
    pub explored: bool,
}

/// Why no verdict could be reached.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum JudgeError {
    /// A list has another length than the ladder.
    #[error("judge an answer: {field} has {got} entries, the ladder has {models} models")]
    Length {
        /// Which list.
        field: &'static str,
        /// Its length.
        got: usize,
        /// Models of the ladder.
        models: usize,
    },
    /// The arm that answered is not in the table.
    #[error("judge an answer: arm {arm} does not exist, the router has {arms} arms")]
    Arm {
        /// The arm named.
        arm: usize,
        /// Arms of the table.
        arms: usize,
    },
    /// A number is not finite or out of range.
    #[error("judge an answer: {field} is {value}, which is not usable as a number there")]
    Number {
        /// Which number.
        field: &'static str,
        /// Its value.
        value: f64,
    },
}

impl Router {
    /// Accepts the answer in hand or asks a bigger model, from the state after the answer step.
    ///
    /// Accepting is worth the expected quality of the answer in hand. Asking a rank is worth the
    /// expected quality of the arm with the same recall and context at that rank, given what the
    /// answer has shown, less the seconds and cost of the second attempt.
    pub fn judge(&self, state: &State, inputs: &VerdictInputs) -> Result<Verdict, JudgeError> {
        let table = self.arms();
        inputs.check(table.models, table.arms.len())?;
        let quality = self.answer_quality(state);
        let mut expected = vec![quality];
        let mut utilities = vec![Some(quality)];
        for rank in 0..table.models {
            let arm = table.with_rank(inputs.arm, rank).unwrap_or(inputs.arm);
            let asked = inputs.may_ask(rank);
            // A masked rank may have no measured latency; its own price is left out then.
            let price = if asked { inputs.price(rank) } else { 0.0 };
            let utility = self.arm_quality(state, arm) - price;
            expected.push(utility);
            utilities.push(asked.then_some(utility));
        }
        let tau = self.artifact().manifest().tau;
        let exploration = Exploration {
            floor: inputs.floor,
            near_tie_margin: 0.0,
            tau,
        };
        let probabilities = exploration.probabilities(&utilities);
        let greedy = best(&utilities).unwrap_or(0);
        let action = drawn(&probabilities, inputs.draw).unwrap_or(greedy);
        Ok(Verdict {
            ask: action.checked_sub(1),
            quality,
            expected,
            propensity: probabilities[action],
            probabilities,
            explored: action != greedy,
        })
    }
}

impl VerdictInputs {
    fn check(&self, models: usize, arms: usize) -> Result<(), JudgeError> {
        let lengths = [
            ("permitted", self.permitted.len()),
            ("latency_s", self.latency_s.len()),
            ("cost", self.cost.len()),
        ];
        if let Some(&(field, got)) = lengths.iter().find(|(_, got)| *got != models) {
            return Err(JudgeError::Length { field, got, models });
        }
        if self.arm >= arms {
            return Err(JudgeError::Arm {
                arm: self.arm,
                arms,
            });
        }
        let asked = || (0..models).filter(|rank| self.may_ask(*rank));
        let numbers = [
            ("per_second", self.per_second),
            ("per_cost_unit", self.per_cost_unit),
        ];
        let numbers = numbers.into_iter();
        let numbers = numbers.chain(asked().map(|rank| ("latency_s", self.latency_s[rank])));
        let mut numbers = numbers.chain(asked().map(|rank| ("cost", self.cost[rank])));
        let unusable = numbers.find(|(_, value)| !(value.is_finite() && *value >= 0.0));
        let shares = [("floor", self.floor), ("draw", self.draw)];
        let not_a_share = shares
            .into_iter()
            .find(|(_, value)| !(0.0..=1.0).contains(value));
        match unusable.or(not_a_share) {
            Some((field, value)) => Err(JudgeError::Number { field, value }),
            None => Ok(()),
        }
    }

    fn may_ask(&self, rank: usize) -> bool {
        rank > self.rank && self.permitted[rank]
    }

    fn price(&self, rank: usize) -> f64 {
        self.per_second * self.latency_s[rank] + self.per_cost_unit * self.cost[rank]
    }
}
