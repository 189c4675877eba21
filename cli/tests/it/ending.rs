//! `weir down` while a command has the memory open: the folder is given up only when the memory is closed.

use crate::memory::with_memory;
use crate::support::Stage;
use std::process::{Command, Stdio};
use weir_testenv::servable_model;

/// More files than are read while `weir down` is being typed.
const FILES: usize = 20_000;

#[test]
fn an_ingest_ends_with_the_file_at_hand_and_the_folder_is_free_again() {
    let Some(model) = servable_model() else {
        return;
    };
    let mut stage = Stage::new();
    stage.write_stack(&["small"], &model, "");
    let embedder = model.with_file_name("all-minilm-l6-v2");
    if !embedder.exists() {
        assert!(std::env::var_os("WEIR_TEST_REQUIRE_ENGINE").is_none());
        eprintln!("SKIPPED: no embedder at {}", embedder.display());
        return;
    }
    with_memory(&stage, &embedder);
    let docs = stage.path("many");
    std::fs::create_dir_all(&docs).unwrap();
    for number in 0..FILES {
        let text = format!(
            "# Gauge {number}\n\nThe gauge {number} reads {} cm.\n",
            number * 7 % 500
        );
        std::fs::write(docs.join(format!("{number:05}.md")), text).unwrap();
    }
    stage.up();
    let ingest = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["memory", "ingest", docs.to_str().unwrap()])
        .env("WEIR_HOME", stage.path("home"))
        .env("NO_COLOR", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    stage.status_when("the first passages are stored", |status| {
        status["memory"]["nodes"].as_u64() > Some(0)
    });
    let down = stage.weir(&["down"]);
    assert!(
        down.status.success(),
        "{}",
        String::from_utf8_lossy(&down.stderr)
    );
    let read = ingest.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&read.stderr).into_owned();
    assert_eq!(read.status.code(), Some(1), "{said}");
    assert!(said.contains("files were not read"), "{said}");
    let out = String::from_utf8_lossy(&read.stdout).into_owned();
    assert!(out.contains(" new"), "how far it got: {out}");

    stage.up();
    let status = stage.status_when("it serves what was read", |status| status["ready"] == true);
    let nodes = status["memory"]["nodes"].as_u64().unwrap();
    assert!(nodes > 0 && nodes < FILES as u64, "{status:#}");
    assert!(stage.weir(&["down", "--now"]).status.success());
    assert_eq!(stage.ended(), Some(0));
}
