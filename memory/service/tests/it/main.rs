//! The service as a gateway meets it: real TLS with certificates made here, the real client, the real embedder where it is
//! present.

#![expect(
    clippy::unwrap_used,
    reason = "a world that cannot start fails its test"
)]

mod certificates;
mod crash;
mod http;
mod recall;
mod restart;
mod world;
