//! `/v1/memory/*` over HTTP: what a tenant writes, finds and may not touch.

use crate::echo::{Echo, Mode};
use crate::world::{World, asking, assets, key, memory_plan, open_memory, plan, pool, prefers};
use http::Method;
use serde_json::{Value, json};
use weir_embed::{EmbedQueue, Embedder};
use weir_gateway::gateway::{Assets, MemoryAsset};
use weir_plan::{Auth, EmbedderPlan, GatewayPlan, Scope};
use weir_testenv::{MINILM, component};

struct Remembering {
    world: World,
    _echo: Echo,
    _folder: tempfile::TempDir,
}

fn in_process() -> EmbedderPlan {
    EmbedderPlan::InProcess {
        source: String::new(),
    }
}

async fn remembering(change: impl FnOnce(&mut GatewayPlan)) -> Remembering {
    let echo = Echo::start(Mode::Echo).await;
    let store = memory_plan("none", 2, in_process());
    let (folder, memory) = open_memory(&store);
    let mut plan = plan(vec![pool("small", &[&echo])]);
    plan.memory = Some(store);
    plan.auth = Auth::ApiKeys(vec![
        key("acme", "acme", &[Scope::Memory]),
        key("globex", "globex", &[Scope::Memory]),
        key("acme", "asker", &[Scope::Ask]),
        key("ops", "ops", &[Scope::Admin]),
    ]);
    change(&mut plan);
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
    let memory = remembering(|_| {}).await;
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
async fn a_question_that_shares_no_word_with_a_passage_finds_it_by_its_vector() {
    let Some(folder) = component(MINILM) else {
        return;
    };
    let embedder = Embedder::load(&folder).unwrap();
    let store = memory_plan("minilm", embedder.dimensions(), in_process());
    let (_folder, memory) = open_memory(&store);
    let mut plan = plan(vec![pool("small", &[])]);
    plan.memory = Some(store);
    let loaded = Assets {
        memory: Some(MemoryAsset::Open {
            store: memory,
            embed: Some(EmbedQueue::new(embedder)),
        }),
        ..assets(prefers(0, 1), None)
    };
    let world = World::with_assets(plan, loaded).await;
    let passages = [
        "Bread dough rises overnight in a cool kitchen.",
        "A weir is a low wall across a river that raises the water behind it.",
        "The violinist tuned her instrument before the concert.",
    ];
    let body = json!({"model": "minilm", "input": passages});
    let embedded = world.post("/v1/embeddings", &body).await.json().await;
    let node = |index: usize| json!({"text": passages[index], "vector": embedded["data"][index]["embedding"]});
    let nodes = json!({"nodes": [node(0), node(1), node(2)]});
    let written = world.post("/v1/memory/nodes", &nodes).await.json().await;
    assert_eq!(written["inserted"], 3, "{written}");

    let query = json!({"query": "small dams holding back streams"});
    let found = world.post("/v1/memory/search", &query).await.json().await;
    let best = &found["hits"][0];
    assert_eq!(best["text"], passages[1], "{found}");
    assert!(best["bm25"].is_null(), "no word is shared: {found}");
    assert!(best["cosine"].as_f64().unwrap() > 0.3, "{found}");
}

#[tokio::test]
async fn edges_join_nodes_and_attention_walks_them() {
    let memory = remembering(|_| {}).await;
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
async fn a_subject_is_erased_for_an_admin_key_and_found_no_more() {
    let memory = remembering(|_| {}).await;
    let jane = |text: &str| json!({"text": text, "metadata": {"subject": "jane doe/4711"}});
    let nodes = json!({"nodes": [jane("jane keeps geese"), {"text": "geese graze by the pond"}]});
    let (_, written) = memory.call("acme", Method::POST, "nodes", &nodes).await;
    let elsewhere = json!({"nodes": [jane("jane counts geese")]});
    memory
        .call("globex", Method::POST, "nodes", &elsewhere)
        .await;
    let path = "subjects/jane%20doe%2F4711";
    for key in ["acme", "asker"] {
        let (status, body) = memory.call(key, Method::DELETE, path, &Value::Null).await;
        assert_eq!(status, 403, "{key}: {body}");
    }
    assert_eq!(memory.found("acme", "geese").await, 2);
    let narrow = format!("{path}?tenant=acme");
    let (status, receipt) = memory
        .call("ops", Method::DELETE, &narrow, &Value::Null)
        .await;
    assert_eq!(
        (status, receipt["nodes"].as_u64()),
        (200, Some(1)),
        "{receipt}"
    );
    assert_eq!(receipt["ids"], json!([written["ids"][0]]), "{receipt}");
    assert!(
        receipt["erased_at"].is_u64() && receipt["generation"].is_u64(),
        "{receipt}"
    );
    let said = receipt.to_string();
    assert!(
        said.contains("log rows") && !said.contains("jane"),
        "{said}"
    );
    assert_eq!(memory.found("acme", "jane").await, 0);
    assert_eq!(memory.found("acme", "geese").await, 1);
    assert_eq!(memory.found("globex", "jane").await, 1);
    let (status, body) = memory
        .call(
            "ops",
            Method::DELETE,
            &format!("{path}?tenent=acme"),
            &Value::Null,
        )
        .await;
    assert_eq!(status, 400, "{body}");
    let (_, receipt) = memory.call("ops", Method::DELETE, path, &Value::Null).await;
    assert_eq!(receipt["nodes"], 1, "every tenant's: {receipt}");
    assert_eq!(memory.found("globex", "jane").await, 0);
}

fn seeds(plan: &mut GatewayPlan, seeds: usize) {
    plan.memory.as_mut().unwrap().seeds = seeds;
}

/// A hundred and fifty notes about herons.
fn herons() -> Value {
    let note = |number: usize| json!({"text": format!("heron number {number} fishes at dawn")});
    json!({"nodes": (0..150).map(note).collect::<Vec<_>>()})
}

#[tokio::test]
async fn an_answer_starts_from_as_many_seeds_as_the_store_declares() {
    let memory = remembering(|plan| seeds(plan, 100)).await;
    let (status, written) = memory.call("acme", Method::POST, "nodes", &herons()).await;
    assert_eq!(status, 200, "{written}");
    let headers = [("authorization", "Bearer asker")];
    let body = asking("auto", "When does the heron fish?").to_string();
    let send = memory
        .world
        .send(Method::POST, "/v1/chat/completions", &headers, body);
    let id = send.await.header("x-weir-decision").to_owned();
    let path = format!("/v1/decisions/{id}");
    let decision = memory.world.send(Method::GET, &path, &headers, "").await;
    let decision = decision.json().await;
    assert_eq!(decision["retrieval"]["nodes_used"], 100, "{decision}");
}

#[tokio::test]
async fn attend_starts_from_no_more_seeds_than_the_store_declares() {
    let memory = remembering(|plan| seeds(plan, 3)).await;
    memory.call("acme", Method::POST, "nodes", &herons()).await;
    let query = json!({"query": "heron", "k": 20});
    let (status, recall) = memory.call("acme", Method::POST, "attend", &query).await;
    assert_eq!(
        (status, recall["nodes_used"].as_u64()),
        (200, Some(3)),
        "{recall}"
    );
}

#[tokio::test]
async fn only_an_admin_joins_shared_nodes_and_a_tenant_joins_its_own_to_them() {
    let memory = remembering(|_| {}).await;
    let shared = json!({"nodes": [
        {"text": "a kingfisher dives", "tenant": "shared"},
        {"text": "a heron waits", "tenant": "shared"},
    ]});
    let (_, shared) = memory.call("ops", Method::POST, "nodes", &shared).await;
    let own = json!({"nodes": [{"text": "our pond"}]});
    let (_, own) = memory.call("acme", Method::POST, "nodes", &own).await;
    let edge =
        |src: &Value, dst: &Value| json!({"edges": [{"src": src, "dst": dst, "rel": "near"}]});
    let between = edge(&shared["ids"][0], &shared["ids"][1]);
    let (status, error) = memory.call("acme", Method::POST, "edges", &between).await;
    assert_eq!((status, &error["error"]["code"]), (403, &json!("tenant")));
    assert_eq!(
        memory.call("ops", Method::POST, "edges", &between).await.0,
        200
    );
    for joined in [
        edge(&own["ids"][0], &shared["ids"][0]),
        edge(&shared["ids"][0], &own["ids"][0]),
    ] {
        let (status, body) = memory.call("acme", Method::POST, "edges", &joined).await;
        assert_eq!(status, 200, "{body}");
    }
}

#[tokio::test]
async fn memory_calls_wait_for_a_place_and_end_with_the_requests_time() {
    let memory = remembering(|plan| {
        plan.limits.in_flight_max = 0;
        plan.limits.queue_max = 0;
    })
    .await;
    let node = json!({"nodes": [{"text": "a heron waits"}]});
    for (method, path, body) in [
        (Method::POST, "nodes", node.clone()),
        (Method::POST, "search", json!({"query": "heron"})),
        (Method::POST, "attend", json!({"query": "heron"})),
        (Method::DELETE, "nodes/x", Value::Null),
    ] {
        assert_eq!(memory.call("acme", method, path, &body).await.0, 429);
    }
    let memory = remembering(|plan| plan.limits.request_timeout_ms = 0).await;
    let node = |number| json!({"text": format!("heron {number} waits in the reeds")});
    let many: Vec<Value> = (0..1000).map(node).collect();
    let many = json!({"nodes": many});
    let (status, error) = memory.call("acme", Method::POST, "nodes", &many).await;
    assert_eq!((status, &error["error"]["code"]), (504, &json!("timeout")));
}

#[tokio::test]
async fn a_memory_makes_vectors_of_one_length() {
    let memory = remembering(|_| {}).await;
    let asked = json!({"model": "none", "input": "a", "dimensions": 3});
    let headers = [("authorization", "Bearer ops")];
    let reply = memory
        .world
        .send(Method::POST, "/v1/embeddings", &headers, asked.to_string())
        .await;
    assert_eq!(reply.status.as_u16(), 400);
    let error = reply.json().await["error"].clone();
    assert_eq!(error["param"], "dimensions");
    assert!(error["message"].as_str().unwrap().contains("send 2"));
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused_with_its_name() {
    let memory = remembering(|_| {}).await;
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
