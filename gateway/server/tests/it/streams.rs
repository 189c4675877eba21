//! Answers, whole and streamed, routed and pinned: content, headers, usage, log-probabilities, breaks and leavers.

use crate::echo::{Echo, Mode};
use crate::world::{World, asking, asking_with, events, plan, pool, prefers, text_of};
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::json;
use std::time::Duration;
use weir_plan::QueryText;

#[tokio::test]
async fn a_whole_answer_has_openais_shape_and_says_how_it_was_made() {
    let echo = Echo::start(Mode::Echo).await;
    let world = World::of(&echo).await;
    for model in ["auto", "small-model"] {
        let reply = world.chat(&asking(model, "hello there")).await;
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.header("x-weir-model"), "small-model");
        assert_eq!(reply.header("x-weir-recall"), "none");
        assert_eq!(reply.header("x-weir-escalated"), "false");
        for name in ["x-weir-decision", "x-weir-plan-age", "x-request-id"] {
            assert!(!reply.header(name).is_empty(), "{model} {name}");
        }
        let id = reply.header("x-weir-decision").to_owned();
        let body = reply.json().await;
        assert_eq!(body["object"], "chat.completion");
        assert_eq!(
            body["choices"][0]["message"]["content"], "echo hello there",
            "{model}"
        );
        assert_eq!(body["choices"][0]["finish_reason"], "stop");
        assert_eq!(body["usage"]["total_tokens"], 9);
        let decision = world.get(&format!("/v1/decisions/{id}")).await;
        assert_eq!(decision.status, StatusCode::OK, "{model}");
        assert_eq!(decision.json().await["decision_id"], id);
    }
}

#[tokio::test]
async fn streams_carry_usage_and_log_probabilities_exactly_when_asked() {
    let echo = Echo::start(Mode::Echo).await;
    let world = World::of(&echo).await;
    for model in ["auto", "small-model"] {
        for usage in [false, true] {
            for logprobs in [false, true] {
                let more = json!({
                    "stream": true, "logprobs": logprobs, "stream_options": {"include_usage": usage},
                });
                let reply = world
                    .chat(&asking_with(model, "one two three", &more))
                    .await;
                assert_eq!(reply.header("content-type"), "text/event-stream");
                let text = reply.text().await;
                let (events, done) = events(&text);
                assert!(done, "{text}");
                assert_eq!(text_of(&events), "echo one two three");
                let with_usage = events
                    .iter()
                    .filter(|event| !event["usage"].is_null())
                    .count();
                assert_eq!(with_usage, usize::from(usage), "{model} {text}");
                let logged = events
                    .iter()
                    .any(|e| !e["choices"][0]["logprobs"].is_null());
                assert_eq!(logged, logprobs, "{model} {text}");
            }
        }
    }
}

#[tokio::test]
async fn a_break_in_the_middle_is_an_error_event_and_never_a_silent_end() {
    let echo = Echo::start(Mode::BreakInTheMiddle).await;
    let mut plan = plan(vec![pool("small", &[&echo])]);
    plan.limits.request_timeout_ms = 5000;
    let world = World::start(plan, prefers(0, 1)).await;
    let more = json!({"stream": true});
    let reply = world
        .chat(&asking_with("small-model", "one two", &more))
        .await;
    assert_eq!(reply.status, StatusCode::OK);
    let (events, done) = events(&reply.text().await);
    assert_eq!(text_of(&events), "echo ");
    let error = &events.last().unwrap()["error"];
    assert_eq!(error["code"], "engine_failed", "{events:?}");
    assert!(!done && !error.to_string().contains("127.0.0.1"));
    let whole = world.chat(&asking("auto", "one two")).await;
    assert_eq!(
        whole.status,
        StatusCode::BAD_GATEWAY,
        "nothing had reached the client"
    );
}

#[tokio::test]
async fn an_answer_that_just_ends_is_an_error_event_and_a_failure_in_the_log() {
    let echo = Echo::start(Mode::EndInTheMiddle).await;
    let world = World::of(&echo).await;
    for model in ["small-model", "auto"] {
        let more = json!({"stream": true});
        let reply = world.chat(&asking_with(model, "one two", &more)).await;
        assert_eq!(reply.status, StatusCode::OK, "{model}");
        let id = reply.header("x-weir-decision").to_owned();
        let (events, done) = events(&reply.text().await);
        assert_eq!(text_of(&events), "echo ", "{model}");
        assert_eq!(events.last().unwrap()["error"]["code"], "engine_failed");
        assert!(!done, "{model}");
        let row = world.get(&format!("/v1/decisions/{id}")).await.json().await;
        assert_eq!(row["outcome"]["error"], "reset", "{model}");
    }
}

#[tokio::test]
async fn where_nothing_can_be_judged_the_first_token_leaves_at_once() {
    let tools = json!([{"type": "function", "function": {"name": "add"}}]);
    for (mode, rank, more) in [
        (Mode::HangInTheMiddle, 1, json!({"stream": true})),
        (
            Mode::HangInACall,
            0,
            json!({"stream": true, "tools": tools}),
        ),
    ] {
        let echo = Echo::start(mode).await;
        let pools = vec![pool("small", &[&echo]), pool("big", &[&echo])];
        let world = World::start(plan(pools), prefers(rank, 2)).await;
        let mut reply = world
            .chat(&asking_with("auto", "one two three", &more))
            .await;
        assert_eq!(reply.status, StatusCode::OK, "{mode:?}");
        let first = reply.body.frame().await.unwrap().unwrap();
        let first = first.into_data().unwrap();
        assert!(first.starts_with(b"data: {"), "{mode:?}: {first:?}");
        echo.until_open(1).await;
    }
}

