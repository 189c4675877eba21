//! A good version of the router takes over step by step, also when the leader is killed in the middle; people may hold, promote
//! and abort; and a version whose answers are late and one whose answers are errors are taken out. All of it under load.
//!
//! The artifacts are made here: each always prefers the models of one rank. The late one prefers a server outside that takes its
//! time. The bad one prefers a pool at the API server's TLS port, which answers every plain request with 400; that is the client's
//! fault, so no other pool is asked instead.

use super::steering;
use crate::ask::Gateway;
use crate::extent::Extent;
use crate::load::Load;
use crate::operators;
use crate::told::say;
use crate::world::{Namespace, World, condition};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::time::Duration;
use weir_e2e::outside::Manner;
use weir_router::{Arm, ArmTable, Artifact};

/// How many times as slow a version may be when its latency is not the question.
const LATENCY_RATIO: f64 = 20.0;
/// What every answer of the late pool takes; one of the others takes hundredths of it, on a busy machine tenths.
const LATE: Duration = Duration::from_secs(4);

pub(crate) async fn run(world: &World) -> Result<()> {
    let namespace = world.namespace("e2e-rollouts").await?;
    let result = steps(&namespace).await;
    namespace.finish(result).await
}

async fn steps(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(super::LOAD).await?;
    let policy = json!({
        "shadow": {"requests": 20},
        "canary": {"steps": [25, 50], "requestsPerStep": 40},
        "gate": {"confidence": 0.8, "p99LatencyRatioMax": LATENCY_RATIO, "errorRateMax": 0.05},
    });
    let exploration = json!({"floor": 0.0, "nearTieMargin": 0.0});
    let patch = json!({"spec": {"router": {"rollout": policy, "exploration": exploration}}});
    namespace.patch("InferenceGateway", "load", patch).await?;
    version(namespace, "good", (0, 5.0)).await?;
    version(namespace, "other", (1, 5.0)).await?;
    version(namespace, "late", (2, 4.9)).await?;
    version(namespace, "bad", (2, 5.0)).await?;
    super::serves(namespace, &["steady", "moving"]).await?;
    let gateway = namespace.gateway("load", None).await?;
    a_good_version_takes_over(namespace, &gateway)
        .await
        .context("a good version")?;
    people_decide(namespace, &gateway)
        .await
        .context("people decide")?;
    a_late_version_is_taken_out(namespace, &gateway)
        .await
        .context("a late version")?;
    a_bad_version_is_taken_out(namespace, &gateway)
        .await
        .context("a bad version")
}

/// The leader is killed in the middle: the next one goes on with what was counted so far.
async fn a_good_version_takes_over(namespace: &Namespace<'_>, gateway: &Gateway) -> Result<()> {
    let world = namespace.world;
    let load = Load::start(gateway, "auto", world.extent.gap());
    name(namespace, "good").await?;
    let rollout = "load-good-1";
    let mut counted = 0;
    let canary = world.until(Duration::from_secs(120), async || {
        let status = status(namespace, rollout).await?;
        counted = candidates(&status);
        Ok((status["phase"] == "Canary" && counted > 0).then_some(()))
    });
    canary.await.context("no answer of the canary is counted")?;
    let killed = operators::kill_leader(world).await?;
    say!(
        "{:.1} s: {killed} was killed after {counted} answers of the canary",
        load.at()
    );
    let mut fewer = None;
    let ended = world.until(Duration::from_secs(300), async || {
        let status = status(namespace, rollout).await?;
        let now = candidates(&status);
        fewer = fewer.or((now < counted).then_some(now));
        counted = counted.max(now);
        Ok(status["endedAt"].is_string().then_some(status))
    });
    let ended = ended.await;
    say!("{:.1} s into the load:", load.at());
    print(namespace).await?;
    let ended = ended.with_context(|| format!("{rollout} does not end"))?;
    ensure!(
        fewer.is_none(),
        "the next leader counted {fewer:?} answers of the canary anew"
    );
    ensure!(ended["phase"] == "Active", "{rollout} ended as {ended}");
    let is_active = [
        "routerrollout.weir.dev/load-good-1",
        "builtin",
        "good",
        "Active",
        "100",
        "Passed",
    ];
    tells(
        namespace,
        [
            &["inferencegateway.weir.dev/load", "good", "True"],
            &is_active,
        ],
    )
    .await?;
    // More of the same, until there were requests enough; the last one is this version again.
    for version in ["other", "good"].into_iter().cycle() {
        if version == "other" && load.sent() >= world.extent.share() {
            break;
        }
        name(namespace, version).await?;
        ends(namespace, &begun(namespace, version).await?, "Active", 300).await?;
    }
    world.count("rollouts", load.end().await?);
    let answer = gateway.chat("auto", "Who decides?", 4).await?;
    // Of models of one size the first by name has the lowest rank, which is what this version prefers.
    ensure!(answer["model"] == "moving", "good prefers moving: {answer}");
    says(namespace, "good", |router| router["candidate"].is_null()).await
}

