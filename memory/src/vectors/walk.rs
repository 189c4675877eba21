//! The walk: from the entry down to layer 0, always on to the nearest node that is not yet expanded.
//!
//! A filter is applied inside: what it refuses is walked through and not returned, so a tenant with few nodes gets its
//! best ones. Reads the graph, never changes it. Nearness is that of the vectors' codes (`codes.rs`); who asked compares
//! what was found exactly. Codes of a node's neighbours are read together, before any of them is judged, so that the
//! processor fetches the next while it multiplies the last.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pulp::{Simd, WithSimd};

use super::codes::{Codes, Question};
use super::hnsw::{Hnsw, NONE};

/// A cosine, or another score, with its slot as one number: higher is nearer, and of equal ones the lower slot.
pub(super) type Near = u64;

#[inline(always)]
pub(crate) fn near(cosine: f32, slot: u32) -> Near {
    let bits = cosine.to_bits();
    let ordered = if bits >> 31 == 0 {
        bits | 1 << 31
    } else {
        !bits
    };
    u64::from(ordered) << 32 | u64::from(u32::MAX - slot)
}

#[inline(always)]
pub(crate) fn slot_of(near: Near) -> u32 {
    u32::MAX - near as u32
}

#[inline(always)]
pub(super) fn cosine_of(near: Near) -> f32 {
    let ordered = (near >> 32) as u32;
    f32::from_bits(if ordered >> 31 == 1 {
        ordered & !(1 << 31)
    } else {
        !ordered
    })
}

/// Buffers of a walk, kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// A slot was visited when its mark is `epoch`.
    marks: Vec<u8>,
    epoch: u8,
    candidates: BinaryHeap<Near>,
    found: BinaryHeap<Reverse<Near>>,
    fresh: Vec<u32>,
    reached: Vec<Near>,
}

impl Scratch {
    fn begin(&mut self, slots: usize) {
        if self.epoch == u8::MAX || self.marks.len() < slots {
            self.marks.clear();
            self.marks.resize(slots, 0);
            self.epoch = 0;
        }
        self.epoch += 1;
        self.candidates.clear();
        self.found.clear();
    }

    /// Whether `slot` was not visited before.
    #[inline(always)]
    fn visit(&mut self, slot: u32) -> bool {
        let mark = &mut self.marks[slot as usize];
        let first = *mark != self.epoch;
        *mark = self.epoch;
        first
    }

    /// The best that was found.
    pub(super) fn best(&self) -> Option<Near> {
        self.found.iter().map(|Reverse(near)| *near).max()
    }

    /// What was found, nearest first.
    pub(super) fn sorted(&self) -> Vec<Near> {
        let mut found: Vec<Near> = self.found.iter().map(|Reverse(near)| *near).collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        found
    }
}

/// Which slots a walk may return.
#[derive(Clone, Copy)]
pub(super) struct Accept<'a> {
    /// Slots that hold a vector.
    pub(super) present: &'a [bool],
    /// Slots that the filter lets through; absent lets all through.
    pub(super) allowed: Option<&'a [bool]>,
}

impl Accept<'_> {
    #[inline(always)]
    pub(super) fn passes(&self, slot: u32) -> bool {
        let at = slot as usize;
        self.present.get(at).copied().unwrap_or(false)
            && self
                .allowed
                .is_none_or(|allowed| allowed.get(at).copied().unwrap_or(false))
    }
}

/// One walk on one layer.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a> {
    pub(super) graph: &'a Hnsw,
    pub(super) codes: &'a Codes,
    pub(super) question: &'a Question,
    /// Nearest that are kept.
    pub(super) ef: usize,
    /// `None` finds nodes, whatever they hold now; otherwise the slots of their groups that pass.
    pub(super) accept: Option<Accept<'a>>,
}

