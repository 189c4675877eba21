//! What a gateway depends on goes and comes again under load: the memory falls silent; the MemoryStore, the RouterVersion and the
//! Secret of keys are deleted and made again; the kind of a route is not there yet. Each is told by a condition and mended without a
//! restart, and every request is answered with what was there last.

use super::damage::starts;
use super::{GATEWAY, LOOKS, serves};
use crate::ask::Gateway;
use crate::frozen::Frozen;
use crate::load::Load;
use crate::told::say;
use crate::world::{Namespace, World, conditions};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, DynamicObject};
use serde_json::json;
use std::time::Duration;
use weir_router::{Arm, ArmTable, Artifact};

pub(super) const STACK: &str = include_str!("../../stacks/dependencies.yaml");
const HTTP_ROUTE: &str = include_str!("../../stacks/http_route.yaml");
const KEY: &str = "e2e-key-0123456789abcdef0123456789abcdef";
const OF: (&str, &str) = ("InferenceGateway", GATEWAY);

pub(crate) async fn run(world: &World) -> Result<()> {
    let namespace = world.namespace("e2e-dependencies").await?;
    let result = steps(&namespace).await;
    let result = namespace.finish(result).await;
    forget_routes(world).await?;
    result
}

/// Applies the stack with all that it depends on, and waits until it is Ready.
pub(super) async fn serves_all(namespace: &Namespace<'_>) -> Result<()> {
    keys(namespace).await?;
    version(namespace).await?;
    namespace.apply(STACK).await?;
    serves(namespace, &["steady", "moving"]).await
}

async fn steps(namespace: &Namespace<'_>) -> Result<()> {
    serves_all(namespace).await?;
    let before = starts(namespace, "weir.dev/gateway").await?;
    let gateway = namespace.gateway(GATEWAY, Some(KEY)).await?;
    decides(&gateway).await?;
    let load = Load::start(&gateway, "auto", Duration::from_millis(100));
    a_silent_memory(namespace)
        .await
        .context("a silent memory")?;
    without_its_store(namespace)
        .await
        .context("no MemoryStore")?;
    without_its_version(namespace, &gateway)
        .await
        .context("no RouterVersion")?;
    without_its_keys(namespace, &gateway)
        .await
        .context("no Secret of keys")?;
    a_kind_that_comes_later(namespace)
        .await
        .context("no kind HTTPRoute")?;
    let total = load.end().await?;
    say!("{total} requests, none failed");
    let after = starts(namespace, "weir.dev/gateway").await?;
    ensure!(
        before == after,
        "starts of the gateway before: {before:?}, after: {after:?}"
    );
    everything_goes(namespace).await.context("deletion")
}

async fn keys(namespace: &Namespace<'_>) -> Result<()> {
    let labels = json!({"weir.dev/watch": "true"});
    namespace.secret("keys", labels, ("acme.e2e", KEY)).await
}

/// A version that always prefers the pool `moving`, which is the first of two of one size.
async fn version(namespace: &Namespace<'_>) -> Result<()> {
    let table = ArmTable::standard(2);
    let quality = |arm: &Arm| if arm.rank == 0 { 5.0 } else { 1.0 };
    let qualities: Vec<f32> = table.arms.iter().map(quality).collect();
    super::router_version(namespace, "chosen", &Artifact::constant(&table, &qualities)).await
}

/// The version decides in every process of the gateway.
async fn decides(gateway: &Gateway) -> Result<()> {
    for _ in 0..LOOKS {
        let answer = gateway.chat("auto", "Who decides?", 4).await?;
        let decided = &answer["weir"]["explain"]["router"]["version"];
        ensure!(
            answer["model"] == "moving" && decided == "chosen",
            "{decided} decided, and the answer is {answer}"
        );
    }
    Ok(())
}

/// Its process stands still: it neither answers nor breaks a connection.
async fn a_silent_memory(namespace: &Namespace<'_>) -> Result<()> {
    let frozen = Frozen::of(&namespace.pods("weir.dev/memory=kb").await?)?;
    let told = told(namespace, ("MemoryReady", "False", "")).await?;
    ensure!(
        told.contains("without recall"),
        "the condition does not say what becomes of answers: {told}"
    );
    drop(frozen);
    well(namespace, ("MemoryReady", "Ready")).await
}

async fn without_its_store(namespace: &Namespace<'_>) -> Result<()> {
    namespace.delete("MemoryStore", "kb").await?;
    told(namespace, ("MemoryReady", "False", "MemoryStoreNotFound")).await?;
    namespace.apply(STACK).await?;
    well(namespace, ("MemoryReady", "Ready")).await
}

