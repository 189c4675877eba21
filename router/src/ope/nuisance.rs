//! A model of rewards that no row was fitted on itself, and the terms that estimates are made of.
//!
//! With q(a) the model's prediction at a step, V the candidate's mean of it, rho the ratio of probabilities and e the
//! propensity of the label, going backwards from the reward r (Jiang, Li 2016, "Doubly robust off-policy value
//! evaluation for reinforcement learning", the label as one more step):
//!
//! ```text
//! v = q(taken) + [labelled] (r - q(taken)) / e          at the last step
//! v <- V + rho (v - q(taken))                           at each step, the last one first
//! ```
//!
//! The mean of v is the candidate's value whatever the model is, as long as the model does not know the row: it is
//! fitted on the other folds, by asker (Chernozhukov et al. 2018). The model of an earlier step predicts v of the next.

use super::estimators::Askers;
use super::{Step, Trajectory};
use crate::linear::{Ridge, RidgeSums};

/// Ridge penalty, in rows.
const PENALTY: f64 = 1.0;

/// Whose value is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    Logged,
    Candidate,
}

/// What one row says about a policy's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Terms {
    /// The model's prediction before the first step.
    pub(super) direct: f64,
    /// Weighted residuals that correct it.
    pub(super) correction: f64,
}

impl Terms {
    pub(super) fn robust(&self) -> f64 {
        self.direct + self.correction
    }
}

/// One model for each step.
pub(super) struct Model {
    steps: Vec<Ridge>,
}

/// The terms of every row, each from a model of the other folds.
pub(super) fn terms(
    log: &[Trajectory],
    askers: &Askers,
    folds: usize,
    policy: Policy,
) -> Vec<Terms> {
    let folds = folds.max(2);
    let fold_of = askers.folds(folds);
    let fold = |row: usize| fold_of[askers.of_row(row)];
    let models: Vec<Model> = (0..folds)
        .map(|left_out| {
            let rows = log.iter().enumerate();
            let others = rows.filter(|(row, _)| fold(*row) != left_out);
            Model::fit(&others.map(|(_, row)| row).collect::<Vec<_>>(), policy)
        })
        .collect();
    let rows = log.iter().enumerate();
    rows.map(|(row, trajectory)| models[fold(row)].terms(trajectory, policy))
        .collect()
}

impl Model {
    /// Fits the last step first.
    pub(super) fn fit(log: &[&Trajectory], policy: Policy) -> Self {
        let depth = log.iter().map(|row| row.steps.len()).max().unwrap_or(0);
        let mut model = Self {
            steps: vec![Ridge::default(); depth],
        };
        for at in (0..depth).rev() {
            let steps = || log.iter().filter_map(|row| Some((row, row.steps.get(at)?)));
            let width = steps()
                .map(|(_, step)| step.features[step.taken].len())
                .next();
            let mut sums = RidgeSums::new(width.unwrap_or(0));
            for (row, step) in steps() {
                let features = &step.features[step.taken];
                if at + 1 < row.steps.len() {
                    sums.add(features, model.from(row, at + 1, policy), 1.0);
                } else if let Some(label) = row.label {
                    sums.add(features, label.reward, 1.0 / label.propensity);
                }
            }
            model.steps[at] = sums.fit(PENALTY);
        }
        model
    }

    fn terms(&self, row: &Trajectory, policy: Policy) -> Terms {
        let direct = self.mean(&row.steps[0], 0, policy);
        Terms {
            direct,
            correction: self.from(row, 0, policy) - direct,
        }
    }

    /// v of a row from a step on.
    pub(super) fn from(&self, row: &Trajectory, at: usize, policy: Policy) -> f64 {
        let last = row.steps.len() - 1;
        let predicted = |at: usize| {
            let step = &row.steps[at];
            self.steps[at].at(&step.features[step.taken])
        };
        let mut value = predicted(last);
        if let Some(label) = row.label {
            value += (label.reward - value) / label.propensity;
        }
        for at in (at..=last).rev() {
            let step = &row.steps[at];
            let ratio = match policy {
                Policy::Logged => 1.0,
                Policy::Candidate => step.ratio(),
            };
            value = self.mean(step, at, policy) + ratio * (value - predicted(at));
        }
        value
    }

    fn mean(&self, step: &Step, at: usize, policy: Policy) -> f64 {
        let probabilities = match policy {
            Policy::Logged => &step.logged,
            Policy::Candidate => &step.candidate,
        };
        let actions = probabilities.iter().zip(&step.features);
        let possible = actions.filter(|(probability, _)| **probability > 0.0);
        possible
            .map(|(probability, features)| probability * self.steps[at].at(features))
            .sum()
    }
}
