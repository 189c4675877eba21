//! An idle stack sees no write but Leases, and applying the same again changes nothing.

use crate::world::{Namespace, World};
use anyhow::{Result, ensure};
use kube::ResourceExt;
use kube::api::ListParams;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long nothing may be written. `--full` runs are for ten minutes; this finds a loop.
const IDLE: Duration = Duration::from_secs(45);
/// Kinds that the operator writes.
const WRITTEN: [(&str, &str); 9] = [
    ("weir.dev/v1alpha1", "ModelPool"),
    ("weir.dev/v1alpha1", "InferenceGateway"),
    ("apps/v1", "Deployment"),
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
    super::serve_load(namespace).await?;
    // The measured speeds arrive last.
    let measured = namespace.world.until(Duration::from_secs(60), async || {
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
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = versions(namespace).await?;
    namespace.apply(super::LOAD).await?;
    tokio::time::sleep(IDLE).await;
    let after = versions(namespace).await?;
    let changed: Vec<&String> = after
        .iter()
        .filter(|(name, version)| before.get(*name) != Some(version))
        .map(|(name, _)| name)
        .collect();
    ensure!(
        changed.is_empty(),
        "written in {} idle seconds: {changed:?}",
        IDLE.as_secs()
    );
    Ok(())
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
