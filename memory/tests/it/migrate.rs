//! A memory moves to another embedding: vectors are made beside those in use, every write counts for both, and the way back
//! is open until the former vectors are let go.

use std::path::Path;

use weir_memory::{
    Batch, Embedding, Memory, MemoryConfig, MoveError, NewNode, NodeId, OpenError, Query,
};

use crate::{DIMENSIONS, id, node, open, query};

const WIDE: usize = 6;

fn wide() -> Embedding {
    Embedding {
        model: "wide-model".to_owned(),
        dimensions: WIDE,
        revision: Some("revision of the wide model".to_owned()),
    }
}

fn open_wide(folder: &Path) -> Result<Memory, OpenError> {
    let config = MemoryConfig {
        dimensions: WIDE,
        embedding_model: "wide-model".to_owned(),
    };
    Memory::open(folder, &config)
}

fn with_vector(name: &str, at: usize) -> NewNode {
    let mut vector = vec![0.0; DIMENSIONS];
    vector[at % DIMENSIONS] = 1.0;
    NewNode {
        vector: Some(vector),
        ..node(name, name)
    }
}

fn write(memory: &Memory, nodes: Vec<NewNode>) {
    let edges = Vec::new();
    memory.write(&Batch { nodes, edges }).unwrap();
}

/// A vector of the wide model: it follows from the text alone.
fn embed(text: &str) -> Vec<f32> {
    let mut vector = vec![0.1; WIDE];
    vector[text.len() % WIDE] = 1.0;
    vector
}

/// Makes up to `count` vectors of the shadow.
fn fill(memory: &Memory, count: usize) -> usize {
    let waiting = memory.shadow_pending(count).unwrap().into_iter();
    let made: Vec<_> = waiting
        .map(|(id, text, generation)| (id, generation, embed(&text)))
        .collect();
    memory.set_shadow_vectors(&made).unwrap()
}

fn nearest(memory: &Memory, vector: Vec<f32>) -> Vec<NodeId> {
    let query = Query {
        vector: Some(vector),
        ..query("")
    };
    let found = memory.search(&query).unwrap();
    found.hits.iter().map(|hit| hit.id).collect()
}

