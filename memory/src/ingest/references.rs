//! References: which documents a text cites.
//!
//! A document is known by the number that its title, its file, its record or its head says: RFC, PEP, arXiv, DOI. A text
//! cites it by that number, in words or in an address, or by a key in brackets whose entry in the document's list of
//! references has such a number or the title of a document. Pure.

use std::collections::{HashMap, HashSet};

use super::edges::Outline;
use super::titles::Mention;

/// References kept for one passage.
const REFERENCES_OF_PASSAGE_MAX: usize = 32;

/// Longest key in brackets.
const KEY_BYTES_MAX: usize = 24;

/// Words of a title that names the document of an entry; fewer are chance.
const ENTRY_TITLE_WORDS_MIN: usize = 3;

/// A place where a passage cites the document that another begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reference {
    pub(super) source: u32,
    pub(super) target: u32,
    /// The byte of the source's text that cites; absent for an address that no words carry.
    pub(super) at: Option<usize>,
}

/// A number of a document, such as `rfc 2119` or `doi 10.1000/182`, and where it stands.
#[derive(Debug, PartialEq)]
struct Number {
    name: String,
    start: usize,
    end: usize,
}

/// The references between documents; passages are numbered through, `mentions` are by source.
pub(super) fn of(outlines: &[Outline], mentions: &[Mention]) -> Vec<Reference> {
    let documents = Documents::of(outlines);
    let mut references = Vec::new();
    let mut from = 0;
    for outline in outlines {
        let keys = documents.keys(outline, from, mentions);
        for (at, (_, passage)) in outline.passages.iter().enumerate() {
            let source = from + at as u32;
            let mut cited: Vec<(u32, Option<usize>)> = Vec::new();
            let named = |text: &str, at: &dyn Fn(usize) -> Option<usize>| {
                let known = numbers(text).into_iter().filter_map(|number| {
                    let target = documents.by_number.get(&number.name)?;
                    Some((*target, at(number.start)))
                });
                known.collect::<Vec<_>>()
            };
            cited.extend(named(&passage.text, &Some));
            let bracketed = brackets(&passage.text);
            cited.extend(
                (bracketed.iter()).filter_map(|(key, at)| Some((*keys.get(key)?, Some(*at)))),
            );
            for (address, at) in &passage.links {
                cited.extend(named(address, &|_| *at));
            }
            let mut seen = HashSet::new();
            cited.retain(|(target, _)| documents.differ(source, *target) && seen.insert(*target));
            cited.truncate(REFERENCES_OF_PASSAGE_MAX);
            let made = cited
                .into_iter()
                .map(|(target, at)| Reference { source, target, at });
            references.extend(made);
        }
        from += outline.passages.len() as u32;
    }
    references
}

/// What the documents of a run are known by.
struct Documents {
    /// The passage that begins the document of each number.
    by_number: HashMap<String, u32>,
    /// The document of each passage; records are documents of their own.
    of_passage: Vec<u32>,
}

impl Documents {
    fn of(outlines: &[Outline]) -> Self {
        let mut by_number = HashMap::new();
        let mut of_passage: Vec<u32> = Vec::new();
        for outline in outlines {
            let first = of_passage.len() as u32;
            for (at, (_, passage)) in (first..).zip(&outline.passages) {
                let begins = if outline.ordered {
                    at == first
                } else {
                    passage.part == 0
                };
                let document = match begins {
                    true => at,
                    false => of_passage.last().copied().unwrap_or(at),
                };
                of_passage.push(document);
                if begins {
                    let stem = if outline.ordered {
                        stem(&outline.key)
                    } else {
                        ""
                    };
                    let anchor = passage.anchor.as_deref().unwrap_or_default();
                    let id = if outline.ordered { "" } else { anchor };
                    let own = [stem, id, &passage.title].into_iter().filter_map(leading);
                    for name in own.chain(head(&passage.text)) {
                        by_number.entry(name).or_insert(at);
                    }
                }
            }
        }
        Self {
            by_number,
            of_passage,
        }
    }

    fn differ(&self, a: u32, b: u32) -> bool {
        self.of_passage[a as usize] != self.of_passage[b as usize]
    }

