//! BM25: which nodes contain the words of a question.
//!
//! Owns posting lists in memory, rebuilt from the rows at open and kept exact through every update
//! and removal. It stores nothing and fuses nothing: `search.rs` does the second, `store.rs` the
//! first.

use std::collections::HashMap;

use crate::words::{self, WordCounts};

/// Saturation of repeated words (Robertson and Zaragoza, "The Probabilistic Relevance Framework",
/// 2009).
const K1: f32 = 1.2;

/// How much longer texts are held back; same source.
const B: f32 = 0.75;

/// One text that contains a term.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Posting {
    slot: u32,
    occurrences: u16,
}

/// Posting lists over slots. Each list is sorted by slot.
#[derive(Debug, Default)]
pub(crate) struct Bm25 {
    terms: HashMap<Box<str>, Vec<Posting>>,
    lengths: Vec<u32>,
    texts: usize,
    length_sum: u64,
}

impl Bm25 {
    /// Adds the text of `slot`, which must hold none.
    pub(crate) fn insert(&mut self, slot: u32, words: WordCounts) {
        let at = slot as usize;
        if self.lengths.len() <= at {
            self.lengths.resize(at + 1, 0);
        }
        self.lengths[at] = words.length;
        self.texts += 1;
        self.length_sum += u64::from(words.length);
        for (term, occurrences) in words.terms {
            let list = self.terms.entry(term).or_default();
            let place = list.partition_point(|posting| posting.slot < slot);
            list.insert(place, Posting { slot, occurrences });
        }
    }

    /// Removes the text of `slot`, given the words it was added with.
    pub(crate) fn remove(&mut self, slot: u32, words: &WordCounts) {
        self.texts -= 1;
        self.length_sum -= u64::from(words.length);
        self.lengths[slot as usize] = 0;
        for (term, _) in &words.terms {
            let Some(list) = self.terms.get_mut(term) else {
                continue;
            };
            if let Ok(place) = list.binary_search_by_key(&slot, |posting| posting.slot) {
                list.remove(place);
            }
            if list.is_empty() {
                self.terms.remove(term);
            }
        }
    }

    /// Scores of the allowed slots that contain a word of `text`, by slot; empty when no word is
    /// known.
    ///
    /// `allowed` has one entry a slot and is consulted inside the walk.
    pub(crate) fn scores(&self, text: &str, allowed: &[bool]) -> Vec<(u32, f32)> {
        if self.texts == 0 {
            return Vec::new();
        }
        let mean_length = (self.length_sum as f32 / self.texts as f32).max(1.0);
        let mut sums = vec![0.0_f32; allowed.len()];
        let mut touched = Vec::new();
        for (term, _) in words::count(text).terms {
            let Some(list) = self.terms.get(&term) else {
                continue;
            };
            let idf = idf(self.texts, list.len());
            for posting in list {
                let at = posting.slot as usize;
                if !allowed[at] {
                    continue;
                }
                if sums[at] == 0.0 {
                    touched.push(posting.slot);
                }
                let length = self.lengths[at] as f32 / mean_length;
                let tf = f32::from(posting.occurrences);
                sums[at] += idf * tf * (K1 + 1.0) / (tf + K1 * (1.0 - B + B * length));
            }
        }
        touched.sort_unstable();
        touched
            .into_iter()
            .map(|slot| (slot, sums[slot as usize]))
            .collect()
    }
}

/// Always positive, as in Lucene: a word in every text still counts a little.
fn idf(texts: usize, containing: usize) -> f32 {
    let (texts, containing) = (texts as f32, containing as f32);
    (1.0 + (texts - containing + 0.5) / (containing + 0.5)).ln()
}
