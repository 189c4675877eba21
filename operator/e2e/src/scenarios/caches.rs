//! Downloads stay on a claim or a folder of the node, a model is read where it lies, and a full disk is told and mended.

use crate::told::say;
use crate::world::{Namespace, World, conditions};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::Api;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::process::Command;

/// The same file under two paths, so that the hub's record tells who asked.
const OF_CLAIM: &str = "/models//tiny-random.gguf";
const OF_NODE: &str = "/models///tiny-random.gguf";
/// A disk of the node that is too small for the model.
const FOLDER: &str = "/run/weir-e2e-cache";

pub(crate) async fn run(world: &World) -> Result<()> {
    // Folders of the node are beyond the level that every other scenario keeps to.
    let namespace = world.namespace_with("e2e-caches", "privileged").await?;
    // What a run that was killed has left.
    let _ = host(&["umount", FOLDER]).await;
    let result = steps(&namespace).await;
    let result = namespace.finish(result).await;
    let _ = host(&["umount", FOLDER]).await;
    let _ = std::fs::remove_dir(FOLDER);
    result
}

async fn steps(namespace: &Namespace<'_>) -> Result<()> {
    let file = on_a_claim(namespace).await.context("on a claim")?;
    in_place(namespace, &file).await.context("in place")?;
    on_a_full_disk(namespace).await.context("on a full disk")
}

fn pool(name: &str, source: &str, cache: &Value) -> Value {
    json!({
        "apiVersion": weir_crds::API_VERSION, "kind": "ModelPool", "metadata": {"name": name},
        "spec": {
            "model": {"name": name, "source": source}, "tier": "edge", "privacy": "local",
            "engine": {"llamaCpp": {"contextTokens": 512, "slots": 1, "threads": 1}},
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
            "cache": cache,
        },
    })
}

/// A pod that is replaced downloads nothing again; the file's path on the claim.
async fn on_a_claim(namespace: &Namespace<'_>) -> Result<String> {
    let world = namespace.world;
    let storage = json!({"requests": {"storage": "64Mi"}});
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "models"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": storage},
    });
    namespace.apply_object(&claim).await?;
    let source = format!("{}{OF_CLAIM}", world.hub.url);
    let cache = json!({"pvc": {"name": "models"}});
    namespace
        .apply_object(&pool("kept", &source, &cache))
        .await?;
    namespace
        .ready(("ModelPool", "kept"), ("True", ""), 120)
        .await?;
    downloads_nothing(namespace, "kept", OF_CLAIM).await?;
    let api: Api<Deployment> = Api::namespaced(world.client.clone(), &namespace.name);
    let spec = api.get("kept-engine").await?.spec.unwrap_or_default();
    let pod = spec.template.spec.unwrap_or_default();
    let args = pod
        .containers
        .first()
        .and_then(|engine| engine.args.clone());
    let mut args = args.unwrap_or_default().into_iter();
    let file = args.find_map(|arg| Some(arg.strip_prefix("/var/lib/weir/models/")?.to_owned()));
    file.context("the engine is given no file")
}

/// A source on a claim is read where it is, by an engine that serves the same model.
async fn in_place(namespace: &Namespace<'_>, file: &str) -> Result<()> {
    let source = format!("pvc://models/{file}");
    let cache = json!({"ephemeral": {}});
    namespace
        .apply_object(&pool("placed", &source, &cache))
        .await?;
    let placed = namespace
        .ready(("ModelPool", "placed"), ("True", ""), 120)
        .await?;
    let kept = namespace.weir("ModelPool").await?.get("kept").await?;
    let digest = |pool: &kube::api::DynamicObject| pool.data["status"]["model"]["digest"].clone();
    ensure!(
        digest(&placed).is_string() && digest(&placed) == digest(&kept),
        "{} and {} are one file",
        digest(&placed),
        digest(&kept)
    );
    Ok(())
}

/// The model does not fit: the pool says what to do, and goes on when the disk has grown.
async fn on_a_full_disk(namespace: &Namespace<'_>) -> Result<()> {
    std::fs::create_dir_all(FOLDER)?;
    let small = "size=256k,mode=0777";
    host(&["mount", "-t", "tmpfs", "-o", small, "weir-e2e", FOLDER]).await?;
    let source = format!("{}{OF_NODE}", namespace.world.hub.url);
    let cache = json!({"hostPath": {"path": FOLDER}});
    namespace
        .apply_object(&pool("full", &source, &cache))
        .await?;
    let full = namespace
        .ready(("ModelPool", "full"), ("False", "FetchFailed"), 90)
        .await?;
    let told = conditions(&full);
    say!("{told}");
    ensure!(
        told.contains("no space is left") && told.contains("spec.cache"),
        "the condition does not say what to do: {told}"
    );
    host(&["mount", "-o", "remount,size=16m", FOLDER]).await?;
    namespace
        .ready(("ModelPool", "full"), ("True", ""), 180)
        .await?;
    downloads_nothing(namespace, "full", OF_NODE).await
}

/// Replaces the pod of a pool; the next one finds the model.
async fn downloads_nothing(namespace: &Namespace<'_>, pool: &str, path: &str) -> Result<()> {
    let world = namespace.world;
    let label = format!("weir.dev/pool={pool}");
    let before = namespace.pods(&label).await?;
    let former: Vec<String> = before.iter().filter_map(ResourceExt::uid).collect();
    world.hub.forget().await?;
    namespace.delete_pods(&label, true).await?;
    let is_next = |pod: &Pod| {
        let conditions = pod.status.iter().flat_map(|status| &status.conditions);
        let mut conditions = conditions.flatten();
        let ready = conditions.any(|one| one.type_ == "Ready" && one.status == "True");
        ready && pod.uid().is_some_and(|uid| !former.contains(&uid))
    };
    let next = world.until(Duration::from_secs(120), async || {
        let pods = namespace.pods(&label).await?;
        Ok(pods.iter().any(is_next).then_some(()))
    });
    next.await
        .with_context(|| format!("{pool} gets no other pod"))?;
    let sent = world.hub.sent(path).await?;
    ensure!(
        sent == 0,
        "{sent} bytes of the model were downloaded again for {pool}"
    );
    Ok(())
}

/// Runs a command on the node, which is this machine.
async fn host(command: &[&str]) -> Result<()> {
    let ended = Command::new(command[0]).args(&command[1..]).output().await;
    let ended = ended.with_context(|| format!("run {}", command[0]))?;
    ensure!(
        ended.status.success(),
        "{}: {}",
        command.join(" "),
        String::from_utf8_lossy(&ended.stderr)
    );
    Ok(())
}
