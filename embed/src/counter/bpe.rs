//! Byte-level byte-pair encoding, counting only.
//!
//! A word starts as its bytes; the pair with the best rank is merged, leftmost first, until none is
//! left (Sennrich et al., <https://arxiv.org/abs/1508.07909>; bytes instead of characters since
//! GPT-2). Only merges are kept: 16 bytes for each, and no texts unless the vocabulary is consulted
//! before the merges.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use weir_models::gguf::GgufTokenizer;

/// No token: a byte that the vocabulary lacks. The engine drops it.
const NONE: u32 = u32::MAX;
/// Shorter words are merged by search, longer ones by heap.
const SEARCH_MAX: usize = 24;

/// Merges by pair.
pub(super) struct Bpe {
    bytes: [u32; 256],
    /// `left << 32 | right` to rank and merged token.
    merges: HashMap<u64, (u32, u32), BuildHasherDefault<PairHasher>>,
    /// Words that are one token whatever the merges say.
    whole: HashSet<Box<str>>,
}

impl std::fmt::Debug for Bpe {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Bpe")
            .field("merges", &self.merges.len())
            .finish_non_exhaustive()
    }
}

impl Bpe {
    /// `whole_words`: words that are in the vocabulary are not built from merges.
    pub(super) fn new(tokenizer: &GgufTokenizer, whole_words: bool) -> Result<Self, String> {
        let ids: HashMap<&str, u32> = tokenizer
            .tokens
            .iter()
            .map(String::as_str)
            .zip(0_u32..)
            .collect();
        let mut bytes = [NONE; 256];
        for (byte, id) in (0_u8..=255).zip(bytes.iter_mut()) {
            let text = printable(byte).to_string();
            *id = ids.get(text.as_str()).copied().unwrap_or(NONE);
        }
        let mut merges = HashMap::with_capacity_and_hasher(
            tokenizer.merges.len(),
            BuildHasherDefault::default(),
        );
        let mut merged = String::new();
        for (merge, rank) in tokenizer.merges.iter().zip(0_u32..) {
            // The separator is the first blank that is not the first character.
            let blank = merge
                .bytes()
                .skip(1)
                .position(|byte| byte == b' ')
                .map(|at| at + 1);
            let (left, right) = blank
                .map(|at| (&merge[..at], &merge[at + 1..]))
                .ok_or_else(|| format!("merge {rank} is `{merge}`, not two tokens"))?;
            merged.clear();
            merged.push_str(left);
            merged.push_str(right);
            let id = |text: &str| {
                let id = ids.get(text).copied();
                id.ok_or_else(|| format!("merge {rank} names `{text}`, which is no token"))
            };
            let pair = pair(id(left)?, id(right)?);
            merges.entry(pair).or_insert((rank, id(&merged)?));
        }
        let words = tokenizer.tokens.iter().filter(|_| whole_words);
        let whole = words.map(|text| text.as_str().into()).collect();
        Ok(Self {
            bytes,
            merges,
            whole,
        })
    }

    /// Tokens of one word.
    pub(super) fn count(&self, word: &str) -> usize {
        if !self.whole.is_empty() {
            let printed: String = word.bytes().map(printable).collect();
            if self.whole.contains(printed.as_str()) {
                return 1;
            }
        }
        let symbols: Vec<u32> = word
            .bytes()
            .map(|byte| self.bytes[usize::from(byte)])
            .collect();
        let left = if symbols.len() <= SEARCH_MAX {
            self.search(symbols)
        } else {
            self.heap(symbols)
        };
        left.into_iter().filter(|id| *id != NONE).count()
    }

    fn merge(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        self.merges.get(&pair(left, right)).copied()
    }

    /// Looks for the best pair again after each merge.
    fn search(&self, mut symbols: Vec<u32>) -> Vec<u32> {
        loop {
            let pairs = symbols.windows(2).enumerate();
            let merges = pairs.filter_map(|(at, two)| {
                self.merge(two[0], two[1])
                    .map(|(rank, merged)| (rank, at, merged))
            });
            let Some((_, at, merged)) = merges.min() else {
                return symbols;
            };
            symbols[at] = merged;
            symbols.remove(at + 1);
        }
    }

