//! A good version of the router takes over step by step, and one whose answers are errors is taken out, both under load.
//!
//! The artifacts are made here: each always prefers the models of one rank. The bad one prefers a pool at the API server's
//! TLS port, which answers every plain request with 400; that is the client's fault, so no other pool is asked instead.

use crate::ask::Gateway;
use crate::load::Load;
use crate::world::{Namespace, World, condition};
use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::ByteString;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use std::time::Duration;
use weir_router::{Arm, ArmTable, Artifact};

const STACK: &str = include_str!("../../stacks/load.yaml");
/// Between two questions: a step of the canary takes some hundred of them.
const GAP: Duration = Duration::from_millis(40);

pub(crate) async fn run(world: &World) -> Result<()> {
    let namespace = world.namespace("e2e-rollouts").await?;
    let result = steps(&namespace).await;
    namespace.finish(result).await
}

async fn steps(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(STACK).await?;
    let policy = json!({
        "shadow": {"requests": 20},
        "canary": {"steps": [25, 50], "requestsPerStep": 40},
        "gate": {"confidence": 0.8, "p99LatencyRatioMax": 20.0, "errorRateMax": 0.05},
    });
    let exploration = json!({"floor": 0.0, "nearTieMargin": 0.0});
    let patch = json!({"spec": {"router": {"rollout": policy, "exploration": exploration}}});
    namespace.patch("InferenceGateway", "load", patch).await?;
    version(namespace, "good", 0).await?;
    version(namespace, "bad", 2).await?;
    for pool in ["steady", "moving"] {
        namespace
            .ready(("ModelPool", pool), ("True", ""), 120)
            .await?;
    }
    namespace
        .ready(("InferenceGateway", "load"), ("True", ""), 120)
        .await?;
    let gateway = namespace.gateway("load", None).await?;
    a_good_version_takes_over(namespace, &gateway)
        .await
        .context("a good version")?;
    a_bad_version_is_taken_out(namespace, &gateway)
        .await
        .context("a bad version")
}

async fn a_good_version_takes_over(namespace: &Namespace<'_>, gateway: &Gateway) -> Result<()> {
    let load = Load::start(gateway, "auto", GAP);
    name(namespace, "good").await?;
    let ended = ends(namespace, "load-good-1", "Active", 180).await;
    print(namespace, &load).await?;
    let total = load.end().await?;
    ended?;
    println!("    {total} requests, none failed");
    let answer = gateway.chat("auto", "Who decides?", 4).await?;
    // Of models of one size the first by name has the lowest rank, which is what this version prefers.
    ensure!(answer["model"] == "moving", "good prefers moving: {answer}");
    says(namespace, "good", |router| router["candidate"].is_null()).await
}

async fn a_bad_version_is_taken_out(namespace: &Namespace<'_>, gateway: &Gateway) -> Result<()> {
    let broken = json!({
        "apiVersion": weir_crds::API_VERSION, "kind": "ModelPool",
        "metadata": {"name": "broken", "labels": {"weir.dev/stack": "load"}},
        "spec": {
            "model": {"name": "broken"}, "tier": "server", "privacy": "local",
            "engine": {"external": {"url": "http://kubernetes.default.svc:443"}},
        },
    });
    namespace.apply_object(&broken).await?;
    let load = Load::start(gateway, "auto", GAP);
    name(namespace, "bad").await?;
    let ended = ends(namespace, "load-bad-2", "RolledBack", 120).await;
    print(namespace, &load).await?;
    let (total, failures) = load.outcome().await?;
    let rollout = ended?;
    let status = &rollout.data["status"];
    ensure!(status["reason"] == "ErrorRate", "its status is {status}");
    println!("    {total} requests, {} failed", failures.len());
    let share = failures.len() * 4;
    ensure!(
        (1..total).contains(&share),
        "{} of {total} requests failed",
        failures.len()
    );
    says(namespace, "good", |router| router["phase"] == "RolledBack").await?;
    let after = Load::start(gateway, "auto", GAP);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let total = after.end().await.context("after the bad version")?;
    println!("    {total} requests after it, none failed");
    Ok(())
}

/// A RouterVersion that always prefers the models of this rank of three, with the ConfigMap of its artifact.
async fn version(namespace: &Namespace<'_>, version: &str, rank: usize) -> Result<()> {
    let table = ArmTable::standard(3);
    let quality = |arm: &Arm| if arm.rank == rank { 5.0 } else { 1.0 };
    let qualities: Vec<f32> = table.arms.iter().map(quality).collect();
    let artifact = Artifact::constant(&table, &qualities);
    let bytes = ByteString(artifact.to_bytes().to_vec());
    namespace
        .apply_object(&json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": version, "labels": {"weir.dev/watch": "true"}},
            "binaryData": {"router.onnx": bytes},
        }))
        .await?;
    namespace
        .apply_object(&json!({
            "apiVersion": weir_crds::API_VERSION, "kind": "RouterVersion",
            "metadata": {"name": version},
            "spec": {
                "artifact": {"configMap": {"name": version, "key": "router.onnx"}},
                "sha256": artifact.sha256(),
            },
        }))
        .await?;
    namespace
        .ready(("RouterVersion", version), ("True", ""), 30)
        .await
        .map(drop)
}

/// The gateway names another version.
async fn name(namespace: &Namespace<'_>, version: &str) -> Result<()> {
    let patch = json!({"spec": {"router": {"version": version}}});
    let patched = namespace.patch("InferenceGateway", "load", patch).await;
    patched.map(drop)
}

/// Waits until a rollout has ended in this phase.
async fn ends(
    namespace: &Namespace<'_>,
    rollout: &str,
    phase: &str,
    within: u64,
) -> Result<DynamicObject> {
    let api = namespace.weir("RouterRollout").await?;
    let ended = |object: &DynamicObject| object.data["status"]["endedAt"].is_string();
    let seen = namespace
        .world
        .until(Duration::from_secs(within), async || {
            Ok(api.get_opt(rollout).await?.filter(ended))
        });
    let Ok(object) = seen.await else {
        let last = api.get_opt(rollout).await?;
        let status = last.map(|object| object.data["status"]["message"].clone());
        bail!("RouterRollout {rollout} does not end within {within} s: {status:?}");
    };
    let status = &object.data["status"];
    ensure!(status["phase"] == phase, "{rollout} ended as {status}");
    Ok(object)
}

/// Waits until the gateway's status says which version decides.
async fn says(
    namespace: &Namespace<'_>,
    active: &str,
    fits: impl Fn(&Value) -> bool,
) -> Result<()> {
    let api = namespace.weir("InferenceGateway").await?;
    let seen = namespace.world.until(Duration::from_secs(10), async || {
        let gateway = api.get("load").await?;
        let router = &gateway.data["status"]["router"];
        let is_so = router["active"] == active && fits(router);
        Ok(is_so.then_some(gateway))
    });
    let gateway = seen
        .await
        .with_context(|| format!("status.router does not say that {active} decides"))?;
    if let Some(healthy) = condition(&gateway, "RolloutHealthy") {
        println!(
            "    RolloutHealthy {}: {}",
            healthy["status"], healthy["message"]
        );
    }
    Ok(())
}

async fn print(namespace: &Namespace<'_>, load: &Load) -> Result<()> {
    let arguments = ["-n", &namespace.name, "get", "ig,rr"];
    let printed = namespace.world.tool("kubectl", &arguments).await?;
    println!("    {:.1} s into the load:\n{printed}", load.at());
    Ok(())
}
