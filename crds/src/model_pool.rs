//! `ModelPool`: one model, one tier, one engine.

#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each type inside a function"
)]
#![expect(clippy::duplicated_attributes, reason = "printer columns share a type")]

use crate::common::{Privacy, SecretKeyRef, Tier};
use crate::schema::exactly_one;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One model and the engine that serves it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "ModelPool",
    plural = "modelpools",
    shortname = "mp",
    category = "weir",
    namespaced,
    status = "ModelPoolStatus",
    derive = "PartialEq",
    doc = "One model and the engine that serves it.",
    printcolumn(name = "Tier", type_ = "string", json_path = ".spec.tier"),
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.model.name"),
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
#[x_kube(
    validation = Rule::new("!has(self.engine.llamaCpp) || has(self.model.source)")
        .message("engine.llamaCpp needs model.source: write hf://OWNER/REPO/FILE.gguf, https://HOST/FILE.gguf or file://PATH")
        .field_path(".model"),
    validation = Rule::new("!has(self.engine.external) || !has(self.model.source)")
        .message("engine.external brings its own model: remove model.source, or use engine.llamaCpp")
        .field_path(".model.source"),
    validation = Rule::new("!has(self.model.sha256) || has(self.model.source)")
        .message("model.sha256 checks model.source, which is missing: write model.source too, or remove model.sha256")
        .field_path(".model.sha256")
)]
#[serde(rename_all = "camelCase")]
pub struct ModelPoolSpec {
    /// The model.
    pub model: Model,
    /// Where the model runs: device, edge or server.
    pub tier: Tier,
    /// Where a request's data goes when this pool answers: local, onPrem or cloud.
    pub privacy: Privacy,
    /// What serves the model: exactly one of llamaCpp, external.
    pub engine: Engine,
    /// Sampling of the model's card, used in routed answers where the client does not say otherwise. Requests that name
    /// the model, and /generate, are sent as they come.
    #[serde(default)]
    pub sampling: Sampling,
    /// Price of a token, in the currency of the stack's owner.
    #[serde(default)]
    pub cost: Cost,
}

/// A model by name and origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    /// What the router and clients call the model.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(
        validation = Rule::new("self == oldSelf")
            .message("model.name is immutable: create another ModelPool for another model"),
        validation = Rule::new("self != 'auto'")
            .message("\"auto\" is what clients write to let the router choose: give the model its own name"),
        validation = Rule::new("self.matches('^[A-Za-z0-9]([A-Za-z0-9._:/-]*[A-Za-z0-9])?$')")
            .message("must start and end with a letter or digit, with only letters, digits, '.', '_', ':', '/' and '-' between: write for example lfm2-700m")
    )]
    pub name: String,
    /// Where the weights (GGUF) come from: hf://OWNER/REPO/FILE, https://... or, in local mode, file://PATH
    /// (`file://~/` is the home folder, `file://./` the folder of the stack file).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new(
        "self.matches('^(hf://[^/]+/[^/]+/.+|https://[^/]+/.+|file://.+)$')"
    ).message("must say where the model is: write hf://OWNER/REPO/FILE.gguf, https://HOST/FILE.gguf or file://PATH"))]
    pub source: Option<String>,
    /// SHA-256 of the file, lower-case hexadecimal, checked after the download.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9a-f]{64}$')")
        .message("must be 64 lower-case hexadecimal digits: write what `sha256sum FILE` prints"))]
    pub sha256: Option<String>,
    /// Licence of the weights, shown by `weir status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub license: Option<String>,
}

/// What serves a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = exactly_one)]
pub enum Engine {
    /// llama.cpp's server, started by Weir.
    LlamaCpp(LlamaCpp),
    /// A server that speaks OpenAI's HTTP API and runs elsewhere.
    External(External),
}

/// llama.cpp's server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LlamaCpp {
    /// Tokens one request may use, prompt and completion together; each slot has this many.
    #[serde(default = "LlamaCpp::default_context_tokens")]
    #[schemars(range(min = 256, max = 1_048_576))]
    pub context_tokens: u32,
    /// Requests worked on at the same time.
    #[serde(default = "LlamaCpp::default_slots")]
    #[schemars(range(min = 1, max = 64))]
    pub slots: u32,
    /// Threads of the engine; without it every engine gets all of the machine's processors but one, which is left for the
    /// gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 512))]
    pub threads: Option<u32>,
    /// Further arguments of llama-server, passed as they are.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(max = 1024)))]
    #[x_kube(validation = Rule::new(
        "self.all(a, !(a.split('=')[0] in ['-m', '--model', '-c', '--ctx-size', '-np', '--parallel', '-t', '--threads', '--host', '--port', '--api-key']))"
    ).message("must not set what Weir sets: use model.source, contextTokens, slots and threads, and leave out --host, --port and --api-key"))]
    pub extra_args: Vec<String>,
}

/// A server that speaks OpenAI's HTTP API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
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

/// Sampling of the model's card.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sampling {
    /// Softmax temperature, 0 is greedy. Taken when the router samples (its class balanced); its class precise stays
    /// greedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 2.0))]
    pub temperature: Option<f64>,
    /// Smallest probability kept, relative to the likeliest token. Sent as min_p when set; an external engine must know
    /// that field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_p: Option<f64>,
    /// Divides the logit of tokens already seen. Sent when set, as repeat_penalty to llama.cpp and as
    /// repetition_penalty to an external engine, which must know that field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.5, max = 2.0))]
    pub repetition_penalty: Option<f64>,
}

/// Price of a million tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// Price of a million prompt tokens.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub prompt_per_million: f64,
    /// Price of a million completion tokens.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub completion_per_million: f64,
}

/// What is known about a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelPoolStatus {
    /// Ready first.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

impl LlamaCpp {
    fn default_context_tokens() -> u32 {
        4096
    }

    fn default_slots() -> u32 {
        2
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

impl Engine {
    /// The word in a document.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::LlamaCpp(_) => "llamaCpp",
            Self::External(_) => "external",
        }
    }
}
