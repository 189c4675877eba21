//! HNSW: the graph over the vectors, as data, and the one way in which it changes.
//!
//! After Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small
//! World graphs" (2016). Layer 0 is one flat array with a fixed number of places a slot; upper layers, which hold one node
//! in [`HnswParameters::links`], lie apart. Every link is known at both ends, so a removal finds all who link to it.
//! Slots with the same vector are one node, the group's leader: copies of a passage neither crowd out its neighbours nor
//! cut themselves off from the rest. A node that nothing links to is listed, so that a search can look at it all the same.
//!
//! Changes are planned elsewhere (`link.rs`) on a graph that is only read, and applied here. Reading on: `walk.rs`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::walk::Scratch;

/// No slot.
pub(super) const NONE: u32 = u32::MAX;

/// No layer is higher: with 2 links a node, a billion nodes have 30.
pub(super) const LAYERS_MAX: usize = 32;

/// How the graph is built and walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HnswParameters {
    /// Links that a new node makes on a layer (`M`), at least 2. A node of layer 0 has room for twice as many.
    pub links: usize,
    /// Nearest nodes found before the links of a new one are chosen from them (`efConstruction`).
    pub ef_construction: usize,
    /// Fewest nearest nodes that a search keeps while it walks (`ef`).
    pub ef_search: usize,
    /// Up to this many vectors there is no graph, and up to this many that a filter lets through are compared one by one.
    pub exact_max: usize,
}

impl Default for HnswParameters {
    fn default() -> Self {
        Self {
            links: 32,
            ef_construction: 200,
            ef_search: 64,
            exact_max: 15_000,
        }
    }
}

impl HnswParameters {
    /// As they are used: a graph needs two links a node, and a snapshot counts them in 16 bits.
    pub(super) fn clamped(self) -> Self {
        Self {
            links: self.links.clamp(2, usize::from(u16::MAX / 2)),
            ef_construction: self.ef_construction.max(1),
            ..self
        }
    }
}

/// Links of a node on an upper layer.
#[derive(Debug, Default)]
struct Links {
    out: Vec<u32>,
    incoming: Vec<u32>,
}

/// What to change. Made for the graph of one [`Hnsw::version`].
#[derive(Debug)]
pub(super) struct Change {
    /// The slot that comes or goes.
    pub(super) slot: u32,
    pub(super) kind: Kind,
    /// New links by layer and node.
    pub(super) rows: BTreeMap<(usize, u32), Vec<u32>>,
}

/// What happens to the slot of a [`Change`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It becomes a node.
    Insert { digest: u64, level: usize },
    /// It joins the group of a node with the same vector.
    Join { digest: u64, leader: u32 },
    /// It was a node without a group and goes.
    Remove,
}

/// The graph.
#[derive(Debug)]
pub(super) struct Hnsw {
    parameters: HnswParameters,
    /// Links on layer 0, `2 * links` places a slot, ended by [`NONE`] when there are fewer.
    base: Vec<u32>,
    /// Who links to a slot on layer 0.
    incoming: Vec<Vec<u32>>,
    /// Layers 1 and up.
    upper: Vec<HashMap<u32, Links>>,
    entry: Option<u32>,
    /// The node that stands for a slot: itself, another with the same vector, or none.
    leaders: Vec<u32>,
    /// The next slot of the same group.
    next: Vec<u32>,
    /// Digests of the vectors as they were linked.
    digests: Vec<u64>,
    /// A node by the digest of its vector.
    by_digest: HashMap<u64, u32>,
    /// Nodes that nothing links to on layer 0.
    unreachable: BTreeSet<u32>,
    linked: usize,
    version: u64,
    scratch: Mutex<Vec<Scratch>>,
}

