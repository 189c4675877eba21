//! A pool goes 1, 3, 0, 1 under load, by hand and by itself, and no request is lost.

use crate::load::Load;
use crate::world::{Namespace, World};
use anyhow::{Context, Result};
use serde_json::json;
use std::time::Duration;

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
        .context("scaled by itself")
}

/// `auto` asks whoever is there: while one pool goes to zero the other answers.
async fn by_hand(namespace: &Namespace<'_>, gateway: &crate::ask::Gateway) -> Result<()> {
    let world = namespace.world;
    let load = Load::start(gateway, "auto", world.extent.gap());
    loop {
        for replicas in [3, 0, 1] {
            namespace.scale("ModelPool", "moving", replicas).await?;
            has_ready(namespace, replicas).await?;
            println!("    {replicas} replicas {:.1} s into the load", load.at());
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
    namespace
        .ready(("ModelPool", "moving"), ("True", "ScaledToZero"), 150)
        .await?;
    println!("    idle, so at zero");
    let answer = gateway.chat("moving", "Are you there?", 4).await;
    answer.context("a request for a pool at zero")?;
    namespace
        .ready(("ModelPool", "moving"), ("True", ""), 90)
        .await?;
    println!("    asked, so back at one");
    Ok(())
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
