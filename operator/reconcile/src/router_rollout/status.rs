//! The status of an attempt: where the gate put it, and the numbers for people.

use super::evidence::{self, p99, total};
use k8s_openapi::jiff::Timestamp;
use weir_crds::{
    Condition, RegretStatus, RolloutEvidenceStatus, RolloutLedger, RolloutPhase, RouterRolloutSpec,
    RouterRolloutStatus, Time, VersionEvidenceStatus,
};
use weir_router::gate::evidence::{RolloutEvidence, VersionEvidence};
use weir_router::gate::regret::RegretEvidence;
use weir_router::gate::{DISAGREEMENTS_MIN, Decision, Phase, Policy};

/// What the gate decided, over what was known before.
pub(super) fn decided(
    before: &RouterRolloutStatus,
    decision: &Decision,
    (generation, now): (Option<i64>, Timestamp),
) -> RouterRolloutStatus {
    let is_active = decision.phase == Phase::Active;
    let ready = Condition {
        type_: "Ready".to_owned(),
        status: if is_active { "True" } else { "False" }.to_owned(),
        reason: decision.reason.as_str().to_owned(),
        message: decision.message.clone(),
        observed_generation: generation,
        last_transition_time: Time(now),
    };
    let kept = before
        .conditions
        .iter()
        .find(|one| one.status == ready.status);
    let last_transition_time = kept.map_or_else(
        || ready.last_transition_time.clone(),
        |one| one.last_transition_time.clone(),
    );
    RouterRolloutStatus {
        phase: Some(phase(decision.phase)),
        step: u32::try_from(decision.step).unwrap_or(u32::MAX),
        weight: decision.weight,
        reason: decision.reason.as_str().to_owned(),
        message: decision.message.clone(),
        evidence: RolloutEvidenceStatus {
            regret: before.evidence.regret.clone(),
            ..evidence_status(&before.ledger)
        },
        ended_at: decision.phase.ended().then_some(Time(now)),
        conditions: vec![Condition {
            last_transition_time,
            ..ready
        }],
        ..before.clone()
    }
}

/// Requests of the step, and labels since the attempt began where some are asked for.
pub(super) fn progress(
    spec: &RouterRolloutSpec,
    decision: &Decision,
    (sums, labels): (&RolloutEvidence, Option<u64>),
) -> String {
    if decision.step == 0 {
        return format!("{}/{} decided by both", sums.shadowed, spec.shadow.requests);
    }
    let labels = labels.map_or_else(String::new, |labels| format!(", {labels} labels"));
    format!(
        "step {}/{}: {}/{} requests, {} errors{labels}",
        decision.step,
        spec.canary.steps.len(),
        sums.candidate.requests,
        spec.canary.requests_per_step,
        sums.candidate.errors
    )
}

fn evidence_status(ledger: &RolloutLedger) -> RolloutEvidenceStatus {
    let sums = evidence::read(&total(ledger));
    let version = |of: &VersionEvidence| VersionEvidenceStatus {
        requests: of.requests,
        errors: of.errors,
        p99_milliseconds: p99(of),
    };
    RolloutEvidenceStatus {
        active: version(&sums.active),
        candidate: version(&sums.candidate),
        shadowed: sums.shadowed,
        disagreements: sums.disagreements,
        regret: None,
    }
}

/// What judges said, to a thousandth of a point; the regret once there are labels enough to know their spread.
pub(super) fn regret_status(policy: &Policy, regret: &[RegretEvidence]) -> Option<RegretStatus> {
    let of = regret.first()?;
    let bounds = policy.bounds(regret);
    let bounds = bounds.first().filter(|_| of.labelled >= DISAGREEMENTS_MIN);
    let rounded = |points: f64| (points * 1e3).round() / 1e3;
    Some(RegretStatus {
        estimate: bounds.map(|bounds| rounded(bounds.value)),
        lower: bounds.map(|bounds| rounded(bounds.low)),
        upper: bounds.map(|bounds| rounded(bounds.high)),
        compared: of.compared,
        disagreements: of.disagreements,
        labelled: of.labelled,
    })
}

fn phase(phase: Phase) -> RolloutPhase {
    match phase {
        Phase::Shadow => RolloutPhase::Shadow,
        Phase::Canary => RolloutPhase::Canary,
        Phase::Active => RolloutPhase::Active,
        Phase::RolledBack => RolloutPhase::RolledBack,
        Phase::Aborted => RolloutPhase::Aborted,
        Phase::Inconclusive => RolloutPhase::Inconclusive,
    }
}
