//! What was recalled for questions that were asked lately, for as long as a fresh answer would be made of the same.
//!
//! The key is everything that an answer depends on beside the memory: the question's words and vector, the filter, the
//! limits. Beside each answer stands how fresh it is ([`Freshness`]): the last write to a node or an edge that the question's
//! tenant may see, and the settings of recall. One that is less fresh than the memory is never given out, and a write that
//! comes while an answer is made keeps it from being kept. Writes of other tenants and of traces, which a question only sees
//! when it asks for them, touch neither: only how rare a word is shifts with them, by what the next fresh answer differs.
//! Bounded by number and by bytes; the answer used least recently goes first. Computes nothing itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Recall, RecallLimits, Recalled};
use crate::context::Candidate;
use crate::index::Index;
use crate::node::{NodeType, SHARED_TENANT};
use crate::search::{Filter, Hit, SearchResult};
use crate::store::Memory;

/// Most answers that are kept.
const ENTRIES_MAX: usize = 4096;

/// Most bytes that they take, about.
const BYTES_MAX: usize = 32 << 20;

/// Bytes of a node beside its text, about.
const NODE_BYTES: usize = 256;

/// A question as far as its answer depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecallKey {
    text: String,
    /// Bits of the vector's values.
    vector: Option<Box<[u32]>>,
    filter: Filter,
    limits: RecallLimits,
    candidates: usize,
}

/// What was recalled for a question: the search and the attention, each with its best nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recollected {
    /// The search.
    pub found: SearchResult,
    /// Nodes of its best hits.
    pub hits: Vec<Candidate>,
    /// The attention.
    pub recall: Recall,
    /// Nodes that got the most of it.
    pub nodes: Vec<Candidate>,
}

/// The state of a memory as far as one filter sees it: equal ones give equal answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// The last write to what the filter may see.
    changed: u64,
    /// Grows with every change of the settings of recall.
    settings: u64,
}

/// How the cache did, since the memory was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Questions that were answered from it.
    pub hits: u64,
    /// Questions that were not.
    pub misses: u64,
    /// Answers that it holds.
    pub entries: usize,
    /// Bytes that they take, about.
    pub bytes: usize,
}

impl RecallKey {
    /// The key of a question; `None` where its answer may not be kept, since it is a measurement's.
    pub fn new(
        text: &str,
        vector: Option<&[f32]>,
        filter: &Filter,
        (limits, candidates): (RecallLimits, usize),
    ) -> Option<Self> {
        let bits = |vector: &[f32]| vector.iter().map(|value| value.to_bits()).collect();
        filter.hidden.is_empty().then(|| Self {
            text: text.to_owned(),
            vector: vector.map(bits),
            filter: filter.clone(),
            limits,
            candidates,
        })
    }

    fn bytes(&self) -> usize {
        let values = self.vector.as_ref().map_or(0, |vector| vector.len());
        self.text.len() + 4 * values
    }
}

impl Recollected {
    fn bytes(&self) -> usize {
        let nodes = self.hits.iter().chain(&self.nodes);
        let nodes = nodes.map(|candidate| candidate.node.text.len() + NODE_BYTES);
        self.found.hits.len() * size_of::<Hit>()
            + self.recall.nodes.len() * size_of::<Recalled>()
            + nodes.sum::<usize>()
    }
}

/// The cache of one memory.
#[derive(Default)]
pub(crate) struct RecallCache {
    held: Mutex<Held>,
    settings: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Default)]
struct Held {
    entries: HashMap<Arc<RecallKey>, Entry>,
    by_use: BTreeMap<u64, Arc<RecallKey>>,
    uses: u64,
    bytes: usize,
}

struct Entry {
    answer: Arc<Recollected>,
    freshness: Freshness,
    bytes: usize,
    used: u64,
}

impl Memory {
    /// How fresh an answer is that is made now under a filter.
    pub fn freshness(&self, filter: &Filter) -> Freshness {
        self.freshness_of(&self.index(), filter)
    }

    /// What was recalled for the same question, if a fresh answer would be made of the same. Waits for nobody: while a write
    /// is being taken over there is no such answer.
    pub fn recollected(&self, key: &RecallKey) -> Option<Arc<Recollected>> {
        let cache = self.recall_cache();
        let freshness = self
            .index_now()
            .map(|index| self.freshness_of(&index, &key.filter));
        let answer = freshness.and_then(|freshness| cache.held().get(key, freshness));
        let counter = match &answer {
            Some(_) => &cache.hits,
            None => &cache.misses,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        answer
    }

    fn freshness_of(&self, index: &Index, filter: &Filter) -> Freshness {
        Freshness {
            changed: index.last_change(filter),
            settings: self.recall_cache().settings.load(Ordering::Acquire),
        }
    }

    /// Keeps an answer that was begun at `freshness`, unless something has changed since.
    pub fn keep_recollected(
        &self,
        key: RecallKey,
        freshness: Freshness,
        answer: &Arc<Recollected>,
    ) {
        let mut held = self.recall_cache().held();
        // Under the lock, so that what is forgotten meanwhile does not come back. A write that is being taken over makes the
        // answer old.
        let now = self
            .index_now()
            .map(|index| self.freshness_of(&index, &key.filter));
        if now == Some(freshness) {
            held.put(key, freshness, answer);
        }
    }

    /// How the cache of recall does.
    pub fn cache_counts(&self) -> CacheCounts {
        let cache = self.recall_cache();
        let held = cache.held();
        CacheCounts {
            hits: cache.hits.load(Ordering::Relaxed),
            misses: cache.misses.load(Ordering::Relaxed),
            entries: held.entries.len(),
            bytes: held.bytes,
        }
    }
}

impl RecallCache {
    /// Another way to recall is in use: what was recalled before is not given out any more. Called when it is.
    pub(crate) fn settings_changed(&self) {
        self.settings.fetch_add(1, Ordering::Release);
    }

