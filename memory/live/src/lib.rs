//! The memory as a request sees it: calls that a store in this process or a service answers.
//!
//! Owns [`MemoryCalls`], the one way in which a gateway asks a memory, and [`LiveMemory`], which answers from an open
//! store and its [`Embedder`]. The other implementations are the client of the memory service (`gateway/cluster`) and the
//! memory in Qdrant and Neo4j (`memory/external`); the service itself answers with a [`LiveMemory`] or with the latter. Also
//! fills in missing vectors and keeps the memory up in the background. Storage, search and
//! attention are weir-memory; this crate adds time: budgets, threads, embedding. Reading on: `calls.rs`, `live.rs`,
//! `recall.rs`, `fill.rs`, `upkeep.rs`.

mod calls;
mod embedder;
mod fill;
mod live;
mod questions;
mod recall;
mod upkeep;
#[cfg(feature = "wire")]
pub mod wire;

pub use calls::{
    Asked, Attended, Found, MemoryCalls, MemoryError, Presence, Recollection, Reply, Sought, Spent,
    Wanted,
};
pub use embedder::{Embedder, NoVectors};
pub use fill::{Passage, Unembedded, fill};
pub use live::LiveMemory;
pub use recall::{
    EMBED_BUDGET, STORE_BUDGET, candidates, in_time, milliseconds, scored_hits, scored_nodes,
};
pub use upkeep::{TunePolicy, UpkeepCounts, UpkeepPolicy, Upkept, keep_up};
