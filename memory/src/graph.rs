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
    /// The sentence that carries the edge, where one does.
    pub(crate) evidence: Option<String>,
}

impl EdgeFacts {
    /// The facts of an edge of `weight`.
    pub(crate) fn of(weight: f32, metadata: EdgeMetadata) -> Self {
        Self {
            weight,
            seconds: seconds(metadata.timestamp),
            confidence: metadata.confidence.unwrap_or(1.0),
            evidence: metadata.evidence,
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

/// Links of a slot in one direction beyond which their places are kept beside them: a hub's links are too many to look
/// through for each one that comes or goes.
const LISTED_MAX: usize = 64;

/// The links of one slot in one direction.
#[derive(Clone, Debug, Default)]
struct Links {
    list: Vec<Link>,
    /// Place in the list by the other end and the relation; `None` while the list is short, as most are.
    #[expect(
        clippy::box_collection,
        reason = "most slots have none, which takes a word and not six"
    )]
    places: Option<Box<HashMap<(u32, u16), u32>>>,
}

/// Slots of source and target, and the relation's number.
type EdgeAt = (u32, u32, u16);

/// Adjacency lists over slots.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    relations: Vec<String>,
    numbers: HashMap<String, u16>,
    outgoing: Vec<Links>,
    incoming: Vec<Links>,
    /// Terms of the sentences that carry edges, by source, target and relation; held only for weights that look at them.
    evidence: Option<HashMap<EdgeAt, Box<[u32]>>>,
    edges: usize,
    /// Edges at each slot in both directions.
    degrees: Vec<u32>,
}

impl Graph {
    /// Number of edges.
    pub(crate) fn len(&self) -> usize {
        self.edges
    }

    /// Edges that start at `slot`.
    pub(crate) fn outgoing(&self, slot: u32) -> &[Link] {
        links(&self.outgoing, slot)
    }

    /// Edges that end at `slot`.
    pub(crate) fn incoming(&self, slot: u32) -> &[Link] {
        links(&self.incoming, slot)
    }

    /// Edges at `slot` in both directions.
    pub(crate) fn degree(&self, slot: u32) -> usize {
        let degree = self.degrees.get(slot as usize);
        degree.map_or(0, |degree| *degree as usize)
    }

    /// Says how many edges there are at `slot` in the graph of which this is a part.
    pub(crate) fn set_degree(&mut self, slot: u32, degree: usize) {
        *self.degree_mut(slot) = u32::try_from(degree).unwrap_or(u32::MAX);
    }

    fn degree_mut(&mut self, slot: u32) -> &mut u32 {
        let at = slot as usize;
        if self.degrees.len() <= at {
            self.degrees.resize(at + 1, 0);
        }
        &mut self.degrees[at]
    }

    /// The name of a relation that a [`Link`] carries.
    pub(crate) fn relation_name(&self, rel: u16) -> &str {
        &self.relations[usize::from(rel)]
    }

    /// How many relations there are.
    pub(crate) fn relations(&self) -> usize {
        self.relations.len()
    }

    /// Terms of the sentence that carries an edge, by [`words::term_key`], ascending; empty when none is known or none is
    /// held.
    pub(crate) fn evidence(&self, src: u32, dst: u32, rel: u16) -> &[u32] {
        let held = self.evidence.as_ref();
        let terms = held.and_then(|held| held.get(&(src, dst, rel)));
        terms.map_or(&[], |terms| terms)
    }

    /// Whether sentences are held.
    pub(crate) fn holds_evidence(&self) -> bool {
        self.evidence.is_some()
    }

    /// Holds the sentences of edges from now on, or lets go of them.
    pub(crate) fn hold_evidence(&mut self, hold: bool) {
        self.evidence = hold.then(HashMap::new);
    }

    /// Holds the sentence of an edge that is there.
    pub(crate) fn put_evidence(&mut self, (src, dst, rel): (u32, u32, u16), terms: Box<[u32]>) {
        if let Some(held) = &mut self.evidence
            && !terms.is_empty()
        {
            held.insert((src, dst, rel), terms);
        }
    }

    fn drop_evidence(&mut self, edge: (u32, u32, u16)) {
        if let Some(held) = &mut self.evidence {
            held.remove(&edge);
        }
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
        if put(&mut self.outgoing, src, link(dst)) {
            self.edges += 1;
            *self.degree_mut(src) += 1;
            *self.degree_mut(dst) += 1;
        }
        put(&mut self.incoming, dst, link(src));
        self.drop_evidence((src, dst, rel));
        if let Some(sentence) = facts.evidence.filter(|_| self.holds_evidence()) {
            self.put_evidence((src, dst, rel), words::keys(&sentence));
        }
    }

