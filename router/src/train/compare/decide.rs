//! How a policy decides on one question, and what that is worth.

use super::Attributed;
use crate::train::Episode;
use crate::train::sample::{Sample, inverse_probability};
use crate::train::worth::{Valuer, Worth, largest_vector, observed};

/// What a policy has to say about one question.
pub(super) enum Decider {
    /// Every arm alike.
    Random,
    /// The best arm that was tried.
    Oracle,
    /// This arm, its answer accepted.
    Arm(usize),
    /// Expected qualities, from which arm and verdict follow at any price.
    Expect(Expectation),
}

/// Expected qualities on one question.
#[derive(Debug, Clone, Default)]
pub(super) struct Expectation {
    /// Of every arm, before any answer.
    pub(super) arms: Vec<f64>,
    /// After each outcome of the log; empty for a policy without verdict.
    pub(super) after: Vec<After>,
}

/// Expected qualities once an answer was read.
#[derive(Debug, Clone)]
pub(super) struct After {
    pub(super) answer: f64,
    pub(super) arms: Vec<f64>,
}

/// What was decided.
pub(super) struct Decided {
    pub(super) worth: Worth,
    pub(super) arm: Option<usize>,
    /// First tries of that arm in the log, by inverse probability, and those of them that were asked again.
    pub(super) first_tries: f64,
    pub(super) asked_again: f64,
}

/// Decides at a price of a second.
pub(super) fn decide(
    decider: &Decider,
    valuer: &Valuer<'_>,
    (episode, sample): (&Episode, &Sample),
    per_second: f64,
) -> Decided {
    let simple = |worth| Decided {
        worth,
        arm: None,
        first_tries: 0.0,
        asked_again: 0.0,
    };
    match decider {
        Decider::Random => simple(valuer.random(episode, sample)),
        Decider::Oracle => simple(valuer.oracle_at(episode, per_second)),
        Decider::Arm(arm) => Decided {
            arm: Some(*arm),
            ..simple(valuer.single(episode, sample, *arm))
        },
        Decider::Expect(expectation) => expectation.decide(valuer, (episode, sample), per_second),
    }
}

impl Expectation {
    /// As [`crate::choose`] and [`crate::judge`] do without exploration: the arm of highest utility, the first of
    /// equals; an answer is accepted unless a bigger model is worth more.
    fn decide(
        &self,
        valuer: &Valuer<'_>,
        (episode, sample): (&Episode, &Sample),
        per_second: f64,
    ) -> Decided {
        let price = |arm: usize| {
            per_second * valuer.arms.latency_s[arm]
                + valuer.options.per_cost_unit * valuer.arms.cost[arm]
        };
        let utility = |arm: usize| self.arms[arm].clamp(1.0, 5.0) - price(arm);
        let first_best = |best: usize, arm: usize| {
            if utility(arm) > utility(best) {
                arm
            } else {
                best
            }
        };
        let arm = (1..self.arms.len()).fold(0, first_best);
        let asks = |outcome: usize| -> Option<usize> {
            let after = self.after.get(outcome)?;
            let table = valuer.table;
            let mut best = (after.answer.clamp(1.0, 5.0), None);
            for rank in table.arms[arm].rank + 1..table.models {
                let again = table.with_rank(arm, rank)?;
                let worth = after.arms[again].clamp(1.0, 5.0) - price(again);
                if worth > best.0 {
                    best = (worth, Some(again));
                }
            }
            best.1
        };
        let (mut first_tries, mut asked_again) = (0.0, 0.0);
        let outcomes = episode.outcomes.iter().enumerate();
        let attempts: Vec<Worth> = outcomes
            .map(|(index, outcome)| {
                let first = observed(episode, index);
                if outcome.arm != arm {
                    return first;
                }
                let weight = inverse_probability(outcome);
                first_tries += weight;
                let Some(again) = asks(index) else {
                    return first;
                };
                asked_again += weight;
                first.asked_again(valuer.attempt(episode, sample, again))
            })
            .collect();
        Decided {
            worth: valuer.value((episode, sample), arm, &|index| attempts[index]),
            arm: Some(arm),
            first_tries,
            asked_again,
        }
    }
}

impl Valuer<'_> {
    /// Seconds on the way from the fixed middle model to an arm: its model first, then its context, then its recall.
    pub(super) fn attributed(&self, arm: usize) -> Attributed {
        let table = self.table;
        let seconds = |arm: usize| self.arms.latency_s[arm];
        let mid = largest_vector(table, table.models.saturating_sub(1) / 2);
        let chosen = table.arms[arm];
        let model = table.with_rank(mid, chosen.rank).unwrap_or(mid);
        // No recall has no context: then the step is the recall's.
        let recall = table.arms[model].recall;
        let context = table.find(recall, chosen.rank, chosen.context_tokens);
        Attributed {
            fixed_mid: seconds(mid),
            model: seconds(model),
            context: seconds(context.unwrap_or(model)),
            recall: seconds(arm),
        }
    }
}
