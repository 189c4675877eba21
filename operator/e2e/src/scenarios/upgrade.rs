//! An upgraded operator restarts no pool, and requests go on. It comes from a former version where there is one.

use crate::load::Load;
use crate::told::say;
use crate::world::{Namespace, World};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use std::collections::BTreeSet;
use std::time::Duration;

pub(crate) async fn run(world: &World) -> Result<()> {
    let namespace = world.namespace("e2e-upgrade").await?;
    let result = steps(&namespace).await;
    namespace.finish(result).await
}

async fn steps(namespace: &Namespace<'_>) -> Result<()> {
    let world = namespace.world;
    if let Some(checkout) = &world.former {
        crate::install::charts_of(world, checkout, &["image.tag=former"]).await?;
        say!("the version of {}", checkout.display());
    }
    super::serve_load(namespace).await?;
    let before = engines(namespace).await?;
    let gateway = namespace.gateway("load", None).await?;
    let load = Load::start(&gateway, "steady", world.extent.gap());
    // The same program under another name is what an upgrade is to everything that the operator builds.
    for version in ["weir-next", "weir"].into_iter().cycle() {
        let image = format!("image.repository=weir.local/{version}");
        crate::install::charts(world, &[image.as_str()]).await?;
        serves_with(namespace, version).await?;
        say!("{:.1} s: {version}", load.at());
        if version == "weir" && load.sent() >= world.extent.share() {
            break;
        }
    }
    let after = engines(namespace).await?;
    world.count("upgrade", load.end().await?);
    ensure!(
        before == after,
        "pods of pools before: {before:?}, after: {after:?}"
    );
    say!("no engine restarted");
    Ok(())
}

/// Waits until the gateway's processes are all of one version, which comes after everything that the operator does to pools.
async fn serves_with(namespace: &Namespace<'_>, version: &str) -> Result<()> {
    let image = format!("weir.local/{version}:");
    let is_new = |pod: &Pod| {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let mut images = containers.filter_map(|container| container.image.as_deref());
        images.any(|one| one.starts_with(&image))
    };
    let replaced = namespace.world.until(Duration::from_secs(180), async || {
        let pods = namespace.pods("weir.dev/gateway=load").await?;
        let mut staying = pods
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none());
        Ok(staying.all(is_new).then_some(()))
    });
    replaced
        .await
        .with_context(|| format!("the gateway does not get {version}"))?;
    namespace
        .ready(("InferenceGateway", "load"), ("True", ""), 120)
        .await
        .map(drop)
}

async fn engines(namespace: &Namespace<'_>) -> Result<BTreeSet<String>> {
    let pods = namespace.pods("weir.dev/pool").await?;
    Ok(pods.iter().filter_map(ResourceExt::uid).collect())
}