/// A person promotes an attempt, holds the next one, lets it go on and takes it out, with `weir rollout`; nobody waits for
/// evidence. While it is held, a restore loses what the operator wrote.
async fn people_decide(namespace: &Namespace<'_>, gateway: &Gateway) -> Result<()> {
    let world = namespace.world;
    let load = Load::start(gateway, "auto", world.extent.gap());
    let promoted = promote(namespace, "other").await?;
    steering::shows_what_was(namespace, "other", (&promoted, "Active")).await?;
    steering::refuses(namespace).await?;
    name(namespace, "good").await?;
    let rollout = begun(namespace, "good").await?;
    steering::act(namespace, "pause", (&rollout, "holds its weight")).await?;
    held(namespace, &rollout, true).await?;
    steering::shows_what_is_held(namespace, &rollout, ("other", "good")).await?;
    lost_statuses(namespace, &rollout)
        .await
        .context("statuses that were lost")?;
    let promise = "goes on by the evidence";
    steering::act(namespace, "continue", (&rollout, promise)).await?;
    held(namespace, &rollout, false).await?;
    steering::act(namespace, "abort", (&rollout, "is taken out")).await?;
    ends(namespace, &rollout, "Aborted", 60).await?;
    // What was taken out is tried again when the spec has named another version meanwhile.
    name(namespace, "other").await?;
    says(namespace, "other", |router| router["candidate"].is_null()).await?;
    promote(namespace, "good").await?;
    world.count("rollouts", load.end().await?);
    Ok(())
}

/// Names a version and promotes the attempt at it; its name.
pub(super) async fn promote(namespace: &Namespace<'_>, version: &str) -> Result<String> {
    name(namespace, version).await?;
    let rollout = begun(namespace, version).await?;
    let promise = "becomes active unless the evidence has decided against it";
    steering::act(namespace, "promote", (&rollout, promise)).await?;
    ends(namespace, &rollout, "Active", 60).await?;
    says(namespace, version, |router| router["candidate"].is_null()).await?;
    Ok(rollout)
}

/// Waits until an attempt is held, or is held no more.
async fn held(namespace: &Namespace<'_>, rollout: &str, is_held: bool) -> Result<()> {
    let seen = namespace.world.until(Duration::from_secs(60), async || {
        let status = status(namespace, rollout).await?;
        let runs = status["phase"].is_string();
        Ok((runs && (status["reason"] == "Paused") == is_held).then_some(()))
    });
    seen.await
        .with_context(|| format!("that {rollout} is held does not become {is_held}"))
}

/// Each status comes back as it was while the attempt is held, with what was counted.
async fn lost_statuses(namespace: &Namespace<'_>, rollout: &str) -> Result<()> {
    let before = status(namespace, rollout).await?["evidence"]["shadowed"].as_u64();
    let attempt = ("RouterRollout", rollout);
    super::restored(namespace, attempt, &["phase", "reason", "startedAt"]).await?;
    let after = status(namespace, rollout).await?["evidence"]["shadowed"].as_u64();
    ensure!(
        before.is_some() && after >= before,
        "{before:?} requests were decided by both, now {after:?}"
    );
    super::lose_status(namespace, ("InferenceGateway", "load")).await?;
    let is_tried = |router: &Value| router["candidate"] == "good" && router["rollout"] == rollout;
    says(namespace, "other", is_tried).await?;
    let version = ("RouterVersion", "good");
    super::lose_status(namespace, version).await?;
    namespace.ready(version, ("True", ""), 60).await?;
    held(namespace, rollout, true).await
}

