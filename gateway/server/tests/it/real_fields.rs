//! The fields of OpenAI's bodies in front of a real engine: each does what it says, routed and pinned, whole and streamed.

use crate::world::{World, asking_with, events, plan, pool, prefers, text_of};
use http::StatusCode;
use serde_json::{Value, json};
use weir_plan::{Endpoint, EngineKind, Pool};
use weir_testenv::LlamaServer;

const MODELS: [&str; 2] = ["auto", "small-model"];

async fn world(server: &LlamaServer) -> World {
    let small = Pool {
        engine: EngineKind::LlamaCpp,
        context_tokens: 1024,
        endpoints: vec![Endpoint::keyless(&server.url())],
        ..pool("small", &[])
    };
    let mut plan = plan(vec![small]);
    plan.limits.request_timeout_ms = 120_000;
    World::start(plan, prefers(0, 1)).await
}

/// Text, log-probability entries and finish reason of a greedy answer.
async fn answer(
    world: &World,
    model: &str,
    stream: bool,
    more: &Value,
) -> (String, Vec<Value>, String) {
    let mut asked = asking_with(model, "Count from 1 to 9.", more);
    asked["temperature"] = json!(0);
    asked["stream"] = json!(stream);
    let reply = world.chat(&asked).await;
    assert_eq!(reply.status, StatusCode::OK, "{asked}");
    let text = reply.text().await;
    if !stream {
        let body: Value = serde_json::from_str(&text).unwrap();
        let choice = &body["choices"][0];
        let logprobs = choice["logprobs"]["content"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let said = choice["message"]["content"].as_str().unwrap().to_owned();
        return (
            said,
            logprobs,
            choice["finish_reason"].as_str().unwrap().to_owned(),
        );
    }
    let (events, done) = events(&text);
    assert!(done, "{text}");
    let logprobs = events
        .iter()
        .filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array());
    let reason = events
        .iter()
        .find_map(|event| event["choices"][0]["finish_reason"].as_str());
    (
        text_of(&events),
        logprobs.flatten().cloned().collect(),
        reason.unwrap().to_owned(),
    )
}

#[tokio::test]
async fn stop_seed_logprobs_and_json_schema_do_what_they_say_on_every_path() {
    let Some(server) = LlamaServer::with_smollm2(1024) else {
        return;
    };
    let world = world(&server).await;
    let schema = json!({"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"],
        "additionalProperties": false});
    let format = json!({"type": "json_schema", "json_schema": {"name": "c", "schema": schema}});
    for model in MODELS {
        for stream in [false, true] {
            let at = format!("{model}, stream {stream}");
            let (plain, none, _) = answer(&world, model, stream, &json!({"max_tokens": 16})).await;
            assert!(
                !plain.is_empty() && none.is_empty(),
                "{at}: log-probabilities unasked"
            );

            // The first word that the greedy answer holds in its middle is what it is stopped at.
            let word = plain
                .split_whitespace()
                .nth(1)
                .expect("an answer of some words")
                .to_owned();
            let more = json!({"max_tokens": 16, "stop": [word]});
            let (stopped, _, reason) = answer(&world, model, stream, &more).await;
            assert!(
                !stopped.contains(&word) && plain.starts_with(stopped.trim_end()),
                "{at}: {stopped:?} of {plain:?}"
            );
            assert_eq!(reason, "stop", "{at}");

            let more = json!({"max_tokens": 4, "logprobs": true, "top_logprobs": 3});
            let (said, logprobs, reason) = answer(&world, model, stream, &more).await;
            let tokens: String = logprobs
                .iter()
                .filter_map(|token| token["token"].as_str())
                .collect();
            assert_eq!((tokens.trim(), logprobs.len()), (said.trim(), 4), "{at}");
            assert!(
                logprobs
                    .iter()
                    .all(|token| token["top_logprobs"].as_array().unwrap().len() == 3),
                "{at}"
            );
            assert_eq!(reason, "length", "{at}");

            let more = json!({"max_tokens": 60, "response_format": format});
            let (said, _, reason) = answer(&world, model, stream, &more).await;
            assert_eq!(reason, "stop", "{at}: {said}");
            let read: Value =
                serde_json::from_str(&said).unwrap_or_else(|error| panic!("{at}: {error}: {said}"));
            assert!(
                read["n"].is_i64() && read.as_object().unwrap().len() == 1,
                "{at}: {read}"
            );
        }
    }
}

#[tokio::test]
async fn a_seed_repeats_an_answer_and_what_cannot_be_served_is_refused() {
    let Some(server) = LlamaServer::with_smollm2(1024) else {
        return;
    };
    let world = world(&server).await;
    for model in MODELS {
        let sampled = |seed: u64| {
            let more = json!({"max_tokens": 12, "temperature": 1.0, "seed": seed, "weir": {"memory": "off"}});
            let asked = asking_with(model, "Tell a story.", &more);
            let world = &world;
            async move {
                world.chat(&asked).await.json().await["choices"][0]["message"]["content"].clone()
            }
        };
        // Whatever the first answer left in the engine's cache, the second and the third begin alike.
        sampled(7).await;
        assert_eq!(sampled(7).await, sampled(7).await, "{model}");
        for (field, value) in [
            ("n", json!(if model == "auto" { 2 } else { 17 })),
            ("top_logprobs", json!(3)),
            ("stop", json!(4)),
        ] {
            let refused = world
                .chat(&asking_with(model, "hi", &json!({field: value})))
                .await;
            assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{model} {field}");
            assert_eq!(refused.json().await["error"]["param"], field, "{model}");
        }
    }
}

