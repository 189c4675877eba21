//! A pool goes 1, 3, 0, 1 under load, by hand and by itself, and no request is lost; at zero another one answers, where that is
//! wanted; when somebody else scales it too, that is told, with the command that takes it back; and an autoscaler of Kubernetes
//! may have it instead.

use super::rollouts::promote;
use crate::load::Load;
use crate::told::say;
use crate::world::{Namespace, World, condition};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::time::Duration;
use weir_router::{Arm, ArmTable, Artifact};

pub(crate) async fn run(world: &World) -> Result<()> {
    let namespace = world.namespace("e2e-scale").await?;
    let result = steps(&namespace).await;
    namespace.finish(result).await
}

async fn steps(namespace: &Namespace<'_>) -> Result<()> {
    super::serve_load(namespace).await?;
    let gateway = namespace.gateway("load", None).await?;
    by_hand(namespace, &gateway)
        .await
        .context("scaled by hand")?;
    by_itself(namespace, &gateway)
        .await
        .context("scaled by itself")?;
    spills(namespace, &gateway)
        .await
        .context("answered by another while it is at zero")?;
    by_two(namespace).await.context("scaled by two")?;
    by_kubernetes(namespace)
        .await
        .context("scaled by a HorizontalPodAutoscaler")
}

/// `auto` asks whoever is there: while one pool goes to zero the other answers.
async fn by_hand(namespace: &Namespace<'_>, gateway: &crate::ask::Gateway) -> Result<()> {
    let world = namespace.world;
    let load = Load::start(gateway, "auto", world.extent.gap());
    loop {
        for replicas in [3, 0, 1] {
            namespace.scale("ModelPool", "moving", replicas).await?;
            has_ready(namespace, replicas).await?;
            say!("{replicas} replicas {:.1} s into the load", load.at());
        }
        if load.sent() >= world.extent.share() {
            break;
        }
    }
    world.count("scale", load.end().await?);
    Ok(())
}

/// With an autoscaler an idle pool goes to zero, and the first request for it waits until it is back.
async fn by_itself(namespace: &Namespace<'_>, gateway: &crate::ask::Gateway) -> Result<()> {
    let autoscaling = json!({"min": 0, "max": 2, "scaleDownAfter": "5s", "whenCold": "hold"});
    let patch = json!({"spec": {"autoscaling": autoscaling}});
    namespace.patch("ModelPool", "moving", patch).await?;
    at_zero(namespace).await?;
    say!("idle, so at zero");
    let answer = gateway.chat("moving", "Are you there?", 4).await;
    answer.context("a request for a pool at zero")?;
    namespace
        .ready(("ModelPool", "moving"), ("True", ""), 90)
        .await?;
    say!("asked, so back at one");
    Ok(())
}

/// The router prefers the pool that is at zero: whoever asks is answered at once by the other one, and the pool comes up.
async fn spills(namespace: &Namespace<'_>, gateway: &crate::ask::Gateway) -> Result<()> {
    let table = ArmTable::standard(2);
    // Of models of one size the first by name has the lowest rank.
    // The other answers hardly worse: where much would be lost, requests wait.
    let quality = |arm: &Arm| if arm.rank == 0 { 5.0 } else { 4.5 };
    let qualities: Vec<f32> = table.arms.iter().map(quality).collect();
    let artifact = Artifact::constant(&table, &qualities);
    super::router_version(namespace, "moving-first", &artifact).await?;
    let exploration = json!({"floor": 0.0, "nearTieMargin": 0.0});
    let patch = json!({"spec": {"router": {"exploration": exploration}}});
    namespace.patch("InferenceGateway", "load", patch).await?;
    promote(namespace, "moving-first").await?;

    let spill = json!({"spec": {"autoscaling": {"whenCold": "spill"}}});
    namespace.patch("ModelPool", "moving", spill).await?;
    at_zero(namespace).await?;
    let answer = gateway.chat("auto", "Who is there?", 4).await?;
    ensure!(
        answer["model"] == "steady",
        "the pool was at zero, and this answered: {answer}"
    );
    let back = namespace.world.until(Duration::from_secs(120), async || {
        let answer = gateway.chat("auto", "Who is there now?", 4).await?;
        Ok((answer["model"] == "moving").then_some(()))
    });
    back.await
        .context("the pool that was preferred does not come up")?;
    say!("spilled, and back at one");
    Ok(())
}

