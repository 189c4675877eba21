//! `weir up` with a real engine: questions, crashes, reloads, the end.

use crate::support::{Stage, kill, until};
use serde_json::{Value, json};
use weir_testenv::servable_model;

fn chat(address: &Value, model: &str) -> (u16, Value) {
    let url = format!("{}/v1/chat/completions", address.as_str().unwrap());
    let body = json!({
        "model": model,
        "max_tokens": 8,
        "messages": [{"role": "user", "content": "Say hello."}],
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let response = client.post(url).json(&body).send().await.unwrap();
        (
            response.status().as_u16(),
            response.json().await.unwrap_or_default(),
        )
    })
}

/// The address, the pools, and a command that asks.
fn what_serves_is_printed(stage: &Stage, status: &Value) {
    until("the command is printed", || {
        stage.said().contains("weir ask").then_some(())
    });
    let (said, mark) = (stage.said(), &stage.mark);
    let address = status["address"].as_str().unwrap();
    let mut lines = said.lines();
    let mut line_with = |start: &str| {
        let found = lines.find(|line| line.starts_with(start));
        found.unwrap_or_else(|| panic!("no line {start:?}: {said}"))
    };
    assert_eq!(line_with("gateway it"), format!("gateway it  {address}"));
    assert!(line_with("POOL ").contains(" MODEL "), "{said}");
    let row: Vec<&str> = line_with("small ").split_whitespace().collect();
    let model = format!("small-{mark}");
    let expected = ["small", &model, "device", "local", "llamaCpp", "True"];
    assert_eq!(&row[..6], expected, "{said}");
    let url = format!("curl {address}/v1/chat/completions ");
    assert!(line_with(&url).ends_with('\\'), "{said}");
    let body = line_with("  -d '").trim_start_matches("  -d '");
    let body: Value = serde_json::from_str(body.trim_end_matches('\'')).unwrap();
    assert_eq!(body["model"], "auto", "{said}");
    assert!(line_with("weir ask").contains(&model), "{said}");
}

/// `weir logs` while a gateway serves.
fn engine_and_decisions_have_logs(stage: &Stage) {
    let lines = |what: &str| {
        let output = stage.weir(&["logs", what, "-n", "1000"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        String::from_utf8(output.stdout).unwrap()
    };
    let engine = lines("small");
    assert!(engine.starts_with("--- weir starts "), "{engine}");
    assert!(
        engine.lines().count() > 1,
        "the engine says something: {engine}"
    );
    let decisions = lines("decisions");
    for row in decisions.lines() {
        let row: Value = serde_json::from_str(row).unwrap();
        assert_eq!(row["gateway"], "it", "{row}");
    }
    assert!(!decisions.is_empty());
}

#[test]
fn a_question_is_answered_and_a_killed_engine_comes_back() {
    let Some(model) = servable_model() else {
        return;
    };
    let mut stage = Stage::new();
    stage.write_stack(&["small"], &model, "");
    let status = stage.up();
    what_serves_is_printed(&stage, &status);
    let (code, answer) = chat(&status["address"], "auto");
    assert_eq!(code, 200, "{answer}");
    assert!(
        !answer["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .is_empty()
    );

    let asked = stage.weir(&["ask", "Say hello.", "--max-tokens", "8"]);
    let route = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(asked.status.success(), "{route}");
    assert!(!asked.stdout.is_empty());
    let lines: Vec<&str> = route.trim_start().lines().collect();
    let named = format!("model    small-{}", stage.mark);
    assert_eq!(lines[0], named, "{route}");
    let parts = ["why", "recall", "tokens", "model ", "total", "decision 0"];
    for part in parts {
        let found = lines[1..].iter().any(|line| line.starts_with(part));
        assert!(found, "{part}: {route}");
    }

    let log = stage.path("home/it/decisions.jsonl");
    until("the decision is on disk", || log.exists().then_some(()));
    let replayed = stage.weir(&["router", "replay", log.to_str().unwrap()]);
    assert!(
        replayed.status.success(),
        "{}",
        String::from_utf8_lossy(&replayed.stdout)
    );
    let same = stage.path("same.onnx");
    std::fs::write(&same, weir_router::Router::builtin().artifact().to_bytes()).unwrap();
    let words = [
        "router",
        "ope",
        log.to_str().unwrap(),
        "--candidate",
        same.to_str().unwrap(),
    ];
    let refused = stage.weir(&words);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("the 0 labels stand for 0 decisions, the log has "),
        "{said}"
    );

    engine_and_decisions_have_logs(&stage);

    kill("-KILL", &status["pools"][0]["pid"].to_string());
    let again = stage.status_when("the engine is back", |status| {
        status["ready"] == true && status["pools"][0]["restarts"] == 1
    });
    assert!(stage.said().contains("signal 9"), "{}", stage.said());
    assert_ne!(again["pools"][0]["pid"], status["pools"][0]["pid"]);
    assert_eq!(chat(&again["address"], "auto").0, 200);

    let second = stage.up_fails(&[]);
    assert_eq!(second.0, Some(1));
    assert!(second.1.contains("already running"), "{}", second.1);
    let address = status["address"].as_str().unwrap();
    assert!(second.1.contains(address), "{}", second.1);

    assert!(stage.weir(&["down"]).status.success());
    assert_eq!(stage.ended(), Some(0));
    stage.no_process_left();
}

#[test]
fn no_engine_outlives_a_killed_weir() {
    let Some(model) = servable_model() else {
        return;
    };
    let mut stage = Stage::new();
    stage.write_stack(&["small"], &model, "");
    stage.up();
    assert!(!stage.processes().is_empty(), "the mark finds engines");
    stage.kill_up();
    stage.no_process_left();
    // The folder is free again, leftovers and all.
    stage.up();
    stage.terminate_up();
    assert_eq!(stage.ended(), Some(0), "SIGTERM drains: {}", stage.said());
    stage.no_process_left();
}

#[test]
fn a_changed_file_is_served_and_a_broken_one_is_not() {
    let Some(model) = servable_model() else {
        return;
    };
    let mut stage = Stage::new();
    stage.write_stack(&["small"], &model, "");
    let before = stage.up();
    stage.write_stack(&["small", "second"], &model, "");
    let status = stage.status_when("two pools serve", |status| {
        let pools = status["pools"].as_array().map_or(&[][..], Vec::as_slice);
        pools.len() == 2 && pools.iter().all(|pool| pool["ready"] == true)
    });
    let kept = |status: &Value| {
        let pools = status["pools"].as_array().unwrap();
        pools.iter().find(|pool| pool["name"] == "small").unwrap()["pid"].clone()
    };
    assert_eq!(
        kept(&status),
        kept(&before),
        "an unchanged engine keeps running"
    );
    let second = format!("second-{}", stage.mark);
    assert_eq!(chat(&status["address"], &second).0, 200);

    std::fs::write(stage.stack(), "kind: ModelPool\nnonsense: [").unwrap();
    let refused = stage.status_when("the change is refused", |status| {
        status["reloadRefused"].is_string()
    });
    assert!(
        refused["reloadRefused"]
            .as_str()
            .unwrap()
            .contains("stack.yaml"),
        "{refused:#}"
    );
    assert_eq!(
        chat(&refused["address"], &second).0,
        200,
        "the last good stack is served"
    );

    stage.write_stack(&["small"], &model, "");
    stage.status_when("one pool is left", |status| {
        status["pools"].as_array().map(Vec::len) == Some(1) && status["reloadRefused"].is_null()
    });
    let (code, error) = chat(&before["address"], &second);
    assert_eq!(code, 404, "{error}");
}
