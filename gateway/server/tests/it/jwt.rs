//! Tokens of an issuer over HTTP: what opens, what does not, and how its keys are had.

use crate::echo::{Echo, Mode};
use crate::grpc;
use crate::issuer::{Issuer, Signer, jwks, jwt_plan, now, shared, unsigned};
use crate::world::{Reply, World, asking, assets, key, plan, pool, prefers};
use http::Method;
use serde_json::{Value, json};
use weir_gateway::gateway::Assets;
use weir_plan::{
    Auth, Budgets, GatewayPlan, JwtKeys, JwtPlan, LogSink, Privacy, QueryText, Scope, TenantLimits,
};

/// A gateway that takes tokens of acme, and one key.
fn taking(echo: &Echo, jwt: JwtPlan) -> GatewayPlan {
    let mut plan = plan(vec![pool("small", &[echo])]);
    plan.auth = Auth::ApiKeys(vec![key("ops", "sk-ops", &[Scope::Admin])]);
    let acme = TenantLimits::within(Privacy::Cloud);
    plan.tenants = [("acme".to_owned(), acme)].into();
    plan.jwt = Some(jwt);
    plan
}

async fn world(jwt: JwtPlan) -> (World, Echo) {
    let echo = Echo::start(Mode::Echo).await;
    let plan = taking(&echo, jwt);
    (World::start(plan, prefers(0, 1)).await, echo)
}

async fn ask(world: &World, credential: &str) -> Reply {
    ask_for(world, credential, &asking("auto", "hi")).await
}

async fn ask_for(world: &World, credential: &str, body: &Value) -> Reply {
    let bearer = format!("Bearer {credential}");
    let headers = [("authorization", bearer.as_str())];
    let path = "/v1/chat/completions";
    world
        .send(Method::POST, path, &headers, body.to_string())
        .await
}

async fn status(world: &World, credential: &str) -> u16 {
    ask(world, credential).await.status.as_u16()
}

/// Status and code of a refusal, which must not quote the token.
async fn refused(world: &World, token: &str) -> (u16, String) {
    let reply = ask(world, token).await;
    let status = reply.status.as_u16();
    let challenge = reply.header("www-authenticate").to_owned();
    let body = reply.json().await;
    let code = body["error"]["code"].as_str().unwrap().to_owned();
    if status == 401 {
        assert_eq!(challenge, "Bearer error=\"invalid_token\"", "{body}");
        assert_eq!(body["error"]["type"], "authentication_error");
    }
    let said = body.to_string();
    assert!(
        token
            .split('.')
            .all(|part| !said.contains(part) || part.is_empty())
    );
    (status, code)
}

#[tokio::test]
async fn tokens_of_every_asymmetric_algorithm_open() {
    for alg in [
        "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
    ] {
        let signer = Signer::new("k1", alg);
        let (world, _echo) = world(jwt_plan(JwtKeys::Inline(jwks(&[&signer])))).await;
        assert_eq!(
            status(&world, &signer.token(&json!({}))).await,
            200,
            "{alg}"
        );
        let other = if alg == "ES256" { "ES384" } else { "ES256" };
        let header = json!({"alg": other, "kid": "k1"});
        let claimed = signer.token_with(&header, &json!({}));
        let expected = (401, "invalid_token".to_owned());
        assert_eq!(
            refused(&world, &claimed).await,
            expected,
            "{alg} as {other}"
        );
    }
}

#[tokio::test]
async fn a_token_opens_over_grpc_too() {
    let signer = Signer::new("k1", "ES256");
    let (world, _echo) = world(jwt_plan(JwtKeys::Inline(jwks(&[&signer])))).await;
    let mut client = grpc::client(&world).await;
    let mut ask = async |signer: &Signer| {
        let bearer = format!("Bearer {}", signer.token(&json!({})));
        let call = grpc::with(
            grpc::asking("auto", "hi"),
            &[("authorization", bearer.as_str())],
        );
        client
            .chat(call)
            .await
            .map(|reply| reply.into_inner().model)
    };
    assert_eq!(ask(&signer).await.unwrap(), "small-model");
    let stranger = Signer::new("k1", "ES256");
    let refused = ask(&stranger).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
}

