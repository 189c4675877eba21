//! Every kind of mistake is told by a condition and an Event, and mended without a restart.

use crate::told::say;
use crate::world::{Namespace, World};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::Duration;
use weir_e2e::outside::Manner;

const KEY: &str = "e2e-key-0123456789abcdef0123456789abcdef";

pub(crate) async fn run(world: &World) -> Result<()> {
    let namespace = world.namespace("e2e-mistakes").await?;
    let result = steps(&namespace).await;
    let mended = world.hub.mend().await;
    namespace.finish(result.and(mended)).await
}

async fn steps(namespace: &Namespace<'_>) -> Result<()> {
    super::serve_load(namespace).await?;
    a_missing_secret(namespace)
        .await
        .context("a missing Secret")?;
    two_pools_of_one_name(namespace)
        .await
        .context("two pools of one name")?;
    a_wrong_checksum(namespace)
        .await
        .context("a wrong checksum")?;
    an_unreachable_source(namespace)
        .await
        .context("an unreachable source")?;
    a_slow_source(namespace).await.context("a slow source")?;
    a_refused_key(namespace).await.context("a refused key")?;
    a_spec_that_is_refused(namespace)
        .await
        .context("a spec that is refused")?;
    a_reverted_update(namespace)
        .await
        .context("a reverted update")?;
    a_forbidden_folder(namespace)
        .await
        .context("a forbidden folder")?;
    an_artifact_at_an_address(namespace)
        .await
        .context("an artifact at an address")?;
    a_paused_pool(namespace).await.context("a paused pool")
}

/// What lies at an address comes from allowed hosts alone, and is nothing before it is what was meant.
async fn an_artifact_at_an_address(namespace: &Namespace<'_>) -> Result<()> {
    const FILE: &str = "/models/all-minilm-l6-v2/config.json";
    let hub = &namespace.world.hub;
    let digest = hex::encode(Sha256::digest(hub.file(FILE).await?));
    let (hub, other) = (&hub.url, "0".repeat(64));
    for (name, url, sha256, reason) in [
        (
            "elsewhere",
            "https://models.example.com/router.onnx",
            &other,
            "HostNotAllowed",
        ),
        (
            "away",
            &format!("{hub}{FILE}?status=503"),
            &digest,
            "FetchFailed",
        ),
        ("another", &format!("{hub}{FILE}"), &other, "DigestMismatch"),
        (
            "no-router",
            &format!("{hub}{FILE}"),
            &digest,
            "NotAnArtifact",
        ),
    ] {
        namespace
            .apply_object(&json!({
                "apiVersion": weir_crds::API_VERSION, "kind": "RouterVersion", "metadata": {"name": name},
                "spec": {"artifact": {"url": url}, "sha256": sha256},
            }))
            .await?;
        namespace
            .ready(("RouterVersion", name), ("False", reason), 60)
            .await?;
        namespace.delete("RouterVersion", name).await?;
    }
    Ok(())
}

/// The gateway serves on with what it has while its new keys are missing.
async fn a_missing_secret(namespace: &Namespace<'_>) -> Result<()> {
    let auth =
        json!({"spec": {"auth": {"anonymous": null, "apiKeysSecretRef": {"name": "absent"}}}});
    namespace.patch("InferenceGateway", "load", auth).await?;
    let gateway = namespace
        .ready(
            ("InferenceGateway", "load"),
            ("False", "SecretNotFound"),
            60,
        )
        .await?;
    let told = crate::world::conditions(&gateway);
    ensure!(
        told.contains("absent"),
        "the condition names no Secret: {told}"
    );
    let labels = json!({"weir.dev/watch": "true"});
    namespace
        .secret("absent", labels, ("acme.e2e", KEY))
        .await?;
    namespace
        .ready(("InferenceGateway", "load"), ("True", ""), 60)
        .await?;
    an_entry_that_is_no_key(namespace)
        .await
        .context("an entry that is no key")?;
    let auth = json!({"spec": {"auth": {"anonymous": {}, "apiKeysSecretRef": null}}});
    namespace.patch("InferenceGateway", "load", auth).await?;
    namespace
        .ready(("InferenceGateway", "load"), ("True", ""), 60)
        .await?;
    // The status may say so before gateways do, and the next mistake would keep them at the plan that they have.
    let gateway = namespace.gateway("load", None).await?;
    let opened = namespace.world.until(Duration::from_secs(60), async || {
        let question = json!({"model": "steady", "max_tokens": 2, "messages": [{"role": "user", "content": "Are you there?"}]});
        let (status, _) = gateway.try_post("/v1/chat/completions", &question).await?;
        Ok((status == 200).then_some(()))
    });
    opened.await.context("nobody gets in without a key")
}

