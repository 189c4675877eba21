//! The Kubernetes API of Weir: types, CEL rules, offline validation.
//!
//! Four kinds that people write: [`ModelPool`], [`MemoryStore`], [`RouterVersion`] and [`InferenceGateway`]. This crate
//! owns their shape, the rules the API server enforces and the same rules offline; it has no client and nothing async,
//! and it never looks from one object to another (that is `operator/reconcile`). Reading on: one file a kind, then
//! `stack.rs` (files into typed documents), `validate.rs` (documents into findings), `schema.rs` (CRDs, editors).

mod common;
mod inference_gateway;
mod memory_store;
mod model_pool;
mod router_version;
pub mod schema;
pub mod stack;
mod structure;
mod units;
pub mod validate;
pub mod yaml;

pub use common::{NameRef, Privacy, SecretKeyRef, Tier};
pub use inference_gateway::{
    Auth, Exploration, GatewayRouter, Guardrail, GuardrailAction, GuardrailCondition,
    InferenceGateway, InferenceGatewaySpec, InferenceGatewayStatus, Limits, Listen, LogSink, Logs,
    Objective, PoolSelector, PrivacyLimits, QueryText,
};
pub use memory_store::{
    Attention, EmbeddedStore, Embedding, MemoryStore, MemoryStoreSpec, MemoryStoreStatus, Store,
};
pub use model_pool::{
    Cost, Engine, External, LlamaCpp, Model, ModelPool, ModelPoolSpec, ModelPoolStatus, Sampling,
};
pub use router_version::{Artifact, RouterVersion, RouterVersionSpec, RouterVersionStatus};
pub use schema::{SchemaError, crds, schema};
pub use units::{ByteSize, Duration, UnitError};

pub use k8s_openapi::api::core::v1::Secret;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// Group of every kind in this crate.
pub const GROUP: &str = "weir.dev";
/// Version of every kind in this crate.
pub const VERSION: &str = "v1alpha1";
/// What `apiVersion` says in a document of this crate's kinds.
pub const API_VERSION: &str = "weir.dev/v1alpha1";
