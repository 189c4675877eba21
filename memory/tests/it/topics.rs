//! Passages of one topic find each other when their vectors arrive.

use weir_memory::{Batch, Memory, NewNode, NodeId, NodeType};

use crate::{id, node, open};

/// A unit vector whose cosine to `[1, 0, 0, 0]` is `cosine`, leaning towards the axis `lean`.
fn at(cosine: f32, lean: usize) -> Vec<f32> {
    let mut vector = vec![0.0; 4];
    vector[0] = cosine;
    vector[lean] = (1.0 - cosine * cosine).sqrt();
    vector
}

fn write(memory: &Memory, names: &[&str]) {
    let nodes = names.iter().map(|name| node(name, "text")).collect();
    let batch = Batch {
        nodes,
        edges: Vec::new(),
    };
    memory.write(&batch).unwrap();
}

/// Sets vectors and joins one passage at a time, as slowly as can be.
fn set(memory: &Memory, vectors: &[(&str, Vec<f32>)]) {
    let vectors: Vec<_> = vectors
        .iter()
        .map(|(name, vector)| (id(name), vector.clone()))
        .collect();
    memory.set_vectors(&vectors).unwrap();
    while memory.join_topics(1).unwrap() > 0 {}
}

/// What a passage is joined with, by id.
fn joined(memory: &Memory, name: &str) -> Vec<NodeId> {
    let edges = memory.edges(id(name)).unwrap().into_iter();
    let topics = edges.filter(|edge| edge.rel == "same_topic");
    let mut ends: Vec<NodeId> = topics.flat_map(|edge| [edge.src, edge.dst]).collect();
    ends.retain(|end| *end != id(name));
    ends.sort_unstable();
    ends
}

#[test]
fn passages_of_one_topic_are_joined_once_their_vectors_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    write(&memory, &["a", "b", "far"]);
    set(&memory, &[("a", at(1.0, 1)), ("far", at(0.0, 1))]);
    assert_eq!(memory.counts().edges, 0);
    set(&memory, &[("b", at(0.9, 2))]);
    assert_eq!(
        (joined(&memory, "a"), joined(&memory, "far")),
        (vec![id("b")], vec![])
    );
    let edge = memory.edges(id("a")).unwrap().remove(0);
    assert!(
        (edge.weight - 0.9).abs() < 1e-6 && edge.metadata.evidence.is_none(),
        "{edge:?}"
    );
    let generation = memory.generation();
    assert_eq!(memory.join_topics(10).unwrap(), 0);
    assert_eq!(memory.generation(), generation);

    set(&memory, &[("b", at(0.1, 2))]);
    assert_eq!(
        joined(&memory, "a"),
        [],
        "what moved away is of another topic"
    );
}

#[test]
fn nearest_has_to_be_mutual() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let close = ["a", "b", "c", "d", "e"];
    write(&memory, &close);
    write(&memory, &["beside"]);
    let vectors: Vec<_> = close.iter().map(|name| (*name, at(1.0, 1))).collect();
    set(&memory, &vectors);
    set(&memory, &[("beside", at(0.8, 2))]);
    assert_eq!(
        joined(&memory, "beside"),
        [],
        "each of the others has four that are nearer"
    );
    assert_eq!(joined(&memory, "a").len(), 4);
}

#[test]
fn a_nearer_passage_pushes_out_the_farthest() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let names: Vec<String> = (0..12).map(|at| format!("n{at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    write(&memory, &names);
    // Each is nearer to the first than all before it.
    for (place, name) in names.iter().enumerate() {
        let cosine = if place == 0 {
            1.0
        } else {
            0.8 + 0.015 * place as f32
        };
        set(&memory, &[(name, at(cosine, 1 + place % 3))]);
        for name in &names {
            assert!(joined(&memory, name).len() <= 4, "{name}");
        }
    }
    let mut nearest: Vec<NodeId> = names[8..].iter().map(|name| id(name)).collect();
    nearest.sort_unstable();
    assert!(
        joined(&memory, "n0")
            .iter()
            .all(|other| nearest.contains(other))
    );
    assert!(!joined(&memory, "n0").is_empty());
}

#[test]
fn only_documents_that_are_recalled_together_are_joined() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let with_vector = |node: NewNode| NewNode {
        vector: Some(at(1.0, 1)),
        ..node
    };
    let other = NewNode {
        tenant: "globex".to_owned(),
        ..node("other", "text")
    };
    let said = NewNode {
        node_type: NodeType::Memory,
        ..node("said", "text")
    };
    let nodes = vec![
        with_vector(node("a", "text")),
        with_vector(other),
        with_vector(said),
    ];
    let edges = Vec::new();
    memory.write(&Batch { nodes, edges }).unwrap();
    assert_eq!(
        memory.join_topics(10).unwrap(),
        2,
        "the two documents were looked at"
    );
    assert_eq!(memory.counts().edges, 0);
}

#[test]
fn what_was_not_joined_before_a_restart_is_joined_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    write(&memory, &["a", "b", "gone"]);
    let vectors = ["a", "b", "gone"].map(|name| (id(name), at(1.0, 1)));
    memory.set_vectors(&vectors).unwrap();
    memory.delete(id("gone")).unwrap();
    drop(memory);
    let memory = open(dir.path());
    assert_eq!(memory.join_topics(10).unwrap(), 2);
    assert_eq!(joined(&memory, "a"), [id("b")]);
}