/// The other entries are keys all the same, also one that came with it.
async fn an_entry_that_is_no_key(namespace: &Namespace<'_>) -> Result<()> {
    let other = KEY.replace("e2e", "new");
    let keys = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "absent", "labels": {"weir.dev/watch": "true"}},
        "stringData": {"acme.e2e": KEY, "acme.phone.write": "a-key-that-opens-nothing", "acme.other": other},
    });
    namespace.apply_object(&keys).await?;
    let api = namespace.weir("InferenceGateway").await?;
    let left_out = namespace.world.until(Duration::from_secs(60), async || {
        let told = crate::world::conditions(&api.get("load").await?);
        let named = told.contains("KeysAccepted=False") && told.contains("acme.phone.write");
        Ok(named.then_some(told))
    });
    let told = left_out.await.context("no condition names the entry")?;
    ensure!(
        !told.contains("opens-nothing"),
        "a condition shows a key: {told}"
    );
    let gateway = namespace.gateway("load", Some(&other)).await?;
    let question = json!({"model": "steady", "max_tokens": 2, "messages": [{"role": "user", "content": "Are you there?"}]});
    let answers = async |key: &str| {
        let holder = gateway.with_key(key);
        let (status, _) = holder.try_post("/v1/chat/completions", &question).await?;
        Ok::<_, anyhow::Error>(status.as_u16())
    };
    let reached = namespace.world.until(Duration::from_secs(60), async || {
        Ok((answers(&other).await? == 200).then_some(()))
    });
    reached.await.context("the new key is not taken over")?;
    ensure!(answers(KEY).await? == 200, "the old key is refused");
    let opened = answers("a-key-that-opens-nothing").await?;
    ensure!(
        opened == 401,
        "an entry that is no key is answered {opened}"
    );
    namespace
        .ready(("InferenceGateway", "load"), ("True", ""), 60)
        .await
        .map(drop)
}

async fn two_pools_of_one_name(namespace: &Namespace<'_>) -> Result<()> {
    let twin = json!({
        "apiVersion": weir_crds::API_VERSION, "kind": "ModelPool",
        "metadata": {"name": "twin", "labels": {"weir.dev/stack": "load"}},
        "spec": {
            "model": {"name": "steady"}, "tier": "server", "privacy": "local",
            "engine": {"external": {"url": "https://twin.invalid"}},
        },
    });
    namespace.apply_object(&twin).await?;
    namespace
        .ready(
            ("InferenceGateway", "load"),
            ("False", "DuplicateModel"),
            60,
        )
        .await?;
    let gateway = namespace.gateway("load", None).await?;
    gateway
        .chat("steady", "Are you there?", 2)
        .await
        .context("what was served is served on")?;
    let api = namespace.weir("ModelPool").await?;
    api.delete("twin", &kube::api::DeleteParams::default())
        .await?;
    namespace
        .ready(("InferenceGateway", "load"), ("True", ""), 60)
        .await
        .map(drop)
}

/// A further pool of the random model, outside of the gateway's selection.
fn another(name: &str, source: &str, sha256: Option<&str>) -> Value {
    let mut pool = json!({
        "apiVersion": weir_crds::API_VERSION, "kind": "ModelPool", "metadata": {"name": name},
        "spec": {
            "model": {"name": name, "source": source}, "tier": "edge", "privacy": "local",
            "engine": {"llamaCpp": {"contextTokens": 512, "slots": 1, "threads": 1}},
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        },
    });
    if let Some(sha256) = sha256 {
        pool["spec"]["model"]["sha256"] = sha256.into();
    }
    pool
}

/// Changes a pool so that it can serve, and waits for at most so many seconds until it does.
async fn serves_when(
    namespace: &Namespace<'_>,
    pool: &str,
    mended: Value,
    within: u64,
) -> Result<()> {
    namespace.patch("ModelPool", pool, mended).await?;
    let ready = namespace.ready(("ModelPool", pool), ("True", ""), within);
    ready.await.map(drop)
}

