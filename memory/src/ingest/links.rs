//! Links: from what a text says to the passages it means.
//!
//! Resolves relative addresses to passages, and finds passages that name the title of another.
//! Pure.

use std::collections::HashMap;

use crate::node::NodeId;

/// A title that more passages name than this is a common phrase and says nothing.
const MENTIONS_MAX: usize = 40;

/// Mentions kept for one passage.
const MENTIONS_OF_PASSAGE_MAX: usize = 16;

/// Words of a title that can be mentioned; fewer than two only for dotted names.
const TITLE_WORDS: std::ops::RangeInclusive<usize> = 2..=8;

/// The key and anchor that `address` means when it stands in the document of the key `from`, which
/// was found below the folder `root`. `None` for other sites.
///
/// An address may lead out of the folder: what it means may have been ingested on its own.
pub(super) fn resolve(root: &str, from: &str, address: &str) -> Option<(String, Option<String>)> {
    let (path, anchor) = match address.split_once('#') {
        Some((path, anchor)) => (
            path,
            Some(percent_decoded(anchor)).filter(|a| !a.is_empty()),
        ),
        None => (address, None),
    };
    let path = path.split('?').next().unwrap_or_default();
    let has_scheme = path
        .split('/')
        .next()
        .is_some_and(|first| first.contains(':'));
    if has_scheme || path.starts_with("//") {
        return None;
    }
    if path.is_empty() {
        return Some((from.to_owned(), anchor));
    }
    let folder = match path.starts_with('/') {
        true => root,
        false => from.rsplit_once('/').map_or("", |(folder, _)| folder),
    };
    let mut parts: Vec<String> = folder
        .split('/')
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(percent_decoded(name)),
        }
    }
    Some((format!("/{}", parts.join("/")), anchor))
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let digits = tail
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let decoded = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match decoded.filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => bytes.push(*first),
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// Titles that can be mentioned, by their first word.
#[derive(Debug, Default)]
pub(super) struct Titles {
    by_first: HashMap<String, Vec<Title>>,
}

#[derive(Debug)]
struct Title {
    words: Vec<String>,
    /// `None` when more than one passage has this title.
    target: Option<NodeId>,
}

impl Titles {
    /// Adds the heading of a passage if it can be mentioned: two words or more, or a dotted name.
    pub(super) fn add(&mut self, heading: &str, target: NodeId) {
        let words = title_words(heading);
        let dotted = words.len() == 1 && words[0].contains('.');
        if !dotted && !TITLE_WORDS.contains(&words.len()) {
            return;
        }
        let same_first = self.by_first.entry(words[0].clone()).or_default();
        match same_first.iter_mut().find(|title| title.words == words) {
            Some(title) => title.target = title.target.filter(|known| *known == target),
            None => same_first.push(Title {
                words,
                target: Some(target),
            }),
        }
    }

    /// The passages whose titles `text` names, in the order of the text, each once.
    pub(super) fn mentioned_in(&self, text: &str) -> Vec<NodeId> {
        let words = title_words(text);
        let mut found = Vec::new();
        let mut at = 0;
        while at < words.len() {
            let longest = (self.by_first.get(&words[at]).into_iter().flatten())
                .filter(|title| words[at..].starts_with(&title.words))
                .max_by_key(|title| title.words.len());
            if let Some(target) = longest.and_then(|title| title.target)
                && !found.contains(&target)
            {
                found.push(target);
            }
            at += longest.map_or(1, |title| title.words.len());
        }
        found.truncate(MENTIONS_OF_PASSAGE_MAX);
        found
    }
}

/// Leaves out what is mentioned too often to mean anything.
pub(super) fn without_common(mentions: &mut Vec<(NodeId, NodeId)>) {
    let mut counts: HashMap<NodeId, usize> = HashMap::new();
    for (_, target) in mentions.iter() {
        *counts.entry(*target).or_default() += 1;
    }
    mentions.retain(|(_, target)| counts[target] <= MENTIONS_MAX);
}

fn title_words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '.')
        .map(|word| word.trim_matches('.'))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(address: &str) -> Option<(String, Option<String>)> {
        resolve("/docs", "/docs/library/functools.html", address)
    }

    #[test]
    fn addresses_are_relative_to_their_document() {
        let page = |path: &str| Some((path.to_owned(), None));
        assert_eq!(
            resolved("operator.html"),
            page("/docs/library/operator.html")
        );
        assert_eq!(
            resolved("../faq/./general.html?x=1"),
            page("/docs/faq/general.html")
        );
        assert_eq!(resolved("/index.html"), page("/docs/index.html"));
        assert_eq!(resolved("../../notes.md"), page("/notes.md"));
        let here = "/docs/library/functools.html".to_owned();
        assert_eq!(resolved("#a%20b"), Some((here, Some("a b".to_owned()))));
    }

    #[test]
    fn other_sites_and_paths_above_everything_are_not_resolved() {
        for address in [
            "https://example.org/x",
            "mailto:a@example.org",
            "//cdn/x",
            "../../../x",
        ] {
            assert_eq!(resolved(address), None, "{address}");
        }
    }

    #[test]
    fn the_longest_title_is_mentioned_and_ambiguous_ones_are_not() {
        let ids: Vec<NodeId> = (0..4).map(|part| NodeId::derived("t", "u", part)).collect();
        let mut titles = Titles::default();
        titles.add("Context managers", ids[0]);
        titles.add("Context managers in classes", ids[1]);
        titles.add("functools.lru_cache", ids[2]);
        titles.add("See also", ids[0]);
        titles.add("See also", ids[3]);
        titles.add("Notes", ids[3]);
        let text = "See also context managers in classes, notes and functools.lru_cache().";
        assert_eq!(titles.mentioned_in(text), [ids[1], ids[2]]);
    }

    #[test]
    fn what_everything_mentions_is_dropped() {
        let id = |part| NodeId::derived("t", "u", part);
        let mut mentions: Vec<_> = (1..=MENTIONS_MAX + 1)
            .map(|part| (id(part), id(0)))
            .collect();
        mentions.push((id(1), id(2)));
        without_common(&mut mentions);
        assert_eq!(mentions, [(id(1), id(2))]);
    }
}