impl Walk<'_> {
    /// Walks `layer` from `start`. `false` when it would have measured more than `budget` vectors, which it lowers.
    #[inline(always)]
    pub(super) fn layer(
        &self,
        (layer, start): (usize, Near),
        budget: &mut usize,
        scratch: &mut Scratch,
    ) -> bool {
        scratch.begin(self.graph.slots());
        scratch.visit(slot_of(start));
        scratch.candidates.push(start);
        self.offer(start, scratch);
        while let Some(next) = scratch.candidates.pop() {
            if self.too_far(next, scratch) {
                break;
            }
            scratch.fresh.clear();
            for to in self.graph.padded_links(layer, slot_of(next)) {
                if *to == NONE {
                    break;
                }
                if scratch.visit(*to) {
                    scratch.fresh.push(*to);
                }
            }
            let Some(left) = budget.checked_sub(scratch.fresh.len()) else {
                return false;
            };
            *budget = left;
            let mut reached = std::mem::take(&mut scratch.reached);
            for slot in &scratch.fresh {
                let cosine = self.codes.look(self.question, *slot);
                reached.push(near(cosine, *slot));
            }
            for reached in reached.drain(..) {
                if !self.too_far(reached, scratch) {
                    scratch.candidates.push(reached);
                    self.offer(reached, scratch);
                }
            }
            scratch.reached = reached;
        }
        true
    }

    /// The node of `layers` at which a greedy descent from the entry ends.
    #[inline(always)]
    pub(super) fn descend(
        &self,
        layers: std::ops::RangeInclusive<usize>,
        scratch: &mut Scratch,
    ) -> Option<Near> {
        let entry = self.graph.entry()?;
        let mut start = near(self.codes.look(self.question, entry), entry);
        let greedy = Self {
            ef: 1,
            accept: None,
            ..*self
        };
        let mut unbounded = usize::MAX;
        for layer in layers.rev() {
            greedy.layer((layer, start), &mut unbounded, scratch);
            start = scratch.best().unwrap_or(start);
        }
        Some(start)
    }

    #[inline(always)]
    fn too_far(&self, reached: Near, scratch: &Scratch) -> bool {
        scratch.found.len() >= self.ef
            && (scratch.found.peek()).is_some_and(|Reverse(worst)| reached < *worst)
    }

    #[inline(always)]
    fn offer(&self, reached: Near, scratch: &mut Scratch) {
        let Some(accept) = &self.accept else {
            self.keep(reached, scratch);
            return;
        };
        let cosine = cosine_of(reached);
        for slot in self.graph.group(slot_of(reached)) {
            if accept.passes(slot) {
                self.keep(near(cosine, slot), scratch);
            }
        }
    }

    #[inline(always)]
    fn keep(&self, reached: Near, scratch: &mut Scratch) {
        if scratch.found.len() < self.ef {
            scratch.found.push(Reverse(reached));
        } else if let Some(mut worst) = scratch.found.peek_mut()
            && reached > worst.0
        {
            *worst = Reverse(reached);
        }
    }
}

/// A walk from the entry down to layer 0, and the nearest that it found; `None` when it measured more than `budget`.
pub(super) struct Search<'a> {
    pub(super) walk: Walk<'a>,
    pub(super) budget: usize,
}

impl WithSimd for Search<'_> {
    type Output = Option<Vec<Near>>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Self::Output {
        let Self { walk, mut budget } = self;
        let mut scratch = walk.graph.scratch();
        let mut found = Some(Vec::new());
        if let Some(start) = walk.descend(1..=walk.graph.top(), &mut scratch) {
            let done = walk.layer((0, start), &mut budget, &mut scratch);
            found = done.then(|| scratch.sorted());
        }
        walk.graph.give_back(scratch);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_orders_by_cosine_and_then_by_slot() {
        let ordered = [
            near(-1.0, 0),
            near(-0.5, 3),
            near(-0.0, 1),
            near(0.0, 1),
            near(0.25, 9),
            near(0.25, 8),
            near(1.0, 7),
        ];
        assert!(ordered.is_sorted());
        for (cosine, slot) in [(-0.75, 0), (0.0, u32::MAX - 1), (0.3, 17)] {
            let near = near(cosine, slot);
            assert_eq!((cosine_of(near), slot_of(near)), (cosine, slot));
        }
    }
}
