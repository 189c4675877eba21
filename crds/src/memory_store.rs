//! `MemoryStore`: vectors and graph, and where the vectors come from.

#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each type inside a function"
)]
#![expect(clippy::duplicated_attributes, reason = "printer columns share a type")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::exactly_one;

/// A memory: nodes, edges and vectors that gateways recall from.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "MemoryStore",
    plural = "memorystores",
    shortname = "ms",
    category = "weir",
    namespaced,
    status = "MemoryStoreStatus",
    derive = "PartialEq",
    doc = "A memory: nodes, edges and vectors that gateways recall from.",
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
#[serde(rename_all = "camelCase")]
pub struct MemoryStoreSpec {
    /// Where vectors come from. Immutable: another embedding is another store.
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("embedding is immutable, since stored vectors would no longer fit: create another MemoryStore"))]
    pub embedding: Embedding,
    /// Where nodes, edges and vectors are kept.
    #[serde(default)]
    pub store: Store,
    /// How much of the graph attention looks at.
    #[serde(default)]
    pub attention: Attention,
}

/// Where vectors come from: a model in process (`source`) or a pool's `/v1/embeddings` (`pool`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.source) != has(self.pool)")
    .message("needs exactly one of source, pool: write source: hf://OWNER/REPO (a model in process) or pool: NAME (a ModelPool that embeds)"))]
#[serde(rename_all = "camelCase")]
pub struct Embedding {
    /// Name of the embedding model, part of the store's identity.
    #[schemars(length(min = 1, max = 128))]
    pub model: String,
    /// Folder with model.safetensors, tokenizer.json and config.json: hf://OWNER/REPO or, in local mode, file://PATH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^(hf://[^/]+/[^/]+(/.*)?|file://.+)$')")
        .message("must say where the embedder is: write hf://OWNER/REPO or file://PATH of a folder"))]
    pub source: Option<String>,
    /// Name of a ModelPool whose `/v1/embeddings` is asked instead. The pool carries the labels that the gateway selects,
    /// embeds only, and answers no questions: Weir starts its llama.cpp with `--embeddings`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub pool: Option<String>,
    /// Length of a vector.
    #[schemars(range(min = 8, max = 8192))]
    pub dimensions: u32,
}

/// Where nodes, edges and vectors are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = exactly_one)]
pub enum Store {
    /// In one process with one writer, in a file.
    Embedded(EmbeddedStore),
}

/// The store in one file of the process that serves it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmbeddedStore {}

/// How much of the graph attention looks at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("self.seeds <= self.nodesMax")
    .message("seeds are part of the subgraph: write seeds no larger than nodesMax")
    .field_path(".seeds"))]
#[serde(rename_all = "camelCase")]
pub struct Attention {
    /// Nodes that the search hands to attention.
    #[serde(default = "Attention::default_seeds")]
    #[schemars(range(min = 1, max = 256))]
    pub seeds: u32,
    /// Hops walked from the seeds.
    #[serde(default = "Attention::default_hops")]
    #[schemars(range(min = 0, max = 2))]
    pub hops: u32,
    /// Largest subgraph attention sees.
    #[serde(default = "Attention::default_nodes_max")]
    #[schemars(range(min = 1, max = 256))]
    pub nodes_max: u32,
}

/// What is known about a memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemoryStoreStatus {
    /// Ready first.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

impl Attention {
    fn default_seeds() -> u32 {
        64
    }

    fn default_hops() -> u32 {
        2
    }

    fn default_nodes_max() -> u32 {
        256
    }
}

impl Default for Attention {
    fn default() -> Self {
        Self {
            seeds: Self::default_seeds(),
            hops: Self::default_hops(),
            nodes_max: Self::default_nodes_max(),
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::Embedded(EmbeddedStore::default())
    }
}
