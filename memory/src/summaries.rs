//! Summaries in the graph: which there are of a node, and which come along with what was recalled.
//!
//! A summary is a node of its type with `summarises` edges to what it was made from. Who writes one is gateway/server's
//! `write_back.rs`; that it goes with the first of its sources that changes or goes is `store/transaction/summaries.rs`; which
//! of a summary and its sources enters a prompt is `context/choice.rs`.

use std::collections::{BTreeMap, HashSet};

use crate::index::Index;
use crate::node::{NewEdge, Node, NodeId, NodeType, SHARED_TENANT};
use crate::search::Filter;
use crate::store::{Memory, WriteError};

/// The relation from a summary to what it was made from.
pub const SUMMARISES: &str = "summarises";

/// A summary and what it was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// The summary.
    pub summary: NodeId,
    /// What it was made from.
    pub sources: Vec<NodeId>,
}

/// Whether an edge from a node of this type says what a summary was made from.
pub(crate) fn says_source(src: Option<NodeType>, rel: &str) -> bool {
    rel == SUMMARISES && src == Some(NodeType::Summary)
}

/// Whether a summary may be made from a source, and was made from what the source says now. A summary belongs to the tenant of
/// its sources, or to one that may read them: it repeats what they say.
pub(crate) fn check_source(new: &NewEdge, [summary, source]: [&Node; 2]) -> Result<(), WriteError> {
    let (id, made_from) = (new.src, new.dst);
    if source.tenant != summary.tenant && source.tenant != SHARED_TENANT {
        return Err(WriteError::SummaryTenant { id, made_from });
    }
    match &new.metadata.source_digest {
        Some(digest) if *digest != source.digest() => {
            Err(WriteError::SourceChanged { id, made_from })
        }
        _ => Ok(()),
    }
}

impl Index {
    /// The slots of the summaries that were made from the node in a slot.
    pub(crate) fn summaries_of(&self, slot: u32) -> impl Iterator<Item = u32> {
        let incoming = self.graph.incoming(slot).iter();
        let summaries = incoming.filter(|link| self.graph.relation_name(link.rel) == SUMMARISES);
        let slots = summaries.map(|link| link.to);
        slots.filter(|slot| self.kind(*slot).0 == NodeType::Summary)
    }

    /// What the node in a slot was made from; nothing where it is no summary.
    fn sources_of(&self, slot: u32) -> Vec<NodeId> {
        if self.kind(slot).0 != NodeType::Summary {
            return Vec::new();
        }
        let outgoing = self.graph.outgoing(slot).iter();
        let sources = outgoing.filter(|link| self.graph.relation_name(link.rel) == SUMMARISES);
        sources.map(|link| self.id(link.to)).collect()
    }
}

impl Memory {
    /// How many of its nodes are summaries.
    pub fn summaries(&self) -> usize {
        self.index().count(NodeType::Summary)
    }

    /// Summaries that are among `ids`, or that were made from at least two of them and pass the filter; each once, by id. They
    /// need not have been found: a summary comes along with its sources.
    pub fn summaries_among(&self, ids: &[NodeId], filter: &Filter) -> Vec<Sources> {
        let index = self.index();
        let slots: Vec<u32> = ids.iter().filter_map(|id| index.slot(*id)).collect();
        let mut seen: BTreeMap<u32, usize> = BTreeMap::new();
        for slot in slots.iter().flat_map(|slot| index.summaries_of(*slot)) {
            *seen.entry(slot).or_default() += 1;
        }
        let there: HashSet<u32> = slots.iter().copied().collect();
        seen.retain(|slot, sources| *sources > 1 && !there.contains(slot));
        let passing = index.passing(filter);
        seen.retain(|slot, _| passing.passes(*slot));
        let all = slots.into_iter().chain(seen.into_keys());
        let made_from = all.map(|slot| Sources {
            summary: index.id(slot),
            sources: index.sources_of(slot),
        });
        let mut found: Vec<Sources> = made_from
            .filter(|summary| !summary.sources.is_empty())
            .collect();
        found.sort_unstable_by_key(|found| found.summary);
        found.dedup_by_key(|found| found.summary);
        found
    }
}
