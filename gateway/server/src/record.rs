//! `Record`: the log row of one decision, complete enough to repeat the decision bit for bit.
//!
//! Data only. Never a key, never the text of an answer. Rows are filled in `fill.rs`, kept in `decisions.rs` and
//! repeated in `replay.rs`.

pub use crate::replay::{ReplayMismatch, replay};

use crate::evidence::Role;
use crate::masks::Masked;
use serde::{Deserialize, Serialize};
use weir_plan::Revision;
use weir_router::{Choice, ChoiceInputs, RecallMode, StepFeatures, Verdict, VerdictInputs};

/// One decision: what was known, what was decided with which probability, what came out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Names the decision; the response carries it as `x-weir-decision`.
    pub decision_id: String,
    /// Id of the HTTP request.
    pub request_id: String,
    /// When the request arrived, RFC 3339.
    pub timestamp: String,
    /// Name of the gateway.
    pub gateway: String,
    /// Who asked.
    pub tenant: String,
    /// Name of the API key that asked, or `jwt:` and the name of the key that signed the token; `None` where the gateway asks
    /// for none.
    #[serde(default)]
    pub key_id: Option<String>,
    /// SHA-256 of the client's `user` field.
    pub user: Option<String>,
    /// The client's name of the conversation.
    pub session: Option<String>,
    /// The subject the client named.
    pub domain: Option<String>,
    /// The question, as the gateway's `logs.queryText` allows.
    pub query: QueryRow,
    /// The plan that was served.
    pub plan: Revision,
    /// The version of the router whose decision was executed; the active one where none decided.
    pub router: RouterRow,
    /// The rollout that ran, with what its other version decided.
    #[serde(default)]
    pub rollout: Option<RolloutRow>,
    /// What the router saw before the choice, step by step; a skipped step is absent.
    pub features: Vec<StepFeatures>,
    /// Those features beside what that version was trained on; absent where its artifact cannot tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub novelty: Option<NoveltyRow>,
    /// What the cache of answers had; absent where such an answer is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheRow>,
    /// The first decision; absent when the client pinned a model.
    pub choice: Option<ChoiceRow>,
    /// What was done in the end.
    pub executed: Option<ExecutedRow>,
    /// Name of the guardrail that overrode the choice.
    pub guardrail: Option<String>,
    /// Pools that were asked and failed before one answered.
    pub failover: Vec<FailedPool>,
    /// The second decision; absent when no bigger model was permitted.
    pub verdict: Option<VerdictRow>,
    /// Probability of the trajectory: choice times verdict.
    pub propensity: Option<f64>,
    /// Whether either decision was not the greedy one.
    pub explored: bool,
    /// What the memory gave.
    pub retrieval: Option<RetrievalRow>,
    /// The context blocks of the prompt.
    pub sources: Vec<Source>,
    /// Where the time went.
    pub latency_ms: LatencyRow,
    /// Tokens of all attempts.
    pub tokens: TokensRow,
    /// Cost of all attempts.
    pub cost: f64,
    /// How it ended.
    pub outcome: OutcomeRow,
    /// What somebody thought of the answer.
    pub quality: Option<Feedback>,
}

/// The question in a log row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryRow {
    /// As asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// SHA-256 of the normalised question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// The router in a log row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterRow {
    /// Name of the `RouterVersion`, `builtin` for the default.
    pub version: String,
    /// Digest of the artifact.
    pub artifact_sha256: String,
    /// Hash of the feature schema.
    pub schema_hash: String,
    /// Models of the ladder it was bound to.
    pub models: usize,
    /// Whether that ladder differs from the one it was trained on.
    pub cold_start: bool,
}

/// A request beside those that a version of the router was trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoveltyRow {
    /// Distance from them, about 1 in training.
    pub distance: f64,
    /// Whether at most one in twenty of them is as far from the others.
    pub unusual: bool,
    /// The kind of question it is nearest to, by its name in the training log.
    pub kind: Option<String>,
}

