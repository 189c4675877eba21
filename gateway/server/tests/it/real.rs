//! The gateway in front of a real engine with SmolLM2.

use crate::world::{World, asking_with, events, plan, pool, prefers, text_of};
use http::StatusCode;
use serde_json::json;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use weir_plan::{Endpoint, EngineKind};

/// A llama.cpp server that ends with the test.
struct Server(Child, String);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.exists())
}

fn start() -> Option<Server> {
    let cache = PathBuf::from(std::env::var_os("HOME")?).join(".cache/weir");
    let model = cache.join("models/smollm2-135m-instruct-q4_1.gguf");
    let engine = in_path("llama-server").unwrap_or_else(|| cache.join("bin/llama-server"));
    if !model.exists() || !engine.exists() {
        let required = std::env::var_os("WEIR_TEST_REQUIRE_ENGINE").is_some();
        assert!(
            !required,
            "the engine or SmolLM2 is missing in ~/.cache/weir"
        );
        eprintln!("SKIPPED: llama-server or SmolLM2 is not in ~/.cache/weir");
        return None;
    }
    let socket = std::net::TcpListener::bind("127.0.0.1:0").ok()?;
    let port = socket.local_addr().ok()?.port();
    drop(socket);
    let child = Command::new(engine)
        .arg("--model")
        .arg(model)
        .args(["--host", "127.0.0.1", "--port", &port.to_string()])
        .args(["--ctx-size", "1024", "--parallel", "1", "--threads", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    Some(Server(child, format!("http://127.0.0.1:{port}")))
}

#[tokio::test]
async fn smollm2_answers_routed_and_pinned_whole_and_streamed() {
    let Some(server) = start() else { return };
    let mut small = pool("small", &[]);
    small.engine = EngineKind::LlamaCpp;
    small.context_tokens = 1024;
    small.endpoints = vec![Endpoint {
        url: server.1.clone(),
        api_key: None,
    }];
    let mut plan = plan(vec![small.clone()]);
    plan.limits.request_timeout_ms = 60_000;
    let world = World::start(plan, prefers(0, 1)).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let engines = weir_engine::Engines::new();
    while let Err(error) = engines.probe(&small, &small.endpoints[0], deadline).await {
        assert!(
            Instant::now() < deadline,
            "the engine did not start: {error}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for model in ["auto", "small-model"] {
        let more = json!({"max_tokens": 8});
        let reply = world
            .chat(&asking_with(model, "Name a colour.", &more))
            .await;
        assert_eq!(reply.status, StatusCode::OK, "{model}");
        let body = reply.json().await;
        assert!(
            !body["choices"][0]["message"]["content"]
                .as_str()
                .unwrap()
                .is_empty()
        );
        assert!(
            body["usage"]["completion_tokens"].as_u64().unwrap() <= 8,
            "{body}"
        );

        let more = json!({"max_tokens": 8, "stream": true});
        let text = world
            .chat(&asking_with(model, "Name a colour.", &more))
            .await
            .text()
            .await;
        let (events, done) = events(&text);
        assert!(done && !text_of(&events).is_empty(), "{model}: {text}");
        let finishes = events
            .iter()
            .filter(|event| event["choices"][0]["finish_reason"].is_string());
        assert_eq!(finishes.count(), 1, "{model}: {text}");
        assert!(
            events
                .iter()
                .all(|event| event["choices"][0]["logprobs"].is_null())
        );

        let long = "word ".repeat(4000);
        let refused = world.chat(&asking_with(model, &long, &json!({}))).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{model}");
        let error = refused.json().await["error"].clone();
        assert_eq!(error["code"], "context_length_exceeded", "{model}: {error}");
        assert!(
            error["message"].as_str().unwrap().contains("1024"),
            "{model}: {error}"
        );
    }
}
