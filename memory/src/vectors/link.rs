//! Linking: which changes give a vector its place in the graph, or take it away without tearing a hole.
//!
//! Plans only, on a graph that is read; `hnsw.rs` applies. Neighbours are chosen by the paper's heuristic (algorithm 4): a
//! candidate counts unless it is nearer to one that was chosen already. Two things are added. A link that is the last one
//! to its node is kept, and those who linked to a removed node get one of its neighbours instead.

use std::collections::BTreeMap;

use pulp::{Simd, WithSimd};

use super::codes::Codes;
use super::hnsw::{Change, Hnsw, Kind, LAYERS_MAX};
use super::walk::{Near, Walk, cosine_of, near, slot_of};

/// Neighbours of a removed node that are looked at for each of those who linked to it.
const REPLACEMENTS_MAX: usize = 8;

/// Plans the place of the vector of `slot`, which is no node.
pub(super) struct Insert<'a> {
    pub(super) graph: &'a Hnsw,
    pub(super) codes: &'a Codes,
    pub(super) slot: u32,
    pub(super) digest: u64,
    pub(super) level: usize,
}

/// The highest layer of a node: geometric, and the same for the same number.
pub(super) fn level(number: u64, links: usize) -> usize {
    // SplitMix64 (Steele, Lea and Flood, 2014), so that numbers that are close give levels that are not.
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    let uniform = ((bits >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    let level = -uniform.ln() / (links as f64).ln();
    (level as usize).min(LAYERS_MAX - 1)
}

impl WithSimd for Insert<'_> {
    type Output = Change;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Change {
        let Self {
            graph, codes, slot, ..
        } = self;
        let mut change = Change {
            slot,
            kind: Kind::Insert {
                digest: self.digest,
                level: self.level,
            },
            rows: BTreeMap::new(),
        };
        let walk = Walk {
            graph,
            codes,
            question: &codes.question_of(slot),
            ef: graph.parameters().ef_construction,
            accept: None,
        };
        let mut scratch = graph.scratch();
        let start = walk.descend(self.level + 1..=graph.top(), &mut scratch);
        let mut unbounded = usize::MAX;
        if let Some(mut start) = start {
            for layer in (0..=self.level.min(graph.top())).rev() {
                walk.layer((layer, start), &mut unbounded, &mut scratch);
                let found = scratch.sorted();
                start = found[0];
                let neighbours = self.neighbours(layer, &found, &mut change);
                change.rows.insert((layer, slot), neighbours);
            }
        }
        graph.give_back(scratch);
        change
    }
}

impl Insert<'_> {
    /// Neighbours on `layer` among `found`; plans their links back.
    #[inline(always)]
    fn neighbours(&self, layer: usize, found: &[Near], change: &mut Change) -> Vec<u32> {
        let choice = Choice {
            graph: self.graph,
            codes: self.codes,
            layer,
        };
        let width = self.graph.parameters().links;
        let chosen = choice.choose(found, width, |_| false);
        let mut linked_to = false;
        for node in &chosen {
            let mut links = self.graph.links(layer, *node).to_vec();
            links.push(self.slot);
            if links.len() > self.graph.width(layer) {
                links = choice.shrink(*node, &links, |to| to == self.slot && !linked_to);
            }
            linked_to |= links.contains(&self.slot);
            change.rows.insert((layer, *node), links);
        }
        chosen
    }
}

/// Chooses links on one layer.
struct Choice<'a> {
    graph: &'a Hnsw,
    codes: &'a Codes,
    layer: usize,
}

