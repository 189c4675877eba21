//! Pure reconcile steps: resources in, plan and status out.
//!
//! This crate looks from one object to another: [`validate`](fn@validate) finds what does not fit together,
//! [`plan`](fn@plan) makes the one message a gateway lives on. No client, no clock, nothing async, and no choice is left for the
//! caller to make. Reading on: `stack.rs`, `validate.rs`, `plan.rs`, `keys.rs`.

mod keys;
mod plan;
mod stack;
mod validate;

pub use keys::{KeyError, api_keys, hash_key};
pub use plan::{ModelFacts, Observed, ObservedPool, plan};
pub use stack::{Stack, load};
pub use validate::{Problem, validate};
