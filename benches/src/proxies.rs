//! The gateways of the benchmark beside each other, each a process of its own before the same engine: Weir's binary, and its
//! peers at the versions of `peers/requirements-gateway.txt` and `peers/package.json`.
//!
//! A peer that cannot be installed or does not answer is left out, loudly, and the results say so.

use crate::load::{Address, Connection};
use crate::peers;
use crate::upstream::MODEL;
use anyhow::{Context, ensure};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir_lab::process::{free_port, resident};

/// A process that does not answer by then is left out. LiteLLM takes half a minute on a busy machine.
const START: Duration = Duration::from_secs(120);

/// Names of all but `weir`, as rows have them.
pub const OTHERS: [&str; 5] = [
    "vllm-router",
    "sglang-router",
    "litellm",
    "portkey",
    "weir-auto",
];

/// The versions of the peers, as they are pinned.
pub fn versions() -> String {
    let python = include_str!("../peers/requirements-gateway.txt").lines();
    let python: Vec<&str> = python.filter(|line| !line.starts_with('#')).collect();
    let node = include_str!("../peers/package.json");
    let node = node
        .split_once("\"@")
        .and_then(|(_, rest)| rest.split_once('}'));
    format!(
        "{}, @{}",
        python.join(", "),
        node.map_or("", |(package, _)| package)
    )
}

/// A gateway that runs; it ends when this is dropped.
pub struct Proxy {
    /// Its name.
    pub name: &'static str,
    /// What is asked.
    pub address: Arc<Address>,
    process: Child,
}

/// How to start a gateway.
struct Start {
    name: &'static str,
    command: Command,
    port: u16,
    headers: HeaderMap,
    model: &'static str,
}

impl Proxy {
    /// Starts Weir's binary as users do, with `weir up`: `weir` serves a pinned model, `weir-auto` chooses by its router and a
    /// memory.
    ///
    /// # Errors
    /// It is not built, the embedder is not installed, or it does not answer.
    pub async fn weir(name: &'static str, engine: &str, folder: &Path) -> anyhow::Result<Self> {
        let binary = std::env::current_exe()?;
        let binary = binary
            .parent()
            .and_then(Path::parent)
            .map(|folder| folder.join("weir"));
        let binary = binary.filter(|binary| binary.exists());
        let binary =
            binary.context("weir is not built with this profile: run `make bench-gateway`")?;
        let routes = name == "weir-auto";
        let stack = folder.join(format!("{name}.yaml"));
        std::fs::write(&stack, stack_of(engine, routes)?)?;
        let port = free_port()?;
        let mut command = Command::new(binary);
        command
            .args(["up", "--port", &port.to_string(), "-f"])
            .arg(stack);
        command.env("WEIR_HOME", folder.join(name));
        let mut start = Start::plain(name, command, port);
        start.model = if routes { "auto" } else { MODEL };
        Self::start(start, folder).await
    }

    /// Starts one of [`OTHERS`].
    ///
    /// # Errors
    /// It cannot be installed, or does not answer.
    pub async fn other(name: &'static str, engine: &str, folder: &Path) -> anyhow::Result<Self> {
        let start = match name {
            "vllm-router" => router(name, "vllm_router.launch_router", engine)?,
            "sglang-router" => router(name, "sglang_router.launch_router", engine)?,
            "litellm" => litellm(engine, folder)?,
            "weir-auto" => return Self::weir(name, engine, folder).await,
            _ => portkey(engine)?,
        };
        Self::start(start, folder).await
    }

