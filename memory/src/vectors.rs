//! Vectors: which slots hold one, and which are nearest to a query.
//!
//! Below [`HnswParameters::exact_max`] vectors every one is looked at by its code, and those that can be among the nearest
//! are compared (`vectors/codes.rs`): the nearest are exactly those of comparing all. Above, a graph (`vectors/hnsw.rs`) is
//! walked instead, wherever that is cheaper and can be relied on:
//!
//! - A filter that lets through few slots is answered by comparing these: up to `exact_max`, and where a walk would visit
//!   more ([`walk_pays`]). A walk that measured as many vectors as there are allowed, or that came back with fewer than it
//!   was asked for, is given up for the comparison too, which bounds the cost of a filter that is opposed to the query.
//! - A vector that came or changed waits until it has its place in the graph, and is compared exactly until then, like
//!   those that nothing in the graph links to. So a search never misses a vector because it is new.
//!
//! Nothing here is durable and no filter is evaluated: masks are handed in. Every cosine that leaves is that of the vectors
//! themselves. Reading on: `vectors/rows.rs` (arithmetic), `vectors/codes.rs`, `vectors/product.rs`, `vectors/walk.rs`, `vectors/link.rs`, `vectors/snapshot.rs`; who works off what waits is in `store/linker.rs`.

mod codes;
mod hnsw;
mod link;
mod product;
mod rows;
mod scan;
pub(crate) mod snapshot;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::BTreeMap;

use codes::{Codes, Question};
pub use hnsw::HnswParameters;
use hnsw::{Change, Hnsw, Kind};
use link::{Insert, Remove};
use rows::{Digest, Rows};
use scan::{Compare, Cosines, Looks};
use walk::{Accept, Search, Walk, cosine_of};
pub(crate) use walk::{near, slot_of};

/// Vectors measured for each nearest node that a walk keeps, about: the share of a node's 64 links that is new.
const MEASURED_PER_NODE: f64 = 16.0;

/// A first look at all pays where they are this many times the nearest that are wanted.
const LOOK_PART: usize = 4;

/// How far the squared length of a unit vector is from 1 after rounding to `f32`.
const UNIT_ROUNDING: f64 = 1e-6;

/// Unit vectors by slot, and the graph over them.
#[derive(Debug)]
pub(crate) struct Vectors {
    rows: Rows,
    codes: Codes,
    present: Vec<bool>,
    count: usize,
    parameters: HnswParameters,
    graph: Option<Hnsw>,
    /// Slots whose vector and place in the graph do not fit, with the number of the change that made it so.
    waiting: BTreeMap<u32, u64>,
    changes: u64,
    /// Changes of the graph since it was built or read.
    relinked: usize,
}

/// How hard to look for the nearest vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Compare all.
    Exact,
    /// Walk the graph and keep this many nearest on the way (`ef`), where there is a graph and a walk is cheaper.
    Walk(usize),
}

/// A change of the graph that was planned and not yet made.
#[derive(Debug)]
pub(crate) struct Planned {
    slot: u32,
    number: u64,
    version: u64,
    change: Change,
}

impl Vectors {
    /// No rows of `dimensions` values.
    pub(crate) fn new(dimensions: usize, parameters: HnswParameters) -> Self {
        Self {
            rows: Rows::new(dimensions),
            codes: Codes::new(dimensions),
            present: Vec::new(),
            count: 0,
            parameters,
            graph: None,
            waiting: BTreeMap::new(),
            changes: 0,
            relinked: 0,
        }
    }

    /// Makes room for `count` slots.
    pub(crate) fn reserve(&mut self, count: usize) {
        self.rows.reserve(count);
        self.codes.reserve(count);
    }

    /// Length of a row.
    pub(crate) fn dimensions(&self) -> usize {
        self.rows.dimensions()
    }

    /// Number of slots that hold a vector.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Puts a unit vector of the right length into `slot`.
    pub(crate) fn set(&mut self, slot: u32, unit: &[f32]) {
        let at = slot as usize;
        if self.present.len() <= at {
            self.present.resize(at + 1, false);
        }
        self.rows.put(slot, unit);
        self.codes.put(slot, unit);
        self.count += usize::from(!self.present[at]);
        self.present[at] = true;
        if self.graph.is_none() && self.count > self.parameters.exact_max {
            self.graph = Some(Hnsw::new(self.parameters));
            let slots = 0..self.present.len() as u32;
            let present = slots.filter(|slot| self.present[*slot as usize]);
            self.waiting = present.map(|slot| (slot, 0)).collect();
        }
        self.changed(slot);
    }

    /// Takes the vector out of `slot`.
    pub(crate) fn clear(&mut self, slot: u32) {
        if let Some(present) = self.present.get_mut(slot as usize)
            && *present
        {
            *present = false;
            self.count -= 1;
            self.changed(slot);
        }
    }

