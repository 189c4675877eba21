//! Search: which nodes a question is about, from vectors and words together.
//!
//! Takes the best allowed nodes by cosine (`vectors.rs`: all compared, or a walk through a graph when there are many) and
//! by BM25, and fuses the two. The filter is applied inside both, so a tenant with few nodes still gets its best ones. A
//! node that only its words found has its exact cosine all the same. While many nodes still wait for their vectors, words alone
//! find them ([`by_vector_pays`]). Nothing is read from disk here. Reading on: `recall.rs`.

use std::cmp::Ordering;

use crate::index::{Allowed, Index};
use crate::node::{NodeId, NodeType};
use crate::store::Memory;
use crate::vectors::{self, Effort, near, slot_of};

/// How much a standard deviation of BM25 counts next to one of cosine.
const WORDS_WEIGHT: f32 = 0.5;

/// Share of the nodes that must have a vector before vectors say which node is nearer, of 4.
const WITH_VECTOR_MIN: usize = 3;

/// Whether vectors tell which nodes are near. While few nodes have one, these would stand before all others: a node that is
/// hardly like the question before one that has all of its words and waits for its vector.
pub(crate) fn by_vector_pays(vectors: usize, nodes: usize) -> bool {
    4 * vectors >= WITH_VECTOR_MIN * nodes
}

/// Fewest nodes taken from each of the two rankings to compare: their spread is what a z-score is
/// relative to.
pub(crate) const POOL_MIN: usize = 256;

/// Nodes taken from each of the two rankings for `k` hits.
pub(crate) fn pool(k: usize) -> usize {
    POOL_MIN.max(4 * k)
}

/// Which nodes a query may see. Applied while scanning, never afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Whose nodes; those of [`crate::SHARED_TENANT`] are always included.
    pub tenant: String,
    /// Domains to see; empty means all, and nodes without a domain too.
    pub domains: Vec<String>,
    /// Types to see; empty means all except [`NodeType::Trace`].
    pub types: Vec<NodeType>,
    /// Nodes that are not seen whatever else holds, nor any edge at them, nor a summary of them. Measurements keep back with it what would give
    /// an answer away; no client can ask for it, and a memory service is never told.
    pub hidden: Vec<NodeId>,
}

impl Filter {
    /// Whether nodes of a type are seen.
    pub fn sees(&self, node_type: NodeType) -> bool {
        match self.types.as_slice() {
            [] => node_type != NodeType::Trace,
            asked => asked.contains(&node_type),
        }
    }
}

/// A question to the memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// The question in words; used by BM25.
    pub text: String,
    /// Its embedding, of the store's dimensions; `None` searches by words alone.
    pub vector: Option<Vec<f32>>,
    /// What may be seen.
    pub filter: Filter,
    /// How many hits to return.
    pub k: usize,
    /// Pairs of nodes between which recall sees no edge, whatever its direction and relation.
    /// Benchmarks hide gold links with it.
    pub exclude_edges: Vec<(NodeId, NodeId)>,
}

/// One node found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// The node.
    pub id: NodeId,
    /// Cosine to the query, -1 to 1; `None` when the query or the node has no vector.
    pub cosine: Option<f32>,
    /// BM25 score, above 0; `None` when the node contains none of the query's words.
    pub bm25: Option<f32>,
    /// `z(cosine) + w z(bm25)`: what the hits are ordered by, and the bias of the seeds in recall.
    pub strength: f32,
}

/// What a search found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SearchResult {
    /// By strength, strongest first; equal ones by id.
    pub hits: Vec<Hit>,
    /// Share of the store's nodes that passed the filter, 0 to 1.
    pub filter_share: f32,
}

/// Why a search was refused.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum SearchError {
    /// The query's vector does not fit the store.
    #[error("the query vector has {found} dimensions, this memory holds {expected}")]
    Dimensions {
        /// Dimensions of the store.
        expected: usize,
        /// Dimensions of the query.
        found: usize,
    },
    /// The query's vector has no direction.
    #[error("the query vector is zero or has a value that is not a finite number")]
    NotAVector,
}

/// What is known of a question before its vector: which nodes it may see, and how well each has its words. Made beside the
/// embedding of the question, it takes no time of its own.
#[derive(Debug)]
pub struct Prepared {
    text: String,
    filter: Filter,
    k: usize,
    generation: u64,
    by_slot: BySlot,
}

/// The same without whose it is: which slots a question may see, how well each has its words, and which have them best.
#[derive(Debug)]
struct BySlot {
    allowed: Allowed,
    words: Vec<f32>,
    /// As many as `k` hits are taken from.
    by_words: Vec<u32>,
}

