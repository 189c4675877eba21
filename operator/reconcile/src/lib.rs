//! Pure reconcile steps: resources and observations in; problems, objects, status and plan out.
//!
//! This crate looks from one object to another and never at the world: no client, no clock, nothing async, and no choice is
//! left for the caller to make. [`validate`](fn@validate) finds what does not fit together and [`plan`](fn@plan) makes the
//! one message a gateway lives on, for `weir up` and a cluster alike. One module a kind has the steps of a cluster, under
//! the same names in each: `validate` (what only a cluster cannot do), `build` (objects), `status`. Reading on:
//! `stack.rs`, `validate.rs`, `plan.rs`, then `model_pool.rs`.

pub mod condition;
mod engine_args;
pub mod inference_gateway;
mod jwt;
mod keys;
mod local_mode;
pub mod memory_store;
pub mod model_pool;
pub mod names;
mod network;
mod object;
mod plan;
mod platform;
mod pod;
mod pods;
pub mod router_rollout;
pub mod router_version;
mod stack;
mod validate;

pub use engine_args::{EngineArgs, llama_cpp_args};
pub use jwt::still_accepted;
pub use keys::{KeyError, api_keys, hash_key, still_may_ask, tenants_without_keys};
pub use local_mode::{cluster_only, without_effect};
pub use object::Object;
pub use plan::{ModelFacts, Observed, ObservedPool, ServedRouters, plan};
pub use platform::Platform;
pub use stack::{Stack, load};
pub use validate::{Problem, validate, validate_local};
