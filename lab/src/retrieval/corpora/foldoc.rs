//! The Free On-line Dictionary of Computing: entries that refer to each other, and sentences with a reference cut out.
//!
//! Reads the dictionary as dictd keeps it, and of it the entries that others refer to most,
//! each with its first paragraphs. A question is the sentence of an entry that
//! refers to at least two others, without the words of one of the references, which is gold; the entry itself is
//! hidden.

use super::{Held, Record, Set, drawn};
use std::collections::{HashMap, HashSet};

/// Entries kept, of some 15,000.
const ENTRIES_MAX: usize = 1500;
/// Questions drawn.
const QUESTIONS: usize = 200;
/// Words of an entry that are kept; the paragraph that reaches them is whole.
const WORDS_MAX: usize = 40;
/// Fewest words of a question.
const ASKED_MIN: usize = 8;

/// An entry in the making.
#[derive(Debug, Default, PartialEq)]
struct Entry {
    headword: String,
    /// Paragraphs on one line each, with references in braces.
    paragraphs: Vec<String>,
}

/// A paragraph without braces, and where its references stand.
#[derive(Debug, Default, PartialEq)]
struct Plain {
    text: String,
    /// Bytes of the words and the headword that they refer to.
    references: Vec<(std::ops::Range<usize>, String)>,
}

/// The text of a file that may be packed by gzip (RFC 1952), as dictzip does with an extra field; `None` when that is
/// damaged.
pub(super) fn unpacked(bytes: Vec<u8>) -> Option<Vec<u8>> {
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Some(bytes);
    }
    let flags = *bytes.get(3)?;
    let mut start = 10;
    if flags & EXTRA != 0 {
        let length = [*bytes.get(start)?, *bytes.get(start + 1)?];
        start += 2 + usize::from(u16::from_le_bytes(length));
    }
    if flags & NAME != 0 {
        start += 1 + bytes.get(start..)?.iter().position(|byte| *byte == 0)?;
    }
    miniz_oxide::inflate::decompress_to_vec(bytes.get(start..)?).ok()
}

pub(super) fn set(text: &str, seed: u64) -> Set {
    let entries = most_referred(entries(text));
    let by_headword: HashMap<String, usize> = (entries.iter().enumerate())
        .map(|(at, entry)| (entry.headword.to_lowercase(), at))
        .collect();
    let known = |target: &str| by_headword.get(&target.to_lowercase()).copied();
    let mut set = Set::default();
    for (at, entry) in entries.iter().enumerate() {
        let plain: Vec<Plain> = entry.paragraphs.iter().map(|text| plain(text)).collect();
        if let Some(held) = plain.first().and_then(|first| held(at, first, &known)) {
            set.questions.push(held);
        }
        let references = plain.iter().flat_map(|plain| &plain.references);
        let links = references.filter_map(|(_, target)| known(target));
        let texts: Vec<&str> = plain.iter().map(|plain| plain.text.as_str()).collect();
        set.records.push(Record {
            title: entry.headword.clone(),
            text: texts.join("\n\n"),
            links: links.filter(|link| *link != at).collect(),
        });
    }
    set.questions = drawn(set.questions, QUESTIONS, seed);
    set
}

/// Those entries that the others refer to most, in the order of the dictionary.
fn most_referred(entries: Vec<Entry>) -> Vec<Entry> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for text in entries.iter().flat_map(|entry| &entry.paragraphs) {
        for (_, target) in plain(text).references {
            *counts.entry(target.to_lowercase()).or_default() += 1;
        }
    }
    let count = |entry: &Entry| {
        counts
            .get(&entry.headword.to_lowercase())
            .copied()
            .unwrap_or(0)
    };
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_key(|at| (std::cmp::Reverse(count(&entries[*at])), *at));
    let kept: HashSet<usize> = order.into_iter().take(ENTRIES_MAX).collect();
    let all = entries.into_iter().enumerate();
    all.filter(|(at, _)| kept.contains(at))
        .map(|(_, entry)| entry)
        .collect()
}

