//! Lines that were counted before: most blocks of a page are those of another prompt or of the same one.
//!
//! A line is known by its digest. Where a line ends and the next begins with a sign, every family of tokenizers begins a
//! word, so the tokens of a text are the sum of those of its lines, each with the sign that follows. Bounded in number;
//! nobody waits for another's line.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, TryLockError};

/// Lines kept, a quarter of a megabyte; a full cache begins anew.
const LINES_MAX: usize = 8_192;
/// Shorter lines are as quickly counted.
const LINE_BYTES_MIN: usize = 24;
/// Signs that begin the lines of context blocks.
const SIGNS: [char; 2] = ['>', '['];

/// Tokens by line.
#[derive(Debug, Default)]
pub(super) struct Lines {
    known: Mutex<HashMap<u64, u32>>,
    /// Of this process alone, so that nobody can prepare two lines of one digest.
    digests: RandomState,
}

impl Lines {
    /// Tokens of a text, given those of any text.
    pub(super) fn count(&self, text: &str, count: impl Fn(&str) -> usize) -> usize {
        let mut tokens = 0;
        let mut rest = text;
        while !rest.is_empty() {
            let end = end_of_line(rest);
            let (line, after) = rest.split_at(end);
            let sign = &after[..after.len().min(1)];
            let of_line = || {
                let with_sign = count(&rest[..end + sign.len()]);
                with_sign - if sign.is_empty() { 0 } else { count(sign) }
            };
            tokens += if line.len() < LINE_BYTES_MIN {
                of_line()
            } else {
                self.known(self.digests.hash_one((line, sign)), of_line)
            };
            rest = after;
        }
        tokens
    }

    fn known(&self, digest: u64, count: impl FnOnce() -> usize) -> usize {
        if let Some(tokens) = self.lend().and_then(|known| known.get(&digest).copied()) {
            return tokens as usize;
        }
        let tokens = count();
        if let Some(mut known) = self.lend() {
            if known.len() >= LINES_MAX {
                known.clear();
            }
            known.insert(digest, u32::try_from(tokens).unwrap_or(u32::MAX));
        }
        tokens
    }

    fn lend(&self) -> Option<MutexGuard<'_, HashMap<u64, u32>>> {
        match self.known.try_lock() {
            Ok(known) => Some(known),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// Where the first line ends that is followed by a sign, else the text.
fn end_of_line(text: &str) -> usize {
    let ends = text.match_indices('\n').map(|(at, _)| at + 1);
    let mut signed = ends.filter(|end| text[*end..].starts_with(SIGNS));
    signed.next().unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::super::split::Splitter;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_is_cut_before_signs_at_the_beginning_of_lines() {
        let mut rest = "first\nof two\n\n[second] > [\n> third\n>\n";
        let mut lines = Vec::new();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(end_of_line(rest));
            lines.push(line);
            rest = after;
        }
        assert_eq!(
            lines,
            ["first\nof two\n\n", "[second] > [\n", "> third\n", ">\n"]
        );
    }

    #[test]
    fn a_line_is_counted_once_and_with_the_sign_that_follows() {
        let lines = Lines::default();
        let counted = std::cell::RefCell::new(Vec::new());
        let count = |text: &str| {
            counted.borrow_mut().push(text.to_owned());
            text.len()
        };
        let long = "> a line that is long enough to be kept\n";
        for _ in 0..2 {
            let text = format!("{long}{long}");
            assert_eq!(lines.count(&text, count), text.len());
        }
        let expected = [format!("{long}>"), ">".to_owned(), long.to_owned()];
        assert_eq!(*counted.borrow(), expected);
    }

    proptest! {
        #[test]
        fn words_are_those_of_the_whole_text(text in "[a1 \\n\\t.>\\[é漢'🙂]{0,60}") {
            for pre in ["gpt-2", "llama-bpe", "qwen2", "qwen35", "smollm", "default"] {
                let splitter = Splitter::named(pre).unwrap();
                let words = |text: &str| {
                    let mut words = 0;
                    splitter.split(text, &mut |_| words += 1);
                    words
                };
                prop_assert_eq!(Lines::default().count(&text, words), words(&text), "{}", pre);
            }
        }
    }
}
