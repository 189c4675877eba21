//! A memory in two servers: rows and edges in Neo4j, vectors and words in Qdrant.
//!
//! Neo4j holds the truth. A write is one transaction there, which marks the rows whose point in Qdrant is behind; the
//! points follow, and the marks go last. Whatever ends in between is found by its mark and driven on (`sync.rs`), so
//! nothing acknowledged is lost; a search believes a point only where its version is the row's, so nothing is half
//! visible. One process writes to a store at a time, `weir memory serve`.
//!
//! Owns the two clients and what is kept in each server; checks, the fusion of a search and attention are weir-memory's
//! (`outside.rs` there). Reading on: `config.rs`, `schema.rs` (what is kept where), `write.rs`, `sync.rs`, `search.rs`,
//! `around.rs` (the part of the graph that attention sees), `calls.rs`; the clients are `neo4j.rs` and `qdrant.rs`.

mod around;
mod calls;
mod config;
mod error;
mod export;
mod neo4j;
mod qdrant;
mod row;
mod schema;
mod search;
mod store;
mod sync;
mod write;

pub use config::{ConfigError, ExternalConfig, Neo4jConfig, QdrantConfig};
pub use error::{Server, StoreError};
pub use export::{Blocking, ExternalExportError};
pub use store::{ExternalMemory, State};