    /// Removes the edge if it is there.
    pub(crate) fn remove(&mut self, src: u32, dst: u32, rel: u16) {
        if take(&mut self.outgoing, src, dst, rel) {
            self.edges -= 1;
            *self.degree_mut(src) -= 1;
            *self.degree_mut(dst) -= 1;
        }
        take(&mut self.incoming, dst, src, rel);
        self.drop_evidence((src, dst, rel));
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

fn links(lists: &[Links], slot: u32) -> &[Link] {
    lists.get(slot as usize).map_or(&[], |links| &links.list)
}

/// Whether the link is new.
fn put(lists: &mut Vec<Links>, slot: u32, link: Link) -> bool {
    let at = slot as usize;
    if lists.len() <= at {
        lists.resize(at + 1, Links::default());
    }
    lists[at].put(link)
}

/// Whether the link was there.
fn take(lists: &mut [Links], slot: u32, to: u32, rel: u16) -> bool {
    let links = lists.get_mut(slot as usize);
    links.is_some_and(|links| links.take(to, rel))
}

impl Links {
    fn place(&self, to: u32, rel: u16) -> Option<usize> {
        match &self.places {
            Some(places) => places.get(&(to, rel)).map(|place| *place as usize),
            None => {
                let mut list = self.list.iter();
                list.position(|link| link.to == to && link.rel == rel)
            }
        }
    }

    fn put(&mut self, link: Link) -> bool {
        if let Some(place) = self.place(link.to, link.rel) {
            self.list[place] = link;
            return false;
        }
        let place = self.list.len() as u32;
        self.list.push(link);
        match &mut self.places {
            Some(places) => {
                places.insert((link.to, link.rel), place);
            }
            None if self.list.len() > LISTED_MAX => {
                let keys = self.list.iter().map(|link| (link.to, link.rel));
                self.places = Some(Box::new(keys.zip(0..).collect()));
            }
            None => {}
        }
        true
    }

    fn take(&mut self, to: u32, rel: u16) -> bool {
        let Some(place) = self.place(to, rel) else {
            return false;
        };
        self.list.swap_remove(place);
        // Half of the bound, so that a list at it is not numbered anew with every change.
        if self.list.len() <= LISTED_MAX / 2 {
            self.places = None;
        }
        if let Some(places) = &mut self.places {
            places.remove(&(to, rel));
            if let Some(moved) = self.list.get(place) {
                places.insert((moved.to, moved.rel), place as u32);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(weight: f32) -> EdgeFacts {
        EdgeFacts {
            weight,
            seconds: 0,
            confidence: 1.0,
            evidence: None,
        }
    }

    fn ends(links: &[Link]) -> Vec<(u32, u16, u32)> {
        let mut ends: Vec<_> = links
            .iter()
            .map(|link| (link.to, link.rel, link.weight.to_bits()))
            .collect();
        ends.sort_unstable();
        ends
    }

    /// Random edges at few slots, so that some become hubs and shrink again, against a plain map.
    #[test]
    fn lists_of_any_length_hold_what_was_put_and_not_taken() {
        let mut graph = Graph::default();
        let mut model: HashMap<(u32, u32, u16), f32> = HashMap::new();
        let mut state = 7_u64;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        for step in 0..60_000_u64 {
            let key = (random(3) as u32, random(120) as u32, random(2) as u16);
            // Grows for a while, then shrinks.
            let grows = (step / 6_000).is_multiple_of(2);
            if random(10) < if grows { 8 } else { 2 } {
                let weight = random(100) as f32;
                graph.insert(key.0, key.1, key.2, facts(weight));
                model.insert(key, weight);
            } else {
                graph.remove(key.0, key.1, key.2);
                model.remove(&key);
            }
            if step.is_multiple_of(500) {
                assert_eq!(graph.len(), model.len());
                for slot in 0..120 {
                    let of = |end: fn(&(u32, u32, u16)) -> (u32, u32)| {
                        let mut wanted: Vec<_> = (model.iter())
                            .filter(|(key, _)| end(key).0 == slot)
                            .map(|(key, weight)| (end(key).1, key.2, weight.to_bits()))
                            .collect();
                        wanted.sort_unstable();
                        wanted
                    };
                    assert_eq!(ends(graph.outgoing(slot)), of(|key| (key.0, key.1)));
                    assert_eq!(ends(graph.incoming(slot)), of(|key| (key.1, key.0)));
                }
            }
        }
    }

    /// Without the places each of these steps looks through half of the list: ten thousand million looks.
    #[test]
    fn a_hub_of_a_hundred_thousand_edges_is_filled_changed_and_cleared() {
        const EDGES: u32 = 100_000;
        let mut graph = Graph::default();
        for weight in [0.5, 0.7] {
            for other in 1..=EDGES {
                graph.insert(0, other, 0, facts(weight));
                graph.insert(other, 0, 1, facts(weight));
            }
        }
        assert_eq!(graph.len(), 2 * EDGES as usize);
        assert_eq!(graph.degree(0), 2 * EDGES as usize);
        assert!(graph.outgoing(0).iter().all(|link| link.weight == 0.7));
        for other in 1..=EDGES / 2 {
            graph.remove(0, other, 0);
        }
        assert_eq!(graph.outgoing(0).len(), EDGES as usize / 2);
        graph.clear(0);
        assert_eq!((graph.len(), graph.degree(0), graph.degree(1)), (0, 0, 0));
    }
}
