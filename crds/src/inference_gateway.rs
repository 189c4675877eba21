//! `InferenceGateway`: the entrance, and the policy of what may be done with a request.

#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each type inside a function"
)]

use crate::auth::Auth;
use crate::common::Privacy;
use crate::expose::Expose;
use crate::limits::{AnswerCache, Limits, Traces};
use crate::rollout_policy::RolloutPolicy;
use crate::router_rollout::GatewayRouterStatus;
use crate::workload::{PodOptions, Resources};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One OpenAI-compatible entrance to a set of pools.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "InferenceGateway",
    plural = "inferencegateways",
    shortname = "ig",
    category = "weir",
    namespaced,
    status = "InferenceGatewayStatus",
    derive = "PartialEq",
    doc = "One OpenAI-compatible entrance to a set of pools.",
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')")
        .message("metadata.name names a Service too, so it must be at most 40 lower-case letters, digits and '-', starting with a letter: write for example support"),
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url"),
    printcolumn(name = "Router", type_ = "string", json_path = ".status.router.active"),
    printcolumn(name = "Candidate", type_ = "string", json_path = ".status.router.candidate"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.router.phase"),
    printcolumn(name = "Weight", type_ = "integer", json_path = ".status.router.weight"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[x_kube(validation = Rule::new(
    "!has(self.tenants) || self.tenants.all(t, !has(t.privacyMax) || {'local': 0, 'onPrem': 1, 'cloud': 2}[t.privacyMax] <= {'local': 0, 'onPrem': 1, 'cloud': 2}[self.privacy.max])"
).message("a tenant's privacyMax goes further than privacy.max, which it can only narrow: write a nearer privacyMax (local, then onPrem, then cloud)")
    .field_path(".tenants"))]
#[x_kube(validation = Rule::new(
    "has(self.auth.jwt) || !has(self.tenants) || self.tenants.all(t, has(t.privacyMax) || has(t.requestsPerMinute) || has(t.tokensPerMinute) || has(t.costPerDay))"
).message("says nothing of a tenant, and only auth.jwt lets one in by its name: write privacyMax, requestsPerMinute, tokensPerMinute or costPerDay")
    .field_path(".tenants"))]
#[x_kube(validation = Rule::new("!has(self.auth.jwt) || (has(self.tenants) && size(self.tenants) > 0)")
    .message("auth.jwt takes tokens of the tenants that spec.tenants names, and it names none: write tenants: [{name: acme, requestsPerMinute: 600}]")
    .field_path(".auth.jwt"))]
#[serde(rename_all = "camelCase")]
pub struct InferenceGatewaySpec {
    /// Where the gateway listens in local mode. In a cluster it listens at port 8080 of its Service.
    #[serde(default)]
    pub listen: Listen,
    /// Processes that serve the gateway. Local mode starts one.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 100))]
    pub replicas: u32,
    /// How clients reach the gateway. In a cluster only.
    #[serde(default)]
    pub expose: Expose,
    /// Processors and memory of one process. Without it, it requests 250m and 256Mi. In a cluster only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Where the processes may run, and as whom. In a cluster only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodOptions>,
    /// The pools behind this gateway.
    pub pools: PoolSelector,
    /// Name of the MemoryStore to recall from; without it the gateway answers without recall.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub memory: Option<String>,
    /// How far requests may go.
    #[serde(default)]
    pub privacy: PrivacyLimits,
    /// How the router decides.
    #[serde(default)]
    pub router: GatewayRouter,
    /// Rules that override the router, first match wins.
    #[serde(default)]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, b.name == a.name))")
        .message("two guardrails have the same name: give each its own, since the log names it"))]
    pub guardrails: Vec<Guardrail>,
    /// Who may ask: holders of keys, of tokens, or of either; or everybody.
    pub auth: Auth,
    /// What holds for the requests of single tenants. Keys of a tenant that is not named
    /// have the gateway's own rules and no budget; tokens of it open nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, b.name == a.name))")
        .message("two tenants have the same name: write each tenant once"))]
    pub tenants: Vec<Tenant>,
    /// Keeps answers and gives them again to the same request for as long as it would be answered from the same. Without it
    /// every request is answered anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<AnswerCache>,
    /// Bounds on size, time and concurrency, across all replicas together.
    #[serde(default)]
    pub limits: Limits,
    /// What is written down about decisions.
    #[serde(default)]
    pub logs: Logs,
    /// Where the times of requests and their steps go, for a collector of OpenTelemetry. Never what was asked or answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traces: Option<Traces>,
}

