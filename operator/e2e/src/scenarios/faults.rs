//! Pods, the leader and the API server are killed under load, and no request is lost.

use crate::operators;
use crate::world::{Namespace, World};
use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams};
use serde_json::json;
use std::time::Duration;

pub(crate) async fn run(world: &World) -> Result<()> {
    let namespace = world.namespace("e2e-faults").await?;
    let result = steps(&namespace).await;
    namespace.finish(result).await
}

async fn steps(namespace: &Namespace<'_>) -> Result<()> {
    super::serve_load(namespace).await?;
    let (_, load) = super::steady_load(namespace).await?;

    // One engine of two goes at once, as when its node dies; the other answers what it had not begun.
    let engines = namespace.pods("weir.dev/pool=steady").await?;
    delete_pod(namespace, &engines[0]).await?;
    println!("    {:.1} s: an engine's pod was deleted", load.at());
    namespace
        .ready(("ModelPool", "steady"), ("True", ""), 120)
        .await?;

    let gateways = namespace.pods("weir.dev/gateway=load").await?;
    delete_pod(namespace, &gateways[0]).await?;
    println!("    {:.1} s: a gateway's pod was deleted", load.at());
    namespace
        .ready(("InferenceGateway", "load"), ("True", ""), 120)
        .await?;

    let killed = operators::kill_leader(namespace.world).await?;
    println!("    {:.1} s: the leader {killed} was killed", load.at());
    let patch = json!({"spec": {"replicas": 3}});
    namespace.patch("ModelPool", "steady", patch).await?;
    namespace
        .ready(("ModelPool", "steady"), ("True", ""), 120)
        .await
        .context("under the new leader")?;

    namespace.world.restart("kube-apiserver").await?;
    println!(
        "    {:.1} s: the API server was killed and started",
        load.at()
    );
    let patch = json!({"spec": {"replicas": 2}});
    let patched = namespace.world.until(Duration::from_secs(60), async || {
        Ok(Some(
            namespace
                .patch("ModelPool", "steady", patch.clone())
                .await?,
        ))
    });
    patched.await?;
    namespace
        .ready(("ModelPool", "steady"), ("True", ""), 120)
        .await
        .context("after the API server's restart")?;
    let total = load.end().await?;
    println!("    {total} requests, none failed");
    Ok(())
}

/// Deletes a pod as an eviction does: it may finish what it has begun.
async fn delete_pod(namespace: &Namespace<'_>, pod: &Pod) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(namespace.world.client.clone(), &namespace.name);
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    api.delete(name, &DeleteParams::default()).await?;
    Ok(())
}
