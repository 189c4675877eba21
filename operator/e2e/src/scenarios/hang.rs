//! An engine that hangs is asked no more and begins anew. Who waits for it is told in time.

use crate::extent::Extent;
use crate::frozen::Frozen;
use crate::told::say;
use crate::world::{self, Namespace, World};
use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use serde_json::json;
use std::time::Duration;

/// Until an engine that does not answer is no endpoint any more: its probes fail twice.
const LEFT_OUT: Duration = Duration::from_secs(60);
/// Longest that a request may take.
const REQUEST_S: u64 = 20;
/// Requests that one engine of the stack takes at once.
const SLOTS: usize = 4;
/// Until it begins anew: five looks of a minute each, its drain, and the kubelet's own pace.
const BEGINS_ANEW: Duration = Duration::from_secs(600);

pub(crate) async fn run(world: &World) -> Result<()> {
    let namespace = world.namespace("e2e-hang").await?;
    let result = steps(&namespace).await;
    namespace.finish(result).await
}

async fn steps(namespace: &Namespace<'_>) -> Result<()> {
    super::serve_load(namespace).await?;
    let limits = json!({"spec": {"limits": {"requestTimeout": format!("{REQUEST_S}s")}}});
    namespace.patch("InferenceGateway", "load", limits).await?;
    namespace
        .ready(("InferenceGateway", "load"), ("True", ""), 120)
        .await?;
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
    // Those that it had taken wait for it: it may be slow. Nobody waits for longer than a request may take.
    let (total, failures) = load.outcome().await?;
    let is_told = |failure: &String| failure.contains("504 Gateway Timeout");
    ensure!(
        failures.len() <= SLOTS && failures.iter().all(is_told),
        "{} of {total} requests failed, of the {SLOTS} at most that it had taken: {failures:?}",
        failures.len(),
    );
    say!(
        "{total} requests, {} of them were told that it hangs",
        failures.len()
    );
    Ok(())
}
