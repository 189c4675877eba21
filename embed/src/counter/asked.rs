//! Counting by what an engine said, for models whose file is elsewhere.
//!
//! Prompts are made by pure functions, and an engine answers over the network. So a counter of this kind never waits: it
//! takes what is known, estimates the rest and notes what it estimated. Whoever made it asks the engine for exactly that
//! and makes the prompt again (`gateway/server/src/counts.rs`). What engines said is kept by model and text, as digests
//! only; a conversation is what its template adds for these roles and the tokens of its texts.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use super::{Roles, Turn, estimate};
use crate::recent::Recent;

/// Counts that are remembered: about 8 MiB.
const COUNTS_MAX: usize = 1 << 16;

/// The first half of a SHA-256.
type Key = [u8; 16];

/// What engines said about texts, by model. Cheap to clone; all clones are one cache.
#[derive(Debug, Clone, Default)]
pub struct TokenCache {
    /// `None` is a conversation that the template refuses.
    said: Arc<Mutex<Recent<Key, Option<u32>, COUNTS_MAX>>>,
}

/// What an engine is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum CountQuestion {
    /// Tokens of a text as it stands inside a prompt.
    Text(String),
    /// Tokens that the chat template puts around messages in these roles. It holds no text of anybody.
    Template(Vec<String>),
}

/// One prompt's counts of one model.
#[derive(Debug)]
pub(super) struct Asked {
    cache: TokenCache,
    model: String,
    missed: Mutex<BTreeSet<CountQuestion>>,
}

impl Asked {
    pub(super) fn new(cache: &TokenCache, model: &str) -> Self {
        Self {
            cache: cache.clone(),
            model: model.to_owned(),
            missed: Mutex::default(),
        }
    }

    pub(super) fn missed(&self) -> Vec<CountQuestion> {
        lock(&self.missed).iter().cloned().collect()
    }

    pub(super) fn forget_missed(&self) {
        lock(&self.missed).clear();
    }

    pub(super) fn learn(&self, question: &CountQuestion, tokens: Option<u32>) {
        let key = match question {
            CountQuestion::Text(text) => self.key_of_text(text),
            CountQuestion::Template(roles) => self.key_of_roles(roles.iter().map(String::as_str)),
        };
        lock(&self.cache.said).put(key, tokens);
    }

    pub(super) fn roles(&self) -> Roles {
        let takes = |roles: [&str; 2]| !matches!(self.template(&roles), Some(None));
        Roles {
            system: takes(["system", "user"]),
            user_twice: takes(["user", "user"]),
        }
    }

    /// Tokens of a text, or of a page whose blocks are all known.
    pub(super) fn count(&self, text: &str) -> usize {
        self.known(text).unwrap_or_else(|| {
            let blocks = pieces(text).into_iter().map(|piece| self.known(piece));
            let added: Option<usize> = blocks.sum();
            added.unwrap_or_else(|| self.miss(text))
        })
    }

    pub(super) fn count_page(&self, page: &str) -> usize {
        let blocks = pieces(page).into_iter();
        blocks
            .map(|piece| self.known(piece).unwrap_or_else(|| self.miss(piece)))
            .sum()
    }

    /// `None` where the template refuses the roles or has not been asked.
    pub(super) fn count_chat(&self, turns: &[Turn<'_>]) -> Option<usize> {
        let roles: Vec<&str> = turns.iter().map(|turn| turn.role).collect();
        let template = self.template(&roles)??;
        let texts = turns.iter().map(|turn| self.count(turn.content));
        Some(template + texts.sum::<usize>())
    }

    fn known(&self, text: &str) -> Option<usize> {
        if text.is_empty() {
            return Some(0);
        }
        let said = lock(&self.cache.said).get(&self.key_of_text(text));
        said.flatten().map(|tokens| tokens as usize)
    }

    fn miss(&self, text: &str) -> usize {
        lock(&self.missed).insert(CountQuestion::Text(text.to_owned()));
        estimate(text)
    }

    /// What the template adds, `Some(None)` where it refuses the roles; `None` is noted.
    fn template(&self, roles: &[&str]) -> Option<Option<usize>> {
        let said = lock(&self.cache.said).get(&self.key_of_roles(roles.iter().copied()));
        if said.is_none() {
            let roles = roles.iter().map(|role| (*role).to_owned()).collect();
            lock(&self.missed).insert(CountQuestion::Template(roles));
        }
        said.map(|tokens| tokens.map(|tokens| tokens as usize))
    }

    fn key_of_text(&self, text: &str) -> Key {
        self.key("text", [text].into_iter())
    }

    fn key_of_roles<'a>(&self, roles: impl Iterator<Item = &'a str>) -> Key {
        self.key("template", roles)
    }

    fn key<'a>(&self, kind: &str, parts: impl Iterator<Item = &'a str>) -> Key {
        let mut hash = Sha256::new();
        let mut add = |part: &str| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(&self.model);
        add(kind);
        parts.for_each(add);
        let mut key = Key::default();
        let digest = hash.finalize();
        key.copy_from_slice(&digest[..size_of::<Key>()]);
        key
    }
}

