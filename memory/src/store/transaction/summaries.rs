//! Summaries follow their sources: one goes in the very write in which a node that it was made from changes or goes.
//!
//! So no reader ever sees a summary beside a source that says something else.

use std::collections::BTreeSet;

use super::{EdgeKey, Transaction};
use crate::index::Change;
use crate::node::{NewEdge, NodeId};
use crate::store::WriteError;
use crate::summaries::{self, says_source};

impl Transaction<'_> {
    /// Whether an edge says what a summary was made from.
    pub(super) fn says_source(&self, src: NodeId, rel: &str) -> bool {
        says_source(self.node_type(src), rel)
    }

    /// Whether the summary may be made from this source, and was made from what the source says now.
    pub(super) fn check_source(&self, new: &NewEdge) -> Result<(), WriteError> {
        match (self.stored_node(new.src)?, self.stored_node(new.dst)?) {
            (Some(summary), Some(source)) => summaries::check_source(new, [&summary, &source]),
            _ => Ok(()),
        }
    }

    /// Removes the summaries of what changed or went, and the summaries of these. A summary that came in the same write was made
    /// from what the write brings.
    pub(super) fn drop_outdated(&mut self) -> Result<(), WriteError> {
        let index = self.index;
        let mut dropped = BTreeSet::new();
        while let Some(source) = self.outdated.pop_first() {
            let Some(slot) = index.slot(source) else {
                continue;
            };
            for summary in index.summaries_of(slot).map(|slot| index.id(slot)) {
                if !self.types.contains_key(&summary) {
                    self.remove_node(summary)?;
                    dropped.insert(summary);
                }
            }
        }
        self.remove_new_edges(&dropped)
    }

    /// Removes what this write joined to nodes that are gone again: the index does not know of it yet.
    fn remove_new_edges(&mut self, gone: &BTreeSet<NodeId>) -> Result<(), WriteError> {
        if gone.is_empty() {
            return Ok(());
        }
        let new = self.changes.iter().filter_map(|change| match change {
            Change::Edge { src, dst, rel, .. } if gone.contains(src) || gone.contains(dst) => {
                Some((*src, *dst, rel.clone()))
            }
            _ => None,
        });
        let new: Vec<EdgeKey> = new.collect();
        for (src, dst, rel) in new {
            self.remove_edge(src, dst, &rel)?;
        }
        // A node that is gone has no stamp.
        self.stamped.retain(|id| !gone.contains(id));
        Ok(())
    }
}
