//! What is promised of a running installation, one file a promise.

pub(crate) mod caches;
pub(crate) mod damage;
pub(crate) mod faults;
pub(crate) mod fields;
pub(crate) mod idle;
pub(crate) mod mistakes;
pub(crate) mod privacy;
pub(crate) mod rollouts;
pub(crate) mod scale;
pub(crate) mod stack;
pub(crate) mod uninstall;
pub(crate) mod upgrade;
pub(crate) mod watches;

use crate::ask::Gateway;
use crate::load::Load;
use crate::world::Namespace;
use anyhow::Result;
use k8s_openapi::ByteString;
use serde_json::json;
use std::time::Duration;
use weir_router::Artifact;

/// Two pools of a random model and a gateway, for scenarios that need answers and no sense in them.
const LOAD: &str = include_str!("../../stacks/load.yaml");
/// The gateway of most stacks.
const GATEWAY: &str = "load";

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
