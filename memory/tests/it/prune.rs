//! Pruning keeps the best edges of each node, and lets go of what is light, old or over its time.

use std::time::Duration;

use weir_memory::upkeep::{PrunePolicy, Pruned, SLICE_ROWS};
use weir_memory::{Batch, EdgeMetadata, Memory, Metadata, NewEdge, NewNode, NodeId, NodeType};

use crate::{id, node, open};

const DAY_MS: u64 = 86_400_000;
const NOW: u64 = 1_800_000_000_000;

fn edge(src: &str, dst: &str, weight: f32, days: u64, confidence: Option<f32>) -> NewEdge {
    NewEdge {
        weight,
        metadata: EdgeMetadata {
            timestamp: Some(NOW - days * DAY_MS),
            confidence,
            ..EdgeMetadata::default()
        },
        ..NewEdge::new(id(src), id(dst), "near")
    }
}

fn written(memory: &Memory, names: &[&str], edges: Vec<NewEdge>) {
    let nodes = names.iter().map(|name| node(name, name)).collect();
    memory.write(&Batch { nodes, edges }).unwrap();
}

/// A whole pass; what went and in how many slices.
fn prune(memory: &Memory, policy: PrunePolicy) -> (Pruned, usize) {
    let mut pruning = memory.prune(policy, NOW);
    let mut slices = 1;
    while !pruning.step().unwrap() {
        slices += 1;
    }
    (pruning.pruned(), slices)
}

fn ends(memory: &Memory, name: &str) -> Vec<NodeId> {
    let edges = memory.edges(id(name)).unwrap();
    let mut ends: Vec<NodeId> = edges.iter().map(|edge| edge.dst).collect();
    ends.sort_unstable();
    ends
}

#[test]
fn a_node_keeps_its_best_edges_by_weight_freshness_and_confidence() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    let edges = vec![
        edge("hub", "heavy", 0.9, 0, None),
        edge("hub", "fresh", 0.5, 0, None),
        edge("hub", "old", 0.6, 360, None),
        edge("hub", "doubted", 0.9, 0, Some(0.1)),
    ];
    written(&memory, &["hub", "heavy", "fresh", "old", "doubted"], edges);
    let policy = PrunePolicy {
        degree_max: 2,
        ..PrunePolicy::default()
    };
    let (pruned, _) = prune(&memory, policy);
    let mut best = vec![id("heavy"), id("fresh")];
    best.sort_unstable();
    assert_eq!((pruned.beyond_budget, ends(&memory, "hub")), (2, best));
    let generation = memory.generation();
    let (again, _) = prune(&memory, policy);
    assert_eq!(
        again,
        Pruned {
            generation,
            ..Pruned::default()
        }
    );
}

#[test]
fn light_and_old_edges_go_and_without_limits_only_the_budget_counts() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    let edges = vec![
        edge("a", "b", 0.04, 0, None),
        edge("a", "c", 0.9, 200, None),
        edge("a", "d", 0.9, 100, None),
    ];
    written(&memory, &["a", "b", "c", "d"], edges);
    let (pruned, _) = prune(&memory, PrunePolicy::default());
    assert_eq!((pruned.light, pruned.old, pruned.beyond_budget), (0, 0, 0));
    let policy = PrunePolicy {
        min_weight: 0.05,
        max_age: Some(Duration::from_secs(180 * 86_400)),
        ..PrunePolicy::default()
    };
    let (pruned, _) = prune(&memory, policy);
    assert_eq!((pruned.light, pruned.old), (1, 1));
    assert_eq!(ends(&memory, "a"), [id("d")]);
}

#[test]
fn old_traces_go_with_their_edges_and_knowledge_of_that_age_stays() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    let aged = |name: &str, node_type, days: u64| NewNode {
        node_type,
        metadata: Metadata {
            timestamp: Some(NOW - days * DAY_MS),
            ..Metadata::default()
        },
        ..node(name, name)
    };
    let nodes = vec![
        aged("doc", NodeType::Doc, 400),
        aged("old", NodeType::Trace, 31),
        aged("new", NodeType::Trace, 29),
    ];
    let edges = vec![
        edge("old", "doc", 1.0, 31, None),
        edge("new", "doc", 1.0, 29, None),
    ];
    memory.write(&Batch { nodes, edges }).unwrap();
    let policy = PrunePolicy {
        trace_age: Some(Duration::from_secs(30 * 86_400)),
        ..PrunePolicy::default()
    };
    let (pruned, _) = prune(&memory, policy);
    assert_eq!(pruned.traces, 1);
    let there = ["doc", "old", "new"].map(|name| memory.node(id(name)).unwrap().is_some());
    assert_eq!(there, [true, false, true]);
    assert_eq!(memory.counts().edges, 1);
}

