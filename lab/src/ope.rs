//! `weir router ope`: what another artifact would have been worth on the decisions of a gateway's log.
//!
//! Here a row of the log becomes a trajectory of `weir_router::ope`, which does the estimating: the candidate decides again
//! from the row's own features, masks, forecasts and prices. What no router decided is left out and counted: pinned models,
//! guardrails, answers that were kept from an earlier request, requests that failed before a decision, and clients that went
//! away or asked for what cannot be. A failover counts for the arm that was chosen; a request that failed behind the gateway
//! is worth the lowest score, which needs no judge.

use crate::decision_log::{
    DecisionLog, DecisionLogError, LabelSource, WORST, ended_by_client, worth,
};
use serde::Serialize;
use std::collections::HashMap;
use weir_gateway::record::{ChoiceRow, Record, VerdictRow};
use weir_router::ope::{Evaluation, Label, Options, Refusal, Step, Trajectory, evaluate};
use weir_router::{Arm, ChooseError, JudgeError, RecallMode, Router, State};

/// How far the log's propensity may be from the product of its probabilities.
const PROPENSITY_ERROR: f64 = 1e-9;

/// What is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Reward {
    /// The label's score, 1 to 5.
    Quality,
    /// The score less measured seconds and cost at the row's own prices.
    Utility,
}

/// Rows that say nothing about a router.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Excluded {
    /// The client named the model.
    pub pinned: usize,
    /// A guardrail chose.
    pub guardrail: usize,
    /// An earlier request's answer was given.
    pub cached: usize,
    /// It failed before a decision.
    pub undecided: usize,
    /// The client went away, or asked for what cannot be.
    pub client: usize,
}

/// A log as trajectories.
#[derive(Debug)]
pub struct Sample {
    /// One a decision.
    pub trajectories: Vec<Trajectory>,
    /// The rest.
    pub excluded: Excluded,
}

/// What a log says about a candidate.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Digest of the candidate.
    pub candidate: String,
    /// What is estimated.
    pub reward: Reward,
    /// The estimates.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// Rows that were left out.
    pub excluded: Excluded,
}

