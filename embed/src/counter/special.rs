//! Special tokens: texts that are one token wherever they stand in a prompt.
//!
//! The engine looks for them, the longest first, before it tokenizes what lies between
//! (`llama-vocab.cpp`, `tokenizer_st_partition`).

use weir_models::gguf::GgufTokenizer;

/// Token kinds that are special: unknown, control, user defined.
const KINDS: [i32; 3] = [2, 3, 4];
/// Ends of a turn, which are control tokens for the engine even where the file forgot to say so.
const TURN_ENDS: [&str; 6] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<EOT>",
];

/// All special tokens of a vocabulary, the longest first.
#[derive(Debug)]
pub(super) struct SpecialTokens {
    texts: Vec<Box<str>>,
    span_lines: bool,
}

/// A part of a prompt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    /// One special token.
    Token,
    /// What lies between.
    Text(&'t str),
}

impl SpecialTokens {
    pub(super) fn new(tokenizer: &GgufTokenizer) -> Self {
        let is_special = |index: usize, text: &str| {
            let kind = tokenizer.token_types.get(index);
            kind.is_some_and(|kind| KINDS.contains(kind)) || TURN_ENDS.contains(&text)
        };
        let tokens = tokenizer.tokens.iter().enumerate();
        let special = tokens.filter(|(index, text)| !text.is_empty() && is_special(*index, text));
        let mut texts: Vec<Box<str>> = special.map(|(_, text)| text.as_str().into()).collect();
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        let span_lines = texts.iter().any(|text| text.contains('\n'));
        Self { texts, span_lines }
    }

    /// Whether one of them may stand on two lines.
    pub(super) fn span_lines(&self) -> bool {
        self.span_lines
    }

    /// Cuts `text` at its special tokens.
    pub(super) fn cut<'t>(&self, text: &'t str) -> Vec<Piece<'t>> {
        let mut pieces = vec![Piece::Text(text)];
        for token in self.texts.iter().filter(|token| text.contains(&***token)) {
            let before = std::mem::take(&mut pieces);
            for piece in before {
                let Piece::Text(text) = piece else {
                    pieces.push(piece);
                    continue;
                };
                for (index, part) in text.split(&**token).enumerate() {
                    if index > 0 {
                        pieces.push(Piece::Token);
                    }
                    if !part.is_empty() {
                        pieces.push(Piece::Text(part));
                    }
                }
            }
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::{Piece, SpecialTokens};

    #[test]
    fn longest_token_wins_and_text_between_stays() {
        let special = SpecialTokens {
            texts: vec!["<|end|>".into(), "<|".into()],
            span_lines: false,
        };
        let pieces = special.cut("a<|end|>b<|c<|end|>");
        let expected = [
            Piece::Text("a"),
            Piece::Token,
            Piece::Text("b"),
            Piece::Token,
            Piece::Text("c"),
            Piece::Token,
        ];
        assert_eq!(pieces, expected);
    }
}
