//! Durability, identity, stamps and vectors.

use weir_memory::{
    Batch, Counts, EVIDENCE_CHARS_MAX, Memory, MemoryConfig, NewEdge, NewNode, NodeType, OpenError,
    WriteError, Written,
};

use crate::{config, id, node, open, query};

fn nodes(nodes: Vec<NewNode>) -> Batch {
    Batch {
        nodes,
        ..Batch::default()
    }
}

fn edge(src: &str, dst: &str) -> Batch {
    Batch {
        edges: vec![NewEdge::new(id(src), id(dst), "cites")],
        ..Batch::default()
    }
}

fn stamp(memory: &Memory, name: &str) -> u64 {
    memory.node(id(name)).unwrap().unwrap().stamp
}

#[test]
fn what_was_written_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let with_vector = NewNode {
        vector: Some(vec![3.0, 0.0, 4.0, 0.0]),
        ..node("a", "blue whale")
    };
    let batch = Batch {
        nodes: vec![with_vector, node("b", "red fox")],
        edges: vec![NewEdge::new(id("a"), id("b"), "cites")],
    };
    let written = memory.write(&batch).unwrap();
    assert_eq!(
        written,
        Written {
            inserted: 2,
            edges: 1,
            generation: 1,
            ..Written::default()
        }
    );
    let (found, read) = (
        memory.search(&query("whale")).unwrap(),
        memory.node(id("a")).unwrap(),
    );
    drop(memory);

    let memory = open(dir.path());
    assert_eq!(memory.generation(), 1);
    assert_eq!(
        memory.counts(),
        Counts {
            nodes: 2,
            edges: 1,
            vectors: 1,
            pending: 1
        }
    );
    assert_eq!(memory.search(&query("whale")).unwrap(), found);
    assert_eq!(memory.node(id("a")).unwrap(), read);
    assert_eq!(memory.edges(id("b")).unwrap()[0].rel, "cites");
}

#[test]
fn writing_the_same_again_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let batch = Batch {
        nodes: vec![node("a", "one"), node("b", "two")],
        edges: vec![NewEdge::new(id("a"), id("b"), "cites")],
    };
    memory.write(&batch).unwrap();
    let again = memory.write(&batch).unwrap();
    assert_eq!(
        again,
        Written {
            unchanged: 2,
            generation: 1,
            ..Written::default()
        }
    );
}

#[test]
fn another_length_of_vectors_or_another_model_is_refused_with_both_named() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let longer = MemoryConfig {
        dimensions: 384,
        ..config()
    };
    let error = Memory::open(dir.path(), &longer).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Dimensions {
                stored: 4,
                wanted: 384,
                ..
            }
        ),
        "{error}"
    );
    let other = MemoryConfig {
        embedding_model: "bge".to_owned(),
        ..config()
    };
    let message = Memory::open(dir.path(), &other).unwrap_err().to_string();
    assert!(
        message.contains("test-model") && message.contains("bge"),
        "{message}"
    );
}

#[test]
fn a_memory_that_is_open_elsewhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _open = open(dir.path());
    let error = Memory::open(dir.path(), &config()).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
}

#[test]
fn a_file_that_is_no_memory_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("memory.redb");
    std::fs::write(&file, "not a database").unwrap();
    let error = Memory::open(dir.path(), &config()).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Damaged { .. } | OpenError::Directory { .. }
        ),
        "{error}"
    );
    assert_eq!(std::fs::read(&file).unwrap(), b"not a database");
}

#[test]
fn a_store_whose_making_was_cut_short_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    // What SIGKILL left between the first and the last write of redb's header: a file without its magic number.
    std::fs::write(dir.path().join("memory.redb.new"), vec![0; 1 << 16]).unwrap();
    let memory = open(dir.path());
    assert_eq!(memory.counts().nodes, 0);
    let left: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["memory.redb"]);
}

#[test]
fn a_bad_node_or_edge_refuses_the_whole_batch() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let short = NewNode {
        vector: Some(vec![1.0]),
        ..node("a", "text")
    };
    let zero = NewNode {
        vector: Some(vec![0.0; 4]),
        ..node("a", "text")
    };
    let nameless = NewNode {
        tenant: String::new(),
        ..node("a", "text")
    };
    let lost = Batch {
        nodes: vec![node("a", "text")],
        ..edge("a", "missing")
    };
    let weightless = Batch {
        nodes: vec![node("a", "text"), node("b", "text")],
        edges: vec![NewEdge {
            weight: f32::NAN,
            ..NewEdge::new(id("a"), id("b"), "cites")
        }],
    };
    let mut wordy = weightless.clone();
    wordy.edges[0].weight = 1.0;
    wordy.edges[0].metadata.evidence = Some("é".repeat(EVIDENCE_CHARS_MAX + 1));
    let refused = |batch: &Batch| memory.write(batch).unwrap_err();
    let good = node("good", "text");
    assert!(matches!(
        refused(&nodes(vec![good.clone(), short])),
        WriteError::Dimensions {
            expected: 4,
            found: 1,
            ..
        }
    ));
    assert!(matches!(
        refused(&nodes(vec![good.clone(), zero])),
        WriteError::NotAVector { .. }
    ));
    assert!(matches!(
        refused(&nodes(vec![good, nameless])),
        WriteError::NoTenant { .. }
    ));
    assert!(matches!(
        refused(&nodes(vec![node("a", " \n")])),
        WriteError::NoText { .. }
    ));
    assert!(
        matches!(refused(&lost), WriteError::UnknownNode { id: node, .. } if node == id("missing"))
    );
    assert!(matches!(refused(&weightless), WriteError::BadEdge { .. }));
    assert!(
        matches!(refused(&wordy), WriteError::LongEvidence { chars, .. } if chars == EVIDENCE_CHARS_MAX + 1)
    );
    assert_eq!(memory.counts(), Counts::default());
    assert_eq!(memory.generation(), 0);
}

