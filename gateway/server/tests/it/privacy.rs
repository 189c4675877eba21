//! A cloud pool sees no connection from a request that stays local, whatever fails or falls short.

use crate::echo::{Echo, Mode};
use crate::world::{
    World, asking, asking_with, key, memory_plan, never_content, open_memory, plan, pool, prefers,
};
use http::Method;
use serde_json::json;
use tempfile::TempDir;
use weir_memory::Memory;
use weir_plan::{
    Auth, EmbedderPlan, GatewayPlan, MemoryPlan, Pool, Privacy, Scope, TenantLimits, WhenCold,
};

fn local_and_cloud(local: &Echo, cloud: &Echo) -> Vec<Pool> {
    let cloud = Pool {
        privacy: Privacy::Cloud,
        ..pool("cloud", &[cloud])
    };
    vec![pool("local", &[local]), cloud]
}

/// A memory that embeds with a pool in the cloud.
fn memory_of_the_cloud(cloud: &[&Echo]) -> (TempDir, Memory, MemoryPlan) {
    let embedder = Pool {
        privacy: Privacy::Cloud,
        ..pool("embedder", cloud)
    };
    let kb = memory_plan("none", 2, EmbedderPlan::Pool(Box::new(embedder)));
    let (folder, memory) = open_memory(&kb);
    (folder, memory, kb)
}

#[tokio::test]
async fn a_local_request_never_reaches_the_cloud() {
    for mode in [
        Mode::Echo,
        Mode::Refuse(500),
        Mode::Refuse(429),
        Mode::BreakInTheMiddle,
    ] {
        for router in [prefers(1, 2), never_content(0, 2), never_content(1, 2)] {
            let (local, cloud) = (Echo::start(mode).await, Echo::start(Mode::Echo).await);
            let world = World::start(plan(local_and_cloud(&local, &cloud)), router).await;
            for stream in [false, true] {
                let more = json!({"stream": stream, "weir": {"privacy": "local"}});
                world
                    .chat(&asking_with("auto", "hi", &more))
                    .await
                    .text()
                    .await;
            }
            let headers = [("x-weir-privacy", "local")];
            for body in [asking("auto", "hi"), asking("cloud-model", "hi")] {
                let path = "/v1/chat/completions";
                let reply = world
                    .send(http::Method::POST, path, &headers, body.to_string())
                    .await;
                reply.text().await;
            }
            assert_eq!(cloud.connections(), 0, "{mode:?}");
            assert!(local.connections() > 0, "{mode:?}");
        }
    }
}

#[tokio::test]
async fn a_request_cannot_widen_the_gateways_limit() {
    let (local, cloud) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
    let mut plan = plan(local_and_cloud(&local, &cloud));
    plan.privacy.max = Privacy::OnPrem;
    plan.privacy.default = Privacy::Local;
    let world = World::start(plan, prefers(1, 2)).await;
    let more = json!({"weir": {"privacy": "cloud"}});
    let pinned = world.chat(&asking_with("cloud-model", "hi", &more)).await;
    assert_eq!(pinned.status.as_u16(), 403);
    let routed = world.chat(&asking_with("auto", "hi", &more)).await;
    assert_eq!(routed.header("x-weir-model"), "local-model");
    let asked = json!({"model_id": "cloud-model", "prompt": "hi"});
    assert_eq!(world.post("/generate", &asked).await.status.as_u16(), 403);
    assert_eq!(cloud.connections(), 0);
}

