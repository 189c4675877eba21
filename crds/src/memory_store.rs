//! `MemoryStore`: vectors and graph, and where the vectors come from.

#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each type inside a function"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{CaSecretRef, NameRef, SecretKeyRef};
use crate::schema::exactly_one;
use crate::units::Age;
use crate::workload::{PodOptions, Quantity, Resources};

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
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')")
        .message("metadata.name names a Service too, so it must be at most 40 lower-case letters, digits and '-', starting with a letter: write for example kb"),
    validation = Rule::new("!has(self.spec.writeBack) || !has(self.spec.writeBack.summaries) || !has(self.spec.embedding.pool) || self.spec.writeBack.summaries.pool != self.spec.embedding.pool")
        .message("the pool that embeds writes nothing: name a ModelPool that generates")
        .field_path(".spec.writeBack.summaries.pool"),
    validation = Rule::new("!has(self.spec.store) || !has(self.spec.store.external) || !has(self.spec.deletionPolicy) || self.spec.deletionPolicy != 'Delete'")
        .message("Weir deletes nothing in servers that it did not start: leave out deletionPolicy, and drop the collection and its nodes yourself")
        .field_path(".spec.deletionPolicy"),
    validation = Rule::new("!has(self.spec.store) || !has(self.spec.store.external) || !(has(self.spec.graphPolicy) || (has(self.spec.retention) && has(self.spec.retention.traces)) || (has(self.spec.index) && has(self.spec.index.tune)) || (has(self.spec.writeBack) && has(self.spec.writeBack.summaries)))")
        .message("graphPolicy, retention.traces, index.tune and writeBack.summaries are for a store that Weir keeps itself: leave them out, or keep the memory embedded")
        .field_path(".spec.store"),
    printcolumn(name = "Kind", type_ = "string", json_path = ".status.kind"),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.nodes"),
    printcolumn(name = "Edges", type_ = "integer", json_path = ".status.edges"),
    printcolumn(name = "Recall", type_ = "number", json_path = ".status.index.recall"),
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
    /// Where nodes, edges and vectors are kept. What it is cannot be changed: another store is another MemoryStore.
    #[serde(default)]
    #[x_kube(validation = Rule::new("has(self.embedded) == has(oldSelf.embedded)")
        .message("store is immutable in kind, since nothing would be moved: create another MemoryStore, and move the passages with weir memory export and import"))]
    pub store: Store,
    /// Where the memory service may run, and as whom. In a cluster only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodOptions>,
    /// What happens to the volume when this object is deleted: Retain keeps it, and another MemoryStore of the same name
    /// takes it up again. In a cluster only; local mode never deletes a memory.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// How much of the graph attention looks at.
    #[serde(default)]
    pub attention: Attention,
    /// The index over the vectors.
    #[serde(default)]
    pub index: Index,
    /// Which edges are worth their place. Without it, every edge stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph_policy: Option<GraphPolicy>,
    /// What answers leave in the memory.
    #[serde(default)]
    pub write_back: WriteBack,
    /// How long what wears out is kept.
    #[serde(default)]
    pub retention: Retention,
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
    /// Folder with model.safetensors, tokenizer.json and config.json: hf://OWNER/REPO, https://HOST/FOLDER or
    /// s3://BUCKET/FOLDER; in a cluster also pvc://CLAIM/FOLDER, which is mounted and read where it is; in local mode also
    /// file://PATH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^(hf://[^/]+/[^/]+(/.*)?|https://[^/]+/.+|s3://[^/]+/.+|pvc://[a-z0-9]([-.a-z0-9]*[a-z0-9])?/[^/].*|file://.+)$') && !self.contains('/../')")
        .message("must say where the embedder is: write hf://OWNER/REPO, or https://HOST/FOLDER, s3://BUCKET/FOLDER, pvc://CLAIM/FOLDER or file://PATH of a folder"))]
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
    /// In Qdrant and Neo4j, which one memory service asks. In a cluster only.
    External(Box<ExternalStore>),
}

