//! Finding passages as a request would, the same for a running instance and for files that nobody has open, and how attention
//! came to each.
//!
//! Search and recall are `weir-memory`; this file asks them and puts what they give into words that cross the control socket.

use crate::memory::MemoryCommandError;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use weir_memory::{
    Edge, Effort, Filter, Memory, NodeId, NodeType, Query, Recall, RecallLimits, Recalled,
};

/// Longest text of a passage in a search result, in characters.
const SNIPPET_CHARS: usize = 240;

/// What to find.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchOptions {
    /// The question.
    pub text: String,
    /// Who asks; sees its own passages and everybody's.
    pub tenant: String,
    /// Domains to look in; empty means all.
    pub domains: Vec<String>,
    /// Kinds of passages; empty means all but traces.
    pub types: Vec<NodeType>,
    /// Passages wanted.
    pub count: usize,
}

/// A passage that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// Id of the node.
    pub id: String,
    /// Title of its document.
    pub title: Option<String>,
    /// Where it came from.
    pub uri: Option<String>,
    /// Its beginning.
    pub text: String,
    /// Share of attention, all passages together 1.
    pub score: f32,
    /// Cosine similarity; absent while its vector is not there.
    pub cosine: Option<f32>,
    /// Its place among all passages by vector alone; absent where it is not among as many as a search looks at.
    #[serde(default)]
    pub vector_rank: Option<usize>,
    /// Hops from a passage that the search found itself.
    pub depth: u8,
    /// How attention came to it, from a passage that the search found; empty for one of those.
    #[serde(default)]
    pub way: Vec<Hop>,
}

/// An edge on the way to a passage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hop {
    /// Id of the node that it leads on from.
    pub from: String,
    /// Title of that node, or where it came from.
    pub title: Option<String>,
    /// Relation of the edge.
    pub rel: String,
    /// Whether the edge starts there; else it is followed from its end.
    pub along: bool,
    /// The sentence that says it.
    pub evidence: Option<String>,
}

/// What a search found and how it came there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Picture {
    /// What was found, most attention first, then nodes that only led there.
    pub nodes: Vec<Found>,
    /// How many of the nodes were found.
    pub listed: usize,
    /// The edges between them.
    pub edges: Vec<Joined>,
}

/// An edge of a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Joined {
    /// Id of the node where it starts.
    pub src: String,
    /// Id of the node where it ends.
    pub dst: String,
    /// Its relation.
    pub rel: String,
    /// Its weight.
    pub weight: f32,
    /// Whether a node of the picture was reached by it.
    pub led: bool,
}

/// Finds passages as a request would: search, then recall through the graph. Without the question's vector, by words
/// alone.
pub(crate) fn search(
    memory: &Memory,
    vector: Option<Vec<f32>>,
    limits: RecallLimits,
    options: &SearchOptions,
) -> Result<Vec<Found>, MemoryCommandError> {
    let seen = Seen::of(memory, vector, limits, options)?;
    let mut all = Vec::new();
    for recalled in seen.recall.nodes.iter().take(options.count) {
        all.extend(seen.found(memory, recalled)?);
    }
    Ok(all)
}

/// As [`search`], with the nodes that led to those found and the edges between them all.
pub(crate) fn picture(
    memory: &Memory,
    vector: Option<Vec<f32>>,
    limits: RecallLimits,
    options: &SearchOptions,
) -> Result<Picture, MemoryCommandError> {
    let seen = Seen::of(memory, vector, limits, options)?;
    let known = &seen.known;
    let best = seen.recall.nodes.iter().take(options.count);
    let mut shown: Vec<NodeId> = best.map(|node| node.id).collect();
    let listed = shown.len();
    let mut led = HashSet::new();
    let mut at = 0;
    while let Some(id) = shown.get(at).copied() {
        at += 1;
        if let Some((edge, from)) = way_to(memory, id, known)? {
            led.insert(edge.id);
            if !shown.contains(&from) {
                shown.push(from);
            }
        }
    }
    let mut picture = Picture {
        listed,
        ..Picture::default()
    };
    for id in &shown {
        picture.nodes.extend(seen.found(memory, &known[id])?);
        let edges = memory.edges(*id)?.into_iter();
        for edge in edges.filter(|edge| edge.src == *id && shown.contains(&edge.dst)) {
            picture.edges.push(Joined {
                led: led.contains(&edge.id),
                src: edge.src.to_string(),
                dst: edge.dst.to_string(),
                rel: edge.rel,
                weight: edge.weight,
            });
        }
    }
    Ok(picture)
}