/// The pieces whose counts are added up: blocks, which blank lines part, and of each block the first line apart, which
/// numbers it and is another one in each prompt. A piece begins with the line ends before it: most tokenizers never join
/// a line end with what follows it, some with what precedes it, so that a sum is rather above than below.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let blank = rest.len() - rest.trim_start_matches('\n').len();
        let first = rest[blank..].find('\n').map_or(rest.len(), |at| blank + at);
        let (line, after) = rest.split_at(first);
        let (body, after) = after.split_at(after.find("\n\n").unwrap_or(after.len()));
        pieces.extend([line, body].into_iter().filter(|piece| !piece.is_empty()));
        rest = after;
    }
    pieces
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::TokenCounter;
    use super::*;

    /// Asks an engine whose tokens are bytes and whose template adds ten a message and one to begin with.
    fn ask(counter: &TokenCounter) {
        for question in counter.missed() {
            let tokens = match &question {
                CountQuestion::Text(text) => u32::try_from(text.len()).ok(),
                CountQuestion::Template(roles) if roles[0] == "system" => None,
                CountQuestion::Template(roles) => u32::try_from(roles.len() * 10 + 1).ok(),
            };
            counter.learn(&question, tokens);
        }
        counter.begin_again();
    }

    fn turn<'a>(role: &'a str, content: &'a str) -> Turn<'a> {
        Turn { role, content }
    }

    #[test]
    fn what_is_not_known_is_estimated_noted_and_exact_once_it_was_asked() {
        let cache = TokenCache::default();
        let counter = TokenCounter::asking(&cache, "m");
        assert!(counter.exact(), "nothing was counted");
        let turns = [turn("user", "four words of text"), turn("assistant", "")];
        let guess = counter.count_chat(&turns);
        assert_eq!(guess, TokenCounter::estimate().count_chat(&turns));
        assert!(!counter.exact());
        let template = CountQuestion::Template(vec!["user".into(), "assistant".into()]);
        assert!(counter.missed().contains(&template));
        ask(&counter);
        assert_eq!(counter.count_chat(&turns), 21 + 18);
        assert!(counter.exact() && counter.missed().is_empty());
        let other = TokenCounter::asking(&cache, "m");
        assert_eq!(other.count("four words of text"), 18);
        assert!(other.exact(), "another prompt knows it too");
        let of_another = TokenCounter::asking(&cache, "n");
        let _ = of_another.count("four words of text");
        assert!(!of_another.exact(), "another model does not");
    }

    #[test]
    fn a_template_that_refuses_roles_is_counted_turn_by_turn_and_named() {
        let counter = TokenCounter::asking(&TokenCache::default(), "m");
        assert_eq!(counter.roles(), Roles::ALL, "not known yet");
        let turns = [turn("system", "s"), turn("user", "q")];
        let _ = counter.count_chat(&turns);
        ask(&counter);
        ask(&counter);
        assert!(!counter.roles().system && counter.roles().user_twice);
        let by_turn = counter.count_chat(&turns);
        ask(&counter);
        assert_eq!(
            counter.count_chat(&turns),
            2 + 3 * super::super::TURN_TOKENS
        );
        assert!(by_turn > 2 && counter.exact());
    }

    #[test]
    fn a_page_costs_its_new_blocks_and_a_message_of_known_blocks_nothing() {
        let page =
            "[Context block 1] (score=1.00)\n> a\n>\n> b\n\n[Context block 2] (score=0.50)\n> c";
        let counter = TokenCounter::asking(&TokenCache::default(), "m");
        let _ = counter.count_page(page);
        assert_eq!(counter.missed().len(), 4, "{:?}", counter.missed());
        ask(&counter);
        assert_eq!(counter.count_page(page), page.len());
        assert_eq!(counter.count(page), page.len());
        assert!(counter.exact());
        let _ = counter.count_page(&page.replace("=0.50", "=0.40"));
        let new = counter.missed();
        assert!(
            matches!(&new[..], [CountQuestion::Text(line)] if line.contains("0.40")),
            "{new:?}"
        );
    }

    #[test]
    fn pieces_are_the_whole_text() {
        for text in [
            "",
            "\n",
            "\n\n\n",
            "a",
            "a\nb",
            "\n\na\n\n\nb\nc\n\n",
            "a\n\n",
            "é\n語\n\nx",
        ] {
            assert_eq!(pieces(text).concat(), text);
            assert!(pieces(text).iter().all(|piece| !piece.is_empty()));
        }
    }

    #[test]
    fn counts_are_remembered_within_bounds() {
        let counter = TokenCounter::asking(&TokenCache::default(), "m");
        let text = |number: usize| CountQuestion::Text(number.to_string());
        for number in 0..=COUNTS_MAX {
            counter.learn(&text(number), Some(77));
        }
        assert_eq!(counter.count(&COUNTS_MAX.to_string()), 77);
        let _ = counter.count("0");
        assert_eq!(counter.missed(), [text(0)], "the oldest made room");
    }
}
