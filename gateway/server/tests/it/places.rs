//! A pool with more to do than it works on at once, as its clients see it; and what engines keep of one tenant apart from another's.

use crate::echo::{Echo, Mode};
use crate::world::{World, asking_with, key, plan, pool, prefers};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;
use weir_plan::{Auth, GatewayPlan, Pool, Scope};

const CHAT: &str = "/v1/chat/completions";

/// A pool `small` with one place.
fn narrow(echo: &Echo) -> Pool {
    Pool {
        slots: 1,
        ..pool("small", &[echo])
    }
}

/// Waits until so many requests wait for a place at the pool.
async fn until_waiting(world: &World, count: u64) {
    loop {
        let ready = world.get("/readyz").await.json().await;
        if ready["pools"][0]["waiting"] == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn who_waits_for_a_place_says_so_and_work_in_the_background_goes_last() {
    let echo = Echo::start(Mode::Slow(300)).await;
    let world = World::start(plan(vec![narrow(&echo)]), prefers(0, 1)).await;
    let ask = async |model: &str, text: &str, priority: &str| {
        let body = asking_with(model, text, &json!({"weir": {"priority": priority}}));
        let row = world.row_of(world.chat(&body).await).await;
        row["latency_ms"]["queue"].as_f64().unwrap()
    };
    let (first, background, somebody) = tokio::join!(
        ask("auto", "first", "normal"),
        async {
            until_waiting(&world, 0).await;
            while echo.bodies().is_empty() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            ask("auto", "background", "low").await
        },
        async {
            until_waiting(&world, 1).await;
            ask("small-model", "somebody", "normal").await
        },
    );
    let asked: Vec<Value> = (echo.bodies().iter())
        .map(|body| body["messages"].as_array().unwrap().last().unwrap()["content"].clone())
        .collect();
    assert_eq!(asked, ["first", "somebody", "background"]);
    assert!(
        first < 200.0 && background > 300.0 && somebody > 0.0,
        "{first} {background} {somebody}"
    );
    let metrics = world.get("/metrics").await.text().await;
    assert!(metrics.contains("weir_pool_waiting{pool=\"small\"} 0"));
    assert!(metrics.contains("weir_pool_hedged_total{pool=\"small\"} 0"));
}

#[tokio::test]
async fn who_would_get_no_place_in_time_is_told_when_to_come_again() {
    let echo = Echo::start(Mode::Slow(2_000)).await;
    let world = World::start(plan(vec![narrow(&echo)]), prefers(0, 1)).await;
    let first = asking_with("small-model", "first", &json!({}));
    let (_, reply) = tokio::join!(world.chat(&first), async {
        while echo.bodies().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let hurried = json!({"weir": {"budget_ms": 60}});
        world
            .chat(&asking_with("small-model", "second", &hurried))
            .await
    });
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(!reply.header("retry-after").is_empty());
    assert_eq!(reply.json().await["error"]["message"], "the model is busy");
    assert_eq!(echo.bodies().len(), 1);
}

#[tokio::test]
async fn an_engine_that_knows_salts_gets_one_for_each_tenant() {
    let echo = Echo::start(Mode::Echo).await;
    let salted = Pool {
        cache_salt: true,
        ..pool("small", &[&echo])
    };
    let auth = Auth::ApiKeys(vec![
        key("acme", "a", &[Scope::Ask]),
        key("globex", "g", &[Scope::Ask]),
    ]);
    let plan = GatewayPlan {
        auth,
        ..plan(vec![salted, pool("plain", &[&echo])])
    };
    let world = World::start(plan, prefers(0, 2)).await;
    let ask = async |bearer: &str, path: &str, body: Value| {
        let headers = [("authorization", bearer)];
        let reply = world.send(Method::POST, path, &headers, body.to_string());
        let reply = reply.await;
        let status = reply.status;
        let text = reply.text().await;
        assert_eq!(status, StatusCode::OK, "{text}");
        echo.bodies().pop().unwrap()["cache_salt"].clone()
    };
    let chat = |model: &str, more: Value| asking_with(model, "hi", &more);
    let of_acme = ask("Bearer a", CHAT, chat("auto", json!({}))).await;
    assert_eq!(of_acme.as_str().map(str::len), Some(64), "{of_acme}");
    for (path, body) in [
        (CHAT, chat("auto", json!({"stream": true}))),
        (CHAT, chat("small-model", json!({}))),
        (CHAT, chat("small-model", json!({"stream": true}))),
        (
            "/v1/responses",
            json!({"model": "small-model", "input": "hi"}),
        ),
        (
            "/v1/completions",
            json!({"model": "small-model", "prompt": "hi"}),
        ),
    ] {
        let same = ask("Bearer a", path, body.clone()).await;
        assert_eq!(same, of_acme, "{path} {body}");
        let other = ask("Bearer g", path, body.clone()).await;
        assert!(other.is_string() && other != of_acme, "{path} {body}");
    }
    // A client divides its tenant's part further, and cannot name another's.
    let own = json!({"cache_salt": of_acme});
    for model in ["auto", "small-model"] {
        let divided = ask("Bearer a", CHAT, chat(model, own.clone())).await;
        let stolen = ask("Bearer g", CHAT, chat(model, own.clone())).await;
        assert!(divided != of_acme && stolen != of_acme && stolen != divided);
    }
    let plain = ask("Bearer a", CHAT, chat("plain-model", json!({}))).await;
    assert_eq!(plain, Value::Null, "an engine that knows none gets none");
}
