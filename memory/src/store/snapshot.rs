//! All rows as of one write, in the order of their keys: what export, statistics and the check-up read.
//!
//! A snapshot is one read transaction of redb: writes go on beside it and are not seen. Rows are handed on one by one and
//! not kept, so a large store is read in little memory. What the rows mean is weir-memory's `upkeep`.

use redb::{ReadOnlyTable, ReadableTable, ReadableTableMetadata};

use super::row;
use super::{EdgeKey, Memory, ReadError};
use crate::node::{Edge, Node, NodeId};

/// The store as one write left it.
pub(crate) struct Snapshot {
    nodes: ReadOnlyTable<u128, &'static [u8]>,
    stamps: ReadOnlyTable<u128, u64>,
    vectors: ReadOnlyTable<u128, &'static [u8]>,
    pending: ReadOnlyTable<u128, u64>,
    edges: ReadOnlyTable<(u128, u128, &'static str), &'static [u8]>,
    documents: ReadOnlyTable<(&'static str, &'static str), &'static [u8]>,
    dimensions: usize,
    /// Number of the write that the snapshot shows.
    pub(crate) generation: u64,
}

/// The passages of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Document {
    pub(crate) tenant: String,
    /// What the store knows it by.
    pub(crate) key: String,
    pub(crate) passages: Vec<NodeId>,
}

/// How many rows there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) nodes: u64,
    pub(crate) vectors: u64,
    pub(crate) pending: u64,
    pub(crate) edges: u64,
    pub(crate) documents: u64,
}

impl Memory {
    /// The store as it is now, for as long as the snapshot lives.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, ReadError> {
        let transaction = self.begin_read()?;
        Ok(Snapshot {
            nodes: transaction.open_table(row::NODES)?,
            stamps: transaction.open_table(row::STAMPS)?,
            vectors: transaction.open_table(row::VECTORS)?,
            pending: transaction.open_table(row::PENDING)?,
            edges: transaction.open_table(row::EDGES)?,
            documents: transaction.open_table(row::DOCUMENTS)?,
            dimensions: self.config().dimensions,
            generation: super::open::generation(&transaction)?,
        })
    }
}

impl Snapshot {
    /// How many rows there are.
    pub(crate) fn rows(&self) -> Result<Rows, ReadError> {
        Ok(Rows {
            nodes: self.nodes.len()?,
            vectors: self.vectors.len()?,
            pending: self.pending.len()?,
            edges: self.edges.len()?,
            documents: self.documents.len()?,
        })
    }

    /// Every node.
    pub(crate) fn nodes(&self) -> Result<impl Iterator<Item = Result<Node, ReadError>>, ReadError> {
        self.nodes_from(NodeId::from_u128(0))
    }

    /// Every node from `first` on.
    pub(crate) fn nodes_from(
        &self,
        first: NodeId,
    ) -> Result<impl Iterator<Item = Result<Node, ReadError>>, ReadError> {
        Ok(self.nodes.range(first.as_u128()..)?.map(|entry| {
            let (key, bytes) = entry?;
            let id = NodeId::from_u128(key.value());
            row::decode_node(id, bytes.value(), self.stamp(id)?)
        }))
    }

    /// A node.
    pub(crate) fn node(&self, id: NodeId) -> Result<Option<Node>, ReadError> {
        let bytes = self.nodes.get(id.as_u128())?;
        let stamp = self.stamp(id)?;
        let node = bytes.map(|bytes| row::decode_node(id, bytes.value(), stamp));
        node.transpose()
    }

    /// Every edge.
    pub(crate) fn edges(&self) -> Result<impl Iterator<Item = Result<Edge, ReadError>>, ReadError> {
        self.edges_from(None)
    }

    /// Every edge from `first` on.
    pub(crate) fn edges_from(
        &self,
        first: Option<&EdgeKey>,
    ) -> Result<impl Iterator<Item = Result<Edge, ReadError>>, ReadError> {
        let first = first.map_or((0, 0, ""), |(src, dst, rel)| {
            (src.as_u128(), dst.as_u128(), rel.as_str())
        });
        Ok(self.edges.range(first..)?.map(|entry| {
            let (key, bytes) = entry?;
            row::decode_edge(key.value(), bytes.value())
        }))
    }

    /// Every document.
    pub(crate) fn documents(
        &self,
    ) -> Result<impl Iterator<Item = Result<Document, ReadError>>, ReadError> {
        Ok(self.documents.iter()?.map(|entry| {
            let (name, ids) = entry?;
            let (tenant, key) = name.value();
            Ok(Document {
                tenant: tenant.to_owned(),
                key: key.to_owned(),
                passages: row::decode_ids(ids.value()),
            })
        }))
    }

    /// The nodes that have a vector, whether they are there or not.
    pub(crate) fn vector_ids(
        &self,
    ) -> Result<impl Iterator<Item = Result<NodeId, ReadError>>, ReadError> {
        let keys = self
            .vectors
            .iter()?
            .map(|entry| entry.map(|(key, _)| key.value()));
        Ok(keys.map(|key| Ok(NodeId::from_u128(key?))))
    }

    /// The vector of a node.
    pub(crate) fn vector(&self, id: NodeId) -> Result<Option<Vec<f32>>, ReadError> {
        let bytes = self.vectors.get(id.as_u128())?;
        let decode = |bytes: redb::AccessGuard<'_, &'static [u8]>| {
            row::decode_vector(id, bytes.value(), self.dimensions)
        };
        bytes.map(decode).transpose()
    }

    /// Whether a node is there.
    pub(crate) fn has_node(&self, id: NodeId) -> Result<bool, ReadError> {
        Ok(self.nodes.get(id.as_u128())?.is_some())
    }

    /// Whether a node has a vector.
    pub(crate) fn has_vector(&self, id: NodeId) -> Result<bool, ReadError> {
        Ok(self.vectors.get(id.as_u128())?.is_some())
    }

    /// Whether a node waits for a vector.
    pub(crate) fn is_pending(&self, id: NodeId) -> Result<bool, ReadError> {
        Ok(self.pending.get(id.as_u128())?.is_some())
    }

    /// The write that last changed a node or a knowledge edge at it.
    pub(crate) fn stamp(&self, id: NodeId) -> Result<u64, ReadError> {
        Ok(self
            .stamps
            .get(id.as_u128())?
            .map_or(0, |stamp| stamp.value()))
    }
}
