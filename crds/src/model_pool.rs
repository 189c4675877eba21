//! `ModelPool`: one model, one tier, one engine. Reading on: `engine.rs`.

#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each type inside a function"
)]

use crate::common::{NameRef, Privacy, Tier};
use crate::engine::Engine;
use crate::schema::exactly_one;
use crate::units::Duration;
use crate::workload::{PodOptions, Resources};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
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
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')")
        .message("metadata.name names a Service too, so it must be at most 40 lower-case letters, digits and '-', starting with a letter: write for example lfm2-700m"),
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Tier", type_ = "string", json_path = ".spec.tier"),
    printcolumn(name = "Engine", type_ = "string", json_path = ".status.engine"),
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.model.name"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Desired",
        type_ = "integer",
        json_path = ".status.desiredReplicas"
    ),
    printcolumn(
        name = "Tok/s",
        type_ = "number",
        json_path = ".status.performance.decodeTokensPerSecond"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(
        name = "License",
        type_ = "string",
        json_path = ".spec.model.license",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[x_kube(
    validation = Rule::new("has(self.engine.external) || has(self.model.source)")
        .message("an engine that Weir starts needs model.source: write hf://OWNER/REPO/FILE.gguf, https://HOST/FILE.gguf, s3://BUCKET/KEY, pvc://CLAIM/PATH or file://PATH")
        .field_path(".model"),
    validation = Rule::new("!has(self.engine.external) || !has(self.model.source)")
        .message("engine.external brings its own model: remove model.source, or use engine.llamaCpp")
        .field_path(".model.source"),
    validation = Rule::new("!has(self.engine.llamaCpp) || !has(self.model.source) || !self.model.source.matches('^hf://[^/]+/[^/]+/?$')")
        .message("engine.llamaCpp serves one file, not a repository: write hf://OWNER/REPO/FILE.gguf")
        .field_path(".model.source"),
    validation = Rule::new("!has(self.engine.vllm) || !has(self.model.source) || self.model.source.matches('^(hf://[^/]+/[^/]+|pvc://[^/]+/.+)$')")
        .message("engine.vllm serves a repository or a folder: write hf://OWNER/REPO or pvc://CLAIM/FOLDER")
        .field_path(".model.source"),
    validation = Rule::new("!has(self.model.sha256) || has(self.model.source)")
        .message("model.sha256 checks model.source, which is missing: write model.source too, or remove model.sha256")
        .field_path(".model.sha256"),
    validation = Rule::new("!has(self.model.sha256) || !has(self.engine.vllm)")
        .message("model.sha256 is of one file and engine.vllm serves a folder: remove model.sha256, or name a commit with hf://OWNER/REPO@COMMIT")
        .field_path(".model.sha256"),
    validation = Rule::new("!has(self.model.credentialsSecretRef) || (has(self.model.source) && self.model.source.matches('^(hf|https|s3)://'))")
        .message("model.credentialsSecretRef is for a source that is downloaded: write hf://, https:// or s3://, or remove it")
        .field_path(".model.credentialsSecretRef"),
    validation = Rule::new("!has(self.engine.external) || (self.replicas == 1 && !has(self.autoscaling) && !has(self.resources) && !has(self.pod) && has(self.cache.ephemeral) && self.update.maxSurge == 1 && self.update.maxUnavailable == 0 && !has(self.drain) && !has(self.hedgeAfter))")
        .message("engine.external runs elsewhere, where Weir starts nothing: remove replicas, autoscaling, resources, pod, cache, update, drain and hedgeAfter")
        .field_path(".engine"),
    validation = Rule::new("!has(self.model.source) || !self.model.source.startsWith('pvc://') || has(self.cache.ephemeral)")
        .message("a pvc:// source is read where it is and nothing is downloaded: remove cache")
        .field_path(".cache")
)]
#[serde(rename_all = "camelCase")]
pub struct ModelPoolSpec {
    /// The model.
    pub model: Model,
    /// Where the model runs: device, edge or server.
    pub tier: Tier,
    /// Where a request's data goes when this pool answers: local, onPrem or cloud.
    pub privacy: Privacy,
    /// What serves the model: exactly one of llamaCpp, vllm, external.
    pub engine: Engine,
    /// Processors, memory and accelerators of one replica, by the names of Kubernetes; a request for cpu also sets the
    /// threads of llama.cpp. Without it a replica requests the cpu of its threads and 512Mi. In a cluster only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Where the replicas may run, and as whom. In a cluster only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodOptions>,
    /// Where downloads are kept: exactly one of ephemeral, pvc, hostPath. In a cluster only; local mode keeps them under
    /// its own folder.
    #[serde(default)]
    pub cache: Cache,
    /// Engines that serve the model. Local mode starts one.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: u32,
    /// Lets Weir choose replicas by the requests in flight. Local mode starts one engine and keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// How replicas are replaced when the pool changes. In a cluster only.
    #[serde(default)]
    pub update: Update,
    /// How long a replica that goes away still answers what it has begun; without it 65 s. Nothing new reaches it meanwhile.
    /// At least the `limits.requestTimeout` of the gateways that ask the pool. In a cluster only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Duration>,
    /// How long a replica may say nothing of an answer before another one with a free slot is asked too: whoever answers first is
    /// taken, and the other is told to stop. Without it replicas are asked one after the other, when one has failed. Of answers
    /// that are read as they are made: streams, and those that the router chose. In a cluster only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedge_after: Option<Duration>,
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
    /// Where the weights come from: a GGUF file for llama.cpp, a repository or folder for vLLM. hf://OWNER/REPO/FILE,
    /// https://HOST/FILE, s3://BUCKET/KEY; in a cluster also pvc://CLAIM/PATH, which is mounted and read where it is; in local
    /// mode also file://PATH (`file://~/` is the home folder, `file://./` the folder of the stack file).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new(
        "self.matches('^(hf://[^/]+/[^/]+(/.*)?|https://[^/]+/.+|s3://[^/]+/.+|pvc://[a-z0-9]([-.a-z0-9]*[a-z0-9])?/[^/].*|file://.+)$') && !self.contains('/../')"
    ).message("must say where the model is: write hf://OWNER/REPO/FILE.gguf, https://HOST/FILE.gguf, s3://BUCKET/KEY, pvc://CLAIM/PATH or file://PATH"))]
    pub source: Option<String>,
    /// Secret with the label weir.dev/watch: "true" whose entries become environment variables of the download: HF_TOKEN for hf://, WEIR_SOURCE_TOKEN (sent as
    /// a bearer token) for https://, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL for s3://.
    /// Local mode reads the same names from its own environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<NameRef>,
    /// SHA-256 of the file, lower-case hexadecimal, checked after the download.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9a-f]{64}$')")
        .message("must be 64 lower-case hexadecimal digits: write what `sha256sum FILE` prints"))]
    pub sha256: Option<String>,
    /// Licence of the weights, shown by `weir status` and `kubectl get mp -o wide`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub license: Option<String>,
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

