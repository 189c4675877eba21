//! Erasing a subject: what is about it and what was made from that, in one transaction.
//!
//! A summary goes with the first of its sources that goes, a trace with any node that it is joined to: both may repeat
//! what is erased. Whether the caller may ask for it is checked in `store/write.rs`.

use std::collections::{BTreeSet, HashMap};

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use super::{Transaction, row};
use crate::node::{NodeId, NodeType};
use crate::store::WriteError;
use crate::summaries::SUMMARISES;

/// What was erased: the receipt of an erasure. It names no subject and holds no text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Erased {
    /// Nodes about the subject.
    pub nodes: usize,
    /// Summaries that were made from them.
    pub summaries: usize,
    /// Traces that used them.
    pub traces: usize,
    /// Vectors of all these.
    pub vectors: usize,
    /// Edges at all these.
    pub edges: usize,
    /// Documents that listed them as passages.
    pub documents: usize,
    /// What was recalled for questions and kept, all of which is forgotten.
    #[serde(default)]
    pub recollections: usize,
    /// Every node that is gone, sorted.
    pub ids: Vec<NodeId>,
    /// The write that did it, or the present one when nothing was there.
    pub generation: u64,
    /// Unix time in milliseconds.
    pub erased_at: u64,
}

impl Transaction<'_> {
    /// Removes what is about `subject`, in one tenant or in all.
    pub(crate) fn erase(
        &mut self,
        subject: &str,
        tenant: Option<&str>,
    ) -> Result<Erased, WriteError> {
        let mut erased = Erased {
            erased_at: self.now_ms,
            ..Erased::default()
        };
        let mut doomed: BTreeSet<NodeId> = self.about(subject, tenant)?.into_iter().collect();
        erased.nodes = doomed.len();
        for (id, node_type) in self.made_from(&doomed) {
            match node_type {
                NodeType::Trace => erased.traces += 1,
                _ => erased.summaries += 1,
            }
            doomed.insert(id);
        }
        let mut edges = 0;
        for id in &doomed {
            erased.vectors += usize::from(self.vectors.get(id.as_u128())?.is_some());
            let before = self.changes.len();
            self.remove_node(*id)?;
            // Each edge is one change, and the node itself is one.
            edges += self.changes.len() - before - 1;
        }
        erased.edges = edges;
        erased.documents = self.leave_documents(&doomed)?;
        erased.ids = doomed.into_iter().collect();
        Ok(erased)
    }

    fn about(&self, subject: &str, tenant: Option<&str>) -> Result<Vec<NodeId>, WriteError> {
        let mut ids = Vec::new();
        for entry in self.nodes.iter()? {
            let (key, bytes) = entry?;
            let id = NodeId::from_u128(key.value());
            let node = row::decode_node(id, bytes.value(), 0).map_err(WriteError::Stored)?;
            let is_his = node.metadata.subject.as_deref() == Some(subject);
            if is_his && tenant.is_none_or(|tenant| tenant == node.tenant) {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    /// Summaries and traces that may repeat what stands in `doomed`, also by way of other summaries.
    fn made_from(&self, doomed: &BTreeSet<NodeId>) -> HashMap<NodeId, NodeType> {
        let mut made = HashMap::new();
        let mut open: Vec<NodeId> = doomed.iter().copied().collect();
        while let Some(id) = open.pop() {
            let Some(slot) = self.index.slot(id) else {
                continue;
            };
            let graph = &self.index.graph;
            let incoming = graph.incoming(slot).iter().map(|link| {
                let summarises = graph.relation_name(link.rel) == SUMMARISES;
                (self.index.id(link.to), summarises)
            });
            let outgoing = graph.outgoing(slot).iter();
            let outgoing = outgoing.map(|link| (self.index.id(link.to), false));
            for (other, summarises) in incoming.chain(outgoing) {
                let node_type = match self.index.node_type(other) {
                    Some(NodeType::Trace) => NodeType::Trace,
                    Some(NodeType::Summary) if summarises => NodeType::Summary,
                    _ => continue,
                };
                if !doomed.contains(&other) && made.insert(other, node_type).is_none() {
                    open.push(other);
                }
            }
        }
        made
    }

    /// Takes the nodes out of the lists of passages. A document without passages is known no more.
    fn leave_documents(&mut self, doomed: &BTreeSet<NodeId>) -> Result<usize, WriteError> {
        let mut changed = Vec::new();
        for entry in self.documents.iter()? {
            let (name, ids) = entry?;
            let mut passages = row::decode_ids(ids.value());
            let before = passages.len();
            passages.retain(|id| !doomed.contains(id));
            if passages.len() < before {
                let (tenant, key) = name.value();
                changed.push((tenant.to_owned(), key.to_owned(), passages));
            }
        }
        for (tenant, key, passages) in &changed {
            match passages.as_slice() {
                [] => {
                    self.documents.remove((tenant.as_str(), key.as_str()))?;
                }
                rest => self.put_document(tenant, key, rest)?,
            }
        }
        Ok(changed.len())
    }
}