    /// Keeps the pairs in a heap; a pair whose parts have changed since is dropped when it comes up.
    fn heap(&self, mut symbols: Vec<u32>) -> Vec<u32> {
        let mut next: Vec<usize> = (1..=symbols.len()).collect();
        let mut before: Vec<Option<usize>> =
            (0..symbols.len()).map(|at| at.checked_sub(1)).collect();
        let mut alive = vec![true; symbols.len()];
        let mut heap = BinaryHeap::new();
        let offer = |heap: &mut BinaryHeap<_>, symbols: &[u32], left: usize, right: usize| {
            if let Some((rank, merged)) = self.merge(symbols[left], symbols[right]) {
                heap.push(Reverse((
                    rank,
                    left,
                    right,
                    symbols[left],
                    symbols[right],
                    merged,
                )));
            }
        };
        for right in 1..symbols.len() {
            offer(&mut heap, &symbols, right - 1, right);
        }
        while let Some(Reverse((_, left, right, was_left, was_right, merged))) = heap.pop() {
            let current = alive[left]
                && alive[right]
                && next[left] == right
                && (symbols[left], symbols[right]) == (was_left, was_right);
            if !current {
                continue;
            }
            symbols[left] = merged;
            alive[right] = false;
            next[left] = next[right];
            if let Some(earlier) = before[left] {
                offer(&mut heap, &symbols, earlier, left);
            }
            if next[left] < symbols.len() {
                before[next[left]] = Some(left);
                offer(&mut heap, &symbols, left, next[left]);
            }
        }
        symbols
            .into_iter()
            .zip(alive)
            .filter_map(|(id, alive)| alive.then_some(id))
            .collect()
    }
}

fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// The character that stands for a byte in byte-level vocabularies (GPT-2's `bytes_to_unicode`):
/// printable Latin-1 for itself, the others from U+0100 on.
fn printable(byte: u8) -> char {
    let code = u32::from(byte);
    let shifted = match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE.. => code,
        0..=b' ' => 256 + code,
        0x7F..=0xA0 => 256 + 33 + code - 0x7F,
        0xAD => 256 + 67,
    };
    char::from_u32(shifted).expect("every code below 324 is a character")
}

/// Multiplication by a large odd number: pairs of small integers need no more.
#[derive(Default)]
struct PairHasher(u64);

impl Hasher for PairHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

#[cfg(test)]
mod tests {
    use super::{Bpe, printable};
    use proptest::prelude::*;
    use weir_models::gguf::GgufTokenizer;

    fn vocabulary(merges: &[&str]) -> GgufTokenizer {
        let bytes = (0..=255).map(|byte| printable(byte).to_string());
        let merged = merges.iter().map(|merge| merge.replace(' ', ""));
        GgufTokenizer {
            model: "gpt2".into(),
            pre: "gpt-2".into(),
            tokens: bytes.chain(merged).collect(),
            token_types: Vec::new(),
            merges: merges.iter().map(ToString::to_string).collect(),
            bos: None,
            eos: None,
            add_bos: false,
        }
    }

    #[test]
    fn every_byte_has_a_character_of_its_own() {
        let all: std::collections::BTreeSet<char> = (0..=255).map(printable).collect();
        assert_eq!(all.len(), 256);
        assert_eq!((printable(b' '), printable(b'\n')), ('Ġ', 'Ċ'));
        assert_eq!(
            (printable(0x7F), printable(0xA0), printable(0xAD)),
            ('ġ', 'ł', 'Ń')
        );
    }

    #[test]
    fn better_rank_is_merged_first_and_leftmost_among_equals() {
        let bpe = Bpe::new(&vocabulary(&["b c", "a b", "a a"]), false).unwrap();
        assert_eq!(bpe.count("abc"), 2, "a bc, not ab c");
        assert_eq!(bpe.count("aaa"), 2);
        assert_eq!(bpe.count("é"), 2, "two bytes without a merge");
    }

    #[test]
    fn whole_word_of_the_vocabulary_needs_no_merges() {
        let mut tokenizer = vocabulary(&[]);
        tokenizer.tokens.push("Ġcat".into());
        assert_eq!(Bpe::new(&tokenizer, true).unwrap().count(" cat"), 1);
        assert_eq!(Bpe::new(&tokenizer, false).unwrap().count(" cat"), 4);
    }

    #[test]
    fn merge_of_unknown_tokens_is_refused_by_name() {
        let mut tokenizer = vocabulary(&[]);
        tokenizer.merges.push("x yz".into());
        let reason = Bpe::new(&tokenizer, false).unwrap_err();
        assert_eq!(reason, "merge 0 names `yz`, which is no token");
        tokenizer.merges = vec!["xyz".into()];
        assert!(
            Bpe::new(&tokenizer, false)
                .unwrap_err()
                .contains("not two tokens")
        );
    }

    proptest! {
        #[test]
        fn heap_and_search_merge_alike(word in "[abc]{0,64}") {
            let merges = ["a b", "b c", "a a", "ab c", "aa b", "c ab", "bc a", "aa aa"];
            let bpe = Bpe::new(&vocabulary(&merges), false).unwrap();
            let symbols: Vec<u32> =
                word.bytes().map(|byte| bpe.bytes[usize::from(byte)]).collect();
            prop_assert_eq!(bpe.heap(symbols.clone()), bpe.search(symbols));
        }
    }
}
