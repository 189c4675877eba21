//! An object that this version cannot read, as one that another version wrote. A part of the scenario `damage`.

use crate::told::say;
use crate::world::{Namespace, World, conditions};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;

const DEFINITION: &str = "customresourcedefinition/modelpools.weir.dev";
/// Where the definition of pools says which tiers there are.
const TIERS: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/tier/enum";

/// The pool `moving` says something that the definition of another version permits. It serves on as it was, everything else
/// follows its changes, and it is mended by a correction.
pub(super) async fn is_told(namespace: &Namespace<'_>) -> Result<()> {
    let world = namespace.world;
    let definition = world.tool("kubectl", &["get", DEFINITION, "-o", "json"]);
    let definition: Value = serde_json::from_str(&definition.await?)?;
    let tiers = definition.pointer(TIERS);
    let tiers = tiers.context("the definition lists no tiers")?;
    change(world, json!({"op": "remove", "path": TIERS})).await?;
    let result = while_anything_goes(namespace).await;
    // The scenarios that follow need it, whatever came of this one.
    let mended = change(world, json!({"op": "add", "path": TIERS, "value": tiers})).await;
    result.and(mended)
}

async fn while_anything_goes(namespace: &Namespace<'_>) -> Result<()> {
    let tier = |tier: &str| json!({"spec": {"tier": tier}});
    // An API server takes a changed definition up a moment later.
    let written = namespace.world.until(Duration::from_secs(30), async || {
        let patched = namespace.patch("ModelPool", "moving", tier("orbit")).await;
        patched.map(Some)
    });
    written.await.context("the definition still refuses it")?;
    let pool = namespace
        .ready(("ModelPool", "moving"), ("False", "Unreadable"), 60)
        .await?;
    let told = conditions(&pool);
    say!("{told}");
    ensure!(
        told.contains("orbit") && told.contains("correct the field, or upgrade the operator"),
        "the condition does not say what is wrong and what to do: {told}"
    );
    for replicas in [1, 2] {
        super::watches::replicas(namespace, replicas)
            .await
            .context("another pool")?;
    }
    let gateway = namespace.gateway(super::GATEWAY, None).await?;
    let answer = gateway.chat("moving", "Are you there?", 4).await;
    answer.context("the pool that cannot be read")?;
    namespace.patch("ModelPool", "moving", tier("edge")).await?;
    super::serves(namespace, &["moving", "steady"]).await
}

async fn change(world: &World, change: Value) -> Result<()> {
    let change = json!([change]).to_string();
    let arguments = ["patch", DEFINITION, "--type=json", "--patch", &change];
    world.tool("kubectl", &arguments).await.map(drop)
}
