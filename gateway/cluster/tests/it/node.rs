//! A gateway with its files, a client for it, and plans.

use crate::certs::{Authority, mount};
use crate::echo::Echo;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::JoinHandle;
use weir_gateway::Stop;
use weir_gateway_cluster::{Operator, Options, RunError, bind};
use weir_plan::{Endpoint, EngineKind, GatewayPlan, Limits, Objective, Pool, Revision, RouterPlan};
use weir_router::{ArmTable, Artifact};

/// The folders of a gateway's pod; they outlive its process.
pub(crate) struct Files {
    folder: tempfile::TempDir,
    pub(crate) authority: Authority,
}

/// A running gateway.
pub(crate) struct Node {
    pub(crate) url: String,
    pub(crate) metrics_url: String,
    pub(crate) stop: Stop,
    running: JoinHandle<Result<(), RunError>>,
    client: reqwest::Client,
}

impl Files {
    pub(crate) fn new() -> Self {
        let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
        let files = Self { folder, authority };
        mount(&files.tls(), &files.authority, &files.authority.client());
        std::fs::create_dir(files.path().join("plan")).unwrap();
        files
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn tls(&self) -> PathBuf {
        self.path().join("tls")
    }

    pub(crate) fn plan(&self) -> PathBuf {
        self.path().join("plan/plan.json")
    }

    pub(crate) fn last_good(&self) -> PathBuf {
        self.path().join("state/plan.json")
    }

    /// Writes the mounted plan.
    pub(crate) fn mount_plan(&self, plan: &GatewayPlan) {
        std::fs::write(self.plan(), serde_json::to_vec(plan).unwrap()).unwrap();
    }

    /// Puts an artifact beside the mounted plan and names it in `plan`.
    pub(crate) fn mount_router(&self, plan: &mut GatewayPlan, artifact: &Artifact) {
        plan.router = Some(named(artifact));
        let name = format!("plan/{}.onnx", artifact.sha256());
        std::fs::write(self.path().join(name), artifact.to_bytes()).unwrap();
    }

    /// Starts a gateway that follows the operator at `url`.
    pub(crate) async fn start(&self, url: &str) -> Node {
        let operator = Operator {
            url: url.to_owned(),
            tls: self.tls(),
        };
        Node::start(self.options(Some(operator))).await
    }

    pub(crate) fn options(&self, operator: Option<Operator>) -> Options {
        Options {
            plan: Some(self.plan()),
            operator,
            state: Some(self.path().join("state")),
            listen: "127.0.0.1:0".parse().unwrap(),
            https: None,
            listen_metrics: Some("127.0.0.1:0".parse().unwrap()),
            drain_lead: Duration::from_millis(300),
            pod: "support-gateway-0".to_owned(),
        }
    }
}

impl Node {
    pub(crate) async fn start(options: Options) -> Self {
        Self::start_with(options, Stop::default()).await
    }

    pub(crate) async fn start_with(options: Options, stop: Stop) -> Self {
        let scheme = options.https.as_ref().map_or("http", |_| "https");
        let bound = bind(options).await.unwrap();
        let metrics = bound.metrics_address().unwrap().unwrap();
        Self {
            url: format!("{scheme}://{}", bound.address().unwrap()),
            metrics_url: format!("http://{metrics}"),
            stop: stop.clone(),
            running: tokio::spawn(bound.run(stop)),
            client: reqwest::Client::new(),
        }
    }

    /// Asks a model; the answer's text, or the status that there was instead.
    pub(crate) async fn ask(&self, model: &str) -> Result<String, u16> {
        let reply = self.send(model, false).await;
        if !reply.status().is_success() {
            return Err(reply.status().as_u16());
        }
        let body: Value = reply.json().await.unwrap();
        let text = body["choices"][0]["message"]["content"].as_str();
        Ok(text.unwrap().to_owned())
    }

    pub(crate) async fn send(&self, model: &str, stream: bool) -> reqwest::Response {
        let body = json!({"model": model, "stream": stream,
            "messages": [{"role": "user", "content": "hi"}]});
        let url = format!("{}/v1/chat/completions", self.url);
        let sent = self.client.post(url).json(&body).send().await;
        sent.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        let sent = self.client.get(format!("{}{path}", self.url)).send().await;
        sent.unwrap()
    }

    /// Status and body of `/readyz`.
    pub(crate) async fn ready(&self) -> (u16, Value) {
        let reply = self.get("/readyz").await;
        (reply.status().as_u16(), reply.json().await.unwrap())
    }

    /// Waits until `/readyz` says something.
    pub(crate) async fn until_ready(&self, says: impl Fn(u16, &Value) -> bool) -> Value {
        let mut last = (0, Value::Null);
        for _ in 0..2000 {
            last = self.ready().await;
            if says(last.0, &last.1) {
                return last.1;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("/readyz never said it: {} {}", last.0, last.1);
    }

    /// Waits until this plan is served.
    pub(crate) async fn until_served(&self, counter: u64) -> Value {
        self.until_ready(|_, body| body["plan"]["revision"]["counter"] == counter)
            .await
    }

    /// Value of a metric without labels.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let reply = self.client.get(format!("{}/metrics", self.metrics_url));
        let text = reply.send().await.unwrap().text().await.unwrap();
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.parse().ok()
    }

    /// Waits until the gateway has left.
    pub(crate) async fn left(self) -> Result<(), RunError> {
        let left = tokio::time::timeout(Duration::from_secs(20), self.running);
        left.await.unwrap().unwrap()
    }

    /// Ends the gateway as a killed process does, and waits until its port is free.
    pub(crate) async fn kill(self) {
        self.stop.now.cancel();
        self.left().await.unwrap();
    }
}

/// A pool `NAME` with model `NAME-model` at these engines.
pub(crate) fn pool(name: &str, engines: &[&Echo]) -> Pool {
    let endpoint = |echo: &&Echo| Endpoint::keyless(&echo.url);
    Pool {
        model: format!("{name}-model"),
        upstream_model: format!("{name}-model"),
        engine: EngineKind::LlamaCpp,
        context_tokens: 2048,
        slots: 4,
        endpoints: engines.iter().map(endpoint).collect(),
        ..Pool::local(name)
    }
}

/// Plan (1, `counter`) over these pools, open to everybody. Only quality counts.
pub(crate) fn plan(counter: u64, pools: Vec<Pool>) -> GatewayPlan {
    GatewayPlan {
        revision: Revision { epoch: 1, counter },
        objective: Objective {
            per_second: 0.0,
            per_cost_unit: 0.0,
        },
        limits: Limits {
            request_timeout_ms: 10_000,
            ..Limits::default()
        },
        ..GatewayPlan::least("support", pools)
    }
}

/// An artifact that always prefers the pool of this rank of two, by less than a point: the other may answer in its place.
pub(crate) fn prefers(rank: usize) -> Artifact {
    let table = ArmTable::standard(2);
    let quality = |arm: &weir_router::Arm| if arm.rank == rank { 4.5 } else { 3.75 };
    let qualities: Vec<f32> = table.arms.iter().map(quality).collect();
    Artifact::constant(&table, &qualities)
}

/// How a plan names an artifact.
pub(crate) fn named(artifact: &Artifact) -> RouterPlan {
    RouterPlan {
        version: "router-v7".to_owned(),
        sha256: artifact.sha256().to_owned(),
    }
}

/// An address where nothing listens.
pub(crate) fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    )
}
