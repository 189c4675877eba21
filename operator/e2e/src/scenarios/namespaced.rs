//! An operator for one namespace, installed by somebody who is admin there and nothing anywhere else: their stack becomes Ready, and
//! nothing is looked at or touched in other namespaces.
//!
//! The operator of all namespaces stands aside meanwhile: two for one namespace would write the same objects.

use super::LOAD;
use super::manual::{OPERATIONS, READER};
use crate::operators;
use crate::page::Page;
use crate::told::say;
use crate::world::{Namespace, World};
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

/// The namespace and the person of docs/operations.md.
const TEAM: &str = "team";
const PERSON: &str = "ana";

pub(crate) async fn run(world: &World) -> Result<()> {
    operators::scale(world, 0).await?;
    let result = both(world).await;
    // The next scenarios need it, whatever came of this one.
    let there = operators::scale(world, 2).await;
    result.and(there)
}

async fn both(world: &World) -> Result<()> {
    let others = world.namespace("e2e-others").await?;
    let team = world.namespace(TEAM).await?;
    let result = steps(&team, &others).await;
    let result = team.finish(result).await;
    others.finish(result).await
}

async fn steps(team: &Namespace<'_>, others: &Namespace<'_>) -> Result<()> {
    let world = team.world;
    let from = Timestamp::now();
    others.apply(LOAD).await?;
    let admin = [
        "create",
        "rolebinding",
        PERSON,
        "--clusterrole=admin",
        "--user=ana",
        "--namespace",
        TEAM,
    ];
    world.tool("kubectl", &admin).await?;
    let lines = Page::read(&world.repository, OPERATIONS)?.block("Rights", 0)?;
    as_person(world, &lines).await.context("install")?;
    let authority = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hub-ca"},
        "data": {"ca.crt": world.hub.ca},
    });
    team.apply_object(&authority).await?;
    let engine = format!("engines.llamaCpp=weir.local/llama-server:{}", world.tag);
    let lines = format!(
        "helm upgrade weir charts/weir --namespace {TEAM} --reset-then-reuse-values --wait \
         --set caBundle.configMap=hub-ca,{engine}"
    );
    as_person(world, &lines).await.context("upgrade")?;

    super::serve_load(team).await?;
    let gateway = team.gateway(super::GATEWAY, None).await?;
    gateway.chat("steady", "Are you there?", 4).await?;
    untouched(others).await.context("another namespace")?;
    let calls = calls(world, from)?;
    say!("{} calls of its operator, all in {TEAM}", calls.len());
    ensure!(
        calls.iter().any(|call| call["verb"] == "watch"),
        "the audit log shows nothing that it reads"
    );
    for call in &calls {
        ensure!(
            call["responseStatus"]["code"] != 403 && call["objectRef"]["namespace"] == TEAM,
            "this call was refused, or of another namespace: {call}"
        );
    }

    let everything = format!("kubectl delete weir --all --namespace {TEAM} --timeout=60s");
    world.shell(&everything).await?;
    let lines = format!("helm uninstall weir --namespace {TEAM} --wait");
    as_person(world, &lines).await.context("uninstall")
}

/// Runs lines of a page; Helm is told to be that person, whom nobody made beyond their name.
async fn as_person(world: &World, lines: &str) -> Result<()> {
    let lines = format!("export HELM_KUBEASUSER={PERSON}\n{READER}{lines}");
    let ended = tokio::time::timeout(Duration::from_secs(300), world.shell(&lines)).await;
    ended.context("the lines do not end")?.map(drop)
}

/// A stack that nobody looks at has no status, and nothing was made for it.
async fn untouched(namespace: &Namespace<'_>) -> Result<()> {
    for (kind, name) in [("ModelPool", "steady"), ("InferenceGateway", "load")] {
        let object = namespace.weir(kind).await?.get(name).await?;
        ensure!(
            object.data["status"].is_null(),
            "{kind} {name} has the status {}",
            object.data["status"]
        );
    }
    let made = ["-n", &namespace.name, "get", "all", "-o", "name"];
    let made = namespace.world.tool("kubectl", &made).await?;
    ensure!(made.trim().is_empty(), "something was made: {made}");
    Ok(())
}

/// What the operator of the namespace asked the API server for since then, as the audit log has it: of this namespace's accounts
/// reads are in it too.
fn calls(world: &World, from: Timestamp) -> Result<Vec<Value>> {
    let account = format!("system:serviceaccount:{TEAM}:weir-operator");
    let text = std::fs::read_to_string(world.audit_log()).context("read the audit log")?;
    let entries = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_its = |entry: &Value| {
        let at = entry["requestReceivedTimestamp"].as_str();
        let at = at.and_then(|at| at.parse::<Timestamp>().ok());
        entry["user"]["username"] == account.as_str() && at.is_some_and(|at| at >= from)
    };
    Ok(entries.filter(is_its).collect())
}
