//! Talking to engines: one HTTP client, server-sent events, replicas and their breakers.
//!
//! This crate sends a request to one replica of a pool and reads what comes back. It decides *where inside a pool* a
//! request goes (who has read its beginning, load, breaker, retry while nothing has been read) and never *which pool* answers: that is
//! the gateway's `answer.rs`. It never asks a pool that it was not handed. Reading on: `engines.rs`, then `stream.rs`.

mod attempts;
mod breaker;
pub mod call_text;
mod client;
mod cold;
mod engines;
mod error;
mod event;
pub mod json_span;
mod links;
mod load;
mod prefix;
mod queue;
mod replica;
pub mod sse;
mod stream;
mod tokens;
mod tool_events;
pub mod tool_text;
mod trust;

pub use engines::{ChatRequest, Embedded, Engines, ForwardRequest, Forwarded};
pub use error::{EngineError, Fault, Phase};
pub use event::{ChatEvent, Timings, Usage};
pub use load::PoolLoad;
pub use prefix::Prefix;
pub use queue::Priority;
pub use stream::ChatStream;
pub use tool_events::offered;
