//! A memory that is written out and read in again is the same memory.

use std::io::BufReader;
use std::ops::ControlFlow;

use weir_memory::ingest::{IngestOptions, ingest};
use weir_memory::upkeep::{ImportError, ImportOptions, Imported, Progress};
use weir_memory::{
    Batch, EdgeMetadata, Memory, MemoryConfig, Metadata, NewEdge, NewNode, NodeType,
};

use crate::{config, id, node, open, query};

fn exported(memory: &Memory) -> String {
    let mut bytes = Vec::new();
    memory.export(&mut bytes, &mut |_| {}).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn import(memory: &Memory, text: &str) -> Result<Imported, ImportError> {
    let go_on = &mut |_: Progress| ControlFlow::Continue(());
    memory.import(
        &mut BufReader::new(text.as_bytes()),
        ImportOptions::default(),
        go_on,
    )
}

/// Everything but the first line, which numbers the writes of one store.
fn rows(export: &str) -> Vec<&str> {
    export.lines().skip(1).collect()
}

/// Nodes with and without vectors, all kinds of metadata, edges, and a document that was read in.
fn filled(memory: &Memory, folder: &std::path::Path) {
    let docs = folder.join("docs");
    std::fs::create_dir_all(&docs).unwrap();
    std::fs::write(
        docs.join("weir.md"),
        "# Weirs\n\nA low wall.\n\n# Gates\n\nA gate is lifted.\n",
    )
    .unwrap();
    ingest(memory, &[docs], &IngestOptions::default(), &mut |_| {}).unwrap();
    let rich = NewNode {
        node_type: NodeType::Memory,
        vector: Some(vec![0.1, 0.2, -0.3, 0.7]),
        metadata: Metadata {
            timestamp: Some(1_700_000_000_000),
            tags: vec!["a \"quoted\" tag".to_owned()],
            subject: Some("Zoë".to_owned()),
            score: Some(0.1),
            ..Metadata::default()
        },
        ..node("rich", "a heron\nfishes at dawn \u{1f426}")
    };
    let cites = NewEdge {
        weight: 0.3,
        metadata: EdgeMetadata {
            confidence: Some(0.7),
            ..EdgeMetadata::default()
        },
        ..NewEdge::new(id("rich"), id("plain"), "cites")
    };
    let batch = Batch {
        nodes: vec![rich, node("plain", "a pond")],
        edges: vec![cites],
    };
    memory.write(&batch).unwrap();
}

#[test]
fn what_is_written_out_and_read_in_is_the_same_memory() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let memory = open(from.path());
    filled(&memory, from.path());
    let export = exported(&memory);
    let copy = open(to.path());
    let imported = import(&copy, &export).unwrap();
    assert_eq!(
        (imported.inserted, imported.documents),
        (4, 1),
        "{imported:?}"
    );
    assert_eq!(rows(&exported(&copy)), rows(&export));
    assert_eq!(copy.counts(), memory.counts());
    let asked = weir_memory::Query {
        vector: Some(vec![0.1, 0.2, -0.3, 0.6]),
        ..query("heron")
    };
    assert_eq!(copy.search(&asked).unwrap(), memory.search(&asked).unwrap());

    // The documents are known too: reading them in once more changes nothing.
    let docs = from.path().join("docs");
    let generation = copy.generation();
    ingest(&copy, &[docs], &IngestOptions::default(), &mut |_| {}).unwrap();
    assert_eq!(copy.generation(), generation);

    drop(copy);
    assert_eq!(
        rows(&exported(&open(to.path()))),
        rows(&export),
        "after a restart"
    );
}

#[test]
fn reading_in_again_changes_nothing_and_an_import_that_was_ended_is_continued() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let memory = open(from.path());
    let nodes = (0..2500).map(|at| NewNode {
        vector: Some(vec![1.0 + at as f32, 0.3, 0.7, -0.2]),
        ..node(&at.to_string(), "a weir")
    });
    memory
        .write(&Batch {
            nodes: nodes.collect(),
            edges: Vec::new(),
        })
        .unwrap();
    let export = exported(&memory);
    let copy = open(to.path());
    let mut input = BufReader::new(export.as_bytes());
    let ended = copy.import(&mut input, ImportOptions::default(), &mut |at| {
        assert!(at.done > 0 && at.total == 2500, "{at:?}");
        ControlFlow::Break(())
    });
    let Err(ImportError::Stopped { done }) = ended else {
        panic!("{ended:?}");
    };
    assert_eq!(copy.counts().nodes as u64, done, "what was told is durable");
    let rest = import(&copy, &export).unwrap();
    assert_eq!(
        (rest.inserted, rest.unchanged as u64),
        (2500 - done as usize, done)
    );
    let again = import(&copy, &export).unwrap();
    assert_eq!(
        (again.inserted, again.updated, again.unchanged),
        (0, 0, 2500)
    );
    assert_eq!(
        again.generation, rest.generation,
        "vectors are taken bit for bit"
    );
}