/// The store in two servers that are there already: vectors and words in Qdrant, rows and edges in Neo4j.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("self.collection == oldSelf.collection")
    .message("collection is immutable, since it is the memory itself: create another MemoryStore")
    .field_path(".collection"))]
#[serde(rename_all = "camelCase")]
pub struct ExternalStore {
    /// Name of the collection in Qdrant and of the labels in Neo4j. One MemoryStore writes to a collection.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z][a-z0-9_]*$')")
        .message("must be lower-case letters, digits and _, starting with a letter, since it is a part of labels: write for example kb"))]
    pub collection: String,
    /// The server of vectors and words.
    pub qdrant: QdrantServer,
    /// The server of rows and edges.
    pub neo4j: Neo4jServer,
    /// Processors and memory of the memory service. Without it, it requests 500m and 512Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

/// A Qdrant server or cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("!has(self.caSecretRef) || self.url.startsWith('https://')")
    .message("caSecretRef is for a server with a certificate: write an https:// URL, or remove it")
    .field_path(".caSecretRef"))]
#[serde(rename_all = "camelCase")]
pub struct QdrantServer {
    /// Address of its gRPC.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^/@?#]+$')")
        .message("must be the address of Qdrant's gRPC without user and path: write for example http://qdrant:6334"))]
    pub url: String,
    /// Secret entry that holds the API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_secret_ref: Option<SecretKeyRef>,
    /// Secret entry with the certificate authorities, PEM, of which one signed the server's certificate. Without it, the
    /// public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<CaSecretRef>,
}

/// A Neo4j server, version 5 or newer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("!has(self.caSecretRef) || self.url.startsWith('bolt+s://')")
    .message("caSecretRef is for a server with a certificate: write a bolt+s:// URL, or remove it")
    .field_path(".caSecretRef"))]
#[serde(rename_all = "camelCase")]
pub struct Neo4jServer {
    /// Address of its Bolt port; bolt+s:// is with TLS.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^bolt([+]s)?://[^/@?#]+$')")
        .message("must be the address of one Neo4j server without user and path: write for example bolt://neo4j:7687, or bolt+s:// with TLS"))]
    pub url: String,
    /// Name of the database; without it, the server's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub database: Option<String>,
    /// Secret with the entries `username` and `password`.
    pub credentials_secret_ref: NameRef,
    /// Secret entry with the certificate authorities, PEM, of which one signed the server's certificate. Without it, the
    /// public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<CaSecretRef>,
}

/// The store in one file of the process that serves it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new(
    "has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)"
).message("storageClassName is immutable, as a claim's is: create another MemoryStore and move the passages")
    .field_path(".storageClassName"))]
#[serde(rename_all = "camelCase")]
pub struct EmbeddedStore {
    /// Size of the volume; it may grow when the storage class permits it. In a cluster only.
    #[serde(default = "EmbeddedStore::default_storage")]
    #[x_kube(validation = Rule::new("!isQuantity(self) || quantity(self).compareTo(quantity(oldSelf)) >= 0")
        .message("a volume cannot shrink: write at least what it was"))]
    pub storage: Quantity,
    /// StorageClass of the volume; without it, the cluster's default. In a cluster only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// Processors and memory of the memory service. Without it, it requests 500m and 512Mi. In a cluster only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

/// What happens to storage when the object that owns it is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// It is deleted too.
    Delete,
    /// It stays.
    #[default]
    Retain,
}

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

/// The index over the vectors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// How much of what is truly nearest searches must find: it is measured on the memory's own vectors, and searches look
    /// as hard as that needs. Without it, nothing is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tune: Option<Tune>,
}

/// When the index is measured, and what it must reach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tune {
    /// Share of the 64 truly nearest that searches find.
    #[serde(default = "Tune::default_target_recall")]
    #[schemars(range(min = 0.5, max = 1.0))]
    pub target_recall: f64,
    /// Writes after which it is measured again.
    #[serde(default = "Tune::default_every_writes")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub every_writes: u32,
}