async fn a_wrong_checksum(namespace: &Namespace<'_>) -> Result<()> {
    let source = format!("{}/models/tiny-random.gguf", namespace.world.hub.url);
    let wrong = "0".repeat(64);
    namespace
        .apply_object(&another("checked", &source, Some(&wrong)))
        .await?;
    let pool = namespace
        .ready(("ModelPool", "checked"), ("False", "FetchFailed"), 90)
        .await?;
    let told = crate::world::conditions(&pool);
    ensure!(
        told.contains(&wrong),
        "the condition does not say which sum was expected: {told}"
    );
    let mended = json!({"spec": {"model": {"sha256": null}}});
    serves_when(namespace, "checked", mended, 90).await
}

async fn an_unreachable_source(namespace: &Namespace<'_>) -> Result<()> {
    let world = namespace.world;
    // No other scenario downloads from there.
    let path = "/models////tiny-random.gguf";
    world.hub.fault(path, json!({"status": 503})).await?;
    let source = format!("{}{path}", world.hub.url);
    namespace
        .apply_object(&another("away", &source, None))
        .await?;
    let pool = namespace
        .ready(("ModelPool", "away"), ("False", "FetchFailed"), 90)
        .await?;
    let told = crate::world::conditions(&pool);
    ensure!(
        told.contains("503"),
        "the condition does not say what the server answered: {told}"
    );
    world.hub.mend().await?;
    namespace
        .ready(("ModelPool", "away"), ("True", ""), 120)
        .await?;

    let nowhere = another("nowhere", "https://models.invalid/tiny-random.gguf", None);
    namespace.apply_object(&nowhere).await?;
    let pool = namespace
        .ready(("ModelPool", "nowhere"), ("False", "FetchFailed"), 90)
        .await?;
    let told = crate::world::conditions(&pool);
    ensure!(
        told.contains("models.invalid"),
        "the condition does not say which host has no address: {told}"
    );
    let source = format!("{}/models/tiny-random.gguf", world.hub.url);
    let mended = json!({"spec": {"model": {"source": source}}});
    serves_when(namespace, "nowhere", mended, 120).await
}

/// A server outside is asked with the pool's key: that it is refused is told, and so is that nobody listens any more.
async fn a_refused_key(namespace: &Namespace<'_>) -> Result<()> {
    let server = namespace.world.outside(Manner::Locked(KEY)).await?;
    let labels = json!({"weir.dev/watch": "true"});
    let token = async |token: &str| {
        let entry = ("apiKey", token);
        namespace.secret("outside", labels.clone(), entry).await
    };
    token("another-key-0123456789abcdef").await?;
    let pool = json!({
        "apiVersion": weir_crds::API_VERSION, "kind": "ModelPool", "metadata": {"name": "outside"},
        "spec": {
            "model": {"name": "outside"}, "tier": "server", "privacy": "cloud",
            "engine": {"external": {"url": server.url, "apiKeySecretRef": {"name": "outside"}}},
        },
    });
    namespace.apply_object(&pool).await?;
    let of = ("ModelPool", "outside");
    namespace.ready(of, ("False", "KeyRefused"), 30).await?;
    token(KEY).await?;
    namespace.ready(of, ("True", "External"), 30).await?;
    drop(server);
    namespace.ready(of, ("False", "Unreachable"), 30).await?;
    namespace.delete("ModelPool", "outside").await
}

/// A slow source is no mistake, but looks like one unless whoever waits sees how far the download is.
async fn a_slow_source(namespace: &Namespace<'_>) -> Result<()> {
    let world = namespace.world;
    let path = "/models/smollm2-135m-instruct-q4_1.gguf";
    // Numbers are written every thirty seconds at most: the download must still run at the second look.
    let slow = json!({"bytesPerSecond": 2 << 20});
    world.hub.fault(path, slow).await?;
    let source = format!("{}{path}", world.hub.url);
    namespace
        .apply_object(&another("slow", &source, None))
        .await?;
    let api = namespace.weir("ModelPool").await?;
    let mut seen = 0;
    for _ in 0..2 {
        let further = world.until(Duration::from_secs(60), async || {
            let pool = api.get("slow").await?;
            let bytes = pool.data["status"]["model"]["downloadedBytes"].as_u64();
            Ok(bytes.filter(|bytes| *bytes > seen).map(|_| pool))
        });
        let pool = further
            .await
            .with_context(|| format!("status.model.downloadedBytes does not exceed {seen}"))?;
        let model = &pool.data["status"]["model"];
        seen = model["downloadedBytes"].as_u64().unwrap_or_default();
        let told = crate::world::conditions(&pool);
        say!("{model} {told}");
        ensure!(
            told.contains("ModelAvailable=False Downloading"),
            "while {model}: {told}"
        );
    }
    world.hub.mend().await?;
    let pool = namespace
        .ready(("ModelPool", "slow"), ("True", ""), 120)
        .await?;
    let model = &pool.data["status"]["model"];
    ensure!(
        model["downloadedBytes"].is_null() && model["digest"].is_string(),
        "after the download, status.model is {model}"
    );
    Ok(())
}