    /// Forgets everything; how many answers that were.
    pub(crate) fn forget(&self) -> usize {
        std::mem::take(&mut *self.held()).entries.len()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn get(&mut self, key: &RecallKey, freshness: Freshness) -> Option<Arc<Recollected>> {
        let entry = self.entries.get_mut(key)?;
        if entry.freshness != freshness {
            let used = entry.used;
            self.remove(used);
            return None;
        }
        let key = self.by_use.remove(&entry.used)?;
        self.uses += 1;
        entry.used = self.uses;
        let answer = entry.answer.clone();
        self.by_use.insert(self.uses, key);
        Some(answer)
    }

    fn put(&mut self, key: RecallKey, freshness: Freshness, answer: &Arc<Recollected>) {
        let bytes = key.bytes() + answer.bytes();
        if bytes > BYTES_MAX {
            return;
        }
        if let Some(used) = self.entries.get(&key).map(|entry| entry.used) {
            self.remove(used);
        }
        self.uses += 1;
        let (key, used) = (Arc::new(key), self.uses);
        self.by_use.insert(used, key.clone());
        let entry = Entry {
            answer: answer.clone(),
            freshness,
            bytes,
            used,
        };
        self.entries.insert(key, entry);
        self.bytes += bytes;
        while self.entries.len() > ENTRIES_MAX || self.bytes > BYTES_MAX {
            let oldest = self.by_use.first_key_value().map(|(used, _)| *used);
            match oldest {
                Some(used) => self.remove(used),
                None => break,
            }
        }
    }

    fn remove(&mut self, used: u64) {
        let key = self.by_use.remove(&used);
        if let Some(entry) = key.and_then(|key| self.entries.remove(&key)) {
            self.bytes -= entry.bytes;
        }
    }
}

/// Whose nodes a filter lets through, and whether traces are among them: what [`Freshness`] looks at.
pub(crate) fn sees(filter: &Filter) -> ([&str; 2], bool) {
    let traces = filter.types.contains(&NodeType::Trace);
    ([&filter.tenant, SHARED_TENANT], traces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Node;

    const NOW: Freshness = Freshness {
        changed: 1,
        settings: 0,
    };

    fn key(text: &str) -> RecallKey {
        let limits = (RecallLimits::default(), 8);
        RecallKey::new(text, None, &Filter::default(), limits).unwrap()
    }

    fn answer(bytes: usize) -> Arc<Recollected> {
        let node = Node {
            id: crate::NodeId::from_u128(1),
            tenant: String::new(),
            text: "x".repeat(bytes),
            node_type: NodeType::Doc,
            source: crate::NodeSource::Kb,
            metadata: crate::Metadata::default(),
            stamp: 0,
        };
        Arc::new(Recollected {
            hits: vec![Candidate::new(node, 1.0)],
            ..Recollected::default()
        })
    }

    #[test]
    fn it_is_bounded_by_number_and_by_bytes_and_forgets_what_was_used_least_recently() {
        let mut held = Held::default();
        for at in 0..ENTRIES_MAX {
            held.put(key(&at.to_string()), NOW, &answer(1));
        }
        assert!(held.get(&key("0"), NOW).is_some());
        held.put(key("one more"), NOW, &answer(1));
        assert_eq!(held.entries.len(), ENTRIES_MAX);
        assert!(held.get(&key("0"), NOW).is_some(), "just used");
        assert!(held.get(&key("1"), NOW).is_none(), "the oldest use");
        for at in 0..100 {
            held.put(key(&format!("large {at}")), NOW, &answer(1 << 20));
            assert!(held.bytes <= BYTES_MAX);
        }
        assert!(held.entries.len() < 40, "{}", held.entries.len());
        held.put(key("too large"), NOW, &answer(BYTES_MAX));
        assert!(held.get(&key("too large"), NOW).is_none());
        let sum: usize = held.entries.values().map(|entry| entry.bytes).sum();
        assert_eq!((held.bytes, held.by_use.len()), (sum, held.entries.len()));
    }

    #[test]
    fn an_answer_less_fresh_than_the_memory_is_dropped_where_it_is_met() {
        let mut held = Held::default();
        held.put(key("a"), NOW, &answer(10));
        let later = Freshness { changed: 2, ..NOW };
        assert!(held.get(&key("a"), later).is_none());
        assert_eq!(
            (held.entries.len(), held.bytes, held.by_use.len()),
            (0, 0, 0)
        );
    }
}
