//! Upkeep: what is done to a memory beside answering questions.
//!
//! Writes a memory out and reads it in again (`export.rs`, `import.rs`, one format in `line.rs`), counts what is there
//! (`stats.rs`), shows one node with its edges (`show.rs`), finds what is wrong and repairs it on request (`doctor.rs`),
//! measures what searches find and lets them look harder (`tune.rs`), and lets go of edges and traces that are not worth their place (`prune.rs`). Erasing a subject is a write like others:
//! [`Memory::erase`](crate::Memory::erase). All of it runs in the process that owns the store.

mod doctor;
mod export;
mod import;
mod line;
mod prune;
mod show;
mod stats;
mod tune;
mod twins;

use serde::{Deserialize, Serialize};

pub use crate::store::{DamagedRow, Erased, damaged_rows, remove_damaged_rows};
pub use doctor::{Check, Diagnosis};
pub use export::{ExportError, ExportLines, Exported};
pub use import::{
    DocumentPassages, ImportError, ImportOptions, Imported, Importing, identity_of, import_into,
};
pub use prune::{PrunePolicy, Pruned, Pruning, SLICE_ROWS, Slice};
pub use show::{End, Shown};
pub use stats::{Degrees, RelationStats, Stats};
pub use tune::{Measured, Measuring, TuneError, TuneOptions, Tuned};

/// What an erasure did to caches: part of its receipt.
pub const CACHES: &str = "a memory keeps no answers; what was recalled for questions and the questions whose vectors were kept are forgotten";

/// What an erasure cannot reach: part of its receipt.
pub const BEYOND_REACH: [&str; 4] = [
    "log rows and decision records, which hold hashes of questions unless spec.logs.queryText is full: whoever keeps them erases them",
    "answers that a gateway keeps (spec.cache), unless it was the one that erased: they are not found any more, and go after spec.cache.ttl",
    "the documents that were read in, exports and backups: read in again, they bring back what they hold",
    "free pages of the store's file, until later writes take them: export the memory and import it into a fresh one to      leave none",
];

/// How far upkeep is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Nodes, edges and documents behind it.
    pub done: u64,
    /// All of them.
    pub total: u64,
}

/// Rows between two reports of progress.
const TELL_EVERY: u64 = 512;
