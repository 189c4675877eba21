//! Pods, the leader and the API server are killed under load, and no request is lost.

use crate::operators;
use crate::told::say;
use crate::world::{Namespace, World, condition};
use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
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
    let (gateway, load) = super::steady_load(namespace).await?;

    // One engine of two goes at once, as when its node dies; the other answers what it had not begun.
    let engines = namespace.pods("weir.dev/pool=steady").await?;
    delete_pod(namespace, &engines[0]).await?;
    say!("{:.1} s: an engine's pod was deleted", load.at());
    replaced(namespace, "weir.dev/pool=steady", &engines).await?;
    namespace
        .ready(("ModelPool", "steady"), ("True", ""), 120)
        .await?;

    let gateways = namespace.pods("weir.dev/gateway=load").await?;
    delete_pod(namespace, &gateways[0]).await?;
    say!("{:.1} s: a gateway's pod was deleted", load.at());
    replaced(namespace, "weir.dev/gateway=load", &gateways).await?;
    namespace
        .ready(("InferenceGateway", "load"), ("True", ""), 120)
        .await?;

    pause(namespace, true).await?;
    let killed = operators::kill_leader(namespace.world).await?;
    say!("{:.1} s: the leader {killed} was killed", load.at());
    super::hears_of_a_new_pod(namespace, &gateway)
        .await
        .context("while the gateway is paused, under a leader that did not make its plan")?;
    say!("{:.1} s: the paused gateway heard of a new pod", load.at());
    pause(namespace, false).await?;
    let patch = json!({"spec": {"replicas": 3}});
    namespace.patch("ModelPool", "steady", patch).await?;
    namespace
        .ready(("ModelPool", "steady"), ("True", ""), 120)
        .await
        .context("under the new leader")?;

    namespace.world.restart("kube-apiserver").await?;
    say!("{:.1} s: the API server was killed and started", load.at());
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
    say!("{total} requests, none failed");
    Ok(())
}

/// Pauses the gateway or lets it go on, and waits until the operator has seen it.
async fn pause(namespace: &Namespace<'_>, paused: bool) -> Result<()> {
    let word = paused.then_some("true");
    let patch = json!({"metadata": {"annotations": {(weir_crds::PAUSED): word}}});
    namespace.patch("InferenceGateway", "load", patch).await?;
    let api = namespace.weir("InferenceGateway").await?;
    let seen = namespace.world.until(Duration::from_secs(60), async || {
        let gateway = api.get("load").await?;
        let says_so = condition(&gateway, "Paused").is_some();
        Ok((says_so == paused).then_some(()))
    });
    seen.await
        .with_context(|| format!("its conditions do not say that paused is {paused}"))
}

/// Waits until another pod stands in the place of the first of these, and as many are ready as there were.
async fn replaced(namespace: &Namespace<'_>, label: &str, before: &[Pod]) -> Result<()> {
    let gone = before.first().and_then(ResourceExt::uid);
    let stands = namespace.world.until(Duration::from_secs(120), async || {
        let mut ready = namespace.pods(label).await?;
        ready.retain(|pod| super::is_ready(pod) && pod.uid() != gone);
        Ok((ready.len() == before.len()).then_some(()))
    });
    stands.await.context("no pod comes in its place")
}

/// Deletes a pod as an eviction does: it may finish what it has begun.
async fn delete_pod(namespace: &Namespace<'_>, pod: &Pod) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(namespace.world.client.clone(), &namespace.name);
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    api.delete(name, &DeleteParams::default()).await?;
    Ok(())
}
