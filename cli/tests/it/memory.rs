//! `weir memory`, on files that nobody has open and through a running gateway.

use crate::support::Stage;
use serde_json::Value;
use std::path::Path;
use weir_testenv::{MINILM, component, servable_model};

pub(crate) fn with_memory(stage: &Stage, embedder: &Path) {
    let store = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: MemoryStore\nmetadata: {{name: kb}}\nspec:\n  \
         embedding: {{model: all-minilm-l6-v2, source: 'file://{}', dimensions: 384}}\n",
        embedder.display()
    );
    stage.extend_stack("  memory: kb\n", &store);
    let docs = stage.path("docs");
    std::fs::create_dir_all(&docs).unwrap();
    let page = "# Weirs\n\nA weir is a low wall across a river that raises the water behind it.\n";
    std::fs::write(docs.join("weir.md"), page).unwrap();
    std::fs::write(docs.join("broken.jsonl"), "{not json\n").unwrap();
}

fn first_hit(stage: &Stage, args: &[&str]) -> Value {
    let mut all = vec![
        "memory",
        "search",
        "low wall across a river",
        "--output",
        "json",
    ];
    all.extend(args);
    let output = stage.weir(&all);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    found[0].clone()
}

#[test]
fn documents_are_read_and_found_while_nothing_runs() {
    let stage = Stage::new();
    stage.write_stack(&["small"], &stage.path("none.gguf"), "");
    with_memory(&stage, &stage.path("no-embedder"));
    let (stack, docs) = (stage.stack(), stage.path("docs"));
    let stack = stack.to_str().unwrap();
    let args = ["memory", "ingest", docs.to_str().unwrap(), "-f", stack];
    let output = stage.weir(&args);
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{err}");
    assert!(out.contains("1 new"), "{out}");
    assert!(err.contains("broken.jsonl"), "a bad file is named: {err}");
    let again = stage.weir(&args);
    let out = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(
        out.contains("0 new") && out.contains("1 as before"),
        "{out}"
    );
    let hit = first_hit(&stage, &["-f", stack]);
    assert!(hit["text"].as_str().unwrap().contains("low wall"), "{hit}");
    assert!(hit["cosine"].is_null(), "words alone found it: {hit}");
}

#[test]
fn a_running_gateway_reads_documents_and_computes_their_vectors() {
    let Some(model) = servable_model() else {
        return;
    };
    let Some(embedder) = component(MINILM) else {
        return;
    };
    let mut stage = Stage::new();
    stage.write_stack(&["small"], &model, "");
    with_memory(&stage, &embedder);
    stage.up();
    let docs = stage.path("docs");
    let output = stage.weir(&[
        "memory",
        "ingest",
        docs.to_str().unwrap(),
        "--domain",
        "water",
    ]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    stage.status_when("vectors are there", |status| {
        status["memory"]["vectors"] == 1 && status["memory"]["vectorsPending"] == 0
    });
    let hit = first_hit(&stage, &["--domain", "water"]);
    assert!(hit["cosine"].as_f64().unwrap() > 0.3, "{hit}");
    assert!(stage.weir(&["down", "--now"]).status.success());
    assert_eq!(stage.ended(), Some(0));
}
