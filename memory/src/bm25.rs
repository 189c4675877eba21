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

/// What the words of a question say about every slot.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// The question's terms that some text holds: [`words::term_key`] and idf.
    pub(crate) terms: Vec<(u32, f32)>,
    /// Sum of their idf.
    pub(crate) idf: f64,
    /// Which of `terms` the text of a slot holds, a bit each; one entry a slot.
    pub(crate) holds: Vec<u64>,
    /// BM25 score; one entry a slot.
    pub(crate) scores: Vec<f32>,
}

/// Posting lists over slots. Each list is sorted by slot.
#[derive(Debug, Default)]
pub(crate) struct Bm25 {
    terms: HashMap<Box<str>, Vec<Posting>>,
    lengths: Vec<u32>,
    texts: usize,
    length_sum: u64,
    /// What is known of all texts, where those that are held are a part of them.
    pub(crate) known: Option<Known>,
}

/// What the words of a question and the length of texts are like in a collection.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Known {
    /// Inverse document frequency by term; a term that is missing occurs nowhere else.
    pub(crate) idf: HashMap<Box<str>, f32>,
    /// Mean length of a text in terms.
    pub(crate) mean_length: f32,
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

    /// Gives back the room that growing lists took.
    pub(crate) fn shrink(&mut self) {
        self.terms.values_mut().for_each(Vec::shrink_to_fit);
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

    /// Scores of each of `slots` slots; 0 for one that holds no word of `text`.
    pub(crate) fn scores(&self, text: &str, slots: usize) -> Vec<f32> {
        let mut scores = vec![0.0; slots];
        for (term, _) in words::count(text).terms {
            let Some(list) = self.terms.get(&term) else {
                continue;
            };
            let idf = idf(self.texts, list.len());
            let counted = self.saturation();
            for posting in list {
                scores[posting.slot as usize] += idf * counted(posting);
            }
        }
        scores
    }

    /// Which words of `text` each of `slots` slots holds, and their scores. A mark has room for the
    /// 64 rarest words.
    pub(crate) fn marks(&self, text: &str, slots: usize) -> Marks {
        let mut marks = Marks {
            terms: Vec::new(),
            idf: 0.0,
            holds: vec![0; slots],
            scores: vec![0.0; slots],
        };
        let counts = words::count(text);
        let elsewhere = self.known.as_ref().map(|known| &known.idf);
        let mut known: Vec<(&str, &[Posting])> = (counts.terms.iter())
            .filter_map(|(term, _)| {
                let list = self.terms.get(term).map(Vec::as_slice);
                let beyond = || elsewhere?.contains_key(term).then_some(&[] as &[Posting]);
                Some((&**term, list.or_else(beyond)?))
            })
            .collect();
        known.sort_by_key(|(_, list)| list.len());
        for (place, (term, list)) in known.into_iter().enumerate() {
            let idf = self.idf(term, list.len());
            let bit = u32::try_from(place).ok();
            let bit = bit.and_then(|bit| 1_u64.checked_shl(bit)).unwrap_or(0);
            if bit != 0 {
                marks.terms.push((words::term_key(term), idf));
                marks.idf += f64::from(idf);
            }
            let counted = self.saturation();
            for posting in list {
                let at = posting.slot as usize;
                marks.holds[at] |= bit;
                marks.scores[at] += idf * counted(posting);
            }
        }
        marks
    }

    fn idf(&self, term: &str, containing: usize) -> f32 {
        let known = self.known.as_ref().and_then(|known| known.idf.get(term));
        known
            .copied()
            .unwrap_or_else(|| idf(self.texts, containing))
    }

    /// How much the occurrences of a word count in a text of its length.
    fn saturation(&self) -> impl Fn(&Posting) -> f32 {
        let mean_length = match &self.known {
            Some(known) => known.mean_length,
            None => (self.length_sum as f32 / self.texts.max(1) as f32).max(1.0),
        };
        let counted = saturation(mean_length);
        move |posting| {
            let length = self.lengths[posting.slot as usize] as f32;
            counted(posting.occurrences, length)
        }
    }
}

/// How much the occurrences of a word count in a text of so many terms, where the mean text has `mean_length`.
pub(crate) fn saturation(mean_length: f32) -> impl Fn(u16, f32) -> f32 {
    let of_length = K1 * B / mean_length;
    move |occurrences, length| {
        let tf = f32::from(occurrences);
        tf * (K1 + 1.0) / (tf + K1 * (1.0 - B) + of_length * length)
    }
}

/// Always positive, as in Lucene: a word in every text still counts a little.
fn idf(texts: usize, containing: usize) -> f32 {
    let (texts, containing) = (texts as f32, containing as f32);
    (1.0 + (texts - containing + 0.5) / (containing + 0.5)).ln()
}
