//! weir-models on made and on real files, and against a small HTTP server of the test's own.

#[cfg(feature = "fetch")]
mod fetch;
mod gguf;
#[cfg(feature = "fetch")]
mod server;
mod source;