    /// The vector of `slot`.
    pub(crate) fn get(&self, slot: u32) -> Option<&[f32]> {
        let present = self.present.get(slot as usize).copied().unwrap_or(false);
        present.then(|| self.rows.row(slot))
    }

    /// Cosine of two unit vectors.
    pub(crate) fn cosine(&self, left: &[f32], right: &[f32]) -> f32 {
        self.rows.cosine(left, right)
    }

    /// Cosines of the unit vector `query` to every allowed slot that has a vector, by slot.
    pub(crate) fn cosines(&self, query: &[f32], allowed: Option<&[bool]>) -> Vec<(u32, f32)> {
        let accept = self.accept(allowed);
        self.rows.arch().dispatch(Cosines {
            rows: &self.rows,
            query,
            accept,
        })
    }

    /// The nearest slots to the unit vector `query` with their cosines, by slot: at least `count` of those that `allowed`
    /// lets through, `passed` in number, or all where these are fewer. A walk keeps `ef` on the way.
    pub(crate) fn nearest(
        &self,
        query: &[f32],
        (allowed, passed): (Option<&[bool]>, usize),
        (count, ef): (usize, usize),
    ) -> Vec<(u32, f32)> {
        let passed = passed.min(self.count);
        let question = self.codes.question(query);
        let walked = self.walked(&question, (allowed, passed), ef.max(count));
        let looks = match walked {
            Some(found) => found,
            None if passed <= LOOK_PART * count => return self.cosines(query, allowed),
            None => self.looks(&question, allowed),
        };
        let mut found = self.compared(query, &question, looks, count);
        found.sort_unstable_by_key(|(slot, _)| *slot);
        found
    }

    /// A look at every allowed slot that has a vector, by slot.
    fn looks(&self, question: &Question, allowed: Option<&[bool]>) -> Vec<(u32, f32)> {
        let accept = self.accept(allowed);
        self.rows.arch().dispatch(Looks {
            codes: &self.codes,
            question,
            accept,
        })
    }

    /// The cosines of those of `looks` that can be among the `count` nearest of them.
    fn compared(
        &self,
        query: &[f32],
        question: &Question,
        mut looks: Vec<(u32, f32)>,
        count: usize,
    ) -> Vec<(u32, f32)> {
        let margin = |slot: u32| self.codes.margin(question, slot);
        let least = looks.iter().map(|(slot, look)| look - margin(*slot));
        if let Some(bound) = nth_largest(least, count) {
            looks.retain(|(slot, look)| look + margin(*slot) >= bound);
        }
        self.rows.arch().dispatch(Compare {
            rows: &self.rows,
            query,
            looks,
        })
    }

    fn accept<'a>(&'a self, allowed: Option<&'a [bool]>) -> Accept<'a> {
        Accept {
            present: &self.present,
            allowed,
        }
    }

    /// Looks at `ef` of the nearest slots, or at all that are allowed where these are fewer, from the graph; `None` where
    /// that does not pay or cannot be relied on.
    fn walked(
        &self,
        question: &Question,
        (allowed, passed): (Option<&[bool]>, usize),
        ef: usize,
    ) -> Option<Vec<(u32, f32)>> {
        let exact_max = self.parameters.exact_max;
        let pays = passed > exact_max && walk_pays(passed, ef, self.count);
        if !pays || self.waiting.len() > exact_max {
            return None;
        }
        let found = self.walk(question, allowed, (ef, passed))?;
        (found.len() >= ef.min(passed)).then_some(found)
    }

    /// The `ef` nearest that a walk finds by looking, nearest first, with what it cannot find; `None` where there is no
    /// graph or the walk would look at more than `budget` vectors.
    fn walk(
        &self,
        question: &Question,
        allowed: Option<&[bool]>,
        (ef, budget): (usize, usize),
    ) -> Option<Vec<(u32, f32)>> {
        let graph = self.graph.as_ref()?;
        let accept = self.accept(allowed);
        let walk = Walk {
            graph,
            codes: &self.codes,
            question,
            ef,
            accept: Some(accept),
        };
        let mut found = self.rows.arch().dispatch(Search { walk, budget })?;
        let alone = graph.unreachable().flat_map(|node| graph.group(node));
        let beside = self.waiting.keys().copied().chain(alone);
        let beside = beside.filter(|slot| accept.passes(*slot));
        found.extend(beside.map(|slot| near(self.codes.look(question, slot), slot)));
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.dedup_by_key(|near| slot_of(*near));
        found.truncate(ef);
        let found = found.into_iter();
        Some(found.map(|near| (slot_of(near), cosine_of(near))).collect())
    }

    /// How the graph is built and walked.
    pub(crate) fn parameters(&self) -> HnswParameters {
        self.parameters
    }

    /// Fewest nearest slots that a search keeps.
    pub(crate) fn ef_search(&self) -> usize {
        self.parameters.ef_search
    }

    /// Keeps more or fewer from now on.
    pub(crate) fn set_ef_search(&mut self, ef_search: usize) {
        self.parameters.ef_search = ef_search;
    }