/// Whoever scales a pool that scales itself is left alone, until they do what the condition says.
async fn by_two(namespace: &Namespace<'_>) -> Result<()> {
    let scale = [
        "-n",
        &namespace.name,
        "scale",
        "modelpool/moving",
        "--replicas=2",
    ];
    namespace.world.tool("kubectl", &scale).await?;
    let pool = namespace
        .becomes(
            ("ModelPool", "moving"),
            ("Scaling", "False", "Conflict"),
            60,
        )
        .await?;
    has_ready(namespace, 2).await?;
    let scaling = condition(&pool, "Scaling").context("the condition")?;
    let told = scaling["message"].as_str().unwrap_or_default();
    say!("{told}");
    let command = told
        .split('`')
        .find(|part| part.starts_with("kubectl patch "));
    let command = command.context("the condition names no command")?;
    let command = command
        .replace("kubectl ", &format!("kubectl -n {} ", namespace.name))
        .replace(":N}", ":1}");
    namespace.world.shell(&command).await?;
    namespace
        .becomes(("ModelPool", "moving"), ("Scaling", "True", "Active"), 60)
        .await?;
    // It scales itself again: nobody asks it, so it goes.
    namespace
        .ready(("ModelPool", "moving"), ("True", "ScaledToZero"), 150)
        .await
        .map(drop)
}

/// A pool that does not scale itself is scaled as a Deployment would be, by way of `/scale` and its selector.
async fn by_kubernetes(namespace: &Namespace<'_>) -> Result<()> {
    let by_hand = json!({"spec": {"autoscaling": null}});
    namespace.patch("ModelPool", "moving", by_hand).await?;
    namespace.scale("ModelPool", "moving", 1).await?;
    has_ready(namespace, 1).await?;
    // Nothing measures processors here, so it is the bounds that count.
    for replicas in [2, 1] {
        let autoscaler = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "moving"},
            "spec": {
                "scaleTargetRef": {"apiVersion": weir_crds::API_VERSION, "kind": "ModelPool", "name": "moving"},
                "minReplicas": replicas, "maxReplicas": replicas,
                "metrics": [{"type": "Resource", "resource": {
                    "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80},
                }}],
            },
        });
        namespace.apply_object(&autoscaler).await?;
        has_ready(namespace, replicas).await?;
        say!("{replicas} replicas by the HorizontalPodAutoscaler");
    }
    let pool = namespace
        .ready(("ModelPool", "moving"), ("True", ""), 60)
        .await?;
    let scaling = condition(&pool, "Scaling");
    ensure!(scaling.is_none(), "who does not scale it says {scaling:?}");
    Ok(())
}

/// Waits until the pool went to zero by itself. Its last pod would answer for a minute more, and a gateway hears of it as the status
/// says it.
async fn at_zero(namespace: &Namespace<'_>) -> Result<()> {
    namespace
        .ready(("ModelPool", "moving"), ("True", "ScaledToZero"), 150)
        .await?;
    namespace.delete_pods("weir.dev/pool=moving", true).await?;
    has_ready(namespace, 0).await
}

/// Waits until so many replicas are ready and no other pod is left; one that goes answers for a minute more.
async fn has_ready(namespace: &Namespace<'_>, replicas: u32) -> Result<()> {
    let seen = namespace.world.until(Duration::from_secs(180), async || {
        let pool = namespace.weir("ModelPool").await?.get("moving").await?;
        let ready = pool.data["status"]["readyReplicas"]
            .as_u64()
            .unwrap_or_default();
        let pods = namespace.pods("weir.dev/pool=moving").await?.len();
        Ok((ready == u64::from(replicas) && pods == replicas as usize).then_some(()))
    });
    seen.await
        .with_context(|| format!("the pool does not get {replicas} replicas"))
}
