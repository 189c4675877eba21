//! `weir router ope`, `gate` and `calibrate` on a log as a gateway writes it.

use crate::support::Stage;
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;
use weir_gateway::record::{ChoiceRow, Record, RouterRow};
use weir_router::{ArmTable, Artifact, ChoiceInputs, QueryFacts, Router};

const ROWS: usize = 600;

/// A log of the default router with exploration, and a label for every decision.
fn write_log(stage: &Stage) {
    let router = Router::builtin();
    let arms = router.arms().arms.len();
    let (mut log, mut labels) = (String::new(), String::new());
    for row in 0..ROWS {
        let text = format!("What does option {row} of the compiler do?");
        let facts = QueryFacts {
            text: &text,
            ..QueryFacts::default()
        };
        let features = facts.features();
        let mut state = router.start();
        router.observe(&mut state, &features);
        let inputs = ChoiceInputs {
            permitted: vec![true; arms],
            latency_s: (0..arms).map(|arm| arm as f64 / 7.0).collect(),
            cost: vec![0.1; arms],
            per_second: 0.05,
            per_cost_unit: 0.1,
            floor: 0.4,
            near_tie_margin: 0.02,
            draw: (row as f64 * 0.618_033_988_749).fract(),
        };
        let outcome = router.choose(&state, &inputs).unwrap();
        let score = 1 + (outcome.arm + row) % 5;
        let record = Record {
            decision_id: format!("d-{row}"),
            router: RouterRow {
                schema_hash: router.artifact().manifest().schema_hash.clone(),
                models: router.arms().models,
                ..RouterRow::default()
            },
            features: vec![features],
            propensity: Some(outcome.propensity),
            choice: Some(ChoiceRow {
                chosen: None,
                tau: None,
                mask: vec![None; arms],
                inputs,
                outcome,
            }),
            ..Record::default()
        };
        writeln!(log, "{}", serde_json::to_string(&record).unwrap()).unwrap();
        writeln!(
            labels,
            "{{\"decision_id\":\"d-{row}\",\"score\":{score},\"propensity\":1.0}}"
        )
        .unwrap();
    }
    std::fs::write(stage.path("log.jsonl"), log).unwrap();
    std::fs::write(stage.path("labels.jsonl"), labels).unwrap();
    std::fs::write(stage.path("same.onnx"), router.artifact().to_bytes()).unwrap();
}

fn run(stage: &Stage, words: &[&str]) -> (bool, String, String) {
    let paths = [
        "log.jsonl",
        "labels.jsonl",
        "same.onnx",
        "router.onnx",
        "out.onnx",
        "plot.svg",
        "results",
    ];
    let words: Vec<String> = words
        .iter()
        .map(|word| match paths.contains(word) {
            true => stage.path(word).to_str().unwrap().to_owned(),
            false => (*word).to_owned(),
        })
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let output = stage.weir(&words);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.success(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn a_candidate_that_is_the_logged_router_gains_nothing() {
    let stage = Stage::new();
    write_log(&stage);
    let words = [
        "router",
        "ope",
        "log.jsonl",
        "--candidate",
        "same.onnx",
        "--labels",
        "labels.jsonl",
    ];
    let (ended_well, text, said) = run(&stage, &words);
    assert!(ended_well, "{said}");
    assert!(
        text.contains("doubly robust") && text.contains("600 decisions"),
        "{text}"
    );
    let (_, json, _) = run(&stage, &[&words[..], &["--output", "json"]].concat());
    let found: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(found["gain"]["value"], 0.0);
    assert_eq!(found["diagnostics"]["effective"], 600.0);
    let (ips, robust) = (&found["inversePropensity"], &found["doublyRobust"]);
    let distance = ips["value"].as_f64().unwrap() - robust["value"].as_f64().unwrap();
    assert!(distance.abs() < 0.1, "{json}");
}

#[test]
fn a_log_that_cannot_say_ends_with_the_reason() {
    let stage = Stage::new();
    write_log(&stage);
    let unlabelled = ["router", "ope", "log.jsonl", "--candidate", "same.onnx"];
    let (ended_well, _, said) = run(&stage, &unlabelled);
    assert!(
        !ended_well && said.contains("the 0 labels stand for 0 decisions, the log has 600"),
        "{said}"
    );
    let (ended_well, json, _) = run(&stage, &[&unlabelled[..], &["--output", "json"]].concat());
    let found: Value = serde_json::from_str(&json).unwrap();
    assert!(!ended_well && found["refused"].is_string(), "{json}");
    let (ended_well, _, said) = run(&stage, &["router", "gate", "log.jsonl"]);
    assert!(
        !ended_well && said.contains("no rows of a rollout"),
        "{said}"
    );
    let (ended_well, _, said) = run(&stage, &["router", "calibrate", "labels.jsonl"]);
    assert!(!ended_well && said.contains("labels.jsonl"), "{said}");
}

#[test]
fn a_certificate_is_written_into_the_artifact_and_none_that_cannot_be_given() {
    let stage = Stage::new();
    let table = ArmTable::standard(3);
    let artifact = Artifact::constant(&table, &vec![2.0; table.arms.len()]);
    std::fs::write(stage.path("router.onnx"), artifact.to_bytes()).unwrap();
    let log = Path::new(env!("CARGO_MANIFEST_DIR")).join("../router/artifacts/outcomes.jsonl");
    let log = log.display().to_string();
    let words = [
        "router",
        "calibrate",
        &log,
        "--artifact",
        "router.onnx",
        "--out",
        "out.onnx",
    ];
    let (ended_well, text, said) = run(&stage, &words);
    assert!(!ended_well && text.contains("no certificate"), "{text}");
    assert!(said.contains("nothing is written to "), "{said}");
    assert!(!stage.path("out.onnx").exists());
    let (ended_well, _, said) = run(&stage, &[&words[..], &["--alpha", "0.95"]].concat());
    assert!(ended_well, "{said}");
    let written = Artifact::from_bytes(&std::fs::read(stage.path("out.onnx")).unwrap()).unwrap();
    let certificate = written.manifest().certificate.clone().unwrap();
    assert_eq!((certificate.alpha, certificate.models), (0.95, 3));
    assert!(said.contains(written.sha256()), "{said}");
    let (_, text, _) = run(&stage, &["router", "inspect", "out.onnx"]);
    assert!(
        text.contains("at most 95 % wrong with probability 0.9"),
        "{text}"
    );
}

#[test]
fn simulations_write_results_and_a_plot() {
    let stage = Stage::new();
    let few = [
        "router",
        "gate",
        "--simulate",
        "--runs",
        "2",
        "--plot",
        "plot.svg",
        "--results",
        "results",
    ];
    let (ended_well, text, said) = run(&stage, &few);
    assert!(ended_well && text.contains("TRUE REGRET"), "{said}");
    assert!(
        std::fs::read_to_string(stage.path("plot.svg"))
            .unwrap()
            .contains("<polyline")
    );
    let few = [
        "router",
        "ope",
        "--simulate",
        "--replicates",
        "2",
        "--results",
        "results",
    ];
    let (ended_well, text, said) = run(&stage, &few);
    assert!(
        ended_well && text.contains("coverage.doubly robust"),
        "{said}"
    );
    for name in ["gate.json", "gate.md", "ope.json", "ope.md"] {
        assert!(stage.path("results").join(name).exists(), "{name}");
    }
}
