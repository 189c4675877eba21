//! The gateway in front of a real engine with SmolLM2.

use crate::world::{World, asking_with, events, plan, pool, prefers, text_of};
use http::StatusCode;
use serde_json::json;
use std::time::{Duration, Instant};
use weir_plan::{Endpoint, EngineKind, Pool, TokenizerApi, Vocabulary};
use weir_testenv::LlamaServer;

/// A pool of SmolLM2 with this context.
fn smollm2(server: &LlamaServer, context_tokens: u32) -> Pool {
    Pool {
        engine: EngineKind::LlamaCpp,
        context_tokens,
        endpoints: vec![Endpoint::keyless(&server.url())],
        ..pool("small", &[])
    }
}

#[tokio::test]
async fn smollm2_answers_routed_and_pinned_whole_and_streamed() {
    let Some(server) = LlamaServer::with_smollm2(1024) else {
        return;
    };
    let small = smollm2(&server, 1024);
    let mut plan = plan(vec![small.clone()]);
    plan.limits.request_timeout_ms = 60_000;
    let world = World::start(plan, prefers(0, 1)).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let engines = weir_engine::Engines::new();
    let probed = engines.probe(&small, &small.endpoints[0], deadline).await;
    assert!(probed.is_ok(), "a healthy engine generates: {probed:?}");
    for model in ["auto", "small-model"] {
        let more = json!({"max_tokens": 8, "temperature": 0});
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

        let more = json!({"max_tokens": 8, "temperature": 0, "stream": true});
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

#[tokio::test]
async fn smollm2_counts_a_prompt_for_the_gateway_as_it_counts_it_for_itself() {
    let Some(server) = LlamaServer::with_smollm2(1024) else {
        return;
    };
    let counting = Pool {
        vocabulary: Some(Vocabulary {
            api: TokenizerApi::LlamaCpp,
            model: "sha256:smollm2".to_owned(),
        }),
        ..smollm2(&server, 1024)
    };
    let world = World::start(plan(vec![counting]), prefers(0, 1)).await;
    for text in [
        "请用中文解释一下量子纠缠。",
        "Emoji 🙂👩‍👩‍👧‍👦🏳️‍🌈 and flags 🇩🇪🇯🇵!",
        "def f(x):\n    if x:\n\treturn {'a': [1, 2, 3]}",
    ] {
        let more = json!({"max_tokens": 1, "weir": {"explain": true}});
        let body = world.chat(&asking_with("auto", text, &more)).await;
        let executed = body.json().await["weir"]["explain"]["executed"].clone();
        assert_eq!(executed["token_counts"], "exact", "{text}: {executed}");

        // Both refuse with the number of tokens: the gateway before it asks, the engine when it is asked.
        let long = text.repeat(1200 / text.chars().count() * 4);
        let mut numbers = Vec::new();
        for model in ["auto", "small-model"] {
            let refused = world.chat(&asking_with(model, &long, &json!({}))).await;
            let error = refused.json().await["error"].clone();
            assert_eq!(error["code"], "context_length_exceeded", "{error}");
            let words = error["message"].as_str().unwrap().split_whitespace();
            numbers.push(
                words
                    .filter_map(|word| word.parse().ok())
                    .collect::<Vec<u32>>(),
            );
        }
        assert!(!numbers[0].is_empty(), "no number of tokens is named");
        assert_eq!(numbers[0], numbers[1], "{text}");
    }
}