#[tokio::test]
async fn the_words_of_a_local_request_are_never_embedded_in_the_cloud() {
    let (local, cloud) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
    let (_folder, memory, kb) = memory_of_the_cloud(&[&cloud]);
    let mut plan = plan(vec![pool("local", &[&local])]);
    plan.memory = Some(kb);
    let world = World::with_memory(plan, prefers(0, 1), Some(memory)).await;
    let sought = json!({"query": "hi"});
    for (path, body, status) in [
        (
            "/v1/embeddings",
            json!({"model": "none", "input": "hi"}),
            403,
        ),
        ("/v1/memory/search", sought.clone(), 200),
        ("/v1/memory/attend", sought.clone(), 200),
        ("/v1/chat/completions", asking("auto", "hi"), 200),
    ] {
        let headers = [("x-weir-privacy", "local")];
        let reply = world
            .send(http::Method::POST, path, &headers, body.to_string())
            .await;
        assert_eq!(reply.status.as_u16(), status, "{path}");
        assert_eq!(cloud.connections(), 0, "{path}");
    }
    world.post("/v1/memory/search", &sought).await;
    assert!(cloud.connections() > 0, "where nothing forbids it");
}

#[tokio::test]
async fn without_a_limit_the_cloud_answers() {
    let (local, cloud) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
    let world = World::start(plan(local_and_cloud(&local, &cloud)), prefers(1, 2)).await;
    let routed = world.chat(&asking("auto", "hi")).await;
    assert_eq!(routed.header("x-weir-model"), "cloud-model");
    assert_eq!(local.connections(), 0);
}

const ACME: [(&str, &str); 1] = [("authorization", "Bearer sk-acme")];
const GLOBEX: [(&str, &str); 1] = [("authorization", "Bearer sk-globex")];

/// A gateway whose requests may go to the cloud, except those of the tenant `acme`.
fn acme_stays(pools: Vec<Pool>) -> GatewayPlan {
    let mut plan = plan(pools);
    let scopes = [Scope::Ask, Scope::Memory];
    plan.auth = Auth::ApiKeys(vec![
        key("acme", "sk-acme", &scopes),
        key("globex", "sk-globex", &scopes),
    ]);
    let privacy_max = Privacy::Local;
    plan.tenants = [("acme".to_owned(), TenantLimits::within(privacy_max))].into();
    plan
}

#[tokio::test]
async fn a_tenants_limit_narrows_every_request_of_its_keys_through_failures_and_second_attempts() {
    let wide = json!({"weir": {"privacy": "cloud"}});
    for mode in [
        Mode::Echo,
        Mode::Refuse(500),
        Mode::Refuse(429),
        Mode::BreakInTheMiddle,
    ] {
        for router in [prefers(1, 2), never_content(0, 2), never_content(1, 2)] {
            let (local, cloud) = (Echo::start(mode).await, Echo::start(Mode::Echo).await);
            let plan = acme_stays(local_and_cloud(&local, &cloud));
            let world = World::start(plan, router).await;
            for body in [
                asking("auto", "hi"),
                asking_with("auto", "hi", &wide),
                asking_with("auto", "hi", &json!({"stream": true})),
                asking_with("cloud-model", "hi", &wide),
            ] {
                let path = "/v1/chat/completions";
                let reply = world.send(Method::POST, path, &ACME, body.to_string());
                reply.await.text().await;
            }
            let asked = json!({"model_id": "cloud-model", "prompt": "hi"}).to_string();
            let reply = world.send(Method::POST, "/generate", &ACME, asked).await;
            assert_eq!(reply.status.as_u16(), 403, "{mode:?}");
            assert_eq!(cloud.connections(), 0, "{mode:?}");
            assert!(local.connections() > 0, "{mode:?}");
        }
    }
}

#[tokio::test]
async fn other_tenants_go_as_far_as_the_gateway_allows() {
    let (local, cloud) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
    let plan = acme_stays(local_and_cloud(&local, &cloud));
    let world = World::start(plan, prefers(1, 2)).await;
    let (path, body) = ("/v1/chat/completions", asking("auto", "hi").to_string());
    let reply = world.send(Method::POST, path, &GLOBEX, body).await;
    assert_eq!(reply.header("x-weir-model"), "cloud-model");
}

