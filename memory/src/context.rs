//! Context: which of the recalled nodes enter a prompt, and how they are printed.
//!
//! Pure. Takes candidates from the best down, leaves out near duplicates, prints each as a numbered
//! block whose text is quoted line by line (`> `), so that no text can pose as another block or as
//! an instruction, and stops at the budget. Which of a summary and its sources is printed is
//! `context/choice.rs`, which sources are worth a summary `context/overlap.rs`.

mod choice;
mod overlap;

pub use overlap::{overlapping, says_no_more};

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::node::{Node, NodeId};
use crate::sentences;

/// Words in a shingle (Broder, "On the resemblance and containment of documents", 1997).
const SHINGLE_WORDS: usize = 3;

/// Share of the smaller text's shingles that must stand in the other for the two to be near
/// duplicates.
const DUPLICATE_CONTAINMENT: f64 = 0.8;

/// Words that turn a statement into another one, however alike the texts are.
const POLARITY: &[&str] = &[
    "not", "no", "never", "none", "neither", "nor", "without", "cannot", "unless", "except",
    "true", "false", "only",
];

/// Candidates that are tried for the rest of the budget after one did not fit.
const SMALLER_TRIED_MAX: usize = 8;

/// Tokens that a block and the page above it may have more or fewer together than apart: there are two line ends between
/// them, and some tokenizers join these with the last sign above.
const JOINT_TOKENS_MAX: usize = 2;

/// A node that may enter the prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The node.
    pub node: Node,
    /// Its attention (any positive scale); candidates come highest first.
    pub score: f32,
    /// What it was made from, where it is a summary.
    pub summarises: Vec<NodeId>,
}

impl Candidate {
    /// A node that was made from no other.
    pub fn new(node: Node, score: f32) -> Self {
        Self {
            node,
            score,
            summarises: Vec::new(),
        }
    }
}

/// One block of the context.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Its number in the prompt, from 1: what a citation `[1]` means.
    pub number: usize,
    /// The node it shows.
    pub id: NodeId,
    /// The node's title.
    pub title: Option<String>,
    /// Where the text stands.
    pub uri: Option<String>,
    /// The candidate's score.
    pub score: f32,
    /// The text shown: the node's text, perhaps cut at the end of a sentence.
    pub text: String,
    /// Tokens of the printed block, header and title included.
    pub tokens: usize,
    /// What it was made from, where it is a summary.
    pub summarises: Vec<NodeId>,
}

/// What enters a prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Context {
    /// The blocks in the order they are printed.
    pub blocks: Vec<Block>,
    /// All blocks as one text; empty when there are none.
    pub text: String,
    /// Tokens of `text`.
    pub tokens: usize,
}

/// Fills `budget_tokens` with the best candidates, which come highest first.
///
/// Near duplicates of a block are left out. A summary stands for its sources where these do not all
/// fit, and is left out where they do. The last block may be cut at the end of a sentence; a
/// candidate of which not one sentence fits gives way to the next ones. `count` counts tokens;
/// `Context::tokens` is its count of the whole text and never exceeds the budget.
pub fn assemble(
    candidates: &[Candidate],
    budget_tokens: usize,
    count: &dyn Fn(&str) -> usize,
) -> Context {
    let fill = |candidates: &[&Candidate]| filled(candidates, budget_tokens, count);
    choice::settled(candidates, count, &fill)
}

/// A page with these candidates, the best first, and which of them it has whole.
fn filled(
    candidates: &[&Candidate],
    budget_tokens: usize,
    count: &dyn Fn(&str) -> usize,
) -> (Context, HashSet<NodeId>) {
    let highest = candidates
        .iter()
        .map(|candidate| candidate.score)
        .fold(f32::MIN, f32::max);
    let page = Page {
        context: Context::default(),
        said: HashSet::new(),
        tokens_max: 0,
        by_parts: true,
        budget_tokens,
        highest,
        count,
    };
    let (context, said) = page.filled(candidates, true);
    if context.tokens <= budget_tokens {
        return (context, said);
    }
    // A tokenizer that makes more of a joint than any that is known.
    page.filled(candidates, false)
}

