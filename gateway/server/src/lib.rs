//! The gateway: one request from the surface to the recorded answer.
//!
//! Read `answer.rs` first: it is the flow of a request, one line a step, and every step is a file of that name. Surfaces
//! (`http/`, `grpc/`, `auth.rs`, `rescue.rs`) turn bytes into an [`ask::Ask`] and answers into bytes and decide nothing. This
//! crate knows no Kubernetes: its whole world is a `GatewayPlan` and the [`gateway::Assets`] that go with it.

pub mod answer;
mod answer_cache;
pub mod ask;
mod attempt;
mod auth;
mod candidate;
mod check;
mod choose;
pub mod comparison;
mod counts;
pub mod decisions;
pub mod dispatch;
mod error;
pub mod evidence;
pub mod extension;
pub mod familiarity;
mod field;
mod fill;
#[cfg(test)]
mod fixture;
pub mod forecast;
pub mod gateway;
pub mod grpc;
pub mod http;
pub mod jwt;
mod lifecycle;
pub mod masks;
pub mod message;
mod metrics;
mod near_duplicate;
pub mod normalise;
pub mod openapi;
mod outside;
mod prepare;
mod prompt;
mod quiet;
mod quota;
mod recall;
pub mod record;
mod replay;
mod rescue;
pub mod rotating_log;
mod row_log;
mod serve;
mod serving;
pub mod speed;
mod stalled;
mod stop;
mod stream;
mod tally;
mod traces;
mod verdict;
mod waterfall;
mod write_back;

pub use gateway::{Assets, Gateway, MemoryAsset};
pub use lifecycle::{STALE_AFTER, Standing};
pub use serve::{prompt, serve, serve_routes};
pub use stop::Stop;
pub use write_back::Outcome;
