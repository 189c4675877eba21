//! Cutting text into the words that are merged on their own.
//!
//! Each family of models has its pattern; the names are those of `tokenizer.ggml.pre`, and the
//! patterns those of the models' own `tokenizer.json` as llama.cpp applies them
//! (`llama-vocab.cpp`, `llm_tokenizer_bpe`). The patterns end in `\s+(?!\S)|\s+`; the look-ahead is
//! done here by hand, which keeps matching linear in the text.

use regex::Regex;

/// Words of GPT-2: contractions, letters, digits, signs, blanks.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";
/// As GPT-2, but any sign may lead a word and line ends stay with what they follow.
const LLAMA3: &str = concat!(
    r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|",
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
);
/// As Llama 3, each digit alone.
const QWEN2: &str = concat!(
    r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|",
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
);
/// As Qwen 2, marks belong to letters.
const QWEN35: &str = concat!(
    r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|",
    r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
);

/// The patterns of one family; each cuts what the one before left whole.
#[derive(Debug)]
pub(super) struct Splitter {
    patterns: Vec<Pattern>,
    whole_words: bool,
}

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    /// Blanks up to a line end are a word of their own.
    line_ends: bool,
}

impl Splitter {
    /// The family that `tokenizer.ggml.pre` names, when it is known here.
    pub(super) fn named(pre: &str) -> Option<Self> {
        let (patterns, whole_words): (&[&str], bool) = match pre {
            "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral"
            | "midm-2.0" | "lfm2" => (&[LLAMA3], true),
            "dbrx" | "smaug-bpe" | "chatglm-bpe" => (&[LLAMA3], false),
            "qwen2" | "stablelm2" | "deepseek-r1-qwen" | "hunyuan" | "megrez" => (&[QWEN2], false),
            "qwen35" => (&[QWEN35], false),
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone"
            | "minerva-7b" => (&[r"\p{N}", GPT2], false),
            "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" => (&[GPT2], false),
            "default" => (
                &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
                false,
            ),
            _ => return None,
        };
        let patterns = patterns
            .iter()
            .map(|pattern| Pattern::new(pattern))
            .collect();
        Some(Self {
            patterns,
            whole_words,
        })
    }

    /// Whether a word that is in the vocabulary is one token whatever the merges say.
    pub(super) fn whole_words(&self) -> bool {
        self.whole_words
    }

    /// Calls `word` with each word of `text`, in order; together they are `text`.
    pub(super) fn split<'t>(&self, text: &'t str, word: &mut dyn FnMut(&'t str)) {
        cut(&self.patterns, text, word);
    }
}

fn cut<'t>(patterns: &[Pattern], text: &'t str, word: &mut dyn FnMut(&'t str)) {
    let Some((pattern, later)) = patterns.split_first() else {
        if !text.is_empty() {
            word(text);
        }
        return;
    };
    let mut at = 0;
    while let Some(found) = pattern.regex.find_at(text, at) {
        let at_end = found.end() == text.len();
        let end = found.start() + pattern.kept(found.as_str(), at_end);
        cut(later, &text[at..found.start()], word);
        cut(later, &text[found.start()..end], word);
        at = end;
    }
    cut(later, &text[at..], word);
}

impl Pattern {
    fn new(pattern: &str) -> Self {
        let regex = Regex::new(pattern).expect("the patterns above are valid");
        Self {
            regex,
            line_ends: pattern.contains(r"\s*[\r\n]+"),
        }
    }

    /// How much of a match counts: `\s+(?!\S)`, blanks before a word leave their last one to it.
    fn kept(&self, found: &str, at_end: bool) -> usize {
        let last = found.chars().next_back().map_or(0, char::len_utf8);
        let blank = found.chars().all(char::is_whitespace);
        let line_end = self.line_ends && found.ends_with(['\r', '\n']);
        if at_end || !blank || line_end || last == found.len() {
            found.len()
        } else {
            found.len() - last
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Splitter;
    use proptest::prelude::*;

    fn words(pre: &str, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        Splitter::named(pre)
            .unwrap()
            .split(text, &mut |word| words.push(word.to_owned()));
        words
    }

    #[test]
    fn blanks_leave_their_last_one_to_the_word_that_follows() {
        assert_eq!(words("gpt-2", "a   b  "), ["a", "  ", " b", "  "]);
        assert_eq!(words("gpt-2", "a\n\nb"), ["a", "\n", "\n", "b"]);
        assert_eq!(words("qwen2", "a\n\n  b"), ["a", "\n\n", " ", " b"]);
        assert_eq!(words("qwen2", "f(x);\n\ty"), ["f", "(x", ");\n", "\ty"]);
    }

    #[test]
    fn families_differ_in_digits() {
        assert_eq!(words("qwen2", "1234"), ["1", "2", "3", "4"]);
        assert_eq!(words("llama-bpe", "1234"), ["123", "4"]);
        assert_eq!(words("gpt-2", " 1234"), [" 1234"]);
        assert_eq!(words("smollm", "a 12"), ["a", " ", "1", "2"]);
        assert_eq!(words("default", "x=1234"), ["x", "=", "123", "4"]);
    }

    #[test]
    fn contractions_are_words_of_their_own() {
        assert_eq!(words("gpt-2", "it's IT'S"), ["it", "'s", " IT", "'", "S"]);
        assert_eq!(words("lfm2", "IT'S"), ["IT", "'S"]);
    }

    #[test]
    fn unknown_family_is_not_guessed() {
        assert!(Splitter::named("some-new-model").is_none());
    }

    proptest! {
        #[test]
        fn words_together_are_the_text(text in "[a1 \n\té漢'=🙂]{0,40}") {
            for pre in ["gpt-2", "llama-bpe", "qwen2", "qwen35", "smollm", "default"] {
                prop_assert_eq!(words(pre, &text).concat(), text.clone());
            }
        }
    }
}
