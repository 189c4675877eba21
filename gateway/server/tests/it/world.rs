//! A gateway on a real port, its plan, and a small HTTP client.

use crate::echo::Echo;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};
use weir_gateway::gateway::{Assets, Gateway, MemoryAsset};
use weir_memory::{Memory, MemoryConfig};
use weir_plan::{
    ApiKey, EmbedderPlan, Endpoint, GatewayPlan, Limits, MemoryPlan, Objective, Pool, Privacy,
    PrivacyLimits, Scope,
};
use weir_router::{ArmTable, Artifact, Router};

/// A running gateway and a client for it.
pub(crate) struct World {
    address: String,
    pub(crate) gateway: Gateway,
    client: Client<HttpConnector, Sent>,
    _stop: DropGuard,
}

type Sent = BoxBody<Bytes, Infallible>;

/// A response whose body is still to be read.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Incoming,
}

/// A pool `NAME` of these engines; its model has the same name with `-model`.
pub(crate) fn pool(name: &str, engines: &[&Echo]) -> Pool {
    let endpoint = |echo: &&Echo| Endpoint::keyless(&echo.url);
    Pool {
        model: format!("{name}-model"),
        upstream_model: format!("{name}-model"),
        context_tokens: 2048,
        slots: 4,
        endpoints: engines.iter().map(endpoint).collect(),
        ..Pool::local(name)
    }
}

/// An anonymous gateway over these pools that explores nothing and logs nothing. Only quality counts.
pub(crate) fn plan(pools: Vec<Pool>) -> GatewayPlan {
    GatewayPlan {
        objective: Objective {
            per_second: 0.0,
            per_cost_unit: 0.0,
        },
        privacy: PrivacyLimits {
            default: Privacy::Cloud,
            max: Privacy::Cloud,
        },
        limits: Limits {
            request_timeout_ms: 10_000,
            ..Limits::default()
        },
        ..GatewayPlan::least("test", pools)
    }
}

pub(crate) fn key(tenant: &str, key: &str, scopes: &[Scope]) -> ApiKey {
    ApiKey {
        tenant: tenant.to_owned(),
        key_id: "test".to_owned(),
        sha256: hex::encode(Sha256::digest(key.as_bytes())),
        scopes: scopes.to_vec(),
    }
}

/// A memory `kb` of this embedding model.
pub(crate) fn memory_plan(model: &str, dimensions: usize, embedder: EmbedderPlan) -> MemoryPlan {
    MemoryPlan {
        name: "kb".to_owned(),
        embedding_model: model.to_owned(),
        dimensions,
        service: None,
        embedder,
        seeds: 64,
        hops: 2,
        nodes_max: 256,
        summaries: None,
    }
}

/// An open memory that `memory_plan` fits, in a folder of its own.
pub(crate) fn open_memory(plan: &MemoryPlan) -> (tempfile::TempDir, Memory) {
    let folder = tempfile::tempdir().unwrap();
    let config = MemoryConfig {
        dimensions: plan.dimensions,
        embedding_model: plan.embedding_model.clone(),
    };
    let memory = Memory::open(folder.path(), &config).unwrap();
    (folder, memory)
}

/// A router that always prefers the pool of this rank, with no recall before the others.
pub(crate) fn prefers(rank: usize, pools: usize) -> Router {
    let table = ArmTable::standard(pools);
    Router::new(Artifact::constant(&table, &qualities(&table, rank))).unwrap()
}

/// A router that prefers this rank and never finds an answer good enough.
pub(crate) fn never_content(rank: usize, pools: usize) -> Router {
    let table = ArmTable::standard(pools);
    let artifact = Artifact::constant_with_answer(&table, &qualities(&table, rank), 1.0);
    Router::new(artifact).unwrap()
}

fn qualities(table: &ArmTable, rank: usize) -> Vec<f32> {
    table
        .arms
        .iter()
        .map(|arm| if arm.rank == rank { 4.5 } else { 2.0 })
        .collect()
}