#[test]
fn vectors_of_another_model_are_refused_and_can_be_left_out() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let memory = open(from.path());
    filled(&memory, from.path());
    let export = exported(&memory);
    let other = MemoryConfig {
        dimensions: 3,
        embedding_model: "bge".to_owned(),
    };
    let copy = Memory::open(to.path(), &other).unwrap();
    let message = import(&copy, &export).unwrap_err().to_string();
    for part in ["test-model with 4", "bge with 3", "--without-vectors"] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(copy.counts().nodes, 0);
    let options = ImportOptions {
        without_vectors: true,
    };
    let go_on = &mut |_: Progress| ControlFlow::Continue(());
    let imported = copy
        .import(&mut BufReader::new(export.as_bytes()), options, go_on)
        .unwrap();
    assert_eq!((imported.inserted, imported.pending), (4, 4));
}

#[test]
fn a_line_that_cannot_be_taken_is_named_and_those_before_it_are_kept() {
    let from = tempfile::tempdir().unwrap();
    let memory = open(from.path());
    let nodes = vec![node("a", "one"), node("b", "two"), node("c", "three")];
    let edges = vec![NewEdge::new(id("a"), id("b"), "near")];
    memory.write(&Batch { nodes, edges }).unwrap();
    let export = exported(&memory);
    let lines: Vec<&str> = export.lines().collect();
    let stranger = lines[4].replace(&id("b").to_string(), &id("nobody").to_string());
    let (node, edge) = (lines[2], lines[4]);
    let (text, metadata) = (
        node.find("\"text\"").unwrap(),
        node.find(",\"metadata\"").unwrap(),
    );
    let empty = format!("{}\"text\":\"\"{}", &node[..text], &node[metadata..]);
    let vector =
        |vector: &str| node.replace("\"metadata\"", &format!("\"vector\":{vector},\"metadata\""));
    let cases = [
        ("{not json".to_owned(), "key must be a string"),
        ("{\"node\": {\"id\": \"x\"}}".to_owned(), "UUID"),
        ("{\"verse\": {}}".to_owned(), "unknown variant"),
        (node.replace("\"tenant\"", "\"tenent\""), "tenent"),
        (empty, "no text"),
        (vector("[1.0]"), "1 dimensions"),
        (vector("\"AAA=\""), "2 bytes"),
        (
            edge.replace("\"weight\":1.0", "\"weight\":-1.0"),
            "weight -1",
        ),
        (stranger.clone(), "neither in the memory"),
    ];
    for (bad, why) in cases {
        let to = tempfile::tempdir().unwrap();
        let copy = open(to.path());
        let text = [lines[0], lines[1], &bad, lines[2], lines[3], lines[4]].join("\n");
        let error = import(&copy, &text).unwrap_err();
        assert!(
            matches!(error, ImportError::Line { line: 3, .. }),
            "{bad}: {error}"
        );
        assert!(error.to_string().contains(why), "{bad}: {error}");
        let kept = copy.counts();
        // A batch is written nodes first, so that nodes behind an edge that has no end are there as well.
        let nodes = if bad == stranger { 3 } else { 1 };
        assert_eq!((kept.nodes, kept.edges), (nodes, 0), "{bad}");
        let mended = import(&copy, &export).unwrap();
        assert_eq!((mended.inserted + mended.unchanged, mended.edges), (3, 1));
    }
}

#[test]
fn a_file_that_is_no_export_or_was_cut_short_says_so() {
    let from = tempfile::tempdir().unwrap();
    let memory = open(from.path());
    memory
        .write(&Batch {
            nodes: vec![node("a", "one"), node("b", "two")],
            edges: Vec::new(),
        })
        .unwrap();
    let export = exported(&memory);
    let lines: Vec<&str> = export.lines().collect();
    let cases = [
        (String::new(), "the file is empty"),
        ("# Weirs\n\nA low wall.\n".to_owned(), "weir memory ingest"),
        (lines[1..].join("\n"), "line of another kind"),
        (export.replace("\"format\":1", "\"format\":2"), "format 2"),
        (lines[..2].join("\n"), "after 1 of 2 lines"),
    ];
    for (text, why) in cases {
        let to = tempfile::tempdir().unwrap();
        let message = import(&open(to.path()), &text).unwrap_err().to_string();
        assert!(message.contains(why), "{text}: {message}");
    }
    let to = tempfile::tempdir().unwrap();
    let numbers = lines[1].replace("\"metadata\"", "\"vector\":[3,0,4,0],\"metadata\"");
    let copy = open(to.path());
    import(&copy, &[lines[0], &numbers, "", lines[2]].join("\r\n")).unwrap();
    assert_eq!(copy.counts().vectors, 1, "numbers are a vector too");
    assert_eq!(config().dimensions, 4);
}
