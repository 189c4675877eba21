//! The operator's numbers: from a change in the API server to the gateway that serves it, its memory, what it writes.
//!
//! It needs a control plane and no node (`testenv/cluster/cluster.sh up --no-node`): the operator and the gateways run as
//! processes of this machine, connected as in a cluster, and this program stands in for the kubelet. Times are taken from
//! the gateway's own log, whose clock is this machine's. Nothing of a scenario is doubled here: what must hold is in
//! `../scenarios/`. Reading on: `changes.rs` and `rollback.rs` (what is timed), `process.rs`, `node.rs`, `idle.rs`, `again.rs`.

mod again;
mod changes;
mod cluster;
mod idle;
mod node;
mod process;
mod rollback;

use anyhow::{Context, Result};
use clap::Parser;
use cluster::Cluster;
use node::Node;
use process::{Gateway, Operator};
use rollback::Rollback;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use weir_lab::results::{Goal, Results, Row};
use weir_lab::stats::quantile;

/// A change reaches a gateway within this many milliseconds.
const CHANGE_MAX: f64 = 250.0;
/// The same with thousands of pools.
const CHANGE_OF_MANY_MAX: f64 = 1000.0;
/// A candidate is taken out within this many milliseconds of the evidence that decides against it.
const ROLLBACK_MAX: f64 = 1000.0;
/// Memory of the operator with thousands of pools, in MiB.
const RESIDENT_MAX: f64 = 100.0;
/// External pools beside the one with pods.
const FEW: usize = 10;

/// Measures Weir's operator on a control plane without a node.
#[derive(Debug, Parser)]
#[command(
    after_help = "Example, as root:\n  cargo build --profile bench --workspace --bins --features weir/cluster\n  \
    testenv/cluster/cluster.sh up --no-node\n  \
    weir-operator-bench --kubeconfig ~/.cache/weir/cluster/run/kubeconfig --weir target/release/weir\n\n\
    It leaves objects behind: take the cluster down afterwards."
)]
struct Args {
    /// The cluster, fresh
    #[arg(long, value_name = "FILE")]
    kubeconfig: PathBuf,
    /// The weir program, built with the feature `cluster`
    #[arg(long, value_name = "FILE")]
    weir: PathBuf,
    /// Commit that it was built from, with + when that had changes [default: the one checked out here]
    #[arg(long, value_name = "COMMIT")]
    built_from: Option<String>,
    /// The cluster's audit log [default: log/audit.log beside the kubeconfig]
    #[arg(long, value_name = "FILE")]
    audit_log: Option<PathBuf>,
    /// Where operator.json and operator.md are written
    #[arg(long, value_name = "FOLDER", default_value = "benches/results")]
    results: PathBuf,
    /// External pools of one gateway
    #[arg(long, value_name = "COUNT", default_value_t = 2000)]
    pools: usize,
    /// Times that a pod becomes ready or unready
    #[arg(long, value_name = "COUNT", default_value_t = 300)]
    flips: usize,
    /// Changes of a pool's price, with few pools and again with many
    #[arg(long, value_name = "COUNT", default_value_t = 200)]
    changes: usize,
    /// Versions that fail and are taken out
    #[arg(long, value_name = "COUNT", default_value_t = 40)]
    rollbacks: usize,
    /// Seconds without a change
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    idle: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("operator-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<()> {
    let cluster = Cluster::open(&args.kubeconfig).await?;
    let folder = tempfile::tempdir()?;
    cluster.install().await?;
    let node = Node::register(&cluster).await?;
    let operator = Operator::start(&args.weir, &args.kubeconfig, folder.path()).await?;
    let mut results = Results::new("operator", &command());
    if let Some(commit) = &args.built_from {
        results.commit.clone_from(commit);
    }
    results.notes = notes(args);
    let measured = async {
        few(args, (&cluster, &node, &operator), &mut results).await?;
        rollbacks(args, (&cluster, &operator), &mut results).await?;
        again::measure(&cluster, &mut results).await?;
        many(args, (&cluster, &operator), &mut results).await
    };
    measured
        .await
        .with_context(|| format!("the operator's log ends with: {}", operator.log_end()))?;
    if let Ok(load) = std::fs::read_to_string("/proc/loadavg") {
        let load = load.split(' ').take(3).collect::<Vec<_>>().join(", ");
        let told = format!("load of the machine at the end, over 1, 5 and 15 minutes: {load}");
        results.notes.push(told);
    }
    results.write(&args.results)?;
    print!("{}", results.markdown());
    Ok(())
}

/// A stack of everyday size: changes of a pod and of a price.
async fn few(
    args: &Args,
    (cluster, node, operator): (&Cluster, &Node, &Operator),
    results: &mut Results,
) -> Result<()> {
    let stack = cluster.stack("bench-few", FEW).await?;
    let pods = stack.pool_of_pods().await?;
    let mut gateway = Gateway::start(operator, &stack).await?;
    gateway
        .serves(FEW + 1)
        .await
        .context("the gateway of few pools")?;
    let flips = changes::flips((&stack, node, &pods), &mut gateway, args.flips).await?;
    let slices = quantile(&flips.slices, 0.99);
    push(results, "pod_change", &flips.sent, CHANGE_MAX);
    if let Some(p99) = results
        .rows
        .iter_mut()
        .find(|row| row.metric == "pod_change.p99")
    {
        *p99 = p99
            .clone()
            .against("EndpointSlice of the controller manager, p99", slices);
    }
    let row = |part: &str, times: &[f64], share| {
        Row::new(format!("pod_change.{part}"), "ms", quantile(times, share))
    };
    results.rows.extend([
        row("after_answer.p99", &flips.answered, 0.99),
        row("endpoint_slice.p50", &flips.slices, 0.5),
        row("endpoint_slice.p99", &flips.slices, 0.99),
    ]);
    let prices = changes::prices((&stack, FEW), &mut gateway, args.changes).await?;
    push(results, "spec_change", &prices.sent, CHANGE_MAX);
    Ok(())
}

/// A version that fails, again and again.
async fn rollbacks(
    args: &Args,
    (cluster, operator): (&Cluster, &Operator),
    results: &mut Results,
) -> Result<()> {
    let rollback = Rollback::prepare(cluster, "bench-rollback").await?;
    let mut gateway = Gateway::start(operator, &rollback.stack).await?;
    gateway
        .serves(2)
        .await
        .context("the gateway of rollbacks")?;
    let times = rollback.measure(&mut gateway, args.rollbacks).await?;
    push_share(results, ("rollback", 1.0), &times, ROLLBACK_MAX);
    Ok(())
}

/// Thousands of pools of one gateway: how soon they are there, changes, memory, and silence.
async fn many(
    args: &Args,
    (cluster, operator): (&Cluster, &Operator),
    results: &mut Results,
) -> Result<()> {
    let started = Instant::now();
    let stack = cluster.stack("bench-many", args.pools).await?;
    let created = started.elapsed();
    let mut gateway = Gateway::start(operator, &stack).await?;
    gateway
        .serves(args.pools)
        .await
        .context("the gateway of many pools")?;
    let served = started.elapsed();
    let seconds = |metric: &str, time: Duration| Row::new(metric, "s", time.as_secs_f64());
    results.rows.extend([
        seconds("many.created", created),
        seconds("many.served", served),
    ]);
    // The conditions of all these pools are written meanwhile, which is not what is timed.
    idle::settled(&audit_log(args)).await?;
    let prices = changes::prices((&stack, args.pools), &mut gateway, args.changes).await?;
    push_share(
        results,
        ("many.spec_change", 0.95),
        &prices.sent,
        CHANGE_OF_MANY_MAX,
    );
    let quiet = idle::measure((operator, &audit_log(args)), Duration::from_secs(args.idle)).await?;
    let most = quiet.resident_peak_mib;
    results.rows.extend([
        Row::new("many.resident", "MiB", quiet.resident_mib).goal(Goal::AtMost(RESIDENT_MAX)),
        Row::new("many.resident_peak", "MiB", most),
        Row::new("idle.cpu", "s", quiet.cpu_seconds),
        Row::new("idle.writes_but_leases", "writes", quiet.writes()).goal(Goal::AtMost(0.0)),
    ]);
    let told = quiet.told();
    results
        .notes
        .push(format!("idle for {} s, writes by kind: {told}", args.idle));
    Ok(())
}

fn push(results: &mut Results, metric: &str, times: &[f64], most: f64) {
    push_share(results, (metric, 0.99), times, most);
}

/// Three quantiles and the maximum; the goal is set for one of them.
fn push_share(results: &mut Results, (metric, judged): (&str, f64), times: &[f64], most: f64) {
    for (name, share) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)] {
        let row = Row::new(format!("{metric}.{name}"), "ms", quantile(times, share));
        let is_judged = (share - judged).abs() < f64::EPSILON;
        results.rows.push(match is_judged {
            true => row.goal(Goal::AtMost(most)),
            false => row,
        });
    }
}