/// What goes with a plan: no embedder, no counters, no log.
pub(crate) fn assets(router: Router, memory: Option<Memory>) -> Assets {
    let embed = None;
    Assets {
        memory: memory.map(|store| MemoryAsset::Open { store, embed }),
        router,
        candidate: None,
        counters: HashMap::new(),
        state_dir: None,
    }
}

impl World {
    /// Host and port.
    pub(crate) fn authority(&self) -> &str {
        self.address.trim_start_matches("http://")
    }

    /// Serves another plan from the next request on.
    pub(crate) fn apply(&self, plan: GatewayPlan, router: Router) {
        self.gateway.apply(plan, assets(router, None)).unwrap();
    }

    pub(crate) async fn start(plan: GatewayPlan, router: Router) -> Self {
        Self::with_memory(plan, router, None).await
    }

    pub(crate) async fn with_memory(
        plan: GatewayPlan,
        router: Router,
        memory: Option<Memory>,
    ) -> Self {
        Self::with_assets(plan, assets(router, memory)).await
    }

    pub(crate) async fn with_assets(plan: GatewayPlan, assets: Assets) -> Self {
        let gateway = Gateway::new(plan, assets).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(weir_gateway::serve(gateway.clone(), listener, stop.clone()));
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self {
            address,
            gateway,
            client,
            _stop: stop.drop_guard(),
        }
    }

    /// One pool `small` with one engine.
    pub(crate) async fn of(echo: &Echo) -> Self {
        Self::start(plan(vec![pool("small", &[echo])]), prefers(0, 1)).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        let body = BodyExt::boxed(Full::new(body.into()));
        self.send_body(method, path, headers, body).await
    }

    /// A chat whose body comes this much later than its head.
    pub(crate) async fn chat_slowly(&self, body: &Value, late: Duration) -> Reply {
        let body = Bytes::from(body.to_string());
        let frame = stream::once(async move {
            tokio::time::sleep(late).await;
            Ok(Frame::data(body))
        });
        let path = "/v1/chat/completions";
        self.send_body(
            Method::POST,
            path,
            &[],
            BodyExt::boxed(StreamBody::new(frame)),
        )
        .await
    }

    async fn send_body(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Sent,
    ) -> Reply {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = format!("{}{path}", self.address).parse().unwrap();
        for (name, value) in headers {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let (head, body) = self.client.request(request).await.unwrap().into_parts();
        Reply {
            status: head.status,
            headers: head.headers,
            body,
        }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(Method::POST, path, &[], body.to_string()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    /// The recorded row of an answer, which is read to its end first.
    pub(crate) async fn row_of(&self, reply: Reply) -> Value {
        let id = reply.header("x-weir-decision").to_owned();
        reply.text().await;
        self.get(&format!("/v1/decisions/{id}")).await.json().await
    }

    pub(crate) async fn chat(&self, body: &Value) -> Reply {
        self.post("/v1/chat/completions", body).await
    }
}

impl Reply {
    pub(crate) async fn text(self) -> String {
        String::from_utf8(self.body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    pub(crate) async fn json(self) -> Value {
        let text = self.text().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// One user turn for a model.
pub(crate) fn asking(model: &str, text: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": text}]})
}

/// `asking` with more fields.
pub(crate) fn asking_with(model: &str, text: &str, more: &Value) -> Value {
    let mut body = asking(model, text);
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// The JSON of every `data:` line before `[DONE]`, and whether `[DONE]` came.
pub(crate) fn events(text: &str) -> (Vec<Value>, bool) {
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let (done, events): (Vec<&str>, Vec<&str>) = lines.partition(|line| *line == "[DONE]");
    let events = events
        .iter()
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    (events, !done.is_empty())
}

/// The text that a stream's events add up to.
pub(crate) fn text_of(events: &[Value]) -> String {
    let deltas = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
    deltas.collect()
}
