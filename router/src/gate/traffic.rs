//! What the requests of a step decide: errors and latency against the active version's.

use super::evidence::{self, RolloutEvidence};
use super::sequential::{errors, latency};
use super::{Policy, Reason, Test};

/// One test of errors and one of latency, of this step alone.
pub(super) fn tested(policy: &Policy, sums: &RolloutEvidence) -> Vec<Test> {
    let (active, candidate) = (&sums.active, &sums.candidate);
    let of_errors = Test {
        against: errors(active, candidate, policy.error_rate_max),
        ln_threshold: policy.ln_threshold(),
        reason: Reason::ErrorRate,
        message: format!(
            "{} of {} requests of the candidate failed, {} of {} of the active version; {} is allowed",
            candidate.errors,
            candidate.requests,
            active.errors,
            active.requests,
            policy.error_rate_max
        ),
    };
    let p99 = |version: &evidence::VersionEvidence| {
        version.latency.quantile_ms(0.99).map_or_else(
            || "more than can be measured".to_owned(),
            |ms| format!("{ms:.0} ms"),
        )
    };
    let of_latency = Test {
        against: latency(
            &active.latency,
            &candidate.latency,
            policy.p99_latency_ratio_max,
        ),
        ln_threshold: policy.ln_threshold(),
        reason: Reason::Latency,
        message: format!(
            "99 % of the candidate's requests ended within {}, of the active version's within {}; a ratio of {} is allowed",
            p99(candidate),
            p99(active),
            policy.p99_latency_ratio_max
        ),
    };
    vec![of_errors, of_latency]
}

/// What of the step is still to come.
pub(super) fn missing(policy: &Policy, step: usize, sums: &RolloutEvidence) -> Option<String> {
    if step == 0 {
        let (have, need) = (sums.shadowed, policy.shadow_requests);
        return (have < need)
            .then(|| format!("{have} of {need} requests decided by both versions"));
    }
    let active = (sums.active.requests, policy.active_requests(step));
    let candidate = (sums.candidate.requests, policy.requests_per_step);
    let lacks = |(have, need): (u64, u64)| have < need;
    (lacks(active) || lacks(candidate)).then(|| {
        format!(
            "{} of {} requests of the candidate, {} of {} of the active version",
            candidate.0, candidate.1, active.0, active.1
        )
    })
}
