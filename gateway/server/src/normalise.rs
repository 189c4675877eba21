//! Step 1: the question in one spelling, and the text that is embedded and searched for.
//!
//! Pure. Folding whitespace is for the search only: in a prompt it would change code. Next step: `recall.rs`.

use crate::message::{Message, Role};
use std::borrow::Cow;
use unicode_normalization::UnicodeNormalization;

/// A last turn with fewer words may be a follow-up ("and on Windows?") that means little alone.
const FOLLOW_UP_WORDS: usize = 12;
/// Characters kept of the earlier turn in front of a follow-up.
const EARLIER_CHARS: usize = 300;

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// The last user turn, NFC, trimmed.
    pub text: String,
    /// What is embedded and searched for: whitespace folded, with what earlier turns add.
    pub retrieval: String,
    /// User turns of the conversation.
    pub turns: u32,
}

impl Question {
    /// Reads the question out of a conversation.
    ///
    /// The last user turn is the question. When an earlier user turn exists and the last one has fewer than 12 words,
    /// the start of the turn before stands in front of it in the retrieval text: a follow-up then finds what its
    /// conversation is about. Answers are never embedded: they are not facts.
    pub fn of(messages: &[Message]) -> Self {
        let mut turns = messages.iter().filter(|m| m.role == Role::User).rev();
        let text = turns.next().map(|m| composed(m.text.trim()));
        let text = text.unwrap_or_default().into_owned();
        let last = folded(&text);
        let earlier = turns.next().map(|m| folded(&composed(&m.text)));
        let retrieval = match earlier {
            Some(earlier) if last.split(' ').count() < FOLLOW_UP_WORDS => {
                let start: String = earlier.chars().take(EARLIER_CHARS).collect();
                format!("{start} {last}")
            }
            _ => last,
        };
        let count = messages.iter().filter(|m| m.role == Role::User).count();
        Self {
            text,
            retrieval,
            turns: u32::try_from(count).unwrap_or(u32::MAX),
        }
    }
}

/// The last user turn, NFC, trimmed: [`Question::text`] alone.
pub(crate) fn asked(messages: &[Message]) -> Cow<'_, str> {
    let last = messages.iter().rfind(|m| m.role == Role::User);
    composed(last.map_or("", |m| m.text.trim()))
}

/// NFC, which ASCII is.
fn composed(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.nfc().collect())
    }
}

/// Runs of whitespace become one space.
fn folded(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> Message {
        Message::new(Role::User, text)
    }

    #[test]
    fn the_question_is_composed_and_trimmed_but_keeps_its_whitespace() {
        let messages = [user("  cafe\u{301}\n\tx = 1  ")];
        let question = Question::of(&messages);
        assert_eq!(question.text, "caf\u{e9}\n\tx = 1");
        assert_eq!(asked(&messages), question.text);
        assert_eq!(question.retrieval, "caf\u{e9} x = 1");
        assert_eq!(question.turns, 1);
    }

    #[test]
    fn a_follow_up_is_searched_for_with_the_turn_before() {
        let conversation = [
            user("How do I copy a file?"),
            Message::new(Role::Assistant, "Use shutil."),
            user("and a folder?"),
        ];
        assert_eq!(
            Question::of(&conversation).retrieval,
            "How do I copy a file? and a folder?"
        );
    }

    #[test]
    fn a_long_last_turn_stands_alone() {
        let long = "one two three four five six seven eight nine ten eleven twelve";
        assert_eq!(
            Question::of(&[user("something else"), user(long)]).retrieval,
            long
        );
    }
}
