//! Texts as bags of words, for the tables of outcomes that have nothing else.
//!
//! Features are the words and pairs of neighbouring words of a text, hashed. [`linear`] is a classifier of them,
//! [`coordinates`] a few numbers for learners that want dense features. No request is decided by this.

pub mod coordinates;
pub mod linear;

/// Buckets that words are hashed into.
const BUCKETS: usize = 1 << 16;

/// A text as features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    buckets: Vec<u32>,
}

impl Words {
    /// The words of a text. Numbers count as one word, whatever their digits: the digit they are is left to the pairs.
    pub fn of(text: &str) -> Self {
        let lower = text.to_lowercase();
        let mut words: Vec<&str> = Vec::new();
        let mut rest = lower.as_str();
        while let Some(first) = rest.chars().next() {
            let of_kind = |c: char| match kind(first) {
                Kind::Other => false,
                of => kind(c) == of,
            };
            let end = rest.find(|c| !of_kind(c)).unwrap_or(rest.len());
            let (word, left) = rest.split_at(end.max(first.len_utf8()));
            if kind(first) != Kind::Space {
                words.push(if kind(first) == Kind::Digit {
                    "0"
                } else {
                    word
                });
            }
            rest = left;
        }
        let single = words.iter().map(|word| bucket(word, ""));
        let pairs = words.windows(2).map(|pair| bucket(pair[0], pair[1]));
        let mut buckets: Vec<u32> = single.chain(pairs).collect();
        buckets.sort_unstable();
        buckets.dedup();
        Self { buckets }
    }

    /// Value of each feature: texts of any length weigh the same.
    fn value(&self) -> f64 {
        1.0 / (self.buckets.len().max(1) as f64).sqrt()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Letter,
    Digit,
    Space,
    Other,
}

fn kind(c: char) -> Kind {
    if c.is_numeric() {
        Kind::Digit
    } else if c.is_alphabetic() {
        Kind::Letter
    } else if c.is_whitespace() {
        Kind::Space
    } else {
        Kind::Other
    }
}

/// FNV-1a over both words with a byte between that no text has.
fn bucket(one: &str, other: &str) -> u32 {
    let bytes = one.bytes().chain([0xff]).chain(other.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    ((hash ^ (hash >> 32)) % BUCKETS as u64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_words_and_pairs() {
        assert_eq!(Words::of("a b"), Words::of("  A\nb "));
        assert_eq!(Words::of("7 apples"), Words::of("42 apples"));
        assert_ne!(
            Words::of("a b"),
            Words::of("b a"),
            "the order is in the pairs"
        );
        assert_eq!(Words::of("x+y").buckets.len(), 5);
        assert!(Words::of("").buckets.is_empty());
        assert_eq!(Words::of("für äß").buckets.len(), 3);
    }
}
