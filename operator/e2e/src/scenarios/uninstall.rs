//! The last scenario: Helm removes the operator, and nothing is left but the resource definitions.

use crate::world::{SYSTEM, World};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

const STACK: &str = include_str!("../../stacks/load.yaml");
/// Everything that the operator may have made.
const MADE: &str = "deployments,statefulsets,services,secrets,configmaps,serviceaccounts,networkpolicies,poddisruptionbudgets,persistentvolumeclaims";

pub(crate) async fn run(world: &World) -> Result<()> {
    let namespace = world.namespace("e2e-uninstall").await?;
    let result = async {
        namespace.apply(STACK).await?;
        namespace
            .ready(("InferenceGateway", "load"), ("True", ""), 120)
            .await?;
        let arguments = [
            "-n",
            &namespace.name,
            "delete",
            "weir",
            "--all",
            "--timeout=60s",
        ];
        world
            .tool("kubectl", &arguments)
            .await
            .context("deletion always finishes")?;
        let left = world.until(Duration::from_secs(60), async || {
            let arguments = [
                "-n",
                &namespace.name,
                "get",
                MADE,
                "-l",
                "app.kubernetes.io/managed-by=weir",
                "-o",
                "name",
            ];
            let left = world.tool("kubectl", &arguments).await?;
            Ok(left.trim().is_empty().then_some(()))
        });
        left.await.context("objects stay behind their owners")
    };
    let result = result.await;
    namespace.finish(result).await?;
    for release in ["weir", "weir-crds"] {
        world
            .tool(
                "helm",
                &["uninstall", release, "--namespace", SYSTEM, "--wait"],
            )
            .await?;
    }
    let arguments = ["get", "clusterroles,clusterrolebindings,crds", "-o", "name"];
    let everything = world.tool("kubectl", &arguments).await?;
    let (ours, definitions): (Vec<&str>, Vec<&str>) = everything
        .lines()
        .filter(|name| name.contains("weir"))
        .partition(|name| !name.starts_with("customresourcedefinition"));
    ensure!(ours.is_empty(), "left behind: {ours:?}");
    ensure!(
        !definitions.is_empty(),
        "the resource definitions went with the operator"
    );
    world
        .tool(
            "kubectl",
            &["delete", "namespace", SYSTEM, "--timeout=180s"],
        )
        .await?;
    world
        .tool("kubectl", &[&["delete"][..], &definitions].concat())
        .await?;
    Ok(())
}
