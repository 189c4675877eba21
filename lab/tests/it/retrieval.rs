//! The comparison of retrieval on two small corpora with the real embedder.

use std::fs;
use std::path::Path;
use weir_lab::retrieval::{RetrievalOptions, retrieval, weights};
use weir_memory::AttentionWeights;
use weir_testenv::{MINILM, component};

const WORKS: usize = 12;

/// Films with a director each: a question about the director of a film is answered by both passages.
fn write(folder: &Path, set: &str, names: [&str; 2]) {
    let (mut passages, mut questions) = (Vec::new(), Vec::new());
    let digits = |number: usize| {
        let letters = ["Ada", "Bo", "Cy", "Dee"];
        format!("{} {}", letters[number % 4], letters[number / 4])
    };
    for number in 0..WORKS {
        let [film, director] = names.map(|name| format!("{name} {}", digits(number)));
        let text = format!("{film} is a silent film. It was directed by {director}.");
        passages.push(serde_json::json!({"title": film, "text": text}));
        let text = format!("{director} grew up beside the sea, number {number}.");
        passages.push(serde_json::json!({"title": director, "text": text}));
        questions.push(serde_json::json!({
            "question": format!("Where did the director of {film} grow up?"),
            "gold_titles": [film, director],
        }));
    }
    let file = |kind: &str| folder.join(format!("{set}_{kind}.json"));
    fs::write(file("corpus"), serde_json::to_string(&passages).unwrap()).unwrap();
    fs::write(
        file("questions"),
        serde_json::to_string(&questions).unwrap(),
    )
    .unwrap();
}

#[test]
fn all_rows_are_measured_and_what_was_embedded_once_is_kept() {
    let Some(embedder) = component(MINILM) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "2wiki", ["Night", "Smith"]);
    write(dir.path(), "musique", ["Tide", "Jones"]);
    let cache = dir.path().join("cache");
    let options = RetrievalOptions {
        multihop: Some(dir.path().to_owned()),
        docs: None,
        foldoc: None,
        metamath: None,
        embedder,
        cache: cache.clone(),
        command: "test".to_owned(),
        seed: 1,
    };
    let first = retrieval(&options, &mut |_, _, _| {}).unwrap();
    let value = |metric: &str| {
        let row = first.rows.iter().find(|row| row.metric == metric);
        let row = row.unwrap_or_else(|| panic!("no row {metric}"));
        row.value.unwrap()
    };
    for corpus in ["2wiki-101", "musique-100"] {
        assert!((value(&format!("{corpus} gold passages in the subgraph")) - 1.0).abs() < 1e-9);
        for row in [
            "BM25",
            "dense",
            "hybrid",
            "PageRank",
            "uniform attention",
            "GATv2",
        ] {
            let found = value(&format!("{corpus} R@5 {row}"));
            assert!((0.0..=1.0).contains(&found), "{row}: {found}");
        }
        assert!(value(&format!("{corpus} R@5 attention")) > 0.9);
    }

    let kept = || {
        let mut files = fs::read_dir(&cache)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let path = files.find(|path| path.extension().is_some_and(|kind| kind == "vectors"));
        path.unwrap()
    };
    let bytes = fs::read(kept()).unwrap();
    // The last record was cut off: it alone is made again.
    fs::write(kept(), &bytes[..bytes.len() - 7]).unwrap();
    let trained = weights(&options, &mut |_, _, _| {}).unwrap();
    assert_eq!(fs::read(kept()).unwrap(), bytes);
    assert!(
        trained
            .trained_on()
            .starts_with("2wiki-101 (12 questions), musique-100 (12 questions), seed 1")
    );
    assert_eq!(
        AttentionWeights::from_json(&trained.to_json()).unwrap(),
        trained
    );
    let again = retrieval(&options, &mut |_, _, _| {}).unwrap();
    let shown = |results: &weir_lab::results::Results| -> Vec<(String, Option<f64>)> {
        let rows = results.rows.iter().filter(|row| row.unit.is_empty());
        rows.map(|row| (row.metric.clone(), row.value)).collect()
    };
    assert_eq!(shown(&again), shown(&first));
}
