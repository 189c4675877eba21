//! Tables and rows: how nodes, edges and vectors look on disk.
//!
//! Rows are JSON because they are read far more often by people than by the hot path, which lives
//! in the index. Changing anything here means raising [`FORMAT`].

use std::borrow::Cow;
use std::fmt::Display;

use redb::TableDefinition;
use serde::{Deserialize, Serialize};

use super::ReadError;
use crate::node::{Edge, EdgeId, EdgeMetadata, Metadata, Node, NodeId, NodeSource, NodeType};

/// Version of the tables below.
pub(super) const FORMAT: &str = "1";

/// Identity of the store: `format`, `dimensions`, `embedding_model`, `revision`; with a second set of vectors, that one's
/// with `shadow_` before.
pub(super) const IDENTITY: TableDefinition<'_, &str, &str> = TableDefinition::new("identity");
/// One row, `generation`: the number of the last write.
pub(super) const SEQUENCE: TableDefinition<'_, &str, u64> = TableDefinition::new("sequence");
/// Node rows by id.
pub(super) const NODES: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("nodes");
/// The generation that last changed a node or a knowledge edge at it. Apart from the rows, because
/// edges touch it.
pub(super) const STAMPS: TableDefinition<'_, u128, u64> = TableDefinition::new("stamps");
/// Unit vectors by node, little-endian `f32`.
pub(super) const VECTORS: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("vectors");
/// Nodes without a vector, with the generation of their text.
pub(super) const PENDING: TableDefinition<'_, u128, u64> = TableDefinition::new("pending");
/// Passages whose vector is newer than the `same_topic` edges that were made from it.
pub(super) const UNJOINED: TableDefinition<'_, u128, ()> = TableDefinition::new("unjoined");
/// Vectors of another embedding, as [`VECTORS`]; there while a store has a second set.
pub(super) const SHADOW_VECTORS: TableDefinition<'_, u128, &[u8]> =
    TableDefinition::new("shadow_vectors");
/// Nodes without one of these, as [`PENDING`].
pub(super) const SHADOW_PENDING: TableDefinition<'_, u128, u64> =
    TableDefinition::new("shadow_pending");
/// Edge rows by source, target and relation.
pub(super) const EDGES: TableDefinition<'_, (u128, u128, &str), &[u8]> =
    TableDefinition::new("edges");
/// The passages of a document by tenant and key: 16 bytes a node id.
pub(super) const DOCUMENTS: TableDefinition<'_, (&str, &str), &[u8]> =
    TableDefinition::new("documents");

/// A node without what stands in its key and in [`STAMPS`].
#[derive(Serialize, Deserialize)]
pub(super) struct NodeRow<'a> {
    #[serde(borrow)]
    pub(super) tenant: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) text: Cow<'a, str>,
    #[serde(rename = "type")]
    pub(super) node_type: NodeType,
    pub(super) source: NodeSource,
    pub(super) metadata: Cow<'a, Metadata>,
}

/// An edge without what stands in its key.
#[derive(Serialize, Deserialize)]
pub(super) struct EdgeRow<'a> {
    pub(super) weight: f32,
    pub(super) metadata: Cow<'a, EdgeMetadata>,
}

/// The bytes of a row.
pub(super) fn encode<T: Serialize>(row: &T) -> Vec<u8> {
    serde_json::to_vec(row).expect("rows hold strings, numbers and lists of them")
}

/// A node from its row.
pub(super) fn decode_node(id: NodeId, bytes: &[u8], stamp: u64) -> Result<Node, ReadError> {
    let row: NodeRow<'_> = serde_json::from_slice(bytes).map_err(|error| damaged(&id, &error))?;
    Ok(Node {
        id,
        tenant: row.tenant.into_owned(),
        text: row.text.into_owned(),
        node_type: row.node_type,
        source: row.source,
        metadata: row.metadata.into_owned(),
        stamp,
    })
}

/// An edge from its row.
pub(super) fn decode_edge(key: (u128, u128, &str), bytes: &[u8]) -> Result<Edge, ReadError> {
    let (src, dst, rel) = (NodeId::from_u128(key.0), NodeId::from_u128(key.1), key.2);
    let id = EdgeId::derived(src, dst, rel);
    let row: EdgeRow<'_> = serde_json::from_slice(bytes).map_err(|error| damaged(&id, &error))?;
    let metadata = row.metadata.into_owned();
    Ok(Edge {
        id,
        src,
        dst,
        rel: rel.to_owned(),
        weight: row.weight,
        metadata,
    })
}

/// The bytes of a vector.
pub(super) fn encode_vector(unit: &[f32]) -> Vec<u8> {
    unit.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A vector from its bytes.
pub(super) fn decode_vector(
    id: NodeId,
    bytes: &[u8],
    dimensions: usize,
) -> Result<Vec<f32>, ReadError> {
    let (values, rest) = bytes.as_chunks::<4>();
    if values.len() != dimensions || !rest.is_empty() {
        let reason = format!(
            "a vector of {} bytes, not of {dimensions} values",
            bytes.len()
        );
        return Err(ReadError::Damaged {
            row: id.to_string(),
            reason,
        });
    }
    Ok(values
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect())
}

/// The bytes of a document's list of passages.
pub(super) fn encode_ids(ids: &[NodeId]) -> Vec<u8> {
    ids.iter()
        .flat_map(|id| id.as_u128().to_le_bytes())
        .collect()
}

/// A document's list of passages.
pub(super) fn decode_ids(bytes: &[u8]) -> Vec<NodeId> {
    let (ids, _) = bytes.as_chunks::<16>();
    ids.iter()
        .map(|bytes| NodeId::from_u128(u128::from_le_bytes(*bytes)))
        .collect()
}

fn damaged(row: &dyn Display, error: &serde_json::Error) -> ReadError {
    ReadError::Damaged {
        row: row.to_string(),
        reason: error.to_string(),
    }
}
