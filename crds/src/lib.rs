//! The Kubernetes API of Weir: types, CEL rules, offline validation.
//!
//! Four kinds that people write: [`ModelPool`], [`MemoryStore`], [`RouterVersion`] and [`InferenceGateway`], and one that
//! the operator writes: [`RouterRollout`]. This crate owns their shape, the rules the API server enforces and the same
//! rules offline; it has no client and nothing async, and it never looks from one object to another (that is
//! `operator/reconcile`). Reading on: one file a kind, then `stack.rs` (files into typed documents), `validate.rs`
//! (documents into findings), `schema.rs` (CRDs, editors).

mod auth;
mod common;
mod engine;
mod expose;
mod inference_gateway;
mod limits;
mod memory_store;
mod model_pool;
mod rollout_policy;
mod router_rollout;
mod router_version;
pub mod schema;
pub mod stack;
mod structure;
mod units;
pub mod validate;
mod workload;
pub mod yaml;

pub use auth::{Anonymous, Auth, Jwt, JwtKeys};
pub use common::{CaSecretRef, NameRef, Privacy, SecretKeyRef, Tier};
pub use engine::{Dtype, Engine, External, LlamaCpp, Vllm};
pub use expose::{Expose, HttpRoute, ParentRef, ServiceType};
pub use inference_gateway::{
    Exploration, GatewayRouter, Guardrail, GuardrailAction, GuardrailCondition, InferenceGateway,
    InferenceGatewaySpec, InferenceGatewayStatus, Listen, LogSink, Logs, Objective, OverBudget,
    PoolSelector, PrivacyLimits, QueryText, Tenant,
};
pub use limits::{AnswerCache, Limits, Traces};
pub use memory_store::{
    Attention, DeletionPolicy, EmbeddedStore, Embedding, ExternalStore, GraphPolicy, Index,
    IndexStatus, MemoryStore, MemoryStoreSpec, MemoryStoreStatus, Neo4jServer, PrunedStatus,
    QdrantServer, Retention, Store, Summaries, Tune, WriteBack,
};
pub use model_pool::{
    Autoscaling, Cache, Cost, HostPath, Model, ModelPool, ModelPoolSpec, ModelPoolStatus,
    ModelStatus, PerformanceStatus, Sampling, Update, WhenCold,
};
pub use rollout_policy::{CanaryPolicy, GatePolicy, RolloutPolicy, ShadowPolicy};
pub use router_rollout::{
    GatewayRouterStatus, ProcessRef, ProcessSums, RegretStatus, RegretSums, RolloutAction,
    RolloutEvidenceStatus, RolloutLedger, RolloutPhase, RolloutSums, RouterRollout,
    RouterRolloutSpec, RouterRolloutStatus, VersionEvidenceStatus, VersionRef, VersionSums,
};
pub use router_version::{
    Artifact, ConfigMapKeyRef, Holdout, RouterVersion, RouterVersionSpec, RouterVersionStatus,
    TrainedFrom,
};
pub use schema::{SchemaError, crds, schema};
pub use units::{Age, ByteSize, Duration, UnitError};
pub use workload::{PodOptions, Quantity, Resources};

pub use k8s_openapi::api::core::v1::Secret;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Group of every kind in this crate.
pub const GROUP: &str = "weir.dev";
/// Version of every kind in this crate.
pub const VERSION: &str = "v1alpha1";
/// Annotation that stops the reconciling of an object when it is `"true"`.
pub const PAUSED: &str = "weir.dev/paused";
/// What `apiVersion` says in a document of this crate's kinds.
pub const API_VERSION: &str = "weir.dev/v1alpha1";
