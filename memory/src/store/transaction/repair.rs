//! What the check-up repairs, in one transaction. Each row is looked at again: it may have changed since it was found.

use redb::ReadableTable;

use super::{EdgeKey, Transaction, row};
use crate::node::NodeId;
use crate::store::storage::Room;
use crate::store::{Memory, WriteError};

/// What is to be repaired, as the check-up found it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Repairs {
    /// Edges that lack an end.
    pub(crate) dangling_edges: Vec<EdgeKey>,
    /// Summaries of what has changed since.
    pub(crate) stale_summaries: Vec<NodeId>,
    /// Vectors whose node is gone.
    pub(crate) lone_vectors: Vec<NodeId>,
    /// Nodes with neither a vector nor a place among those that wait for one.
    pub(crate) forgotten: Vec<NodeId>,
    /// Documents with passages that are gone: tenant, key.
    pub(crate) documents: Vec<(String, String)>,
}

impl Memory {
    /// Repairs what is still as it was found; how many of each were.
    pub(crate) fn repair(&self, wanted: &Repairs) -> Result<[usize; 5], WriteError> {
        self.transact(Room::Less, |transaction| transaction.repair(wanted))
            .map(|(repaired, _)| repaired)
    }
}

impl Transaction<'_> {
    fn repair(&mut self, wanted: &Repairs) -> Result<[usize; 5], WriteError> {
        let mut repaired = [0; 5];
        for (src, dst, rel) in &wanted.dangling_edges {
            if !self.has_node(*src)? || !self.has_node(*dst)? {
                let key = (src.as_u128(), dst.as_u128(), rel.as_str());
                repaired[0] += usize::from(self.edges.remove(key)?.is_some());
            }
        }
        for id in &wanted.stale_summaries {
            repaired[1] += usize::from(self.remove_node(*id)?);
        }
        for id in &wanted.lone_vectors {
            if !self.has_node(*id)? {
                repaired[2] += usize::from(self.vectors.remove(id.as_u128())?.is_some());
                self.pending.remove(id.as_u128())?;
            }
        }
        for id in &wanted.forgotten {
            if self.has_node(*id)? && self.vectors.get(id.as_u128())?.is_none() {
                let before = self.pending.insert(id.as_u128(), self.generation)?;
                repaired[3] += usize::from(before.is_none());
            }
        }
        for (tenant, key) in &wanted.documents {
            repaired[4] += usize::from(self.mend_document(tenant, key)?);
        }
        self.dirty |= repaired.iter().any(|count| *count > 0);
        Ok(repaired)
    }

    fn has_node(&self, id: NodeId) -> Result<bool, WriteError> {
        Ok(self.nodes.get(id.as_u128())?.is_some())
    }

    /// Leaves out the passages that are gone. Whether there were any.
    fn mend_document(&mut self, tenant: &str, key: &str) -> Result<bool, WriteError> {
        let stored = self.documents.get((tenant, key))?;
        let passages = stored
            .map(|ids| row::decode_ids(ids.value()))
            .unwrap_or_default();
        let mut there = Vec::with_capacity(passages.len());
        for id in &passages {
            if self.has_node(*id)? {
                there.push(*id);
            }
        }
        if there.len() == passages.len() {
            return Ok(false);
        }
        self.put_document(tenant, key, &there)?;
        Ok(true)
    }
}