impl Hnsw {
    pub(super) fn new(parameters: HnswParameters) -> Self {
        Self {
            parameters: parameters.clamped(),
            base: Vec::new(),
            incoming: Vec::new(),
            upper: Vec::new(),
            entry: None,
            leaders: Vec::new(),
            next: Vec::new(),
            digests: Vec::new(),
            by_digest: HashMap::new(),
            unreachable: BTreeSet::new(),
            linked: 0,
            version: 0,
            scratch: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn parameters(&self) -> &HnswParameters {
        &self.parameters
    }

    /// Number of slots that have a place.
    pub(super) fn len(&self) -> usize {
        self.linked
    }

    /// Changes with everything that would make a planned change wrong.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Where a walk starts: a node of the highest layer.
    pub(super) fn entry(&self) -> Option<u32> {
        self.entry
    }

    /// The highest layer.
    pub(super) fn top(&self) -> usize {
        self.upper.len()
    }

    /// Number of slots that the graph has room for.
    pub(super) fn slots(&self) -> usize {
        self.leaders.len()
    }

    /// Most links of a node on a layer.
    pub(super) fn width(&self, layer: usize) -> usize {
        if layer == 0 {
            2 * self.parameters.links
        } else {
            self.parameters.links
        }
    }

    /// Whether a slot is a node.
    pub(super) fn is_node(&self, slot: u32) -> bool {
        self.leaders.get(slot as usize) == Some(&slot)
    }

    /// All nodes, by slot.
    pub(super) fn nodes(&self) -> impl Iterator<Item = u32> {
        (0..self.leaders.len() as u32).filter(|slot| self.is_node(*slot))
    }

    /// The highest layer of a node.
    pub(super) fn level(&self, slot: u32) -> usize {
        let has = |layer: &&HashMap<u32, Links>| layer.contains_key(&slot);
        self.upper.iter().take_while(has).count()
    }

    /// The digest of a node's vector as it was linked.
    pub(super) fn digest(&self, slot: u32) -> u64 {
        self.digests[slot as usize]
    }

    /// A node whose vector had this digest when it was linked.
    pub(super) fn with_digest(&self, digest: u64) -> Option<u32> {
        self.by_digest.get(&digest).copied()
    }

    /// The slots of a node's group, itself first.
    pub(super) fn group(&self, leader: u32) -> impl Iterator<Item = u32> {
        let next = |slot: &u32| Some(self.next[*slot as usize]).filter(|next| *next != NONE);
        std::iter::successors(Some(leader), next)
    }

    /// Nodes that nothing links to: no walk is sure to meet them.
    pub(super) fn unreachable(&self) -> impl Iterator<Item = u32> {
        self.unreachable.iter().copied()
    }

    /// Where a node links to on a layer that it is on.
    #[inline(always)]
    pub(super) fn links(&self, layer: usize, slot: u32) -> &[u32] {
        if layer > 0 {
            return self.upper[layer - 1]
                .get(&slot)
                .map_or(&[], |links| links.out.as_slice());
        }
        let row = self.padded_links(layer, slot);
        let end = row.iter().position(|to| *to == NONE);
        &row[..end.unwrap_or(row.len())]
    }

    /// As [`Hnsw::links`], perhaps with [`NONE`] after the last.
    #[inline(always)]
    pub(super) fn padded_links(&self, layer: usize, slot: u32) -> &[u32] {
        if layer > 0 {
            return self.links(layer, slot);
        }
        let width = 2 * self.parameters.links;
        &self.base[slot as usize * width..(slot as usize + 1) * width]
    }

    /// Who links to a node on a layer; nobody to a slot that is no node.
    pub(super) fn incoming(&self, layer: usize, slot: u32) -> &[u32] {
        match layer {
            0 => self.incoming.get(slot as usize).map_or(&[], Vec::as_slice),
            _ => self.upper[layer - 1]
                .get(&slot)
                .map_or(&[], |links| links.incoming.as_slice()),
        }
    }

    /// Buffers for a walk, those of an earlier one where there are any. They come back by [`Hnsw::give_back`].
    pub(super) fn scratch(&self) -> Scratch {
        self.lock_scratch().pop().unwrap_or_default()
    }

    pub(super) fn give_back(&self, scratch: Scratch) {
        self.lock_scratch().push(scratch);
    }

    fn lock_scratch(&self) -> MutexGuard<'_, Vec<Scratch>> {
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Performs a change that was planned on this version.
    pub(super) fn apply(&mut self, change: Change) {
        self.version += 1;
        let slot = change.slot;
        match change.kind {
            Kind::Insert { digest, level } => self.add_node(slot, digest, level),
            Kind::Join { digest, leader } => self.join(slot, digest, leader),
            Kind::Remove => {}
        }
        for ((layer, node), links) in change.rows {
            self.set_links(layer, node, &links);
        }
        if change.kind == Kind::Remove {
            self.remove_node(slot);
        }
    }

    /// Says that the vector of a slot is about to change or go. The rest of its group keeps the place in the graph; a node
    /// without a group stays where it is until its removal is applied.
    pub(super) fn release(&mut self, slot: u32) {
        let Some(leader) = self.leader(slot) else {
            return;
        };
        self.version += 1;
        let after = self.next[slot as usize];
        if leader != slot {
            let before = self
                .group(leader)
                .find(|member| self.next[*member as usize] == slot)
                .expect("a member follows another in the list of its leader");
            self.next[before as usize] = after;
            self.forget(slot);
        } else if after != NONE {
            self.hand_over(slot, after);
        }
    }

    /// Places a node as a snapshot has it, with links to nodes that are placed before or after it.
    pub(super) fn restore(&mut self, slot: u32, digest: u64, links: &[Vec<u32>]) {
        let highest = links.iter().flatten().copied().max().unwrap_or(slot);
        self.make_room(highest.max(slot));
        self.add_node(slot, digest, links.len().saturating_sub(1));
        for (layer, links) in links.iter().enumerate() {
            self.restore_links(layer, slot, links);
        }
    }

    fn leader(&self, slot: u32) -> Option<u32> {
        let leader = *self.leaders.get(slot as usize)?;
        (leader != NONE).then_some(leader)
    }

    fn make_room(&mut self, slot: u32) {
        let slots = slot as usize + 1;
        if slots > self.slots() {
            self.base.resize(slots * self.width(0), NONE);
            self.incoming.resize(slots, Vec::new());
            self.leaders.resize(slots, NONE);
            self.next.resize(slots, NONE);
            self.digests.resize(slots, 0);
        }
    }

    fn add_node(&mut self, slot: u32, digest: u64, level: usize) {
        self.make_room(slot);
        self.leaders[slot as usize] = slot;
        self.next[slot as usize] = NONE;
        self.digests[slot as usize] = digest;
        self.by_digest.insert(digest, slot);
        self.linked += 1;
        if self.incoming[slot as usize].is_empty() {
            self.unreachable.insert(slot);
        }
        let higher = self.entry.is_none() || level > self.upper.len();
        while self.upper.len() < level {
            self.upper.push(HashMap::new());
        }
        for layer in &mut self.upper[..level] {
            layer.entry(slot).or_default();
        }
        if higher {
            self.entry = Some(slot);
        }
    }

    fn join(&mut self, slot: u32, digest: u64, leader: u32) {
        self.make_room(slot);
        self.leaders[slot as usize] = leader;
        self.next[slot as usize] = self.next[leader as usize];
        self.next[leader as usize] = slot;
        self.digests[slot as usize] = digest;
        self.linked += 1;
    }

    /// Takes a node away whose neighbours have new links already.
    fn remove_node(&mut self, slot: u32) {
        for layer in 0..=self.level(slot) {
            self.set_links(layer, slot, &[]);
        }
        debug_assert!(self.incoming[slot as usize].is_empty());
        self.take_off(slot);
        if self.by_digest.get(&self.digests[slot as usize]) == Some(&slot) {
            self.by_digest.remove(&self.digests[slot as usize]);
        }
        self.forget(slot);
        if self.entry == Some(slot) {
            self.entry = match self.upper.last() {
                Some(top) => top.keys().copied().min(),
                None => self.nodes().next(),
            };
        }
    }

    /// Removes a slot without links from the upper layers and the list of the unreachable.
    fn take_off(&mut self, slot: u32) {
        for layer in &mut self.upper {
            layer.remove(&slot);
        }
        while self.upper.last().is_some_and(HashMap::is_empty) {
            self.upper.pop();
        }
        self.unreachable.remove(&slot);
    }

    fn forget(&mut self, slot: u32) {
        self.leaders[slot as usize] = NONE;
        self.next[slot as usize] = NONE;
        self.linked -= 1;
    }

    /// Puts `heir`, the second of the group of `leader`, in its place.
    fn hand_over(&mut self, leader: u32, heir: u32) {
        let members: Vec<u32> = self.group(heir).collect();
        for member in members {
            self.leaders[member as usize] = heir;
        }
        if self.incoming[heir as usize].is_empty() {
            self.unreachable.insert(heir);
        }
        for layer in 0..=self.level(leader) {
            if layer > 0 {
                self.upper[layer - 1].insert(heir, Links::default());
            }
            let out = self.links(layer, leader).to_vec();
            let incoming = self.incoming(layer, leader).to_vec();
            self.set_links(layer, leader, &[]);
            self.set_links(layer, heir, &out);
            for node in incoming {
                let swap = |to: &u32| if *to == leader { heir } else { *to };
                let links: Vec<u32> = self.links(layer, node).iter().map(swap).collect();
                self.set_links(layer, node, &links);
            }
        }
        self.take_off(leader);
        self.by_digest.insert(self.digests[leader as usize], heir);
        self.forget(leader);
        if self.entry == Some(leader) {
            self.entry = Some(heir);
        }
    }

    /// Replaces the links of a node on a layer and tells the other ends.
    fn set_links(&mut self, layer: usize, slot: u32, links: &[u32]) {
        debug_assert!(links.len() <= self.width(layer) && !links.contains(&slot));
        let old = self.links(layer, slot).to_vec();
        for to in old.iter().filter(|to| !links.contains(to)) {
            let incoming = self.incoming_mut(layer, *to);
            if let Some(at) = incoming.iter().position(|from| *from == slot) {
                incoming.swap_remove(at);
            }
            if layer == 0 && self.incoming[*to as usize].is_empty() {
                self.unreachable.insert(*to);
            }
        }
        for to in links.iter().filter(|to| !old.contains(to)) {
            self.incoming_mut(layer, *to).push(slot);
            if layer == 0 {
                self.unreachable.remove(to);
            }
        }
        self.write_links(layer, slot, links);
    }

    /// As [`Hnsw::set_links`] for a node without links, whose targets may not be placed yet.
    fn restore_links(&mut self, layer: usize, slot: u32, links: &[u32]) {
        for to in links {
            if layer == 0 {
                self.incoming[*to as usize].push(slot);
                self.unreachable.remove(to);
            } else {
                let target = self.upper[layer - 1].entry(*to).or_default();
                target.incoming.push(slot);
            }
        }
        self.write_links(layer, slot, links);
    }

    fn write_links(&mut self, layer: usize, slot: u32, links: &[u32]) {
        if layer == 0 {
            let width = self.width(0);
            let row = &mut self.base[slot as usize * width..(slot as usize + 1) * width];
            row[..links.len()].copy_from_slice(links);
            row[links.len()..].fill(NONE);
        } else if let Some(node) = self.upper[layer - 1].get_mut(&slot) {
            node.out = links.to_vec();
        }
    }

    fn incoming_mut(&mut self, layer: usize, slot: u32) -> &mut Vec<u32> {
        match layer {
            0 => &mut self.incoming[slot as usize],
            _ => &mut self.upper[layer - 1].entry(slot).or_default().incoming,
        }
    }
}
