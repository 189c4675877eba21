//! The first scenario: Helm installs the operator as docs/operations.md says.

use crate::world::{SYSTEM, World};
use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

pub(crate) async fn run(world: &World) -> Result<()> {
    world.namespace(SYSTEM).await?;
    // The hub's certificate comes from an authority of its own.
    let api: Api<ConfigMap> = Api::namespaced(world.client.clone(), SYSTEM);
    let bundle = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hub-ca"},
        "data": {"ca.crt": world.hub.ca},
    });
    let patch = PatchParams::apply("weir-e2e").force();
    api.patch("hub-ca", &patch, &Patch::Apply(bundle)).await?;
    charts(world, &[]).await?;
    let leader = crate::operators::next_leader(world, "").await?;
    println!("    {leader} leads");
    let tested = world
        .tool(
            "helm",
            &["test", "weir", "--namespace", SYSTEM, "--timeout", "120s"],
        )
        .await?;
    ensure!(tested.contains("Succeeded"), "helm test: {tested}");
    Ok(())
}

/// Installs or upgrades both charts with further values.
pub(crate) async fn charts(world: &World, values: &[&str]) -> Result<()> {
    let chart = |name: &str| {
        world
            .repository
            .join("charts")
            .join(name)
            .display()
            .to_string()
    };
    let (definitions, operator) = (chart("weir-crds"), chart("weir"));
    let namespace = ["--namespace", SYSTEM, "--wait", "--timeout", "240s"];
    let install = ["upgrade", "--install", "weir-crds", &definitions];
    world
        .tool("helm", &[&install[..], &namespace].concat())
        .await?;
    let tag = format!("image.tag={}", world.tag);
    let engine = format!("engines.llamaCpp=weir.local/llama-server:{}", world.tag);
    let install = [
        "upgrade",
        "--install",
        "weir",
        &operator,
        "--set",
        "image.repository=weir.local/weir",
        "--set",
        &tag,
        "--set",
        &engine,
        "--set",
        "image.pullPolicy=Never",
        "--set",
        "caBundle.configMap=hub-ca",
    ];
    let more: Vec<&str> = values.iter().flat_map(|value| ["--set", *value]).collect();
    world
        .tool("helm", &[&install[..], &namespace, &more].concat())
        .await?;
    Ok(())
}
