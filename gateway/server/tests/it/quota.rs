//! Budgets of tenants over HTTP: what counts, who is refused, and what a refusal says.

use crate::echo::{Echo, Mode};
use crate::world::{Reply, World, asking, asking_with, key, never_content, plan, pool, prefers};
use http::Method;
use serde_json::{Value, json};
use weir_plan::{
    Auth, Beyond, Budgets, Cost, GatewayPlan, Guardrail, GuardrailAction, Pool, Privacy, Scope,
    TenantLimits,
};
use weir_router::Router;

/// What the echo engine says it used for one answer.
const TOKENS: f64 = 9.0;

/// A gateway of these pools where `acme` has these budgets and `globex` none.
async fn world(pools: Vec<Pool>, budgets: Budgets, router: Router) -> World {
    World::start(with_budgets(pools, budgets), router).await
}

fn with_budgets(pools: Vec<Pool>, budgets: Budgets) -> GatewayPlan {
    let mut plan = plan(pools);
    let scopes = [Scope::Ask];
    plan.auth = Auth::ApiKeys(vec![
        key("acme", "sk-acme", &scopes),
        key("globex", "sk-globex", &scopes),
    ]);
    let limits = TenantLimits {
        budgets,
        ..TenantLimits::within(Privacy::Cloud)
    };
    plan.tenants = [("acme".to_owned(), limits)].into();
    plan
}

async fn send(world: &World, tenant: &str, path: &str, body: &Value) -> Reply {
    let bearer = format!("Bearer sk-{tenant}");
    let headers = [("authorization", bearer.as_str())];
    world
        .send(Method::POST, path, &headers, body.to_string())
        .await
}

async fn chat(world: &World, tenant: &str) -> u16 {
    let reply = send(world, tenant, "/v1/chat/completions", &asking("auto", "hi")).await;
    let status = reply.status.as_u16();
    reply.text().await;
    status
}

#[tokio::test]
async fn requests_beyond_a_budget_are_refused_on_every_surface_that_asks_a_model_and_on_no_other() {
    let echo = Echo::start(Mode::Echo).await;
    let budgets = Budgets {
        requests_per_minute: Some(1.0),
        ..Budgets::default()
    };
    let surfaces = [
        ("/v1/chat/completions", asking("small-model", "hi")),
        (
            "/v1/chat/completions",
            asking_with("auto", "hi", &json!({"stream": true})),
        ),
        (
            "/v1/completions",
            json!({"model": "small-model", "prompt": "hi"}),
        ),
        ("/v1/responses", json!({"model": "auto", "input": "hi"})),
        (
            "/generate",
            json!({"model_id": "small-model", "prompt": "hi"}),
        ),
        (
            "/v1/embeddings",
            json!({"model": "small-model", "input": "hi"}),
        ),
    ];
    for (path, body) in &surfaces {
        let world = world(vec![pool("small", &[&echo])], budgets, prefers(0, 1)).await;
        let first = send(&world, "acme", path, body).await;
        assert_eq!(first.status.as_u16(), 200, "{path}");
        first.text().await;
        let asked = echo.connections();
        for (path, body) in &surfaces {
            let refused = send(&world, "acme", path, body).await;
            assert_eq!(refused.status.as_u16(), 429, "{path}");
            let wait: u64 = refused.header("retry-after").parse().unwrap();
            assert!((30..=60).contains(&wait), "{path}: {wait} s");
            assert_eq!(refused.header("x-should-retry"), "true");
            let error = refused.json().await["error"].take();
            assert_eq!(error["code"], "rate_limit_exceeded", "{path}: {error}");
            let message = error["message"].as_str().unwrap();
            assert!(
                message.contains("budget of requests a minute is used up"),
                "{message}"
            );
        }
        assert_eq!(echo.connections(), asked, "a refused request asks nobody");
        assert_eq!(
            chat(&world, "globex").await,
            200,
            "another tenant is let in"
        );
        let route = send(
            &world,
            "acme",
            "/v1/route",
            &json!({"messages": [{"role": "user", "content": "hi"}]}),
        )
        .await;
        assert_eq!(route.status.as_u16(), 200, "nothing is generated");
        let metrics = world.get("/metrics").await.text().await;
        assert!(
            metrics.contains("weir_over_budget_total{kind=\"requests\"} 6"),
            "{metrics}"
        );
    }
}

