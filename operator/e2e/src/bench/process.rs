//! The operator and the gateways as processes: how they are started, what their logs say, what the kernel says of them.

use crate::cluster::{SYSTEM, Stack};
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use serde_json::Value;
use std::fs::{File, create_dir, read_to_string, write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use weir_lab::process::{free_port, resident};

/// A change that did not arrive by then counts as never.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the plan on the disk is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Longest wait for something to be there for the first time.
const START: Duration = Duration::from_secs(120);
/// How charts/weir tells the operator's allocator to behave.
const MALLOC_CONF: (&str, &str) = ("_RJEM_MALLOC_CONF", "narenas:1,dirty_decay_ms:0");
/// Unit of times in /proc.
const TICKS_PER_SECOND: f64 = 100.0;

/// `weir operator`, as one runs it outside of a cluster.
pub(crate) struct Operator {
    child: Child,
    weir: PathBuf,
    folder: PathBuf,
    control: u16,
}

/// `weir gateway` with the certificate that the operator made for it.
pub(crate) struct Gateway {
    _child: Child,
    state: PathBuf,
    /// Base address, once it has begun.
    url: String,
    news: mpsc::UnboundedReceiver<News>,
}

/// What a gateway's log says that it serves from now on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct News {
    pub(crate) at: Timestamp,
    pub(crate) what: What,
}

/// What changed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    /// A plan, by epoch and counter, with so many pools.
    Plan((u64, u64), usize),
    /// The endpoints of a pool, so many now.
    Endpoints(String, usize),
}