#[tokio::test]
async fn a_tenants_limit_cannot_widen_the_gateways() {
    let (local, cloud) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
    let mut plan = acme_stays(local_and_cloud(&local, &cloud));
    (plan.privacy.default, plan.privacy.max) = (Privacy::Local, Privacy::OnPrem);
    let privacy_max = Privacy::Cloud;
    plan.tenants = [("acme".to_owned(), TenantLimits::within(privacy_max))].into();
    let world = World::start(plan, prefers(1, 2)).await;
    let wide = json!({"weir": {"privacy": "cloud"}});
    let (path, body) = ("/v1/chat/completions", asking_with("auto", "hi", &wide));
    let reply = world
        .send(Method::POST, path, &ACME, body.to_string())
        .await;
    assert_eq!(reply.header("x-weir-model"), "local-model");
    assert_eq!(cloud.connections(), 0);
}

#[tokio::test]
async fn a_tenants_held_request_is_resumed_within_its_limit() {
    let (local, cloud) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
    let mut pools = local_and_cloud(&local, &cloud);
    let endpoints = std::mem::take(&mut pools[0].endpoints);
    pools[0].when_cold = Some(WhenCold::Spill);
    let world = World::start(acme_stays(pools), never_content(0, 2)).await;
    let engines = world.gateway.engines().clone();
    let bring_up = async {
        while engines.loads().iter().all(|load| load.waiting == 0) {
            tokio::task::yield_now().await;
        }
        world.gateway.set_endpoints("local", endpoints);
    };
    let (path, body) = ("/v1/chat/completions", asking("auto", "hi").to_string());
    let (reply, ()) = tokio::join!(world.send(Method::POST, path, &ACME, body), bring_up);
    assert_eq!(reply.header("x-weir-model"), "local-model");
    assert_eq!(cloud.connections(), 0);
}

#[tokio::test]
async fn a_tenants_words_are_embedded_within_its_limit_only() {
    let (local, cloud) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
    let (_folder, memory, kb) = memory_of_the_cloud(&[&cloud]);
    let mut plan = acme_stays(vec![pool("local", &[&local])]);
    plan.memory = Some(kb);
    let world = World::with_memory(plan, prefers(0, 1), Some(memory)).await;
    let without_vector = json!({"nodes": [{"text": "hi"}]});
    let with_vector = json!({"nodes": [{"text": "hi", "vector": [0.6, 0.8]}]});
    for (path, body, status) in [
        (
            "/v1/embeddings",
            json!({"model": "none", "input": "hi"}),
            403,
        ),
        ("/v1/memory/search", json!({"query": "hi"}), 200),
        ("/v1/memory/nodes", without_vector.clone(), 403),
        ("/v1/memory/nodes", with_vector, 200),
        ("/v1/chat/completions", asking("auto", "hi"), 200),
    ] {
        let reply = world
            .send(Method::POST, path, &ACME, body.to_string())
            .await;
        assert_eq!(reply.status.as_u16(), status, "{path} {body}");
        assert_eq!(cloud.connections(), 0, "{path}");
    }
    let path = "/v1/memory/nodes";
    let reply = world.send(Method::POST, path, &GLOBEX, without_vector.to_string());
    assert_eq!(reply.await.status.as_u16(), 200);
}

#[tokio::test]
async fn the_pool_that_a_memory_service_embeds_with_counts_too() {
    let local = Echo::start(Mode::Echo).await;
    let (_folder, memory, mut kb) = memory_of_the_cloud(&[]);
    // The service holds the store; which pool it asks for vectors is in the plan.
    kb.service = Some("https://kb".to_owned());
    let mut plan = acme_stays(vec![pool("local", &[&local])]);
    plan.memory = Some(kb);
    let world = World::with_memory(plan, prefers(0, 1), Some(memory)).await;
    let body = json!({"model": "none", "input": "hi"}).to_string();
    let reply = world
        .send(Method::POST, "/v1/embeddings", &ACME, body)
        .await;
    assert_eq!(reply.status.as_u16(), 403);
    assert_eq!(reply.json().await["error"]["code"], "privacy_limit");
}
