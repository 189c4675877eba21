//! A real corpus: Debian's python3.11-doc, about 500 pages.

use std::time::Instant;

use weir_memory::ingest::{IngestOptions, IngestReport, ingest};
use weir_memory::{Filter, Memory, MemoryConfig, NodeId, Query, RecallLimits, SHARED_TENANT};

/// Length of a vector as MiniLM makes them.
const DIMENSIONS: usize = 384;

fn asked(text: &str) -> Query {
    let filter = Filter {
        tenant: "anyone".to_owned(),
        ..Filter::default()
    };
    Query {
        text: text.to_owned(),
        filter,
        k: 64,
        ..Query::default()
    }
}

/// Runs `work` and prints how long it took. Nothing is asserted about time: machines differ.
fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    eprintln!("{what}: {:.2} ms", start.elapsed().as_secs_f64() * 1e3);
    result
}

fn uri(memory: &Memory, id: NodeId) -> String {
    memory.node(id).unwrap().unwrap().metadata.uri.unwrap()
}

#[test]
fn python_docs_are_found_linked_and_unchanged_the_second_time() {
    let Some(docs) = weir_testenv::corpus() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let config = MemoryConfig {
        dimensions: DIMENSIONS,
        embedding_model: "test".to_owned(),
    };
    let memory = Memory::open(dir.path(), &config).unwrap();
    let options = IngestOptions::default();
    let paths = [docs];
    let report = timed("ingest", || {
        ingest(&memory, &paths, &options, &mut |_| {}).unwrap()
    });
    eprintln!("{report:?}");
    assert!(
        report.files > 450 && report.passages > 10_000 && report.bad.is_empty(),
        "{report:?}"
    );
    let again = timed("ingest again", || {
        ingest(&memory, &paths, &options, &mut |_| {}).unwrap()
    });
    let expected = IngestReport {
        inserted: 0,
        unchanged: report.passages,
        ..report
    };
    assert_eq!(again, expected);

    let found = |text: &str| timed("search by words", || memory.search(&asked(text)).unwrap());
    let best = |text: &str| uri(&memory, found(text).hits[0].id);
    assert_eq!(
        best("functools.lru_cache"),
        "library/functools.html#functools.lru_cache"
    );
    assert_eq!(
        best("what is the difference between arguments and parameters"),
        "faq/programming.html#what-is-the-difference-between-arguments-and-parameters"
    );
    let copying = asked("How do I copy an object in Python?");
    let hits = memory.search(&copying).unwrap();
    let recall = timed("recall", || {
        memory.recall(&copying, &hits, &RecallLimits::default())
    });
    let top: Vec<String> = recall
        .nodes
        .iter()
        .take(5)
        .map(|node| uri(&memory, node.id))
        .collect();
    assert!(
        top.iter()
            .any(|uri| uri == "library/copy.html#copy.deepcopy"),
        "{top:?}"
    );
    assert!(
        memory
            .node(NodeId::derived(SHARED_TENANT, "genindex.html", 0))
            .unwrap()
            .is_none()
    );
    search_by_vector(&memory);
    drop(memory);
    let memory = timed("reopen", || Memory::open(dir.path(), &config).unwrap());
    assert_eq!(memory.counts().vectors, memory.counts().nodes);
}

/// Values that look random and depend on `number` alone.
fn vector(number: usize) -> Vec<f32> {
    let mut state = number as u64 + 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..DIMENSIONS).map(|_| next()).collect()
}

/// Fills every node with a vector of its own and looks for one of them.
fn search_by_vector(memory: &Memory) {
    let pending = memory.pending_vectors(usize::MAX).unwrap();
    let vectors: Vec<_> = pending
        .iter()
        .enumerate()
        .map(|(at, (id, _))| (*id, vector(at)))
        .collect();
    timed("set all vectors", || memory.set_vectors(&vectors).unwrap());
    let query = Query {
        vector: Some(vector(4321)),
        ..asked("lru cache of a function")
    };
    memory.search(&query).unwrap();
    let found = timed("search by words and vector", || {
        memory.search(&query).unwrap()
    });
    assert_eq!(found.hits[0].id, pending[4321].0);
    timed("recall by words and vector", || {
        memory.recall(&query, &found, &RecallLimits::default())
    });
}
