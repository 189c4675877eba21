//! Bad input and failing engines: status, OpenAI's body, and the headers that say what is safe.

use crate::echo::{Echo, Mode};
use crate::world::{Reply, World, asking, asking_with, plan, pool, prefers};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use weir_plan::{Endpoint, Limits};
use weir_testenv::UntrustedTlsServer;

async fn refused(reply: Reply, status: u16) -> Value {
    assert_eq!(reply.status.as_u16(), status);
    assert!(!reply.header("x-should-retry").is_empty());
    let body = reply.json().await;
    for field in ["message", "type", "param", "code"] {
        assert!(body["error"].get(field).is_some(), "{body}");
    }
    assert!(
        !body.to_string().contains("127.0.0.1"),
        "an address in {body}"
    );
    body["error"].clone()
}

#[tokio::test]
async fn bad_bodies_are_refused_with_the_fields_name() {
    let echo = Echo::start(Mode::Echo).await;
    let world = World::of(&echo).await;
    for (body, param, says) in [
        ("not json".to_owned(), Value::Null, "not JSON"),
        ("[1]".to_owned(), Value::Null, "object"),
        (
            json!({"model": "auto"}).to_string(),
            json!("messages"),
            "missing",
        ),
        (
            json!({"model": "auto", "messages": [
                {"role": "user", "content": "a"}, {"role": "wizard", "content": "b"}]})
            .to_string(),
            json!("messages[1].role"),
            "wizard",
        ),
        (
            asking_with("auto", "hi", &json!({"n": 2})).to_string(),
            json!("n"),
            "n is 2",
        ),
        (
            asking_with("auto", "hi", &json!({"weir": {"privacy": "mars"}})).to_string(),
            json!("weir.privacy"),
            "`onPrem`",
        ),
        (
            asking_with("auto", "hi", &json!({"temperature": "hot"})).to_string(),
            json!("temperature"),
            "hot",
        ),
    ] {
        let reply = world
            .send(Method::POST, "/v1/chat/completions", &[], body.clone())
            .await;
        let error = refused(reply, 400).await;
        assert_eq!(error["param"], param, "{body}");
        assert!(
            error["message"].as_str().unwrap().contains(says),
            "{body}: {error}"
        );
        assert_eq!(error["type"], "invalid_request_error");
    }
    assert_eq!(echo.connections(), 0, "nothing reached the engine");
}

