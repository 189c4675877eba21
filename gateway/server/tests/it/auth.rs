//! Keys, scopes and tenants over HTTP.

use crate::echo::{Echo, Mode};
use crate::world::{World, asking, key, plan, pool, prefers};
use http::Method;
use serde_json::json;
use weir_plan::{Auth, Scope};

async fn world() -> (World, Echo) {
    let echo = Echo::start(Mode::Echo).await;
    let mut plan = plan(vec![pool("small", &[&echo])]);
    plan.auth = Auth::ApiKeys(vec![
        key("acme", "sk-acme", &[Scope::Ask]),
        key("globex", "sk-globex", &[Scope::Ask]),
        key("ops", "sk-ops", &[Scope::Admin]),
    ]);
    (World::start(plan, prefers(0, 1)).await, echo)
}

async fn status(world: &World, method: Method, path: &str, key: &str, body: String) -> u16 {
    let bearer = format!("Bearer {key}");
    world
        .send(method, path, &[("authorization", &bearer)], body)
        .await
        .status
        .as_u16()
}

#[tokio::test]
async fn without_a_known_key_nothing_is_answered_but_health() {
    let (world, echo) = world().await;
    for path in [
        "/v1/chat/completions",
        "/generate",
        "/v1/route",
        "/v1/embeddings",
        "/v1/feedback",
    ] {
        let reply = world.post(path, &asking("auto", "hi")).await;
        assert_eq!(reply.status.as_u16(), 401, "{path}");
        assert_eq!(reply.header("www-authenticate"), "Bearer");
        assert_eq!(reply.json().await["error"]["type"], "authentication_error");
        assert_eq!(
            status(&world, Method::POST, path, "sk-wrong", String::new()).await,
            401
        );
    }
    assert_eq!(world.get("/v1/models").await.status.as_u16(), 401);
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(world.get(path).await.status.as_u16(), 200, "{path}");
    }
    assert_eq!(echo.connections(), 0);
}

#[tokio::test]
async fn a_scope_that_a_key_lacks_is_403() {
    let (world, _echo) = world().await;
    let body = json!({"query": "x"}).to_string();
    let path = "/v1/memory/search";
    assert_eq!(
        status(&world, Method::POST, path, "sk-acme", body.clone()).await,
        403
    );
    assert_eq!(
        status(&world, Method::POST, path, "sk-ops", body).await,
        404,
        "it has no memory"
    );
}

#[tokio::test]
async fn a_decision_is_seen_and_scored_by_who_asked_and_by_admins_only() {
    let (world, _echo) = world().await;
    let headers = [("authorization", "Bearer sk-acme")];
    let asked = asking("auto", "hi").to_string();
    let reply = world
        .send(Method::POST, "/v1/chat/completions", &headers, asked)
        .await;
    let id = reply.header("x-weir-decision").to_owned();
    let path = format!("/v1/decisions/{id}");
    let row = world.send(Method::GET, &path, &headers, "").await;
    assert_eq!(row.json().await["key_id"], "test");
    for (key, expected) in [("sk-acme", 200), ("sk-ops", 200), ("sk-globex", 404)] {
        assert_eq!(
            status(&world, Method::GET, &path, key, String::new()).await,
            expected,
            "{key}"
        );
        let score = json!({"decision_id": id, "score": 4}).to_string();
        let scored = status(&world, Method::POST, "/v1/feedback", key, score).await;
        assert_eq!(scored, expected, "{key}");
    }
    let out_of_range = json!({"decision_id": id, "score": 9}).to_string();
    assert_eq!(
        status(
            &world,
            Method::POST,
            "/v1/feedback",
            "sk-acme",
            out_of_range
        )
        .await,
        400
    );
}
