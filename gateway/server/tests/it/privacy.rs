//! A cloud pool sees no connection from a request that stays local, whatever fails or falls short.

use crate::echo::{Echo, Mode};
use crate::world::{
    World, asking, asking_with, memory_plan, never_content, open_memory, plan, pool, prefers,
};
use serde_json::json;
use weir_plan::{EmbedderPlan, Pool, Privacy};

fn local_and_cloud(local: &Echo, cloud: &Echo) -> Vec<Pool> {
    let cloud = Pool {
        privacy: Privacy::Cloud,
        ..pool("cloud", &[cloud])
    };
    vec![pool("local", &[local]), cloud]
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
    let embedder = Pool {
        privacy: Privacy::Cloud,
        ..pool("embedder", &[&cloud])
    };
    let kb = memory_plan("none", 2, EmbedderPlan::Pool(Box::new(embedder)));
    let (_folder, memory) = open_memory(&kb);
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
