//! What is promised of a running installation, one file a promise.

pub(crate) mod caches;
mod certificates;
pub(crate) mod damage;
pub(crate) mod dependencies;
pub(crate) mod faults;
pub(crate) mod fields;
pub(crate) mod hang;
pub(crate) mod idle;
pub(crate) mod image;
pub(crate) mod keys;
pub(crate) mod manual;
pub(crate) mod mistakes;
pub(crate) mod namespaced;
pub(crate) mod policies;
pub(crate) mod privacy;
pub(crate) mod regret;
pub(crate) mod rollouts;
pub(crate) mod scale;
pub(crate) mod stack;
mod steering;
pub(crate) mod uninstall;
mod unreadable;
pub(crate) mod upgrade;
pub(crate) mod watches;

use crate::ask::Gateway;
use crate::load::Load;
use crate::world::Namespace;
use anyhow::{Context, Result, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;
use weir_router::Artifact;

/// Two pools of a random model and a gateway, for scenarios that need answers and no sense in them.
const LOAD: &str = include_str!("../../stacks/load.yaml");
/// The gateway of most stacks.
const GATEWAY: &str = "load";
/// Looks in a row that must agree: each may be answered by another process of the gateway.
const LOOKS: usize = 8;

/// Applies [`LOAD`] and waits until all of it is Ready.
async fn serve_load(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(LOAD).await?;
    serves(namespace, &["steady", "moving"]).await
}

/// Ten requests a second to the pool `steady` of [`LOAD`], from now on, and the gateway that takes them.
async fn steady_load(namespace: &Namespace<'_>) -> Result<(Gateway, Load)> {
    let gateway = namespace.gateway(GATEWAY, None).await?;
    let load = Load::start(&gateway, "steady", Duration::from_millis(100));
    Ok((gateway, load))
}

/// Empties the status of an object, as a restore does.
async fn lose_status(namespace: &Namespace<'_>, (kind, name): (&str, &str)) -> Result<()> {
    let api = namespace.weir(kind).await?;
    let lost = Patch::Merge(json!({"status": null}));
    let lost = api.patch_status(name, &PatchParams::default(), &lost).await;
    lost.map(drop)
        .with_context(|| format!("empty the status of {kind}/{name}"))
}

/// Empties the status of an object and waits until these fields are in it as they were.
async fn restored(
    namespace: &Namespace<'_>,
    (kind, name): (&str, &str),
    fields: &[&str],
) -> Result<()> {
    let api = namespace.weir(kind).await?;
    let of = |status: &Value| -> Vec<Value> {
        fields.iter().map(|field| status[field].clone()).collect()
    };
    let before = of(&api.get(name).await?.data["status"]);
    ensure!(
        !before.contains(&Value::Null),
        "{fields:?} of {kind}/{name} are {before:?} before"
    );
    lose_status(namespace, (kind, name)).await?;
    let mut now = Vec::new();
    let rebuilt = namespace.world.until(Duration::from_secs(60), async || {
        now = of(&api.get(name).await?.data["status"]);
        Ok((now == before).then_some(()))
    });
    let rebuilt = rebuilt.await;
    rebuilt.with_context(|| {
        format!("the status of {kind}/{name} was lost: {fields:?} are {now:?}, not {before:?}")
    })
}

/// Ends the engine of the pool `moving`, which nobody asks meanwhile, and waits until each process of the gateway asks the one
/// that comes in its place: it has heard of it from the operator.
async fn hears_of_a_new_pod(namespace: &Namespace<'_>, gateway: &Gateway) -> Result<()> {
    let label = "weir.dev/pool=moving";
    let before: Vec<String> = namespace
        .pods(label)
        .await?
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    namespace.delete_pods(label, true).await?;
    let comes = namespace.world.until(Duration::from_secs(120), async || {
        let pods = namespace.pods(label).await?;
        let mut new = pods.iter().filter(|pod| !before.contains(&pod.name_any()));
        Ok(new.any(is_ready).then_some(()))
    });
    comes.await.context("no pod comes in its place")?;
    asks_moving(namespace, gateway).await
}

/// Waits until each process of the gateway is answered by the pool `moving`.
async fn asks_moving(namespace: &Namespace<'_>, gateway: &Gateway) -> Result<()> {
    let heard = namespace.world.until(Duration::from_secs(90), async || {
        for _ in 0..LOOKS {
            gateway.chat("moving", "Where are you?", 4).await?;
        }
        Ok(Some(()))
    });
    heard
        .await
        .context("the gateway does not ask the pool's pod")
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| &status.conditions);
    let mut ready = conditions.flatten().filter(|one| one.type_ == "Ready");
    ready.any(|one| one.status == "True")
}

/// Waits until these pools and the gateway are Ready.
async fn serves(namespace: &Namespace<'_>, pools: &[&str]) -> Result<()> {
    for &pool in pools {
        namespace
            .ready(("ModelPool", pool), ("True", ""), 180)
            .await?;
    }
    namespace
        .ready(("InferenceGateway", GATEWAY), ("True", ""), 180)
        .await
        .map(drop)
}

/// A RouterVersion with the ConfigMap of its artifact, once it is verified.
async fn router_version(
    namespace: &Namespace<'_>,
    version: &str,
    artifact: &Artifact,
) -> Result<()> {
    let bytes = ByteString(artifact.to_bytes().to_vec());
    namespace
        .apply_object(&json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": version, "labels": {"weir.dev/watch": "true"}},
            "binaryData": {"router.onnx": bytes},
        }))
        .await?;
    namespace
        .apply_object(&json!({
            "apiVersion": weir_crds::API_VERSION, "kind": "RouterVersion",
            "metadata": {"name": version},
            "spec": {
                "artifact": {"configMap": {"name": version, "key": "router.onnx"}},
                "sha256": artifact.sha256(),
            },
        }))
        .await?;
    namespace
        .ready(("RouterVersion", version), ("True", ""), 60)
        .await
        .map(drop)
}
