//! Recall: from the hits of a search to the nodes around them.
//!
//! Takes the strongest hits as seeds, walks outwards hop by hop into a bounded subgraph, and lets
//! attention (`attention.rs`) decide how much each node matters. Only nodes that the query's filter
//! lets through are walked, so no tenant reaches another's nodes through an edge. Reads no rows;
//! the same index and query give the same result.

use std::collections::{HashMap, HashSet};

use crate::attention::{self, Group};
use crate::graph::Link;
use crate::index::Index;
use crate::node::NodeId;
use crate::search::{self, Query, SearchResult};
use crate::store::Memory;

/// How sharply strength turns into seed weight (`beta`).
const SHARPNESS: f64 = 1.0;

/// Links followed from one node in one hop, heaviest first: one index page must not fill the
/// subgraph.
const DEGREE_MAX: usize = 64;

/// Share of the free places that a hop may take when another hop follows.
const HOP_SHARE: f64 = 2.0 / 3.0;

/// How much a relation counts next to others at the same node, forwards. Backwards it counts half.
fn relation_weight(name: &str) -> f64 {
    match name {
        "hyperlink" | "cites" | "summarises" => 1.0,
        "mentions" | "same_topic" => 0.6,
        "follows" => 0.4,
        _ => 0.8,
    }
}

/// How far recall may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecallLimits {
    /// Hits that become seeds, strongest first; never more than `nodes_max`.
    pub seeds: usize,
    /// Steps from the seeds.
    pub hops: u8,
    /// Largest number of nodes in the subgraph, seeds included.
    pub nodes_max: usize,
}

impl Default for RecallLimits {
    fn default() -> Self {
        Self {
            seeds: 64,
            hops: 2,
            nodes_max: 256,
        }
    }
}

/// One node with the attention it received.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recalled {
    /// The node.
    pub id: NodeId,
    /// Its share of the attention; the shares of one recall sum to 1.
    pub score: f32,
    /// Cosine to the query; `None` when the query or the node has no vector.
    pub cosine: Option<f32>,
    /// Hops from the nearest seed; 0 for a seed.
    pub depth: u8,
}

/// What recall found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recall {
    /// By score, highest first; equal ones by id.
    pub nodes: Vec<Recalled>,
    /// Entropy of the scores over the logarithm of their number, 0 (one node has all) to 1 (all
    /// equal).
    pub entropy: f32,
    /// Depth of the deepest node.
    pub depth: u8,
    /// Number of nodes in the subgraph.
    pub nodes_used: usize,
}

impl Memory {
    /// Spreads attention from the hits of `found` through the graph. Deterministic; empty when
    /// nothing was found.
    pub fn recall(&self, query: &Query, found: &SearchResult, limits: &RecallLimits) -> Recall {
        let index = self.index();
        let walk = Walk::new(&index, query);
        let (mut members, seeds) = walk.seeds(found, limits);
        if members.is_empty() {
            return Recall::default();
        }
        walk.grow(&mut members, &seeds, limits);
        let mut start = seeds;
        start.resize(members.len(), 0.0);
        let scores = attention::spread(&start, &walk.groups(&members));
        let unit = search::unit_query(query, self.config().dimensions)
            .ok()
            .flatten();
        summarise(&index, &members, &scores, unit.as_deref())
    }
}

/// A node of the subgraph; its place in the list is its local index.
#[derive(Clone, Copy, Debug)]
struct Member {
    slot: u32,
    depth: u8,
}

/// What the walk may see.
struct Walk<'a> {
    index: &'a Index,
    allowed: Vec<bool>,
    excluded: HashSet<(u32, u32)>,
}

impl<'a> Walk<'a> {
    fn new(index: &'a Index, query: &Query) -> Self {
        let slots = query.exclude_edges.iter();
        let pairs = slots.filter_map(|(a, b)| index.slot(*a).zip(index.slot(*b)));
        let excluded = pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect();
        Self {
            index,
            allowed: index.allowed(&query.filter).mask,
            excluded,
        }
    }

    /// The strongest hits that are still there, with their share of the seed weight.
    fn seeds(&self, found: &SearchResult, limits: &RecallLimits) -> (Vec<Member>, Vec<f64>) {
        let mut members = Vec::new();
        let mut logits = Vec::new();
        for hit in found.hits.iter().take(limits.seeds.min(limits.nodes_max)) {
            let Some(slot) = self.index.slot(hit.id) else {
                continue;
            };
            if self.allowed[slot as usize] {
                members.push(Member { slot, depth: 0 });
                logits.push(SHARPNESS * f64::from(hit.strength));
            }
        }
        let shares = attention::softmax(&logits);
        (members, shares)
    }

