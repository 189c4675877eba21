//! A memory with a graph over its vectors answers as one that compares all of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use weir_memory::{
    Batch, Effort, Filter, GraphCounts, HnswParameters, Memory, MemoryConfig, NewNode, NodeId,
    Query, SnapshotError,
};

use crate::id;

const DIMENSIONS: usize = 16;
const TENANTS: [&str; 2] = ["acme", "other"];
const SNAPSHOT: &str = "memory.hnsw";

/// Small enough for a graph over a few thousand vectors.
const PARAMETERS: HnswParameters = HnswParameters {
    links: 16,
    ef_construction: 100,
    ef_search: 64,
    exact_max: 200,
};

fn open_with(dir: &Path, parameters: HnswParameters) -> Memory {
    let config = MemoryConfig {
        dimensions: DIMENSIONS,
        embedding_model: "test-model".to_owned(),
    };
    Memory::open_with(dir, &config, parameters).unwrap()
}

fn open(dir: &Path) -> Memory {
    open_with(dir, PARAMETERS)
}

/// Compares all, whatever their number.
fn open_exact(dir: &Path) -> Memory {
    let exact_max = usize::MAX;
    open_with(
        dir,
        HnswParameters {
            exact_max,
            ..PARAMETERS
        },
    )
}

/// Values that look random and depend on `number` alone.
fn vector(number: usize) -> Vec<f32> {
    let mut state = number as u64 + 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    next();
    (0..DIMENSIONS).map(|_| next()).collect()
}

fn name(number: usize) -> NodeId {
    id(&format!("v{number}"))
}

/// The node `number` with the vector and words of `content`; one in twenty belongs to another tenant.
fn node(number: usize, content: usize) -> NewNode {
    NewNode {
        id: name(number),
        vector: Some(vector(content)),
        ..NewNode::new(
            TENANTS[usize::from(number.is_multiple_of(20))],
            format!("passage {content} of word{}", content % 50),
        )
    }
}

fn write(memory: &Memory, nodes: Vec<NewNode>) {
    memory
        .write(&Batch {
            nodes,
            ..Batch::default()
        })
        .unwrap();
}

fn of(tenant: &str) -> Filter {
    Filter {
        tenant: tenant.to_owned(),
        ..Filter::default()
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The share of the ten nearest that a walk finds, over some queries.
fn recall(memory: &Memory, filter: Option<&Filter>) -> f64 {
    let mut hits = 0;
    let queries = 100;
    for query in 0..queries {
        let query = vector(1_000_000 + query);
        let exact = memory.nearest(&query, filter, 10, Effort::Exact).unwrap();
        let found = memory
            .nearest(&query, filter, 10, Effort::Walk(64))
            .unwrap();
        assert_eq!(found.len(), exact.len());
        hits += exact.iter().filter(|hit| found.contains(hit)).count();
    }
    hits as f64 / (10 * queries) as f64
}

fn counts(linked: usize, waiting: usize) -> Option<GraphCounts> {
    Some(GraphCounts { linked, waiting })
}

#[test]
fn a_search_through_the_graph_finds_what_comparing_all_finds() {
    let (walked, exact) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (walked, exact) = (open(walked.path()), open_exact(exact.path()));
    for memory in [&walked, &exact] {
        write(
            memory,
            (0..5_000).map(|number| node(number, number)).collect(),
        );
        memory.settle();
    }
    assert_eq!(
        (walked.graph_counts(), exact.graph_counts()),
        (counts(5_000, 0), None)
    );
    assert!(recall(&walked, None) >= 0.987);
    assert!(recall(&walked, Some(&of("acme"))) >= 0.987);
    let numbers: BTreeMap<NodeId, usize> =
        (0..5_000).map(|number| (name(number), number)).collect();
    let (mut same, mut all) = (0, 0);
    for at in 0..40 {
        let query = Query {
            text: format!("word{at}"),
            vector: Some(vector(2_000_000 + at)),
            filter: of("other"),
            k: 10,
            ..Query::default()
        };
        // One in twenty is compared, the others are walked.
        assert_eq!(
            walked.search(&query).unwrap(),
            exact.search(&query).unwrap()
        );
        let query = Query {
            filter: of("acme"),
            ..query
        };
        let (found, wanted) = (
            walked.search(&query).unwrap(),
            exact.search(&query).unwrap(),
        );
        for hit in &found.hits {
            let own = cosine(&vector(numbers[&hit.id]), query.vector.as_ref().unwrap());
            // Also of those that only their words found.
            assert!((hit.cosine.unwrap() - own).abs() < 1e-5);
        }
        all += wanted.hits.len();
        let there = |id: NodeId| found.hits.iter().any(|hit| hit.id == id);
        same += wanted.hits.iter().filter(|hit| there(hit.id)).count();
    }
    assert!(same * 100 >= all * 98, "{same} of {all}");
}

#[test]
fn random_changes_and_restarts_never_show_what_is_not_there_while_others_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut model: BTreeMap<usize, usize> = BTreeMap::new();
    let mut state = 5_u64;
    let mut random = |end: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % end
    };
    for _restart in 0..4 {
        let memory = open(dir.path());
        assert!(memory.snapshot_problem().is_none());
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for reader in 0..2 {
                let (memory, stop) = (&memory, &stop);
                scope.spawn(move || {
                    let mut at = reader;
                    while !stop.load(Ordering::Relaxed) {
                        at += 2;
                        let filter = of(TENANTS[at % 2]);
                        let query = vector(3_000_000 + at);
                        let walk = Effort::Walk(64);
                        let found = memory.nearest(&query, Some(&filter), 10, walk).unwrap();
                        assert!(found.is_sorted_by(|a, b| a.1 >= b.1));
                    }
                });
            }
            for _batch in 0..30 {
                let mut changed = BTreeMap::new();
                for _ in 0..40 {
                    // Contents are few enough to be used twice.
                    changed.insert(random(2_500), random(2_000));
                }
                model.extend(&changed);
                let nodes = changed
                    .into_iter()
                    .map(|(number, content)| node(number, content));
                write(&memory, nodes.collect());
                for _ in 0..8 {
                    let number = random(2_500);
                    let was_there = model.remove(&number).is_some();
                    assert_eq!(memory.delete(name(number)).unwrap(), was_there);
                }
                agree(&memory, &model, random(2_000));
            }
            stop.store(true, Ordering::Relaxed);
        });
        memory.settle();
        assert_eq!(memory.graph_counts(), counts(model.len(), 0));
        assert!(recall(&memory, None) >= 0.98);
        for (number, content) in &model {
            let own = &vector(*content);
            let found = memory.nearest(own, None, 30, Effort::Walk(64)).unwrap();
            assert!(found.iter().any(|(id, _)| *id == name(*number)), "{number}");
        }
    }
}

