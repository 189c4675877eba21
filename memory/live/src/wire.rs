//! The calls of a memory as messages of `weir.memory.v1` (feature `wire`): both directions of each, side by side, so that
//! the service and its client cannot disagree.
//!
//! Translates and bounds; asks and answers nothing. Nodes, edges and lists are in `wire/data.rs`, errors in
//! `wire/status.rs`.

mod data;
mod status;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use weir_memory::context::Candidate;
use weir_memory::upkeep::Erased;
use weir_memory::{Access, Batch, Node, NodeId, Recall, RecallLimits, SearchResult, Written};
use weir_proto::memory::v1;

use crate::calls::{Asked, Attended, Found, Recollection, Sought, Spent, Wanted};

pub use data::BadMessage;
pub use status::{error_of, status_of};

/// Most bytes of one message, in either direction.
pub const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// Most bytes of the nodes in one answer; the last ones are left out beyond it.
const NODE_BYTES_MAX: usize = 24 << 20;

/// A message that was read.
pub type Read<T> = Result<T, BadMessage>;

/// A question, to be sent.
pub fn recall_request(asked: Asked) -> v1::RecallRequest {
    v1::RecallRequest {
        text: asked.text,
        vector: asked.vector.map(|values| v1::Vector { values }),
        embed: asked.embed,
        wanted: asked.wanted.map(|wanted| v1::Wanted {
            filter: Some(data::filter(wanted.filter)),
            limits: Some(data::limits(wanted.limits)),
            candidates: data::number(wanted.candidates),
        }),
    }
}

/// A question, as it was sent.
///
/// # Errors
/// A part is missing or names something unknown.
pub fn asked(message: v1::RecallRequest) -> Read<Asked> {
    let wanted = message.wanted.map(|wanted| -> Read<Wanted> {
        Ok(Wanted {
            filter: data::read_filter(wanted.filter)?,
            limits: data::read_limits(wanted.limits)?,
            candidates: wanted.candidates as usize,
        })
    });
    Ok(Asked {
        text: message.text,
        vector: message.vector.map(|vector| vector.values),
        embed: message.embed,
        wanted: wanted.transpose()?,
    })
}

/// A recollection, to be sent.
pub fn recollection(given: Recollection) -> v1::Recollection {
    let mut nodes = Nodes::default();
    let search = given.found.map(|(result, candidates)| v1::Search {
        candidates: nodes.scored(candidates),
        ..search(&result)
    });
    let attention = given.attended.map(|(recall, candidates)| v1::Attention {
        candidates: nodes.scored(candidates),
        ..attention(&recall)
    });
    let vector = given.vector.map(|vector| v1::Vector {
        values: vector.to_vec(),
    });
    v1::Recollection {
        vector,
        search,
        attention,
        nodes: nodes.list,
        generation: given.generation,
        spent: Some(v1::Spent {
            embed: given.spent.embed,
            search: given.spent.search,
            attend: given.spent.attend,
        }),
    }
}

/// A recollection, as it was sent.
///
/// # Errors
/// A part is missing or names something unknown.
pub fn read_recollection(message: v1::Recollection) -> Read<Recollection> {
    let nodes = data::read_nodes(message.nodes)?;
    let by_id: HashMap<NodeId, &Node> = nodes.iter().map(|node| (node.id, node)).collect();
    let found = message.search.map(|mut search| -> Read<_> {
        let candidates = read_scored(std::mem::take(&mut search.candidates), &by_id)?;
        Ok((read_search(&search)?, candidates))
    });
    let attended = message.attention.map(|mut attention| -> Read<_> {
        let candidates = read_scored(std::mem::take(&mut attention.candidates), &by_id)?;
        Ok((read_attention(&attention)?, candidates))
    });
    let spent = message.spent.unwrap_or_default();
    Ok(Recollection {
        vector: message.vector.map(|vector| Arc::from(vector.values)),
        found: found.transpose()?,
        attended: attended.transpose()?,
        generation: message.generation,
        spent: Spent {
            embed: spent.embed,
            search: spent.search,
            attend: spent.attend,
        },
    })
}

/// A search, to be sent.
pub fn search_request(sought: Sought) -> v1::SearchRequest {
    v1::SearchRequest {
        text: sought.text,
        vector: sought.vector.map(|values| v1::Vector { values }),
        embed: sought.embed,
        filter: Some(data::filter(sought.filter)),
        k: data::number(sought.k),
    }
}

/// A search, as it was sent.
///
/// # Errors
/// A part is missing or names something unknown.
pub fn sought(message: v1::SearchRequest) -> Read<Sought> {
    Ok(Sought {
        text: message.text,
        vector: message.vector.map(|vector| vector.values),
        embed: message.embed,
        filter: data::read_filter(message.filter)?,
        k: message.k as usize,
    })
}