/// Nothing that it answers is wrong, and no request fails: it is only slow.
async fn a_late_version_is_taken_out(namespace: &Namespace<'_>, gateway: &Gateway) -> Result<()> {
    let world = namespace.world;
    let server = world.outside(Manner::Slow(LATE)).await?;
    let pool = elsewhere("late", &server.url);
    namespace.apply_object(&pool).await?;
    namespace
        .ready(("ModelPool", "late"), ("True", ""), 60)
        .await?;
    allow(namespace, 1.5).await?;
    let load = Load::start(gateway, "auto", judged_gap());
    name(namespace, "late").await?;
    let rollout = begun(namespace, "late").await?;
    let ended = ends(namespace, &rollout, "RolledBack", 240).await;
    say!("{:.1} s into the load:", load.at());
    print(namespace).await?;
    let status = ended?;
    ensure!(status["reason"] == "Latency", "its status is {status}");
    world.count("rollouts", load.end().await?);
    ensure!(
        server.requests() > 0,
        "the late pool was asked nothing, and taken out: {status}"
    );
    says(namespace, "good", |router| router["phase"] == "RolledBack").await?;
    namespace.delete("ModelPool", "late").await?;
    allow(namespace, LATENCY_RATIO).await
}

/// Between two requests while a version is judged: no shorter in a full run, so that engines are not what is late.
fn judged_gap() -> Duration {
    Extent::Ordinary.gap()
}

/// Sets how many times as slow as the active version the next attempt may be.
async fn allow(namespace: &Namespace<'_>, ratio: f64) -> Result<()> {
    let gate = json!({"p99LatencyRatioMax": ratio});
    let patch = json!({"spec": {"router": {"rollout": {"gate": gate}}}});
    let patched = namespace.patch("InferenceGateway", "load", patch).await;
    patched.map(drop)
}

/// A pool of the biggest rank at a server that is there already.
fn elsewhere(name: &str, url: &str) -> Value {
    json!({
        "apiVersion": weir_crds::API_VERSION, "kind": "ModelPool",
        "metadata": {"name": name, "labels": {"weir.dev/stack": "load"}},
        "spec": {
            "model": {"name": name}, "tier": "server", "privacy": "local",
            "engine": {"external": {"url": url}},
        },
    })
}

async fn a_bad_version_is_taken_out(namespace: &Namespace<'_>, gateway: &Gateway) -> Result<()> {
    let broken = elsewhere("broken", "http://kubernetes.default.svc:443");
    namespace.apply_object(&broken).await?;
    let gap = judged_gap();
    let load = Load::start(gateway, "auto", gap);
    name(namespace, "bad").await?;
    let rollout = begun(namespace, "bad").await?;
    let ended = ends(namespace, &rollout, "RolledBack", 180).await;
    say!("{:.1} s into the load:", load.at());
    print(namespace).await?;
    let (total, failures) = load.outcome().await?;
    let status = ended?;
    ensure!(status["reason"] == "ErrorRate", "its status is {status}");
    let attempt = format!("routerrollout.weir.dev/{rollout}");
    let is_out = [&attempt, "good", "bad", "RolledBack", "0", "ErrorRate"];
    let serves = [
        "inferencegateway.weir.dev/load",
        "good",
        "bad",
        "RolledBack",
        "0",
        "True",
    ];
    tells(namespace, [&serves, &is_out]).await?;
    say!("{total} requests, {} failed", failures.len());
    let share = failures.len() * 4;
    ensure!(
        (1..total).contains(&share),
        "{} of {total} requests failed",
        failures.len()
    );
    says(namespace, "good", |router| router["phase"] == "RolledBack").await?;
    let after = Load::start(gateway, "auto", gap);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let total = after.end().await.context("after the bad version")?;
    say!("{total} requests after it, none failed");
    Ok(())
}

/// A version that expects this quality of the models of one rank of three, and little of all others.
async fn version(
    namespace: &Namespace<'_>,
    version: &str,
    (rank, best): (usize, f32),
) -> Result<()> {
    let table = ArmTable::standard(3);
    let quality = |arm: &Arm| if arm.rank == rank { best } else { 1.0 };
    let qualities: Vec<f32> = table.arms.iter().map(quality).collect();
    super::router_version(namespace, version, &Artifact::constant(&table, &qualities)).await
}

