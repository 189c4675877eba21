//! A pool that embeds for the memory: asked for vectors, never for answers.

use crate::echo::{Echo, Mode};
use crate::world::{World, plan, pool, prefers};
use http::StatusCode;
use serde_json::{Value, json};
use weir_memory::{Memory, MemoryConfig};
use weir_plan::{EmbedderPlan, MemoryPlan, Privacy};

/// A gateway with one pool that answers, and a memory whose vectors come from the pool `vectors` of this privacy.
async fn embedding(privacy: Privacy) -> (World, Echo, Echo, tempfile::TempDir) {
    let (chat, vectors) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
    let folder = tempfile::tempdir().unwrap();
    let config = MemoryConfig {
        dimensions: 2,
        embedding_model: "of-the-memory".to_owned(),
    };
    let memory = Memory::open(folder.path(), &config).unwrap();
    let mut embedder = pool("vectors", &[&vectors]);
    embedder.privacy = privacy;
    let mut plan = plan(vec![pool("small", &[&chat])]);
    plan.privacy.default = Privacy::Local;
    plan.memory = Some(MemoryPlan {
        name: "kb".to_owned(),
        embedding_model: "of-the-memory".to_owned(),
        dimensions: 2,
        service: None,
        embedder: EmbedderPlan::Pool(Box::new(embedder)),
        seeds: 64,
        hops: 2,
        nodes_max: 256,
        summaries: None,
    });
    let world = World::with_memory(plan, prefers(0, 1), Some(memory)).await;
    (world, chat, vectors, folder)
}

#[tokio::test]
async fn an_embedding_pool_gives_vectors_under_both_names_and_is_no_model_to_ask() {
    let (world, chat, vectors, _folder) = embedding(Privacy::Local).await;
    for model in ["of-the-memory", "vectors-model"] {
        let asked = json!({"model": model, "input": ["a", "b"]});
        let reply = world.post("/v1/embeddings", &asked).await;
        assert_eq!(reply.status, StatusCode::OK, "{model}");
        let embedded: Value = reply.json().await;
        assert_eq!(embedded["data"][1]["embedding"], json!([1.0, 0.5]));
        // The engine's own count, not an estimate.
        let used = json!({"prompt_tokens": 20, "total_tokens": 20});
        assert_eq!(embedded["usage"], used);
    }
    let models: Value = world.get("/v1/models").await.json().await;
    let ids: Vec<&str> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|model| model["id"].as_str())
        .collect();
    assert_eq!(ids, ["auto", "small-model"]);
    let messages = json!([{"role": "user", "content": "hi"}]);
    let pinned = json!({"model": "vectors-model", "messages": messages});
    let reply = world.post("/v1/chat/completions", &pinned).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    let routed = json!({"model": "auto", "messages": messages});
    let reply = world.post("/v1/chat/completions", &routed).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(chat.bodies().len(), 1);
    assert!(
        vectors.bodies().is_empty(),
        "the embedder was asked to chat"
    );
    let metrics = world.get("/metrics").await.text().await;
    assert!(
        metrics.contains("weir_pool_replicas{pool=\"vectors\"}"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_text_does_not_travel_to_an_embedder_beyond_its_limit() {
    let (world, ..) = embedding(Privacy::Cloud).await;
    let asked = json!({"model": "of-the-memory", "input": "a secret"});
    let reply = world.post("/v1/embeddings", &asked).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
}