impl BySlot {
    fn of(index: &Index, (text, k): (&str, usize), filter: &Filter) -> Self {
        let allowed = index.allowed(filter);
        let words = index.words.scores(text, index.slots());
        let passing = (0_u32..).zip(words.iter().zip(&allowed.mask));
        let held = passing.filter(|(_, (score, passes))| **passes && **score > 0.0);
        let by_words = best(
            index,
            held.map(|(slot, (score, _))| (slot, *score)),
            pool(k),
        );
        Self {
            allowed,
            words,
            by_words,
        }
    }
}

impl Prepared {
    fn fits(&self, index: &Index, query: &Query) -> bool {
        self.generation == index.generation
            && self.text == query.text
            && self.filter == query.filter
            && self.k == query.k
    }

    /// Whether the filter lets each slot through; `None` where this is no longer true, or not of this question.
    pub(crate) fn mask(&self, index: &Index, query: &Query) -> Option<&[bool]> {
        self.fits(index, query)
            .then_some(&*self.by_slot.allowed.mask)
    }
}

impl Memory {
    /// What can be said of a question without its vector, for [`Memory::search_prepared`] and [`Memory::recall_prepared`].
    pub fn prepare(&self, text: String, filter: Filter, k: usize) -> Prepared {
        let index = self.index();
        Prepared {
            generation: index.generation,
            by_slot: BySlot::of(&index, (&text, k), &filter),
            text,
            filter,
            k,
        }
    }

    /// The `query.k` strongest nodes that the filter lets through.
    pub fn search(&self, query: &Query) -> Result<SearchResult, SearchError> {
        self.search_prepared(query, None)
    }

    /// The same with what was prepared, which is not used where a write came since, or for another text or filter.
    pub fn search_prepared(
        &self,
        query: &Query,
        prepared: Option<&Prepared>,
    ) -> Result<SearchResult, SearchError> {
        let unit = unit_query(query, self.config().dimensions)?;
        let index = self.index();
        let prepared = prepared.filter(|prepared| prepared.fits(&index, query));
        let own;
        let by_slot = match prepared {
            Some(prepared) => &prepared.by_slot,
            None => {
                own = BySlot::of(&index, (&query.text, query.k), &query.filter);
                &own
            }
        };
        let BySlot {
            allowed,
            words,
            by_words,
        } = by_slot;
        let pool = pool(query.k);
        let unit = unit
            .filter(|_| by_words.is_empty() || by_vector_pays(index.vectors.len(), index.len()));
        let ef = pool.max(index.vectors.ef_search());
        let cosines = unit
            .as_deref()
            .map(|unit| index.vectors.nearest(unit, allowed.by_slot(), (pool, ef)))
            .unwrap_or_default();
        let by_cosine = best(&index, cosines.iter().copied(), pool);
        let found = [by_cosine.as_slice(), by_words].concat();
        let mut hits = fuse(&index, (unit.as_deref(), &cosines), words, found);
        hits.truncate(query.k);
        Ok(SearchResult {
            hits,
            filter_share: allowed.share,
        })
    }
}

impl Memory {
    /// The `k` nodes with the highest cosine to `vector`, highest first and equal ones by id, of those that `filter` lets
    /// through or of all. Words play no part.
    pub fn nearest(
        &self,
        vector: &[f32],
        filter: Option<&Filter>,
        k: usize,
        effort: Effort,
    ) -> Result<Vec<(NodeId, f32)>, SearchError> {
        let unit = unit(vector, self.config().dimensions)?;
        let index = self.index();
        let allowed = filter.map(|filter| index.allowed(filter));
        let (mask, passed) = match &allowed {
            Some(allowed) => allowed.by_slot(),
            None => (None, index.len()),
        };
        let mut cosines = match effort {
            Effort::Exact => index.vectors.cosines(&unit, mask),
            Effort::Walk(ef) => index.vectors.nearest(&unit, (mask, passed), (k, ef)),
        };
        let order = |a: &(u32, f32), b: &(u32, f32)| {
            b.1.total_cmp(&a.1)
                .then_with(|| index.id(a.0).cmp(&index.id(b.0)))
        };
        if cosines.len() > k {
            cosines.select_nth_unstable_by(k, order);
            cosines.truncate(k);
        }
        cosines.sort_unstable_by(order);
        let found = cosines.into_iter();
        Ok(found
            .map(|(slot, cosine)| (index.id(slot), cosine))
            .collect())
    }
}