/// Which edges are worth their place. What is not goes in the background, while nobody asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GraphPolicy {
    /// Most edges of one node, both directions together; the best stay, by weight, freshness and confidence.
    #[serde(default = "GraphPolicy::default_degree_max")]
    #[schemars(range(min = 1, max = 65_536))]
    pub degree_max: u32,
    /// Edges of a smaller weight go.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_weight: f64,
    /// Older edges go, also those that documents state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Age>,
}

/// What answers leave in the memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WriteBack {
    /// Nodes that are recalled together and overlap are compressed once, and the summary is recalled with them: a prompt shows
    /// it where they do not all fit. Without it, nothing is summarised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summaries: Option<Summaries>,
}

/// Who writes summaries, and of what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Summaries {
    /// Name of a ModelPool that the gateway selects: a small one. It is asked while it answers nobody, and what a request
    /// recalled is summarised only where the request's privacy reaches the pool.
    #[schemars(length(min = 1, max = 253))]
    pub pool: String,
    /// Least attention of a node for it to be summarised, as a share of the attention of the node with the most.
    #[serde(default = "Summaries::default_min_attention")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_attention: f64,
}

/// How long what wears out is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// Older traces go, with their edges. Without it, they stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traces: Option<Age>,
}

/// What is known about a memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemoryStoreStatus {
    /// Where the memory is kept: embedded or external.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Passages and what links them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u64>,
    /// Links.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edges: Option<u64>,
    /// Passages with a vector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vectors: Option<u64>,
    /// What searches find; absent while it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<IndexStatus>,
    /// Summaries that it holds; absent where none are written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summaries: Option<u64>,
    /// What upkeep let go since the memory service started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruned: Option<PrunedStatus>,
    /// Of an external store, seconds since the oldest write that Qdrant does not know of yet; 0 when it knows all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_back_lag_seconds: Option<u64>,
    /// Ready first.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// What searches find.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IndexStatus {
    /// Share of the truly nearest that they found.
    pub recall: f64,
    /// When it was measured, RFC 3339.
    pub measured_at: String,
    /// Fewest nearest vectors that a search keeps while it looks.
    pub ef_search: u32,
}

impl IndexStatus {
    /// What was measured at `at_ms` (Unix time in milliseconds), with as many digits as the questions that are asked can tell
    /// apart.
    pub fn measured(recall: f64, ef_search: u32, at_ms: u64) -> Self {
        let at = i64::try_from(at_ms).unwrap_or_default();
        Self {
            recall: (recall * 1e4).round() / 1e4,
            measured_at: Timestamp::from_millisecond(at)
                .unwrap_or_default()
                .to_string(),
            ef_search,
        }
    }
}

/// What upkeep let go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrunedStatus {
    /// Edges.
    pub edges: u64,
    /// Traces.
    pub traces: u64,
}

impl Store {
    /// The word in a document.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Embedded(_) => "embedded",
            Self::External(_) => "external",
        }
    }

    /// Processors and memory of the memory service.
    pub fn resources(&self) -> Option<&Resources> {
        match self {
            Self::Embedded(store) => store.resources.as_ref(),
            Self::External(store) => store.resources.as_ref(),
        }
    }
}

impl EmbeddedStore {
    fn default_storage() -> Quantity {
        Quantity::new("10Gi")
    }
}

impl Default for EmbeddedStore {
    fn default() -> Self {
        Self {
            storage: Self::default_storage(),
            storage_class_name: None,
            resources: None,
        }
    }
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

impl Tune {
    fn default_target_recall() -> f64 {
        0.98
    }

    fn default_every_writes() -> u32 {
        10_000
    }
}

impl Summaries {
    fn default_min_attention() -> f64 {
        0.2
    }
}

impl GraphPolicy {
    fn default_degree_max() -> u32 {
        64
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