/// The first sentence with two references that lead somewhere, without the last of them.
fn held(entry: usize, plain: &Plain, known: &dyn Fn(&str) -> Option<usize>) -> Option<Held> {
    let end = plain
        .text
        .find(". ")
        .map_or(plain.text.len(), |end| end + 1);
    let of_sentence: Vec<_> = (plain.references.iter())
        .filter(|(range, _)| range.end <= end)
        .filter_map(|(range, target)| Some((range, known(target)?)))
        .filter(|(_, target)| *target != entry)
        .collect();
    let [.., (_, other), (cut, gold)] = of_sentence.as_slice() else {
        return None;
    };
    let text = format!("{}{}", &plain.text[..cut.start], &plain.text[cut.end..end]);
    let asked = text.split_whitespace().count() >= ASKED_MIN && other != gold;
    asked.then(|| Held {
        question: text,
        gold: vec![*gold],
        hidden: vec![entry],
    })
}

/// The entries of the dictionary that have a text.
fn entries(text: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let (mut after_blank, mut paragraph) = (true, false);
    for line in text.lines() {
        if line.trim().is_empty() {
            (after_blank, paragraph) = (true, false);
            continue;
        }
        let headword = after_blank && !line.starts_with([' ', '\t', '{']);
        after_blank = false;
        if headword {
            entries.push(Entry {
                headword: line.trim().to_owned(),
                ..Entry::default()
            });
            continue;
        }
        let Some(entry) = entries.last_mut() else {
            continue;
        };
        // A line after the headword without an indent is another name of the entry.
        if entry.paragraphs.is_empty() && !line.starts_with(' ') {
            continue;
        }
        match entry.paragraphs.last_mut().filter(|_| paragraph) {
            Some(open) => {
                open.push(' ');
                open.push_str(line.trim());
            }
            None => entry.paragraphs.push(line.trim().to_owned()),
        }
        paragraph = true;
    }
    entries.retain(|entry| !entry.headword.starts_with("00-") && !entry.paragraphs.is_empty());
    for entry in &mut entries {
        let mut words = 0;
        entry.paragraphs.retain(|paragraph| {
            let room = words < WORDS_MAX;
            words += paragraph.split_whitespace().count();
            room
        });
    }
    entries
}

/// Takes the braces away: `{words}` refers to the entry of that name, `{words (name)}` to another.
fn plain(text: &str) -> Plain {
    let mut plain = Plain::default();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        plain.text.push_str(before);
        let (inside, next) = after.split_once('}').unwrap_or((after, ""));
        let (words, target) = match inside
            .strip_suffix(')')
            .and_then(|open| open.rsplit_once('('))
        {
            Some((words, target)) if !words.trim().is_empty() => (words.trim(), target),
            _ => (inside, inside),
        };
        let start = plain.text.len();
        plain.text.push_str(words);
        plain
            .references
            .push((start..plain.text.len(), target.to_owned()));
        rest = next;
    }
    plain.text.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-database-short\n   Dictionary\n\nshell\nsh\n\n   <system> Runs {commands (command)} that the {user} types\n   into a {terminal} all day long. It is {old}.\n\n   (2001-01-01)\n\ncommand\n\n   What a {shell} runs.\n\nterminal\n\n   Shows {text}.\n";

    #[test]
    fn a_packed_dictionary_is_unpacked() {
        let mut packed = vec![0x1f, 0x8b, 8, 12, 0, 0, 0, 0, 0, 3, 2, 0, 9, 9, b'f', 0];
        packed.extend(miniz_oxide::deflate::compress_to_vec(TEXT.as_bytes(), 6));
        assert_eq!(unpacked(packed.clone()).unwrap(), TEXT.as_bytes());
        assert_eq!(unpacked(TEXT.into()).unwrap(), TEXT.as_bytes());
        packed.truncate(20);
        assert_eq!(unpacked(packed), None);
    }

    #[test]
    fn a_question_is_a_sentence_without_one_of_its_references() {
        let set = set(TEXT, 1);
        let titles: Vec<&str> = set
            .records
            .iter()
            .map(|record| record.title.as_str())
            .collect();
        assert_eq!(titles, ["shell", "command", "terminal"]);
        assert_eq!(set.records[0].links, [1, 2]);
        assert!(
            set.records[0]
                .text
                .starts_with("<system> Runs commands that the user types into")
        );
        let [asked] = set.questions.as_slice() else {
            panic!("{:?}", set.questions);
        };
        let question = "<system> Runs commands that the user types into a  all day long.";
        assert_eq!(asked.question, question);
        assert_eq!((&asked.gold, &asked.hidden), (&vec![2], &vec![0]));
    }
}