/// The gateway names another version.
pub(super) async fn name(namespace: &Namespace<'_>, version: &str) -> Result<()> {
    let patch = json!({"spec": {"router": {"version": version}}});
    let patched = namespace.patch("InferenceGateway", "load", patch).await;
    patched.map(drop)
}

/// The attempt at a version that the gateway names, once it has begun.
pub(super) async fn begun(namespace: &Namespace<'_>, version: &str) -> Result<String> {
    let api = namespace.weir("InferenceGateway").await?;
    let begun = namespace.world.until(Duration::from_secs(60), async || {
        let gateway = api.get("load").await?;
        let router = &gateway.data["status"]["router"];
        let Some(rollout) = router["rollout"]
            .as_str()
            .filter(|_| router["candidate"] == version)
        else {
            return Ok(None);
        };
        let status = status(namespace, rollout).await?;
        let runs = status["phase"].is_string() && !status["endedAt"].is_string();
        Ok(runs.then(|| rollout.to_owned()))
    });
    begun
        .await
        .with_context(|| format!("no attempt at {version} begins"))
}

pub(super) async fn status(namespace: &Namespace<'_>, rollout: &str) -> Result<Value> {
    let api = namespace.weir("RouterRollout").await?;
    Ok(api.get(rollout).await?.data["status"].clone())
}

/// Requests that the candidate has answered, as counted in a rollout's status.
fn candidates(status: &Value) -> u64 {
    let requests = &status["evidence"]["candidate"]["requests"];
    requests.as_u64().unwrap_or_default()
}

/// Waits until a rollout has ended in this phase; its status.
pub(super) async fn ends(
    namespace: &Namespace<'_>,
    rollout: &str,
    phase: &str,
    within: u64,
) -> Result<Value> {
    let seen = namespace
        .world
        .until(Duration::from_secs(within), async || {
            let status = status(namespace, rollout).await?;
            Ok(status["endedAt"].is_string().then_some(status))
        });
    let Ok(ended) = seen.await else {
        let last = status(namespace, rollout).await?;
        bail!("RouterRollout {rollout} does not end within {within} s: {last}");
    };
    ensure!(ended["phase"] == phase, "{rollout} ended as {ended}");
    Ok(ended)
}

/// Waits until the gateway's status says which version decides.
pub(super) async fn says(
    namespace: &Namespace<'_>,
    active: &str,
    fits: impl Fn(&Value) -> bool,
) -> Result<()> {
    let api = namespace.weir("InferenceGateway").await?;
    let seen = namespace.world.until(Duration::from_secs(60), async || {
        let gateway = api.get("load").await?;
        let router = &gateway.data["status"]["router"];
        let is_so = router["active"] == active && fits(router);
        Ok(is_so.then_some(gateway))
    });
    let gateway = seen
        .await
        .with_context(|| format!("status.router does not say that {active} decides"))?;
    if let Some(healthy) = condition(&gateway, "RolloutHealthy") {
        say!(
            "RolloutHealthy {}: {}",
            healthy["status"],
            healthy["message"]
        );
    }
    Ok(())
}

/// Waits until `kubectl get ig,rr` prints a row of a gateway and one of an attempt with these words, in this order.
async fn tells(namespace: &Namespace<'_>, rows: [&[&str]; 2]) -> Result<()> {
    let arguments = ["-n", &namespace.name, "get", "ig,rr"];
    let mut printed = String::new();
    let told = namespace.world.until(Duration::from_secs(30), async || {
        printed = namespace.world.tool("kubectl", &arguments).await?;
        let has = |row: &[&str], line: &str| {
            let mut words = line.split_whitespace();
            row.iter().all(|wanted| words.any(|word| word == *wanted))
        };
        let all = rows
            .iter()
            .all(|row| printed.lines().any(|line| has(row, line)));
        Ok(all.then_some(()))
    });
    let told = told.await;
    told.with_context(|| format!("`kubectl get ig,rr` has no rows with {rows:?}: {printed}"))
}

pub(super) async fn print(namespace: &Namespace<'_>) -> Result<()> {
    let arguments = ["-n", &namespace.name, "get", "ig,rr"];
    let printed = namespace.world.tool("kubectl", &arguments).await?;
    say!("{printed}");
    Ok(())
}