    /// The keys of a document's list of references, with the passages that begin what they mean. `from` is the number of its
    /// first passage.
    fn keys(&self, outline: &Outline, from: u32, mentions: &[Mention]) -> HashMap<String, u32> {
        let mut keys = HashMap::new();
        for (source, (_, passage)) in (from..).zip(&outline.passages) {
            let entries = brackets(&passage.text);
            let listed = is_list(&passage.title);
            for (entry, (key, start)) in entries.iter().enumerate() {
                let begins_line = passage.text[..*start]
                    .trim_end_matches(' ')
                    .ends_with(['\n', '-']);
                if !(listed || *start == 0 || begins_line) {
                    continue;
                }
                let end = entries
                    .get(entry + 1)
                    .map_or(passage.text.len(), |next| next.1);
                let text = &passage.text[*start..end];
                let by_number = || {
                    // The key itself may be the number: [RFC2119].
                    let mut numbers = numbers(text).into_iter();
                    numbers.find_map(|number| self.by_number.get(&number.name).copied())
                };
                let by_title = || {
                    let first = mentions.partition_point(|mention| mention.source < source);
                    let mut own = mentions[first..]
                        .iter()
                        .take_while(|mention| mention.source == source);
                    let title = own.find(|mention| {
                        (*start..end).contains(&mention.at)
                            && mention.words >= ENTRY_TITLE_WORDS_MIN
                    });
                    title.map(|mention| self.of_passage[mention.target as usize])
                };
                if let Some(target) = by_number().or_else(by_title)
                    && self.differ(source, target)
                {
                    keys.entry(key.clone()).or_insert(target);
                }
            }
        }
        keys
    }
}

/// A file's name without folder and extension.
fn stem(key: &str) -> &str {
    let name = key.rsplit('/').next().unwrap_or(key);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// The number that a name begins with, or that it is, as in `1706.03762v2`.
fn leading(name: &str) -> Option<String> {
    let name = name.trim();
    let first = numbers(name)
        .into_iter()
        .next()
        .filter(|number| number.start == 0);
    first.map(|number| number.name).or_else(|| {
        let (number, end) = arxiv_number(name)?;
        let rest = name[end..].trim_start_matches(['v', 'V']);
        let whole = rest.chars().all(|c| c.is_ascii_digit());
        whole.then(|| format!("arxiv {number}"))
    })
}

/// The number that the head of a document says about itself.
fn head(text: &str) -> Option<String> {
    let digits = |after: &str| -> Option<String> {
        let rest = text[text.find(after)? + after.len()..].trim_start();
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let number = rest[..end].trim_start_matches('0');
        (!number.is_empty()).then(|| number.to_owned())
    };
    if let Some(number) = digits("Request for Comments:") {
        return Some(format!("rfc {number}"));
    }
    if text.starts_with("PEP:") {
        return digits("PEP:").map(|number| format!("pep {number}"));
    }
    // The stamp on the first page: arXiv:1706.03762v7 [cs.CL] 2 Aug 2023
    let mut numbers = numbers(text).into_iter();
    let stamp = numbers.find(|number| {
        let rest = text[number.end..].trim_start_matches('v');
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        number.name.starts_with("arxiv ") && rest.starts_with(" [")
    });
    stamp.map(|number| number.name)
}

fn is_list(title: &str) -> bool {
    let title = title.to_lowercase();
    ["references", "bibliography", "works cited"]
        .iter()
        .any(|list| title.contains(list))
}

/// The numbers of documents in a text.
fn numbers(text: &str) -> Vec<Number> {
    let bytes = text.as_bytes();
    let mut numbers = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let begins_word = at == 0 || !bytes[at - 1].is_ascii_alphanumeric();
        let found = match bytes[at].to_ascii_lowercase() {
            b'r' | b'p' | b'a' | b'1' if begins_word => number_at(text, at),
            _ => None,
        };
        at = found.as_ref().map_or(at + 1, |number| number.end);
        numbers.extend(found);
    }
    numbers
}

/// The number that begins at the byte `start`, which begins a word of ASCII.
fn number_at(text: &str, start: usize) -> Option<Number> {
    let rest = &text[start..];
    let counted = |kind: &str, digits_max: usize| {
        let after = strip_word(rest, kind)?;
        let after = after.trim_start_matches([' ', '-', '_', '\u{a0}']);
        let end = after
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(after.len());
        let ends = !after[end..].starts_with(|c: char| c.is_alphanumeric());
        let number = after[..end].trim_start_matches('0');
        let gap = rest.len() - kind.len() - after.len();
        let good = ends && gap < 3 && end <= digits_max && !number.is_empty();
        good.then(|| (format!("{kind} {number}"), rest.len() - after.len() + end))
    };
    let arxiv = || {
        let after = strip_word(rest, "arxiv")?;
        let after = [".org/abs/", ".org/pdf/", ": ", ":", " ", "-", "."]
            .iter()
            .find_map(|lead| after.strip_prefix(lead))?;
        let (number, end) = arxiv_number(after)?;
        Some((format!("arxiv {number}"), rest.len() - after.len() + end))
    };
    let (name, length) = counted("rfc", 5)
        .or_else(|| counted("pep", 4))
        .or_else(arxiv)
        .or_else(|| doi(rest))?;
    Some(Number {
        name,
        start,
        end: start + length,
    })
}

