//! `weir router gate`: what the gate says of a rollout when its answers are judged.
//!
//! The rows that a rollout wrote hold both versions' decisions and the one that was dispatched; with labels for those that
//! were decided differently they are the evidence of `weir_router::gate`. A reference decides again from the row. The two
//! versions are compared by their choices: where these agree, a difference of verdicts is not seen.

use crate::decision_log::{DecisionLog, DecisionLogError, LabelSource, ended_by_client, worth};
use crate::ope::{OpeError, bound};
use serde::Serialize;
use std::time::Duration;
use weir_gateway::comparison::Comparison;
use weir_gateway::evidence::Role;
use weir_gateway::record::{ChoiceRow, Record, RolloutRow, is_fault};
use weir_router::Router;
use weir_router::gate::evidence::RolloutEvidence;
use weir_router::gate::regret::{Bounds, Compared, Learner, RegretEvidence};
use weir_router::gate::{Action, Evidence, Policy, next};
use weir_router::ope::Label;

/// Standard errors by which labels may stand for another number of disagreements than there are.
const LABELS_ERRORS: f64 = 4.0;

/// What the gate says.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The rollout.
    pub rollout: String,
    /// Where it would stand.
    pub phase: String,
    /// Why, in a word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// Requests that both versions decided.
    pub decided: u64,
    /// Of them, those that were decided differently.
    pub disagreements: u64,
    /// Of these, those that were dispatched by chance and judged.
    pub labelled: u64,
    /// The regret against the active version.
    pub regret: Option<Bounds>,
    /// The regret against the reference.
    pub reference_regret: Option<Bounds>,
}

/// Why the gate says nothing.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The log or its labels cannot be read.
    #[error(transparent)]
    Log(#[from] DecisionLogError),
    /// A row that does not fit the reference.
    #[error(transparent)]
    Row(#[from] OpeError),
    /// No rollout, or several.
    #[error("the log has {found}; name the rollout with --rollout")]
    Rollout {
        /// What there is.
        found: String,
    },
    /// Labels that were not drawn from all disagreements.
    #[error(
        "by their propensities the labels stand for {stand_for:.0} disagreements, the rollout has {disagreements} that \
         a judge could have seen; judge all of them, or give the probability with which each was picked"
    )]
    Labels {
        /// Sum of inverse propensities.
        stand_for: f64,
        /// Disagreements that were dispatched by chance.
        disagreements: usize,
    },
    /// The log's last weight is no step of the policy.
    #[error(
        "the rollout stands at {weight} % of users, which is none of the steps {steps:?}; give --steps as it has them"
    )]
    Steps {
        /// The weight.
        weight: u32,
        /// The steps.
        steps: Vec<u32>,
    },
}

/// What is asked.
#[derive(Debug)]
pub struct Question<'a> {
    /// The rollout; the only one of the log without a name.
    pub rollout: Option<&'a str>,
    /// Where labels come from.
    pub labels: Option<&'a LabelSource>,
    /// What the regret is measured against besides the active version.
    pub reference: Option<&'a Router>,
    /// The rollout's demands.
    pub policy: &'a Policy,
}

/// Both versions' decisions of a row.
struct Both<'a> {
    row: &'a Record,
    rollout: &'a RolloutRow,
    own: &'a ChoiceRow,
    shadow: Option<&'a ChoiceRow>,
    label: Option<Label>,
}

/// What the gate says of a rollout in a log.
pub fn gate(log: &DecisionLog, question: &Question<'_>) -> Result<Report, GateError> {
    let name = rollout_name(log, question.rollout)?;
    let labels = log.labels(question.labels)?;
    let rows: Vec<Both<'_>> = log
        .decisions
        .iter()
        .filter_map(|row| Both::of(row, &name, labels.get(&row.decision_id).copied()))
        .collect();
    let policy = question.policy;
    let step = step(&rows, policy)?;
    check_labels(&rows, question.reference.is_some())?;
    let now = Duration::from_secs(1);
    let mut evidence = Evidence {
        sums: sums(&rows, policy.weight(step)),
        regret: vec![against_active(&rows)],
        heard: Some(now),
        listening: now,
        began: now,
    };
    if let Some(reference) = question.reference {
        evidence.regret.push(against_reference(&rows, reference)?);
    }
    let decision = next(step, policy, &evidence, Action::Continue, now);
    let bounds = policy.bounds(&evidence.regret);
    Ok(Report {
        rollout: name,
        phase: format!("{:?}", decision.phase),
        reason: decision.reason.as_str().to_owned(),
        message: decision.message,
        decided: evidence.sums.shadowed,
        disagreements: evidence.sums.disagreements,
        labelled: evidence.regret[0].labelled,
        regret: bounds.first().copied(),
        reference_regret: bounds.get(1).copied(),
    })
}