/// A search right after a write sees it: nothing that is gone, every cosine that of the present vector, what is nearest first.
fn agree(memory: &Memory, model: &BTreeMap<usize, usize>, content: usize) {
    let query = vector(content);
    let numbers: BTreeMap<NodeId, usize> = model
        .keys()
        .map(|number| (name(*number), *number))
        .collect();
    let found = memory.nearest(&query, None, 10, Effort::Walk(64)).unwrap();
    assert_eq!(found.len(), model.len().min(10));
    for (id, found) in &found {
        let exact = cosine(&vector(model[&numbers[id]]), &query);
        assert!((found - exact).abs() < 1e-5);
    }
    if model.values().any(|other| *other == content) {
        assert!(found[0].1 > 0.9999, "{content}");
    }
}

/// A folder with a memory of 1,500 vectors that was closed with its graph whole.
fn closed() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    write(
        &memory,
        (0..1_500).map(|number| node(number, number)).collect(),
    );
    memory.settle();
    dir
}

#[test]
fn the_graph_is_read_at_the_next_open_and_what_changed_since_is_linked_again() {
    let dir = closed();
    let snapshot = fs::read(dir.path().join(SNAPSHOT)).unwrap();

    let memory = open(dir.path());
    assert_eq!(memory.graph_counts(), counts(1_500, 0));
    write(
        &memory,
        (0..20).map(|number| node(number, 9_000 + number)).collect(),
    );
    memory.delete(name(700)).unwrap();
    memory.settle();
    drop(memory);

    // As after a crash: the rows went on and the file did not.
    fs::write(dir.path().join(SNAPSHOT), snapshot).unwrap();
    let memory = open(dir.path());
    assert!(memory.snapshot_problem().is_none());
    memory.settle();
    assert_eq!(memory.graph_counts(), counts(1_499, 0));
    let found = memory
        .nearest(&vector(9_007), None, 1, Effort::Walk(64))
        .unwrap();
    assert_eq!(found[0].0, name(7));
    assert!(recall(&memory, None) >= 0.987);
}

#[test]
fn a_snapshot_that_cannot_be_used_is_named_and_the_graph_is_built_while_searches_are_exact() {
    let dir = closed();
    let file = dir.path().join(SNAPSHOT);
    let whole = fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    flipped[5_000] ^= 4;
    for bytes in [
        Vec::new(),
        b"something else".to_vec(),
        whole[..9_000].to_vec(),
        flipped,
    ] {
        fs::write(&file, bytes).unwrap();
        let memory = open(dir.path());
        let exact = memory.nearest(&vector(3), None, 10, Effort::Exact).unwrap();
        assert_eq!(
            memory
                .nearest(&vector(3), None, 10, Effort::Walk(64))
                .unwrap(),
            exact
        );
        let problem = memory.snapshot_problem().unwrap();
        assert!(matches!(problem, SnapshotError::Damaged(_)), "{problem}");
        assert!(memory.snapshot_problem().is_none());
        memory.settle();
        assert_eq!(memory.graph_counts(), counts(1_500, 0));
        drop(memory);
        let memory = open(dir.path());
        assert_eq!(memory.graph_counts(), counts(1_500, 0));
        assert!(memory.snapshot_problem().is_none());
    }

    // Another shape of graph is another graph.
    let links = 8;
    let memory = open_with(
        dir.path(),
        HnswParameters {
            links,
            ..PARAMETERS
        },
    );
    let problem = memory.snapshot_problem().unwrap();
    assert!(
        matches!(problem, SnapshotError::Foreign { .. }),
        "{problem}"
    );
}

#[test]
fn a_memory_with_few_vectors_has_no_graph_and_no_file_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    write(
        &memory,
        (0..200).map(|number| node(number, number)).collect(),
    );
    assert_eq!(memory.graph_counts(), None);
    memory.settle();
    drop(memory);
    assert!(!dir.path().join(SNAPSHOT).exists());
    let memory = open(dir.path());
    write(&memory, vec![node(200, 200)]);
    memory.settle();
    assert_eq!(memory.graph_counts(), counts(201, 0));
}
