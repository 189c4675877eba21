//! Off-policy evaluation: what another policy would have been worth on decisions that were logged under this one.
//!
//! A [`Trajectory`] is one request as both policies saw it: for each decision (the choice, then perhaps the verdict) the
//! probabilities of the policy that was logged and of the candidate, what was taken, and what the result was worth if
//! somebody judged it. [`evaluate`] checks a log (`check.rs`: what cannot be estimated is refused, with the reason), fits
//! a model of the rewards on other rows (`nuisance.rs`) and gives four estimates with intervals (`estimators.rs`). A log
//! with known truth is in [`simulate`]. What a row of the gateway's log means as a trajectory is weir-lab's `ope.rs`.

mod check;
mod estimators;
mod nuisance;
pub mod simulate;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use check::{Diagnostics, Refusal};

/// One request as both policies saw it.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Trajectory {
    /// Names the decision; no two rows share one.
    pub id: String,
    /// Who asked. Rows of one asker are not independent of each other; without a name a row stands for itself.
    pub asker: Option<String>,
    /// Hash of the feature schema that the decision was made from.
    pub schema: String,
    /// The decisions, in order; each later one saw what came of those before it.
    pub steps: Vec<Step>,
    /// What it was worth; absent when nobody judged it.
    pub label: Option<Label>,
}

/// One decision of a trajectory.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Step {
    /// The action that was taken.
    pub taken: usize,
    /// Probability of each action under the policy that was logged.
    pub logged: Vec<f64>,
    /// Probability of each action under the candidate.
    pub candidate: Vec<f64>,
    /// What the reward is predicted from, a row for each action; the first entry of a row is 1. All trajectories have
    /// rows of one width at the same step.
    pub features: Vec<Vec<f64>>,
}

/// What a trajectory was worth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Label {
    /// The reward.
    pub reward: f64,
    /// Probability with which this trajectory was to be judged, known before it was.
    pub propensity: f64,
}

/// What an evaluation may vary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Probability that an interval holds the truth.
    pub confidence: f64,
    /// Folds by asker that the model of rewards is fitted on.
    pub folds: usize,
    /// Least effective number of rows.
    pub effective_min: f64,
    /// Largest share of the total that one weight may have.
    pub weight_share_max: f64,
    /// Largest share of the candidate's decisions that the log never took.
    pub unsupported_max: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            confidence: 0.95,
            folds: 5,
            effective_min: 100.0,
            weight_share_max: 0.05,
            unsupported_max: 0.01,
        }
    }
}

/// An estimate with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What a candidate is worth on a log.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Evaluation {
    /// Inverse propensity: rewards times weights. Unbiased.
    pub inverse_propensity: Interval,
    /// The same over the sum of weights: a bias that vanishes with the rows, less variance.
    pub self_normalised: Interval,
    /// A model's prediction corrected by weighted residuals, unbiased whatever the model.
    pub doubly_robust: Interval,
    /// Doubly robust where weights are small, the model alone beyond; the interval is widened by the largest bias that
    /// this can have.
    pub switch: Interval,
    /// The weight beyond which `switch` trusts the model.
    pub switch_at: f64,
    /// Doubly robust value of the policy that was logged.
    pub logged: Interval,
    /// Doubly robust value of the candidate less that of the logged policy, row by row.
    pub gain: Interval,
    /// How much the log says about the candidate.
    pub diagnostics: Diagnostics,
}

/// What a candidate is worth on a log, or why the log cannot say.
pub fn evaluate(log: &[Trajectory], options: &Options) -> Result<Evaluation, Refusal> {
    let diagnostics = check::check(log, options)?;
    let askers = estimators::Askers::of(log);
    let candidate = nuisance::terms(log, &askers, options.folds, nuisance::Policy::Candidate);
    let logged = nuisance::terms(log, &askers, options.folds, nuisance::Policy::Logged);
    let interval = |influence: &[f64]| askers.interval(influence, options.confidence);
    let (switch, switch_at) = estimators::switch(log, &candidate, &askers, options.confidence);
    let robust: Vec<f64> = candidate.iter().map(nuisance::Terms::robust).collect();
    let own: Vec<f64> = logged.iter().map(nuisance::Terms::robust).collect();
    let gain: Vec<f64> = robust
        .iter()
        .zip(&own)
        .map(|(new, old)| new - old)
        .collect();
    Ok(Evaluation {
        inverse_propensity: interval(&estimators::inverse_propensity(log)),
        self_normalised: interval(&estimators::self_normalised(log)),
        doubly_robust: interval(&robust),
        switch,
        switch_at,
        logged: interval(&own),
        gain: interval(&gain),
        diagnostics,
    })
}

impl Trajectory {
    /// Candidate over logged probability of what was taken, all decisions together.
    pub fn ratio(&self) -> f64 {
        self.steps.iter().map(Step::ratio).product()
    }

    /// The weight of its reward: the ratio over the propensity of the label, 0 where nobody judged.
    pub fn weight(&self) -> f64 {
        self.label
            .map_or(0.0, |label| self.ratio() / label.propensity)
    }
}

impl Step {
    /// Candidate over logged probability of the action taken.
    pub fn ratio(&self) -> f64 {
        self.candidate[self.taken] / self.logged[self.taken]
    }
}