fn rollout_name(log: &DecisionLog, asked: Option<&str>) -> Result<String, GateError> {
    let rows = log.decisions.iter().filter_map(|row| row.rollout.as_ref());
    let mut names: Vec<&str> = rows.map(|rollout| rollout.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let found = match (asked, names.as_slice()) {
        (Some(asked), names) if names.contains(&asked) => return Ok(asked.to_owned()),
        (None, [only]) => return Ok((*only).to_owned()),
        (_, []) => "no rows of a rollout".to_owned(),
        (_, names) => format!("rows of {}", names.join(", ")),
    };
    Err(GateError::Rollout { found })
}

impl<'a> Both<'a> {
    /// A row of this rollout whose two decisions are the routers' own, and whose answer is for this request.
    fn of(row: &'a Record, rollout: &str, label: Option<Label>) -> Option<Self> {
        let of = row.rollout.as_ref().filter(|of| of.name == rollout)?;
        let decided = row.guardrail.is_none() && !row.is_cached();
        let own = row.choice.as_ref().filter(|_| decided)?;
        Some(Self {
            row,
            rollout: of,
            own,
            shadow: of.shadow.choice.as_ref(),
            label: worth(row, label),
        })
    }

    /// The active version's decision, then the candidate's.
    fn choices(&self) -> Option<[&'a ChoiceRow; 2]> {
        let shadow = self.shadow?;
        Some(match self.rollout.dispatched {
            Role::Active => [self.own, shadow],
            Role::Candidate => [shadow, self.own],
        })
    }

    /// Whether a judge of this answer says which version is better.
    fn is_evidence(&self) -> bool {
        self.rollout.weight > 0 && !ended_by_client(self.row) && self.shadow.is_some()
    }
}

/// The step that the last row was written in.
fn step(rows: &[Both<'_>], policy: &Policy) -> Result<usize, GateError> {
    let weight = rows.last().map_or(0, |row| row.rollout.weight);
    let steps = &policy.steps;
    let of = (0..=steps.len()).find(|step| policy.weight(*step) == weight);
    of.ok_or_else(|| GateError::Steps {
        weight,
        steps: steps.clone(),
    })
}

/// Requests, errors and latencies at this weight.
fn sums(rows: &[Both<'_>], weight: u32) -> RolloutEvidence {
    let mut sums = RolloutEvidence::default();
    for both in rows {
        sums.shadowed += 1;
        sums.disagreements += u64::from(!both.rollout.shadow.agrees);
        if both.rollout.weight != weight || weight == 0 {
            continue;
        }
        let version = match both.rollout.dispatched {
            Role::Active => &mut sums.active,
            Role::Candidate => &mut sums.candidate,
        };
        version.requests += 1;
        let error = both.row.outcome.error.as_deref();
        version.errors += u64::from(error.is_some_and(is_fault));
        version.latency.record(both.row.latency_ms.total);
    }
    sums
}

/// The labels of disagreements must stand for all of them. With a reference every row with a label is evidence.
fn check_labels(rows: &[Both<'_>], with_reference: bool) -> Result<(), GateError> {
    let seen =
        |both: &&Both<'_>| both.is_evidence() && (with_reference || !both.rollout.shadow.agrees);
    let disagreements = rows.iter().filter(seen).count();
    let labels = || rows.iter().filter(seen).filter_map(|both| both.label);
    let stand_for: f64 = labels().map(|label| 1.0 / label.propensity).sum();
    let variance: f64 = labels()
        .map(|label| (1.0 - label.propensity) / label.propensity.powi(2))
        .sum();
    let heaviest = labels()
        .map(|label| 1.0 / label.propensity - 1.0)
        .fold(0.0, f64::max);
    let allowed = LABELS_ERRORS * variance.sqrt() + heaviest + 1e-9;
    // Nothing judged is nothing known yet; the gate says so itself.
    if labels().next().is_none() || (stand_for - disagreements as f64).abs() <= allowed {
        return Ok(());
    }
    Err(GateError::Labels {
        stand_for,
        disagreements,
    })
}

/// Rows of a canary in the order in which they were decided.
fn against_active(rows: &[Both<'_>]) -> RegretEvidence {
    let (mut evidence, mut learner) = (RegretEvidence::default(), Learner::default());
    for both in rows {
        if let Some(comparison) = Comparison::of(both.row) {
            evidence.observe(&comparison.compared(both.label), &mut learner);
        }
    }
    evidence
}

/// What the reference would do that neither version did is known through their exploration.
fn against_reference(rows: &[Both<'_>], reference: &Router) -> Result<RegretEvidence, GateError> {
    let (mut evidence, mut learner) = (RegretEvidence::default(), Learner::default());
    for both in rows.iter().filter(|both| both.is_evidence()) {
        let Some([active, candidate]) = both.choices() else {
            continue;
        };
        let router = bound(both.row, both.own, reference)?;
        let mut state = router.start();
        for features in &both.row.features {
            router.observe(&mut state, features);
        }
        let again = router.choose(&state, &both.own.inputs);
        let again = again.map_err(|source| OpeError::Choose {
            id: both.row.decision_id.clone(),
            source,
        })?;
        let row = Compared {
            bucket: both.rollout.bucket,
            weight: both.rollout.weight,
            dispatched: both.own.outcome.arm,
            active: &active.outcome.probabilities,
            candidate: &candidate.outcome.probabilities,
            baseline: &again.probabilities,
            expected: &active.outcome.qualities,
            label: both.label,
        };
        evidence.observe(&row, &mut learner);
    }
    Ok(evidence)
}

#[cfg(test)]
mod tests;
