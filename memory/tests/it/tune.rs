//! Tuning measures what searches find against the truth, and lets them look as hard as the target needs.

use std::path::Path;

use weir_memory::upkeep::{TuneError, TuneOptions, Tuned};
use weir_memory::{Batch, Effort, HnswParameters, Memory, MemoryConfig, NewNode, NodeId};

use crate::id;

const DIMENSIONS: usize = 64;
const VECTORS: usize = 12_000;

/// A poor graph over many dimensions without structure: the hardest case, in which the least effort misses much.
const POOR: HnswParameters = HnswParameters {
    links: 3,
    ef_construction: 8,
    ef_search: 64,
    exact_max: 200,
};

fn open(dir: &Path, parameters: HnswParameters) -> Memory {
    let config = MemoryConfig {
        dimensions: DIMENSIONS,
        embedding_model: "test-model".to_owned(),
    };
    Memory::open_with(dir, &config, parameters).unwrap()
}

fn vector(number: usize) -> Vec<f32> {
    let mut state = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    (0..DIMENSIONS).map(|_| next()).collect()
}

fn fill(memory: &Memory, count: usize) {
    for numbers in (0..count).collect::<Vec<_>>().chunks(5_000) {
        let nodes = numbers.iter().map(|number| NewNode {
            id: id(&format!("v{number}")),
            vector: Some(vector(*number)),
            ..NewNode::new("acme", format!("passage {number}"))
        });
        let nodes = nodes.collect();
        let edges = Vec::new();
        memory.write(&Batch { nodes, edges }).unwrap();
    }
    memory.settle();
}

fn tune(memory: &Memory, target: f64) -> Tuned {
    let options = TuneOptions {
        target,
        questions: 40,
        nearest: 64,
    };
    let mut measuring = memory.tune(options).unwrap();
    let mut steps = 1;
    while !measuring.step().unwrap() {
        steps += 1;
        assert_eq!(measuring.progress().done, steps - 1);
    }
    assert_eq!(measuring.progress().done, measuring.progress().total);
    measuring.finish().unwrap()
}

/// Share of the truly nearest that a search finds for new questions.
fn recall(memory: &Memory, effort: Effort) -> f64 {
    let ids = |effort, vector: &[f32]| -> Vec<NodeId> {
        let found = memory.nearest(vector, None, 64, effort).unwrap();
        found.into_iter().map(|(id, _)| id).collect()
    };
    let mut right = 0;
    for number in VECTORS..VECTORS + 40 {
        let vector = vector(number);
        let truth = ids(Effort::Exact, &vector);
        right += ids(effort, &vector)
            .iter()
            .filter(|id| truth.contains(id))
            .count();
    }
    right as f64 / (40.0 * 64.0)
}

#[test]
fn the_least_effort_that_reaches_the_target_is_kept_with_the_store_and_searched_with() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path(), POOR);
    fill(&memory, VECTORS);
    let tuned = tune(&memory, 0.9);
    assert!(tuned.reached && !tuned.exact, "{tuned:?}");
    assert!(
        tuned.efforts[0].recall < 0.9,
        "the case is too easy: {tuned:?}"
    );
    assert!(tuned.ef_search > 256 && tuned.recall >= 0.9, "{tuned:?}");
    let chosen = tuned
        .efforts
        .iter()
        .position(|effort| effort.ef_search == tuned.ef_search);
    let easier = &tuned.efforts[..chosen.unwrap()];
    assert!(easier.iter().all(|effort| effort.recall < 0.9), "{tuned:?}");
    // What was measured on passages holds for questions that are none, nearly.
    let (before, after) = (
        recall(&memory, Effort::Walk(256)),
        recall(&memory, Effort::Walk(tuned.ef_search)),
    );
    assert!(after > before && after > 0.85, "{before} {after}");
    assert_eq!(memory.ef_search(), tuned.ef_search);
    drop(memory);
    let memory = open(folder.path(), POOR);
    assert_eq!(memory.ef_search(), tuned.ef_search);
    let kept = memory.tuning().unwrap();
    assert_eq!((kept.target, kept.vectors), (0.9, VECTORS));
    // A lower target lets searches be faster again; one that nothing reaches says so and looks as hard as it can.
    assert_eq!(tune(&memory, 0.01).ef_search, 256);
    assert_eq!(memory.ef_search(), 256);
}

#[test]
fn a_search_looks_as_hard_as_was_measured() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path(), POOR);
    fill(&memory, VECTORS);
    let query = |number| weir_memory::Query {
        vector: Some(vector(number)),
        k: 64,
        ..crate::query("")
    };
    let found = |memory: &Memory, number| -> Vec<NodeId> {
        let found = memory.search(&query(number)).unwrap();
        found.hits.iter().map(|hit| hit.id).collect()
    };
    let truth = |number| -> Vec<NodeId> {
        let found = memory
            .nearest(&vector(number), None, 64, Effort::Exact)
            .unwrap();
        found.into_iter().map(|(id, _)| id).collect()
    };
    let right = |memory: &Memory| -> usize {
        let numbers = 50_000..50_030;
        let of = |number| {
            let truth = truth(number);
            found(memory, number)
                .iter()
                .filter(|id| truth.contains(id))
                .count()
        };
        numbers.map(of).sum()
    };
    let before = right(&memory);
    tune(&memory, 1.0);
    assert!(memory.ef_search() > 256);
    assert!(right(&memory) > before, "{} {before}", right(&memory));
}

#[test]
fn where_all_are_compared_nothing_is_missed_and_nothing_without_vectors_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path(), HnswParameters::default());
    let error = memory.tune(TuneOptions::default()).unwrap_err();
    assert!(matches!(error, TuneError::NoVectors), "{error}");
    fill(&memory, 300);
    let tuned = tune(&memory, 1.0);
    assert!(
        tuned.exact && tuned.reached && tuned.recall == 1.0,
        "{tuned:?}"
    );
    for target in [0.0, 1.5, f64::NAN] {
        let options = TuneOptions {
            target,
            ..TuneOptions::default()
        };
        let error = memory.tune(options).unwrap_err().to_string();
        assert!(error.contains("0.98"), "{error}");
    }
}
