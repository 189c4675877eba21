//! `POST /v1/responses`, routed and pinned, whole and streamed.

use crate::echo::{Echo, Mode};
use crate::world::{World, events};
use http::StatusCode;
use serde_json::{Value, json};

const PATH: &str = "/v1/responses";

fn tools() -> Value {
    json!([{"type": "function", "name": "add", "parameters": {"type": "object"}}])
}

fn kinds(events: &[Value]) -> Vec<&str> {
    let kinds = events.iter().filter_map(|event| event["type"].as_str());
    kinds
        .map(|kind| kind.trim_start_matches("response."))
        .collect()
}

async fn stream(world: &World, asked: &Value) -> Vec<Value> {
    let reply = world.post(PATH, asked).await;
    assert_eq!(reply.status, StatusCode::OK, "{asked}");
    let text = reply.text().await;
    let named = text.lines().filter_map(|line| line.strip_prefix("event: "));
    let (events, done) = events(&text);
    assert!(!done, "responses have no [DONE]: {text}");
    let named: Vec<&str> = named.collect();
    let typed: Vec<&str> = events
        .iter()
        .filter_map(|event| event["type"].as_str())
        .collect();
    assert_eq!(named, typed, "an event's name is its type");
    for (at, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], at, "{event}");
    }
    events
}

#[tokio::test]
async fn a_response_has_openais_shape_and_repeats_what_was_asked() {
    let echo = Echo::start(Mode::Echo).await;
    let world = World::of(&echo).await;
    for model in ["auto", "small-model"] {
        let asked = json!({"model": model, "input": "hi you", "instructions": "Be brief.", "max_output_tokens": 9,
            "temperature": 0.5, "metadata": {"k": "v"}, "weir": {"privacy": "local"}});
        let reply = world.post(PATH, &asked).await;
        assert_eq!(reply.status, StatusCode::OK, "{model}");
        let id = reply.header("x-weir-decision").to_owned();
        let body = reply.json().await;
        assert_eq!(body["id"], format!("resp_{id}"), "{model}");
        assert_eq!(
            (&body["object"], &body["status"]),
            (&json!("response"), &json!("completed"))
        );
        assert_eq!(body["model"], "small-model", "{model}");
        let item = &body["output"][0];
        assert_eq!(
            (&item["type"], &item["role"]),
            (&json!("message"), &json!("assistant"))
        );
        assert_eq!(item["content"][0]["text"], "echo hi you", "{model}");
        assert_eq!(body["usage"]["input_tokens"], 7, "{model}");
        assert_eq!(
            (&body["metadata"]["k"], &body["instructions"]),
            (&json!("v"), &json!("Be brief."))
        );
        let sent = echo.bodies().pop().unwrap();
        let messages = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi you"}]);
        assert_eq!(
            (&sent["messages"], &sent["max_tokens"]),
            (&messages, &json!(9)),
            "{model}"
        );
        assert_eq!(
            (&sent["temperature"], &sent["weir"]),
            (&json!(0.5), &Value::Null),
            "{model}"
        );
        let row = world.get(&format!("/v1/decisions/{id}")).await.json().await;
        assert_eq!(row["outcome"]["finish_reason"], "stop", "{model}");
    }
}

#[tokio::test]
async fn text_streams_as_the_events_that_openais_clients_read() {
    let echo = Echo::start(Mode::Echo).await;
    let world = World::of(&echo).await;
    for model in ["auto", "small-model"] {
        let events = stream(
            &world,
            &json!({"model": model, "input": "hi you", "stream": true}),
        )
        .await;
        assert_eq!(
            kinds(&events),
            [
                "created",
                "in_progress",
                "output_item.added",
                "content_part.added",
                "output_text.delta",
                "output_text.delta",
                "output_text.delta",
                "output_text.done",
                "content_part.done",
                "output_item.done",
                "completed",
            ],
            "{model}"
        );
        assert_eq!(events[7]["text"], "echo hi you", "{model}");
        let response = &events.last().unwrap()["response"];
        assert_eq!(
            response["output"][0]["content"][0]["text"], "echo hi you",
            "{model}"
        );
        assert_eq!(response["output"][0]["id"], events[4]["item_id"], "{model}");
        assert_eq!(response["usage"]["total_tokens"], 9, "{model}: {response}");
        assert_eq!(events[0]["response"]["status"], "in_progress", "{model}");
    }
}