/// What was verified decides on, for it is kept apart from what brought it.
async fn without_its_version(namespace: &Namespace<'_>, gateway: &Gateway) -> Result<()> {
    namespace.delete("RouterVersion", "chosen").await?;
    told(namespace, ("RouterReady", "False", "RouterVersionNotFound")).await?;
    decides(gateway).await?;
    version(namespace).await?;
    well(namespace, ("RouterReady", "Ready")).await?;
    decides(gateway).await
}

/// Its keys open for five more minutes, which the load uses.
async fn without_its_keys(namespace: &Namespace<'_>, gateway: &Gateway) -> Result<()> {
    let api: Api<Secret> = Api::namespaced(namespace.world.client.clone(), &namespace.name);
    api.delete("keys", &DeleteParams::default()).await?;
    let told = told(namespace, ("KeysAccepted", "Unknown", "SecretGone")).await?;
    ensure!(
        told.contains("create it again with the label"),
        "the condition does not say what to do: {told}"
    );
    decides(gateway).await?;
    keys(namespace).await?;
    well(namespace, ("KeysAccepted", "AllAccepted")).await
}

/// A route is asked for where there is no Gateway API; it is made when that comes, and goes when nobody asks for it.
async fn a_kind_that_comes_later(namespace: &Namespace<'_>) -> Result<()> {
    let world = namespace.world;
    let route = json!({"parentRef": {"name": "edge"}, "hostnames": ["ask.example.com"]});
    expose(namespace, route).await?;
    let told = told(namespace, ("Ready", "False", "Refused")).await?;
    ensure!(
        told.contains("KindMissing") && told.contains("HTTPRoute"),
        "the condition does not say what is missing: {told}"
    );
    define_routes(world).await?;
    well(namespace, ("Ready", "")).await?;
    let routes = namespace
        .api("gateway.networking.k8s.io/v1", "HTTPRoute")
        .await?;
    let made = routes.get("load-gateway").await?;
    let spec = &made.data["spec"];
    ensure!(
        spec["hostnames"] == json!(["ask.example.com"])
            && spec["rules"][0]["backendRefs"][0]["name"] == "load-gateway",
        "the route is {spec}"
    );
    expose(namespace, json!(null)).await?;
    let gone = world.until(Duration::from_secs(60), async || {
        Ok(routes
            .get_opt("load-gateway")
            .await?
            .is_none()
            .then_some(()))
    });
    gone.await.context("the route stays")
}

async fn expose(namespace: &Namespace<'_>, route: serde_json::Value) -> Result<()> {
    let patch = json!({"spec": {"expose": {"httpRoute": route}}});
    let patched = namespace.patch("InferenceGateway", GATEWAY, patch).await;
    patched.map(drop)
}

async fn define_routes(world: &World) -> Result<()> {
    let lines = format!("kubectl apply --filename - <<'DEFINITION'\n{HTTP_ROUTE}\nDEFINITION");
    world.shell(&lines).await.map(drop)
}

/// The cluster is left as it was found.
async fn forget_routes(world: &World) -> Result<()> {
    let name = "customresourcedefinition/httproutes.gateway.networking.k8s.io";
    let arguments = ["delete", name, "--ignore-not-found", "--timeout=60s"];
    world.tool("kubectl", &arguments).await.map(drop)
}

/// With nothing left that it depends on, a gateway goes when it is told to; so does each of them before it.
async fn everything_goes(namespace: &Namespace<'_>) -> Result<()> {
    let api: Api<Secret> = Api::namespaced(namespace.world.client.clone(), &namespace.name);
    api.delete("keys", &DeleteParams::default()).await?;
    for (kind, name) in [
        ("RouterVersion", "chosen"),
        ("MemoryStore", "kb"),
        ("ModelPool", "moving"),
        ("ModelPool", "steady"),
        OF,
    ] {
        namespace.delete(kind, name).await?;
    }
    Ok(())
}

/// Waits until a condition of the gateway tells of it; every condition.
async fn told(namespace: &Namespace<'_>, wanted: (&str, &str, &str)) -> Result<String> {
    let gateway: DynamicObject = namespace.becomes(OF, wanted, 90).await?;
    let told = conditions(&gateway);
    say!("{told}");
    Ok(told)
}

/// Waits until a condition of the gateway is true again, and `Ready` too.
async fn well(namespace: &Namespace<'_>, (condition, reason): (&str, &str)) -> Result<()> {
    namespace
        .becomes(OF, (condition, "True", reason), 180)
        .await?;
    namespace.ready(OF, ("True", ""), 60).await.map(drop)
}