#[test]
fn a_large_graph_is_pruned_in_slices_between_which_others_write() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    let names: Vec<String> = (0..100).map(|at| format!("n{at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut edges = Vec::new();
    for (at, src) in names.iter().enumerate() {
        edges.extend(
            names[at + 1..]
                .iter()
                .map(|dst| edge(src, dst, 0.5, 1, None)),
        );
    }
    written(&memory, &names, edges);
    let policy = PrunePolicy {
        min_weight: 0.1,
        ..PrunePolicy::default()
    };
    let mut pruning = memory.prune(policy, NOW);
    let mut slices = 1;
    while !pruning.step().unwrap() {
        slices += 1;
        memory
            .write(&Batch {
                nodes: vec![node(&format!("late {slices}"), "late")],
                edges: Vec::new(),
            })
            .unwrap();
    }
    assert!(slices > 4, "{slices}");
    let stats = memory.stats().unwrap();
    assert!(stats.degrees.max <= 64, "{stats:?}");
    assert!(
        stats.degrees.median > 50,
        "no more than the budget asks for goes: {stats:?}"
    );
}

/// The most rows that one slice of a whole pass read, and removed.
fn greatest_slice(memory: &Memory, policy: PrunePolicy) -> (usize, usize, Pruned) {
    let mut pruning = memory.prune(policy, NOW);
    let (mut read, mut removed) = (0, 0);
    loop {
        let over = pruning.step().unwrap();
        read = read.max(pruning.slice().read);
        removed = removed.max(pruning.slice().removed);
        if over {
            return (read, removed, pruning.pruned());
        }
    }
}

#[test]
fn a_hub_of_a_hundred_thousand_edges_is_relieved_in_slices_of_bounded_rows() {
    const EDGES: usize = 100_000;
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    let names: Vec<String> = (0..EDGES).map(|at| format!("n{at}")).collect();
    written(&memory, &["hub"], Vec::new());
    for (part, names) in names.chunks(20_000).enumerate() {
        let nodes = names.iter().map(|name| node(name, "x")).collect();
        let edges = names.iter().enumerate().map(|(at, name)| {
            // The heaviest ones are those of the first part.
            edge("hub", name, 1.0 / (1 + part * 20_000 + at) as f32, 1, None)
        });
        let edges = edges.collect();
        memory.write(&Batch { nodes, edges }).unwrap();
    }
    let (read, removed, pruned) = greatest_slice(&memory, PrunePolicy::default());
    assert!(
        read <= SLICE_ROWS && removed <= SLICE_ROWS,
        "{read} {removed}"
    );
    assert_eq!(pruned.beyond_budget, EDGES - 64);
    let mut best: Vec<NodeId> = names[..64].iter().map(|name| id(name)).collect();
    best.sort_unstable();
    assert_eq!(ends(&memory, "hub"), best);
    // As well as a pass over light edges, and of a trace with more edges than a slice removes.
    let trace = NewNode {
        node_type: NodeType::Trace,
        metadata: Metadata {
            timestamp: Some(NOW - 31 * DAY_MS),
            ..Metadata::default()
        },
        ..node("trace", "asked")
    };
    let used = names[..5000]
        .iter()
        .map(|name| edge("trace", name, 1.0, 31, None));
    let batch = Batch {
        nodes: vec![trace],
        edges: used.collect(),
    };
    memory.write(&batch).unwrap();
    let policy = PrunePolicy {
        min_weight: 0.02,
        trace_age: Some(Duration::from_secs(30 * 86_400)),
        ..PrunePolicy::default()
    };
    let (read, removed, pruned) = greatest_slice(&memory, policy);
    assert!(
        read <= SLICE_ROWS && removed <= SLICE_ROWS,
        "{read} {removed}"
    );
    assert_eq!((pruned.traces, pruned.light), (1, 14));
    assert_eq!(memory.counts().edges, 50);
}