/// What a search found, to be sent.
pub fn search_reply(found: Found) -> v1::SearchReply {
    v1::SearchReply {
        search: Some(search(&found.result)),
        nodes: fitting(found.nodes),
    }
}

/// What a search found, as it was sent.
///
/// # Errors
/// A part is missing or names something unknown.
pub fn read_found(message: v1::SearchReply) -> Read<Found> {
    let search = message.search.ok_or(BadMessage::missing("search"))?;
    Ok(Found {
        result: read_search(&search)?,
        nodes: data::read_nodes(message.nodes)?,
    })
}

/// A search with attention, to be sent.
pub fn attend_request(sought: Sought, limits: RecallLimits) -> v1::AttendRequest {
    v1::AttendRequest {
        search: Some(search_request(sought)),
        limits: Some(data::limits(limits)),
    }
}

/// A search with attention, as it was sent.
///
/// # Errors
/// A part is missing or names something unknown.
pub fn read_attend(message: v1::AttendRequest) -> Read<(Sought, RecallLimits)> {
    let search = message.search.ok_or(BadMessage::missing("search"))?;
    Ok((sought(search)?, data::read_limits(message.limits)?))
}

/// What attention found, to be sent.
pub fn attend_reply(attended: Attended) -> v1::AttendReply {
    v1::AttendReply {
        attention: Some(attention(&attended.recall)),
        nodes: fitting(attended.nodes),
    }
}

/// What attention found, as it was sent.
///
/// # Errors
/// A part is missing or names something unknown.
pub fn read_attended(message: v1::AttendReply) -> Read<Attended> {
    let attention = message.attention.ok_or(BadMessage::missing("attention"))?;
    Ok(Attended {
        recall: read_attention(&attention)?,
        nodes: data::read_nodes(message.nodes)?,
    })
}

/// A write, to be sent.
pub fn write_request(access: Access, batch: Batch) -> v1::WriteRequest {
    v1::WriteRequest {
        access: Some(data::access(access)),
        nodes: batch.nodes.into_iter().map(data::new_node).collect(),
        edges: batch.edges.into_iter().map(data::edge).collect(),
    }
}

/// A write, as it was sent.
///
/// # Errors
/// A part is missing or names something unknown.
pub fn read_write(message: v1::WriteRequest) -> Read<(Access, Batch)> {
    let nodes = message.nodes.into_iter().map(data::read_new_node);
    let edges = message.edges.into_iter().map(data::read_edge);
    let batch = Batch {
        nodes: nodes.collect::<Read<_>>()?,
        edges: edges.collect::<Read<_>>()?,
    };
    Ok((data::read_access(message.access)?, batch))
}

/// What a write did, to be sent.
pub fn written(written: Written) -> v1::Written {
    v1::Written {
        inserted: written.inserted as u64,
        updated: written.updated as u64,
        unchanged: written.unchanged as u64,
        removed: written.removed as u64,
        edges: written.edges as u64,
        generation: written.generation,
    }
}

/// What a write did, as it was sent.
pub fn read_written(message: &v1::Written) -> Written {
    Written {
        inserted: data::size(message.inserted),
        updated: data::size(message.updated),
        unchanged: data::size(message.unchanged),
        removed: data::size(message.removed),
        edges: data::size(message.edges),
        generation: message.generation,
    }
}

/// A removal, to be sent.
pub fn delete_request(access: Access, id: NodeId) -> v1::DeleteNodeRequest {
    v1::DeleteNodeRequest {
        access: Some(data::access(access)),
        id: data::id(id),
    }
}

/// A removal, as it was sent.
///
/// # Errors
/// A part is missing or is no id.
pub fn read_delete(message: v1::DeleteNodeRequest) -> Read<(Access, NodeId)> {
    let id = data::read_id(&message.id)?;
    Ok((data::read_access(message.access)?, id))
}

/// An erasure, to be sent.
pub fn erase_request(
    access: Access,
    subject: String,
    tenant: Option<String>,
) -> v1::EraseSubjectRequest {
    v1::EraseSubjectRequest {
        access: Some(data::access(access)),
        subject,
        tenant,
    }
}

/// An erasure, as it was sent: for whom, the subject, the tenant.
///
/// # Errors
/// A part is missing.
pub fn read_erase(message: v1::EraseSubjectRequest) -> Read<(Access, String, Option<String>)> {
    if message.subject.is_empty() {
        return Err(BadMessage::missing("subject"));
    }
    Ok((
        data::read_access(message.access)?,
        message.subject,
        message.tenant,
    ))
}

