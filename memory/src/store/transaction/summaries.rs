//! Summaries follow their sources: one goes in the very write in which a node that it was made from changes or goes.
//!
//! So no reader ever sees a summary beside a source that says something else. A summary belongs to the tenant of its sources,
//! or to one that may read them: it repeats what they say.

use super::Transaction;
use crate::node::{NewEdge, NodeId, NodeType, SHARED_TENANT};
use crate::store::WriteError;
use crate::summaries::SUMMARISES;

impl Transaction<'_> {
    /// Whether an edge says what a summary was made from.
    pub(super) fn says_source(&self, src: NodeId, rel: &str) -> bool {
        rel == SUMMARISES && self.node_type(src) == Some(NodeType::Summary)
    }

    /// Whether the summary may be made from this source, and was made from what the source says now.
    pub(super) fn check_source(&self, new: &NewEdge) -> Result<(), WriteError> {
        let (Some(summary), Some(source)) =
            (self.stored_node(new.src)?, self.stored_node(new.dst)?)
        else {
            return Ok(());
        };
        if source.tenant != summary.tenant && source.tenant != SHARED_TENANT {
            return Err(WriteError::SummaryTenant {
                id: new.src,
                made_from: new.dst,
            });
        }
        match &new.metadata.source_digest {
            Some(digest) if *digest != source.digest() => Err(WriteError::SourceChanged {
                id: new.src,
                made_from: new.dst,
            }),
            _ => Ok(()),
        }
    }

    /// Removes the summaries of what changed or went, and the summaries of these. A summary that came in the same write was made
    /// from what the write brings.
    pub(super) fn drop_outdated(&mut self) -> Result<(), WriteError> {
        while let Some(source) = self.outdated.pop_first() {
            let Some(slot) = self.index.slot(source) else {
                continue;
            };
            let index = self.index;
            for summary in index.summaries_of(slot).map(|slot| index.id(slot)) {
                if !self.types.contains_key(&summary) {
                    self.remove_node(summary)?;
                }
            }
        }
        Ok(())
    }
}
