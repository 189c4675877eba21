//! weir-embed against the real embedder, the real vocabularies and a running llama.cpp server.
//!
//! The files and the server come from `weir-testenv`; a test that lacks them says so and passes, unless
//! `WEIR_TEST_REQUIRE_ENGINE=1` is set, as in CI.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers fail the test"
)]

mod counter;
mod embedder;
mod engine;