/// Where the gateway listens in local mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Listen {
    /// IP address to listen at; 127.0.0.1 is this machine only, 0.0.0.0 everybody who can reach it.
    #[serde(default = "Listen::default_address")]
    #[schemars(length(max = 45))]
    #[x_kube(validation = Rule::new("isIP(self)")
        .message("must be an IP address: write 127.0.0.1 for this machine only, 0.0.0.0 for every interface"))]
    pub address: String,
    /// TCP port; 0 lets the system choose.
    #[serde(default = "Listen::default_port")]
    #[schemars(range(min = 0, max = 65_535))]
    pub port: u16,
}

/// Chooses pools by their labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolSelector {
    /// Labels a pool must carry, all of them.
    #[schemars(extend("maxProperties" = 16))]
    #[x_kube(validation = Rule::new("size(self) > 0")
        .message("must name at least one label: write for example weir.dev/stack: demo, and put the same label on the pools"))]
    pub match_labels: BTreeMap<String, String>,
}

/// What holds for the requests of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new(
    "!has(self.overBudget) || has(self.tokensPerMinute) || has(self.costPerDay)"
).message("overBudget speaks of a budget that is not there: write tokensPerMinute or costPerDay, beyond requestsPerMinute every request is refused"))]
#[serde(rename_all = "camelCase")]
pub struct Tenant {
    /// The tenant, as the entries of auth.apiKeysSecretRef name it before the first dot, and tokens in auth.jwt.tenantClaim.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_-]+$')")
        .message("is no tenant that a key could have: write letters, digits, '_' and '-', as before the first dot of the Secret's entries"))]
    pub name: String,
    /// No pool beyond this is ever asked for this tenant, not even for the vectors of its words. Without it, the
    /// gateway's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy_max: Option<Privacy>,
    /// Requests that models answer, at all replicas together; more end with 429. Up to a minute's may come at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub requests_per_minute: Option<u32>,
    /// Tokens of prompts and answers, likewise; first tries count. What an answer takes beyond is waited for afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_000_000_000))]
    pub tokens_per_minute: Option<u32>,
    /// Cost by the prices of the pools, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.000_001, max = 1_000_000_000.0))]
    pub cost_per_day: Option<f64>,
    /// What becomes of requests beyond tokensPerMinute or costPerDay: `reject` ends them with 429, `degrade` has the smallest
    /// permitted model answer those that leave the choice to the router and that no guardrail concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_budget: Option<OverBudget>,
}

/// What becomes of requests beyond a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OverBudget {
    /// They end with 429.
    Reject,
    /// The smallest permitted model answers them.
    Degrade,
}

/// How far requests may go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new(
    "{'local': 0, 'onPrem': 1, 'cloud': 2}[self.default] <= {'local': 0, 'onPrem': 1, 'cloud': 2}[self.max]"
).message("privacy.default goes further than privacy.max: write a default no further than max (local, then onPrem, then cloud)")
    .field_path(".default"))]
#[serde(rename_all = "camelCase")]
pub struct PrivacyLimits {
    /// Applied when a request does not say.
    #[serde(default = "PrivacyLimits::narrowest")]
    pub default: Privacy,
    /// No pool beyond this is ever asked.
    #[serde(default = "PrivacyLimits::narrowest")]
    pub max: Privacy,
}

/// How the router decides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayRouter {
    /// Name of the RouterVersion; without it, the default artifact that Weir ships.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub version: Option<String>,
    /// How time and money are weighed against quality (1 to 5).
    #[serde(default)]
    pub objective: Objective,
    /// How much the router explores.
    #[serde(default)]
    pub exploration: Exploration,
    /// How a changed version takes over in a cluster; in local mode it does at once.
    #[serde(default)]
    pub rollout: RolloutPolicy,
}

