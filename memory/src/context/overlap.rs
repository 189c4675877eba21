//! Which of the recalled nodes say partly the same, so that one summary can stand for them; and whether a summary says no more
//! than they do.
//!
//! Pure. Both compare words as BM25 counts them: without function words, stemmed.

use std::collections::BTreeSet;

use super::Candidate;
use crate::node::NodeType;
use crate::words;

/// Share of the words of the shorter text that must stand in the other for the two to overlap. In the Python documentation, passages
/// that follow each other share 35 % in the median; of passages of two pages one pair in a hundred shares as much as this.
const OVERLAP: f64 = 0.3;

/// Sources of one summary at most: more than that is not said in a few sentences.
const SOURCES_MAX: usize = 6;

/// Share of a summary's words that must stand in its sources.
const FAITHFUL: f64 = 0.8;

type Words = BTreeSet<Box<str>>;

/// The best candidates that overlap, best first: of one tenant and one domain, with at least `least` of the best candidate's
/// attention, and not yet what one of the candidates summarises. Empty where there are no two.
pub fn overlapping(candidates: &[Candidate], least: f32) -> Vec<&Candidate> {
    let highest = candidates
        .iter()
        .map(|candidate| candidate.score)
        .fold(f32::MIN, f32::max);
    let is_summarised = |one: &Candidate| {
        let mut others = candidates.iter();
        others.any(|other| other.summarises.contains(&one.node.id))
    };
    let may_be_source = |one: &&Candidate| {
        matches!(
            one.node.node_type,
            NodeType::Doc | NodeType::Memory | NodeType::ToolResult
        ) && one.score >= least * highest
            && !is_summarised(one)
    };
    let sources: Vec<(&Candidate, Words)> = (candidates.iter())
        .filter(may_be_source)
        .map(|one| (one, words_of(&one.node.text)))
        .collect();
    for (at, (first, words)) in sources.iter().enumerate() {
        let same = |other: &Candidate| {
            other.node.tenant == first.node.tenant
                && other.node.metadata.domain == first.node.metadata.domain
        };
        let others = sources[at + 1..]
            .iter()
            .filter(|(other, more)| same(other) && overlap(words, more))
            .map(|(other, _)| *other);
        let group: Vec<&Candidate> = [*first]
            .into_iter()
            .chain(others)
            .take(SOURCES_MAX)
            .collect();
        if group.len() > 1 {
            return group;
        }
    }
    Vec::new()
}

/// Whether a summary says nothing that its sources do not: no number that none of them has, and hardly a word.
pub fn says_no_more(summary: &str, sources: &[&str]) -> bool {
    let known: Words = sources.iter().flat_map(|text| words_of(text)).collect();
    let said = words_of(summary);
    let is_number = |word: &str| word.bytes().any(|byte| byte.is_ascii_digit());
    let new: Vec<&Box<str>> = said.difference(&known).collect();
    let known_share = 1.0 - new.len() as f64 / said.len().max(1) as f64;
    !said.is_empty() && known_share >= FAITHFUL && !new.iter().any(|word| is_number(word))
}

fn words_of(text: &str) -> Words {
    let counts = words::count(text);
    counts.terms.into_iter().map(|(term, _)| term).collect()
}

fn overlap(one: &Words, other: &Words) -> bool {
    let shorter = one.len().min(other.len());
    shorter > 0 && one.intersection(other).count() as f64 >= OVERLAP * shorter as f64
}