/// Where downloads are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = exactly_one)]
pub enum Cache {
    /// In the pod: every new pod downloads again.
    Ephemeral {},
    /// In a PersistentVolumeClaim. Several replicas share it, so it must be ReadWriteMany when they run on several nodes.
    Pvc(NameRef),
    /// In a folder of the node, writable by user 65532. The namespace must permit hostPath, which the levels `baseline`
    /// and `restricted` of Pod Security do not.
    HostPath(HostPath),
}

/// A folder of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostPath {
    /// Absolute path.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.startsWith('/') && self.size() > 1 && !self.contains('..')")
        .message("must be the absolute path of a folder: write for example /var/cache/weir"))]
    pub path: String,
}

/// Lets Weir choose replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("self.min <= self.max")
    .message("min is larger than max: write a min no larger than max")
    .field_path(".min"))]
#[serde(rename_all = "camelCase")]
pub struct Autoscaling {
    /// Fewest replicas; 0 lets an idle pool go.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1000))]
    pub min: u32,
    /// Most replicas.
    #[schemars(range(min = 1, max = 1000))]
    pub max: u32,
    /// Requests, answered or waiting, that one replica should have at a time.
    #[serde(default = "Autoscaling::default_target")]
    #[schemars(range(min = 1, max = 4096))]
    pub target_in_flight_per_replica: u32,
    /// How long fewer replicas must have been enough, by the reports of every gateway, before some are removed.
    #[serde(default = "Autoscaling::default_scale_down_after")]
    pub scale_down_after: Duration,
    /// What happens to requests while the pool has no replica: hold or spill.
    #[serde(default)]
    pub when_cold: WhenCold,
}

/// What happens to requests while a pool has no replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WhenCold {
    /// They wait until a replica is ready.
    Hold,
    /// Another pool answers them while a replica starts.
    #[default]
    Spill,
}

/// How replicas are replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("self.maxSurge + self.maxUnavailable > 0")
    .message("nothing could be replaced: write maxSurge: 1, or maxUnavailable: 1 where there is no room for one more replica"))]
#[serde(rename_all = "camelCase")]
pub struct Update {
    /// Replicas beyond the desired ones while replacing.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1000))]
    pub max_surge: u32,
    /// Replicas that may be missing while replacing.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub max_unavailable: u32,
}

/// What is known about a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelPoolStatus {
    /// llamaCpp, vllm or external.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Replicas that exist.
    #[serde(default)]
    pub replicas: i32,
    /// Replicas that can generate.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Replicas that there should be.
    #[serde(default)]
    pub desired_replicas: i32,
    /// Label selector of the pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// What the model's file says, and how far its download is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelStatus>,
    /// Speed of one replica, measured after it loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub performance: Option<PerformanceStatus>,
    /// Ready first.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// What the model's file says, and how far its download is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelStatus {
    /// Architecture by the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<u64>,
    /// Longest context the model was trained for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_tokens: Option<u32>,
    /// Quantization by the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
    /// `sha256:` and the file's SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Size of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Bytes on the disk, while downloading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downloaded_bytes: Option<u64>,
    /// Seconds until the download ends, while downloading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_seconds: Option<u64>,
}

/// Measured speed of one replica with one request in flight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PerformanceStatus {
    /// Prompt tokens a second.
    pub prefill_tokens_per_second: f64,
    /// Completion tokens a second.
    pub decode_tokens_per_second: f64,
    /// When this was measured.
    pub measured_at: Time,
}

/// Replicas, when nobody says how many.
fn one() -> u32 {
    1
}

impl Default for Cache {
    fn default() -> Self {
        Self::Ephemeral {}
    }
}

impl Autoscaling {
    fn default_target() -> u32 {
        4
    }

    fn default_scale_down_after() -> Duration {
        Duration::from_seconds(300)
    }
}

impl Default for Update {
    fn default() -> Self {
        Self {
            max_surge: one(),
            max_unavailable: 0,
        }
    }
}