/// Why a log says nothing about a candidate.
#[derive(Debug, thiserror::Error)]
pub enum OpeError {
    /// The log or its labels cannot be read.
    #[error(transparent)]
    Log(#[from] DecisionLogError),
    /// What can be read does not suffice.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A row that this candidate cannot decide, or that contradicts itself.
    #[error("evaluate off-policy: decision {id}: {what}")]
    Row {
        /// The decision.
        id: String,
        /// What does not fit.
        what: String,
    },
    /// The candidate cannot choose there.
    #[error("evaluate off-policy: decision {id}: the candidate cannot choose")]
    Choose {
        /// The decision.
        id: String,
        /// Why.
        source: ChooseError,
    },
    /// The candidate cannot judge there.
    #[error("evaluate off-policy: decision {id}: the candidate cannot judge the answer")]
    Judge {
        /// The decision.
        id: String,
        /// Why.
        source: JudgeError,
    },
}

/// Evaluates a candidate on a log.
pub fn ope(
    log: &DecisionLog,
    labels: Option<&LabelSource>,
    candidate: &Router,
    (reward, options): (Reward, &Options),
) -> Result<Report, OpeError> {
    let labels = log.labels(labels)?;
    let sample = sample(&log.decisions, &labels, candidate, reward)?;
    Ok(Report {
        candidate: candidate.artifact().sha256().to_owned(),
        reward,
        evaluation: evaluate(&sample.trajectories, options)?,
        excluded: sample.excluded,
    })
}

/// The rows of a log as the candidate would have decided them.
pub fn sample(
    decisions: &[Record],
    labels: &HashMap<String, Label>,
    candidate: &Router,
    reward: Reward,
) -> Result<Sample, OpeError> {
    let mut excluded = Excluded::default();
    let mut trajectories = Vec::new();
    for row in decisions {
        let Some(choice) = &row.choice else {
            match row.executed {
                Some(_) => excluded.pinned += 1,
                None => excluded.undecided += 1,
            }
            continue;
        };
        if row.guardrail.is_some() {
            excluded.guardrail += 1;
        } else if row.is_cached() {
            excluded.cached += 1;
        } else if ended_by_client(row) {
            excluded.client += 1;
        } else {
            let label = worth(row, labels.get(&row.decision_id).copied());
            let label = label.map(|label| reward.of(row, choice, label));
            trajectories.push(trajectory(row, choice, candidate, label)?);
        }
    }
    Ok(Sample {
        trajectories,
        excluded,
    })
}

impl Reward {
    fn of(self, row: &Record, choice: &ChoiceRow, label: Label) -> Label {
        let inputs = &choice.inputs;
        let price = inputs.per_second * row.latency_ms.llm / 1e3 + inputs.per_cost_unit * row.cost;
        let reward = match self {
            Self::Quality => label.reward,
            Self::Utility => label.reward - price,
        };
        Label { reward, ..label }
    }
}

fn trajectory(
    row: &Record,
    choice: &ChoiceRow,
    candidate: &Router,
    label: Option<Label>,
) -> Result<Trajectory, OpeError> {
    let router = bound(row, choice, candidate)?;
    let mut state = router.start();
    for features in &row.features {
        router.observe(&mut state, features);
    }
    let mut steps = vec![choice_step(row, choice, &router, &state)?];
    if let Some(verdict) = &row.verdict {
        router.observe(&mut state, &verdict.features);
        steps.push(verdict_step(row, verdict, &router, &state)?);
    }
    check_propensity(row, &steps)?;
    Ok(Trajectory {
        id: row.decision_id.clone(),
        asker: asker(row),
        schema: row.router.schema_hash.clone(),
        steps,
        label,
    })
}

/// The candidate on the row's ladder, if it reads the same features and has the same arms.
pub(crate) fn bound(
    row: &Record,
    choice: &ChoiceRow,
    candidate: &Router,
) -> Result<Router, OpeError> {
    let wrong = |what: String| OpeError::Row {
        id: row.decision_id.clone(),
        what,
    };
    let schema = &candidate.artifact().manifest().schema_hash;
    if *schema != row.router.schema_hash {
        let short = |hash: &str| hash.chars().take(12).collect::<String>();
        return Err(wrong(format!(
            "it was made from features of schema {}, the candidate reads {}",
            short(&row.router.schema_hash),
            short(schema)
        )));
    }
    let router = candidate.bind(row.router.models);
    let taken = choice.outcome.arm;
    let arms = &router.arms().arms;
    let same = |arm: &Arm| {
        let chosen = choice.chosen.as_ref();
        chosen
            .is_none_or(|row| arm.recall == row.recall && arm.context_tokens == row.context_tokens)
    };
    if arms.len() != choice.outcome.probabilities.len() || !arms.get(taken).is_some_and(same) {
        return Err(wrong(format!(
            "it chose arm {taken} of {}, the candidate has {} arms and another one there",
            choice.outcome.probabilities.len(),
            arms.len()
        )));
    }
    Ok(router)
}

fn choice_step(
    row: &Record,
    choice: &ChoiceRow,
    router: &Router,
    state: &State,
) -> Result<Step, OpeError> {
    let again = router
        .choose(state, &choice.inputs)
        .map_err(|source| OpeError::Choose {
            id: row.decision_id.clone(),
            source,
        })?;
    let table = router.arms();
    let inputs = &choice.inputs;
    let features = |(index, arm): (usize, &Arm)| {
        let price = if inputs.permitted[index] {
            inputs.per_second * inputs.latency_s[index] + inputs.per_cost_unit * inputs.cost[index]
        } else {
            0.0
        };
        let recalls = |mode| f64::from(u8::from(arm.recall == mode));
        vec![
            1.0,
            choice
                .outcome
                .qualities
                .get(index)
                .copied()
                .unwrap_or(WORST),
            again.qualities[index],
            arm.rank as f64 / (table.models.max(2) - 1) as f64,
            recalls(RecallMode::Vector),
            recalls(RecallMode::Graph),
            f64::from(arm.context_tokens).ln_1p(),
            price,
        ]
    };
    Ok(Step {
        taken: choice.outcome.arm,
        logged: choice.outcome.probabilities.clone(),
        candidate: again.probabilities,
        features: table.arms.iter().enumerate().map(features).collect(),
    })
}

fn verdict_step(
    row: &Record,
    verdict: &VerdictRow,
    router: &Router,
    state: &State,
) -> Result<Step, OpeError> {
    let again = router
        .judge(state, &verdict.inputs)
        .map_err(|source| OpeError::Judge {
            id: row.decision_id.clone(),
            source,
        })?;
    let logged = &verdict.outcome;
    // Action 0 accepts, action r + 1 asks rank r.
    let features = |(action, expected): (usize, &f64)| {
        let asks = f64::from(u8::from(action > 0));
        let own = logged.expected.get(action).copied().unwrap_or(WORST);
        vec![1.0, own, *expected, asks, asks * logged.quality]
    };
    Ok(Step {
        taken: logged.ask.map_or(0, |rank| rank + 1),
        logged: logged.probabilities.clone(),
        candidate: again.probabilities,
        features: again.expected.iter().enumerate().map(features).collect(),
    })
}

fn check_propensity(row: &Record, steps: &[Step]) -> Result<(), OpeError> {
    let product: f64 = steps
        .iter()
        .map(|step| step.logged.get(step.taken).copied().unwrap_or(0.0))
        .product();
    let what = match row.propensity {
        None => "it has no propensity".to_owned(),
        Some(propensity) if (propensity - product).abs() > PROPENSITY_ERROR => {
            format!("its propensity is {propensity}, its probabilities say {product}")
        }
        Some(_) => return Ok(()),
    };
    Err(OpeError::Row {
        id: row.decision_id.clone(),
        what,
    })
}

/// Who asked: the user, else the conversation.
pub(crate) fn asker(row: &Record) -> Option<String> {
    let session = row.session.as_ref();
    let session = session.map(|session| format!("{}:{session}", row.tenant));
    row.user.clone().or(session)
}

#[cfg(test)]
mod tests;