/// What a question recalls.
struct Seen {
    recall: Recall,
    /// The same by id.
    known: HashMap<NodeId, Recalled>,
    /// Nearest by vector, nearest first.
    nearest: Vec<NodeId>,
}

impl Seen {
    fn of(
        memory: &Memory,
        vector: Option<Vec<f32>>,
        limits: RecallLimits,
        options: &SearchOptions,
    ) -> Result<Self, MemoryCommandError> {
        let filter = Filter {
            tenant: options.tenant.clone(),
            domains: options.domains.clone(),
            types: options.types.clone(),
            hidden: Vec::new(),
        };
        let k = options.count.max(limits.seeds);
        let nearest = match &vector {
            Some(vector) => memory.nearest(vector, Some(&filter), k, Effort::Exact)?,
            None => Vec::new(),
        };
        let query = Query {
            text: options.text.clone(),
            vector,
            filter,
            k,
            exclude_edges: Vec::new(),
        };
        let hits = memory.search(&query)?;
        let recall = memory.recall(&query, &hits, &limits);
        Ok(Self {
            known: recall.nodes.iter().map(|node| (node.id, *node)).collect(),
            recall,
            nearest: nearest.into_iter().map(|(id, _)| id).collect(),
        })
    }

    /// The passage of a node; `None` when it was removed meanwhile.
    fn found(
        &self,
        memory: &Memory,
        recalled: &Recalled,
    ) -> Result<Option<Found>, MemoryCommandError> {
        let Some(node) = memory.node(recalled.id)? else {
            return Ok(None);
        };
        let nearest = self.nearest.iter().position(|id| *id == recalled.id);
        Ok(Some(Found {
            id: recalled.id.to_string(),
            title: node.metadata.title,
            uri: node.metadata.uri,
            text: node.text.chars().take(SNIPPET_CHARS).collect(),
            score: recalled.score,
            cosine: recalled.cosine,
            vector_rank: nearest.map(|place| place + 1),
            depth: recalled.depth,
            way: self.way(memory, recalled.id)?,
        }))
    }

    /// The edges from a passage that the search found to this one.
    fn way(&self, memory: &Memory, to: NodeId) -> Result<Vec<Hop>, MemoryCommandError> {
        let (mut at, mut way) = (to, Vec::new());
        while let Some((edge, from)) = way_to(memory, at, &self.known)? {
            let node = memory.node(from)?;
            let metadata = node.map(|node| node.metadata).unwrap_or_default();
            way.push(Hop {
                from: from.to_string(),
                title: metadata.title.or(metadata.uri),
                rel: edge.rel,
                along: edge.src == from,
                evidence: edge.metadata.evidence,
            });
            at = from;
        }
        way.reverse();
        Ok(way)
    }
}

/// The edge by which most attention came to a node from one that is a hop nearer to the question, and that node.
fn way_to(
    memory: &Memory,
    id: NodeId,
    known: &HashMap<NodeId, Recalled>,
) -> Result<Option<(Edge, NodeId)>, MemoryCommandError> {
    let depth = known[&id].depth;
    let ways = memory.edges(id)?.into_iter().filter_map(|edge| {
        let other = if edge.src == id { edge.dst } else { edge.src };
        let nearer = known.get(&other).filter(|node| node.depth + 1 == depth)?;
        let worth = nearer.score * edge.weight;
        Some((edge, other, worth))
    });
    let strongest = ways.max_by(|a, b| a.2.total_cmp(&b.2).then(b.0.id.cmp(&a.0.id)));
    Ok(strongest.map(|(edge, other, _)| (edge, other)))
}