/// The query's vector at length 1.
pub(crate) fn unit_query(
    query: &Query,
    dimensions: usize,
) -> Result<Option<Vec<f32>>, SearchError> {
    let Some(vector) = &query.vector else {
        return Ok(None);
    };
    unit(vector, dimensions).map(Some)
}

pub(crate) fn unit(vector: &[f32], dimensions: usize) -> Result<Vec<f32>, SearchError> {
    if vector.len() != dimensions {
        return Err(SearchError::Dimensions {
            expected: dimensions,
            found: vector.len(),
        });
    }
    vectors::normalised(vector).ok_or(SearchError::NotAVector)
}

/// Hits by strength of the slots that cosines or words `found`, given the cosines to `unit` by slot, of all nodes or of the
/// nearest, and BM25 of every slot.
///
/// Z-scores are taken over all of them. A node without a vector counts as average in cosine, one without the words as zero
/// in BM25.
fn fuse(
    index: &Index,
    (unit, cosines): (Option<&[f32]>, &[(u32, f32)]),
    words: &[f32],
    mut found: Vec<u32>,
) -> Vec<Hit> {
    let own = |slot: u32| {
        let (unit, own) = unit.zip(index.vectors.get(slot))?;
        Some(index.vectors.cosine(unit, own))
    };
    found.sort_unstable();
    found.dedup();
    let hits: Vec<Hit> = (found.into_iter())
        .map(|slot| {
            let known = cosines.binary_search_by_key(&slot, |(slot, _)| *slot);
            let cosine = known.ok().map(|at| cosines[at].1).or_else(|| own(slot));
            let bm25 = Some(words[slot as usize]).filter(|score| *score > 0.0);
            Hit {
                id: index.id(slot),
                cosine,
                bm25,
                strength: 0.0,
            }
        })
        .collect();
    by_strength(hits, !cosines.is_empty())
}

/// The hits with their strengths, strongest first. `by_vector` says whether any node was found by its vector.
pub(crate) fn by_strength(mut hits: Vec<Hit>, by_vector: bool) -> Vec<Hit> {
    hits.sort_unstable_by_key(|hit| hit.id);
    let by_cosine = Spread::of(hits.iter().filter_map(|hit| hit.cosine));
    let by_words = Spread::of(hits.iter().map(|hit| hit.bm25.unwrap_or(0.0)));
    let words_weight = if by_vector { WORDS_WEIGHT } else { 1.0 };
    for hit in &mut hits {
        let cosine = hit.cosine.map_or(0.0, |cosine| by_cosine.z(cosine));
        hit.strength = cosine + words_weight * by_words.z(hit.bm25.unwrap_or(0.0));
    }
    hits.sort_by(|a, b| b.strength.total_cmp(&a.strength).then(a.id.cmp(&b.id)));
    hits
}

/// The slots of the `count` highest scores; equal ones by id.
fn best(index: &Index, scores: impl Iterator<Item = (u32, f32)>, count: usize) -> Vec<u32> {
    let mut ranked: Vec<u64> = scores.map(|(slot, score)| near(score, slot)).collect();
    let Some(beyond) = ranked.len().checked_sub(count).filter(|_| count > 0) else {
        return ranked.into_iter().map(slot_of).collect();
    };
    let (_, last, _) = ranked.select_nth_unstable(beyond);
    // The score without the slot.
    let least = *last >> 32;
    let mut found: Vec<u32> = Vec::with_capacity(count);
    let mut equal = Vec::new();
    for near in ranked {
        match (near >> 32).cmp(&least) {
            Ordering::Greater => found.push(slot_of(near)),
            Ordering::Equal => equal.push(slot_of(near)),
            Ordering::Less => {}
        }
    }
    equal.sort_unstable_by_key(|slot| index.id(*slot));
    equal.truncate(count - found.len());
    found.extend(equal);
    found
}

/// Mean and standard deviation of a list of scores.
struct Spread {
    mean: f32,
    deviation: f32,
}

impl Spread {
    fn of(scores: impl Iterator<Item = f32> + Clone) -> Self {
        let count = scores.clone().count().max(1) as f64;
        let mean = scores.clone().map(f64::from).sum::<f64>() / count;
        let variance = scores
            .map(|score| (f64::from(score) - mean).powi(2))
            .sum::<f64>()
            / count;
        Self {
            mean: mean as f32,
            deviation: variance.sqrt() as f32,
        }
    }

    /// Zero when all scores are equal.
    fn z(&self, score: f32) -> f32 {
        if self.deviation < 1e-6 {
            0.0
        } else {
            (score - self.mean) / self.deviation
        }
    }
}