async fn a_spec_that_is_refused(namespace: &Namespace<'_>) -> Result<()> {
    let refused = namespace
        .apply_object(&another("auto", "ftp://models/a.gguf", None))
        .await;
    let told = refused
        .err()
        .map(|error| format!("{error:#}"))
        .unwrap_or_default();
    ensure!(
        told.contains("hf://OWNER/REPO/FILE.gguf"),
        "the API server said {told:?}"
    );
    Ok(())
}

/// An update that cannot succeed is taken back half way: what serves is neither replaced nor deleted, and no request fails.
async fn a_reverted_update(namespace: &Namespace<'_>) -> Result<()> {
    let (_, load) = super::steady_load(namespace).await?;
    let before = namespace.pods("weir.dev/pool=steady").await?;
    let image = |image: Value| json!({"spec": {"engine": {"llamaCpp": {"image": image}}}});
    namespace
        .patch(
            "ModelPool",
            "steady",
            image(json!("weir.local/nowhere:dev")),
        )
        .await?;
    namespace
        .ready(("ModelPool", "steady"), ("False", "ImagePullFailed"), 90)
        .await?;
    namespace
        .patch("ModelPool", "steady", image(Value::Null))
        .await?;
    namespace
        .ready(("ModelPool", "steady"), ("True", ""), 120)
        .await?;
    let after = namespace.pods("weir.dev/pool=steady").await?;
    let stays = |pod: &Pod| {
        let mut after = after.iter();
        after.any(|one| one.uid() == pod.uid() && one.metadata.deletion_timestamp.is_none())
    };
    ensure!(
        before.iter().all(stays),
        "an engine that served was replaced"
    );
    let total = load.end().await?;
    say!("{total} requests, none failed");
    Ok(())
}

/// The namespace forbids folders of the node: the pool says so, and what to use instead.
async fn a_forbidden_folder(namespace: &Namespace<'_>) -> Result<()> {
    let source = format!("{}/models/tiny-random.gguf", namespace.world.hub.url);
    let mut pool = another("folder", &source, None);
    pool["spec"]["cache"] = json!({"hostPath": {"path": "/var/cache/weir-e2e"}});
    namespace.apply_object(&pool).await?;
    let pool = namespace
        .ready(("ModelPool", "folder"), ("False", "PodsRefused"), 60)
        .await?;
    let told = crate::world::conditions(&pool);
    ensure!(
        told.contains("use cache.pvc or cache.ephemeral"),
        "the condition does not say what to do: {told}"
    );
    let mended = json!({"spec": {"cache": {"hostPath": null, "ephemeral": {}}}});
    serves_when(namespace, "folder", mended, 120).await
}

async fn a_paused_pool(namespace: &Namespace<'_>) -> Result<()> {
    let pause = |value: Value| json!({"metadata": {"annotations": {"weir.dev/paused": value}}});
    namespace
        .patch("ModelPool", "moving", pause(json!("true")))
        .await?;
    namespace
        .patch("ModelPool", "moving", json!({"spec": {"replicas": 2}}))
        .await?;
    let paused = namespace.world.until(Duration::from_secs(60), async || {
        let pool = namespace.weir("ModelPool").await?.get("moving").await?;
        Ok(crate::world::conditions(&pool)
            .contains("Paused")
            .then_some(()))
    });
    paused.await.context("no condition says Paused")?;
    ensure!(
        namespace.pods("weir.dev/pool=moving").await?.len() == 1,
        "a paused pool was scaled"
    );
    namespace
        .patch("ModelPool", "moving", pause(json!(null)))
        .await?;
    let scaled = namespace.world.until(Duration::from_secs(60), async || {
        Ok((namespace.pods("weir.dev/pool=moving").await?.len() == 2).then_some(()))
    });
    scaled
        .await
        .context("what was changed while it was paused is not done afterwards")
}