fn pending(memory: &Memory) -> (u64, u64) {
    let shadow = memory.shadow().unwrap().unwrap();
    (shadow.vectors, shadow.pending)
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story from beginning to end")]
fn vectors_are_made_beside_those_in_use_through_restarts_and_writes_and_exchanged_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    let names = ["a", "bb", "ccc", "dddd", "eeeee"];
    let nodes = names
        .iter()
        .enumerate()
        .map(|(at, name)| with_vector(name, at));
    write(&memory, nodes.collect());
    let generation = memory.generation();
    memory.begin_shadow(&wide()).unwrap();
    assert_eq!(pending(&memory), (0, 5));
    assert_eq!(fill(&memory, 2), 2);
    assert_eq!(
        memory.generation(),
        generation,
        "for answers nothing has changed"
    );
    drop(memory);
    // Broken off: the former vectors serve, and take writes, of which the shadow hears.
    assert!(matches!(
        open_wide(folder.path()),
        Err(OpenError::Dimensions { .. })
    ));
    let memory = open(folder.path());
    assert_eq!(pending(&memory), (2, 3));
    let waiting = memory.shadow_pending(10).unwrap();
    let done = names.iter().map(|name| id(name));
    let done: Vec<NodeId> = done
        .filter(|id| waiting.iter().all(|(other, ..)| other != id))
        .collect();
    let name = |of: NodeId| *names.iter().find(|name| id(name) == of).unwrap();
    let changed = NewNode {
        text: "another text".to_owned(),
        ..with_vector(name(done[0]), 0)
    };
    write(&memory, vec![changed, with_vector("new", 1)]);
    memory.delete(done[1]).unwrap();
    assert_eq!(pending(&memory), (0, 5), "changed, removed, added");
    // A vector of a text that is not there any more is not taken.
    let (changed, text, _) = memory
        .shadow_pending(10)
        .unwrap()
        .into_iter()
        .find(|(id, ..)| *id == done[0])
        .unwrap();
    assert_eq!(
        memory
            .set_shadow_vectors(&[(changed, 1, embed(&text))])
            .unwrap(),
        0
    );
    assert_eq!(
        memory.begin_shadow(&wide()).unwrap().pending,
        5,
        "it goes on"
    );
    let error = memory.clone().swap_embedding(false).unwrap_err();
    assert!(matches!(error, MoveError::Incomplete(5)), "{error}");
    while fill(&memory, 2) > 0 {}
    let before = nearest(&memory, vec![0.0, 1.0, 0.0, 0.0]);
    memory.swap_embedding(false).unwrap();
    assert!(matches!(
        Memory::open(folder.path(), &crate::config()),
        Err(OpenError::Dimensions { .. })
    ));
    let memory = open_wide(folder.path()).unwrap();
    assert_eq!((memory.counts().vectors, memory.counts().pending), (5, 0));
    assert_eq!(memory.embedding().unwrap(), wide());
    assert_eq!(nearest(&memory, embed("another text"))[0], done[0]);
    let diagnosis = memory.doctor(false).unwrap();
    assert!(!diagnosis.is_wrong(), "{diagnosis:?}");
    // And back: what was written since waits for its vector.
    write(&memory, vec![node("late", "late")]);
    let shadow = memory.shadow().unwrap().unwrap();
    assert!(shadow.was_in_use);
    assert_eq!((shadow.vectors, shadow.pending), (5, 1));
    memory.swap_embedding(true).unwrap();
    let memory = open(folder.path());
    assert_eq!((memory.counts().vectors, memory.counts().pending), (5, 1));
    let found = nearest(&memory, vec![0.0, 1.0, 0.0, 0.0]);
    assert_eq!(found[0], before[0]);
    assert!(!memory.shadow().unwrap().unwrap().was_in_use);
    assert!(memory.forget_shadow().unwrap());
    assert!(!memory.forget_shadow().unwrap());
    write(&memory, vec![node("later", "later")]);
    drop(memory);
    let memory = open(folder.path());
    assert_eq!(memory.shadow().unwrap(), None);
}

#[test]
fn one_other_embedding_has_room_and_the_same_one_is_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    write(&memory, vec![with_vector("a", 0)]);
    let same = memory.embedding().unwrap();
    assert!(matches!(
        memory.begin_shadow(&same),
        Err(MoveError::Same(_))
    ));
    memory.begin_shadow(&wide()).unwrap();
    let third = Embedding {
        model: "third".to_owned(),
        ..wide()
    };
    let error = memory.begin_shadow(&third).unwrap_err();
    assert!(error.to_string().contains("--forget"), "{error}");
    let short = memory.set_shadow_vectors(&[(id("a"), 1, vec![1.0; DIMENSIONS])]);
    assert!(
        short.unwrap_err().to_string().contains("write"),
        "of the length in use"
    );
}

#[test]
fn erasing_a_subject_takes_both_of_its_vectors() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    let mut jane = with_vector("jane", 0);
    jane.metadata.subject = Some("jane".to_owned());
    write(&memory, vec![jane, with_vector("bob", 1)]);
    memory.begin_shadow(&wide()).unwrap();
    assert_eq!(fill(&memory, 10), 2);
    memory.erase("jane", None).unwrap();
    assert_eq!(pending(&memory), (1, 0));
}

#[test]
fn vectors_of_other_files_of_the_same_model_are_refused_and_migrate_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    memory.embedded_by("first").unwrap();
    memory.embedded_by("second").unwrap();
    write(&memory, vec![with_vector("a", 0)]);
    memory.embedded_by("second").unwrap();
    drop(memory);
    let memory = open(folder.path());
    let error = memory.embedded_by("third").unwrap_err();
    let said = error.to_string();
    for word in ["second", "third", "test-model", "weir memory migrate"] {
        assert!(said.contains(word), "{said}");
    }
    assert_eq!(
        memory.embedding().unwrap().revision.as_deref(),
        Some("second")
    );
    drop(memory);
    let said = open_wide(folder.path()).unwrap_err().to_string();
    assert!(
        said.contains("weir memory migrate") && said.contains('6'),
        "{said}"
    );
}