#[tokio::test]
async fn tokens_of_every_kind_of_answer_count_and_first_tries_too() {
    let streamed = json!({"stream": true});
    let asked_for = json!({"stream": true, "stream_options": {"include_usage": true}});
    let bodies = [
        asking("auto", "hi"),
        asking_with("auto", "hi", &streamed),
        asking("small-model", "hi"),
        asking_with("small-model", "hi", &asked_for),
    ];
    for body in bodies {
        let echo = Echo::start(Mode::Echo).await;
        let budgets = Budgets {
            tokens_per_minute: Some(1.5 * TOKENS),
            ..Budgets::default()
        };
        let world = world(vec![pool("small", &[&echo])], budgets, prefers(0, 1)).await;
        for expected in [200, 200, 429] {
            let reply = send(&world, "acme", "/v1/chat/completions", &body).await;
            assert_eq!(reply.status.as_u16(), expected, "{body}");
            reply.text().await;
        }
    }
    let (small, big) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
    let budgets = Budgets {
        tokens_per_minute: Some(1.5 * TOKENS),
        ..Budgets::default()
    };
    let pools = vec![pool("small", &[&small]), pool("big", &[&big])];
    let world = world(pools, budgets, never_content(0, 2)).await;
    assert_eq!(chat(&world, "acme").await, 200);
    assert_eq!(
        chat(&world, "acme").await,
        429,
        "both tries of one answer were paid"
    );
}

#[tokio::test]
async fn a_budget_of_cost_is_a_days_and_no_client_is_told_to_wait_for_it_by_itself() {
    let echo = Echo::start(Mode::Echo).await;
    let cost = Cost {
        prompt_per_million: 1e6,
        completion_per_million: 1e6,
    };
    let small = Pool {
        cost,
        ..pool("small", &[&echo])
    };
    let budgets = Budgets {
        cost_per_day: Some(TOKENS / 2.0),
        ..Budgets::default()
    };
    let world = world(vec![small], budgets, prefers(0, 1)).await;
    assert_eq!(chat(&world, "acme").await, 200);
    let refused = send(
        &world,
        "acme",
        "/v1/chat/completions",
        &asking("auto", "hi"),
    )
    .await;
    assert_eq!(refused.status.as_u16(), 429);
    assert_eq!(refused.header("x-should-retry"), "false");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((86_000..=86_400).contains(&wait), "{wait} s");
}

#[tokio::test]
async fn beyond_a_budget_that_degrades_the_smallest_model_answers_what_leaves_the_choice() {
    let (small, big) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
    let pools = vec![pool("small", &[&small]), pool("big", &[&big])];
    let budgets = Budgets {
        tokens_per_minute: Some(TOKENS / 2.0),
        requests_per_minute: Some(6.0),
        ..Budgets::default()
    };
    let mut plan = with_budgets(pools, budgets);
    let limits = plan.tenants.get_mut("acme").unwrap();
    limits.beyond = Beyond::Degrade;
    plan.guardrails = vec![Guardrail {
        name: "careful".to_owned(),
        domains: vec!["medical".to_owned()],
        then: GuardrailAction::UseBiggest,
    }];
    let world = World::start(plan, never_content(1, 2)).await;
    let path = "/v1/chat/completions";
    let within = send(&world, "acme", path, &asking("auto", "hi")).await;
    assert_eq!(within.header("x-weir-model"), "big-model");
    within.text().await;
    let asked = big.connections();
    for more in [json!({}), json!({"stream": true})] {
        let beyond = send(&world, "acme", path, &asking_with("auto", "hi", &more)).await;
        assert_eq!(beyond.header("x-weir-model"), "small-model");
        assert_eq!(beyond.header("x-weir-escalated"), "false");
        let decision = beyond.header("x-weir-decision").to_owned();
        beyond.text().await;
        let row = world.gateway.decision(&decision).unwrap();
        assert_eq!(row.guardrail.as_deref(), Some("over-budget"));
    }
    assert_eq!(big.connections(), asked, "no second attempt, no failover");
    let medical = json!({"weir": {"domain": "medical"}});
    for refused in [
        asking("big-model", "hi"),
        asking_with("auto", "hi", &medical),
    ] {
        let reply = send(&world, "acme", path, &refused).await;
        assert_eq!(reply.status.as_u16(), 429, "{refused}");
    }
    for _ in 0..3 {
        assert_eq!(chat(&world, "acme").await, 200);
    }
    let more = chat(&world, "acme").await;
    assert_eq!(more, 429, "requests are never more");
}

#[tokio::test]
async fn a_plan_that_changes_a_budget_keeps_what_was_used() {
    let echo = Echo::start(Mode::Echo).await;
    let pools = || vec![pool("small", &[&echo])];
    let requests = |limit| Budgets {
        requests_per_minute: Some(limit),
        ..Budgets::default()
    };
    let world = world(pools(), requests(2.0), prefers(0, 1)).await;
    assert_eq!(chat(&world, "acme").await, 200);
    world.apply(with_budgets(pools(), requests(1.0)), prefers(0, 1));
    assert_eq!(chat(&world, "acme").await, 200, "one was left");
    assert_eq!(chat(&world, "acme").await, 429);
    world.apply(with_budgets(pools(), Budgets::default()), prefers(0, 1));
    assert_eq!(chat(&world, "acme").await, 200, "no budget, no limit");
}
