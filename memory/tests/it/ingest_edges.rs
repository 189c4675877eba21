//! What the texts of a run say about each other, and the sentence that says it.

use std::fs;
use std::path::Path;

use serde_json::json;
use weir_memory::ingest::{IngestOptions, ingest};
use weir_memory::{EVIDENCE_CHARS_MAX, Edge, Memory, NodeId, SHARED_TENANT};

use crate::open;

/// A folder of documents and the memory that they were read into.
struct World {
    store: tempfile::TempDir,
    docs: tempfile::TempDir,
    memory: Memory,
}

impl World {
    fn of(files: &[(&str, &str)]) -> Self {
        let (store, docs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (name, text) in files {
            fs::write(docs.path().join(name), text).unwrap();
        }
        let memory = open(store.path());
        let world = Self {
            store,
            docs,
            memory,
        };
        world.ingest();
        world
    }

    /// One record a title and text, in the file `set.jsonl`; a record's id is its title.
    fn of_records(records: &[(&str, &str)]) -> Self {
        let line = |(title, text): &(&str, &str)| {
            json!({"id": title, "title": title, "text": text}).to_string()
        };
        let lines: Vec<String> = records.iter().map(line).collect();
        Self::of(&[("set.jsonl", &lines.join("\n"))])
    }

    fn ingest(&self) {
        let paths = [self.docs.path().to_owned()];
        let report = ingest(&self.memory, &paths, &IngestOptions::default(), &mut |_| {}).unwrap();
        assert!(report.bad.is_empty(), "{report:?}");
    }

    fn id(&self, uri: &str) -> NodeId {
        passage_id(self.docs.path(), uri)
    }

    /// The edges of a relation that leave a passage: targets with weight and evidence.
    fn from(&self, uri: &str, rel: &str) -> Vec<(NodeId, f32, Option<String>)> {
        let id = self.id(uri);
        let edges = self.memory.edges(id).unwrap().into_iter();
        let own = edges.filter(|edge: &Edge| edge.src == id && edge.rel == rel);
        own.map(|edge| (edge.dst, edge.weight, edge.metadata.evidence))
            .collect()
    }

    /// The one edge of a relation that leaves a passage: where it ends and its evidence.
    fn only(&self, uri: &str, rel: &str) -> (NodeId, String) {
        let mut edges = self.from(uri, rel);
        assert_eq!(edges.len(), 1, "{rel} of {uri}: {edges:?}");
        let (target, _, evidence) = edges.remove(0);
        (target, evidence.unwrap_or_default())
    }
}

fn passage_id(docs: &Path, uri: &str) -> NodeId {
    let place = fs::canonicalize(docs).unwrap().join(uri);
    NodeId::derived(SHARED_TENANT, place.to_str().unwrap(), 0)
}

#[test]
fn an_edge_carries_the_sentence_that_says_it_and_keeps_it() {
    let world = World::of(&[
        (
            "a.md",
            "# Home\n\nFirst of all. Then read [the guide](b.html), which is short. Bye.\n\n- No.\n- Or [b](b.html#two).\n",
        ),
        (
            "b.html",
            "<h1 id=one>Long guide</h1><p>Read it. Or go <a href='a.md'>back  <b>home</b></a>! Yes.</p>\
             <h1 id=two>Two</h1><p>No Long guide is short.</p>",
        ),
    ]);
    let guide = world.from("a.md#home", "hyperlink");
    let evidence: Vec<_> = guide.iter().map(|edge| edge.2.as_deref()).collect();
    let first = Some("Then read the guide, which is short.");
    assert_eq!(guide.len(), 2, "{guide:?}");
    assert!(
        evidence.contains(&first) && evidence.contains(&Some("- Or b.")),
        "{evidence:?}"
    );
    let back = "Or go back home!".to_owned();
    assert_eq!(
        world.only("b.html#one", "hyperlink"),
        (world.id("a.md#home"), back)
    );
    let mention = "No Long guide is short.".to_owned();
    assert_eq!(
        world.only("b.html#two", "mentions"),
        (world.id("b.html#one"), mention)
    );
    assert_eq!(
        world.from("b.html#two", "follows")[0].2,
        None,
        "no sentence says it"
    );

    let before = world.memory.edges(world.id("b.html#two")).unwrap();
    let World {
        store,
        docs,
        memory,
    } = world;
    drop(memory);
    let memory = open(store.path());
    assert_eq!(
        memory.edges(passage_id(docs.path(), "b.html#two")).unwrap(),
        before
    );
}

#[test]
fn a_changed_sentence_changes_the_evidence_and_an_unchanged_one_writes_nothing() {
    let text = |sentence: &str| format!("# A\n\n{sentence} [b](#b).\n\n# B\n\nText.\n");
    let world = World::of(&[("a.md", &text("See"))]);
    let generation = world.memory.generation();
    world.ingest();
    assert_eq!(world.memory.generation(), generation);
    fs::write(world.docs.path().join("a.md"), text("Avoid")).unwrap();
    world.ingest();
    let (_, evidence) = world.only("a.md#a", "hyperlink");
    assert_eq!(evidence, "Avoid b.");
}

#[test]
fn evidence_of_an_endless_sentence_is_the_words_around_the_link() {
    let text = format!(
        "# A\n\n{}[b](#b){}\n\n# B\n\nText.\n",
        "word ".repeat(100),
        " word".repeat(100)
    );
    let world = World::of(&[("a.md", &text)]);
    let (_, evidence) = world.only("a.md#a", "hyperlink");
    assert!(evidence.contains("word b word"), "{evidence}");
    let chars = evidence.chars().count();
    assert!(
        (EVIDENCE_CHARS_MAX - 10..=EVIDENCE_CHARS_MAX).contains(&chars),
        "{chars}"
    );
}

#[test]
fn records_mention_each_other_by_title() {
    let world = World::of_records(&[
        (
            "Teutberga",
            "Teutberga was a queen by marriage to Lothair II. She fled.",
        ),
        (
            "Lothair II",
            "Lothair II was king. His mother was Ermengarde of Tours.",
        ),
        (
            "Ermengarde of Tours",
            "Ermengarde died in 851. Her son married Teutberga.",
        ),
        ("El Tonto (film)", "A comedy film of 2024."),
        (
            "Charlie Day",
            "He is an actor. Charlie Day directed the film El Tonto.",
        ),
    ]);
    let named = |uri: &str| world.only(&format!("set.jsonl#{uri}"), "mentions");
    let at = |uri: &str| world.id(&format!("set.jsonl#{uri}"));
    let king = "Teutberga was a queen by marriage to Lothair II.".to_owned();
    assert_eq!(named("Teutberga"), (at("Lothair II"), king));
    let mother = "His mother was Ermengarde of Tours.".to_owned();
    assert_eq!(named("Lothair II"), (at("Ermengarde of Tours"), mother));
    let wife = "Her son married Teutberga.".to_owned();
    assert_eq!(named("Ermengarde of Tours"), (at("Teutberga"), wife));
    let film = "Charlie Day directed the film El Tonto.".to_owned();
    assert_eq!(named("Charlie Day"), (at("El Tonto (film)"), film));
}

#[test]
fn what_a_record_only_lists_is_proven_by_the_sentence_that_names_it() {
    let lines = [
        r#"{"id": "w", "title": "Blue Whale", "text": "It is big. It eats Small Krill.", "links": ["k", "f"]}"#,
        r#"{"id": "k", "title": "Small Krill", "text": "They are small."}"#,
        r#"{"id": "f", "title": "Red Fox", "text": "It barks."}"#,
    ];
    let world = World::of(&[("set.jsonl", &lines.join("\n"))]);
    let mut links = world.from("set.jsonl#w", "hyperlink");
    links.sort_by_key(|link| link.2.clone());
    let krill = (
        world.id("set.jsonl#k"),
        1.0,
        Some("It eats Small Krill.".to_owned()),
    );
    assert_eq!(links, [(world.id("set.jsonl#f"), 1.0, None), krill]);
}

#[test]
fn passages_that_share_a_rare_name_are_joined_by_it() {
    let world = World::of_records(&[
        ("One", "It rained. He was born in Upper Wessex."),
        ("Two", "She died in Upper Wessex. It snowed."),
        ("Three", "Call os.path.join twice."),
        ("Four", "Never call os.path.join."),
        ("Five", "Nothing is shared here, in 1999."),
        ("Six", "Nor here, in 1999."),
    ]);
    let joined = |uri: &str| world.only(&format!("set.jsonl#{uri}"), "entity");
    let at = |uri: &str| world.id(&format!("set.jsonl#{uri}"));
    let born = "He was born in Upper Wessex.".to_owned();
    assert_eq!(joined("One"), (at("Two"), born));
    assert_eq!(
        joined("Three"),
        (at("Four"), "Call os.path.join twice.".to_owned())
    );
    assert_eq!(world.memory.counts().edges, 2);
    let weight = world.from("set.jsonl#One", "entity")[0].1;
    assert!(weight > 0.0 && weight <= 1.0, "{weight}");
}

#[test]
fn the_parts_of_one_long_record_follow_each_other() {
    let long = "It is one of many sentences here. ".repeat(60);
    let world = World::of_records(&[("Long", &long), ("Short", "It is short.")]);
    assert!(world.memory.counts().nodes > 2);
    assert_eq!(world.memory.counts().edges, world.memory.counts().nodes - 2);
}

#[test]
fn a_document_is_cited_by_its_number() {
    let world = World::of(&[
        ("rfc2119.txt", "Key words for use in standards."),
        ("style.md", "# PEP 8 – Style Guide\n\nUse four spaces.\n"),
        (
            "paper.md",
            "# Attention Is All You Need\n\narXiv:1706.03762v7 [cs.CL] 2 Aug 2023\n",
        ),
        (
            "text.md",
            "# Text\n\nIt is long. MUST is meant as in RFC 2119. So it is.\n\n\
             # Style\n\nAs [here](https://peps.python.org/pep-0008/#x) it says.\n\n\
             # Heads\n\nMany heads help [2]. Nothing helps [3].\n\n\
             # References\n\n[1] RFC 8174.\n\n[2] Vaswani et al. Attention Is All You Need. 2017.\n\n[3] A book.\n",
        ),
        (
            "links.md",
            "# Links\n\nSee arxiv.org/abs/1706.03762 and again arXiv:1706.03762.\n",
        ),
    ]);
    let rfc = "MUST is meant as in RFC 2119.".to_owned();
    assert_eq!(
        world.only("text.md#text", "cites"),
        (world.id("rfc2119.txt"), rfc)
    );
    let pep = "As here it says.".to_owned();
    let style = world.id("style.md#pep-8--style-guide");
    assert_eq!(world.only("text.md#style", "cites"), (style, pep));
    let paper = world.id("paper.md#attention-is-all-you-need");
    assert_eq!(
        world.only("text.md#heads", "cites"),
        (paper, "Many heads help [2].".to_owned())
    );
    assert_eq!(world.only("text.md#references", "cites").0, paper);
    assert_eq!(world.only("links.md#links", "cites").0, paper);
    assert_eq!(
        world.from("paper.md#attention-is-all-you-need", "cites"),
        []
    );
}
