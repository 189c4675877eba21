//! `/v1/memory/*` over HTTP: what a tenant writes, finds and may not touch.

use crate::echo::{Echo, Mode};
use crate::world::{World, key, plan, pool, prefers};
use http::Method;
use serde_json::{Value, json};
use weir_memory::{Memory, MemoryConfig};
use weir_plan::{Auth, EmbedderPlan, MemoryPlan, Scope};

struct Remembering {
    world: World,
    _echo: Echo,
    _folder: tempfile::TempDir,
}

async fn remembering() -> Remembering {
    let echo = Echo::start(Mode::Echo).await;
    let folder = tempfile::tempdir().unwrap();
    let config = MemoryConfig {
        dimensions: 2,
        embedding_model: "none".to_owned(),
    };
    let memory = Memory::open(folder.path(), &config).unwrap();
    let mut plan = plan(vec![pool("small", &[&echo])]);
    plan.memory = Some(MemoryPlan {
        name: "kb".to_owned(),
        embedding_model: "none".to_owned(),
        dimensions: 2,
        embedder: EmbedderPlan::InProcess {
            source: String::new(),
        },
        seeds: 64,
        hops: 2,
        nodes_max: 256,
    });
    plan.auth = Auth::ApiKeys(vec![
        key("acme", "acme", &[Scope::Memory]),
        key("globex", "globex", &[Scope::Memory]),
        key("ops", "ops", &[Scope::Admin]),
    ]);
    let world = World::with_memory(plan, prefers(0, 1), Some(memory)).await;
    Remembering {
        world,
        _echo: echo,
        _folder: folder,
    }
}

impl Remembering {
    async fn call(&self, key: &str, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let bearer = format!("Bearer {key}");
        let path = format!("/v1/memory/{path}");
        let headers = [("authorization", bearer.as_str())];
        let reply = self
            .world
            .send(method, &path, &headers, body.to_string())
            .await;
        (reply.status.as_u16(), reply.json().await)
    }

    async fn found(&self, key: &str, query: &str) -> usize {
        let (status, body) = self
            .call(key, Method::POST, "search", &json!({"query": query}))
            .await;
        assert_eq!(status, 200, "{body}");
        body["hits"].as_array().unwrap().len()
    }
}

#[tokio::test]
async fn a_tenant_finds_its_own_nodes_and_shared_ones_and_nobody_elses() {
    let memory = remembering().await;
    let own =
        json!({"nodes": [{"text": "the heron fishes at dawn", "metadata": {"title": "Heron"}}]});
    let (status, written) = memory.call("acme", Method::POST, "nodes", &own).await;
    assert_eq!(
        (status, written["inserted"].as_u64()),
        (200, Some(1)),
        "{written}"
    );
    let id = written["ids"][0].as_str().unwrap().to_owned();
    let shared = json!({"nodes": [{"text": "a kingfisher dives", "tenant": "shared"}]});
    assert_eq!(
        memory.call("acme", Method::POST, "nodes", &shared).await.0,
        403
    );
    assert_eq!(
        memory.call("ops", Method::POST, "nodes", &shared).await.0,
        200
    );
    assert_eq!(memory.found("acme", "heron").await, 1);
    assert_eq!(memory.found("globex", "heron").await, 0);
    assert_eq!(memory.found("globex", "kingfisher").await, 1);

    let stolen = json!({"nodes": [{"id": id, "text": "mine now"}]});
    assert_eq!(
        memory
            .call("globex", Method::POST, "nodes", &stolen)
            .await
            .0,
        403
    );
    let path = format!("nodes/{id}");
    assert_eq!(
        memory
            .call("globex", Method::DELETE, &path, &Value::Null)
            .await
            .0,
        404
    );
    assert_eq!(
        memory
            .call("acme", Method::DELETE, &path, &Value::Null)
            .await
            .0,
        200
    );
    assert_eq!(
        memory
            .call("acme", Method::DELETE, &path, &Value::Null)
            .await
            .0,
        404
    );
    assert_eq!(memory.found("acme", "heron").await, 0);
}

#[tokio::test]
async fn edges_join_nodes_and_attention_walks_them() {
    let memory = remembering().await;
    let nodes = json!({"nodes": [
        {"text": "the heron fishes at dawn", "vector": [1.0, 0.0]},
        {"text": "reeds grow along the pond", "vector": [0.0, 1.0]},
    ]});
    let (_, written) = memory.call("acme", Method::POST, "nodes", &nodes).await;
    let edge =
        json!({"edges": [{"src": written["ids"][0], "dst": written["ids"][1], "rel": "near"}]});
    assert_eq!(
        memory.call("globex", Method::POST, "edges", &edge).await.0,
        400
    );
    let (status, body) = memory.call("acme", Method::POST, "edges", &edge).await;
    assert_eq!((status, body["edges"].as_u64()), (200, Some(1)), "{body}");
    let query = json!({"query": "heron", "k": 1});
    let (status, recall) = memory.call("acme", Method::POST, "attend", &query).await;
    assert_eq!(status, 200, "{recall}");
    assert_eq!(recall["nodes_used"], 2, "{recall}");
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused_with_its_name() {
    let memory = remembering().await;
    for (path, body, status) in [
        ("nodes", json!({"nodes": []}), 400),
        ("nodes", json!({"nodes": [{"text": "  "}]}), 400),
        ("nodes", json!({"nodes": [{"text": "a", "colour": 1}]}), 400),
        (
            "nodes",
            json!({"nodes": [{"text": "a", "vector": [1.0, 2.0, 3.0]}]}),
            422,
        ),
        ("search", json!({"query": "  "}), 400),
        ("search", json!({"query": "x", "k": 0}), 400),
        ("search", json!({"query": "x", "vector": [1.0]}), 422),
        ("attend", json!({"query": "x", "hops": 9}), 400),
        (
            "edges",
            json!({"edges": [{"src": "x", "dst": "y", "rel": "r"}]}),
            400,
        ),
    ] {
        let (answered, error) = memory.call("acme", Method::POST, path, &body).await;
        assert_eq!(answered, status, "{body}: {error}");
        assert!(error["error"]["message"].is_string());
    }
}
