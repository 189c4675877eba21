//! What is deleted while nobody watches is noticed, and of two that believe they lead one writes. All of it under load.
//!
//! The operator's processes are stopped where they stand (SIGSTOP), which is what a machine that swaps or is migrated does to
//! them: connections break, leases run out, and they go on without knowing.

use super::LOOKS;
use crate::ask::Gateway;
use crate::frozen::Frozen;
use crate::load::Load;
use crate::operators;
use crate::told::say;
use crate::world::{Namespace, World};
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Writes to one object that two changes and what follows of them may take.
const WRITES_MAX: usize = 12;

pub(crate) async fn run(world: &World) -> Result<()> {
    let namespace = world.namespace("e2e-watches").await?;
    let result = steps(&namespace).await;
    namespace.finish(result).await
}

async fn steps(namespace: &Namespace<'_>) -> Result<()> {
    super::serve_load(namespace).await?;
    let (gateway, load) = super::steady_load(namespace).await?;
    a_deletion_that_nobody_hears(namespace, (&gateway, &load))
        .await
        .context("a deletion that nobody hears")?;
    two_that_believe_they_lead(namespace, (&gateway, &load))
        .await
        .context("two that believe they lead")?;
    let total = load.end().await?;
    say!("{total} requests, none failed");
    Ok(())
}

/// The API server forgets its history in a restart, and the pool goes before the operator watches again.
async fn a_deletion_that_nobody_hears(
    namespace: &Namespace<'_>,
    (gateway, load): (&Gateway, &Load),
) -> Result<()> {
    let world = namespace.world;
    let pools = namespace.weir("ModelPool").await?;
    let frozen = Frozen::of(&operators::pods(world).await?)?;
    world.restart("kube-apiserver").await?;
    let deleted = world.until(Duration::from_secs(60), async || {
        match pools.delete("moving", &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            deleted => drop(deleted?),
        }
        // A kind that a new API server does not serve yet is not found either, but it cannot be listed.
        let left = pools.list(&ListParams::default()).await?;
        let is_left = left.iter().any(|pool| pool.name_any() == "moving");
        Ok((!is_left).then_some(()))
    });
    deleted.await.context("delete the pool")?;
    let lists_it = gateway.get("/v1/models/moving").await?.0;
    drop(frozen);
    say!(
        "{:.1} s: a pool was deleted while nobody watched ({lists_it} of the gateway)",
        load.at()
    );
    ensure!(
        lists_it == StatusCode::OK,
        "the gateway knew before the operator"
    );
    let forgotten = world.until(Duration::from_secs(90), async || {
        for _ in 0..LOOKS {
            if gateway.get("/v1/models/moving").await?.0 != StatusCode::NOT_FOUND {
                return Ok(None);
            }
        }
        Ok(Some(()))
    });
    forgotten
        .await
        .context("the gateway still lists the pool")?;
    say!("{:.1} s: no gateway lists it", load.at());
    namespace
        .ready(("InferenceGateway", "load"), ("True", ""), 120)
        .await
        .map(drop)
}

/// The leader is stopped until another leads, then goes on, with changes before its eyes that it has not seen.
async fn two_that_believe_they_lead(
    namespace: &Namespace<'_>,
    (gateway, load): (&Gateway, &Load),
) -> Result<()> {
    let world = namespace.world;
    let former = operators::leader(world).await?;
    let leads = |pod: &Pod| pod.name_any() == operators::pod_of(&former);
    let mut pods = operators::pods(world).await?;
    pods.retain(leads);
    let frozen = Frozen::of(&pods)?;
    let next = operators::next_leader(world, &former).await?;
    say!("{:.1} s: {next} leads, {former} stands still", load.at());
    replicas(namespace, 3).await.context("under the next one")?;
    let from = Timestamp::now();
    drop(frozen);
    replicas(namespace, 2).await.context("with both")?;
    let written = operators::writes(world, from)?;
    for (object, by) in &written {
        let former = by.get(operators::pod_of(&former));
        ensure!(
            former.is_none(),
            "the former leader wrote {object} too: {by:?}"
        );
        let most = by.values().max().copied().unwrap_or_default();
        ensure!(most <= WRITES_MAX, "{object} was written {most} times");
    }
    say!(
        "{:.1} s: {} objects were written since, none by {former}",
        load.at(),
        written.len()
    );
    ensure!(!written.is_empty(), "the audit log shows no write at all");
    let since = Instant::now();
    follows(world, gateway, operators::epoch(world).await?).await?;
    say!(
        "{:.1} s: every gateway follows {next}, after {:.1} s",
        load.at(),
        since.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Waits until every gateway serves a plan of this epoch. One that lost the former leader tries again every few seconds, and
/// may meet the frozen process once more before it meets the next leader.
async fn follows(world: &World, gateway: &Gateway, epoch: u64) -> Result<()> {
    let all = world.until(Duration::from_secs(30), async || {
        for _ in 0..LOOKS {
            let (status, text) = gateway.get("/readyz").await?;
            let ready: Value = serde_json::from_str(&text)?;
            let served = &ready["plan"]["revision"]["epoch"];
            ensure!(
                status == StatusCode::OK && served.as_u64() == Some(epoch),
                "a gateway serves a plan of epoch {served}, {epoch} leads: {text}"
            );
        }
        Ok(Some(()))
    });
    all.await.context("a gateway does not follow")
}

/// Sets the replicas of the pool `steady` and waits until they are there.
pub(super) async fn replicas(namespace: &Namespace<'_>, replicas: u32) -> Result<()> {
    let patch = json!({"spec": {"replicas": replicas}});
    namespace.patch("ModelPool", "steady", patch).await?;
    namespace
        .ready(("ModelPool", "steady"), ("True", ""), 120)
        .await
        .map(drop)
}
