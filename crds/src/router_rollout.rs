//! `RouterRollout`: one attempt to make another router version active, written by the operator; and what an
//! InferenceGateway says about its rollouts.
//!
//! People change one field, `action`; everything else of the spec is fixed when the attempt begins, so that changing a
//! gateway's gate never changes a running attempt. What follows from the numbers is `router/src/gate.rs`.

#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each type inside a function"
)]
#![expect(clippy::duplicated_attributes, reason = "printer columns share a type")]

use crate::rollout_policy::{CanaryPolicy, GatePolicy, ShadowPolicy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One attempt to make another router version active.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "RouterRollout",
    plural = "routerrollouts",
    shortname = "rr",
    category = "weir",
    namespaced,
    status = "RouterRolloutStatus",
    derive = "PartialEq",
    doc = "One attempt to make another router version active. Written by the operator; people change spec.action.",
    printcolumn(name = "From", type_ = "string", json_path = ".spec.from.version"),
    printcolumn(name = "To", type_ = "string", json_path = ".spec.to.version"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Weight", type_ = "integer", json_path = ".status.weight"),
    printcolumn(name = "Evidence", type_ = "string", json_path = ".status.progress"),
    printcolumn(
        name = "Regret",
        type_ = "number",
        json_path = ".status.evidence.regret.estimate"
    ),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[x_kube(validation = Rule::new(
    "self.gateway == oldSelf.gateway && self.from == oldSelf.from && self.to == oldSelf.to && \
     self.shadow == oldSelf.shadow && self.canary == oldSelf.canary && self.gate == oldSelf.gate"
).message("only action may change: change the gateway's router.rollout, the next attempt takes it"))]
#[serde(rename_all = "camelCase")]
pub struct RouterRolloutSpec {
    /// Name of the InferenceGateway.
    #[schemars(length(min = 1, max = 253))]
    pub gateway: String,
    /// The version that is active when the attempt begins; it serves again when the attempt fails.
    pub from: VersionRef,
    /// The version that is tried.
    pub to: VersionRef,
    /// What the candidate decides before anybody gets its answers.
    pub shadow: ShadowPolicy,
    /// Who gets the candidate's answers, step by step.
    pub canary: CanaryPolicy,
    /// What takes the candidate out.
    pub gate: GatePolicy,
    /// Continue, Pause, Promote or Abort: the one field that people change.
    #[serde(default)]
    pub action: RolloutAction,
}

/// A router version by name and content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionRef {
    /// Name of the RouterVersion; `builtin` for the default artifact that Weir ships.
    #[schemars(length(min = 1, max = 253))]
    pub version: String,
    /// SHA-256 of the artifact.
    #[schemars(length(max = 128))]
    pub sha256: String,
}

/// What a person asks of a rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutAction {
    /// Go on by the evidence.
    #[default]
    Continue,
    /// Hold the weight; the evidence may still take the candidate out.
    Pause,
    /// Make the candidate active now, unless the evidence has decided against it.
    Promote,
    /// Take the candidate out now.
    Abort,
}

/// Where a rollout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutPhase {
    /// Both versions decide, the active one answers.
    Shadow,
    /// The candidate answers a share of users.
    Canary,
    /// The candidate has become the active version.
    Active,
    /// The candidate was taken out by the evidence, or because the gateway's spec was reverted.
    RolledBack,
    /// The candidate was taken out by a person, or because the gateway names a third version.
    Aborted,
    /// Neither pass nor failure: the weight is held, and the message says what is missing.
    Inconclusive,
}

/// What is known about a rollout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouterRolloutStatus {
    /// Where it stands; absent until the operator has taken it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<RolloutPhase>,
    /// 0 in the shadow, then the number of the canary step.
    #[serde(default)]
    pub step: u32,
    /// Percent of users that the candidate answers.
    #[serde(default)]
    pub weight: u32,
    /// Why it stands there, in a word.
    #[serde(default)]
    pub reason: String,
    /// Why it stands there: what is missing, or the numbers that decided.
    #[serde(default)]
    pub message: String,
    /// Requests of this step so far, for the printer column.
    #[serde(default)]
    pub progress: String,
    /// What was counted since the attempt began, for people.
    #[serde(default)]
    pub evidence: RolloutEvidenceStatus,
    /// The sums behind it, so that another operator goes on where this one stopped.
    #[serde(default)]
    pub ledger: RolloutLedger,
    /// When the attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the step began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_started_at: Option<Time>,
    /// When the attempt ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// Ready: whether the candidate has become the active version.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// What was counted since the attempt began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutEvidenceStatus {
    /// Of the active version, while the candidate had a share.
    #[serde(default)]
    pub active: VersionEvidenceStatus,
    /// Of the candidate.
    #[serde(default)]
    pub candidate: VersionEvidenceStatus,
    /// Requests that both versions decided.
    #[serde(default)]
    pub shadowed: u64,
    /// Of them, those that the versions would have answered differently.
    #[serde(default)]
    pub disagreements: u64,
    /// What judges said of the answers, where gate.regretMax asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regret: Option<RegretStatus>,
}

