//! A gateway whose memory is the service: its HTTP surface behaves as with a store of its own.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use http::{Method, Request};
use serde_json::{Value, json};
use tower::ServiceExt;
use weir_gateway::{Assets, Gateway, MemoryAsset};
use weir_plan::{FORMAT, GatewayPlan};
use weir_router::Router;

use crate::world::{MODEL, World};

/// A gateway of one pool that nobody serves, over this memory.
pub(crate) fn gateway(memory: MemoryAsset, dimensions: usize) -> Gateway {
    let assets = Assets {
        memory: Some(memory),
        router: Router::builtin(),
        candidate: None,
        counters: std::collections::HashMap::new(),
        state_dir: None,
    };
    Gateway::new(plan(dimensions), assets).unwrap()
}

/// Keys are the names of their tenants; `ops` has an admin key.
fn plan(dimensions: usize) -> GatewayPlan {
    let key = |tenant: &str, sha256: &str, scope: &str| json!({"tenant": tenant, "keyId": tenant, "sha256": sha256, "scopes": [scope]});
    let plan = json!({
        "format": FORMAT, "revision": {"epoch": 1, "counter": 1}, "gateway": "web",
        "pools": [{
            "name": "small", "model": "small-model", "upstreamModel": "small-model", "tier": "edge",
            "privacy": "local", "engine": "llamaCpp", "contextTokens": 2048, "slots": 1, "parameters": 0,
            "sampling": {}, "cost": {"promptPerMillion": 0.0, "completionPerMillion": 0.0},
            "performance": {"prefillTokensPerSecond": 100.0, "decodeTokensPerSecond": 10.0},
            "tokenizer": null, "endpoints": [],
        }],
        "memory": {
            "name": "kb", "embeddingModel": MODEL, "dimensions": dimensions,
            "embedder": {"inProcess": {"source": ""}}, "seeds": 64, "hops": 2, "nodesMax": 256,
        },
        "router": null, "objective": {"perSecond": 0.05, "perCostUnit": 0.1},
        "exploration": {"floor": 0.0, "nearTieMargin": 0.0}, "guardrails": [],
        "privacy": {"default": "local", "max": "local"},
        "auth": {"apiKeys": [
            key("acme", "822b33ad87c148a0a20a5ba7cd5ebcaa68d36a18e7aad165554903f52ca82757", "memory"),
            key("globex", "5bc1a08d28e40fe79ca3ecb077b3bd14ff00df9bad0c4a0d74ecd0805ecf0b1f", "memory"),
            key("ops", "a92c36e66a25ee99ff862faa8e87987be6c7cd13c3ee661c400a45b0f1e3b132", "admin"),
        ]},
        "limits": {"requestTimeoutMs": 20000, "bodyMaxBytes": 8388608, "inFlightMax": 64, "queueMax": 64},
        "logs": {"sink": "none", "queryText": "none"},
    });
    serde_json::from_value(plan).unwrap()
}

/// A call with this key.
pub(crate) async fn call(
    gateway: &Gateway,
    key: &str,
    method: Method,
    path: &str,
    body: &Value,
) -> (u16, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {key}"))
        .body(Body::from(body.to_string()))
        .unwrap();
    let response = gateway.http().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = to_bytes(response.into_body(), 64 << 20).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

fn shared(text: &str) -> Value {
    json!({"nodes": [{"text": text, "tenant": "shared"}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_is_filled_and_searched_through_a_gateway_and_keys_mean_what_they_mean_elsewhere()
 {
    let Some(world) = World::new() else { return };
    let (service, remote) = world.connected().await;
    let gateway = gateway(MemoryAsset::Service(Arc::new(remote)), world.dimensions);
    let post = async |key: &str, path: &str, body: &Value| {
        call(&gateway, key, Method::POST, &format!("/v1/{path}"), body).await
    };
    // A thousand passages in one batch, as `weir memory ingest --gateway` sends them.
    let passage = |number: usize| {
        let text = format!("heron number {number} fishes at dawn");
        json!({"id": uuid(number), "text": text, "tenant": "shared"})
    };
    let batch = json!({"nodes": (0..1000).map(passage).collect::<Vec<_>>()});
    let (status, written) = post("ops", "memory/nodes", &batch).await;
    assert_eq!(
        (status, &written["inserted"]),
        (200, &json!(1000)),
        "{written}"
    );
    let (status, written) = post("ops", "memory/nodes", &batch).await;
    assert_eq!(
        (status, &written["unchanged"]),
        (200, &json!(1000)),
        "{written}"
    );

    assert_eq!(post("acme", "memory/nodes", &shared("x")).await.0, 403);
    let own = json!({"nodes": [{"text": "our pond"}]});
    let (_, own) = post("acme", "memory/nodes", &own).await;
    let edge =
        |src: &Value, dst: &Value| json!({"edges": [{"src": src, "dst": dst, "rel": "near"}]});
    let (first, second) = (json!(uuid(0)), json!(uuid(1)));
    let between = edge(&first, &second);
    let (status, error) = post("acme", "memory/edges", &between).await;
    assert_eq!((status, &error["error"]["code"]), (403, &json!("tenant")));
    let joined = edge(&own["ids"][0], &first);
    assert_eq!(post("acme", "memory/edges", &joined).await.0, 200);
    let (status, error) = post("globex", "memory/edges", &joined).await;
    assert_eq!(
        (status, &error["error"]["param"]),
        (400, &json!("edges[0].src"))
    );
    let bad = json!({"query": "heron", "vector": [1.0]});
    assert_eq!(post("acme", "memory/search", &bad).await.0, 422);

    let (status, found) = post("globex", "memory/search", &json!({"query": "pond"})).await;
    let hits = found["hits"].as_array().unwrap();
    assert_eq!(status, 200, "{found}");
    assert!(hits.iter().all(|hit| hit["text"] != "our pond"), "{found}");
    let query = json!({"query": "pond", "k": 1, "nodes_max": 5});
    let (_, attended) = post("acme", "memory/attend", &query).await;
    let nodes = attended["nodes"].as_array().unwrap();
    assert!(
        nodes.iter().any(|node| node["text"] == "our pond"),
        "{attended}"
    );

    let path = format!("/v1/memory/nodes/{}", own["ids"][0].as_str().unwrap());
    let remove = async |key: &str| {
        call(&gateway, key, Method::DELETE, &path, &Value::Null)
            .await
            .0
    };
    assert_eq!(remove("globex").await, 404);
    assert_eq!(remove("acme").await, 200);
    assert_eq!(remove("acme").await, 404);
    let asked = json!({"model": MODEL, "input": ["a weir", "a heron"]});
    let (status, vectors) = post("ops", "embeddings", &asked).await;
    let length = vectors["data"][1]["embedding"].as_array().map(Vec::len);
    assert_eq!((status, length), (200, Some(world.dimensions)), "{vectors}");
    drop(gateway);
    service.stop().await;
}

fn uuid(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}