#[tokio::test]
async fn a_client_that_goes_away_frees_the_engine() {
    for model in ["auto", "small-model"] {
        let echo = Echo::start(Mode::Hang).await;
        let world = World::of(&echo).await;
        let body = asking(model, "hi");
        let before_the_first_token = world.chat(&body);
        tokio::select! {
            _ = before_the_first_token => panic!("the engine hangs"),
            () = echo.until_open(1) => {}
        }
        echo.until_open(0).await;
    }
    let echo = Echo::start(Mode::HangInTheMiddle).await;
    let world = World::of(&echo).await;
    let more = json!({"stream": true});
    let mut reply = world
        .chat(&asking_with("small-model", "one two", &more))
        .await;
    assert!(reply.body.frame().await.unwrap().is_ok());
    echo.until_open(1).await;
    drop(reply);
    echo.until_open(0).await;
}

#[tokio::test]
async fn a_pinned_body_reaches_the_engine_as_it_came_without_weirs_own_fields() {
    let echo = Echo::start(Mode::Echo).await;
    let world = World::of(&echo).await;
    let more = json!({"top_k": 7, "temperature": 0.5, "weir": {"privacy": "local"}});
    let reply = world.chat(&asking_with("small-model", "hi", &more)).await;
    assert_eq!(reply.status, StatusCode::OK);
    let sent = echo.bodies().pop().unwrap();
    assert_eq!(
        sent,
        asking_with(
            "small-model",
            "hi",
            &json!({"top_k": 7, "temperature": 0.5})
        )
    );
}

#[tokio::test]
async fn a_request_has_arrived_with_its_head_however_slow_its_body_is() {
    let echo = Echo::start(Mode::Echo).await;
    let world = World::of(&echo).await;
    let slow = Duration::from_millis(150);
    for model in ["auto", "small-model"] {
        let reply = world.chat_slowly(&asking(model, "hi"), slow).await;
        assert_eq!(reply.status, StatusCode::OK, "{model}");
        let row = world.row_of(reply).await;
        let total = row["latency_ms"]["total"].as_f64().unwrap();
        assert!(total >= 100.0, "{model}: {total} ms");
    }
}

#[tokio::test]
async fn the_steps_that_a_request_took_are_counted_with_their_times() {
    let echo = Echo::start(Mode::Echo).await;
    let world = World::of(&echo).await;
    let reply = world.chat(&asking("auto", "hi")).await;
    world.row_of(reply).await;
    let metrics = world.get("/metrics").await.text().await;
    for (step, taken) in [
        ("router", true),
        ("prompt", true),
        ("llm", true),
        ("embed", false),
        ("attention", false),
    ] {
        let row = format!("weir_step_seconds_count{{step=\"{step}\"}} 1");
        assert_eq!(metrics.contains(&row), taken, "{step}: {metrics}");
    }
    assert!(metrics.contains("tier=\"device\""), "{metrics}");
}

#[tokio::test]
async fn every_row_names_its_question_and_what_the_client_set() {
    let echo = Echo::start(Mode::Echo).await;
    let mut plan = plan(vec![pool("small", &[&echo])]);
    plan.logs.query_text = QueryText::Full;
    let world = World::start(plan, prefers(0, 1)).await;
    for (model, set) in [
        ("auto", json!(["max_tokens"])),
        ("small-model", json!(["model", "max_tokens"])),
    ] {
        let more = json!({"max_tokens": 9});
        let reply = world.chat(&asking_with(model, " hi  you ", &more)).await;
        let row = world.row_of(reply).await;
        assert_eq!(row["query"]["text"], "hi  you", "{model}");
        assert_eq!(row["executed"]["client_set"], set, "{model}");
    }
}

#[tokio::test]
async fn the_other_surfaces_answer() {
    let echo = Echo::start(Mode::Echo).await;
    let world = World::of(&echo).await;
    let models = world.get("/v1/models").await.json().await;
    let ids: Vec<&str> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|model| model["id"].as_str())
        .collect();
    assert_eq!(ids, ["auto", "small-model"]);

    let asked = json!({"model_id": "small-model", "prompt": "hi you", "max_tokens": 5});
    let generated = world.post("/generate", &asked).await.json().await;
    assert_eq!(generated["text"], "echo hi you");
    assert_eq!(generated["usage"]["completion_tokens"], 2);
    let asked = json!({"model_id": "small-model", "prompt": "hi", "colour": 1});
    let refused = world.post("/generate", &asked).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(refused.json().await["error"]["param"], "colour");

    let asked = json!({"model": "small-model", "input": ["a", "b"], "encoding_format": "base64"});
    let embedded = world.post("/v1/embeddings", &asked).await.json().await;
    assert_eq!(embedded["data"][1]["embedding"], "AACAPwAAAD8=");
    for (field, value) in [
        ("input", json!([1, 2])),
        ("encoding_format", json!("hex")),
        ("dimensions", json!(3)),
    ] {
        let mut asked = json!({"model": "small-model", "input": "a", "dimensions": 2});
        asked[field] = value;
        let refused = world.post("/v1/embeddings", &asked).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{field}");
        assert_eq!(refused.json().await["error"]["param"], field);
    }

    let chats = echo.bodies().len();
    let routed = world.post("/v1/route", &asking("auto", "hi")).await;
    assert_eq!(routed.status, StatusCode::OK);
    assert_eq!(echo.bodies().len(), chats, "nothing is generated to route");

    let text = world.get("/metrics").await.text().await;
    for line in [
        "weir_requests_total{",
        "weir_tokens_total{",
        "weir_pool_replicas{pool=\"small\"} 1",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(!text.contains("127.0.0.1"), "{text}");
}