/// Whether one of the two texts says nothing that the other does not say in almost the same words.
pub(crate) fn near_duplicates(one: &str, other: &str) -> bool {
    Shingles::of(one).is_near(&Shingles::of(other))
}

/// How much of a candidate was printed.
#[derive(PartialEq)]
enum Fit {
    Whole,
    Cut,
    None,
}

/// A page that is being printed.
struct Page<'a> {
    /// Its tokens are those of the text when it was last counted.
    context: Context,
    /// Candidates that it has whole, itself or in almost the same words.
    said: HashSet<NodeId>,
    /// No fewer than the text has.
    tokens_max: usize,
    /// Whether parts that surely fit together are not counted together.
    by_parts: bool,
    budget_tokens: usize,
    highest: f32,
    count: &'a dyn Fn(&str) -> usize,
}

impl Page<'_> {
    /// This page, which is empty, with the best candidates.
    fn filled(&self, candidates: &[&Candidate], by_parts: bool) -> (Context, HashSet<NodeId>) {
        let mut page = Self {
            context: Context::default(),
            said: HashSet::new(),
            by_parts,
            ..*self
        };
        let mut shown: Vec<Shingles> = Vec::new();
        let mut misfits = 0;
        for candidate in candidates {
            let shingles = Shingles::of(&candidate.node.text);
            if shown.iter().any(|other| other.is_near(&shingles)) {
                page.said.insert(candidate.node.id);
                continue;
            }
            match page.add(candidate) {
                Fit::Whole => {
                    page.said.insert(candidate.node.id);
                    shown.push(shingles);
                }
                Fit::Cut => break,
                Fit::None => misfits += 1,
            }
            if misfits > SMALLER_TRIED_MAX {
                break;
            }
        }
        page.count_whole();
        (page.context, page.said)
    }

    fn add(&mut self, candidate: &Candidate) -> Fit {
        let text = candidate.node.text.trim();
        if self.add_text(candidate, text) {
            return Fit::Whole;
        }
        let cuts = sentences::boundaries(text);
        // Tokens grow with the text, so the longest prefix that fits is found by halving.
        let may_fit = |cut: &usize| {
            let printed = self.print(candidate, &text[..*cut]);
            self.may_fit((self.count)(&printed))
        };
        let mut fitting = cuts.partition_point(may_fit);
        while let Some(longest) = fitting.checked_sub(1) {
            if self.add_text(candidate, &text[..cuts[longest]]) {
                return Fit::Cut;
            }
            fitting = longest;
        }
        Fit::None
    }

    /// Whether the page, which was counted, may have room for a block of this many tokens. Counting a block is cheaper than
    /// counting a page, and together they have hardly fewer tokens than apart.
    fn may_fit(&self, tokens: usize) -> bool {
        self.context.tokens + tokens <= self.budget_tokens + JOINT_TOKENS_MAX
    }

    fn count_whole(&mut self) {
        self.context.tokens = (self.count)(&self.context.text);
        self.tokens_max = self.context.tokens;
    }

    fn add_text(&mut self, candidate: &Candidate, text: &str) -> bool {
        let printed = self.print(candidate, text);
        let tokens = (self.count)(&printed);
        let before = self.context.text.len();
        let most = self.tokens_max + tokens + JOINT_TOKENS_MAX;
        if self.by_parts && most <= self.budget_tokens {
            self.append(&printed);
            self.tokens_max = most;
        } else {
            if self.tokens_max != self.context.tokens {
                self.count_whole();
            }
            if !self.may_fit(tokens) {
                return false;
            }
            self.append(&printed);
            let whole = (self.count)(&self.context.text);
            if whole > self.budget_tokens {
                self.context.text.truncate(before);
                return false;
            }
            (self.context.tokens, self.tokens_max) = (whole, whole);
        }
        self.context.blocks.push(Block {
            number: self.context.blocks.len() + 1,
            id: candidate.node.id,
            title: candidate.node.metadata.title.clone(),
            uri: candidate.node.metadata.uri.clone(),
            score: candidate.score,
            text: text.to_owned(),
            tokens,
            summarises: candidate.summarises.clone(),
        });
        true
    }

    fn append(&mut self, printed: &str) {
        let text = &mut self.context.text;
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str(printed);
    }

    /// Scores are printed relative to the best candidate: attention is shared by hundreds of nodes
    /// and its absolute values would all look like zero.
    fn print(&self, candidate: &Candidate, text: &str) -> String {
        let node = &candidate.node;
        let number = self.context.blocks.len() + 1;
        let score = if self.highest > 0.0 {
            candidate.score / self.highest
        } else {
            0.0
        };
        let mut header = format!(
            "[Context block {number}] (score={score:.2}, type={}",
            node.node_type.as_str()
        );
        if !node.metadata.tags.is_empty() {
            header.push_str(", tags=");
            header.push_str(&one_line(&node.metadata.tags.join(" ")));
        }
        header.push(')');
        if let Some(title) = node
            .metadata
            .title
            .as_deref()
            .filter(|title| !title.is_empty())
        {
            header.push_str("\n> # ");
            header.push_str(&one_line(title));
        }
        for line in text.lines() {
            header.push_str(if line.is_empty() { "\n>" } else { "\n> " });
            header.push_str(line);
        }
        header
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What tells texts apart: runs of words, and separately the words that decide what a statement
/// says. Both by their digests.
struct Shingles {
    /// Ascending, each once.
    runs: Vec<u64>,
    decisive: HashMap<u64, usize>,
}

impl Shingles {
    fn of(text: &str) -> Self {
        let mut words = Vec::new();
        let mut decisive = HashMap::new();
        let split = text.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '’');
        for word in split.filter(|word| !word.is_empty()) {
            let lower = word.bytes().all(|byte| byte.is_ascii_lowercase());
            let word = if lower {
                Cow::Borrowed(word)
            } else {
                Cow::Owned(word.to_lowercase())
            };
            let digest = digest(&word);
            words.push(digest);
            if is_decisive(&word) {
                *decisive.entry(digest).or_default() += 1;
            }
        }
        let length = SHINGLE_WORDS.min(words.len()).max(1);
        let mut runs: Vec<u64> = words.windows(length).map(digest).collect();
        runs.sort_unstable();
        runs.dedup();
        Self { runs, decisive }
    }

    fn is_near(&self, other: &Self) -> bool {
        let smaller = self.runs.len().min(other.runs.len());
        let common = common(&self.runs, &other.runs);
        common as f64 >= DUPLICATE_CONTAINMENT * smaller as f64
            && smaller > 0
            && self.agrees_with(other)
    }

    /// Whether the text with fewer runs decides nothing otherwise than the other.
    fn agrees_with(&self, other: &Self) -> bool {
        let similar_size = self.runs.len() * 10 >= other.runs.len() * 8
            && other.runs.len() * 10 >= self.runs.len() * 8;
        if similar_size {
            return self.decisive == other.decisive;
        }
        let (small, large) = if self.runs.len() < other.runs.len() {
            (self, other)
        } else {
            (other, self)
        };
        small
            .decisive
            .iter()
            .all(|(word, count)| large.decisive.get(word) >= Some(count))
    }
}

fn digest<T: Hash + ?Sized>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// How many numbers two ascending lists share.
fn common(mut one: &[u64], mut other: &[u64]) -> usize {
    let mut found = 0;
    while let (Some(a), Some(b)) = (one.first(), other.first()) {
        let (ordered, a_first) = (a.cmp(b), a <= b);
        found += usize::from(ordered.is_eq());
        one = &one[usize::from(a_first)..];
        other = &other[usize::from(ordered.is_ge())..];
    }
    found
}

/// Negations and numbers.
fn is_decisive(word: &str) -> bool {
    POLARITY.contains(&word)
        || word.ends_with("n't")
        || word.ends_with("n’t")
        || word.bytes().all(|byte| byte.is_ascii_digit())
}
