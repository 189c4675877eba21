//! Tools, routed and pinned, whole and streamed; and streams that end badly.

use crate::echo::{Echo, Mode};
use crate::world::{World, asking_with, events, text_of};
use http::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What the calls of a stream add up to, by index: id, name, arguments.
type Calls = BTreeMap<u64, (String, String, String)>;

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}])
}

/// Puts the calls together as openai-python does, which needs an index on every piece.
fn calls_of(events: &[Value]) -> Calls {
    let mut calls = Calls::new();
    let pieces = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["tool_calls"].as_array())
        .flatten();
    for piece in pieces {
        let index = piece["index"].as_u64().expect("every piece has an index");
        let (id, name, arguments) = calls.entry(index).or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        assert!(
            id.is_empty() || piece["id"].is_null(),
            "an id is said once: {piece}"
        );
        id.push_str(&text(&piece["id"]));
        name.push_str(&text(&piece["function"]["name"]));
        arguments.push_str(&text(&piece["function"]["arguments"]));
    }
    calls
}

async fn streamed(world: &World, model: &str) -> (Vec<Value>, bool) {
    let more = json!({"stream": true, "tools": tools()});
    let reply = world.chat(&asking_with(model, "one and one?", &more)).await;
    assert_eq!(reply.status, StatusCode::OK, "{model}");
    events(&reply.text().await)
}

fn finishes(events: &[Value]) -> Vec<&str> {
    let reasons = events
        .iter()
        .map(|event| &event["choices"][0]["finish_reason"]);
    reasons.filter_map(Value::as_str).collect()
}

#[tokio::test]
async fn tool_calls_stream_in_pieces_with_index_and_id_also_where_the_engine_leaves_them_out() {
    for mode in [Mode::Calls, Mode::BareCalls] {
        let echo = Echo::start(mode).await;
        let world = World::of(&echo).await;
        for model in ["auto", "small-model"] {
            let (events, done) = streamed(&world, model).await;
            assert!(done, "{model} {mode:?}");
            assert_eq!(finishes(&events), ["tool_calls"], "{model} {mode:?}");
            let calls = calls_of(&events);
            assert_eq!(calls.len(), 2, "{model} {mode:?}: {events:?}");
            let ids: Vec<&String> = calls.values().map(|(id, ..)| id).collect();
            assert!(
                ids.iter().all(|id| !id.is_empty()) && ids[0] != ids[1],
                "{ids:?}"
            );
            for (_, name, arguments) in calls.values() {
                assert_eq!((name.as_str(), arguments.as_str()), ("add", "{\"a\":1}"));
            }
        }
    }
}

#[tokio::test]
async fn tool_calls_of_a_whole_answer_have_ids_and_the_reason_says_so() {
    for mode in [Mode::Calls, Mode::BareCalls] {
        let echo = Echo::start(mode).await;
        let world = World::of(&echo).await;
        for model in ["auto", "small-model"] {
            let asked = asking_with(model, "one and one?", &json!({"tools": tools()}));
            let body = world.chat(&asked).await.json().await;
            let choice = &body["choices"][0];
            assert_eq!(choice["finish_reason"], "tool_calls", "{model} {mode:?}");
            assert_eq!(choice["message"]["content"], Value::Null, "{model}");
            for call in choice["message"]["tool_calls"].as_array().unwrap() {
                assert!(call["id"].is_string(), "{model} {mode:?}: {call}");
                assert_eq!(call["type"], "function");
                assert_eq!(call["function"]["arguments"], "{\"a\":1}");
            }
        }
    }
}

#[tokio::test]
async fn lfm2s_own_call_text_becomes_calls_on_every_path_where_tools_are_offered() {
    let said = "Let me see. <|tool_call_start|>[add(a=1, b='x'), add()]<|tool_call_end|>";
    let echo = Echo::start(Mode::Say(said)).await;
    let world = World::of(&echo).await;
    for model in ["auto", "small-model"] {
        let (events, done) = streamed(&world, model).await;
        assert!(done, "{model}");
        assert_eq!(text_of(&events), "Let me see. ", "{model}");
        let calls = calls_of(&events);
        assert_eq!(calls[&0].2, "{\"a\":1,\"b\":\"x\"}", "{model}");
        assert_eq!(
            (calls[&1].1.as_str(), calls[&1].2.as_str()),
            ("add", "{}"),
            "{model}"
        );
        assert_eq!(finishes(&events), ["tool_calls"], "{model}");

        let asked = asking_with(model, "hi", &json!({"tools": tools()}));
        let body = world.chat(&asked).await.json().await;
        let choice = &body["choices"][0];
        assert_eq!(choice["finish_reason"], "tool_calls", "{model}: {body}");
        assert_eq!(choice["message"]["tool_calls"].as_array().unwrap().len(), 2);
        assert_eq!(
            choice["message"]["content"].as_str().unwrap().trim(),
            "Let me see."
        );

        for more in [json!({}), json!({"tools": tools(), "tool_choice": "none"})] {
            let body = world
                .chat(&asking_with(model, "hi", &more))
                .await
                .json()
                .await;
            let message = &body["choices"][0]["message"];
            assert_eq!(message["content"], said, "{model} {more}");
            assert!(message["tool_calls"].is_null(), "{model} {more}");
        }
    }
}

