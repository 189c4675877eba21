//! `weir bench matrix` on the real engine: what is measured, what is graded, and what is refused.

use crate::support::Stage;
use serde_json::Value;
use std::path::Path;
use weir_testenv::{SMOLLM2, TINY_RANDOM, component, corpus, engine};

/// Runs the measurement with results into the stage's folder; its rows by name.
fn measure(stage: &Stage, model: &Path, axes: &[&str]) -> impl Fn(&str) -> Option<f64> + use<> {
    let (model, engine) = (model.to_str().unwrap(), engine().unwrap());
    let results = stage.path("results");
    let mut arguments = vec!["bench", "matrix", model, "--output=json", "--questions=2"];
    arguments.extend(["--llama-server", engine.to_str().unwrap()]);
    arguments.extend(["--results", results.to_str().unwrap()]);
    arguments.extend(axes);
    let output = stage.weir(&arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(results["notes"], Value::Array(Vec::new()));
    move |metric| {
        let mut rows = results["rows"].as_array()?.iter();
        rows.find(|row| row["metric"] == metric)?["value"].as_f64()
    }
}

#[test]
fn a_model_is_measured_by_threads_and_context_and_not_graded_when_it_is_random() {
    let (Some(_), Some(tiny), Some(docs)) = (engine(), component(TINY_RANDOM), corpus()) else {
        return;
    };
    let stage = Stage::new();
    let axes = ["--threads=1,2", "--context=128,256", "--repeats=2"];
    let docs = ["--docs", docs.to_str().unwrap()];
    let value = measure(&stage, &tiny, &[axes.as_slice(), &docs].concat());
    for point in [
        "1_threads/128",
        "1_threads/256",
        "2_threads/128",
        "2_threads/256",
    ] {
        for metric in ["prefill", "decode", "first_token", "peak_memory"] {
            let found = value(&format!("{metric}/tiny-random/{point}_tokens"));
            let told = found.is_some_and(|value| value > 0.0);
            let silent = metric == "peak_memory" && !cfg!(target_os = "linux");
            assert!(told || silent, "{metric} {point}: {found:?}");
        }
    }
    // Blocks before the question stay in the cache.
    let again = value("computed_again/tiny-random");
    assert!(again.is_some_and(|share| share < 0.2), "{again:?}");
    assert_eq!(value("quality/tiny-random"), None);
    // A packed context has 400 tokens, and the question and the template stand around it.
    let packed = value("packed_tokens/tiny-random");
    assert!(
        packed.is_some_and(|tokens| (300.0..600.0).contains(&tokens)),
        "{packed:?}"
    );
    for name in ["matrix.json", "matrix.md", "matrix.svg"] {
        let text = std::fs::read_to_string(stage.path("results").join(name)).unwrap();
        assert!(
            text.contains("1 threads") || text.contains("tiny-random"),
            "{name}: {text}"
        );
    }
}

#[test]
fn a_model_with_real_weights_is_graded() {
    let (Some(_), Some(model)) = (engine(), component(SMOLLM2)) else {
        return;
    };
    let axes = ["--threads=1", "--context=128", "--repeats=1"];
    let value = measure(&Stage::new(), &model, &axes);
    let quality = value("quality/smollm2-135m-instruct-q4_1");
    assert!(
        quality.is_some_and(|quality| (1.0..=5.0).contains(&quality)),
        "{quality:?}"
    );
}

#[test]
fn a_file_that_is_no_model_is_refused_by_name_before_anything_is_measured() {
    let stage = Stage::new();
    let file = stage.path("notes.gguf");
    std::fs::write(&file, "these are no weights").unwrap();
    let output = stage.weir(&["bench", "matrix", file.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("notes.gguf"), "{said}");
}

#[test]
fn an_engine_that_does_not_start_is_told_and_nothing_counts_as_measured() {
    let Some(tiny) = component(TINY_RANDOM) else {
        return;
    };
    let stage = Stage::new();
    let output = stage.weir(&[
        "bench",
        "matrix",
        tiny.to_str().unwrap(),
        "--threads=1",
        "--context=128",
        "--llama-server=/bin/false",
    ]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("tiny-random, 1 threads, 128 tokens: the engine ended"),
        "{said}"
    );
}
