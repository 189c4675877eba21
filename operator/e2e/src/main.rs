//! Scenarios on a real cluster: API server, kubelet, containerd, pods that run our image and a real engine.
//!
//! `make e2e` builds the images, starts the cluster of testenv/cluster and runs this program. Each scenario installs what it
//! needs in a namespace of its own and removes it; the first installs the operator with Helm, the last but one removes it and looks
//! for what is left, and the last does what docs/operations.md says. They run in the order of [`SCENARIOS`], two at a time where neither touches
//! what the other does. Nothing of Weir is doubled here. Reading on: `scenarios/` (what is promised), `world.rs` (the cluster), `load.rs` (requests in the meantime),
//! `operators.rs` (what happens to the operator), `frozen.rs` (processes that hang), `outside.rs` (a server beyond the cluster).

mod ask;
mod extent;
mod frozen;
mod hub;
mod install;
mod load;
mod operators;
mod outcomes;
mod page;
mod scenarios;
mod told;
mod world;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use extent::{Extent, PLANNED};
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{self, StreamExt};
use outcomes::Outcomes;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use world::World;

/// Runs scenarios of Weir on a cluster.
#[derive(Debug, Parser)]
#[command(
    after_help = "Examples:\n  weir-e2e --kubeconfig ~/.cache/weir/cluster/run/admin.kubeconfig\n  \
    weir-e2e --kubeconfig ... install stack     # only these, in this program's order\n  weir-e2e --list"
)]
struct Args {
    /// Scenarios to run [default: all]
    scenarios: Vec<String>,
    /// The cluster
    #[arg(long, value_name = "FILE", required_unless_present = "list")]
    kubeconfig: Option<PathBuf>,
    /// Folder with kubectl and helm
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "~/.cache/weir/cluster/bin"
    )]
    tools: String,
    /// The program `weir`, which a person runs [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    weir: Option<PathBuf>,
    /// Tag of the images weir.local/weir and weir.local/llama-server
    #[arg(long, default_value = "dev")]
    tag: String,
    /// Checkout of the version that `upgrade` comes from, whose image is weir.local/weir:former [default: this version]
    #[arg(long, value_name = "FOLDER")]
    former: Option<PathBuf>,
    /// Print the scenarios and end
    #[arg(long)]
    list: bool,
    /// Go on until planned changes have seen 100,000 requests, not 5,000, and an idle stack ten minutes
    #[arg(long)]
    full: bool,
    /// Keep the namespaces of failed scenarios
    #[arg(long)]
    keep: bool,
}

/// Whether a scenario needs the cluster for itself: it takes away what others need, or looks at what all do.
#[derive(Clone, Copy, PartialEq)]
enum Beside {
    /// It begins when those before it have ended, and ends before those after it begin.
    None,
    /// It runs beside another of these that stands next to it.
    Another,
}

/// How many run at a time where they may.
const AT_A_TIME: usize = 2;

/// Name, promise, what it runs beside, steps.
type Scenario = (&'static str, &'static str, Beside, Steps);

type Steps = for<'a> fn(&'a World) -> LocalBoxFuture<'a, Result<()>>;