/// The receipt of an erasure, to be sent.
pub fn erased(erased: &Erased) -> v1::Erased {
    v1::Erased {
        nodes: erased.nodes as u64,
        summaries: erased.summaries as u64,
        traces: erased.traces as u64,
        vectors: erased.vectors as u64,
        edges: erased.edges as u64,
        documents: erased.documents as u64,
        ids: erased.ids.iter().map(|id| data::id(*id)).collect(),
        generation: erased.generation,
        erased_at_ms: erased.erased_at,
        recollections: erased.recollections as u64,
    }
}

/// The receipt of an erasure, as it was sent.
///
/// # Errors
/// Something in it is no id.
pub fn read_erased(message: &v1::Erased) -> Read<Erased> {
    let ids = message.ids.iter().map(|id| data::read_id(id));
    Ok(Erased {
        nodes: data::size(message.nodes),
        summaries: data::size(message.summaries),
        traces: data::size(message.traces),
        vectors: data::size(message.vectors),
        edges: data::size(message.edges),
        documents: data::size(message.documents),
        ids: ids.collect::<Read<_>>()?,
        generation: message.generation,
        erased_at: message.erased_at_ms,
        recollections: data::size(message.recollections),
    })
}

/// Vectors of texts, to be sent.
pub fn embed_reply(vectors: Vec<Vec<f32>>) -> v1::EmbedReply {
    let vectors = vectors.into_iter().map(|values| v1::Vector { values });
    v1::EmbedReply {
        vectors: vectors.collect(),
    }
}

/// Vectors of texts, as they were sent.
pub fn read_vectors(message: v1::EmbedReply) -> Vec<Vec<f32>> {
    let vectors = message.vectors.into_iter();
    vectors.map(|vector| vector.values).collect()
}

fn search(result: &SearchResult) -> v1::Search {
    v1::Search {
        hits: result.hits.iter().map(data::hit).collect(),
        filter_share: result.filter_share,
        candidates: Vec::new(),
    }
}

fn read_search(message: &v1::Search) -> Read<SearchResult> {
    let hits = message.hits.iter().map(data::read_hit);
    Ok(SearchResult {
        hits: hits.collect::<Read<_>>()?,
        filter_share: message.filter_share,
    })
}

fn attention(recall: &Recall) -> v1::Attention {
    v1::Attention {
        nodes: recall.nodes.iter().map(data::recalled).collect(),
        entropy: recall.entropy,
        depth: u32::from(recall.depth),
        nodes_used: recall.nodes_used as u64,
        candidates: Vec::new(),
    }
}

fn read_attention(message: &v1::Attention) -> Read<Recall> {
    let nodes = message.nodes.iter().map(data::read_recalled);
    Ok(Recall {
        nodes: nodes.collect::<Read<_>>()?,
        entropy: message.entropy,
        depth: u8::try_from(message.depth).unwrap_or(u8::MAX),
        nodes_used: data::size(message.nodes_used),
    })
}

/// The nodes of an answer, each once.
#[derive(Default)]
struct Nodes {
    list: Vec<v1::Node>,
    known: HashSet<NodeId>,
    bytes: usize,
}

impl Nodes {
    /// Takes the nodes of candidates, as far as the answer may grow.
    fn scored(&mut self, candidates: Vec<Candidate>) -> Vec<v1::Scored> {
        let mut scored = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            let Candidate {
                node,
                score,
                summarises,
            } = candidate;
            let id = node.id;
            if !self.known.contains(&id) && !self.add(node) {
                break;
            }
            self.known.insert(id);
            scored.push(v1::Scored {
                id: data::id(id),
                score,
                summarises: summarises.into_iter().map(data::id).collect(),
            });
        }
        scored
    }

    fn add(&mut self, node: Node) -> bool {
        self.bytes += node.text.len();
        if self.bytes > NODE_BYTES_MAX {
            tracing::warn!("nodes beyond {NODE_BYTES_MAX} bytes are left out of an answer");
            return false;
        }
        self.list.push(data::node(node));
        true
    }
}

fn fitting(nodes: Vec<Node>) -> Vec<v1::Node> {
    let mut taken = Nodes::default();
    for node in nodes {
        if !taken.add(node) {
            break;
        }
    }
    taken.list
}

fn read_scored(scored: Vec<v1::Scored>, nodes: &HashMap<NodeId, &Node>) -> Read<Vec<Candidate>> {
    let candidates = scored.into_iter().map(|of| -> Read<Candidate> {
        let node = nodes.get(&data::read_id(&of.id)?);
        Ok(Candidate {
            node: (*node.ok_or(BadMessage::missing("node of a candidate"))?).clone(),
            score: of.score,
            summarises: (of.summarises.iter().map(|id| data::read_id(id))).collect::<Read<_>>()?,
        })
    });
    candidates.collect()
}

#[cfg(test)]
mod tests;
