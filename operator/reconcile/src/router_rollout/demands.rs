//! What an attempt's spec asks of the gate, in the gate's own words.

use std::time::Duration;
use weir_crds::{RolloutAction, RouterRolloutSpec};
use weir_router::gate::{Action, Policy, Quality};

/// Labelled disagreements of each step, and those after which nothing more is expected of labels, where nobody says so.
const DISAGREEMENTS_PER_STEP: u32 = 100;
const DISAGREEMENTS_MAX: u32 = 3_000;

/// What has to be shown.
pub(super) fn policy(spec: &RouterRolloutSpec) -> Policy {
    Policy {
        shadow_requests: u64::from(spec.shadow.requests),
        steps: spec.canary.steps.clone(),
        requests_per_step: u64::from(spec.canary.requests_per_step),
        p99_latency_ratio_max: spec.gate.p99_latency_ratio_max,
        error_rate_max: spec.gate.error_rate_max,
        confidence: spec.gate.confidence,
        deadline: spec
            .gate
            .deadline
            .map(|deadline| Duration::from_millis(deadline.milliseconds())),
        quality: spec
            .gate
            .regret_max
            .map(|regret_max| quality(spec, regret_max)),
    }
}

fn quality(spec: &RouterRolloutSpec, regret_max: f64) -> Quality {
    let per_step = spec.canary.disagreements_per_step;
    let most = spec.gate.disagreements_max;
    Quality {
        regret_max,
        disagreements_per_step: u64::from(per_step.unwrap_or(DISAGREEMENTS_PER_STEP)),
        disagreements_max: u64::from(most.unwrap_or(DISAGREEMENTS_MAX)),
    }
}

/// What a person asks.
pub(super) fn action(action: RolloutAction) -> Action {
    match action {
        RolloutAction::Continue => Action::Continue,
        RolloutAction::Pause => Action::Pause,
        RolloutAction::Promote => Action::Promote,
        RolloutAction::Abort => Action::Abort,
    }
}
