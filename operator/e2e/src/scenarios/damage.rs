//! What others break is repaired, or told where it cannot be: fields, statuses, certificates, definitions. All of it under load.

use super::{certificates, unreadable};
use crate::operators;
use crate::told::say;
use crate::world::{self, Namespace, World, conditions};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::Api;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) async fn run(world: &World) -> Result<()> {
    let namespace = world.namespace("e2e-damage").await?;
    let result = steps(&namespace).await;
    namespace.finish(result).await
}

async fn steps(namespace: &Namespace<'_>) -> Result<()> {
    super::serve_load(namespace).await?;
    let (gateway, load) = super::steady_load(namespace).await?;
    another_manager(namespace)
        .await
        .context("another field manager")?;
    a_lost_status(namespace).await.context("a lost status")?;
    certificates::old(namespace)
        .await
        .context("old certificates")?;
    unreadable::is_told(namespace)
        .await
        .context("an object that cannot be read")?;
    wrong_dimensions(namespace)
        .await
        .context("wrong dimensions")?;
    nothing_to_depend_on(namespace)
        .await
        .context("missing dependencies")?;
    let without = without_an_operator(namespace).await;
    // The next scenarios need it, whatever came of this one.
    let there = operators::scale(namespace.world, 2).await;
    let expired = without.context("without an operator")?;
    there?;
    certificates::heal(namespace, &gateway, &expired)
        .await
        .context("certificates that expired without an operator")?;
    namespace
        .ready(("InferenceGateway", "load"), ("True", ""), 120)
        .await?;
    let total = load.end().await?;
    say!("{total} requests, none failed");
    Ok(())
}

/// A first change of a field of Weir's is undone and told; who insists is told to stop, and not fought.
async fn another_manager(namespace: &Namespace<'_>) -> Result<()> {
    let takes = |spec: Value| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "steady-engine"}, "spec": spec,
        })
    };
    let taken = takes(json!({"revisionHistoryLimit": 7}));
    namespace.apply_as("somebody", &taken).await?;
    undone(namespace).await.context("the first time")?;
    namespace
        .event(("ModelPool", "steady"), "DriftCorrected", 30)
        .await?;
    namespace.apply_as("somebody", &taken).await?;
    let pool = namespace
        .ready(("ModelPool", "steady"), ("False", "Refused"), 60)
        .await?;
    let told = conditions(&pool);
    ensure!(
        told.contains("FieldConflict") && told.contains("revisionHistoryLimit"),
        "the conditions do not say who conflicts: {told}"
    );
    // A manager that applies without the field gives it up.
    namespace.apply_as("somebody", &takes(json!({}))).await?;
    namespace
        .ready(("ModelPool", "steady"), ("True", ""), 120)
        .await?;
    undone(namespace).await.context("after it was given up")
}

async fn undone(namespace: &Namespace<'_>) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(namespace.world.client.clone(), &namespace.name);
    let undone = namespace.world.until(Duration::from_secs(60), async || {
        let spec = api.get("steady-engine").await?.spec.unwrap_or_default();
        Ok((spec.revision_history_limit == Some(2)).then_some(()))
    });
    undone.await.context("the field stays changed")
}

/// A restore brings back what people wrote and nothing else. The status is made again, and nothing restarts.
async fn a_lost_status(namespace: &Namespace<'_>) -> Result<()> {
    let before = starts(namespace, "").await?;
    super::restored(
        namespace,
        ("ModelPool", "steady"),
        &["readyReplicas", "model"],
    )
    .await?;
    super::restored(namespace, ("InferenceGateway", "load"), &["router", "url"]).await?;
    for of in [("ModelPool", "steady"), ("InferenceGateway", "load")] {
        namespace.ready(of, ("True", ""), 60).await?;
    }
    let after = starts(namespace, "").await?;
    ensure!(
        before == after,
        "starts of pods before: {before:?}, after: {after:?}"
    );
    Ok(())
}

/// How often the containers of each pod with this label were started again.
pub(super) async fn starts(
    namespace: &Namespace<'_>,
    label: &str,
) -> Result<BTreeMap<String, i32>> {
    Ok(world::starts(&namespace.pods(label).await?))
}

/// An embedder that makes other vectors than the store is declared for.
async fn wrong_dimensions(namespace: &Namespace<'_>) -> Result<()> {
    let source = format!("{}/models/all-minilm-l6-v2", namespace.world.hub.url);
    let store = json!({
        "apiVersion": weir_crds::API_VERSION, "kind": "MemoryStore", "metadata": {"name": "odd"},
        "spec": {
            "embedding": {"model": "all-minilm-l6-v2", "source": source, "dimensions": 512},
            "store": {"embedded": {"storage": "1Gi", "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}}}},
            "deletionPolicy": "Delete",
        },
    });
    namespace.apply_object(&store).await?;
    let store = namespace
        .ready(("MemoryStore", "odd"), ("False", "CrashLoop"), 120)
        .await?;
    let told = conditions(&store);
    say!("{told}");
    ensure!(
        told.contains("384 dimensions, the store holds 512"),
        "the condition does not say what does not fit: {told}"
    );
    namespace.delete("MemoryStore", "odd").await
}

/// What refers to nothing says so, and goes when it is told to.
async fn nothing_to_depend_on(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply_object(&orphan()).await?;
    let gateway = namespace
        .ready(("InferenceGateway", "orphan"), ("False", ""), 60)
        .await?;
    say!("{}", conditions(&gateway));
    namespace.delete("InferenceGateway", "orphan").await
}

fn orphan() -> Value {
    json!({
        "apiVersion": weir_crds::API_VERSION, "kind": "InferenceGateway", "metadata": {"name": "orphan"},
        "spec": {
            "pools": {"matchLabels": {"weir.dev/stack": "nowhere"}}, "memory": "gone",
            "router": {"version": "gone"}, "auth": {"apiKeysSecretRef": {"name": "gone"}},
        },
    })
}

/// Deletion waits for nobody: what goes while no operator runs goes all the same, with everything that was made for it. The
/// operator stays away for so long that a certificate expires where it is used; that certificate.
async fn without_an_operator(namespace: &Namespace<'_>) -> Result<String> {
    operators::scale(namespace.world, 0).await?;
    let expired = certificates::expire(namespace).await?;
    namespace.delete("ModelPool", "moving").await?;
    let left = namespace.world.until(Duration::from_secs(90), async || {
        let label = "weir.dev/pool=moving";
        let kinds = "deployments,services,networkpolicies,poddisruptionbudgets,configmaps";
        let arguments = [
            "-n",
            &namespace.name,
            "get",
            kinds,
            "-l",
            label,
            "-o",
            "name",
        ];
        let left = namespace.world.tool("kubectl", &arguments).await?;
        Ok(left.trim().is_empty().then_some(()))
    });
    left.await.context("objects stay behind their owner")?;
    Ok(expired)
}
