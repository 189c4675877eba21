//! Places: where the addresses of links lead.
//!
//! Addresses mean passages of the run, and those of earlier runs by the ids that follow from their place. What an address
//! says is in `links.rs`.

use std::collections::HashMap;

use super::edges::Outline;
use super::links;
use crate::node::NodeId;
use crate::store::Memory;

/// Where addresses lead.
pub(super) struct Places<'a> {
    memory: &'a Memory,
    tenant: &'a str,
    by_anchor: HashMap<(&'a str, &'a str), NodeId>,
    by_document: HashMap<&'a str, NodeId>,
}

impl<'a> Places<'a> {
    pub(super) fn of(memory: &'a Memory, tenant: &'a str, outlines: &'a [Outline]) -> Self {
        let mut by_anchor = HashMap::new();
        let mut by_document = HashMap::new();
        for outline in outlines {
            let key = outline.key.as_str();
            for (id, passage) in &outline.passages {
                by_document.entry(key).or_insert(*id);
                for anchor in &passage.anchors {
                    by_anchor.entry((key, anchor.as_str())).or_insert(*id);
                }
            }
        }
        Self {
            memory,
            tenant,
            by_anchor,
            by_document,
        }
    }

    /// The section an address means, else its document; both may be of an earlier run. Records name
    /// each other by id.
    pub(super) fn find(&self, from: &Outline, address: &str) -> Option<NodeId> {
        if !from.ordered
            && let Some(record) = self.by_anchor.get(&(from.key.as_str(), address))
        {
            return Some(*record);
        }
        let (path, anchor) = links::resolve(&from.root, &from.key, address)?;
        let anchor = anchor.as_deref().unwrap_or_default();
        let here = self.by_anchor.get(&(path.as_str(), anchor));
        here.or_else(|| self.by_document.get(path.as_str()))
            .copied()
            .or_else(|| self.find_stored(&format!("{path}#{anchor}")))
            .or_else(|| self.find_stored(&path))
    }

    fn find_stored(&self, place: &str) -> Option<NodeId> {
        let id = NodeId::derived(self.tenant, place, 0);
        self.memory.index().slot(id).map(|_| id)
    }
}
