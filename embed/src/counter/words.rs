//! Words that were counted before: most of a prompt's words are those of the last one.
//!
//! Bounded in words and in the length of each. One prompt at a time uses it; another that is counted meanwhile merges its
//! words itself, so that nobody waits.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, TryLockError};

use super::bpe::Bpe;

/// Words kept, a megabyte; a full cache begins anew.
const WORDS_MAX: usize = 16_384;
/// Longer words are rarely met again.
const WORD_BYTES_MAX: usize = 32;

/// Tokens by word.
#[derive(Debug, Default)]
pub(super) struct Words(Mutex<HashMap<Box<str>, u8>>);

/// The words while they are lent to one text.
pub(super) struct Lent<'a>(Option<MutexGuard<'a, HashMap<Box<str>, u8>>>);

impl Words {
    pub(super) fn lend(&self) -> Lent<'_> {
        Lent(match self.0.try_lock() {
            Ok(words) => Some(words),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        })
    }
}

impl Lent<'_> {
    /// Tokens of a word.
    pub(super) fn count(&mut self, word: &str, bpe: &Bpe) -> usize {
        let Some(known) = self.0.as_mut().filter(|_| word.len() <= WORD_BYTES_MAX) else {
            return bpe.count(word);
        };
        if let Some(tokens) = known.get(word) {
            return usize::from(*tokens);
        }
        let tokens = bpe.count(word);
        if known.len() >= WORDS_MAX {
            known.clear();
        }
        // A token is a byte at least.
        let kept = u8::try_from(tokens).expect("no more tokens than bytes");
        known.insert(word.into(), kept);
        tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bpe() -> Bpe {
        let tokenizer = weir_models::gguf::GgufTokenizer {
            model: "gpt2".to_owned(),
            pre: "gpt-2".to_owned(),
            tokens: ["a", "b", "ab"].map(str::to_owned).to_vec(),
            token_types: vec![1; 3],
            merges: vec!["a b".to_owned()],
            bos: None,
            eos: None,
            add_bos: false,
        };
        Bpe::new(&tokenizer, false).unwrap()
    }

    #[test]
    fn a_word_counts_the_same_the_second_time_and_while_another_text_is_counted() {
        let (words, bpe) = (Words::default(), bpe());
        let mut first = words.lend();
        let mut second = words.lend();
        for word in ["ab", "abab", "ab", "b", &"ab".repeat(40)] {
            let alone = bpe.count(word);
            assert_eq!(first.count(word, &bpe), alone);
            assert_eq!(first.count(word, &bpe), alone);
            assert_eq!(second.count(word, &bpe), alone);
        }
        assert_eq!(
            first.0.map(|known| known.len()),
            Some(3),
            "long words are not kept"
        );
        assert!(second.0.is_none());
    }

    #[test]
    fn a_full_cache_begins_anew() {
        let (words, bpe) = (Words::default(), bpe());
        let mut lent = words.lend();
        for number in 0..=WORDS_MAX {
            lent.count(&format!("{number}"), &bpe);
        }
        assert_eq!(lent.0.map(|known| known.len()), Some(1));
    }
}
