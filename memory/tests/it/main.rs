//! What a memory promises to those who use it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod access;
mod attention;
mod cache;
mod context;
mod crash;
mod doctor;
mod erase;
mod export;
mod filters;
mod full;
mod hnsw;
mod hostile;
mod ingest;
mod ingest_edges;
mod ingest_mirror;
mod ingest_pdf;
mod migrate;
mod model;
mod prune;
mod python_docs;
mod recall;
mod stats;
mod store;
mod summaries;
mod topics;
mod tune;

use std::path::Path;

use weir_memory::{Filter, Memory, MemoryConfig, NewNode, NodeId, Query};

/// Dimensions of the vectors in these tests.
const DIMENSIONS: usize = 4;

fn config() -> MemoryConfig {
    MemoryConfig {
        dimensions: DIMENSIONS,
        embedding_model: "test-model".to_owned(),
    }
}

fn open(dir: &Path) -> Memory {
    Memory::open(dir, &config()).unwrap()
}

/// The id of the node called `name`.
fn id(name: &str) -> NodeId {
    NodeId::derived("test", name, 0)
}

/// A node of tenant `acme` with the id of its name.
fn node(name: &str, text: &str) -> NewNode {
    NewNode {
        id: id(name),
        ..NewNode::new("acme", text)
    }
}

/// What tenant `acme` asks in words.
fn query(text: &str) -> Query {
    let filter = Filter {
        tenant: "acme".to_owned(),
        ..Filter::default()
    };
    Query {
        text: text.to_owned(),
        filter,
        k: 10,
        ..Query::default()
    }
}
