//! What a memory promises, whatever keeps it: the embedded store, Qdrant and Neo4j, and plain maps beside them.
//!
//! Neo4j is the real server (`make components`). Qdrant is the server that `WEIR_TEST_QDRANT_URL` names, else one in this
//! process that speaks its protocol; each test says on standard error which one it was.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod away;
mod conformance;
mod crash;
mod exact;
mod export;
mod identity;
mod qdrant_server;
mod recall;
mod world;
mod writes;