/// What the cache of answers had for a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CacheRow {
    /// Nothing: a model was asked.
    Miss,
    /// The answer to an earlier request. `executed` and `sources` are that one's; nothing was spent.
    Hit {
        /// The decision that it was made by.
        decision: String,
        /// Whether that request's question was written in another way.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        near: bool,
    },
}

/// A request's part in a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutRow {
    /// Name of the `RouterRollout`.
    pub name: String,
    /// The user's group, 0 to 255.
    pub bucket: u8,
    /// Percent of users that the candidate answered.
    pub weight: u32,
    /// The version whose decision was executed.
    pub dispatched: Role,
    /// What the other one decided.
    pub shadow: ShadowRow,
}

/// A decision that was taken and not executed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShadowRow {
    /// The version that took it.
    pub router: RouterRow,
    /// The decision.
    pub choice: Option<ChoiceRow>,
    /// The arm that would have been executed, which a guardrail may have set.
    pub arm: Option<usize>,
    /// Whether it would have been executed in the same way.
    pub agrees: bool,
    /// Why there is no decision.
    pub error: Option<String>,
}

/// The first decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChoiceRow {
    /// What the chosen arm is, by names; a guardrail may have had another executed. Absent in rows of older versions.
    #[serde(default)]
    pub chosen: Option<ChosenRow>,
    /// Temperature of the probabilities between near ties, from the artifact. Absent in rows of older versions.
    #[serde(default)]
    pub tau: Option<f64>,
    /// Everything besides the features that it depended on.
    pub inputs: ChoiceInputs,
    /// What came out.
    pub outcome: Choice,
    /// Why each arm was masked; `null` permits.
    pub mask: Vec<Option<Masked>>,
}

/// An arm and a sampling class, as the pools of the plan make them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChosenRow {
    /// What enters the prompt.
    pub recall: RecallMode,
    /// The model.
    pub model: String,
    /// Its pool.
    pub pool: String,
    /// Context tokens allowed.
    pub context_tokens: u32,
    /// The sampling class.
    pub sampling: String,
    /// Temperature, the client's where it set one.
    pub temperature: f32,
    /// Nucleus, the client's where it set one.
    pub top_p: f32,
    /// Whether the pool is beyond the organisation.
    pub fallback_to_cloud: bool,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecutedRow {
    /// The arm; absent when the client pinned a model.
    pub arm: Option<usize>,
    /// What entered the prompt.
    pub recall: RecallMode,
    /// The model that answered.
    pub model: String,
    /// Its pool.
    pub pool: String,
    /// Context tokens allowed.
    pub context_tokens: u32,
    /// The router's sampling class.
    pub sampling: Option<String>,
    /// Temperature sent.
    pub temperature: Option<f32>,
    /// Nucleus sent.
    pub top_p: Option<f32>,
    /// What the client set itself and thereby decided: `model`, `temperature`, `top_p`, `max_tokens`, `system`.
    pub client_set: Vec<String>,
    /// Whether the pool is beyond the organisation.
    pub fallback_to_cloud: bool,
    /// Oldest turns left out because the context was full.
    pub turns_cut: usize,
    /// How the prompt's tokens were counted before it was sent; absent when the client pinned a model, and in rows of
    /// older versions.
    #[serde(default)]
    pub token_counts: Option<TokenCounts>,
}

/// How tokens were counted before a prompt was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TokenCounts {
    /// As the model counts: by its file, or by its engine.
    Exact,
    /// Some of them by script, rather above than below.
    Estimated,
}

impl TokenCounts {
    pub(crate) fn of(exact: bool) -> Self {
        if exact { Self::Exact } else { Self::Estimated }
    }
}

/// A pool that was asked in vain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedPool {
    /// Its name.
    pub pool: String,
    /// The kind of its failure.
    pub error: String,
}

