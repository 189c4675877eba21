//! A pool: one model, its engines and what is known about both.

use serde::{Deserialize, Serialize};

/// One model, served by one or more replicas of an engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    /// Name of the `ModelPool`.
    pub name: String,
    /// What the router and clients call the model.
    pub model: String,
    /// Model name that the engine itself expects in a request.
    pub upstream_model: String,
    /// Where the model runs.
    pub tier: Tier,
    /// Where a request's data goes when this pool answers.
    pub privacy: Privacy,
    /// What speaks at the endpoints.
    pub engine: EngineKind,
    /// Tokens one request may use, prompt and completion together.
    pub context_tokens: u32,
    /// Requests one replica works on at the same time.
    pub slots: u32,
    /// Weights of the model, 0 when unknown. Orders pools by capability.
    pub parameters: u64,
    /// Sampling of the model's card, for routed answers where the client does not say otherwise.
    pub sampling: SamplingDefaults,
    /// Price of a token.
    pub cost: Cost,
    /// Measured speed.
    pub performance: Performance,
    /// File whose vocabulary and chat template count tokens exactly; `None` means that `vocabulary` says who does.
    pub tokenizer: Option<String>,
    /// How the engine is asked to count tokens where there is no such file; `None` means an estimate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<Vocabulary>,
    /// Replicas that can generate now.
    pub endpoints: Vec<Endpoint>,
    /// Certificate authorities, PEM, of which one must have signed the certificates at the endpoints; `None` means the public
    /// ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<String>,
    /// What happens to requests while there is no endpoint, for a pool that demand brings up from zero. `None`: nothing
    /// would bring a replica up, so the pool is unavailable then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_cold: Option<WhenCold>,
    /// Whether the engine keeps what it has read apart by `cache_salt`, as vLLM does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cache_salt: bool,
    /// How long one replica may be silent before another is asked too; `None` asks one after the other alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedge_after_ms: Option<u64>,
}

/// What happens to requests for a pool that is at zero and is brought up by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WhenCold {
    /// They wait for the first replica.
    Hold,
    /// Another permitted pool answers; where there is none they wait.
    Spill,
}

/// Where a model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Tier {
    /// On the user's own device.
    Device,
    /// Near the user.
    Edge,
    /// In a data centre.
    Server,
}

impl Tier {
    /// The word in a document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Edge => "edge",
            Self::Server => "server",
        }
    }
}

/// How far a request's data travels. Ordered: `Local < OnPrem < Cloud`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Privacy {
    /// Stays on this machine or in this namespace.
    Local,
    /// Stays on the organisation's own machines.
    OnPrem,
    /// May leave the organisation.
    Cloud,
}

/// What speaks at a pool's endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EngineKind {
    /// llama.cpp's server.
    LlamaCpp,
    /// Anything that speaks OpenAI's HTTP API.
    External,
}

/// How an engine is asked to count tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Vocabulary {
    /// What its tokenizer speaks.
    pub api: TokenizerApi,
    /// What tells its model from others: counts are remembered by it.
    pub model: String,
}

/// How a tokenizer is asked over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TokenizerApi {
    /// `/tokenize` and `/apply-template` of llama.cpp's server.
    LlamaCpp,
    /// `/tokenize` of vLLM's server.
    Vllm,
}

/// Price of a million tokens, in the currency of the stack's owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// Price of a million prompt tokens.
    pub prompt_per_million: f64,
    /// Price of a million completion tokens.
    pub completion_per_million: f64,
}

/// Measured speed of one replica with one request in flight.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Performance {
    /// Prompt tokens a second.
    pub prefill_tokens_per_second: f64,
    /// Completion tokens a second.
    pub decode_tokens_per_second: f64,
}

/// Sampling of the model's card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SamplingDefaults {
    /// Softmax temperature of the router's classes that sample; greedy classes stay greedy.
    pub temperature: Option<f32>,
    /// Smallest probability kept, relative to the likeliest token.
    pub min_p: Option<f32>,
    /// Divides the logit of tokens already seen.
    pub repetition_penalty: Option<f32>,
}

/// One replica that can generate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Base URL without `/v1`, for example `http://127.0.0.1:41234`.
    pub url: String,
    /// Sent as a bearer token; never logged.
    pub api_key: Option<Secret>,
}

/// A value that never shows in logs, errors or `Debug` output.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Pool {
    /// A pool on this machine whose model has the pool's name: one slot, nothing known of the model, no replica yet.
    pub fn local(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            model: name.to_owned(),
            upstream_model: name.to_owned(),
            tier: Tier::Device,
            privacy: Privacy::Local,
            engine: EngineKind::External,
            context_tokens: 0,
            slots: 1,
            parameters: 0,
            sampling: SamplingDefaults::default(),
            cost: Cost::default(),
            performance: Performance::default(),
            tokenizer: None,
            vocabulary: None,
            endpoints: Vec::new(),
            authorities: None,
            when_cold: None,
            cache_salt: false,
            hedge_after_ms: None,
        }
    }
}

impl Endpoint {
    /// An endpoint that asks for no key.
    pub fn keyless(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            api_key: None,
        }
    }
}

impl Cost {
    /// Price of so many tokens.
    pub fn of(self, prompt_tokens: f64, completion_tokens: f64) -> f64 {
        (prompt_tokens * self.prompt_per_million + completion_tokens * self.completion_per_million)
            / 1e6
    }
}

impl Secret {
    /// Wraps a secret value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl Default for Performance {
    /// A cautious guess for a pool that has not been measured yet.
    fn default() -> Self {
        Self {
            prefill_tokens_per_second: 100.0,
            decode_tokens_per_second: 10.0,
        }
    }
}
