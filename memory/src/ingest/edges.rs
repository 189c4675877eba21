//! Edges: what the texts of a run say about each other, each with the sentence that says it.
//!
//! Relations: `hyperlink` (a link in the text), `mentions` (the title of another passage in the text, `titles.rs`),
//! `cites` (the number of another document, `references.rs`), `entity` (a rare name that both texts have, `entities.rs`)
//! and `follows` (the next part of a document, which no sentence says). Nothing is written here: `write.rs` does that.

use std::cell::OnceCell;
use std::collections::HashSet;

use super::document::Passage;
use super::entities::Entities;
use super::places::Places;
use super::references;
use super::titles::{Mention, Titles};
use super::tokens::Tokens;
use crate::node::{EVIDENCE_CHARS_MAX, EdgeMetadata, NewEdge, NodeId};
use crate::sentences;
use crate::store::Memory;

/// Who made these edges; only such edges are removed again.
pub(super) const CREATED_BY: &str = "ingest";

/// A document as far as edges need it.
pub(super) struct Outline {
    /// What the store knows it by.
    pub(super) key: String,
    /// The folder that addresses with a leading `/` start from.
    pub(super) root: String,
    /// Whether the store held it before this run, so that edges may have to go.
    pub(super) known: bool,
    /// Whether one section leads to the next.
    pub(super) ordered: bool,
    /// In reading order.
    pub(super) passages: Vec<(NodeId, Passage)>,
}

/// All edges of a run, each once, in the order of the store.
pub(super) fn of(memory: &Memory, tenant: &str, outlines: &[Outline]) -> Vec<NewEdge> {
    let passages: Vec<&(NodeId, Passage)> = outlines
        .iter()
        .flat_map(|outline| &outline.passages)
        .collect();
    let mut titles = titles(outlines);
    let (mut found, mut entities) = (Vec::new(), Entities::default());
    for (number, (_, passage)) in (0..).zip(&passages) {
        let tokens = Tokens::of(&passage.text);
        titles.find(&tokens, number, &mut found);
        entities.add(&tokens, number, &|phrase| titles.knows(phrase));
    }
    let mut edges = Edges::of(&passages);
    let places = Places::of(memory, tenant, outlines);
    let mut number = 0;
    for outline in outlines {
        for (_, passage) in &outline.passages {
            for (address, at) in &passage.links {
                if let Some(target) = places.find(outline, address) {
                    let at = at.or_else(|| edges.mention(&found, number, target));
                    edges.add(number, target, Said::once("hyperlink", at));
                }
            }
            number += 1;
        }
        let first = number - outline.passages.len();
        for (at, (id, _)) in outline.passages.iter().enumerate() {
            let next = outline.passages.get(at + 1);
            if next.is_some_and(|(_, next)| outline.ordered || next.part > 0) {
                edges.add(first + at + 1, *id, Said::once("follows", None));
            }
        }
    }
    for reference in references::of(outlines, &found) {
        let target = passages[reference.target as usize].0;
        edges.add(
            reference.source as usize,
            target,
            Said::once("cites", reference.at),
        );
    }
    for mention in titles.settle(found) {
        let target = passages[mention.target as usize].0;
        let said = Said {
            weight: mention.weight,
            ..Said::once("mentions", Some(mention.at))
        };
        edges.add(mention.source as usize, target, said);
    }
    for shared in entities.shared(passages.len()) {
        let target = passages[shared.target as usize].0;
        let said = Said {
            weight: shared.weight,
            ..Said::once("entity", Some(shared.at))
        };
        edges.add(shared.source as usize, target, said);
    }
    edges.sorted()
}

/// The headings of a run, numbered as its passages are.
fn titles(outlines: &[Outline]) -> Titles {
    let mut titles = Titles::default();
    let passages = outlines.iter().flat_map(|outline| {
        outline
            .passages
            .iter()
            .map(move |(_, passage)| (outline, passage))
    });
    for (number, (outline, passage)) in (0..).zip(passages) {
        if let Some(heading) = &passage.heading {
            titles.add(heading, number, !outline.ordered);
        }
    }
    titles
}

/// What a passage says about another.
#[derive(Clone, Copy)]
struct Said {
    rel: &'static str,
    weight: f32,
    /// The byte of its text that says it.
    at: Option<usize>,
}

impl Said {
    fn once(rel: &'static str, at: Option<usize>) -> Self {
        let weight = 1.0;
        Self { rel, weight, at }
    }
}

/// Edges on their way to the store.
struct Edges<'a> {
    passages: &'a [&'a (NodeId, Passage)],
    /// Where the sentences of the passage in hand end.
    cuts: (usize, OnceCell<Vec<usize>>),
    seen: HashSet<(NodeId, NodeId, &'static str)>,
    made: Vec<NewEdge>,
}

impl<'a> Edges<'a> {
    fn of(passages: &'a [&'a (NodeId, Passage)]) -> Self {
        Self {
            passages,
            cuts: (0, OnceCell::new()),
            seen: HashSet::new(),
            made: Vec::new(),
        }
    }

    /// Adds an edge unless it is there.
    fn add(&mut self, source: usize, dst: NodeId, said: Said) {
        let src = self.passages[source].0;
        if src == dst || !self.seen.insert((src, dst, said.rel)) {
            return;
        }
        let evidence = said.at.map(|at| self.sentence(source, at).to_owned());
        let metadata = EdgeMetadata {
            created_by: Some(CREATED_BY.to_owned()),
            evidence: evidence.filter(|sentence| !sentence.is_empty()),
            ..EdgeMetadata::default()
        };
        self.made.push(NewEdge {
            weight: said.weight,
            metadata,
            ..NewEdge::new(src, dst, said.rel)
        });
    }

    fn sentence(&mut self, source: usize, at: usize) -> &'a str {
        let text = &self.passages[source].1.text;
        if self.cuts.0 != source {
            self.cuts = (source, OnceCell::new());
        }
        let cuts = self.cuts.1.get_or_init(|| sentences::boundaries(text));
        sentences::around(text, cuts, at, EVIDENCE_CHARS_MAX)
    }

    /// Where a passage names the title of another, for links that a record only lists. `found` is by source.
    fn mention(&self, found: &[Mention], source: usize, target: NodeId) -> Option<usize> {
        let from = found.partition_point(|mention| (mention.source as usize) < source);
        let mut own = found[from..]
            .iter()
            .take_while(|mention| mention.source as usize == source);
        let mention = own.find(|mention| self.passages[mention.target as usize].0 == target)?;
        Some(mention.at)
    }

    /// In the order of the store, where neighbours are written together.
    fn sorted(mut self) -> Vec<NewEdge> {
        let key = |edge: &NewEdge| (edge.src, edge.dst);
        self.made
            .sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| a.rel.cmp(&b.rel)));
        self.made
    }
}
