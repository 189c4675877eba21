//! Pinned requests: what is recorded of tokens that nobody asked for, and how long a whole answer is waited for.

use crate::echo::{Echo, Mode};
use crate::world::{World, asking, asking_with, plan, pool, prefers};
use serde_json::{Value, json};
use weir_plan::EngineKind;

const TOLD: &[&str] = &[
    r#"{"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}],"usage":null}"#,
    r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#,
    r#"{"choices":[],"usage":{"prompt_tokens":40,"completion_tokens":8,"prompt_tokens_details":{"cached_tokens":32}}}"#,
    "[DONE]",
];
const TIMED: &[&str] = &[
    r#"{"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}"#,
    r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"timings":{"cache_n":32,"prompt_n":8,"predicted_n":8}}"#,
    "[DONE]",
];
const UNTOLD: &[&str] = &[
    r#"{"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}"#,
    r#"{"choices":[{"index":0,"delta":{"content":" you"},"finish_reason":"stop"}]}"#,
    "[DONE]",
];

#[tokio::test]
async fn tokens_of_a_stream_are_recorded_whether_or_not_the_client_asks_for_them() {
    let known = json!({"prompt": 40, "cached": 32, "completion": 8});
    let counted = json!({"prompt": 0, "cached": 0, "completion": 2, "counted": true});
    for (events, engine, tokens, is_asked) in [
        (TOLD, EngineKind::External, &known, true),
        (TIMED, EngineKind::LlamaCpp, &known, false),
        (UNTOLD, EngineKind::External, &counted, true),
    ] {
        let echo = Echo::start(Mode::Stream(events)).await;
        let mut small = pool("small", &[&echo]);
        small.engine = engine;
        let world = World::start(plan(vec![small]), prefers(0, 1)).await;
        let body = asking_with("small-model", "hi", &json!({"stream": true}));
        let reply = world.chat(&body).await;
        let id = reply.header("x-weir-decision").to_owned();
        let text = reply.text().await;
        assert!(!text.contains("usage"), "{text}");
        assert_eq!(text.contains("timings"), engine == EngineKind::LlamaCpp);
        let row = world.get(&format!("/v1/decisions/{id}")).await;
        assert_eq!(row.json().await["tokens"], *tokens, "{text}");
        let asked = &echo.bodies()[0]["stream_options"]["include_usage"];
        assert_eq!(*asked == true, is_asked, "{text}");
    }
}

#[tokio::test]
async fn a_whole_answer_that_takes_most_of_its_time_is_asked_for_once() {
    let slow = Echo::start(Mode::Slow(1_200)).await;
    let also = Echo::start(Mode::Slow(1_200)).await;
    let mut plan = plan(vec![pool("small", &[&slow, &also])]);
    plan.limits.request_timeout_ms = 2_000;
    let world = World::start(plan, prefers(0, 1)).await;
    let answer: Value = world.chat(&asking("small-model", "hi")).await.json().await;
    assert_eq!(answer["choices"][0]["message"]["content"], "echo hi");
    assert_eq!(slow.bodies().len() + also.bodies().len(), 1);
}
