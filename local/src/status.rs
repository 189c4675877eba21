//! What `weir status` shows: plain data, made by the running `weir up`, read by the command.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use weir_crds::IndexStatus;
use weir_plan::{Performance, Privacy, Tier};

/// A gateway in local mode and everything behind it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Name of the `InferenceGateway`.
    pub gateway: String,
    /// Whether it answers: at least one pool serves, and nothing is starting for the first time.
    pub ready: bool,
    /// What it does now.
    pub phase: GatewayPhase,
    /// Base URL without `/v1`; empty until it listens.
    pub address: String,
    /// Process id of `weir up`.
    pub pid: u32,
    /// When `weir up` was started, RFC 3339.
    pub started: String,
    /// The stack files.
    pub files: Vec<PathBuf>,
    /// Plans applied since the start.
    pub plans: u64,
    /// Why the last change of the files is not served.
    pub reload_refused: Option<String>,
    /// Whether a request needs an API key.
    pub keys_required: bool,
    /// Pools, smallest model first, the one that embeds last.
    pub pools: Vec<PoolStatus>,
    /// The memory, if the gateway names one.
    pub memory: Option<MemoryStatus>,
    /// The router.
    pub router: RouterStatus,
}

/// What a gateway does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GatewayPhase {
    /// Models are fetched, engines load.
    Starting,
    /// It answers.
    Serving,
    /// Requests in flight finish; new ones are refused.
    Draining,
}

/// One pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolStatus {
    /// Name of the `ModelPool`.
    pub name: String,
    /// What clients call the model.
    pub model: String,
    /// Where it runs.
    pub tier: Tier,
    /// Where a request's data goes.
    pub privacy: Privacy,
    /// `llamaCpp` or `external`.
    pub engine: String,
    /// Whether it makes the vectors of the memory; such a pool answers no questions.
    pub embeds: bool,
    /// Whether it can generate, or embed, now.
    pub ready: bool,
    /// `Serving`, `Embedding`, `Loading`, `Restarting`, `Stopped`; of an external pool `External`, `Unreachable` or
    /// `Failing`: its server accepts connections, and requests failed lately.
    pub reason: String,
    /// Why the engine ended last or cannot be reached, on one line.
    pub last_error: Option<String>,
    /// Starts after the first.
    pub restarts: u32,
    /// Process id of the engine's process group.
    pub pid: Option<u32>,
    /// Weights of the model, 0 when unknown.
    pub parameters: u64,
    /// Quantization of most of the weights.
    pub quantization: Option<String>,
    /// Tokens one request may use.
    pub context_tokens: u32,
    /// Licence as the stack states it.
    pub license: Option<String>,
    /// Measured speed; absent until it was measured.
    pub performance: Option<Performance>,
}

/// The memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryStatus {
    /// Name of the `MemoryStore`.
    pub name: String,
    /// `embedded`.
    pub kind: String,
    /// Nodes stored.
    pub nodes: u64,
    /// Edges stored.
    pub edges: u64,
    /// Vectors stored.
    pub vectors: u64,
    /// Nodes whose vector is still to be computed; they are found by their words meanwhile.
    pub vectors_pending: u64,
    /// Nodes that the embedder refuses; their words find them.
    pub vectors_refused: u64,
    /// The embedding model.
    pub embedding: String,
    /// What searches find; absent while it was not measured.
    pub index: Option<IndexStatus>,
    /// Summaries among the nodes.
    #[serde(default)]
    pub summaries: u64,
    /// Edges that upkeep let go since this memory is served.
    pub pruned_edges: u64,
    /// Traces that it let go.
    pub pruned_traces: u64,
}

/// The router.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouterStatus {
    /// Name of the `RouterVersion`, or `builtin`.
    pub version: String,
    /// SHA-256 of the artifact.
    pub sha256: String,
}
