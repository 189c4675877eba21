//! `weir memory tune` and `weir memory migrate`, on files and through a running gateway.

use crate::memory::{json, said, with_memory};
use crate::support::Stage;
use serde_json::{Value, json};
use std::path::Path;
use weir_testenv::{MINILM, component, servable_model};

/// An export of passages with vectors of `model` that no embedder made.
fn export(stage: &Stage, model: &str) -> String {
    let texts = [
        "geese graze by the weir",
        "a heron fishes at dawn",
        "bread rises overnight",
    ];
    let head = json!({"memory": {"format": 1, "dimensions": 384, "embedding_model": model, "nodes": 3, "edges": 0}});
    let mut lines = format!("{head}\n");
    for (number, text) in texts.iter().enumerate() {
        let mut vector = vec![0.0; 384];
        vector[number] = 1.0;
        let id = format!("00000000-0000-4000-8000-00000000000{number}");
        let node =
            json!({"id": id, "tenant": "shared", "text": text, "metadata": {}, "vector": vector});
        lines.push_str(&format!("{}\n", json!({"node": node})));
    }
    let path = stage.path("passages.jsonl");
    std::fs::write(&path, lines).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The stack of `stage` with another embedding model, in a file beside it.
fn with_model(stage: &Stage, model: &str, embedder: &Path) -> String {
    let text = std::fs::read_to_string(stage.stack()).unwrap();
    let before = text.find("embedding: {").unwrap();
    let after = before + text[before..].find('\n').unwrap();
    let embedding = format!(
        "embedding: {{model: {model}, source: 'file://{}', dimensions: 384}}",
        embedder.display()
    );
    let path = stage.path("moved.yaml");
    std::fs::write(
        &path,
        format!("{}{embedding}{}", &text[..before], &text[after..]),
    )
    .unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn an_index_is_measured_and_what_cannot_be_says_why() {
    let stage = Stage::new();
    stage.write_stack(&["small"], &stage.path("none.gguf"), "");
    with_memory(&stage, &stage.path("no-embedder"));
    let stack = stage.stack().to_str().unwrap().to_owned();
    let (code, _, err) = said(&stage, &["tune", "-f", &stack]);
    assert!(code == Some(1) && err.contains("vector"), "{err}");
    json(
        &stage,
        &["import", &export(&stage, "all-minilm-l6-v2"), "-f", &stack],
    );
    let tuned = json(&stage, &["tune", "-f", &stack]);
    assert_eq!(
        (&tuned["exact"], &tuned["reached"]),
        (&json!(true), &json!(true)),
        "{tuned}"
    );
    assert_eq!(
        (&tuned["questions"], &tuned["recall"]),
        (&json!(3), &json!(1.0)),
        "{tuned}"
    );
    let (code, out, _) = said(&stage, &["tune", "-f", &stack]);
    assert!(code == Some(0) && out.contains("all are compared"), "{out}");
    let (code, _, err) = said(&stage, &["tune", "--target-recall", "98", "-f", &stack]);
    assert!(code == Some(1) && err.contains("0.98"), "{err}");
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story from beginning to end")]
fn a_memory_moves_to_another_embedding_and_back() {
    let Some(embedder) = component(MINILM) else {
        return;
    };
    let stage = Stage::new();
    stage.write_stack(&["small"], &stage.path("none.gguf"), "");
    with_memory(&stage, &stage.path("no-embedder"));
    let before = stage.stack().to_str().unwrap().to_owned();
    let after = with_model(&stage, "another", &embedder);
    let (code, _, err) = said(&stage, &["migrate", "-f", &after]);
    assert!(
        code == Some(1) && err.contains("weir up"),
        "nothing is there yet: {err}"
    );
    json(
        &stage,
        &["import", &export(&stage, "all-minilm-l6-v2"), "-f", &before],
    );

    let (code, _, err) = said(&stage, &["stats", "-f", &after]);
    assert!(
        code == Some(1) && err.contains("weir memory migrate"),
        "{err}"
    );
    let status = json(&stage, &["migrate", "--status", "-f", &after]);
    assert_eq!(
        (&status["inUse"]["model"], &status["other"]),
        (&json!("all-minilm-l6-v2"), &Value::Null)
    );
    let (code, _, err) = said(&stage, &["migrate", "--undo", "-f", &after]);
    assert!(
        code == Some(1) && err.contains("nothing to go back to"),
        "{err}"
    );

    let moved = json(&stage, &["migrate", "-f", &after]);
    assert_eq!(moved["inUse"]["model"], "another", "{moved}");
    assert!(
        moved["inUse"]["revision"].as_str().unwrap().len() == 64,
        "{moved}"
    );
    assert_eq!(
        (&moved["other"]["vectors"], &moved["other"]["wasInUse"]),
        (&json!(3), &json!(true)),
        "{moved}"
    );
    let found = json(
        &stage,
        &[
            "search",
            "a wading bird catches its breakfast",
            "-f",
            &after,
        ],
    );
    assert!(
        found[0]["text"].as_str().unwrap().contains("heron"),
        "by meaning: {found}"
    );
    assert!(found[0]["cosine"].as_f64().unwrap() > 0.2, "{found}");
    let (code, _, err) = said(&stage, &["stats", "-f", &before]);
    assert!(code == Some(1) && err.contains("another"), "{err}");
    let (code, _, err) = said(&stage, &["migrate", "-f", &after]);
    assert!(code == Some(1) && err.contains("already"), "{err}");

    let undone = json(&stage, &["migrate", "--undo", "-f", &after]);
    assert_eq!(
        (&undone["inUse"]["model"], &undone["other"]["wasInUse"]),
        (&json!("all-minilm-l6-v2"), &json!(false))
    );
    assert_eq!(json(&stage, &["stats", "-f", &before])["vectors"], 3);
    let forgotten = json(&stage, &["migrate", "--forget", "-f", &after]);
    assert_eq!(forgotten["other"], Value::Null, "{forgotten}");
    // At once: words find the passages until a gateway makes their vectors.
    let now = json(&stage, &["migrate", "--now", "-f", &after]);
    assert_eq!(now["inUse"]["model"], "another", "{now}");
    let stats = json(&stage, &["stats", "-f", &after]);
    assert_eq!(
        (&stats["vectors"], &stats["pending"]),
        (&json!(0), &json!(3)),
        "{stats}"
    );
}

#[test]
fn a_running_gateway_measures_its_memory_and_is_not_moved_beneath_its_feet() {
    let (Some(model), Some(embedder)) = (servable_model(), component(MINILM)) else {
        return;
    };
    let mut stage = Stage::new();
    stage.write_stack(&["small"], &model, "");
    with_memory(&stage, &embedder);
    stage.up();
    json(&stage, &["ingest", stage.path("docs").to_str().unwrap()]);
    stage.status_when("vectors are there", |status| {
        status["memory"]["vectors"] == 1
    });
    assert_eq!(json(&stage, &["tune"])["exact"], true);
    let status = stage.status_when("it is measured", |status| {
        !status["memory"]["index"].is_null()
    });
    assert_eq!(status["memory"]["index"]["recall"], 1.0, "{status}");
    let moved = with_model(&stage, "another", &embedder);
    let (code, _, err) = said(&stage, &["migrate", "-f", &moved]);
    assert!(code == Some(1) && err.contains("weir down"), "{err}");
    assert!(stage.weir(&["down", "--now"]).status.success());
}
