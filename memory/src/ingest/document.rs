//! Documents: what every splitter yields, and how sections become passages.
//!
//! A splitter knows one format and produces sections of pieces (paragraphs, list items, code
//! blocks). Packing them into passages of a size is the same for all and happens here. Nothing is
//! written here: `write.rs` does that.

use crate::sentences;

/// A section below this many words inside a definition stays with the definition.
pub(super) const FOLD_WORDS: usize = 30;

/// How much longer than the target a passage may be before it is cut.
const SLACK: f64 = 1.4;

/// A passage whose words are links for the larger part is a table of contents or an index.
const NAVIGATION_SHARE: f64 = 0.75;

/// Links that a passage needs to count as navigation.
const NAVIGATION_LINKS: usize = 8;

/// A paragraph, list item, table row or code block.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Piece {
    /// The text; prose on one line, code as it was.
    pub(super) text: String,
    /// Code keeps its lines and is only cut between them.
    pub(super) code: bool,
    /// Where it links to, in the order of the text.
    pub(super) links: Vec<Link>,
    /// How many of its words are inside links.
    pub(super) linked_words: usize,
    /// Anchors that stand in it.
    pub(super) anchors: Vec<String>,
}

/// A link as it stands in a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Link {
    /// Where it leads, as written.
    pub(super) address: String,
    /// The words that carry it; empty for a picture and for what a record only lists.
    pub(super) words: String,
}

/// A run of pieces under one heading, or one definition.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Section {
    /// Anchor of the heading; part of the uri.
    pub(super) anchor: Option<String>,
    /// Other anchors at the heading.
    pub(super) anchors: Vec<String>,
    /// The heading, or the name that is defined.
    pub(super) heading: String,
    /// Whether it defines a name: its heading needs no page title to be understood.
    pub(super) definition: bool,
    /// Domain that the source names.
    pub(super) domain: Option<String>,
    /// What it holds.
    pub(super) pieces: Vec<Piece>,
}

/// One file, split.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Document {
    /// Title of the whole.
    pub(super) title: String,
    /// In reading order.
    pub(super) sections: Vec<Section>,
    /// Whether one section leads to the next (not so for a list of records).
    pub(super) ordered: bool,
    /// Parts that could not be read, with the reason.
    pub(super) bad_parts: Vec<String>,
}

/// What becomes a node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Passage {
    /// Anchor of its section.
    pub(super) anchor: Option<String>,
    /// Which part of the section it is.
    pub(super) part: usize,
    /// Anchors that lead to it.
    pub(super) anchors: Vec<String>,
    /// The heading alone, for mentions; only the first part of a section has it.
    pub(super) heading: Option<String>,
    /// The title line.
    pub(super) title: String,
    /// Domain that the source names.
    pub(super) domain: Option<String>,
    /// The text.
    pub(super) text: String,
    /// Where it links to, as written, each with the byte of the text at which the link stands, where it stands there.
    pub(super) links: Vec<(String, Option<usize>)>,
}

impl Piece {
    /// A paragraph.
    pub(super) fn prose(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }

    /// A code block.
    pub(super) fn code(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            code: true,
            ..Self::default()
        }
    }

    fn words(&self) -> usize {
        words(&self.text)
    }
}

impl Section {
    /// Words of the section without its heading.
    pub(super) fn words(&self) -> usize {
        self.pieces.iter().map(Piece::words).sum()
    }
}

/// The passages of a document, of about `target` words each.
///
/// Sections without text give their anchors to the next passage, so that links to them arrive
/// somewhere.
pub(super) fn passages(document: &Document, target: usize) -> Vec<Passage> {
    let mut passages: Vec<Passage> = Vec::new();
    let mut homeless: Vec<String> = Vec::new();
    for section in &document.sections {
        let mut anchors = std::mem::take(&mut homeless);
        anchors.extend(section.anchor.iter().chain(&section.anchors).cloned());
        let packed = pack(&section.pieces, target.max(1));
        if packed.is_empty() {
            let inside = section
                .pieces
                .iter()
                .flat_map(|piece| piece.anchors.iter().cloned());
            homeless = anchors.into_iter().chain(inside).collect();
            continue;
        }
        for (part, pieces) in packed.into_iter().enumerate() {
            let inside: Vec<String> = pieces
                .iter()
                .flat_map(|piece| piece.anchors.iter().cloned())
                .collect();
            let (text, links) = text(pieces);
            passages.push(Passage {
                anchor: section.anchor.clone(),
                part,
                anchors: std::mem::take(&mut anchors)
                    .into_iter()
                    .chain(inside)
                    .collect(),
                heading: (part == 0).then(|| section.heading.clone()),
                title: title(document, section),
                domain: section.domain.clone(),
                text,
                links,
            });
        }
    }
    if let Some(last) = passages.last_mut() {
        last.anchors.extend(homeless);
    }
    passages
}

/// `Page › Heading`; a definition and the top of a page stand for themselves.
fn title(document: &Document, section: &Section) -> String {
    let page = document.title.split(" — ").next().unwrap_or_default();
    let alone = section.definition || section.heading == document.title || page.is_empty();
    match section.heading.as_str() {
        "" => document.title.clone(),
        heading if alone => heading.to_owned(),
        heading => format!("{page} › {heading}"),
    }
}

