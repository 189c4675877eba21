//! The committed default router: it is what its log trains, and its report says what it is worth.

use std::path::Path;
use weir_lab::train::{TrainCommand, train};
use weir_router::Router;
use weir_router::train::{Evaluation, TrainOptions};

#[test]
fn the_default_router_is_what_its_log_trains() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../router/artifacts");
    let folder = tempfile::tempdir().unwrap();
    let command = TrainCommand {
        log: committed.join("outcomes.jsonl"),
        artifact: folder.path().join("default.onnx"),
        report: folder.path().join("report"),
        options: TrainOptions::default(),
    };
    let summary = train(&command).unwrap();
    assert_eq!(
        summary.artifact_sha256,
        Router::builtin().artifact().sha256()
    );
    let text = std::fs::read_to_string(committed.join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["artifactSha256"], summary.artifact_sha256);
    assert_eq!(report["evaluation"], serde_json::json!(summary.evaluation));
    assert!(summary.evaluation.questions >= 150);
    // Labels that mean nothing train a worse router.
    assert_eq!(report["permuted"], serde_json::json!(summary.permuted));
    let routed = |evaluation: &Evaluation| {
        let mut systems = evaluation.systems.iter();
        let routed = systems.find(|system| system.name == "routed");
        routed.expect("the router is compared").utility.value
    };
    assert!(routed(&summary.permuted) < routed(&summary.evaluation));
}
