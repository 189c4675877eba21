//! weir-models on made and on real files, and against a small HTTP server of the test's own.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

#[cfg(feature = "fetch")]
mod fetch;
mod gguf;
#[cfg(feature = "fetch")]
mod hub;
#[cfg(feature = "fetch")]
mod server;
mod source;
