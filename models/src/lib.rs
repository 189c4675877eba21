//! Model files: where they come from, how they arrive whole, and what a GGUF header says about them.
//!
//! Parsing needs nothing but the file; downloading stands behind the feature `fetch`. This crate
//! never loads weights and never starts an engine. Read on in [`source`] (what a stack may name),
//! `fetch` (how it gets onto the disk) and [`gguf`] (what is in it).

#[cfg(feature = "fetch")]
pub mod fetch;
pub mod gguf;
pub mod source;

#[cfg(feature = "fetch")]
pub use fetch::{Access, FetchError, Fetcher, Progress, S3Access};
pub use source::{Source, SourceError};