impl Choice<'_> {
    /// Up to `width` of `candidates`, nearest first; those that are to be kept in any case, the others when they are not
    /// nearer to a chosen one.
    #[inline(always)]
    fn choose(&self, candidates: &[Near], width: usize, keep: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut kept = candidates
            .iter()
            .filter(|near| keep(slot_of(**near)))
            .count();
        let mut chosen: Vec<u32> = Vec::with_capacity(width + 1);
        for near in candidates {
            let slot = slot_of(*near);
            let must = keep(slot);
            kept -= usize::from(must);
            if must || chosen.len() + kept < width && self.apart(slot, cosine_of(*near), &chosen) {
                chosen.push(slot);
            }
        }
        chosen.truncate(width);
        chosen
    }

    /// Whether a candidate is no nearer to one of `chosen` than to the node that chooses.
    #[inline(always)]
    fn apart(&self, slot: u32, cosine: f32, chosen: &[u32]) -> bool {
        for other in chosen {
            if self.codes.look_between(*other, slot) > cosine {
                return false;
            }
        }
        true
    }

    /// The best of `links` of `node`, which are more than fit.
    #[inline(always)]
    fn shrink(&self, node: u32, links: &[u32], also: impl Fn(u32) -> bool) -> Vec<u32> {
        let sorted = self.sorted(node, links);
        let width = self.graph.width(self.layer);
        self.choose(&sorted, width, |to| {
            also(to) || self.graph.incoming(self.layer, to) == [node]
        })
    }

    /// `slots` by their nearness to `node`.
    #[inline(always)]
    fn sorted(&self, node: u32, slots: &[u32]) -> Vec<Near> {
        let mut sorted = Vec::with_capacity(slots.len());
        for slot in slots {
            sorted.push(near(self.codes.look_between(node, *slot), *slot));
        }
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        sorted
    }
}

/// Plans the removal of the node `slot`, which has no group.
pub(super) struct Remove<'a> {
    pub(super) graph: &'a Hnsw,
    pub(super) codes: &'a Codes,
    pub(super) slot: u32,
}

impl WithSimd for Remove<'_> {
    type Output = Change;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Change {
        let mut change = Change {
            slot: self.slot,
            kind: Kind::Remove,
            rows: BTreeMap::new(),
        };
        for layer in 0..=self.graph.level(self.slot) {
            let choice = Choice {
                graph: self.graph,
                codes: self.codes,
                layer,
            };
            for node in self.graph.incoming(layer, self.slot) {
                let links = self.bridged(&choice, *node);
                change.rows.insert((layer, *node), links);
            }
            self.keep_reachable(&choice, &mut change);
        }
        change
    }
}

impl Remove<'_> {
    /// The links of `node`, which links to the removed one, with one of the latter's neighbours in its place.
    #[inline(always)]
    fn bridged(&self, choice: &Choice<'_>, node: u32) -> Vec<u32> {
        let mut links = self.graph.links(choice.layer, node).to_vec();
        links.retain(|to| *to != self.slot);
        let mut neighbours = self.graph.links(choice.layer, self.slot).to_vec();
        neighbours.retain(|to| *to != node && !links.contains(to));
        let sorted = choice.sorted(node, &neighbours);
        let nearest = sorted.iter().take(REPLACEMENTS_MAX);
        for candidate in nearest {
            let slot = slot_of(*candidate);
            if links.is_empty() || choice.apart(slot, cosine_of(*candidate), &links) {
                links.push(slot);
                break;
            }
        }
        links
    }

    /// Links again to those to whom only the removed node linked.
    #[inline(always)]
    fn keep_reachable(&self, choice: &Choice<'_>, change: &mut Change) {
        let layer = choice.layer;
        for lost in self.graph.links(layer, self.slot) {
            let mut planned = change.rows.iter().filter(|((on, _), _)| *on == layer);
            if self.graph.incoming(layer, *lost) != [self.slot]
                || planned.any(|(_, links)| links.contains(lost))
            {
                continue;
            }
            let mut around = match change.rows.get(&(layer, *lost)) {
                Some(planned) => planned.clone(),
                None => self.graph.links(layer, *lost).to_vec(),
            };
            around.retain(|to| *to != self.slot);
            let Some(nearest) = choice.sorted(*lost, &around).first().copied() else {
                continue;
            };
            let node = slot_of(nearest);
            let mut links = match change.rows.get(&(layer, node)) {
                Some(planned) => planned.clone(),
                None => self.graph.links(layer, node).to_vec(),
            };
            links.push(*lost);
            if links.len() > self.graph.width(layer) {
                links = choice.shrink(node, &links, |to| to == *lost);
            }
            change.rows.insert((layer, node), links);
        }
    }
}
