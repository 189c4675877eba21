//! An upgraded operator restarts no pool, and requests go on.

use crate::load::Load;
use crate::world::{Namespace, World};
use anyhow::{Result, ensure};
use kube::ResourceExt;
use std::collections::BTreeSet;
use std::time::Duration;

pub(crate) async fn run(world: &World) -> Result<()> {
    let namespace = world.namespace("e2e-upgrade").await?;
    let result = steps(&namespace).await;
    namespace.finish(result).await
}

async fn steps(namespace: &Namespace<'_>) -> Result<()> {
    super::serve_load(namespace).await?;
    let before = engines(namespace).await?;
    let gateway = namespace.gateway("load", None).await?;
    let load = Load::start(&gateway, "steady", Duration::from_millis(200));
    // The same program under another name is what an upgrade is to everything that the operator builds.
    crate::install::charts(namespace.world, &["image.repository=weir.local/weir-next"]).await?;
    println!("    {:.1} s: upgraded", load.at());
    namespace
        .ready(("InferenceGateway", "load"), ("True", ""), 120)
        .await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let after = engines(namespace).await?;
    let total = load.end().await?;
    crate::install::charts(namespace.world, &[]).await?;
    ensure!(
        before == after,
        "pods of pools before: {before:?}, after: {after:?}"
    );
    println!("    {total} requests, none failed, no engine restarted");
    Ok(())
}

async fn engines(namespace: &Namespace<'_>) -> Result<BTreeSet<String>> {
    let pods = namespace.pods("weir.dev/pool").await?;
    Ok(pods.iter().filter_map(ResourceExt::uid).collect())
}
