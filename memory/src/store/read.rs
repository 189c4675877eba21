//! Reading rows: whole nodes and edges, and what waits for a vector.
//!
//! Searches never come here; they are answered by the index and name the ids that are then read.

use redb::ReadableTable;

use super::row;
use super::{Memory, ReadError};
use crate::node::{Edge, Node, NodeId};
use crate::search::Filter;

/// Rows that are held at a time where all are read.
const ROWS_AT_A_TIME: usize = 512;

impl Memory {
    /// One node.
    pub fn node(&self, id: NodeId) -> Result<Option<Node>, ReadError> {
        Ok(self.nodes(&[id])?.pop())
    }

    /// The nodes of `ids` that exist, in that order.
    pub fn nodes(&self, ids: &[NodeId]) -> Result<Vec<Node>, ReadError> {
        let transaction = self.begin_read()?;
        let rows = transaction.open_table(row::NODES)?;
        let stamps = transaction.open_table(row::STAMPS)?;
        let mut nodes = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(bytes) = rows.get(id.as_u128())? else {
                continue;
            };
            let stamp = stamps.get(id.as_u128())?.map_or(0, |stamp| stamp.value());
            nodes.push(row::decode_node(*id, bytes.value(), stamp)?);
        }
        Ok(nodes)
    }

    /// The edges that start or end at a node, by source, target and relation.
    pub fn edges(&self, id: NodeId) -> Result<Vec<Edge>, ReadError> {
        let transaction = self.begin_read()?;
        let table = transaction.open_table(row::EDGES)?;
        let mut edges = Vec::new();
        for (src, dst, rel) in self.edge_keys(id) {
            let key = (src.as_u128(), dst.as_u128(), rel.as_str());
            if let Some(bytes) = table.get(key)? {
                edges.push(row::decode_edge(key, bytes.value())?);
            }
        }
        Ok(edges)
    }

    /// Keys of the edges at a node, sorted. Reads no rows.
    pub(crate) fn edge_keys(&self, id: NodeId) -> Vec<(NodeId, NodeId, String)> {
        let index = self.index();
        let Some(slot) = index.slot(id) else {
            return Vec::new();
        };
        let name = |rel: u16| index.graph.relation_name(rel).to_owned();
        let outgoing = index.graph.outgoing(slot).iter();
        let incoming = index.graph.incoming(slot).iter();
        let mut keys: Vec<_> = (outgoing.map(|link| (id, index.id(link.to), name(link.rel))))
            .chain(incoming.map(|link| (index.id(link.to), id, name(link.rel))))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Every node with the number of its edges, in no order.
    pub(crate) fn degrees(&self) -> Vec<(NodeId, usize)> {
        self.index().degrees()
    }

    /// Every node that `filter` lets through, in the order of their ids.
    pub fn ids(&self, filter: &Filter) -> Vec<NodeId> {
        self.index().ids(filter)
    }

    /// Reads every node that `filter` lets through, in the order of their ids, a few at a time.
    pub fn each_node(&self, filter: &Filter, take: &mut dyn FnMut(Node)) -> Result<(), ReadError> {
        for ids in self.ids(filter).chunks(ROWS_AT_A_TIME) {
            self.nodes(ids)?.into_iter().for_each(&mut *take);
        }
        Ok(())
    }

    /// Up to `limit` nodes that wait for a vector, with the text to embed (title and text).
    pub fn pending_vectors(&self, limit: usize) -> Result<Vec<(NodeId, String)>, ReadError> {
        let transaction = self.begin_read()?;
        let rows = transaction.open_table(row::NODES)?;
        let mut waiting = Vec::new();
        for entry in transaction.open_table(row::PENDING)?.iter()?.take(limit) {
            let (key, generation) = entry?;
            let id = NodeId::from_u128(key.value());
            if let Some(bytes) = rows.get(id.as_u128())? {
                let node = row::decode_node(id, bytes.value(), 0)?;
                waiting.push((id, node.indexed_text()));
                self.handed_out().insert(id, generation.value());
            }
        }
        Ok(waiting)
    }

    /// Up to `limit` passages whose vector is newer than their `same_topic` edges.
    pub(crate) fn unjoined(&self, limit: usize) -> Result<Vec<NodeId>, ReadError> {
        let transaction = self.begin_read()?;
        let table = match transaction.open_table(row::UNJOINED) {
            Ok(table) => table,
            // A store that was not written to since there is such a table.
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(other) => return Err(other.into()),
        };
        let mut waiting = Vec::new();
        for entry in table.iter()?.take(limit) {
            let (key, _) = entry?;
            waiting.push(NodeId::from_u128(key.value()));
        }
        Ok(waiting)
    }

    /// The documents that were ingested for a tenant: what the store knows each by, and its passages in order.
    pub fn documents(&self, tenant: &str) -> Result<Vec<(String, Vec<NodeId>)>, ReadError> {
        let transaction = self.begin_read()?;
        let table = transaction.open_table(row::DOCUMENTS)?;
        let mut documents = Vec::new();
        for entry in table.range((tenant, "")..)? {
            let (key, ids) = entry?;
            let (owner, name) = key.value();
            if owner != tenant {
                break;
            }
            documents.push((name.to_owned(), row::decode_ids(ids.value())));
        }
        Ok(documents)
    }

    /// The passages that the document of the key `key` had when it was last ingested.
    pub(crate) fn document(&self, tenant: &str, key: &str) -> Result<Vec<NodeId>, ReadError> {
        let transaction = self.begin_read()?;
        let table = transaction.open_table(row::DOCUMENTS)?;
        let ids = table.get((tenant, key))?;
        Ok(ids
            .map(|bytes| row::decode_ids(bytes.value()))
            .unwrap_or_default())
    }
}
