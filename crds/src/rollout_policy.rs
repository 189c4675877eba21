//! How a new router version takes over: what an InferenceGateway asks of a rollout, and a RouterRollout keeps of it.
//!
//! What follows from the numbers is `router/src/gate.rs`; the attempt itself is in `router_rollout.rs`.

#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each type inside a function"
)]

use crate::units::Duration;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// How a new router version takes over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("!has(self.canary.disagreementsPerStep) || has(self.gate.regretMax)")
    .message("counts judged answers, and none are asked for: write gate.regretMax too, for example 0.1")
    .field_path(".canary.disagreementsPerStep"))]
#[serde(rename_all = "camelCase")]
pub struct RolloutPolicy {
    /// What the candidate decides before anybody gets its answers.
    #[serde(default)]
    pub shadow: ShadowPolicy,
    /// Who gets the candidate's answers, step by step.
    #[serde(default)]
    pub canary: CanaryPolicy,
    /// What takes the candidate out.
    #[serde(default)]
    pub gate: GatePolicy,
}

/// What the candidate decides before anybody gets its answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShadowPolicy {
    /// Requests that both versions decide while the active one answers; 0 goes to the canary at once.
    #[serde(default = "ShadowPolicy::default_requests")]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub requests: u32,
}

/// Who gets the candidate's answers, step by step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryPolicy {
    /// Percent of users, step after step. A user stays with the candidate once it is theirs.
    #[serde(default = "CanaryPolicy::default_steps")]
    #[schemars(length(max = 16), inner(range(min = 1, max = 99)))]
    #[x_kube(validation = Rule::new("size(self) > 0 && self.isSorted() && self.all(a, self.exists_one(b, b == a))")
        .message("must rise from step to step: write percentages such as [5, 25, 50]"))]
    pub steps: Vec<u32>,
    /// Requests of each version that have to end in each step. The first step also waits for about 1,000 of the active
    /// version, since with fewer its 99th percentile is not known.
    #[serde(default = "CanaryPolicy::default_requests_per_step")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub requests_per_step: u32,
    /// Disagreements that have to be judged in each step, 100 when gate.regretMax is set and nobody says how many: answers
    /// to requests that the versions decided differently, with a label by a key of the scope judge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 50, max = 1_000_000))]
    pub disagreements_per_step: Option<u32>,
}

/// What takes the candidate out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("!has(self.disagreementsMax) || has(self.regretMax)")
    .message("counts judged answers, and none are asked for: write regretMax too, for example 0.1")
    .field_path(".disagreementsMax"))]
#[serde(rename_all = "camelCase")]
pub struct GatePolicy {
    /// The candidate's 99th percentile of latency may be this many times the active version's. Latencies are counted in
    /// steps of 10 %.
    #[serde(default = "GatePolicy::default_p99_latency_ratio_max")]
    #[schemars(range(min = 1.0, max = 100.0))]
    pub p99_latency_ratio_max: f64,
    /// The candidate's error rate may be above the active version's up to here.
    #[serde(default = "GatePolicy::default_error_rate_max")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub error_rate_max: f64,
    /// Points, on the scale of 1 to 5 and over all requests, that the candidate's answers may be worth less than the active
    /// version's. With it every step waits for labels, and only a candidate that is known to be within takes over; without
    /// it nobody asks what answers are worth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01, max = 4.0))]
    pub regret_max: Option<f64>,
    /// Judged disagreements, 3,000 when nobody says how many, after which a regret that is still not known to be within
    /// regretMax is inconclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 50, max = 10_000_000))]
    pub disagreements_max: Option<u32>,
    /// An attempt that is still waiting for requests or labels this long after it began is inconclusive: the weight is held
    /// and somebody should look. What comes later still counts. Without it an attempt waits for as long as it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Duration>,
    /// Probability that a candidate within these limits is never rolled back, however long it is watched; and that one whose
    /// regret is greater than regretMax is never promoted.
    #[serde(default = "GatePolicy::default_confidence")]
    #[schemars(range(min = 0.5, max = 0.9999))]
    pub confidence: f64,
}

impl ShadowPolicy {
    fn default_requests() -> u32 {
        100
    }
}

impl Default for ShadowPolicy {
    fn default() -> Self {
        Self {
            requests: Self::default_requests(),
        }
    }
}

impl CanaryPolicy {
    fn default_steps() -> Vec<u32> {
        vec![5, 25, 50]
    }

    fn default_requests_per_step() -> u32 {
        200
    }
}

impl Default for CanaryPolicy {
    fn default() -> Self {
        Self {
            steps: Self::default_steps(),
            requests_per_step: Self::default_requests_per_step(),
            disagreements_per_step: None,
        }
    }
}

impl GatePolicy {
    fn default_p99_latency_ratio_max() -> f64 {
        1.1
    }

    fn default_error_rate_max() -> f64 {
        0.01
    }

    fn default_confidence() -> f64 {
        0.95
    }
}

impl Default for GatePolicy {
    fn default() -> Self {
        Self {
            p99_latency_ratio_max: Self::default_p99_latency_ratio_max(),
            error_rate_max: Self::default_error_rate_max(),
            confidence: Self::default_confidence(),
            regret_max: None,
            disagreements_max: None,
            deadline: None,
        }
    }
}
