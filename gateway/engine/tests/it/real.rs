//! The real engine with SmolLM2: usage, timings, log-probabilities, overflow, and what an abort frees.

use crate::doubles::{pool, read, request};
use futures_util::StreamExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use weir_engine::{EngineError, Engines};

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
            "the engine or SmolLM2 is missing: run testenv/fetch.py"
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
        .args(["--ctx-size", "512", "--parallel", "1", "--threads", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    Some(Server(child, format!("http://127.0.0.1:{port}")))
}

#[tokio::test]
async fn smollm2_answers_with_usage_timings_and_log_probabilities() {
    let Some(server) = start() else { return };
    let engines = Engines::new();
    let pool = pool(&[&server.1]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(error) = engines.probe(&pool, &pool.endpoints[0], deadline).await {
        assert!(
            Instant::now() < deadline,
            "the engine did not start: {error}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let mut asked = request(Duration::from_secs(60));
    asked.body.insert("logprobs".into(), true.into());
    asked.body.insert("max_tokens".into(), 8.into());
    let mut stream = engines.chat(&pool, asked).await.unwrap();
    let (mut logprobs, mut usage, mut timings, mut finish) = (0, None, None, None);
    while let Some(event) = stream.next().await {
        let event = event.unwrap();
        assert!(
            event
                .logprobs
                .iter()
                .all(|logprob| (-100.0..=0.0).contains(logprob))
        );
        logprobs += event.logprobs.len();
        usage = event.usage.or(usage);
        timings = event.timings.or(timings);
        finish = event.finish_reason.or(finish);
    }
    let usage = usage.unwrap();
    assert_eq!(usage.completion_tokens as usize, logprobs);
    assert!(usage.prompt_tokens > 0 && timings.unwrap().completion_ms > 0.0);
    assert!(finish.is_some());

    let mut long = request(Duration::from_secs(60));
    let text = "word ".repeat(2000);
    long.body["messages"][0]["content"] = text.into();
    let error = engines.chat(&pool, long).await.unwrap_err();
    assert!(
        matches!(error, EngineError::Context { prompt_tokens, context_tokens: 512, .. } if prompt_tokens > 2000),
        "{error:?}"
    );

    // The one slot is busy with an endless answer; dropping it must free the slot for the next request.
    let mut endless = request(Duration::from_secs(60));
    endless.body.insert("ignore_eos".into(), true.into());
    drop(engines.chat(&pool, endless).await.unwrap());
    let mut next = request(Duration::from_secs(60));
    next.body.insert("max_tokens".into(), 4.into());
    let (text, error) = read(engines.chat(&pool, next).await.unwrap()).await;
    assert!(error.is_none() && !text.is_empty(), "{error:?}");
}