    /// Adds the nodes around `members`, hop by hop, those first that the heaviest paths lead to.
    fn grow(&self, members: &mut Vec<Member>, seeds: &[f64], limits: &RecallLimits) {
        let mut known: HashSet<u32> = members.iter().map(|member| member.slot).collect();
        let mut frontier: Vec<(u32, f64)> = members
            .iter()
            .map(|member| member.slot)
            .zip(seeds.iter().copied())
            .collect();
        for hop in 1..=limits.hops {
            let mut room = limits.nodes_max.saturating_sub(members.len());
            if hop < limits.hops {
                room = (room as f64 * HOP_SHARE).ceil() as usize;
            }
            let mut reached: HashMap<u32, f64> = HashMap::new();
            for (slot, weight) in &frontier {
                for (to, share) in self.heaviest(*slot) {
                    if !known.contains(&to) {
                        *reached.entry(to).or_default() += weight * share;
                    }
                }
            }
            frontier = reached.into_iter().collect();
            frontier.sort_by(|a, b| {
                b.1.total_cmp(&a.1)
                    .then_with(|| self.index.id(a.0).cmp(&self.index.id(b.0)))
            });
            frontier.truncate(room);
            known.extend(frontier.iter().map(|(slot, _)| *slot));
            members.extend(frontier.iter().map(|(slot, _)| Member {
                slot: *slot,
                depth: hop,
            }));
        }
    }

    /// The heaviest links of a node with their share of its weight.
    fn heaviest(&self, slot: u32) -> Vec<(u32, f64)> {
        let mut links: Vec<(u32, f64)> = self
            .links(slot)
            .map(|(link, forwards)| {
                let name = self.index.graph.relation_name(link.rel);
                (
                    link.to,
                    head_weight(name, forwards) * self.edge_weight(&link),
                )
            })
            .collect();
        links.sort_by(|a, b| {
            b.1.total_cmp(&a.1)
                .then_with(|| self.index.id(a.0).cmp(&self.index.id(b.0)))
        });
        links.truncate(DEGREE_MAX);
        let total: f64 = links.iter().map(|(_, weight)| weight).sum();
        for (_, weight) in &mut links {
            *weight /= total;
        }
        links
    }

    /// The visible links at a node, and whether each is walked forwards.
    fn links(&self, slot: u32) -> impl Iterator<Item = (Link, bool)> {
        let outgoing = self
            .index
            .graph
            .outgoing(slot)
            .iter()
            .map(|link| (*link, true));
        let incoming = self
            .index
            .graph
            .incoming(slot)
            .iter()
            .map(|link| (*link, false));
        outgoing.chain(incoming).filter(move |(link, _)| {
            self.allowed[link.to as usize]
                && link.to != slot
                && !self.excluded.contains(&(slot, link.to))
        })
    }

    /// Weight of an edge with hubs damped: a page that everything links to says little about this
    /// question.
    fn edge_weight(&self, link: &Link) -> f64 {
        f64::from(link.weight) / (self.index.graph.degree(link.to) as f64).sqrt()
    }

    /// The edges among `members`, one group a node, relation and direction, in an order that does
    /// not depend on slots.
    fn groups(&self, members: &[Member]) -> Vec<Group> {
        let local: HashMap<u32, usize> = members
            .iter()
            .enumerate()
            .map(|(at, member)| (member.slot, at))
            .collect();
        let mut groups = Vec::new();
        for (from, member) in members.iter().enumerate() {
            let mut edges: Vec<(&str, bool, usize, f64)> = self
                .links(member.slot)
                .filter_map(|(link, forwards)| {
                    let name = self.index.graph.relation_name(link.rel);
                    let to = local.get(&link.to)?;
                    Some((name, forwards, *to, self.edge_weight(&link).ln()))
                })
                .collect();
            edges.sort_by(|a, b| (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2)));
            for edges in edges.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
                let head_logit = head_weight(edges[0].0, edges[0].1).ln();
                let targets = edges.iter().map(|edge| (edge.2, edge.3)).collect();
                groups.push(Group {
                    from,
                    head_logit,
                    targets,
                });
            }
        }
        groups
    }
}

fn head_weight(name: &str, forwards: bool) -> f64 {
    relation_weight(name) * if forwards { 1.0 } else { 0.5 }
}

fn summarise(index: &Index, members: &[Member], scores: &[f64], query: Option<&[f32]>) -> Recall {
    let mut nodes: Vec<Recalled> = (members.iter().zip(scores))
        .map(|(member, score)| {
            let vector = index.vectors.get(member.slot);
            let cosine = query
                .zip(vector)
                .map(|(query, own)| index.vectors.cosine(query, own));
            let id = index.id(member.slot);
            Recalled {
                id,
                score: *score as f32,
                cosine,
                depth: member.depth,
            }
        })
        .collect();
    nodes.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
    Recall {
        entropy: attention::relative_entropy(scores) as f32,
        depth: members.iter().map(|member| member.depth).max().unwrap_or(0),
        nodes_used: nodes.len(),
        nodes,
    }
}