#[tokio::test]
async fn a_named_model_gives_as_many_answers_as_are_asked_for() {
    let model = weir_testenv::component(weir_testenv::SMOLLM2);
    let server = model.and_then(|model| LlamaServer::with_slots(&model, 2048, 2));
    let Some(server) = server else { return };
    let world = world(&server).await;
    let more = json!({"n": 2, "max_tokens": 6, "temperature": 0});
    let asked = asking_with("small-model", "Count from 1 to 9.", &more);
    let whole = world.chat(&asked).await.json().await;
    let choices = whole["choices"].as_array().unwrap();
    let texts = choices.iter().map(|choice| {
        assert_eq!(choice["finish_reason"], "length", "{whole}");
        choice["message"]["content"].as_str().unwrap().to_owned()
    });
    let texts: Vec<String> = texts.collect();
    assert_eq!(texts.len(), 2, "{whole}");
    // The engine says what one of them used; both are charged.
    assert_eq!(whole["usage"]["completion_tokens"], 6);
    let row = world.row_of(world.chat(&asked).await).await;
    assert_eq!(row["tokens"]["completion"], 12, "{row}");
    assert_eq!(row["tokens"]["counted"], true);

    let mut streamed = asked.clone();
    streamed["stream"] = json!(true);
    let (events, done) = events(&world.chat(&streamed).await.text().await);
    let mut pieces = [String::new(), String::new()];
    let mut ended = 0;
    for choice in events
        .iter()
        .flat_map(|event| event["choices"].as_array().unwrap())
    {
        let index = usize::try_from(choice["index"].as_u64().unwrap()).unwrap();
        pieces[index] += choice["delta"]["content"].as_str().unwrap_or_default();
        ended += u32::from(choice["finish_reason"] == "length");
    }
    assert_eq!((&pieces[..], ended, done), (&texts[..], 2, true));

    let mut more = asked.clone();
    more["n"] = json!(3);
    let refused = world.chat(&more).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    let said = refused.json().await;
    let said = said["error"]["message"].as_str().unwrap();
    assert!(said.contains("'n'"), "of two slots: {said}");
}

#[tokio::test]
async fn a_real_engine_completes_a_prompt_and_answers_as_a_response_on_every_path() {
    let Some(server) = LlamaServer::with_smollm2(1024) else {
        return;
    };
    let world = world(&server).await;
    for model in MODELS {
        let asked = json!({"model": model, "prompt": "1 2 3", "max_tokens": 4, "temperature": 0});
        let whole = world.post("/v1/completions", &asked).await.json().await;
        let text = whole["choices"][0]["text"].as_str().unwrap().to_owned();
        assert!(
            !text.is_empty() && whole["usage"]["completion_tokens"] == 4,
            "{model}: {whole}"
        );
        let mut streamed = asked.clone();
        streamed["stream"] = json!(true);
        let body = world.post("/v1/completions", &streamed).await.text().await;
        let (events, done) = events(&body);
        let pieces = events
            .iter()
            .filter_map(|event| event["choices"][0]["text"].as_str());
        assert_eq!((pieces.collect::<String>(), done), (text, true), "{model}");
        assert!(
            !body.contains("\"usage\":{"),
            "{model}: usage unasked: {body}"
        );

        let asked = json!({"model": model, "input": "Name a colour.", "max_output_tokens": 6, "temperature": 0});
        let whole = world.post("/v1/responses", &asked).await.json().await;
        let text = whole["output"][0]["content"][0]["text"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(!text.is_empty(), "{model}: {whole}");
        let mut streamed = asked.clone();
        streamed["stream"] = json!(true);
        let body = world.post("/v1/responses", &streamed).await.text().await;
        let deltas = body
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
        let deltas = deltas.filter(|event| event["type"] == "response.output_text.delta");
        let said: String = deltas
            .filter_map(|event| event["delta"].as_str().map(str::to_owned))
            .collect();
        assert_eq!(said, text, "{model}");
    }
}

#[tokio::test]
async fn a_real_engine_takes_tools_and_their_results_on_every_path() {
    let Some(server) = LlamaServer::with_smollm2(1024) else {
        return;
    };
    let world = world(&server).await;
    let tools = json!([{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]);
    let call = json!({"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{\"a\":1}"}});
    let messages = json!([
        {"role": "user", "content": "one and one?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
    ]);
    for model in MODELS {
        for stream in [false, true] {
            let asked = json!({"model": model, "messages": messages, "tools": tools, "max_tokens": 8,
                "temperature": 0, "stream": stream});
            let reply = world.chat(&asked).await;
            let status = reply.status;
            let text = reply.text().await;
            assert_eq!(status, StatusCode::OK, "{model} {stream}: {text}");
            assert!(!text.contains("\"error\""), "{model} {stream}: {text}");
        }
    }
    let refused = asking_with("auto", "hi", &json!({"tools": tools, "logprobs": true}));
    assert_eq!(world.chat(&refused).await.status, StatusCode::BAD_REQUEST);
}
