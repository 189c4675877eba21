//! Tokens: the words of a text with their places, for finding names in it.
//!
//! Not the words that BM25 counts (`words.rs`): nothing is stemmed or left out here, since a name is matched as it is
//! written. Knows no titles and no names.

use std::ops::Range;

/// What a period follows before a name.
const BEFORE_NAMES: &[&str] = &[
    "Dr", "Mr", "Mrs", "Ms", "St", "Prof", "Sr", "Jr", "No", "vs",
];

/// Quotation marks that may stand at a title.
const QUOTES: [char; 10] = ['"', '“', '”', '„', '«', '»', '\'', '‘', '’', '`'];

/// The words of a text.
#[derive(Debug, Default)]
pub(super) struct Tokens<'t> {
    text: &'t str,
    words: Vec<Token>,
    /// The words in lower case with single spaces between them.
    lower: String,
}

/// A run of letters, digits, `_`, and dots between them.
#[derive(Clone, Debug)]
struct Token {
    at: Range<usize>,
    lower: Range<usize>,
    capital: bool,
    begins_sentence: bool,
}

impl<'t> Tokens<'t> {
    /// The words of `text`.
    pub(super) fn of(text: &'t str) -> Self {
        let mut tokens = Self {
            text,
            ..Self::default()
        };
        let mut from = None;
        for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
            let inside = c.is_alphanumeric() || c == '_' || c == '.';
            match from {
                None if inside => from = Some(at),
                Some(start) if !inside => {
                    tokens.push(start, at);
                    from = None;
                }
                _ => {}
            }
        }
        tokens
    }

    /// Dots around a word belong to the sentence.
    fn push(&mut self, start: usize, end: usize) {
        let run = &self.text[start..end];
        let word = run.trim_matches('.');
        let Some(first) = word.chars().next() else {
            return;
        };
        let start = start + (run.len() - run.trim_start_matches('.').len());
        let begins_sentence = self.begins_sentence(start);
        if !self.lower.is_empty() {
            self.lower.push(' ');
        }
        let lower = self.lower.len();
        for c in word.chars() {
            self.lower.extend(c.to_lowercase());
        }
        self.words.push(Token {
            at: start..start + word.len(),
            lower: lower..self.lower.len(),
            capital: first.is_uppercase(),
            begins_sentence,
        });
    }

    /// Whether grammar alone may have given the word at the byte `start` its capital.
    fn begins_sentence(&self, start: usize) -> bool {
        let Some(before) = self.words.last() else {
            return true;
        };
        let gap = &self.text[before.at.end..start];
        if gap.contains(['!', '?', ':', '\n', '"', '“', '(', '[', '•', '|']) {
            return true;
        }
        let word = &self.text[before.at.clone()];
        let initial = before.capital && word.chars().nth(1).is_none();
        gap.contains('.') && !initial && !BEFORE_NAMES.contains(&word)
    }

    /// How many words there are.
    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    /// `count` words from `from` on in lower case, with single spaces.
    pub(super) fn phrase(&self, from: usize, count: usize) -> &str {
        let words = &self.words[from..from + count];
        match (words.first(), words.last()) {
            (Some(first), Some(last)) => &self.lower[first.lower.start..last.lower.end],
            _ => "",
        }
    }

    /// A word as it is written.
    pub(super) fn word(&self, at: usize) -> &'t str {
        &self.text[self.words[at].at.clone()]
    }

    /// The bytes of the text that a word takes.
    pub(super) fn range(&self, at: usize) -> Range<usize> {
        self.words[at].at.clone()
    }

    /// What stands between a word and the one before it; behind the last word for their number.
    pub(super) fn gap(&self, at: usize) -> &'t str {
        let start = at
            .checked_sub(1)
            .map_or(0, |before| self.words[before].at.end);
        let end = self
            .words
            .get(at)
            .map_or(self.text.len(), |word| word.at.start);
        &self.text[start..end]
    }

    /// Whether a word stands in quotation marks of its own.
    pub(super) fn is_quoted(&self, at: usize) -> bool {
        let Range { start, end } = self.range(at);
        self.text[..start].ends_with(QUOTES) && self.text[end..].starts_with(QUOTES)
    }

    /// Whether a word begins with a capital.
    pub(super) fn is_capital(&self, at: usize) -> bool {
        self.words[at].capital
    }

    /// Whether grammar alone may have given a word its capital.
    pub(super) fn is_first(&self, at: usize) -> bool {
        self.words[at].begins_sentence
    }
}

/// Whether a word is a name in code: dots, underscores or capitals inside (`os.path.join`, `lru_cache`, `ThreadPool`).
pub(super) fn is_identifier(word: &str) -> bool {
    let begins = word.starts_with(|c: char| c.is_alphabetic() || c == '_');
    if !begins || word.len() < 4 {
        return false;
    }
    if word.contains('.') {
        return word.split('.').all(|part| part.chars().nth(1).is_some());
    }
    let inside = word.trim_matches('_');
    let pairs = inside.chars().zip(inside.chars().skip(1));
    inside.contains('_')
        || pairs
            .into_iter()
            .any(|(a, b)| a.is_lowercase() && b.is_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_their_place_and_dots_around_them_are_left_out() {
        let tokens = Tokens::of("Use os.path.join... Über J. R. R. Tolkien.");
        assert_eq!(
            tokens.phrase(0, tokens.len()),
            "use os.path.join über j r r tolkien"
        );
        assert_eq!((tokens.word(1), tokens.range(1)), ("os.path.join", 4..16));
        let capitals: Vec<bool> = (0..tokens.len()).map(|at| tokens.is_capital(at)).collect();
        assert_eq!(capitals, [true, false, true, true, true, true, true]);
        let first: Vec<bool> = (0..tokens.len()).map(|at| tokens.is_first(at)).collect();
        assert_eq!(first, [true, false, true, false, false, false, false]);
        assert_eq!(tokens.gap(2), "... ");
        assert_eq!(Tokens::of(" .. ").len(), 0);
    }

    #[test]
    fn names_in_code_are_told_from_words() {
        for name in [
            "os.path",
            "lru_cache",
            "ThreadPool",
            "__init__x_",
            "getValue",
        ] {
            assert!(is_identifier(name), "{name}");
        }
        for word in ["Thread", "e.g", "3.11", "a.b", "NASA", "__", "x", "U.S.A"] {
            assert!(!is_identifier(word), "{word}");
        }
    }
}
