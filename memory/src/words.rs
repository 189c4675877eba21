//! Words: how a text becomes the terms that BM25 counts.
//!
//! Words are runs of letters and digits, lower-cased and stemmed in English; identifiers
//! (`os.path.join`, `lru_cache`, `ThreadPoolExecutor`) are kept whole and in parts, so that both
//! ways of asking find them. Scripts without spaces give pairs of characters. No scoring here:
//! `bm25.rs` counts what this file yields.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use rust_stemmers::{Algorithm, Stemmer};
use unicode_normalization::UnicodeNormalization;

/// Longest term kept, in bytes; longer runs (hashes, base64) are noise and would fill the index.
const TERM_BYTES_MAX: usize = 64;

/// Function words that say nothing about a subject and are no keyword of a programming language.
const STOP_WORDS: &[&str] = &[
    "a", "an", "are", "be", "been", "can", "could", "did", "does", "had", "has", "have", "how",
    "i", "it", "its", "me", "my", "of", "our", "shall", "should", "so", "such", "that", "the",
    "their", "then", "there", "these", "they", "this", "those", "to", "was", "we", "were", "what",
    "which", "why", "will", "would", "you", "your",
];

/// The terms of a text with how often each occurs, sorted by term.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WordCounts {
    /// Term and occurrences.
    pub(crate) terms: Vec<(Box<str>, u16)>,
    /// Sum of the occurrences.
    pub(crate) length: u32,
}

/// Counts the terms of `text`.
pub(crate) fn count(text: &str) -> WordCounts {
    let mut raw: HashMap<String, u32> = HashMap::new();
    each_word(text, &mut |word| *raw.entry(word).or_default() += 1);
    let stemmer = Stemmer::create(Algorithm::English);
    let mut stems: HashMap<Box<str>, u32> = HashMap::with_capacity(raw.len());
    for (word, occurrences) in raw {
        *stems.entry(stem(&stemmer, &word)).or_default() += occurrences;
    }
    let mut terms: Vec<(Box<str>, u16)> = stems
        .into_iter()
        .map(|(term, occurrences)| (term, u16::try_from(occurrences).unwrap_or(u16::MAX)))
        .collect();
    terms.sort_unstable();
    let length = terms
        .iter()
        .map(|(_, occurrences)| u32::from(*occurrences))
        .sum();
    WordCounts { terms, length }
}

/// The terms of `text` by [`term_key`], ascending, each once.
pub(crate) fn keys(text: &str) -> Box<[u32]> {
    let mut keys: Vec<u32> = (count(text).terms.iter())
        .map(|(term, _)| term_key(term))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into()
}

/// A term in four bytes. Two terms of a question and a text that share a key are rare and cost a
/// little attention.
pub(crate) fn term_key(term: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    term.hash(&mut hasher);
    (hasher.finish() >> 32) as u32
}

fn stem(stemmer: &Stemmer, word: &str) -> Box<str> {
    let plain = word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_lowercase());
    if plain {
        stemmer.stem(word).into()
    } else {
        word.into()
    }
}

/// Calls `yield_word` with each term before stemming: words, identifiers whole, and their parts.
fn each_word(text: &str, yield_word: &mut dyn FnMut(String)) {
    let mut emit = |word: &str| {
        if word.is_empty() || word.len() > TERM_BYTES_MAX || STOP_WORDS.contains(&word) {
            return;
        }
        yield_word(word.to_owned());
    };
    for run in runs(&text.nfkc().collect::<String>()) {
        if run.chars().any(is_unspaced) {
            each_pair(run, &mut emit);
        } else {
            each_part(run, &mut emit);
        }
    }
}

/// Runs of letters, digits and `_`, joined by single dots between them.
fn runs(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !is_word(c) && c != '.')
        .flat_map(|chunk| {
            chunk
                .split("..")
                .map(|run| run.trim_matches('.'))
                .filter(|run| !run.is_empty())
        })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Han, kana and Thai are written without spaces between words.
fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{0E00}'..='\u{0E7F}' | '\u{3040}'..='\u{30FF}')
        || matches!(c, '\u{3400}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}')
}

fn each_pair(run: &str, emit: &mut dyn FnMut(&str)) {
    let lower = run.to_lowercase();
    let mut ends: Vec<usize> = lower.char_indices().map(|(at, _)| at).collect();
    ends.push(lower.len());
    if ends.len() < 3 {
        emit(&lower);
    }
    for pair in ends.windows(3) {
        emit(&lower[pair[0]..pair[2]]);
    }
}

fn each_part(run: &str, emit: &mut dyn FnMut(&str)) {
    let lower = run.to_lowercase();
    let dotted = run.contains('.');
    if dotted {
        emit(&lower);
    }
    for segment in run.split('.') {
        let segment_lower = segment.to_lowercase();
        emit(&segment_lower);
        let parts = identifier_parts(segment);
        if parts.len() > 1 {
            for part in parts {
                emit(&part.to_lowercase());
            }
        }
    }
}

/// `lru_cache` gives `lru`, `cache`; `HTTPServer` gives `HTTP`, `Server`; a plain word gives
/// itself.
fn identifier_parts(segment: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for piece in segment.split('_').filter(|piece| !piece.is_empty()) {
        let chars: Vec<(usize, char)> = piece.char_indices().collect();
        let mut start = 0;
        for at in 1..chars.len() {
            let (position, here) = chars[at];
            let before = chars[at - 1].1;
            let next_is_lower = chars.get(at + 1).is_some_and(|(_, c)| c.is_lowercase());
            let begins_word = here.is_uppercase()
                && (before.is_lowercase() || (before.is_uppercase() && next_is_lower));
            if begins_word {
                parts.push(&piece[start..position]);
                start = position;
            }
        }
        parts.push(&piece[start..]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(text: &str) -> Vec<String> {
        count(text)
            .terms
            .into_iter()
            .map(|(term, _)| term.into())
            .collect()
    }

    #[test]
    fn dotted_and_snake_identifiers_are_found_whole_and_in_parts() {
        assert_eq!(
            terms("os.path.join()"),
            ["join", "os", "os.path.join", "path"]
        );
        assert_eq!(
            terms("functools.lru_cache"),
            [
                "cach",
                "functool",
                "functools.lru_cache",
                "lru",
                "lru_cache"
            ]
        );
    }

    #[test]
    fn camel_case_is_found_whole_and_in_parts() {
        assert_eq!(terms("HTTPServer"), ["http", "httpserver", "server"]);
        assert_eq!(terms("Threads"), ["thread"]);
    }

    #[test]
    fn the_end_of_a_sentence_is_not_part_of_a_word() {
        assert_eq!(terms("Close it. Open files..."), ["close", "file", "open"]);
    }

    #[test]
    fn inflections_share_a_term_and_occurrences_add_up() {
        let counts = count("Caching caches cached");
        assert_eq!(counts.terms, [("cach".into(), 3)]);
        assert_eq!(counts.length, 3);
    }

    #[test]
    fn text_without_spaces_gives_pairs() {
        assert_eq!(terms("東京都"), ["京都", "東京"]);
        assert_eq!(terms("東"), ["東"]);
    }

    #[test]
    fn endless_runs_are_not_indexed() {
        assert!(terms(&"x".repeat(1000)).is_empty());
    }
}
