//! What serves the model of a pool: llama.cpp, vLLM, or a server that runs elsewhere.

#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each type inside a function"
)]

use crate::common::{CaSecretRef, SecretKeyRef};
use crate::schema::exactly_one;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What serves a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = exactly_one)]
pub enum Engine {
    /// llama.cpp's server, started by Weir.
    LlamaCpp(LlamaCpp),
    /// vLLM's server, started by Weir. In a cluster only.
    Vllm(Vllm),
    /// A server that speaks OpenAI's HTTP API and runs elsewhere.
    External(External),
}

/// llama.cpp's server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LlamaCpp {
    /// Image whose entry point is llama-server; without it, the operator's. Local mode uses the llama-server of the
    /// machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9][A-Za-z0-9._:/@-]*$')")
        .message("is no image: write for example ghcr.io/ggml-org/llama.cpp:server"))]
    pub image: Option<String>,
    /// Tokens one request may use, prompt and completion together; each slot has this many.
    #[serde(default = "LlamaCpp::default_context_tokens")]
    #[schemars(range(min = 256, max = 1_048_576))]
    pub context_tokens: u32,
    /// Requests worked on at the same time.
    #[serde(default = "LlamaCpp::default_slots")]
    #[schemars(range(min = 1, max = 64))]
    pub slots: u32,
    /// Threads of the engine. Without it, in a cluster as many as cpu is requested, and in local mode all of the machine's
    /// processors but one, which is left for the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 512))]
    pub threads: Option<u32>,
    /// Further arguments of llama-server, passed as they are.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(max = 1024)))]
    #[x_kube(validation = Rule::new(
        "self.all(a, !(a.split('=')[0].replace('_', '-') in ['-m', '--model', '-mu', '--model-url', '-hf', '-hfr', '--hf-repo', '-c', '--ctx-size', '-np', '--parallel', '-t', '--threads', '--host', '--port', '--api-key', '--api-key-file']))"
    ).message("must not set what Weir sets: use model.source, contextTokens, slots and threads, and leave out --host, --port and --api-key"))]
    pub extra_args: Vec<String>,
}

/// vLLM's server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Vllm {
    /// Image with the command `vllm`; without it, the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9][A-Za-z0-9._:/@-]*$')")
        .message("is no image: write for example vllm/vllm-openai:latest"))]
    pub image: Option<String>,
    /// Tokens one request may use, prompt and completion together.
    #[serde(default = "Vllm::default_max_model_len")]
    #[schemars(range(min = 256, max = 16_777_216))]
    pub max_model_len: u32,
    /// Requests one replica works on at the same time.
    #[serde(default = "Vllm::default_max_num_seqs")]
    #[schemars(range(min = 1, max = 4096))]
    pub max_num_seqs: u32,
    /// Type of the numbers: auto, half, float16, bfloat16, float or float32.
    #[serde(default)]
    pub dtype: Dtype,
    /// Weights of the model, which order pools by capability; without it the pool counts as the biggest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_000_000_u64, max = 1_000_000_000_000_000_u64))]
    pub parameters: Option<u64>,
    /// Further arguments of `vllm serve`, passed as they are. Those that Weir sets are refused in all spellings that vLLM reads: with `_`
    /// for `-`, and cut short.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(max = 1024)))]
    #[x_kube(validation = Rule::new(
        "self.all(a, !(a.startsWith('--') && a.size() > 2 && ['--model', '--served-model-name', '--max-model-len', '--max-num-seqs', '--dtype', '--host', '--port', '--api-key', '--revision', '--download-dir', '--config'].exists(t, t.startsWith(a.split('=')[0].replace('_', '-')))))"
    ).message("must not set what Weir sets: use model.source, maxModelLen, maxNumSeqs and dtype, and leave out --config, --host, --port and --api-key"))]
    pub extra_args: Vec<String>,
}

/// Type of the numbers that vLLM computes with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// What the model's files say.
    #[default]
    Auto,
    /// Float16.
    Half,
    /// Float16.
    Float16,
    /// Bfloat16.
    Bfloat16,
    /// Float32.
    Float,
    /// Float32.
    Float32,
}

/// A server that speaks OpenAI's HTTP API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("!has(self.caSecretRef) || self.url.startsWith('https://')")
    .message("caSecretRef is for a server with a certificate: write an https:// URL, or remove it")
    .field_path(".caSecretRef"))]
#[serde(rename_all = "camelCase")]
pub struct External {
    /// Base URL without `/v1`.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(
        validation = Rule::new("self.matches('^https?://[^/@?#]+(/[^?#]*)?$')")
            .message("must be a URL without user, query or fragment: write for example https://api.example.com"),
        validation = Rule::new("!self.matches('/v1/?$')")
            .message("must be the base URL: leave out /v1 at the end, Weir adds it")
    )]
    pub url: String,
    /// Secret entry that holds the bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_secret_ref: Option<SecretKeyRef>,
    /// Secret entry with the certificate authorities, PEM, of which one signed the server's certificate. Without it, the
    /// public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<CaSecretRef>,
    /// Model name the server expects; without it, model.name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub model_name: Option<String>,
    /// Tokens one request may use, prompt and completion together.
    #[serde(default = "External::default_context_tokens")]
    #[schemars(range(min = 256, max = 16_777_216))]
    pub context_tokens: u32,
    /// Requests sent at the same time.
    #[serde(default = "External::default_slots")]
    #[schemars(range(min = 1, max = 4096))]
    pub slots: u32,
    /// Weights of the model, which order pools by capability; without it the pool counts as the biggest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_000_000_u64, max = 1_000_000_000_000_000_u64))]
    pub parameters: Option<u64>,
}

impl Engine {
    /// The word in a document.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::LlamaCpp(_) => "llamaCpp",
            Self::Vllm(_) => "vllm",
            Self::External(_) => "external",
        }
    }
}

impl LlamaCpp {
    fn default_context_tokens() -> u32 {
        4096
    }

    fn default_slots() -> u32 {
        2
    }
}

impl Vllm {
    fn default_max_model_len() -> u32 {
        8192
    }

    fn default_max_num_seqs() -> u32 {
        64
    }
}

impl Dtype {
    /// The word in a document, which is vLLM's.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Half => "half",
            Self::Float16 => "float16",
            Self::Bfloat16 => "bfloat16",
            Self::Float => "float",
            Self::Float32 => "float32",
        }
    }
}

impl External {
    fn default_context_tokens() -> u32 {
        8192
    }

    fn default_slots() -> u32 {
        8
    }
}
