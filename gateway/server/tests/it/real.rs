//! The gateway in front of a real engine with SmolLM2.

use crate::world::{World, asking_with, events, plan, pool, prefers, text_of};
use http::StatusCode;
use serde_json::json;
use std::time::{Duration, Instant};
use weir_plan::{Endpoint, EngineKind};
use weir_testenv::LlamaServer;

#[tokio::test]
async fn smollm2_answers_routed_and_pinned_whole_and_streamed() {
    let Some(server) = LlamaServer::with_smollm2(1024) else {
        return;
    };
    let mut small = pool("small", &[]);
    small.engine = EngineKind::LlamaCpp;
    small.context_tokens = 1024;
    small.endpoints = vec![Endpoint {
        url: server.url(),
        api_key: None,
    }];
    let mut plan = plan(vec![small.clone()]);
    plan.limits.request_timeout_ms = 60_000;
    let world = World::start(plan, prefers(0, 1)).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let engines = weir_engine::Engines::new();
    let probed = engines.probe(&small, &small.endpoints[0], deadline).await;
    assert!(probed.is_ok(), "a healthy engine generates: {probed:?}");
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