impl Operator {
    pub(crate) async fn start(weir: &Path, kubeconfig: &Path, folder: &Path) -> Result<Self> {
        let weir = weir
            .canonicalize()
            .with_context(|| format!("find {}", weir.display()))?;
        let (control, metrics) = (free_port()?, free_port()?);
        let log = File::create(folder.join("operator.log"))?;
        let child = Command::new(&weir)
            .args([
                "operator",
                "--image",
                "weir.local/weir:dev",
                "--log",
                "json",
            ])
            .args(["--listen-control", &format!("127.0.0.1:{control}")])
            .args(["--listen-metrics", &format!("127.0.0.1:{metrics}")])
            .env("KUBECONFIG", kubeconfig)
            .env("POD_NAMESPACE", SYSTEM)
            .env("POD_NAME", "bench")
            .env("POD_IP", "127.0.0.1")
            .env(MALLOC_CONF.0, MALLOC_CONF.1)
            .stdin(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let operator = Self {
            child,
            weir,
            folder: folder.to_owned(),
            control,
        };
        let ready = format!("http://127.0.0.1:{metrics}/readyz");
        let started = Instant::now();
        while !reqwest::get(&ready)
            .await
            .is_ok_and(|answer| answer.status().is_success())
        {
            let log = || operator.log_end();
            ensure!(started.elapsed() < START, "no operator: {}", log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(operator)
    }

    /// Resident memory now and at most, in MiB.
    pub(crate) fn resident_mib(&self) -> Result<(f64, f64)> {
        let memory = resident(&self.folder_in_proc()?)?;
        let mib = |kib: u64| kib as f64 / 1024.0;
        Ok((mib(memory.now_kib), mib(memory.peak_kib)))
    }

    /// Seconds of a processor that it used so far.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let stat = self.proc("stat")?;
        let (_, rest) = stat.rsplit_once(')').context("/proc/pid/stat")?;
        let ticks = rest.split_whitespace().skip(11).take(2);
        let ticks: Vec<f64> = ticks.map(str::parse).collect::<Result<_, _>>()?;
        Ok(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
    }

    fn proc(&self, file: &str) -> Result<String> {
        Ok(read_to_string(self.folder_in_proc()?.join(file))?)
    }

    fn folder_in_proc(&self) -> Result<PathBuf> {
        let id = self.child.id().context("the operator has ended")?;
        Ok(PathBuf::from(format!("/proc/{id}")))
    }

    pub(crate) fn log_end(&self) -> String {
        let log = read_to_string(self.folder.join("operator.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }
}

impl Gateway {
    pub(crate) async fn start(operator: &Operator, stack: &Stack) -> Result<Self> {
        let folder = operator.folder.join(&stack.namespace);
        let (tls, state) = (folder.join("tls"), folder.join("state"));
        create_dir(&folder)?;
        create_dir(&tls)?;
        certificate(stack, &tls).await?;
        let mut child = Command::new(&operator.weir)
            .args(["gateway", "--listen", "127.0.0.1:0", "--pod", "bench"])
            .args([
                "--operator",
                &format!("https://localhost:{}", operator.control),
            ])
            .arg("--tls")
            .arg(&tls)
            .arg("--state")
            .arg(&state)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("a pipe")?).lines();
        let url = loop {
            let line = lines.next_line().await?.context("the gateway has ended")?;
            if let Some(url) = address(&line) {
                break url;
            }
        };
        let (sender, news) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(news) = read(&line)
                    && sender.send(news).is_err()
                {
                    return;
                }
            }
        });
        Ok(Self {
            _child: child,
            state,
            url,
            news,
        })
    }

    /// Waits until it serves so many pools.
    pub(crate) async fn serves(&mut self, pools: usize) -> Result<()> {
        let mut last = 0;
        let wait = async {
            while let Some(news) = self.news.recv().await {
                if let What::Plan(_, served) = news.what {
                    last = served;
                }
                if last == pools {
                    return true;
                }
            }
            false
        };
        let there = tokio::time::timeout(START, wait).await;
        ensure!(there == Ok(true), "it serves {last} of {pools} pools");
        Ok(())
    }

    /// The next news that fits; `None` when there is none in time.
    pub(crate) async fn next(&mut self, fits: impl Fn(&What) -> bool) -> Option<News> {
        let wait = async {
            loop {
                let news = self.news.recv().await?;
                if fits(&news.what) {
                    return Some(news);
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.ok().flatten()
    }

    /// Forgets what was said until now.
    pub(crate) fn forget(&mut self) {
        while self.news.try_recv().is_ok() {}
    }

    /// Where it is asked, without a slash at the end.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// When the first plan that fits was served; `None` when there is none in time.
    pub(crate) async fn next_plan(&mut self, fits: impl Fn(&Value) -> bool) -> Option<Timestamp> {
        loop {
            let news = self.next(|what| matches!(what, What::Plan(..))).await?;
            let What::Plan(told, _) = news.what else {
                continue;
            };
            // It is written after it is served.
            let (kept, plan) = loop {
                match self.plan() {
                    Ok((kept, plan)) if kept >= told => break (kept, plan),
                    _ => tokio::time::sleep(LOOK_EVERY).await,
                }
            };
            // A later plan is on the disk already: its own line comes next, so the change is rather dated late than early.
            if kept == told && fits(&plan) {
                return Some(news.at);
            }
        }
    }

    /// The plan that it serves with its revision, as it keeps it for its next start.
    fn plan(&self) -> Result<((u64, u64), Value)> {
        let kept = read_to_string(self.state.join("plan.json"))?;
        let mut kept: Value = serde_json::from_str(&kept)?;
        let plan = kept["plan"].take();
        let number = |field: &str| plan["revision"][field].as_u64().context("a revision");
        Ok(((number("epoch")?, number("counter")?), plan))
    }
}

async fn certificate(stack: &Stack, folder: &Path) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(stack.client.clone(), &stack.namespace);
    let started = Instant::now();
    loop {
        if let Some(secret) = secrets.get_opt("bench-gateway-tls").await? {
            for (name, bytes) in secret.data.unwrap_or_default() {
                write(folder.join(name), bytes.0)?;
            }
            return Ok(());
        }
        ensure!(started.elapsed() < START, "no certificate for the gateway");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Base address that a line of a gateway's log tells.
fn address(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    let begins = line["message"] == "a gateway begins";
    let address = line["address"].as_str().filter(|_| begins)?;
    Some(format!("http://{address}"))
}

/// A line of a gateway's log, when it tells of a change.
fn read(line: &str) -> Option<News> {
    let line: Value = serde_json::from_str(line).ok()?;
    let count = |field: &str| usize::try_from(line[field].as_u64()?).ok();
    let what = match line["message"].as_str()? {
        "a plan is served" => {
            let revision = (line["epoch"].as_u64()?, line["counter"].as_u64()?);
            What::Plan(revision, count("pools")?)
        }
        "the endpoints of a pool changed" => {
            What::Endpoints(line["pool"].as_str()?.to_owned(), count("replicas")?)
        }
        _ => return None,
    };
    let at = line["timestamp"].as_str()?.parse().ok()?;
    Some(News { at, what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateways_log_tells_when_plans_and_endpoints_changed_and_nothing_else() {
        let plan = r#"{"timestamp":"2026-11-26T03:00:00.000250Z","level":"INFO","message":"a plan is served","epoch":7,"counter":2,"pools":11}"#;
        let news = read(plan).unwrap();
        assert_eq!(news.what, What::Plan((7, 2), 11));
        assert_eq!(news.at.subsec_microsecond(), 250);
        let pods = r#"{"timestamp":"2026-11-26T03:00:00Z","message":"the endpoints of a pool changed","pool":"pods","replicas":0}"#;
        assert_eq!(read(pods).unwrap().what, What::Endpoints("pods".into(), 0));
        let begins = r#"{"timestamp":"2026-11-26T03:00:00Z","message":"a gateway begins","address":"127.0.0.1:81"}"#;
        assert_eq!(read(begins), None);
        assert_eq!(address(begins).as_deref(), Some("http://127.0.0.1:81"));
        assert_eq!(address(plan), None);
        assert_eq!(read("no JSON"), None);
    }
}
