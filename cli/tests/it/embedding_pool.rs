//! A memory whose vectors come from a pool: the small model stands in for an embedder, its hidden states averaged.

use crate::support::Stage;
use serde_json::Value;
use std::path::Path;
use weir_testenv::servable_model;

/// Length of the small model's hidden state.
const DIMENSIONS: usize = 576;

/// Adds a pool that embeds and a memory that uses it. `arguments` are the engine's own.
fn with_embedding_pool(stage: &Stage, model: &Path, dimensions: usize, arguments: &str) {
    let documents = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: ModelPool\nmetadata:\n  name: embedder\n  labels: {{stack: it}}\nspec:\n  \
         model:\n    name: embedder-{}\n    source: file://{}\n  tier: device\n  privacy: local\n  engine:\n    \
         llamaCpp: {{contextTokens: 256, slots: 1, extraArgs: {arguments}}}\n---\n\
         apiVersion: weir.dev/v1alpha1\nkind: MemoryStore\nmetadata: {{name: kb}}\nspec:\n  \
         embedding: {{model: smollm2-mean, pool: embedder, dimensions: {dimensions}}}\n",
        stage.mark,
        model.display(),
    );
    stage.extend_stack("  memory: kb\n", &documents);
}

#[test]
fn a_pool_embeds_what_is_stored_and_what_is_asked_and_answers_no_questions() {
    let Some(model) = servable_model() else {
        return;
    };
    let mut stage = Stage::new();
    stage.write_stack(&["small"], &model, "");
    with_embedding_pool(&stage, &model, DIMENSIONS, "['--pooling', 'mean']");
    let status = stage.up();
    assert_eq!(status["pools"][1]["name"], "embedder", "{status:#}");
    assert_eq!(status["pools"][1]["reason"], "Embedding");

    let docs = stage.path("docs");
    std::fs::create_dir_all(&docs).unwrap();
    std::fs::write(
        docs.join("weir.md"),
        "# Weirs\n\nA weir is a low wall across a river.\n",
    )
    .unwrap();
    std::fs::write(
        docs.join("bread.md"),
        "# Bread\n\nBread is baked from flour and water.\n",
    )
    .unwrap();
    let read = stage.weir(&["memory", "ingest", docs.to_str().unwrap()]);
    assert!(
        read.status.success(),
        "{}",
        String::from_utf8_lossy(&read.stderr)
    );
    stage.status_when("both vectors are there", |status| {
        status["memory"]["vectors"] == 2 && status["memory"]["vectorsPending"] == 0
    });

    let question = "a low wall across a river";
    let output = stage.weir(&["memory", "search", question, "--output", "json"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        found[0]["text"].as_str().unwrap().contains("low wall"),
        "{found:#}"
    );
    assert!(found[0]["cosine"].as_f64().unwrap() > 0.3, "{found:#}");

    // Code is many tokens a word, so its passages are longer than this engine's context.
    let long = format!(
        "# Long\n\n```\n{}```\n",
        "let water = level + 1;\n".repeat(60)
    );
    std::fs::write(docs.join("a-long.md"), long).unwrap();
    std::fs::write(
        docs.join("fish.md"),
        "# Fish\n\nA fish passes by a ladder.\n",
    )
    .unwrap();
    let read = stage.weir(&["memory", "ingest", docs.to_str().unwrap()]);
    assert!(read.status.success());
    stage.status_when("refused passages do not hold up the others", |status| {
        let count = |name: &str| status["memory"][name].as_u64().unwrap_or(0);
        count("vectors") >= 3 && count("vectorsRefused") >= 1 && count("vectorsPending") == 0
    });

    let asked = stage.weir(&[
        "ask",
        "Say hello.",
        "--model",
        &format!("embedder-{}", stage.mark),
    ]);
    assert_eq!(
        asked.status.code(),
        Some(1),
        "the embedder is no model to ask"
    );
    assert!(stage.weir(&["down", "--now"]).status.success());
    assert_eq!(stage.ended(), Some(0));
    stage.no_process_left();
}

#[test]
fn a_pool_whose_vectors_have_another_length_is_refused_with_the_length_to_write() {
    let Some(model) = servable_model() else {
        return;
    };
    let stage = Stage::new();
    stage.write_stack(&["small"], &model, "");
    with_embedding_pool(&stage, &model, 384, "['--pooling', 'mean']");
    let (code, said) = stage.up_fails(&["--port", "0"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("pool embedder") && said.contains("write dimensions: 576"),
        "{said}"
    );
    stage.no_process_left();
}

#[test]
fn a_pool_whose_engine_does_not_embed_is_refused_at_once() {
    let Some(model) = servable_model() else {
        return;
    };
    let stage = Stage::new();
    stage.write_stack(&["small"], &model, "");
    with_embedding_pool(&stage, &model, DIMENSIONS, "['--pooling', 'none']");
    let (code, said) = stage.up_fails(&["--port", "0"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("does not embed") && said.contains("--pooling"),
        "{said}"
    );
    stage.no_process_left();
}
