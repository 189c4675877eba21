//! The first scenario: Helm installs the operator as docs/operations.md says.

use crate::told::say;
use crate::world::{SYSTEM, World};
use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::path::Path;

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
    say!("{leader} leads");
    helm_test(world).await
}

/// The installation says of itself that it works.
pub(crate) async fn helm_test(world: &World) -> Result<()> {
    let test = ["test", "weir", "--namespace", SYSTEM, "--timeout", "120s"];
    let tested = world.tool("helm", &test).await?;
    ensure!(tested.contains("Succeeded"), "helm test: {tested}");
    Ok(())
}

/// Installs or upgrades both charts with further values.
pub(crate) async fn charts(world: &World, values: &[&str]) -> Result<()> {
    let tag = format!("image.tag={}", world.tag);
    let all = [&[tag.as_str()][..], values].concat();
    charts_of(world, &world.repository, &all).await
}

/// The same with the charts of any checkout, whose image the values name.
pub(crate) async fn charts_of(world: &World, checkout: &Path, values: &[&str]) -> Result<()> {
    let chart = |name: &str| checkout.join("charts").join(name).display().to_string();
    let (definitions, operator) = (chart("weir-crds"), chart("weir"));
    let namespace = ["--namespace", SYSTEM, "--wait", "--timeout", "240s"];
    let install = ["upgrade", "--install", "weir-crds", &definitions];
    world
        .tool("helm", &[&install[..], &namespace].concat())
        .await?;
    let engine = format!("engines.llamaCpp=weir.local/llama-server:{}", world.tag);
    let asked = world.hub.url.trim_start_matches("https://");
    let hosts = format!("artifactHosts={{{asked}}}");
    let fixed = [
        &hosts,
        "image.repository=weir.local/weir",
        "image.pullPolicy=Never",
        "caBundle.configMap=hub-ca",
        &engine,
    ];
    let install = ["upgrade", "--install", "weir", &operator];
    let set: Vec<&str> = fixed
        .iter()
        .chain(values)
        .flat_map(|value| ["--set", *value])
        .collect();
    world
        .tool("helm", &[&install[..], &namespace, &set].concat())
        .await
        .map(drop)
}