/// The second decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictRow {
    /// What was known about the answer.
    pub features: StepFeatures,
    /// Everything else it depended on.
    pub inputs: VerdictInputs,
    /// What came out.
    pub outcome: Verdict,
    /// The model that was asked again.
    pub asked: Option<String>,
    /// Why the second attempt failed; the first answer was returned then.
    pub error: Option<String>,
}

/// What the memory gave.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RetrievalRow {
    /// Hits of the search.
    pub k: usize,
    /// Mean of `1 - cosine` over the hits that have one.
    pub mean_distance: Option<f32>,
    /// Its standard deviation.
    pub std_distance: Option<f32>,
    /// The nearest.
    pub min_distance: Option<f32>,
    /// The farthest.
    pub max_distance: Option<f32>,
    /// Entropy of the attention, 0 to 1.
    pub entropy_attention: Option<f32>,
    /// Hops reached.
    pub depth_touched: Option<u8>,
    /// Nodes of the subgraph.
    pub nodes_used: Option<usize>,
    /// The best nodes: by attention when there was any, else by strength.
    pub node_ids: Vec<String>,
    /// The memory's generation.
    pub index_version: u64,
}

/// Where the time went, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyRow {
    /// From the request's arrival to its end.
    pub total: f64,
    /// From arrival to the first step.
    pub queue: f64,
    /// Embedding the question.
    pub embed: f64,
    /// Searching.
    pub retrieval: f64,
    /// Attention.
    pub attention: f64,
    /// Both decisions.
    pub router: f64,
    /// Context and prompt.
    pub prompt: f64,
    /// Engines, all attempts.
    pub llm: f64,
    /// From arrival to the first token in the gateway's hands.
    pub ttft: f64,
}

/// Tokens of all attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokensRow {
    /// Prompt.
    pub prompt: u32,
    /// Of these, not computed again.
    pub cached: u32,
    /// Completion.
    pub completion: u32,
    /// Whether the engine did not say all of it: the events of the answer were counted, and the prompt's tokens are not known; or the
    /// first of several answers was taken for each of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub counted: bool,
}

/// How a request ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeRow {
    /// The engine's reason.
    pub finish_reason: Option<String>,
    /// Kind of the failure; `client_gone` when nobody waited for the answer.
    pub error: Option<String>,
}

impl Record {
    /// Whether an earlier request's answer was given. Such a row says nothing of a router: what it chose was not asked.
    pub fn is_cached(&self) -> bool {
        matches!(self.cache, Some(CacheRow::Hit { .. }))
    }
}

/// Whether a failure of this kind speaks against the version of the router that was dispatched: what a client did wrong or
/// gave up does not, though the time until it gave up counts.
pub fn is_fault(kind: &str) -> bool {
    const OF_CLIENTS: [&str; 6] = [
        "client_gone",
        "bad_input",
        "unknown_model",
        "privacy",
        "prompt_too_long",
        "context",
    ];
    !OF_CLIENTS.contains(&kind)
}

/// What somebody thought of an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Feedback {
    /// 1 to 5.
    pub score: f64,
    /// Free words.
    pub label: Option<String>,
    /// A judge's probability of having picked this decision; absent where somebody scored of their own accord.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propensity: Option<f64>,
}

/// A line of the log that is no decision: a score that came later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeedbackRow {
    /// The decision that was scored.
    pub feedback_for: String,
    /// 1 to 5.
    pub score: f64,
    /// Free words.
    pub label: Option<String>,
    /// A judge's probability of having picked this decision; absent where somebody scored of their own accord.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propensity: Option<f64>,
}

/// A context block that stood in the prompt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Its number in the prompt: what a citation `[1]` means.
    pub number: usize,
    /// The node.
    pub id: String,
    /// Its title.
    pub title: Option<String>,
    /// Where its text stands.
    pub uri: Option<String>,
    /// Its score among the candidates.
    pub score: f32,
    /// The nodes that it was made from, where it is a summary.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub summarises: Vec<String>,
}