fn audit_log(args: &Args) -> PathBuf {
    let beside = || args.kubeconfig.with_file_name("log").join("audit.log");
    args.audit_log.clone().unwrap_or_else(beside)
}

/// What anybody types to run this again; where the files lie on this machine is of no interest.
fn command() -> String {
    let words = std::env::args_os().skip(1);
    let words = words.map(|word| {
        let path = PathBuf::from(&word);
        let name = path.file_name().filter(|_| path.is_absolute());
        name.map_or(word.clone(), ToOwned::to_owned)
            .to_string_lossy()
            .into_owned()
    });
    std::iter::once("weir-operator-bench".to_owned())
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}

fn notes(args: &Args) -> Vec<String> {
    let folder = args.weir.parent().and_then(|folder| folder.file_name());
    let profile = match folder.and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => "unknown",
    };
    vec![
        format!("profile of the weir program: {profile}"),
        "API server, etcd, controller manager and scheduler run on the same machine; so do the operator and the gateways, as processes".into(),
        "times are from before a PATCH is sent to the gateway's log line about it (microseconds); `after_answer` is from the PATCH's answer".into(),
        format!("pod_change: {} times one of two pods becomes unready or ready; the peer is seen by a watch", args.flips),
        format!("spec_change: {} prices, each of the next pool, with {FEW} external pools and a pool of pods in the namespace", args.changes),
        format!("rollback: {} versions that fail for half of the users at 100 requests/s, from the answer with which the gate decides to the gateway's log line of the plan without the version", args.rollbacks),
        format!("many: {} external pools in one namespace, selected by one gateway", args.pools),
    ]
}