    async fn start(start: Start, folder: &Path) -> anyhow::Result<Self> {
        let Start {
            name,
            mut command,
            port,
            headers,
            model,
        } = start;
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log)?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let process = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let address = Address {
            headers,
            model,
            ..Address::plain(&format!("127.0.0.1:{port}"))
        };
        let mut proxy = Self {
            name,
            address: Arc::new(address),
            process,
        };
        let until = Instant::now() + START;
        loop {
            let asked = async { Connection::open(&proxy.address).await?.ask().await };
            let Err(error) = asked.await else {
                return Ok(proxy);
            };
            let ended = proxy.process.try_wait()?;
            if ended.is_some() || Instant::now() > until {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                let last: Vec<&str> = said.lines().rev().take(5).collect();
                return Err(error.context(format!(
                    "{name} does not answer; it said, last first: {last:?}"
                )));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Memory that its processes hold, in KiB.
    ///
    /// # Errors
    /// They are gone.
    pub fn resident_kib(&self) -> anyhow::Result<u64> {
        self.processes()?
            .iter()
            .map(|process| Ok(resident(process)?.now_kib))
            .sum()
    }

    /// Time that its threads have run, in nanoseconds.
    ///
    /// # Errors
    /// They are gone.
    pub fn ran_ns(&self) -> anyhow::Result<u64> {
        let mut total = 0;
        for process in self.processes()? {
            for thread in std::fs::read_dir(process.join("task"))? {
                // One that ends meanwhile is left out.
                let schedule = std::fs::read_to_string(thread?.path().join("schedstat"));
                let schedule = schedule.unwrap_or_default();
                total += schedule
                    .split(' ')
                    .next()
                    .and_then(|ran| ran.parse().ok())
                    .unwrap_or(0u64);
            }
        }
        Ok(total)
    }

    /// The folders in /proc of all processes of its group.
    fn processes(&self) -> anyhow::Result<Vec<PathBuf>> {
        let group = self.process.id().to_string();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let folder = entry?.path();
            let stat = std::fs::read_to_string(folder.join("stat")).unwrap_or_default();
            // After the name in parentheses: state, parent, group.
            let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
            if fields.split_whitespace().nth(2) == Some(&group) {
                found.push(folder);
            }
        }
        ensure!(!found.is_empty(), "{} has ended", self.name);
        Ok(found)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Its children are in its group.
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.process.wait();
    }
}

impl Start {
    fn plain(name: &'static str, command: Command, port: u16) -> Self {
        Self {
            name,
            command,
            port,
            headers: HeaderMap::new(),
            model: MODEL,
        }
    }
}

/// Weir before the engine: one pool, an anonymous gateway, room for the benchmark's streams; with a memory if told so.
fn stack_of(engine: &str, memory: bool) -> anyhow::Result<String> {
    let gateway = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: ModelPool\nmetadata: {{name: bench, labels: {{stack: bench}}}}\nspec:\n  \
         model: {{name: {MODEL}}}\n  tier: server\n  privacy: local\n  engine: {{external: {{url: '{engine}', slots: 4096}}}}\n---\n\
         apiVersion: weir.dev/v1alpha1\nkind: InferenceGateway\nmetadata: {{name: bench}}\nspec:\n  listen: {{port: 0}}\n  \
         pools: {{matchLabels: {{stack: bench}}}}\n  auth: {{anonymous: {{}}}}\n  limits: {{inFlightMax: 4096}}\n  logs: {{sink: file}}\n"
    );
    if !memory {
        return Ok(gateway);
    }
    let model = weir_testenv::component(weir_testenv::MINILM);
    let model = model.context("the embedder is not installed: run `make components`")?;
    Ok(format!(
        "{gateway}  memory: kb\n---\napiVersion: weir.dev/v1alpha1\nkind: MemoryStore\nmetadata: {{name: kb}}\nspec:\n  embedding: \
         {{model: all-minilm-l6-v2, source: 'file://{}', dimensions: 384}}\n  store: {{embedded: {{}}}}\n",
        model.display()
    ))
}

fn router(name: &'static str, module: &str, engine: &str) -> anyhow::Result<Start> {
    let (port, metrics) = (free_port()?, free_port()?);
    let mut command = Command::new(peers::python("gateway-peers", "requirements-gateway.txt")?);
    command.args([
        "-m",
        module,
        "--host",
        "127.0.0.1",
        "--policy",
        "round_robin",
    ]);
    command.args([
        "--port",
        &port.to_string(),
        "--prometheus-port",
        &metrics.to_string(),
    ]);
    command.args(["--worker-urls", engine]);
    Ok(Start::plain(name, command, port))
}

fn litellm(engine: &str, folder: &Path) -> anyhow::Result<Start> {
    let python = peers::python("gateway-peers", "requirements-gateway.txt")?;
    let port = free_port()?;
    let config = folder.join("litellm.yaml");
    let model = format!("model: openai/{MODEL}, api_base: '{engine}/v1', api_key: none");
    std::fs::write(
        &config,
        format!("model_list:\n  - model_name: {MODEL}\n    litellm_params: {{{model}}}\n"),
    )?;
    let mut command = Command::new(python.with_file_name("litellm"));
    command
        .args([
            "--host",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "--config",
        ])
        .arg(config);
    command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
    command.env(
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY",
        "true",
    );
    Ok(Start::plain("litellm", command, port))
}

fn portkey(engine: &str) -> anyhow::Result<Start> {
    let port = free_port()?;
    let mut command = Command::new("node");
    command.arg(peers::node_package("@portkey-ai/gateway")?.join("build/start-server.js"));
    command.arg(format!("--port={port}"));
    let headers = [
        ("x-portkey-provider", "openai".to_owned()),
        ("x-portkey-custom-host", format!("{engine}/v1")),
        ("authorization", "Bearer none".to_owned()),
    ];
    let headers = headers
        .map(|(name, value)| Ok((HeaderName::from_static(name), HeaderValue::try_from(value)?)));
    Ok(Start {
        headers: headers.into_iter().collect::<anyhow::Result<_>>()?,
        ..Start::plain("portkey", command, port)
    })
}