/// How time and money are weighed against quality (1 to 5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Objective {
    /// Quality given up for one second of latency.
    #[serde(default = "Objective::default_per_second")]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub per_second: f64,
    /// Quality given up for one unit of cost.
    #[serde(default = "Objective::default_per_cost_unit")]
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub per_cost_unit: f64,
}

/// How much the router explores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Exploration {
    /// Share of decisions spread evenly over everything permitted, so that other routers can be judged from the log.
    #[serde(default = "Exploration::default_floor")]
    #[schemars(range(min = 0.0, max = 0.5))]
    pub floor: f64,
    /// Arms whose utility is this close to the best share its probability.
    #[serde(default = "Exploration::default_near_tie_margin")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub near_tie_margin: f64,
}

/// A rule that overrides the router when it matches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Guardrail {
    /// Shown in the log row and in `explain`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// When the rule matches.
    pub when: GuardrailCondition,
    /// What happens then.
    pub then: GuardrailAction,
}

/// When a guardrail matches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailCondition {
    /// Domains of a request, any of them.
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    #[x_kube(validation = Rule::new("size(self) > 0")
        .message("an empty list never matches: name at least one domain, for example finance"))]
    pub domains: Vec<String>,
}

/// What a guardrail does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum GuardrailAction {
    /// The biggest permitted model answers.
    UseBiggest,
}

/// What is written down about decisions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Logs {
    /// Where rows go: stdout, file or none.
    #[serde(default = "Logs::default_sink")]
    pub sink: LogSink,
    /// How the question appears in a row: full, hashed or none.
    #[serde(default = "Logs::default_query_text")]
    pub query_text: QueryText,
}

/// Where decision rows go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LogSink {
    /// One JSON line each on standard output.
    Stdout,
    /// One JSON line each in the gateway's state folder.
    File,
    /// Nowhere.
    None,
}

/// How the question appears in a decision row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum QueryText {
    /// As asked.
    Full,
    /// SHA-256 only.
    Hashed,
    /// Not at all.
    None,
}

/// What is known about a gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct InferenceGatewayStatus {
    /// Where clients in the cluster reach the gateway, or outside when a load balancer or a route leads to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Processes that exist.
    #[serde(default)]
    pub replicas: i32,
    /// Processes that answer.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Label selector of the pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The router that decides, and the one on trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<GatewayRouterStatus>,
    /// Ready first.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// Processes, when nobody says how many.
fn one() -> u32 {
    1
}

impl Listen {
    fn default_address() -> String {
        "127.0.0.1".into()
    }

    fn default_port() -> u16 {
        8080
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            address: Self::default_address(),
            port: Self::default_port(),
        }
    }
}

impl PrivacyLimits {
    fn narrowest() -> Privacy {
        Privacy::Local
    }
}

impl Default for PrivacyLimits {
    fn default() -> Self {
        Self {
            default: Self::narrowest(),
            max: Self::narrowest(),
        }
    }
}

impl Objective {
    fn default_per_second() -> f64 {
        0.05
    }

    fn default_per_cost_unit() -> f64 {
        0.1
    }
}

impl Default for Objective {
    fn default() -> Self {
        Self {
            per_second: Self::default_per_second(),
            per_cost_unit: Self::default_per_cost_unit(),
        }
    }
}

impl Exploration {
    fn default_floor() -> f64 {
        0.01
    }

    fn default_near_tie_margin() -> f64 {
        0.02
    }
}

impl Default for Exploration {
    fn default() -> Self {
        Self {
            floor: Self::default_floor(),
            near_tie_margin: Self::default_near_tie_margin(),
        }
    }
}

impl Logs {
    fn default_sink() -> LogSink {
        LogSink::Stdout
    }

    fn default_query_text() -> QueryText {
        QueryText::Hashed
    }
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            sink: Self::default_sink(),
            query_text: Self::default_query_text(),
        }
    }
}
