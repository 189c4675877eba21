//! What a gateway may do with a request: objective, guardrails, privacy, authentication, limits, logs.

use crate::Privacy;
use serde::{Deserialize, Serialize};

/// Weighs latency and price against quality (1 to 5) when the router decides.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Objective {
    /// Quality given up for one second of latency (lambda).
    pub per_second: f64,
    /// Quality given up for one unit of cost (mu).
    pub per_cost_unit: f64,
}

/// How much the router explores.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exploration {
    /// Share of decisions spread evenly over everything permitted.
    pub floor: f64,
    /// Arms whose utility is this close to the best share its probability.
    pub near_tie_margin: f64,
}

/// A rule that overrides the router when it matches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Guardrail {
    /// Shown in the log row and in `explain`.
    pub name: String,
    /// The rule matches requests of these domains.
    pub domains: Vec<String>,
    /// What happens then.
    pub then: GuardrailAction,
}

/// What a guardrail does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GuardrailAction {
    /// The biggest permitted model answers.
    UseBiggest,
    /// The smallest permitted model answers, and none is asked after it.
    UseSmallest,
}

/// How far requests of this gateway may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrivacyLimits {
    /// Applied when a request does not say.
    pub default: Privacy,
    /// No pool beyond this is ever asked.
    pub max: Privacy,
}

/// What holds for the requests of one tenant.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantLimits {
    /// No pool beyond this is ever asked for it.
    pub privacy_max: Privacy,
    /// What it may use at this process.
    #[serde(default, skip_serializing_if = "Budgets::is_empty")]
    pub budgets: Budgets,
    /// What becomes of requests beyond a budget of tokens or cost.
    #[serde(default, skip_serializing_if = "Beyond::is_default")]
    pub beyond: Beyond,
}

/// What becomes of a tenant's requests beyond a budget of tokens or cost. Beyond one of requests all are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Beyond {
    /// They end with 429.
    #[default]
    Reject,
    /// The smallest permitted model answers those that leave the choice to the router; others end with 429.
    Degrade,
}

impl Beyond {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl TenantLimits {
    /// So far and no further, with no budget.
    pub fn within(privacy_max: Privacy) -> Self {
        Self {
            privacy_max,
            budgets: Budgets::default(),
            beyond: Beyond::default(),
        }
    }
}

/// What a tenant may use, each unlimited where it is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Budgets {
    /// Requests that models answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<f64>,
    /// Tokens of prompts and answers, first tries included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<f64>,
    /// Cost, in the unit of the pools' prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_per_day: Option<f64>,
}

impl Budgets {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Who may ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Auth {
    /// Everybody, as tenant [`ANONYMOUS`], with every scope.
    Anonymous,
    /// Holders of one of these keys.
    ApiKeys(Vec<ApiKey>),
}

/// The tenant of everybody, where no key is asked for.
pub const ANONYMOUS: &str = "anonymous";

/// An API key, known by its hash only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// Whose data the key reads and writes.
    pub tenant: String,
    /// Names the key in logs.
    pub key_id: String,
    /// SHA-256 of the key, lower-case hexadecimal.
    pub sha256: String,
    /// What the key allows.
    pub scopes: Vec<Scope>,
}

/// What a key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Scope {
    /// Ask questions, give feedback, read one's own decisions.
    Ask,
    /// Read and write the memory.
    Memory,
    /// Read every tenant's decisions and give labels, which decide what becomes of a router version.
    Judge,
    /// All of it, for every tenant.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ask, Self::Memory, Self::Judge, Self::Admin];

    /// The word in a Secret's entry and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::Memory => "memory",
            Self::Judge => "judge",
            Self::Admin => "admin",
        }
    }
}

/// Bounds on size, time and concurrency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// A request that takes longer ends with 504.
    pub request_timeout_ms: u64,
    /// A larger body ends with 413.
    pub body_max_bytes: u64,
    /// Requests worked on at the same time.
    pub in_flight_max: u32,
    /// Requests that may wait; more end with 429.
    pub queue_max: u32,
}

/// What is written down about decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Logs {
    /// Where rows go.
    pub sink: LogSink,
    /// How the question appears in a row.
    pub query_text: QueryText,
}

/// Where the times of requests go, for a collector of OpenTelemetry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TracesPlan {
    /// Address of OTLP over HTTP, without `/v1/traces`.
    pub endpoint: String,
    /// Share of the requests that are traced, unless their client says.
    pub sample_ratio: f64,
}

/// Where decision rows go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogSink {
    /// One JSON line each on standard output.
    Stdout,
    /// One JSON line each in `decisions.jsonl` under the gateway's state directory.
    File,
    /// Nowhere.
    None,
}

/// How the question appears in a decision row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum QueryText {
    /// As asked.
    Full,
    /// SHA-256 only.
    Hashed,
    /// Not at all.
    None,
}

impl Default for Objective {
    fn default() -> Self {
        Self {
            per_second: 0.05,
            per_cost_unit: 0.1,
        }
    }
}

impl Default for Exploration {
    fn default() -> Self {
        Self {
            floor: 0.01,
            near_tie_margin: 0.02,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_timeout_ms: 60_000,
            body_max_bytes: 1 << 20,
            in_flight_max: 512,
            queue_max: 1024,
        }
    }
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            sink: LogSink::Stdout,
            query_text: QueryText::Hashed,
        }
    }
}