#[test]
fn vectors_arrive_later_and_stay() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    memory
        .write(&nodes(vec![node("a", "one"), node("b", "two")]))
        .unwrap();
    let pending = memory.pending_vectors(10).unwrap();
    assert_eq!(pending.len(), 2);
    let vectors: Vec<_> = pending
        .into_iter()
        .map(|(id, _)| (id, vec![1.0, 0.0, 0.0, 0.0]))
        .collect();
    assert_eq!(memory.set_vectors(&vectors).unwrap(), 2);
    assert!(memory.pending_vectors(10).unwrap().is_empty());
    drop(memory);
    assert_eq!(open(dir.path()).counts().vectors, 2);
}

#[test]
fn a_vector_of_an_older_text_is_not_taken_for_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    memory.write(&nodes(vec![node("a", "old text")])).unwrap();
    let pending = memory.pending_vectors(10).unwrap();
    memory.write(&nodes(vec![node("a", "new text")])).unwrap();
    assert_eq!(
        memory.set_vectors(&[(pending[0].0, vec![1.0; 4])]).unwrap(),
        0
    );
    assert_eq!(memory.pending_vectors(10).unwrap()[0].1, "new text");
    assert_eq!(
        memory.set_vectors(&[(pending[0].0, vec![1.0; 4])]).unwrap(),
        1
    );
}

#[test]
fn a_changed_text_waits_for_a_new_vector_and_a_changed_tag_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let mut new = NewNode {
        vector: Some(vec![1.0; 4]),
        ..node("a", "text")
    };
    memory.write(&nodes(vec![new.clone()])).unwrap();
    new.vector = None;
    new.metadata.tags = vec!["tag".to_owned()];
    assert_eq!(memory.write(&nodes(vec![new.clone()])).unwrap().updated, 1);
    assert_eq!(memory.counts().pending, 0);
    new.text = "another text".to_owned();
    memory.write(&nodes(vec![new])).unwrap();
    assert_eq!(memory.counts().pending, 1);
    assert!(
        memory.search(&query("another")).unwrap().hits[0]
            .cosine
            .is_none()
    );
}

#[test]
fn a_stamp_grows_with_content_and_knowledge_edges_only() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let trace = NewNode {
        node_type: NodeType::Trace,
        ..node("trace", "an answer")
    };
    memory
        .write(&nodes(vec![node("a", "one"), node("b", "two"), trace]))
        .unwrap();
    let first = stamp(&memory, "a");
    memory.set_vectors(&[(id("a"), vec![1.0; 4])]).unwrap();
    memory.write(&edge("trace", "a")).unwrap();
    memory.delete(id("trace")).unwrap();
    assert_eq!(
        stamp(&memory, "a"),
        first,
        "vectors and traces are no change of knowledge"
    );

    memory.write(&edge("a", "b")).unwrap();
    let linked = stamp(&memory, "a");
    assert!(linked > first && stamp(&memory, "b") > first);
    memory
        .write(&nodes(vec![node("a", "one, revised")]))
        .unwrap();
    let revised = stamp(&memory, "a");
    assert!(revised > linked);
    memory.delete(id("b")).unwrap();
    assert!(
        stamp(&memory, "a") > revised,
        "a neighbour that is gone is a change"
    );
}

#[test]
fn a_deleted_node_is_gone_with_its_words_vector_and_edges() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let a = NewNode {
        vector: Some(vec![1.0; 4]),
        ..node("a", "unicorn")
    };
    memory.write(&nodes(vec![a, node("b", "horse")])).unwrap();
    memory.write(&edge("a", "b")).unwrap();
    assert!(memory.delete(id("a")).unwrap());
    assert!(!memory.delete(id("a")).unwrap());
    assert!(memory.search(&query("unicorn")).unwrap().hits.is_empty());
    assert!(memory.edges(id("b")).unwrap().is_empty());
    drop(memory);
    let memory = open(dir.path());
    assert!(memory.search(&query("unicorn")).unwrap().hits.is_empty());
    assert_eq!(
        memory.counts(),
        Counts {
            nodes: 1,
            pending: 1,
            ..Counts::default()
        }
    );
    assert!(memory.edges(id("b")).unwrap().is_empty());
}

fn bytes(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.metadata().unwrap() {
            found if found.is_dir() => bytes(&entry.path()),
            found => found.len(),
        })
        .sum()
}

#[test]
fn what_comes_and_goes_again_and_again_takes_no_more_room() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let turn = |round: usize| {
        let names: Vec<String> = (0..20).map(|each| format!("{round} {each}")).collect();
        let passage = |name: &String| NewNode {
            vector: Some(vec![1.0; 4]),
            ..node(name, &format!("passage {name} ").repeat(200))
        };
        memory
            .write(&nodes(names.iter().map(passage).collect()))
            .unwrap();
        for name in &names {
            assert!(memory.delete(id(name)).unwrap());
        }
        bytes(dir.path())
    };
    let sizes: Vec<u64> = (0..40).map(turn).collect();
    let (early, late) = (sizes[9], sizes[39]);
    assert!(
        late <= 2 * early,
        "{early} bytes became {late} with nothing in them"
    );
    assert_eq!(memory.counts(), Counts::default());
}