/// In the order in which they run: the first installs, the last but one uninstalls. Of those that run beside another the longest begin first.
const SCENARIOS: [Scenario; 22] = [
    (
        "install",
        "helm installs the operator, which becomes ready",
        Beside::None,
        |w| Box::pin(install::run(w)),
    ),
    (
        "image",
        "a process of the image looks up a name and verifies a certificate",
        Beside::None,
        |w| Box::pin(scenarios::image::run(w)),
    ),
    (
        "fields",
        "every field is changed while it serves, and has its effect",
        Beside::Another,
        |w| Box::pin(scenarios::fields::run(w)),
    ),
    (
        "scale",
        "a pool goes 1, 3, 0, 1 under load, and one that others scale too says so",
        Beside::Another,
        |w| Box::pin(scenarios::scale::run(w)),
    ),
    (
        "stack",
        "a stack becomes Ready and answers from its memory",
        Beside::Another,
        |w| Box::pin(scenarios::stack::run(w)),
    ),
    (
        "idle",
        "an idle stack sees no write but Leases, and a second apply changes nothing",
        Beside::Another,
        |w| Box::pin(scenarios::idle::run(w)),
    ),
    (
        "hang",
        "an engine that hangs is asked no more and begins anew, and who waits for it is told in time",
        Beside::Another,
        |w| Box::pin(scenarios::hang::run(w)),
    ),
    (
        "privacy",
        "a pool beyond the permitted privacy is never asked",
        Beside::Another,
        |w| Box::pin(scenarios::privacy::run(w)),
    ),
    (
        "keys",
        "keys come and go by weir keys, and a tenant's budget holds at all processes together",
        Beside::Another,
        |w| Box::pin(scenarios::keys::run(w)),
    ),
    (
        "policies",
        "engines, memories and the operator let in whom their policies name, and nobody else",
        Beside::None,
        |w| Box::pin(scenarios::policies::run(w)),
    ),
    (
        "faults",
        "pods, the leader and the API server are killed under load",
        Beside::None,
        |w| Box::pin(scenarios::faults::run(w)),
    ),
    (
        "watches",
        "what is deleted while nobody watches is noticed, and of two leaders one writes",
        Beside::None,
        |w| Box::pin(scenarios::watches::run(w)),
    ),
    (
        "rollouts",
        "a good router version takes over under load, a late and a bad one are taken out",
        Beside::None,
        |w| Box::pin(scenarios::rollouts::run(w)),
    ),
    (
        "dependencies",
        "what a gateway depends on goes and comes under load",
        Beside::Another,
        |w| Box::pin(scenarios::dependencies::run(w)),
    ),
    (
        "mistakes",
        "every kind of mistake is told by a condition and mended without a restart",
        Beside::Another,
        |w| Box::pin(scenarios::mistakes::run(w)),
    ),
    (
        "regret",
        "of versions as fast as each other judges' labels decide",
        Beside::Another,
        |w| Box::pin(scenarios::regret::run(w)),
    ),
    (
        "caches",
        "downloads stay on claims and nodes, and a full disk is told",
        Beside::Another,
        |w| Box::pin(scenarios::caches::run(w)),
    ),
    (
        "damage",
        "what others break is repaired, or told where it cannot be",
        Beside::None,
        |w| Box::pin(scenarios::damage::run(w)),
    ),
    (
        "namespaced",
        "an operator of one namespace, installed by its admin, touches no other",
        Beside::None,
        |w| Box::pin(scenarios::namespaced::run(w)),
    ),
    (
        "upgrade",
        "an upgraded operator restarts no pool",
        Beside::None,
        |w| Box::pin(scenarios::upgrade::run(w)),
    ),
    (
        "uninstall",
        "nothing is left but the resource definitions",
        Beside::None,
        |w| Box::pin(scenarios::uninstall::run(w)),
    ),
    (
        "manual",
        "the shell lines of the documentation work word for word",
        Beside::None,
        |w| Box::pin(scenarios::manual::run(w)),
    ),
];

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("e2e: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every scenario passed.
async fn run(args: Args) -> Result<bool> {
    if args.list {
        for (name, promise, ..) in SCENARIOS {
            println!("{name:<12} {promise}");
        }
        return Ok(true);
    }
    for name in &args.scenarios {
        let known = SCENARIOS.iter().any(|(known, ..)| known == name);
        ensure!(known, "there is no scenario {name:?}: see --list");
    }
    let kubeconfig = args.kubeconfig.context("--kubeconfig is missing")?;
    let extent = if args.full {
        Extent::Full
    } else {
        Extent::Ordinary
    };
    let weir = match args.weir {
        Some(weir) => weir,
        None => std::env::current_exe()?.with_file_name("weir"),
    };
    let (programs, how) = ((&*args.tools, weir), (extent, args.keep));
    let versions = (args.tag, args.former);
    let world = World::open(&kubeconfig, programs, versions, how).await?;
    let chosen = |name: &str| args.scenarios.is_empty() || args.scenarios.iter().any(|s| s == name);
    let outcomes = run_each(&world, &chosen).await;
    let (requests, each) = world.counted();
    if requests > 0 {
        println!("planned changes: 0 of {requests} requests failed ({each})");
    }
    if !outcomes.are_good() {
        print!("{}", outcomes.list());
        return Ok(false);
    }
    let whole = PLANNED.into_iter().all(chosen);
    ensure!(
        !whole || requests >= extent.requests(),
        "planned changes have seen {requests} requests, {} are needed",
        extent.requests()
    );
    Ok(true)
}

/// Runs the chosen scenarios, for as long as there is a cluster with an operator.
async fn run_each(world: &World, chosen: &impl Fn(&str) -> bool) -> Outcomes {
    let mut outcomes = Outcomes::default();
    let scenarios: Vec<Scenario> = (SCENARIOS.into_iter())
        .filter(|(name, ..)| chosen(name))
        .collect();
    let beside =
        |one: &Scenario, next: &Scenario| one.2 == Beside::Another && next.2 == Beside::Another;
    let mut groups = scenarios.chunk_by(beside);
    for group in groups.by_ref() {
        let running = stream::iter(group).map(|scenario| run_one(world, scenario));
        let failed: Vec<_> = running
            .buffer_unordered(AT_A_TIME)
            .filter_map(|ended| async { ended.err() })
            .collect()
            .await;
        for (name, error) in &failed {
            outcomes.failed(name, error);
        }
        if failed.is_empty() {
            continue;
        }
        if let Err(silent) = world.answers().await {
            println!("--- {silent:#}");
            world.tell_cluster().await;
            break;
        }
        if failed.iter().any(|(name, _)| *name == "install") {
            break;
        }
    }
    for (name, ..) in groups.flatten() {
        outcomes.left_out(name);
    }
    outcomes
}

/// The steps of a scenario, in which no operator may end by itself: it recovers without a restart.
async fn steps_without_crash(world: &World, steps: Steps) -> Result<()> {
    let before = operators::restarts(world).await.unwrap_or_default();
    steps(world).await?;
    let after = operators::restarts(world).await?;
    for (pod, times) in after {
        let known = before.get(&pod).copied().unwrap_or_default();
        ensure!(
            times == known,
            "{pod} was started again {} times",
            times - known
        );
    }
    Ok(())
}

/// Runs one scenario and says what came of it.
async fn run_one(
    world: &World,
    &(name, promise, _, steps): &Scenario,
) -> Result<(), (&'static str, anyhow::Error)> {
    println!("--- {name}: {promise}");
    let started = Instant::now();
    let result = told::of(name, steps_without_crash(world, steps)).await;
    let took = started.elapsed().as_secs_f64();
    match result {
        Ok(()) => {
            println!("--- {name}: passed in {took:.1} s");
            Ok(())
        }
        Err(error) => {
            println!("--- {name}: FAILED after {took:.1} s: {error:#}");
            Err((name, error))
        }
    }
}
