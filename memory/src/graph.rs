//! The graph: who is next to whom, in memory.
//!
//! Adjacency by slot in both directions, rebuilt from the edge rows at open. It walks nothing
//! itself: `recall.rs` does.

use std::collections::HashMap;

use crate::node::EdgeMetadata;
use crate::words;

/// What attention looks at in an edge.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EdgeFacts {
    /// Weight of the edge.
    pub(crate) weight: f32,
    /// Unix time in seconds.
    pub(crate) seconds: u32,
    /// How sure its maker was, 0 to 1.
    pub(crate) confidence: f32,
    /// Terms of the sentence that carries the edge, by [`crate::words::term_key`], ascending; empty when none is
    /// known.
    pub(crate) evidence: Box<[u32]>,
}

impl EdgeFacts {
    /// The facts of an edge of `weight`.
    pub(crate) fn of(weight: f32, metadata: &EdgeMetadata) -> Self {
        Self {
            weight,
            seconds: seconds(metadata.timestamp),
            confidence: metadata.confidence.unwrap_or(1.0),
            evidence: words::keys(metadata.evidence.as_deref().unwrap_or_default()),
        }
    }
}

/// Unix time in seconds from milliseconds.
pub(crate) fn seconds(timestamp_ms: Option<u64>) -> u32 {
    u32::try_from(timestamp_ms.unwrap_or(0) / 1000).unwrap_or(u32::MAX)
}

/// One end of an edge as seen from the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Link {
    /// The slot at the other end.
    pub(crate) to: u32,
    /// Number of the relation; [`Graph::relation_name`] has its name.
    pub(crate) rel: u16,
    /// Weight of the edge.
    pub(crate) weight: f32,
    /// Unix time in seconds.
    pub(crate) seconds: u32,
    /// How sure its maker was, 0 to 1.
    pub(crate) confidence: f32,
}

/// Adjacency lists over slots.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    relations: Vec<String>,
    numbers: HashMap<String, u16>,
    outgoing: Vec<Vec<Link>>,
    incoming: Vec<Vec<Link>>,
    /// Terms of the sentences that carry edges, by source, target and relation.
    evidence: HashMap<(u32, u32, u16), Box<[u32]>>,
    edges: usize,
    /// Edges at a slot that are not held, where this is a part of a larger graph.
    beyond: HashMap<u32, usize>,
}

impl Graph {
    /// Number of edges.
    pub(crate) fn len(&self) -> usize {
        self.edges
    }

    /// Edges that start at `slot`.
    pub(crate) fn outgoing(&self, slot: u32) -> &[Link] {
        self.outgoing.get(slot as usize).map_or(&[], Vec::as_slice)
    }

    /// Edges that end at `slot`.
    pub(crate) fn incoming(&self, slot: u32) -> &[Link] {
        self.incoming.get(slot as usize).map_or(&[], Vec::as_slice)
    }

    /// Edges at `slot` in both directions.
    pub(crate) fn degree(&self, slot: u32) -> usize {
        let beyond = self.beyond.get(&slot).copied().unwrap_or(0);
        self.outgoing(slot).len() + self.incoming(slot).len() + beyond
    }

    /// Says how many edges there are at `slot` in the graph of which this is a part.
    pub(crate) fn set_degree(&mut self, slot: u32, degree: usize) {
        self.beyond.remove(&slot);
        self.beyond
            .insert(slot, degree.saturating_sub(self.degree(slot)));
    }

    /// The name of a relation that a [`Link`] carries.
    pub(crate) fn relation_name(&self, rel: u16) -> &str {
        &self.relations[usize::from(rel)]
    }

    /// How many relations there are.
    pub(crate) fn relations(&self) -> usize {
        self.relations.len()
    }

    /// Terms of the sentence that carries an edge, ascending; empty when none is known.
    pub(crate) fn evidence(&self, src: u32, dst: u32, rel: u16) -> &[u32] {
        self.evidence
            .get(&(src, dst, rel))
            .map_or(&[], |terms| terms)
    }

    /// The number of the relation `name`, when it ever occurred or there is room for one more.
    pub(crate) fn number(&mut self, name: &str) -> Option<u16> {
        if let Some(number) = self.numbers.get(name) {
            return Some(*number);
        }
        let number = u16::try_from(self.relations.len()).ok()?;
        self.relations.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        Some(number)
    }

    /// Adds the edge or changes what is known about it.
    pub(crate) fn insert(&mut self, src: u32, dst: u32, rel: u16, facts: EdgeFacts) {
        let link = |to| Link {
            to,
            rel,
            weight: facts.weight,
            seconds: facts.seconds,
            confidence: facts.confidence,
        };
        let forward = put(&mut self.outgoing, src, link(dst));
        put(&mut self.incoming, dst, link(src));
        if facts.evidence.is_empty() {
            self.evidence.remove(&(src, dst, rel));
        } else {
            self.evidence.insert((src, dst, rel), facts.evidence);
        }
        self.edges += usize::from(forward);
    }

    /// Removes the edge if it is there.
    pub(crate) fn remove(&mut self, src: u32, dst: u32, rel: u16) {
        let was_there = take(&mut self.outgoing, src, dst, rel);
        take(&mut self.incoming, dst, src, rel);
        self.evidence.remove(&(src, dst, rel));
        self.edges -= usize::from(was_there);
    }

    /// Removes every edge at `slot`.
    pub(crate) fn clear(&mut self, slot: u32) {
        for link in self.outgoing(slot).to_vec() {
            self.remove(slot, link.to, link.rel);
        }
        for link in self.incoming(slot).to_vec() {
            self.remove(link.to, slot, link.rel);
        }
    }
}

/// Whether the link is new.
fn put(lists: &mut Vec<Vec<Link>>, slot: u32, link: Link) -> bool {
    let at = slot as usize;
    if lists.len() <= at {
        lists.resize(at + 1, Vec::new());
    }
    let same = |old: &&mut Link| old.to == link.to && old.rel == link.rel;
    match lists[at].iter_mut().find(same) {
        Some(old) => {
            *old = link;
            false
        }
        None => {
            lists[at].push(link);
            true
        }
    }
}

/// Whether the link was there.
fn take(lists: &mut [Vec<Link>], slot: u32, to: u32, rel: u16) -> bool {
    let Some(list) = lists.get_mut(slot as usize) else {
        return false;
    };
    let before = list.len();
    list.retain(|link| link.to != to || link.rel != rel);
    list.len() < before
}