#[tokio::test]
async fn forged_tampered_and_stale_tokens_are_refused() {
    let signer = Signer::new("k1", "ES256");
    let rsa = Signer::new("k2", "RS256");
    let document = jwks(&[&signer, &rsa]);
    let (world, echo) = world(jwt_plan(JwtKeys::Inline(document.clone()))).await;
    let good = signer.token(&json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let none = json!({"alg": "none", "kid": "k1"});
    let jwk = rsa.jwk();
    let modulus = jwk["n"].as_str().unwrap();
    let stranger = Signer::new("k1", "ES256");
    let swapped = unsigned(
        &json!({"alg": "ES256", "kid": "k1"}),
        &json!({"sub": "eve"}),
    );
    let nameless = signer.token_with(&json!({"alg": "ES256"}), &json!({}));
    let own_key = json!({"alg": "ES256", "jwk": stranger.jwk()});
    for token in [
        format!("{}.", unsigned(&none, &json!({}))),
        format!("{}.{}", unsigned(&none, &json!({})), parts[2]),
        shared(document.as_bytes(), "k1"),
        shared(modulus.as_bytes(), "k2"),
        shared(jwk.to_string().as_bytes(), "k2"),
        stranger.token(&json!({})),
        stranger.token_with(&own_key, &json!({})),
        format!("{swapped}.{}", parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
        nameless,
        signer.token(&json!({"exp": now() - 60})),
        signer.token(&json!({"exp": null})),
        signer.token(&json!({"nbf": now() + 120})),
        signer.token(&json!({"aud": "billing"})),
        signer.token(&json!({"iss": "https://evil.example"})),
        Signer::new("k9", "ES256").token(&json!({})),
    ] {
        let expected = (401, "invalid_token".to_owned());
        assert_eq!(refused(&world, &token).await, expected, "{token}");
    }
    assert_eq!(echo.connections(), 0, "no engine was asked");
    assert_eq!(status(&world, &good).await, 200);
    let metrics = world.get("/metrics").await.text().await;
    assert!(metrics.contains("weir_jwt_refused_total{reason=\"expired\"} 1"));
    assert!(metrics.contains("weir_jwt_refused_total{reason=\"algorithm\"} 5"));
}

#[tokio::test]
async fn keys_and_tokens_open_side_by_side_and_what_is_neither_is_an_unknown_key() {
    let signer = Signer::new("k1", "EdDSA");
    let (world, _echo) = world(jwt_plan(JwtKeys::Inline(jwks(&[&signer])))).await;
    assert_eq!(status(&world, "sk-ops").await, 200);
    assert_eq!(status(&world, &signer.token(&json!({}))).await, 200);
    let reply = ask(&world, "some.dotted.key").await;
    assert_eq!(reply.header("www-authenticate"), "Bearer");
    assert_eq!(reply.json().await["error"]["code"], "invalid_api_key");
}

#[tokio::test]
async fn a_token_is_bound_to_a_tenant_that_the_plan_names_with_its_quota_and_privacy() {
    let signer = Signer::new("k1", "ES256");
    let echo = Echo::start(Mode::Echo).await;
    let cloud = Echo::start(Mode::Echo).await;
    let mut plan = taking(&echo, jwt_plan(JwtKeys::Inline(jwks(&[&signer]))));
    let mut far = pool("far", &[&cloud]);
    far.privacy = Privacy::Cloud;
    plan.pools.push(far);
    plan.tenants.insert(
        "acme".to_owned(),
        TenantLimits {
            budgets: Budgets {
                requests_per_minute: Some(2.0),
                ..Budgets::default()
            },
            ..TenantLimits::within(Privacy::Local)
        },
    );
    let world = World::start(plan, prefers(0, 2)).await;
    for (tenant, code) in [
        (json!(null), "no_tenant"),
        (json!(""), "no_tenant"),
        (json!(["acme"]), "no_tenant"),
        (json!("globex"), "unknown_tenant"),
        (json!("ops"), "unknown_tenant"),
    ] {
        let token = signer.token(&json!({"tenant": tenant}));
        let expected = (403, code.to_owned());
        assert_eq!(refused(&world, &token).await, expected, "{tenant}");
    }
    let token = signer.token(&json!({}));
    let mut body = asking("far-model", "hi");
    body["weir"] = json!({"privacy": "cloud"});
    assert_eq!(ask_for(&world, &token, &body).await.status.as_u16(), 403);
    assert_eq!(
        cloud.connections(),
        0,
        "a token goes no further than its tenant"
    );
    assert_eq!(status(&world, &token).await, 200);
    let other_user = signer.token(&json!({"sub": "bob"}));
    assert_eq!(
        status(&world, &other_user).await,
        429,
        "the budget is the tenant's"
    );
}

#[tokio::test]
async fn the_row_names_the_tokens_key_and_hides_its_user_and_scopes_are_those_of_a_plain_key() {
    let signer = Signer::new("k1", "ES256");
    let (world, _echo) = world(jwt_plan(JwtKeys::Inline(jwks(&[&signer])))).await;
    let token = signer.token(&json!({}));
    let mut body = asking("auto", "hi");
    let mut users = Vec::new();
    for claimed in ["ann", "somebody-else"] {
        body["user"] = claimed.into();
        let reply = ask_for(&world, &token, &body).await;
        let path = format!("/v1/decisions/{}", reply.header("x-weir-decision"));
        reply.text().await;
        let bearer = format!("Bearer {token}");
        let own = world
            .send(Method::GET, &path, &[("authorization", &bearer)], "")
            .await;
        let row = own.json().await;
        assert_eq!(row["key_id"], "jwt:k1");
        assert_eq!(row["tenant"], "acme");
        users.push(row["user"].as_str().unwrap().to_owned());
    }
    assert_eq!(
        users[0], users[1],
        "the token's user, whatever the body says"
    );
    assert!(!users[0].contains("ann"));
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let score = json!({"decision_id": "x", "score": 4, "propensity": 0.5}).to_string();
    let judged = world
        .send(Method::POST, "/v1/feedback", &headers, score)
        .await;
    assert_eq!(judged.status.as_u16(), 403, "no token judges");
}

#[tokio::test]
async fn rotated_keys_are_found_at_once_and_made_up_ones_do_not_reach_the_issuer() {
    let (old, new) = (Signer::new("old", "ES256"), Signer::new("new", "ES256"));
    let issuer = Issuer::start(&jwks(&[&old])).await;
    let (world, _echo) = world(issuer.plan()).await;
    assert_eq!(status(&world, &old.token(&json!({}))).await, 200);
    assert_eq!(issuer.asked(), 1);

    issuer.publish(&jwks(&[&new]));
    let token = new.token(&json!({}));
    let both = tokio::join!(status(&world, &token), status(&world, &token));
    assert_eq!(both, (200, 200));
    assert_eq!(issuer.asked(), 2, "one fetch for both");
    let (code, _) = refused(&world, &old.token(&json!({}))).await;
    assert_eq!(code, 401, "what the issuer took back opens nothing");

    let made_up = Signer::new("made-up", "ES256");
    for number in 0..50 {
        let header = json!({"alg": "ES256", "kid": format!("k{number}")});
        let token = made_up.token_with(&header, &json!({}));
        assert_eq!(status(&world, &token).await, 401);
    }
    assert_eq!(issuer.asked(), 2, "not again for seconds");
    let metrics = world.get("/metrics").await.text().await;
    assert!(metrics.contains("weir_jwks_fetches_total{outcome=\"ok\"} 2"));
    assert!(metrics.contains("weir_jwks_keys 1"));
    assert!(metrics.contains("weir_jwks_age_seconds "));
    assert!(!metrics.contains("made-up"));
}

#[tokio::test]
async fn while_no_key_is_known_tokens_wait_with_503_and_keys_open() {
    let signer = Signer::new("k1", "ES256");
    let issuer = Issuer::start(&jwks(&[&signer])).await;
    let elsewhere = Issuer::start(&jwks(&[&signer])).await;
    let token = signer.token(&json!({}));
    let too_large = format!("{{\"keys\": [], \"pad\": \"{}\"}}", "x".repeat(300 << 10));
    let large = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{too_large}",
        too_large.len()
    );
    let moved = format!(
        "HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n",
        elsewhere.url
    );
    for answer in [
        String::new(),
        "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>".to_owned(),
        large,
        moved,
    ] {
        issuer.answer_with(answer);
        let (world, _echo) = world(issuer.plan()).await;
        let reply = ask(&world, &token).await;
        assert_eq!(reply.status.as_u16(), 503);
        assert!(reply.header("retry-after").parse::<u64>().unwrap() >= 1);
        let body = reply.json().await;
        assert_eq!(body["error"]["code"], "issuer_unavailable");
        assert!(!body.to_string().contains("127.0.0.1"));
        assert_eq!(status(&world, "sk-ops").await, 200);
    }
    assert_eq!(elsewhere.asked(), 0, "no redirect is followed");
}

#[tokio::test]
async fn keys_that_are_known_open_while_their_issuer_is_away_and_a_new_plan_changes_them() {
    let (first, second) = (Signer::new("k1", "ES256"), Signer::new("k1", "ES256"));
    let issuer = Issuer::start(&jwks(&[&first])).await;
    let (world, echo) = world(issuer.plan()).await;
    let token = first.token(&json!({}));
    assert_eq!(status(&world, &token).await, 200);
    issuer.answer_with(String::new());
    let unknown = Signer::new("k2", "ES256").token(&json!({}));
    assert_eq!(status(&world, &unknown).await, 401);
    assert_eq!(status(&world, &token).await, 200);

    let mut plan = taking(&echo, jwt_plan(JwtKeys::Inline(jwks(&[&second]))));
    world.apply(plan.clone(), prefers(0, 1));
    assert_eq!(status(&world, &token).await, 401);
    assert_eq!(status(&world, &second.token(&json!({}))).await, 200);
    plan.jwt = None;
    world.apply(plan, prefers(0, 1));
    let reply = ask(&world, &second.token(&json!({}))).await;
    assert_eq!(reply.json().await["error"]["code"], "invalid_api_key");
}

#[tokio::test]
async fn no_part_of_a_token_is_in_the_decision_log_or_the_metrics() {
    let signer = Signer::new("k1", "ES256");
    let echo = Echo::start(Mode::Echo).await;
    let mut plan = taking(&echo, jwt_plan(JwtKeys::Inline(jwks(&[&signer]))));
    plan.logs.sink = LogSink::File;
    plan.logs.query_text = QueryText::Full;
    let folder = tempfile::tempdir().unwrap();
    let assets = Assets {
        state_dir: Some(folder.path().to_owned()),
        ..assets(prefers(0, 1), None)
    };
    let world = World::with_assets(plan, assets).await;
    let token = signer.token(&json!({"sub": "ann-of-acme"}));
    let reply = ask(&world, &token).await;
    let id = reply.header("x-weir-decision").to_owned();
    reply.text().await;
    let file = folder.path().join("decisions.jsonl");
    let written = async {
        loop {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            if text.contains(&id) {
                return text;
            }
            tokio::task::yield_now().await;
        }
    };
    let limit = std::time::Duration::from_secs(10);
    let mut seen = tokio::time::timeout(limit, written).await.unwrap();
    seen.push_str(&world.get("/metrics").await.text().await);
    for part in token.split('.').chain(["ann-of-acme"]) {
        assert!(!seen.contains(part), "{part}");
    }
}
