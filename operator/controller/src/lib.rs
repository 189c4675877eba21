//! The operator: keeps a cluster as its resources say, and tells gateways what to serve.
//!
//! Everything that decides is pure and lives in `operator/reconcile`; this crate does what has to be done around it: watch,
//! apply, write statuses, lead, issue certificates, and hold the control stream. The operator never talks to a user's
//! request. Reading on: one kind's file, `model_pool.rs`, whose `reconcile` is the same five lines as every other's; then
//! `run.rs` (how the parts come together), `apply.rs`, `status.rs`, and `control/` (the stream).

mod apply;
mod artifacts;
mod authority;
mod autoscale;
mod benchmark;
mod ca_bundle;
mod cache;
mod certificate;
mod change;
pub mod client;
mod cluster;
mod collect;
mod context;
mod control;
mod describe;
mod drift;
mod events;
mod http;
mod inference_gateway;
mod key;
mod lease;
mod memory_store;
mod model_pool;
mod options;
mod outside;
mod paused;
mod pki;
mod publisher;
mod queue;
mod reach;
mod readers;
mod router_rollout;
mod router_version;
mod run;
mod shown;
mod status;
mod tls_secret;
mod unreadable;
mod watch;
mod worker;

#[cfg(test)]
mod tests;

pub use options::Options;
pub use run::{RunError, run};