    /// Number of slots that wait for their place in the graph.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Number of slots that have a place in the graph; `None` when there is no graph.
    pub(crate) fn linked(&self) -> Option<usize> {
        self.graph.as_ref().map(Hnsw::len)
    }

    /// Changes of the graph since [`Vectors::saved`].
    pub(crate) fn relinked(&self) -> usize {
        self.relinked
    }

    /// Says that a snapshot holds the first `relinked` of the changes.
    pub(crate) fn saved(&mut self, relinked: usize) {
        self.relinked -= relinked;
    }

    /// Plans what the first slot that waits needs; `None` when none waits. `number` gives a slot the number that its
    /// level is drawn from.
    pub(crate) fn plan(&self, number: impl Fn(u32) -> u64) -> Option<Planned> {
        let graph = self.graph.as_ref()?;
        let (slot, change_number) = self.waiting.first_key_value().map(|(a, b)| (*a, *b))?;
        let (rows, codes) = (&self.rows, &self.codes);
        let change = if graph.is_node(slot) {
            let remove = Remove { graph, codes, slot };
            rows.arch().dispatch(remove)
        } else {
            let digest = Digest::of_vector(rows.row(slot));
            match self.equal(graph, slot, digest) {
                Some(leader) => Change {
                    slot,
                    kind: Kind::Join { digest, leader },
                    rows: BTreeMap::new(),
                },
                None => rows.arch().dispatch(Insert {
                    graph,
                    codes,
                    slot,
                    digest,
                    level: link::level(number(slot), graph.parameters().links),
                }),
            }
        };
        Some(Planned {
            slot,
            number: change_number,
            version: graph.version(),
            change,
        })
    }

    /// Makes a planned change, unless its slot or the graph changed since: then it is to be planned again.
    pub(crate) fn commit(&mut self, planned: Planned) {
        let Some(graph) = &mut self.graph else {
            return;
        };
        let slot = planned.slot;
        if planned.version != graph.version() || self.waiting.get(&slot) != Some(&planned.number) {
            return;
        }
        let removed = planned.change.kind == Kind::Remove;
        graph.apply(planned.change);
        self.relinked += 1;
        if !removed || !self.present[slot as usize] {
            self.waiting.remove(&slot);
        }
    }

    /// A node with the vector of `slot` that does not wait itself.
    fn equal(&self, graph: &Hnsw, slot: u32, digest: u64) -> Option<u32> {
        let leader = graph.with_digest(digest)?;
        let settled = !self.waiting.contains_key(&leader);
        (settled && self.rows.row(leader) == self.rows.row(slot)).then_some(leader)
    }

    /// Follows a change of the vector in `slot`.
    fn changed(&mut self, slot: u32) {
        let Some(graph) = &mut self.graph else {
            return;
        };
        graph.release(slot);
        self.changes += 1;
        if self.present[slot as usize] || graph.is_node(slot) {
            self.waiting.insert(slot, self.changes);
        } else {
            self.waiting.remove(&slot);
        }
    }
}

/// Whether a walk that keeps `ef` nearest visits fewer of `count` vectors than the `passed` ones that a filter lets
/// through: to meet one of these it visits `count / passed` on average.
fn walk_pays(passed: usize, ef: usize, count: usize) -> bool {
    let (passed, ef, count) = (passed as f64, ef as f64, count as f64);
    MEASURED_PER_NODE * ef * count / passed < passed
}

/// `vector` at length 1, or `None` when it has no direction. One that has that length already is taken bit for bit: rounded
/// once more, a vector that was read and is written again would be a change.
pub(crate) fn normalised(vector: &[f32]) -> Option<Vec<f32>> {
    let square: f64 = vector.iter().map(|value| f64::from(*value).powi(2)).sum();
    if (square - 1.0).abs() < UNIT_ROUNDING {
        return Some(vector.to_vec());
    }
    let norm = square.sqrt();
    if !norm.is_finite() || norm < f64::from(f32::MIN_POSITIVE) {
        return None;
    }
    let scaled = vector.iter().map(|value| (f64::from(*value) / norm) as f32);
    Some(scaled.collect())
}

/// The value than which `count - 1` others are larger or equal; `None` where there are fewer. Most values are looked at once, since
/// few are larger than the `count` largest before them.
fn nth_largest(values: impl Iterator<Item = f32>, count: usize) -> Option<f32> {
    let last = count.checked_sub(1)?;
    let mut largest: Vec<f32> = Vec::with_capacity(2 * count);
    let mut bound = f32::NEG_INFINITY;
    let cut = |largest: &mut Vec<f32>| {
        let (_, bound, _) = largest.select_nth_unstable_by(last, |a, b| b.total_cmp(a));
        let bound = *bound;
        largest.truncate(count);
        bound
    };
    for value in values {
        if value > bound {
            largest.push(value);
            if largest.len() == 2 * count {
                bound = cut(&mut largest);
            }
        }
    }
    (largest.len() >= count).then(|| cut(&mut largest))
}
