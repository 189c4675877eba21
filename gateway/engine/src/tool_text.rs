//! LFM2's own tool calls in an answer's text: `<|tool_call_start|>[f(a='b')]<|tool_call_end|>`.
//!
//! Splits text that arrives in pieces into text and calls. Only whole sections of well-formed calls of functions that were
//! offered are calls; everything else stays text, markers included. Pure. Reading on: `call_text.rs` for what
//! stands between the markers, `tool_events.rs` for what becomes of the calls.

use crate::call_text::{Call, parse};

const START: &str = "<|tool_call_start|>";
const END: &str = "<|tool_call_end|>";
/// Largest section that is waited for, in bytes with its markers.
const SECTION_MAX: usize = 64 << 10;

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Text for the reader.
    Text(String),
    /// Calls of one section, at least one.
    Calls(Vec<Call>),
}

/// Splits the text of one answer.
#[derive(Clone, Debug, Default)]
pub struct ToolText {
    offered: Vec<String>,
    /// What may still become a call: it begins with a marker, or is the beginning of one.
    held: String,
}

impl ToolText {
    /// A splitter that finds calls of these functions only.
    pub fn new(offered: Vec<String>) -> Self {
        Self {
            offered,
            held: String::new(),
        }
    }

    /// The pieces of a whole answer that arrived in these chunks, neighbouring texts joined.
    pub fn split<'a>(mut self, chunks: impl IntoIterator<Item = &'a str>) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        for chunk in chunks {
            pieces.extend(self.push(chunk));
        }
        pieces.push(Piece::Text(self.finish()));
        let mut joined: Vec<Piece> = Vec::new();
        for piece in pieces {
            match (joined.last_mut(), piece) {
                (_, Piece::Text(text)) if text.is_empty() => {}
                (Some(Piece::Text(before)), Piece::Text(text)) => before.push_str(&text),
                (_, piece) => joined.push(piece),
            }
        }
        joined
    }

    /// What can be told of the answer so far. Where the text is cut makes no difference to the calls found.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        self.held.push_str(text);
        let mut pieces = Vec::new();
        loop {
            let Some(start) = self.held.find(START) else {
                let keep = beginning_of_marker(&self.held);
                self.leave(&mut pieces, self.held.len() - keep);
                return pieces;
            };
            self.leave(&mut pieces, start);
            let end = self.held.find(END).map(|at| at + END.len());
            match end.filter(|end| *end <= SECTION_MAX) {
                Some(end) => {
                    let inner = &self.held[START.len()..end - END.len()];
                    match self.calls(inner) {
                        Some(calls) => {
                            self.held.drain(..end);
                            pieces.push(Piece::Calls(calls));
                        }
                        None => self.leave(&mut pieces, START.len()),
                    }
                }
                None if self.held.len() >= SECTION_MAX => self.leave(&mut pieces, START.len()),
                None => return pieces,
            }
        }
    }

    /// The answer has ended: what was held is text.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    fn calls(&self, inner: &str) -> Option<Vec<Call>> {
        let calls = parse(inner)?;
        let offered = |call: &Call| self.offered.contains(&call.name);
        calls.iter().all(offered).then_some(calls)
    }

    /// The first `length` held bytes are text.
    fn leave(&mut self, pieces: &mut Vec<Piece>, length: usize) {
        if length == 0 {
            return;
        }
        let text: String = self.held.drain(..length).collect();
        match pieces.last_mut() {
            Some(Piece::Text(before)) => before.push_str(&text),
            _ => pieces.push(Piece::Text(text)),
        }
    }
}

/// Bytes at the end of the text that may be the beginning of a marker.
fn beginning_of_marker(text: &str) -> usize {
    let most = text.len().min(START.len() - 1);
    let begins = |length: &usize| text.as_bytes().ends_with(&START.as_bytes()[..*length]);
    (1..=most).rev().find(begins).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn splitter() -> ToolText {
        ToolText::new(vec!["f".to_owned(), "g".to_owned()])
    }

    /// Pieces of an answer cut at these places.
    fn split(chunks: &[&str]) -> Vec<Piece> {
        splitter().split(chunks.iter().copied())
    }

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    #[test]
    fn calls_are_found_and_the_text_around_them_stays_wherever_it_is_cut() {
        let answer =
            "Let me é see. <|tool_call_start|>[f(a='b'), g(x=1)]<|tool_call_end|> One moment.<";
        let calls = parse("[f(a='b'), g(x=1)]").unwrap();
        let expected = [
            text("Let me é see. "),
            Piece::Calls(calls),
            text(" One moment.<"),
        ];
        for (cut, _) in answer.char_indices() {
            assert_eq!(split(&[&answer[..cut], &answer[cut..]]), expected, "{cut}");
        }
    }

    #[test]
    fn text_that_cannot_become_a_call_is_not_held_back() {
        let mut splitter = splitter();
        assert_eq!(splitter.push("a < b"), [text("a < b")]);
        assert_eq!(splitter.push("<|tool"), []);
        assert_eq!(splitter.push("box|>"), [text("<|toolbox|>")]);
    }

    #[test]
    fn a_malformed_call_stays_text_and_a_good_one_after_it_is_still_found() {
        for section in ["[f(]", "[f(1)]", "[other(a=1)]", "[f(), other()]", "", "[]"] {
            let answer = format!("x{START}{section}{END}y");
            assert_eq!(split(&[&answer]), [text(&answer)], "{section}");
        }
        let answer = format!("{START}oops {START}[f()]{END}");
        let calls = Piece::Calls(parse("[f()]").unwrap());
        assert_eq!(split(&[&answer]), [text(&format!("{START}oops ")), calls]);
    }

    #[test]
    fn a_section_without_an_end_is_text_and_is_not_waited_for_for_ever() {
        let open = format!("{START}[f(a='b')");
        assert_eq!(split(&[&open]), [text(&open)]);
        let mut splitter = splitter();
        assert_eq!(splitter.push(START), []);
        let endless = "x".repeat(SECTION_MAX);
        assert_eq!(
            splitter.push(&endless),
            [text(&format!("{START}{endless}"))]
        );
    }

    proptest! {
        #[test]
        fn where_an_answer_is_cut_makes_no_difference(
            parts in prop::collection::vec(prop_oneof![
                Just(START), Just(END), Just("[f(a=1)]"), Just("[g()]"), Just("[h()]"), Just("é"), Just("<|tool"), Just(" ")
            ], 0..12),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let answer = parts.concat();
            let places: Vec<usize> = answer.char_indices().map(|(at, _)| at).collect();
            let mut at: Vec<usize> = cuts.iter().filter(|_| !places.is_empty()).map(|cut| *cut.get(&places)).collect();
            at.extend([0, answer.len()]);
            at.sort_unstable();
            let chunks: Vec<&str> = at.windows(2).map(|bounds| &answer[bounds[0]..bounds[1]]).collect();
            prop_assert_eq!(split(&chunks), split(&[&answer]));
        }
    }
}
