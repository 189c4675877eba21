//! An idle stack sees no write but Leases, and applying the same again changes nothing.

use super::dependencies;
use crate::world::{Namespace, World};
use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use kube::api::ListParams;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Longest that the end of the start may take.
const SETTLES: Duration = Duration::from_secs(180);
/// Numbers of a status are held back for so long.
const NUMBERS: Duration = Duration::from_secs(30);
/// Kinds that the operator writes.
const WRITTEN: [(&str, &str); 14] = [
    ("weir.dev/v1alpha1", "ModelPool"),
    ("weir.dev/v1alpha1", "MemoryStore"),
    ("weir.dev/v1alpha1", "RouterVersion"),
    ("weir.dev/v1alpha1", "InferenceGateway"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("v1", "ConfigMap"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "Service"),
    ("v1", "Secret"),
    ("v1", "ServiceAccount"),
    ("policy/v1", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("v1", "Event"),
];

pub(crate) async fn run(world: &World) -> Result<()> {
    let namespace = world.namespace("e2e-idle").await?;
    let result = steps(&namespace).await;
    namespace.finish(result).await
}

async fn steps(namespace: &Namespace<'_>) -> Result<()> {
    dependencies::serves_all(namespace).await?;
    // The measured speeds arrive last.
    let measured = namespace.world.until(Duration::from_secs(90), async || {
        let pools = namespace
            .weir("ModelPool")
            .await?
            .list(&ListParams::default())
            .await?;
        let all = pools
            .iter()
            .all(|pool| pool.data["status"]["performance"].is_object());
        Ok(all.then_some(()))
    });
    measured.await?;
    settled(namespace).await?;
    let before = versions(namespace).await?;
    namespace.apply(dependencies::STACK).await?;
    let idle = namespace.world.extent.idle();
    tokio::time::sleep(idle).await;
    let after = versions(namespace).await?;
    let changed: Vec<&String> = after
        .iter()
        .filter(|(name, version)| before.get(*name) != Some(version))
        .map(|(name, _)| name)
        .collect();
    ensure!(
        changed.is_empty(),
        "written in {} idle seconds: {changed:?}",
        idle.as_secs()
    );
    Ok(())
}

/// Waits until nothing of the start is left to be written.
async fn settled(namespace: &Namespace<'_>) -> Result<()> {
    let (mut last, mut since) = (versions(namespace).await?, Instant::now());
    let quiet = namespace.world.until(SETTLES, async || {
        let now = versions(namespace).await?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
        Ok((since.elapsed() > NUMBERS).then_some(()))
    });
    quiet.await.context("the stack does not settle")
}

/// The resource version of everything that the operator writes.
async fn versions(namespace: &Namespace<'_>) -> Result<BTreeMap<String, String>> {
    let mut versions = BTreeMap::new();
    for (api_version, kind) in WRITTEN {
        for object in namespace
            .api(api_version, kind)
            .await?
            .list(&ListParams::default())
            .await?
        {
            let version = object.resource_version().unwrap_or_default();
            versions.insert(format!("{kind}/{}", object.name_any()), version);
        }
    }
    Ok(versions)
}
