//! `weir memory ingest --gateway`: files are read here, as always, and their passages sent to a gateway elsewhere.
//!
//! The reading is weir-memory's own ingest into a store that lives as long as the command; what came out of it is sent in
//! batches that a gateway takes. Ids follow from the files, so a second run changes only what the files changed: it
//! continues one that broke off, and removes the passages that a file no longer has. Decides nothing about what a passage is.

use crate::args::Output;
use crate::client::client;
use crate::fail::Failure;
use crate::memory::report;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::fs::DirBuilder;
use std::ops::ControlFlow;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use weir_local::{Home, IngestOptions, IngestSummary, Sent};
use weir_memory::{
    Edge, EdgeMetadata, Memory, MemoryConfig, Metadata, Node, NodeId, SHARED_TENANT,
};

/// Bytes of one request: half of what a gateway takes when its limits are not changed.
const BATCH_BYTES: usize = 512 << 10;
/// Nodes or edges of one request.
const BATCH_MAX: usize = 1000;
/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(120);
/// How often one request is tried while the gateway is busy or away.
const TRIES_MAX: u32 = 8;
/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A gateway that is busy, or whose memory is away.
const PASSING: [StatusCode; 4] = [
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::BAD_GATEWAY,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::GATEWAY_TIMEOUT,
];

/// A gateway and how to speak to it.
pub(crate) struct Target {
    client: reqwest::Client,
    base: String,
    api_key: Option<String>,
    /// Whether it ever answered: an address where nobody ever did is a wrong one.
    answered: AtomicBool,
}

/// Reads the files and sends what is in them.
pub(crate) async fn run(
    target: &Target,
    options: &IngestOptions,
    output: Output,
) -> Result<(), Failure> {
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}  {per_sec}  {eta} left")
            .expect("the template is valid"),
    );
    bar.set_message("files");
    let tenant = options.tenant.as_deref().unwrap_or(SHARED_TENANT);
    let mut sent = Sent::open(&Home::from_env()?, &target.base, tenant)?;
    let folder = Scratch::new()?;
    let (memory, mut summary) = tokio::task::block_in_place(|| read(&folder, options, &bar))?;
    let documents = memory.documents(tenant)?;
    sent.begin(&documents)?;
    let mut stale = sent.stale(&documents);
    let gone = match options.mirror {
        true => sent.gone(&documents, options, &summary.bad),
        false => Vec::new(),
    };
    stale.extend(gone.iter().flat_map(|key| sent.passages(key)));
    summary.gone = gone.len();
    let sending = async {
        send_nodes(target, &memory, &documents, &bar, &mut summary).await?;
        for id in &stale {
            summary.removed += usize::from(target.delete(*id).await?);
        }
        send_edges(target, &memory, &documents, &bar, summary.edges).await
    };
    let done = sending.await;
    let took = bar.elapsed();
    bar.finish_and_clear();
    done.map_err(|error| {
        Failure::new(format!(
            "{error}; what was sent is kept: run the same command again to send the rest"
        ))
    })?;
    sent.finish(&documents, &gone)?;
    report(&summary, took.as_secs_f64(), output)
}

fn read(
    folder: &Scratch,
    options: &IngestOptions,
    bar: &ProgressBar,
) -> Result<(Memory, IngestSummary), Failure> {
    // Vectors are made where the memory is.
    let config = MemoryConfig {
        dimensions: 1,
        embedding_model: "none".to_owned(),
    };
    let memory = Memory::open(&folder.0, &config)?;
    let summary = weir_local::ingest(&memory, options, &mut |at| {
        bar.set_length(at.files as u64);
        bar.set_position(at.files_done as u64);
        ControlFlow::Continue(())
    })?;
    // What is new there and what is not is the gateway's to say.
    let summary = IngestSummary {
        inserted: 0,
        updated: 0,
        unchanged: 0,
        removed: 0,
        vectors_pending: 0,
        ..summary
    };
    Ok((memory, summary))
}

/// Documents and the passages of each.
type Documents = [(String, Vec<NodeId>)];

async fn send_nodes(
    target: &Target,
    memory: &Memory,
    documents: &Documents,
    bar: &ProgressBar,
    summary: &mut IngestSummary,
) -> Result<(), String> {
    begin(bar, "passages", summary.passages);
    let mut batch = Batch::new("nodes");
    for (_, ids) in documents {
        for node in memory.nodes(ids).map_err(|error| error.to_string())? {
            if let Some(full) = batch.add(&node_body(&node)) {
                count(summary, &target.post(&full).await?);
                bar.inc(full.len() as u64);
            }
        }
    }
    if !batch.is_empty() {
        count(summary, &target.post(&batch).await?);
    }
    Ok(())
}

/// After the passages: an edge needs both its ends.
async fn send_edges(
    target: &Target,
    memory: &Memory,
    documents: &Documents,
    bar: &ProgressBar,
    edges: usize,
) -> Result<(), String> {
    begin(bar, "edges", edges);
    let mut batch = Batch::new("edges");
    for id in documents.iter().flat_map(|(_, ids)| ids) {
        let edges = memory.edges(*id).map_err(|error| error.to_string())?;
        for edge in edges.iter().filter(|edge| edge.src == *id) {
            if let Some(full) = batch.add(&edge_body(edge)) {
                target.post(&full).await?;
                bar.inc(full.len() as u64);
            }
        }
    }
    if !batch.is_empty() {
        target.post(&batch).await?;
    }
    Ok(())
}

