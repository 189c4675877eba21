//! The memory of a gateway: nodes, edges, search, recall, context and ingest.
//!
//! This crate owns what Weir remembers and how it is found again. It is synchronous, calls no
//! network and no language model, and never makes a vector itself: vectors are handed in
//! ([`Memory::set_vectors`]) by whoever owns the embedder.
//!
//! Read in this order: `node.rs` (the data), `store.rs` (what is durable), `search.rs` (the fused
//! search), `vectors.rs` (nearest vectors, by comparing all or by an HNSW graph), `recall.rs` (the walk
//! through the edges), `context.rs` (what enters a prompt), `ingest.rs` (from files to nodes),
//! `upkeep.rs` (what is done beside questions), `outside.rs` (for stores in other servers).

pub mod context;
pub mod ingest;
pub mod outside;
pub mod upkeep;

mod access;
mod attention;
mod bm25;
mod graph;
mod index;
mod node;
mod recall;
mod search;
mod sentences;
mod slots;
mod store;
mod summaries;
mod topics;
mod vectors;
mod words;

pub use access::Access;
pub use attention::{
    AttentionError, AttentionWeights, Frozen, LabelledQuestion, Subgraph, SubgraphEdge, TrainError,
    TrainOptions, TrainProgress, TrainReport, train,
};
pub use node::{
    EVIDENCE_CHARS_MAX, Edge, EdgeId, EdgeMetadata, Metadata, NewEdge, NewNode, Node, NodeId,
    NodeSource, NodeType, SHARED_TENANT, UnknownName,
};
pub use recall::{CacheCounts, Freshness, Recall, RecallKey, RecallLimits, Recalled, Recollected};
pub use search::{Filter, Hit, Prepared, Query, SearchError, SearchResult};
pub use store::{
    Batch, Call, Counts, Embedding, GraphCounts, KeepError, Memory, MemoryConfig, MoveError,
    OpenError, ReadError, Shadow, Tuning, WriteError, Written,
};
pub use summaries::{SUMMARISES, Sources};
pub use topics::TopicsError;
pub use vectors::snapshot::SnapshotError;
pub use vectors::{Effort, HnswParameters};