#[tokio::test]
async fn calls_are_items_and_their_results_are_taken_back() {
    let echo = Echo::start(Mode::BareCalls).await;
    let world = World::of(&echo).await;
    for model in ["auto", "small-model"] {
        let mut asked = json!({"model": model, "input": "one and one?", "tools": tools()});
        let body = world.post(PATH, &asked).await.json().await;
        let calls = body["output"].as_array().unwrap();
        assert_eq!(calls.len(), 2, "{model}: {body}");
        for call in calls {
            assert_eq!(
                (&call["type"], &call["name"]),
                (&json!("function_call"), &json!("add"))
            );
            assert_eq!(call["arguments"], "{\"a\":1}", "{model}");
        }
        let sent = echo.bodies().pop().unwrap();
        assert_eq!(sent["tools"][0]["function"]["name"], "add", "{model}");

        asked["stream"] = json!(true);
        let events = stream(&world, &asked).await;
        let call = [
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
        ];
        let all = [
            &["created", "in_progress"][..],
            &call,
            &call,
            &["completed"],
        ]
        .concat();
        assert_eq!(kinds(&events), all, "{model}");
        let ended = &events.last().unwrap()["response"]["output"];
        assert_eq!(ended[1]["arguments"], "{\"a\":1}", "{model}");
        assert_ne!(ended[0]["call_id"], ended[1]["call_id"], "{model}");

        // The items go back as they came, with the result.
        let result =
            json!({"type": "function_call_output", "call_id": ended[0]["call_id"], "output": "2"});
        let turn = json!([{"role": "user", "content": "one and one?"}, ended[0], result]);
        let reply = world
            .post(
                PATH,
                &json!({"model": model, "input": turn, "tools": tools()}),
            )
            .await;
        assert_eq!(reply.status, StatusCode::OK, "{model}");
        let messages = echo.bodies().pop().unwrap()["messages"].clone();
        assert_eq!(
            messages[1]["tool_calls"][0]["id"], messages[2]["tool_call_id"],
            "{model}"
        );
    }
}

#[tokio::test]
async fn a_broken_stream_ends_with_an_error_and_a_failed_response() {
    for model in ["auto", "small-model"] {
        let echo = Echo::start(Mode::EndInTheMiddle).await;
        let world = World::of(&echo).await;
        let events = stream(
            &world,
            &json!({"model": model, "input": "hi you", "stream": true}),
        )
        .await;
        let kinds = kinds(&events);
        assert_eq!(kinds[kinds.len() - 2..], ["error", "failed"], "{model}");
        let response = &events.last().unwrap()["response"];
        assert_eq!(response["error"]["code"], "engine_failed", "{model}");
        let whole = world
            .post(PATH, &json!({"model": model, "input": "hi"}))
            .await;
        assert_eq!(whole.status, StatusCode::BAD_GATEWAY, "{model}");
    }
}

#[tokio::test]
async fn an_answer_that_was_cut_is_incomplete_and_says_why() {
    const CUT: &str =
        r#"{"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"length"}]}"#;
    let echo = Echo::start(Mode::Stream(&[CUT, "[DONE]"])).await;
    let world = World::of(&echo).await;
    for model in ["auto", "small-model"] {
        let body = world
            .post(PATH, &json!({"model": model, "input": "hi"}))
            .await
            .json()
            .await;
        assert_eq!(body["status"], "incomplete", "{model}: {body}");
        assert_eq!(
            body["incomplete_details"]["reason"], "max_output_tokens",
            "{model}"
        );
        let events = stream(
            &world,
            &json!({"model": model, "input": "hi", "stream": true}),
        )
        .await;
        assert_eq!(kinds(&events).last(), Some(&"incomplete"), "{model}");
    }
}

#[tokio::test]
async fn what_needs_a_store_is_a_400_that_says_what_instead_and_fields_have_their_own_names() {
    let echo = Echo::start(Mode::Echo).await;
    let world = World::of(&echo).await;
    for (field, value, param) in [
        (
            "previous_response_id",
            json!("resp_1"),
            "previous_response_id",
        ),
        ("store", json!(true), "store"),
        ("tools", json!([{"type": "web_search"}]), "tools[0].type"),
        ("max_output_tokens", json!(0), "max_output_tokens"),
        ("input", json!([]), "input"),
        (
            "input",
            json!([{"role": "assistant", "content": "hi"}]),
            "input",
        ),
    ] {
        let mut asked = json!({"model": "auto", "input": "hi"});
        asked[field] = value;
        let refused = world.post(PATH, &asked).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{asked}");
        let error = refused.json().await["error"].clone();
        assert_eq!(error["param"], param, "{error}");
        assert!(
            error["message"].as_str().unwrap().starts_with(param),
            "{error}"
        );
    }
    assert!(echo.bodies().is_empty(), "nothing was asked");
}

#[tokio::test]
async fn an_input_beyond_the_context_is_refused_under_its_own_name() {
    for model in ["auto", "small-model"] {
        let echo = Echo::start(Mode::Overflow).await;
        let world = World::of(&echo).await;
        for (path, param) in [(PATH, "input"), ("/v1/completions", "prompt")] {
            let mut asked = json!({"model": model});
            asked[param] = json!("hi");
            let refused = world.post(path, &asked).await;
            assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{model} {path}");
            let error = refused.json().await["error"].clone();
            assert_eq!(
                (&error["param"], &error["code"]),
                (&json!(param), &json!("context_length_exceeded"))
            );
            assert!(
                error["message"].as_str().unwrap().contains("9001"),
                "{error}"
            );
        }
    }
}