fn begin(bar: &ProgressBar, what: &'static str, count: usize) {
    bar.set_message(what);
    bar.set_length(count as u64);
    bar.set_position(0);
    bar.reset_eta();
}

fn count(summary: &mut IngestSummary, answer: &Value) {
    let of = |name: &str| {
        let count = answer[name].as_u64().unwrap_or_default();
        usize::try_from(count).unwrap_or_default()
    };
    summary.inserted += of("inserted");
    summary.updated += of("updated");
    summary.unchanged += of("unchanged");
}

fn node_body(node: &Node) -> Value {
    // The time of reading would make every passage of a second run a changed one.
    let metadata = Metadata {
        timestamp: None,
        ..node.metadata.clone()
    };
    json!({
        "id": node.id, "tenant": node.tenant, "text": node.text, "type": node.node_type,
        "source": node.source, "metadata": metadata,
    })
}

fn edge_body(edge: &Edge) -> Value {
    let metadata = EdgeMetadata {
        timestamp: None,
        ..edge.metadata.clone()
    };
    json!({
        "src": edge.src, "dst": edge.dst, "rel": edge.rel, "weight": edge.weight, "metadata": metadata,
    })
}

/// Nodes or edges of one request.
struct Batch {
    kind: &'static str,
    entries: Vec<String>,
    bytes: usize,
}

impl Batch {
    fn new(kind: &'static str) -> Self {
        Self {
            kind,
            entries: Vec::new(),
            bytes: 0,
        }
    }

    /// Takes an entry; gives back what has to be sent before it.
    fn add(&mut self, entry: &Value) -> Option<Self> {
        let entry = entry.to_string();
        let full = self.entries.len() == BATCH_MAX
            || (self.bytes + entry.len() > BATCH_BYTES && !self.entries.is_empty());
        let before = full.then(|| std::mem::replace(self, Self::new(self.kind)));
        self.bytes += entry.len();
        self.entries.push(entry);
        before
    }

    fn len(&self) -> usize {
        self.entries.len()
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn body(&self) -> String {
        format!("{{\"{}\":[{}]}}", self.kind, self.entries.join(","))
    }
}

/// Why a request was not answered as it should be.
struct NotDone {
    status: Option<StatusCode>,
    /// How long to wait before another try can help.
    again: Option<Duration>,
    message: String,
}

impl Target {
    pub(crate) fn new(gateway: &str, api_key: Option<String>) -> Result<Self, Failure> {
        Ok(Self {
            client: client(TIMEOUT)?,
            base: gateway.trim_end_matches('/').to_owned(),
            api_key,
            answered: AtomicBool::new(false),
        })
    }

    /// Sends a batch.
    async fn post(&self, batch: &Batch) -> Result<Value, String> {
        let (url, body) = (
            format!("{}/v1/memory/{}", self.base, batch.kind),
            batch.body(),
        );
        let request = || {
            let request = self.client.post(&url).body(body.clone());
            request.header("content-type", "application/json")
        };
        self.answer(request).await.map_err(|error| error.message)
    }

    /// Removes a passage. False when it was not there any more.
    async fn delete(&self, id: NodeId) -> Result<bool, String> {
        let url = format!("{}/v1/memory/nodes/{id}", self.base);
        match self.answer(|| self.client.delete(&url)).await {
            Ok(_) => Ok(true),
            Err(error) if error.status == Some(StatusCode::NOT_FOUND) => Ok(false),
            Err(error) => Err(error.message),
        }
    }

    /// Asks, and asks again while the gateway is busy or away: the same twice changes nothing more.
    async fn answer(
        &self,
        request: impl Fn() -> reqwest::RequestBuilder,
    ) -> Result<Value, NotDone> {
        let mut tries = 1;
        loop {
            let error = match self.answer_once(request()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let Some(pause) = error.again.filter(|_| tries < TRIES_MAX) else {
                return Err(error);
            };
            tokio::time::sleep(pause.max(doubled(tries)).min(PAUSE_MAX)).await;
            tries += 1;
        }
    }

    async fn answer_once(&self, mut request: reqwest::RequestBuilder) -> Result<Value, NotDone> {
        if let Some(key) = &self.api_key {
            request = request.bearer_auth(key);
        }
        let away = |error: reqwest::Error| NotDone {
            status: None,
            again: (self.answered.load(Ordering::Relaxed)).then_some(Duration::ZERO),
            message: format!(
                "{} cannot be reached: {}",
                self.base,
                weir_plan::chain(&error)
            ),
        };
        let response = request.send().await.map_err(away)?;
        self.answered.store(true, Ordering::Relaxed);
        let status = response.status();
        let wait = response.headers().get("retry-after");
        let wait = wait.and_then(|value| value.to_str().ok()?.parse().ok());
        let text = response.text().await.map_err(away)?;
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        if status.is_success() {
            return Ok(answer);
        }
        let why = answer["error"]["message"].as_str();
        Err(NotDone {
            status: Some(status),
            again: PASSING
                .contains(&status)
                .then(|| Duration::from_secs(wait.unwrap_or_default())),
            message: format!(
                "the gateway answered {status}: {}",
                why.unwrap_or("no reason given")
            ),
        })
    }
}

fn doubled(tries: u32) -> Duration {
    Duration::from_millis(250) * 2u32.saturating_pow(tries - 1)
}

/// A folder that the user alone can read and that is removed with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Failure> {
        // A process of the same number may have left one behind.
        let name = format!("weir-ingest-{}", NodeId::random());
        let folder = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is the system's to clear.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
