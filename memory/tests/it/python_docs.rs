//! Ingest of a real corpus: Debian's python3.11-doc.

use std::path::PathBuf;
use std::time::Instant;

use weir_memory::ingest::{IngestOptions, ingest};
use weir_memory::{Filter, Memory, MemoryConfig, Query, RecallLimits};

const DOCS: &str = "/usr/share/doc/python3.11/html";

#[test]
fn python_docs_are_found_and_linked() {
    let docs = PathBuf::from(DOCS);
    if !docs.exists() {
        eprintln!("SKIPPED: {DOCS} is absent (Debian package python3.11-doc)");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let config = MemoryConfig {
        dimensions: 8,
        embedding_model: "test".to_owned(),
    };
    let memory = Memory::open(dir.path(), &config).unwrap();
    let options = IngestOptions::default();
    let start = Instant::now();
    let report = ingest(&memory, std::slice::from_ref(&docs), &options, &mut |_| {}).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let rate = report.passages as f64 / seconds;
    eprintln!("{report:?} in {seconds:.2} s, {rate:.0} passages/s");
    let start = Instant::now();
    let again = ingest(&memory, &[docs], &options, &mut |_| {}).unwrap();
    eprintln!("again {again:?} {:?}", start.elapsed());
    for text in [
        "functools.lru_cache",
        "what is the difference between arguments and parameters",
        "join two paths",
        "How do I copy an object in Python?",
    ] {
        let filter = Filter {
            tenant: "anyone".to_owned(),
            ..Filter::default()
        };
        let query = Query {
            text: text.to_owned(),
            filter,
            k: 64,
            ..Query::default()
        };
        let start = Instant::now();
        let found = memory.search(&query).unwrap();
        let searched = start.elapsed();
        let start = Instant::now();
        let recall = memory.recall(&query, &found, &RecallLimits::default());
        eprintln!(
            "== {text}: {searched:?} {:?} nodes {} depth {} H {}",
            start.elapsed(),
            recall.nodes_used,
            recall.depth,
            recall.entropy
        );
        for hit in found.hits.iter().take(4) {
            let node = memory.node(hit.id).unwrap().unwrap();
            eprintln!(
                "  S {:.2} {:?} {:?}",
                hit.strength, node.metadata.uri, node.metadata.title
            );
        }
        for hit in recall.nodes.iter().take(4) {
            let node = memory.node(hit.id).unwrap().unwrap();
            eprintln!(
                "  R {:.3} d{} {:?} {:?}",
                hit.score, hit.depth, node.metadata.uri, node.metadata.title
            );
        }
        let node = memory.node(found.hits[0].id).unwrap().unwrap();
        eprintln!("{}", node.text);
    }
    let start = Instant::now();
    drop(memory);
    let memory = Memory::open(dir.path(), &config).unwrap();
    eprintln!("reopen {:?} {:?}", start.elapsed(), memory.counts());
}