/// The text of a passage, and where its links stand in it. Prose paragraphs and code are set apart by an empty line,
/// items of a list stand on lines of their own.
fn text(pieces: Vec<Piece>) -> (String, Vec<(String, Option<usize>)>) {
    let mut text = String::new();
    let mut links = Vec::new();
    let mut in_list = false;
    for piece in pieces {
        if !piece.text.is_empty() {
            let item = piece.text.starts_with("- ");
            if !text.is_empty() {
                text.push_str(if item && in_list { "\n" } else { "\n\n" });
            }
            in_list = item;
        }
        let begin = text.len();
        text.push_str(&piece.text);
        let mut from = 0;
        for link in piece.links {
            let at = place(&piece.text, &link.words, from);
            from = at.unwrap_or(from);
            links.push((link.address, at.map(|at| begin + at)));
        }
    }
    (text, links)
}

/// Where the words of a link stand in `text`, looked for from the byte `from` on: links come in the order of the text.
fn place(text: &str, words: &str, from: usize) -> Option<usize> {
    if words.is_empty() {
        return None;
    }
    text.get(from..)?.find(words).map(|at| from + at)
}

/// Groups pieces into runs of about `target` words; runs that are only navigation are left out.
fn pack(pieces: &[Piece], target: usize) -> Vec<Vec<Piece>> {
    let longest = (target as f64 * SLACK) as usize;
    let mut runs: Vec<Vec<Piece>> = Vec::new();
    let mut run: Vec<Piece> = Vec::new();
    let mut length = 0;
    for piece in pieces.iter().flat_map(|piece| cut(piece, target, longest)) {
        let words = piece.words();
        // Code is kept with the sentence that introduces it as far as the slack allows.
        let limit = if piece.code { longest } else { target };
        if !run.is_empty() && length + words > limit && length >= target / 4 {
            runs.push(std::mem::take(&mut run));
            length = 0;
        }
        length += words;
        run.push(piece);
    }
    if !run.is_empty() {
        runs.push(run);
    }
    join_short_tail(&mut runs, target, longest);
    runs.retain(|run| !is_navigation(run) && run.iter().any(|piece| piece.words() > 0));
    runs
}

/// A few words left over say little alone.
fn join_short_tail(runs: &mut Vec<Vec<Piece>>, target: usize, longest: usize) {
    let length = |run: &[Piece]| run.iter().map(Piece::words).sum::<usize>();
    let [.., before, last] = runs.as_slice() else {
        return;
    };
    if length(last) < target / 4
        && length(before) + length(last) <= longest
        && let Some(last) = runs.pop()
        && let Some(before) = runs.last_mut()
    {
        before.extend(last);
    }
}

/// A piece of more than `longest` words in parts of about `target`, cut where a sentence or a line
/// ends.
fn cut(piece: &Piece, target: usize, longest: usize) -> Vec<Piece> {
    if piece.words() <= longest {
        return vec![piece.clone()];
    }
    let cuts = if piece.code {
        line_ends(&piece.text)
    } else {
        sentences::boundaries(&piece.text)
    };
    let mut ranges = Vec::new();
    let (mut start, mut end) = (0, 0);
    for cut in cuts {
        if end > start && words(&piece.text[start..cut]) > target {
            ranges.push(start..end);
            start = end;
        }
        end = cut;
    }
    ranges.push(start..end);
    ranges.retain(|range| !piece.text[range.clone()].trim().is_empty());
    let mut parts: Vec<Piece> = (ranges.iter())
        .map(|range| {
            let part = &piece.text[range.clone()];
            let kept = if piece.code {
                part.trim_matches('\n')
            } else {
                part.trim()
            };
            Piece {
                text: kept.to_owned(),
                code: piece.code,
                ..Piece::default()
            }
        })
        .collect();
    let mut from = 0;
    for link in &piece.links {
        from = place(&piece.text, &link.words, from).unwrap_or(from);
        let part = ranges.partition_point(|range| range.start <= from);
        if let Some(part) = parts.get_mut(part.saturating_sub(1)) {
            part.links.push(link.clone());
        }
    }
    if let Some(first) = parts.first_mut() {
        first.linked_words = piece.linked_words.min(first.words());
        first.anchors.clone_from(&piece.anchors);
    }
    parts
}

fn line_ends(text: &str) -> Vec<usize> {
    text.match_indices('\n')
        .map(|(at, _)| at)
        .chain([text.len()])
        .collect()
}

fn is_navigation(run: &[Piece]) -> bool {
    let links: usize = run.iter().map(|piece| piece.links.len()).sum();
    let linked: usize = run.iter().map(|piece| piece.linked_words).sum();
    let all: usize = run.iter().map(Piece::words).sum();
    links >= NAVIGATION_LINKS && linked as f64 > NAVIGATION_SHARE * all as f64
}

/// Number of words; text without spaces counts a word for two characters.
pub(super) fn words(text: &str) -> usize {
    text.split_whitespace()
        .map(|word| 1 + word.chars().filter(|c| *c >= '\u{2E80}').count() / 2)
        .sum()
}
