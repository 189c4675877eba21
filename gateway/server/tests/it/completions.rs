//! `POST /v1/completions`, routed and pinned, whole and streamed.

use crate::echo::{Echo, Mode};
use crate::world::{World, events};
use http::StatusCode;
use serde_json::{Value, json};

const PATH: &str = "/v1/completions";

fn text_of(events: &[Value]) -> String {
    let texts = events
        .iter()
        .filter_map(|event| event["choices"][0]["text"].as_str());
    texts.collect()
}

#[tokio::test]
async fn a_prompt_is_completed_whole_and_streamed_in_openais_shape() {
    let echo = Echo::start(Mode::Echo).await;
    let world = World::of(&echo).await;
    for model in ["auto", "small-model"] {
        for prompt in [json!("hi you"), json!(["hi you"])] {
            let asked = json!({"model": model, "prompt": prompt, "max_tokens": 9});
            let reply = world.post(PATH, &asked).await;
            assert_eq!(reply.status, StatusCode::OK, "{model} {prompt}");
            assert!(!reply.header("x-weir-decision").is_empty());
            let body = reply.json().await;
            assert_eq!(body["object"], "text_completion", "{model}");
            assert_eq!(body["choices"][0]["text"], "echo hi you", "{model}");
            assert_eq!(body["choices"][0]["finish_reason"], "stop", "{model}");
            assert_eq!(body["usage"]["total_tokens"], 9, "{model}");
        }
        for usage in [false, true] {
            let asked = json!({"model": model, "prompt": "hi you", "stream": true,
                "stream_options": {"include_usage": usage}});
            let text = world.post(PATH, &asked).await.text().await;
            let (events, done) = events(&text);
            assert!(done, "{model}: {text}");
            assert_eq!(text_of(&events), "echo hi you", "{model}");
            let finishes = events
                .iter()
                .filter(|event| event["choices"][0]["finish_reason"] == "stop");
            assert_eq!(finishes.count(), 1, "{model}: {text}");
            let used = events.iter().filter(|event| !event["usage"].is_null());
            assert_eq!(used.count(), usize::from(usage), "{model}: {text}");
        }
    }
}

#[tokio::test]
async fn a_pinned_prompt_reaches_the_engine_as_it_came_and_a_routed_one_as_a_question() {
    let echo = Echo::start(Mode::Echo).await;
    let world = World::of(&echo).await;
    let asked = |model: &str| json!({"model": model, "prompt": ["hi"], "stop": ["x"], "seed": 4, "top_k": 7});
    world.post(PATH, &asked("small-model")).await.text().await;
    assert_eq!(echo.bodies().pop().unwrap(), asked("small-model"));
    let reply = world.post(PATH, &asked("auto")).await;
    let row = world.row_of(reply).await;
    assert!(row["choice"].is_object(), "the router decided: {row}");
    let sent = echo.bodies().pop().unwrap();
    assert_eq!(sent["messages"], json!([{"role": "user", "content": "hi"}]));
    assert_eq!(
        (&sent["stop"], &sent["seed"], &sent["prompt"]),
        (&json!(["x"]), &json!(4), &Value::Null)
    );
}

#[tokio::test]
async fn log_probabilities_of_a_routed_completion_come_when_asked_and_only_then() {
    let echo = Echo::start(Mode::Echo).await;
    let world = World::of(&echo).await;
    let asked = json!({"model": "auto", "prompt": "hi"});
    let body = world.post(PATH, &asked).await.json().await;
    assert!(body["choices"][0]["logprobs"].is_null(), "{body}");
    let asked = json!({"model": "auto", "prompt": "hi", "logprobs": 1});
    let body = world.post(PATH, &asked).await.json().await;
    let logprobs = &body["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"], json!(["echo ", "hi"]), "{body}");
    assert_eq!(logprobs["text_offset"], json!([2, 7]));
    let asked = json!({"model": "auto", "prompt": "hi", "logprobs": 0, "stream": true});
    let (events, _) = events(&world.post(PATH, &asked).await.text().await);
    assert_eq!(
        events[1]["choices"][0]["logprobs"]["text_offset"],
        json!([7])
    );
}

#[tokio::test]
async fn a_completion_that_breaks_ends_with_an_error_event_and_what_is_not_served_is_a_400() {
    let echo = Echo::start(Mode::EndInTheMiddle).await;
    let world = World::of(&echo).await;
    for model in ["auto", "small-model"] {
        let asked = json!({"model": model, "prompt": "hi you", "stream": true});
        let (events, done) = events(&world.post(PATH, &asked).await.text().await);
        assert_eq!(
            events.last().unwrap()["error"]["code"],
            "engine_failed",
            "{model}"
        );
        assert!(!done, "{model}");
        for (field, value) in [
            ("echo", json!(true)),
            ("suffix", json!("x")),
            ("n", json!(if model == "auto" { 2 } else { 17 })),
        ] {
            let mut asked = json!({"model": model, "prompt": "hi"});
            asked[field] = value;
            let refused = world.post(PATH, &asked).await;
            assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{model} {field}");
            assert_eq!(refused.json().await["error"]["param"], field, "{model}");
        }
    }
}
