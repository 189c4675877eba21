//! An engine that hangs is asked no more, loses no request, and begins anew.

use crate::extent::Extent;
use crate::frozen::Frozen;
use crate::told::say;
use crate::world::{self, Namespace, World};
use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use std::time::Duration;

/// Until an engine that does not answer is no endpoint any more: its probes fail twice.
const LEFT_OUT: Duration = Duration::from_secs(60);
/// Until it begins anew: five looks of a minute each, its drain, and the kubelet's own pace.
const BEGINS_ANEW: Duration = Duration::from_secs(600);

pub(crate) async fn run(world: &World) -> Result<()> {
    let namespace = world.namespace("e2e-hang").await?;
    let result = steps(&namespace).await;
    namespace.finish(result).await
}

async fn steps(namespace: &Namespace<'_>) -> Result<()> {
    super::serve_load(namespace).await?;
    let (_, load) = super::steady_load(namespace).await?;
    let mut engines = namespace.pods("weir.dev/pool=steady").await?;
    engines.truncate(1);
    let name = engines[0].name_any();
    let frozen = Frozen::of(&engines)?;
    say!("{:.1} s: the engine of {name} stands still", load.at());
    let is_ready = async || {
        let pods = namespace.pods("weir.dev/pool=steady").await?;
        let pod = pods.iter().find(|pod| pod.name_any() == name);
        pod.map(super::is_ready)
            .with_context(|| format!("there is no pod {name}"))
    };
    let left_out = namespace
        .world
        .until(LEFT_OUT, async || Ok((!is_ready().await?).then_some(())));
    left_out.await.context("an engine that hangs stays ready")?;
    say!("{:.1} s: it is not ready", load.at());

    match namespace.world.extent {
        Extent::Ordinary => drop(frozen),
        Extent::Full => {
            let starts = async || {
                let pods = namespace.pods("weir.dev/pool=steady").await?;
                Ok(world::starts(&pods)
                    .remove(&name)
                    .filter(|count| *count > 0))
            };
            let anew = namespace.world.until(BEGINS_ANEW, starts).await;
            let count = anew.context("an engine that hangs is not started again")?;
            ensure!(count == 1, "{name} was started again {count} times");
            say!("{:.1} s: it was started again", load.at());
            drop(frozen);
        }
    }
    let back = namespace.world.until(Duration::from_secs(120), async || {
        Ok(is_ready().await?.then_some(()))
    });
    back.await.context("it does not come back")?;
    namespace
        .ready(("ModelPool", "steady"), ("True", ""), 60)
        .await?;
    let total = load.end().await?;
    say!("{total} requests, none failed");
    Ok(())
}