#[tokio::test]
async fn a_malformed_call_stays_text() {
    let said = "<|tool_call_start|>[add(1, 2)]<|tool_call_end|>";
    let echo = Echo::start(Mode::Say(said)).await;
    let world = World::of(&echo).await;
    for model in ["auto", "small-model"] {
        let (events, _) = streamed(&world, model).await;
        assert_eq!(text_of(&events), said, "{model}");
        assert_eq!(finishes(&events), ["stop"], "{model}");
    }
}

#[tokio::test]
async fn tool_results_of_earlier_turns_reach_the_engine_as_they_came() {
    let echo = Echo::start(Mode::Echo).await;
    let world = World::of(&echo).await;
    let call = json!({"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{\"a\":1}"}});
    let messages = json!([
        {"role": "user", "content": "one and one?"},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
    ]);
    for model in ["auto", "small-model"] {
        for stream in [false, true] {
            let body =
                json!({"model": model, "messages": messages, "tools": tools(), "stream": stream});
            let reply = world.chat(&body).await;
            assert_eq!(reply.status, StatusCode::OK, "{model} {stream}");
            let text = reply.text().await;
            assert!(text.contains("one?"), "{model} {stream}: {text}");
            let sent = echo.bodies().pop().unwrap();
            assert_eq!(
                (&sent["messages"], &sent["tools"]),
                (&messages, &tools()),
                "{model} {stream}"
            );
        }
    }
}

const TOKEN: &str = r#"{"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}"#;
const END: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const UNASKED: &str =
    r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}"#;

#[tokio::test]
async fn silent_truncation_a_stream_done_without_a_finish_reason_is_an_error_event() {
    let echo = Echo::start(Mode::Stream(&[TOKEN, "[DONE]"])).await;
    let world = World::of(&echo).await;
    for model in ["auto", "small-model"] {
        let (events, done) = streamed(&world, model).await;
        assert_eq!(text_of(&events), "hi", "{model}");
        assert_eq!(
            events.last().unwrap()["error"]["code"],
            "engine_failed",
            "{model}"
        );
        assert!(!done, "{model}: a client would take [DONE] for the end");
    }
    let whole = world.chat(&asking_with("auto", "hi", &json!({}))).await;
    assert_eq!(whole.status, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn an_empty_200_stream_is_a_502_and_never_an_empty_answer() {
    const EMPTY: [&[&str]; 2] = [&[], &["[DONE]"]];
    for sent in EMPTY {
        let echo = Echo::start(Mode::Stream(sent)).await;
        let world = World::of(&echo).await;
        for model in ["auto", "small-model"] {
            let more = json!({"stream": true});
            let reply = world.chat(&asking_with(model, "hi", &more)).await;
            assert_eq!(reply.status, StatusCode::BAD_GATEWAY, "{model} {sent:?}");
            assert_eq!(
                reply.json().await["error"]["code"],
                "engine_failed",
                "{model}"
            );
        }
    }
}

#[tokio::test]
async fn usage_that_the_engine_drops_is_counted_and_usage_sent_unasked_is_cut() {
    let silent = Echo::start(Mode::Stream(&[TOKEN, TOKEN, END, "[DONE]"])).await;
    let world = World::of(&silent).await;
    let more = json!({"stream": true, "stream_options": {"include_usage": true}});
    let reply = world.chat(&asking_with("auto", "hi", &more)).await;
    let (streamed, done) = events(&reply.text().await);
    let last = streamed.last().unwrap();
    assert!(
        done && last["choices"].as_array().unwrap().is_empty(),
        "{streamed:?}"
    );
    assert_eq!(last["usage"]["completion_tokens"], 2, "{last}");

    let talkative = Echo::start(Mode::Stream(&[TOKEN, UNASKED, "[DONE]"])).await;
    let world = World::of(&talkative).await;
    for model in ["auto", "small-model"] {
        let reply = world
            .chat(&asking_with(model, "hi", &json!({"stream": true})))
            .await;
        let text = reply.text().await;
        assert!(
            text.contains("\"stop\"") && !text.contains("usage"),
            "{model}: {text}"
        );
    }
}