/// What judges said: points, on the scale of 1 to 5 and over all requests, that the candidate's answers are worth less than
/// the active version's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegretStatus {
    /// As it is estimated, from 50 labels on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate: Option<f64>,
    /// It is not below this, with the gate's confidence and however often somebody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower: Option<f64>,
    /// It is not above this, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper: Option<f64>,
    /// Requests of the canary that were compared.
    #[serde(default)]
    pub compared: u64,
    /// Of them, those that the versions decided differently.
    #[serde(default)]
    pub disagreements: u64,
    /// Of these, those that were judged.
    #[serde(default)]
    pub labelled: u64,
}

/// What was counted of one version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionEvidenceStatus {
    /// Requests that have ended.
    #[serde(default)]
    pub requests: u64,
    /// Of them, those that failed in the gateway or behind it.
    #[serde(default)]
    pub errors: u64,
    /// 99 % of them ended within this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_milliseconds: Option<u64>,
}

/// The sums behind a rollout's evidence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutLedger {
    /// Of gateway processes that are gone.
    #[serde(default)]
    pub folded: RolloutSums,
    /// Labels of gateway processes that are gone.
    #[serde(default)]
    pub folded_regret: RegretSums,
    /// The last report of each gateway process.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub processes: Vec<ProcessSums>,
    /// Processes that are gone: what still comes of them is dropped.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub gone: Vec<ProcessRef>,
    /// All of it when the present step began.
    #[serde(default)]
    pub step_start: RolloutSums,
}

/// The last report of a gateway process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProcessSums {
    /// Name of the pod.
    pub pod: String,
    /// The process in the pod: random for each start.
    pub boot: String,
    /// Its totals.
    pub sums: RolloutSums,
    /// Its labels.
    #[serde(default)]
    pub regret: RegretSums,
}

/// A gateway process.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, KubeSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct ProcessRef {
    /// Name of the pod.
    pub pod: String,
    /// The process in the pod: random for each start.
    pub boot: String,
}

/// Totals of both versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutSums {
    /// Of the active version.
    #[serde(default)]
    pub active: VersionSums,
    /// Of the candidate.
    #[serde(default)]
    pub candidate: VersionSums,
    /// Requests that both versions decided.
    #[serde(default)]
    pub shadowed: u64,
    /// Of them, those that the versions would have answered differently.
    #[serde(default)]
    pub disagreements: u64,
}

/// Totals of what was judged, since the attempt began; in millionths where they are no counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegretSums {
    /// Requests compared.
    #[serde(default)]
    pub compared: u64,
    /// Of them, those that the versions decided differently.
    #[serde(default)]
    pub disagreements: u64,
    /// Of these, those that were judged.
    #[serde(default)]
    pub labelled: u64,
    /// Weight of the disagreements.
    #[serde(default)]
    pub disagreeing: i64,
    /// Weight of the disagreements that the labels stand for.
    #[serde(default)]
    pub stood_for: i64,
    /// Variance of it, from drawing what is judged.
    #[serde(default)]
    pub stood_for_variance: i64,
    /// Weight of requests, by group of users; trailing zeros are left out.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub weights: Vec<i64>,
    /// Weighted terms of the labels, by group of users; trailing zeros are left out.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub terms: Vec<i64>,
}

/// Totals of one version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionSums {
    /// Requests that have ended.
    #[serde(default)]
    pub requests: u64,
    /// Of them, those that failed.
    #[serde(default)]
    pub errors: u64,
    /// Requests that have not ended.
    #[serde(default)]
    pub open: u64,
    /// Latencies by bucket: the first up to 1 ms, each next one 10 % higher; trailing zeros are left out.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub latency: Vec<u64>,
}

/// What an InferenceGateway says about its router.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayRouterStatus {
    /// The version that decides, `builtin` for the default artifact.
    #[serde(default)]
    pub active: String,
    /// SHA-256 of its artifact.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub active_sha256: String,
    /// The version that is tried, or that was tried in vain and is still named by the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<String>,
    /// Where its rollout stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<RolloutPhase>,
    /// Percent of users that the candidate answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Points that the candidate's answers are worth less than the active version's, where judges say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regret: Option<f64>,
    /// That is not above this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regret_upper: Option<f64>,
    /// The RouterRollout of the candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
    /// Attempts begun so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
}

impl RolloutPhase {
    /// Whether nothing follows.
    pub fn ended(self) -> bool {
        matches!(self, Self::Active | Self::RolledBack | Self::Aborted)
    }

    /// The word in a status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shadow => "Shadow",
            Self::Canary => "Canary",
            Self::Active => "Active",
            Self::RolledBack => "RolledBack",
            Self::Aborted => "Aborted",
            Self::Inconclusive => "Inconclusive",
        }
    }
}