#[tokio::test]
async fn an_unknown_model_is_404_with_the_known_ones() {
    let echo = Echo::start(Mode::Echo).await;
    let world = World::of(&echo).await;
    let error = refused(world.chat(&asking("gpt-9", "hi")).await, 404).await;
    assert_eq!(error["param"], "model");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("gpt-9") && message.contains("auto") && message.contains("small-model")
    );
    refused(world.get("/v1/models/gpt-9").await, 404).await;
    refused(world.get("/v2/nothing").await, 404).await;
    refused(world.get("/v1/chat/completions").await, 405).await;
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_413() {
    let echo = Echo::start(Mode::Echo).await;
    let mut plan = plan(vec![pool("small", &[&echo])]);
    plan.limits.body_max_bytes = 1000;
    let world = World::start(plan, prefers(0, 1)).await;
    let error = refused(world.chat(&asking("auto", &"x".repeat(1000))).await, 413).await;
    assert!(error["message"].as_str().unwrap().contains("1000"));
    assert_eq!(
        world.chat(&asking("auto", "x")).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn an_engines_failure_becomes_its_status_for_auto_and_pinned() {
    for (mode, status, code) in [
        (Mode::Refuse(400), 400, "refused_by_engine"),
        (Mode::Refuse(401), 502, "engine_failed"),
        (Mode::Refuse(429), 429, "rate_limit_exceeded"),
        (Mode::Refuse(500), 502, "engine_failed"),
        (Mode::Refuse(503), 503, "unavailable"),
        (Mode::Overflow, 400, "context_length_exceeded"),
    ] {
        for model in ["auto", "small-model"] {
            let echo = Echo::start(mode).await;
            let world = World::of(&echo).await;
            let reply = world.chat(&asking(model, "hi")).await;
            let waits = !reply.header("retry-after").is_empty();
            assert_eq!(waits, [429, 503].contains(&status), "{mode:?} {model}");
            let error = refused(reply, status).await;
            assert_eq!(error["code"], code, "{mode:?} {model}");
            if mode == Mode::Overflow {
                let message = error["message"].as_str().unwrap();
                assert!(
                    message.contains("9001") && message.contains("2048"),
                    "{message}"
                );
            }
        }
    }
}

#[tokio::test]
async fn no_engine_is_503_and_a_silent_engine_is_504() {
    let echo = Echo::start(Mode::Hang).await;
    let mut timed = plan(vec![pool("small", &[&echo])]);
    timed.limits.request_timeout_ms = 300;
    let world = World::start(timed, prefers(0, 1)).await;
    for model in ["auto", "small-model"] {
        let error = refused(world.chat(&asking(model, "hi")).await, 504).await;
        assert_eq!(error["type"], "timeout_error", "{model}");
    }
    let world = World::start(plan(vec![pool("small", &[])]), prefers(0, 1)).await;
    for model in ["auto", "small-model"] {
        let reply = world.chat(&asking(model, "hi")).await;
        assert!(!reply.header("retry-after").is_empty(), "{model}");
        refused(reply, 503).await;
    }
    assert_eq!(
        world.get("/readyz").await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(world.get("/healthz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_engine_whose_certificate_nobody_trusts_is_502_and_its_address_stays_inside() {
    let Some(server) = UntrustedTlsServer::start() else {
        return;
    };
    let port = server.address().port().to_string();
    let mut small = pool("small", &[]);
    small.endpoints = vec![Endpoint::keyless(&server.url())];
    let world = World::start(plan(vec![small]), prefers(0, 1)).await;
    for model in ["auto", "small-model"] {
        for stream in [false, true] {
            let body = asking_with(model, "hi", &json!({"stream": stream}));
            let reply = world.chat(&body).await;
            assert_eq!(reply.header("retry-after"), "", "waiting never helps");
            assert_eq!(reply.header("x-should-retry"), "false");
            let error = refused(reply, 502).await;
            assert_eq!(error["code"], "engine_failed", "{model}");
            for inside in [port.as_str(), "certificate"] {
                assert!(!error.to_string().contains(inside), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn a_budget_ends_a_request_and_says_nothing_about_the_engine() {
    let echo = Echo::start(Mode::Hang).await;
    let world = World::of(&echo).await;
    let started = Instant::now();
    let more = json!({"weir": {"budget_ms": 150}});
    for model in ["auto", "small-model"] {
        for _ in 0..2 {
            let reply = world.chat(&asking_with(model, "hi", &more)).await;
            assert_eq!(refused(reply, 504).await["code"], "timeout", "{model}");
        }
    }
    assert!(started.elapsed() < Duration::from_secs(5));
    echo.set(Mode::Echo);
    for model in ["auto", "small-model"] {
        let body = asking_with(model, "hi", &more);
        // Its time was over before it was there.
        let late = world.chat_slowly(&body, Duration::from_millis(300)).await;
        refused(late, 504).await;
        let reply = world.chat(&asking(model, "hi")).await;
        assert_eq!(reply.status, StatusCode::OK, "the engine is not left alone");
    }
}

#[tokio::test]
async fn beyond_the_queue_is_429_with_retry_after() {
    let echo = Echo::start(Mode::Hang).await;
    let mut plan = plan(vec![pool("small", &[&echo])]);
    plan.limits = Limits {
        in_flight_max: 1,
        queue_max: 0,
        ..plan.limits
    };
    let world = World::start(plan, prefers(0, 1)).await;
    let body = asking("small-model", "hi");
    let first = world.chat(&body);
    let second = async {
        echo.until_open(1).await;
        world.chat(&body).await
    };
    let reply = tokio::select! {
        _ = first => panic!("the engine hangs"),
        reply = second => reply,
    };
    assert!(!reply.header("retry-after").is_empty());
    refused(reply, 429).await;
    echo.until_open(0).await;
    echo.set(Mode::Echo);
    assert_eq!(
        world.chat(&body).await.status,
        StatusCode::OK,
        "the place is free again"
    );
}

#[tokio::test]
async fn what_an_engine_does_not_offer_is_the_clients_to_change_and_stops_nobody_else() {
    let echo = Echo::start(Mode::Refuse(501)).await;
    let world = World::of(&echo).await;
    for _ in 0..12 {
        let error = refused(world.chat(&asking("small-model", "hi")).await, 400).await;
        assert_eq!(error["param"], "model");
    }
    echo.set(Mode::Echo);
    let reply = world.chat(&asking("small-model", "hi")).await;
    assert_eq!(reply.status, StatusCode::OK);
}
