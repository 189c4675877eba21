//! The memory service: one process that owns a store and its embedder, and answers gateways over gRPC.
//!
//! Owns the start, the end and the way in: certificates, health, metrics. What a call does is weir-memory-live, the same
//! code that a gateway runs whose store is in its own process, or weir-memory-external where the store is in Qdrant and
//! Neo4j; what a message means is its `wire` module. Knows no Kubernetes. Reading on: `server.rs`, then `acceptor.rs` (who
//! may connect), `served.rs` (which store) and `calls.rs` (the calls).

mod acceptor;
mod calls;
mod certificates;
mod health;
mod metrics;
mod served;
mod server;

pub use certificates::TlsError;
pub use server::{EmbedderSource, Options, ServeError, Server, Store};
pub use weir_memory_live::{TunePolicy, UpkeepPolicy};
