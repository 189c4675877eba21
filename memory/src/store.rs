//! The store: what is durable, and the indexes made from it.

use std::path::Path;

use crate::node::{Edge, NewEdge, NewNode, Node, NodeId};
use crate::search::Filter;

/// An open memory. Cheap to clone; all clones are the same memory.
#[derive(Clone, Debug)]
pub struct Memory {
    _config: std::sync::Arc<MemoryConfig>,
}

/// The identity of a store, fixed when it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryConfig {
    /// Length of every vector.
    pub dimensions: usize,
    /// Name of the model that makes the vectors.
    pub embedding_model: String,
}

/// What to write, all or nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Nodes, new or replaced.
    pub nodes: Vec<NewNode>,
    /// Edges, new or replaced.
    pub edges: Vec<NewEdge>,
}

/// What a write did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Nodes that were not there.
    pub inserted: usize,
    /// Nodes whose content changed.
    pub updated: usize,
    /// Nodes that were there with the same content.
    pub unchanged: usize,
    /// Edges that were new or changed.
    pub edges: usize,
    /// The generation this write made, or the present one when nothing changed.
    pub generation: u64,
}

/// How much a memory holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Nodes.
    pub nodes: usize,
    /// Edges.
    pub edges: usize,
    /// Nodes with a vector.
    pub vectors: usize,
    /// Nodes that wait for one.
    pub pending: usize,
}

/// Why a memory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {}

/// Why a write was refused. Nothing of the batch was written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {}

impl Memory {
    /// Opens the memory in `dir`, which is made when it is missing.
    pub fn open(dir: &Path, config: &MemoryConfig) -> Result<Self, OpenError> {
        let _ = dir;
        Ok(Self {
            _config: std::sync::Arc::new(config.clone()),
        })
    }

    /// Writes a batch; it is durable when this returns.
    pub fn write(&self, batch: &Batch) -> Result<Written, WriteError> {
        let _ = batch;
        Ok(Written::default())
    }

    /// Up to `limit` nodes that wait for a vector, with the text to embed.
    pub fn pending_vectors(&self, limit: usize) -> Result<Vec<(NodeId, String)>, ReadError> {
        let _ = limit;
        Ok(Vec::new())
    }

    /// Stores vectors; those of nodes that are gone by now are ignored. Returns how many were stored.
    pub fn set_vectors(&self, vectors: &[(NodeId, Vec<f32>)]) -> Result<usize, WriteError> {
        Ok(vectors.len())
    }

    /// Removes a node with its vector and edges. False when it was not there.
    pub fn delete(&self, id: NodeId) -> Result<bool, WriteError> {
        let _ = id;
        Ok(false)
    }

    /// One node.
    pub fn node(&self, id: NodeId) -> Result<Option<Node>, ReadError> {
        let _ = id;
        Ok(None)
    }

    /// The nodes of `ids` that exist, in that order.
    pub fn nodes(&self, ids: &[NodeId]) -> Result<Vec<Node>, ReadError> {
        let _ = ids;
        Ok(Vec::new())
    }

    /// The edges that start or end at a node.
    pub fn edges(&self, id: NodeId) -> Result<Vec<Edge>, ReadError> {
        let _ = id;
        Ok(Vec::new())
    }

    /// Every node that `filter` lets through, in the order of their ids.
    pub fn ids(&self, filter: &Filter) -> Vec<NodeId> {
        let _ = filter;
        Vec::new()
    }

    /// How much there is.
    pub fn counts(&self) -> Counts {
        Counts::default()
    }

    /// The number of the last write: it grows with every change and survives a restart.
    pub fn generation(&self) -> u64 {
        0
    }
}
