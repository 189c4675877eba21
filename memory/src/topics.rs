//! Topics: which passages are about the same, by their vectors alone.
//!
//! Two passages of documents that are each among the nearest of the other, above a cosine, are joined by `same_topic`.
//! The store notes whose vector is new; whoever sets vectors lets these be joined a few at a time. Joins that a new
//! neighbour pushed out are removed, so that no passage ever has more than a few. No sentence says them: their weight, the
//! cosine, is all their evidence.

use std::collections::{BTreeMap, HashMap};

use crate::node::{EdgeMetadata, NewEdge, NodeId, NodeType};
use crate::search::{Filter, SearchError};
use crate::store::{Edit, Memory, ReadError, WriteError};
use crate::vectors::Effort;

/// The relation.
const SAME_TOPIC: &str = "same_topic";

/// Who made these edges; only such edges are removed again.
const CREATED_BY: &str = "vectors";

/// Nearest passages that count, and so the joins of one passage.
const NEAREST_MAX: usize = 4;

/// How hard to look for them: as hard as a search does.
const EFFORT: Effort = Effort::Walk(256);

/// Least cosine of two passages about the same. With MiniLM two passages of one page of the Python manual have about 0.5.
const COSINE_MIN: f32 = 0.75;

/// Why passages could not be joined.
#[derive(Debug, thiserror::Error)]
pub enum TopicsError {
    /// The neighbours of a passage could not be looked for.
    #[error("cannot look for passages of the same topic")]
    Search(#[from] SearchError),
    /// A row could not be read.
    #[error("cannot read the passages to join")]
    Read(#[from] ReadError),
    /// The edges could not be written.
    #[error("cannot write the edges of passages of the same topic")]
    Write(#[from] WriteError),
}

impl Memory {
    /// Joins up to `limit` passages whose vectors are new with others of the same topic. Returns how many it looked at: 0 when
    /// none waits.
    pub fn join_topics(&self, limit: usize) -> Result<usize, TopicsError> {
        let waiting = self.unjoined(limit)?;
        if waiting.is_empty() {
            return Ok(0);
        }
        let mut near = Near {
            memory: self,
            known: HashMap::new(),
        };
        let mut joins: BTreeMap<(NodeId, NodeId), f32> = BTreeMap::new();
        for id in &waiting {
            for (other, cosine) in near.of(*id)?.to_vec() {
                if near.of(other)?.iter().any(|(back, _)| back == id) {
                    joins.insert((other.min(*id), other.max(*id)), cosine);
                }
            }
        }
        let edges: Vec<NewEdge> = joins.into_iter().map(edge).collect();
        self.edit(&Edit {
            remove_edges: &near.pushed_out()?,
            edges: &edges,
            joined: &waiting,
            ..Edit::default()
        })?;
        Ok(waiting.len())
    }
}

fn edge(((src, dst), cosine): ((NodeId, NodeId), f32)) -> NewEdge {
    NewEdge {
        weight: cosine,
        metadata: EdgeMetadata {
            created_by: Some(CREATED_BY.to_owned()),
            ..EdgeMetadata::default()
        },
        ..NewEdge::new(src, dst, SAME_TOPIC)
    }
}

/// The nearest passages of those that were asked for.
struct Near<'a> {
    memory: &'a Memory,
    known: HashMap<NodeId, Vec<(NodeId, f32)>>,
}

impl Near<'_> {
    /// The passages nearest to one, which it may be recalled together with, and their cosines.
    fn of(&mut self, id: NodeId) -> Result<&[(NodeId, f32)], TopicsError> {
        if !self.known.contains_key(&id) {
            let found = self.search(id)?;
            self.known.insert(id, found);
        }
        Ok(self.known.get(&id).map_or(&[], Vec::as_slice))
    }

    fn search(&self, id: NodeId) -> Result<Vec<(NodeId, f32)>, TopicsError> {
        let vector = {
            let index = self.memory.index();
            let slot = index.slot(id);
            slot.and_then(|slot| index.vectors.get(slot).map(<[f32]>::to_vec))
        };
        let Some((vector, node)) = vector.zip(self.memory.node(id)?) else {
            return Ok(Vec::new());
        };
        let filter = Filter {
            tenant: node.tenant,
            types: vec![NodeType::Doc],
            hidden: vec![id],
            ..Filter::default()
        };
        let mut near = (self.memory).nearest(&vector, Some(&filter), NEAREST_MAX, EFFORT)?;
        near.retain(|(_, cosine)| *cosine >= COSINE_MIN);
        Ok(near)
    }

    /// Joins of the passages that were asked for with what is not among their nearest any more.
    fn pushed_out(&self) -> Result<Vec<(NodeId, NodeId, String)>, TopicsError> {
        let mut pushed_out = Vec::new();
        for (id, near) in &self.known {
            for edge in self.memory.edges(*id)? {
                let other = if edge.src == *id { edge.dst } else { edge.src };
                let ours = edge.rel == SAME_TOPIC
                    && edge.metadata.created_by.as_deref() == Some(CREATED_BY);
                if ours && near.iter().all(|(near, _)| *near != other) {
                    pushed_out.push((edge.src, edge.dst, edge.rel));
                }
            }
        }
        Ok(pushed_out)
    }
}
