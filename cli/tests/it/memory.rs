//! `weir memory`, on files that nobody has open and through a running gateway.

use crate::support::Stage;
use serde_json::{Value, json};
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

/// Exit code and texts of `weir memory ...`.
pub(crate) fn said(stage: &Stage, args: &[&str]) -> (Option<i32>, String, String) {
    let output = stage.weir(&[&["memory"], args].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// The JSON of `weir memory ... --output json`, which must succeed.
pub(crate) fn json(stage: &Stage, args: &[&str]) -> Value {
    let (code, out, err) = said(stage, &[args, &["--output", "json"]].concat());
    assert_eq!(code, Some(0), "{args:?}: {out}{err}");
    serde_json::from_str(&out).unwrap()
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
    let again = stage.weir(&[&args[..], &["--output", "json"]].concat());
    let summary: Value = serde_json::from_slice(&again.stdout).unwrap();
    let counts = ["inserted", "unchanged", "left"].map(|count| summary[count].as_u64());
    assert_eq!(counts, [Some(0), Some(1), Some(0)], "{summary}");
    let bad = summary["bad"][0][0].as_str().unwrap();
    assert!(bad.ends_with("broken.jsonl"), "{summary}");
    let hit = first_hit(&stage, &["-f", stack]);
    assert!(hit["text"].as_str().unwrap().contains("low wall"), "{hit}");
    assert!(hit["cosine"].is_null(), "words alone found it: {hit}");

    let (code, table, err) = said(&stage, &["search", "low wall", "-f", stack]);
    assert_eq!(code, Some(0), "{err}");
    let lines: Vec<&str> = table.lines().collect();
    let [head, row] = lines.as_slice() else {
        panic!("a head and one passage: {table}");
    };
    let heads: Vec<&str> = head.split("  ").filter(|head| !head.is_empty()).collect();
    let heads: Vec<&str> = heads.iter().map(|head| head.trim()).collect();
    let expected = ["#", "SCORE", "COSINE", "BY VECTOR", "HOPS", "TITLE", "TEXT"];
    assert_eq!(heads, expected, "{table}");
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(
        words[..6],
        ["1", "1.000", "-", "-", "0", "Weirs"],
        "{table}"
    );
    assert!(
        row.ends_with("A weir is a low wall across a river that raises the water behind it."),
        "{table}"
    );
    let (code, nothing, _) = said(&stage, &["search", "zeppelin", "-f", stack]);
    assert_eq!(code, Some(0));
    assert_eq!(
        nothing,
        "nothing was found; `weir memory ingest PATH` reads documents in\n"
    );
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

#[test]
fn documents_are_sent_to_a_gateway_elsewhere_and_follow_their_files() {
    let Some(model) = servable_model() else {
        return;
    };
    let Some(embedder) = component(MINILM) else {
        return;
    };
    let mut stage = Stage::new();
    stage.write_stack(&["small"], &model, "");
    with_memory(&stage, &embedder);
    let address = stage.up()["address"].as_str().unwrap().to_owned();
    let docs = stage.path("docs");
    let send = || {
        let docs = docs.to_str().unwrap();
        let output = stage.weir(&["memory", "ingest", docs, "--gateway", &address]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        assert!(said.contains("broken.jsonl"), "a bad file is named: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let more = "# Weirs\n\nA weir is a low wall across a river that raises the water behind it.\n\n\
                # Gates\n\nA sluice gate is lifted to let water pass, see [weirs](weir.md#weirs).\n";
    std::fs::write(docs.join("weir.md"), more).unwrap();
    let said = send();
    assert!(said.contains("2 new") && said.contains(" edges"), "{said}");
    let said = send();
    assert!(
        said.contains("0 new") && said.contains("2 as before"),
        "{said}"
    );
    let less = "# Weirs\n\nA weir is a low wall across a river that raises the water behind it.\n";
    std::fs::write(docs.join("weir.md"), less).unwrap();
    let said = send();
    assert!(
        said.contains("1 as before") && said.contains("1 removed"),
        "{said}"
    );
    let status = stage.status_when("one passage is left", |status| {
        status["memory"]["nodes"] == 1
    });
    assert_eq!(status["memory"]["edges"], 0, "{status}");
    let hit = first_hit(&stage, &[]);
    assert!(hit["text"].as_str().unwrap().contains("low wall"), "{hit}");
    let nobody = [
        "memory",
        "ingest",
        docs.to_str().unwrap(),
        "--gateway",
        "http://127.0.0.1:1",
    ];
    let said = stage.weir(&nobody).stderr;
    assert!(String::from_utf8_lossy(&said).contains("cannot be reached"));
    assert!(stage.weir(&["down", "--now"]).status.success());
}

#[test]
fn attention_is_trained_from_questions_and_from_links_and_kept_with_the_memory() {
    let stage = Stage::new();
    stage.write_stack(&["small"], &stage.path("none.gguf"), "");
    with_memory(&stage, &stage.path("no-embedder"));
    let (mut records, mut questions) = (String::new(), String::new());
    for number in 0..24 {
        let work = json!({"id": format!("w{number}"), "title": format!("Opus{number}"), "links": [format!("m{}", number / 2)],
            "text": format!("The piece opus{number} was first heard in a barn.")});
        let maker = json!({"id": format!("m{number}"), "title": format!("Maker{number}"), "text": "Lived by the sea."});
        let asked = json!({"question": format!("Who wrote opus{number}?"), "gold": [format!("Maker{}", number / 2)]});
        records.push_str(&format!("{work}\n{maker}\n"));
        questions.push_str(&format!("{asked}\n"));
    }
    let (docs, asked) = (stage.path("docs/works.jsonl"), stage.path("asked.jsonl"));
    std::fs::write(&docs, records).unwrap();
    std::fs::write(&asked, &questions).unwrap();
    let (stack, out) = (stage.stack(), stage.path("weights.json"));
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (stack, docs, asked, out) = (path(&stack), path(&docs), path(&asked), path(&out));
    let weir = |args: &[&str]| {
        let output = stage.weir(&[&["memory"], args, &["-f", &stack]].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), output.stdout, said)
    };
    let (done, _, said) = weir(&["ingest", &docs]);
    assert!(done, "{said}");

    let train = ["train", "--questions", &asked, "--output", "json"];
    let (done, report, said) = weir(&[&train[..], &["--out", &out, "--apply"]].concat());
    assert!(done, "{said}");
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["questions"], 24, "{report}");
    assert_eq!(report["applied"], true);
    assert!(report["loss"].as_f64() < report["loss_before"].as_f64());
    let weights = std::fs::read_to_string(&out).unwrap();
    assert!(weights.contains("hyperlink") && weights.contains("asked.jsonl"));
    // The store opens with them and finds as before.
    let (done, found, said) = weir(&["search", "who wrote opus7", "--output", "json"]);
    assert!(done, "{said}");
    let found: Value = serde_json::from_slice(&found).unwrap();
    let titles = [&found[0]["title"], &found[1]["title"]];
    assert!(titles.contains(&&json!("Maker3")), "{found}");

    let (done, report, said) = weir(&["train", "--masked-links", "12"]);
    assert!(done, "{said}");
    let report = String::from_utf8(report).unwrap();
    assert!(
        report.contains("12 questions") && report.contains("--apply"),
        "{report}"
    );

    std::fs::write(&asked, r#"{"question": "Who?", "gold": ["Nobody"]}"#).unwrap();
    let (done, _, said) = weir(&train);
    assert!(
        !done && said.contains("asked.jsonl:1") && said.contains("Nobody"),
        "{said}"
    );
    let (done, _, said) = weir(&["train"]);
    assert!(!done && said.contains("--masked-links"), "{said}");
}
