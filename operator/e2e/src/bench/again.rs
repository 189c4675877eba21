//! Applying an example a second time changes nothing, neither in it nor in what the operator made of it.

use crate::cluster::Cluster;
use anyhow::{Context, Result};
use kube::ResourceExt;
use kube::api::ListParams;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use weir_lab::results::{Goal, Results, Row};

/// What the operator may write in a namespace, and the examples themselves.
const KINDS: [(&str, &str); 13] = [
    (weir_crds::API_VERSION, "ModelPool"),
    (weir_crds::API_VERSION, "MemoryStore"),
    (weir_crds::API_VERSION, "RouterVersion"),
    (weir_crds::API_VERSION, "InferenceGateway"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("v1", "Service"),
    ("v1", "Secret"),
    ("v1", "ConfigMap"),
    ("v1", "ServiceAccount"),
    ("policy/v1", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("v1", "Event"),
];
/// Who reports the operator's Events.
const OPERATOR: &str = "weir.dev/operator";
/// Nothing changed for this long: the operator is done.
const STILL: Duration = Duration::from_secs(4);
/// Longest wait for that.
const PATIENCE: Duration = Duration::from_secs(60);

/// One row for each example.
pub(crate) async fn measure(cluster: &Cluster, results: &mut Results) -> Result<()> {
    let mut stacks: Vec<_> = std::fs::read_dir(cluster.repository.join("examples/stacks"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    stacks.retain(|path| path.extension().is_some_and(|end| end == "yaml"));
    stacks.sort();
    for path in stacks {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let changed = changed(cluster, (&path, &format!("bench-{name}"))).await;
        let changed = changed.with_context(|| format!("apply {} twice", path.display()))?;
        if !changed.is_empty() {
            let told = changed.join(", ");
            results
                .notes
                .push(format!("second_apply.{name} changed: {told}"));
        }
        let count = u32::try_from(changed.len())?;
        let metric = format!("second_apply.{name}.changed");
        results
            .rows
            .push(Row::new(metric, "objects", f64::from(count)).goal(Goal::AtMost(0.0)));
    }
    Ok(())
}

/// Objects whose resource version is another after the second time.
async fn changed(cluster: &Cluster, (path, namespace): (&Path, &str)) -> Result<Vec<String>> {
    cluster.namespace(namespace).await?;
    let text = std::fs::read_to_string(path)?;
    let documents = weir_crds::yaml::documents(&text)?;
    for document in &documents {
        cluster.apply(Some(namespace), &document.value).await?;
    }
    let before = still(cluster, namespace).await?;
    for document in &documents {
        cluster.apply(Some(namespace), &document.value).await?;
    }
    tokio::time::sleep(STILL).await;
    let after = versions(cluster, namespace).await?;
    let all = before
        .keys()
        .chain(after.keys().filter(|name| !before.contains_key(*name)));
    Ok(all
        .filter(|name| before.get(*name) != after.get(*name))
        .cloned()
        .collect())
}

/// The versions, once they do not change by themselves.
async fn still(cluster: &Cluster, namespace: &str) -> Result<BTreeMap<String, String>> {
    let started = Instant::now();
    let mut before = versions(cluster, namespace).await?;
    loop {
        tokio::time::sleep(STILL).await;
        let now = versions(cluster, namespace).await?;
        if now == before || started.elapsed() >= PATIENCE {
            return Ok(now);
        }
        before = now;
    }
}

async fn versions(cluster: &Cluster, namespace: &str) -> Result<BTreeMap<String, String>> {
    let mut versions = BTreeMap::new();
    for (api_version, kind) in KINDS {
        let api = cluster.api(Some(namespace), api_version, kind).await?;
        for object in api.list(&ListParams::default()).await? {
            // Whoever binds volumes says again and again that a claim waits.
            if kind == "Event" && object.data["reportingComponent"] != OPERATOR {
                continue;
            }
            let version = object.resource_version().unwrap_or_default();
            versions.insert(format!("{kind}/{}", object.name_any()), version);
        }
    }
    Ok(versions)
}
