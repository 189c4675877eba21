//! The service as a gateway meets it: real TLS with certificates made here, the real client, the real embedder where it is
//! present.

#![expect(
    clippy::unwrap_used,
    reason = "a world that cannot start fails its test"
)]

mod certificates;
mod crash;
mod external;
mod http;
#[expect(dead_code, reason = "tests of weir-memory-external make more of it")]
#[path = "../../../external/tests/it/qdrant_server.rs"]
mod qdrant_server;
mod recall;
mod restart;
mod world;