fn strip_word<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    let first = text.get(..word.len())?;
    first
        .eq_ignore_ascii_case(word)
        .then(|| &text[word.len()..])
}

/// `1706.03762` at the beginning of a text, and its length.
fn arxiv_number(text: &str) -> Option<(&str, usize)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let month = digits(text);
    let rest = text.get(month..)?.strip_prefix('.')?;
    let count = digits(rest);
    let end = month + 1 + count;
    (month == 4 && (4..=5).contains(&count)).then(|| (&text[..end], end))
}

/// `10.1000/182` at the beginning of a text, with its kind, and its length.
fn doi(text: &str) -> Option<(String, usize)> {
    let rest = text.strip_prefix("10.")?;
    let (registrant, suffix) = rest.split_once('/')?;
    let registered = (4..=9).contains(&registrant.len())
        && registrant
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let end = suffix
        .find(|c: char| {
            c.is_whitespace() || matches!(c, '"' | '<' | '>' | ')' | ']' | '}' | '?' | '#')
        })
        .unwrap_or(suffix.len());
    let suffix = suffix[..end].trim_end_matches(['.', ',', ';', ':']);
    let end = "10.".len() + registrant.len() + 1 + suffix.len();
    (registered && !suffix.is_empty()).then(|| (format!("doi {}", text[..end].to_lowercase()), end))
}

/// The keys in brackets, `[12]`, `[RFC2119]` or `[1, 2]`, with the byte of each bracket.
fn brackets(text: &str) -> Vec<(String, usize)> {
    let mut keys = Vec::new();
    for (open, _) in text.match_indices('[') {
        let inside = &text.as_bytes()[open + 1..];
        let inside = &inside[..inside.len().min(4 * KEY_BYTES_MAX)];
        let Some(close) = inside.iter().position(|byte| *byte == b']') else {
            continue;
        };
        for key in text[open + 1..open + 1 + close].split([',', ';']) {
            let key = key.trim();
            let word = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '+' | '.' | ':');
            let digit = key.contains(|c: char| c.is_ascii_digit());
            if digit && key.len() <= KEY_BYTES_MAX && key.chars().all(word) {
                keys.push((key.to_owned(), open));
            }
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        numbers(text)
            .into_iter()
            .map(|number| number.name)
            .collect()
    }

    #[test]
    fn numbers_of_documents_are_read_in_words_and_addresses() {
        let text = "See RFC 2119, [RFC8174], rfc-0793 and PEP 8; arXiv:1706.03762v7 and doi:10.1000/AB.12.";
        assert_eq!(
            names(text),
            [
                "rfc 2119",
                "rfc 8174",
                "rfc 793",
                "pep 8",
                "arxiv 1706.03762",
                "doi 10.1000/ab.12"
            ]
        );
        let addresses = "https://www.rfc-editor.org/rfc/rfc9110#name https://peps.python.org/pep-0484/ \
            https://arxiv.org/abs/2301.00001 https://doi.org/10.1145/3292500.3330701?x=1";
        assert_eq!(
            names(addresses),
            [
                "rfc 9110",
                "pep 484",
                "arxiv 2301.00001",
                "doi 10.1145/3292500.3330701"
            ]
        );
        for none in [
            "RFC",
            "PEP talk",
            "RFC 123456",
            "pepper 8",
            "10.5/3",
            "1000/2",
            "RFC 0",
            "é1",
        ] {
            assert_eq!(names(none), [""; 0], "{none}");
        }
    }

    #[test]
    fn a_document_is_known_by_its_file_its_title_or_its_head() {
        assert_eq!(
            leading(stem("/docs/rfc2119.txt")).as_deref(),
            Some("rfc 2119")
        );
        assert_eq!(
            leading(stem("/docs/1706.03762v2.pdf")).as_deref(),
            Some("arxiv 1706.03762")
        );
        assert_eq!(leading("PEP 8 – Style Guide").as_deref(), Some("pep 8"));
        assert_eq!(leading("What PEP 8 asks for"), None);
        assert_eq!(leading("2023.1234567"), None);
        assert_eq!(
            head("Request for Comments: 0793\nBCP: 14").as_deref(),
            Some("rfc 793")
        );
        assert_eq!(head("PEP: 8 Title: Style").as_deref(), Some("pep 8"));
        assert_eq!(
            head("arXiv:1706.03762v7 [cs.CL] 2 Aug").as_deref(),
            Some("arxiv 1706.03762")
        );
        assert_eq!(head("As arXiv:1706.03762 says"), None);
    }

    #[test]
    fn keys_stand_in_brackets() {
        let keys = brackets("Known [1], [2, Ab93] and [see 3], a[i], [é9] [");
        let keys: Vec<&str> = keys.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["1", "2", "Ab93", "é9"]);
    }
}
