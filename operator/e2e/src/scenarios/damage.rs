//! What others break is repaired, or told where it cannot be: fields, statuses, certificates, dependencies. All of it under load.

use crate::operators;
use crate::world::{Namespace, SYSTEM, World, conditions};
use anyhow::{Context, Result, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) async fn run(world: &World) -> Result<()> {
    let namespace = world.namespace("e2e-damage").await?;
    let result = steps(&namespace).await;
    namespace.finish(result).await
}

async fn steps(namespace: &Namespace<'_>) -> Result<()> {
    super::serve_load(namespace).await?;
    let (_, load) = super::steady_load(namespace).await?;
    another_manager(namespace)
        .await
        .context("another field manager")?;
    a_lost_status(namespace).await.context("a lost status")?;
    an_expired_certificate(namespace)
        .await
        .context("an expired certificate")?;
    wrong_dimensions(namespace)
        .await
        .context("wrong dimensions")?;
    nothing_to_depend_on(namespace)
        .await
        .context("missing dependencies")?;
    let without = without_an_operator(namespace).await;
    // The next scenarios need it, whatever came of this one.
    let there = operators::scale(namespace.world, 2).await;
    without.context("without an operator").and(there)?;
    namespace
        .ready(("InferenceGateway", "load"), ("True", ""), 120)
        .await?;
    let total = load.end().await?;
    println!("    {total} requests, none failed");
    Ok(())
}

/// A first change of a field of Weir's is undone and told; who insists is told to stop, and not fought.
async fn another_manager(namespace: &Namespace<'_>) -> Result<()> {
    let takes = |spec: Value| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "steady-engine"}, "spec": spec,
        })
    };
    let taken = takes(json!({"revisionHistoryLimit": 7}));
    namespace.apply_as("somebody", &taken).await?;
    undone(namespace).await.context("the first time")?;
    let told = namespace.world.until(Duration::from_secs(30), async || {
        let events = namespace.events("ModelPool", "steady").await?;
        Ok(events.contains(&"DriftCorrected".to_owned()).then_some(()))
    });
    told.await.context("no Event tells of it")?;
    namespace.apply_as("somebody", &taken).await?;
    let pool = namespace
        .ready(("ModelPool", "steady"), ("False", "Refused"), 60)
        .await?;
    let told = conditions(&pool);
    ensure!(
        told.contains("FieldConflict") && told.contains("revisionHistoryLimit"),
        "the conditions do not say who conflicts: {told}"
    );
    // A manager that applies without the field gives it up.
    namespace.apply_as("somebody", &takes(json!({}))).await?;
    namespace
        .ready(("ModelPool", "steady"), ("True", ""), 120)
        .await?;
    undone(namespace).await.context("after it was given up")
}

async fn undone(namespace: &Namespace<'_>) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(namespace.world.client.clone(), &namespace.name);
    let undone = namespace.world.until(Duration::from_secs(60), async || {
        let spec = api.get("steady-engine").await?.spec.unwrap_or_default();
        Ok((spec.revision_history_limit == Some(2)).then_some(()))
    });
    undone.await.context("the field stays changed")
}

/// A restore brings back what people wrote and nothing else.
async fn a_lost_status(namespace: &Namespace<'_>) -> Result<()> {
    for (kind, name, field) in [
        ("ModelPool", "steady", "readyReplicas"),
        ("InferenceGateway", "load", "router"),
    ] {
        let api = namespace.weir(kind).await?;
        let before = api.get(name).await?.data["status"][field].clone();
        let lost = Patch::Merge(json!({"status": null}));
        api.patch_status(name, &PatchParams::default(), &lost)
            .await?;
        let rebuilt = namespace.world.until(Duration::from_secs(60), async || {
            let status = api.get(name).await?.data["status"].clone();
            Ok((!before.is_null() && status[field] == before).then_some(()))
        });
        rebuilt
            .await
            .with_context(|| format!("status.{field} of {kind}/{name} does not become {before}"))?;
        namespace.ready((kind, name), ("True", ""), 60).await?;
    }
    Ok(())
}

/// A certificate whose time is over is replaced, and the gateway goes on.
async fn an_expired_certificate(namespace: &Namespace<'_>) -> Result<()> {
    let client = &namespace.world.client;
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace.name);
    let authority: Api<Secret> = Api::namespaced(client.clone(), SYSTEM);
    let signs = entry(&authority.get("weir-ca").await?, "tls.key")?;
    let (certificate, key) = expired(&signs, "weir://e2e-damage/gateway/load")?;
    let (certificate, key) = (
        ByteString(certificate.into_bytes()),
        ByteString(key.into_bytes()),
    );
    let put = certificate.0.clone();
    let patch = Patch::Merge(json!({"data": {"tls.crt": certificate, "tls.key": key}}));
    api.patch("load-gateway-tls", &PatchParams::default(), &patch)
        .await?;
    let renewed = namespace.world.until(Duration::from_secs(60), async || {
        let now = entry(&api.get("load-gateway-tls").await?, "tls.crt")?;
        Ok((now.as_bytes() != put).then_some(()))
    });
    renewed.await.context("it is not renewed")?;
    namespace
        .ready(("InferenceGateway", "load"), ("True", ""), 60)
        .await
        .map(drop)
}

fn entry(secret: &Secret, name: &str) -> Result<String> {
    let data = secret.data.as_ref().and_then(|data| data.get(name));
    let bytes = data.with_context(|| format!("the Secret has no {name}"))?;
    Ok(String::from_utf8(bytes.0.clone())?)
}

/// A certificate of the operator's authority, whose key is given, for `uri`, as it was in 2020; with its own key.
fn expired(authority: &str, uri: &str) -> Result<(String, String)> {
    let mut issuer = rcgen::CertificateParams::default();
    issuer.distinguished_name = rcgen::DistinguishedName::new();
    issuer
        .distinguished_name
        .push(rcgen::DnType::CommonName, "weir");
    issuer.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let issuer = rcgen::Issuer::new(issuer, rcgen::KeyPair::from_pem(authority)?);
    let key = rcgen::KeyPair::generate()?;
    let mut leaf = rcgen::CertificateParams::default();
    leaf.not_before = rcgen::date_time_ymd(2020, 1, 1);
    leaf.not_after = rcgen::date_time_ymd(2020, 4, 1);
    leaf.use_authority_key_identifier_extension = true;
    leaf.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into()?)];
    let leaf = leaf.signed_by(&key, &issuer)?;
    Ok((leaf.pem(), key.serialize_pem()))
}

/// An embedder that makes other vectors than the store is declared for.
async fn wrong_dimensions(namespace: &Namespace<'_>) -> Result<()> {
    let source = format!("{}/models/all-minilm-l6-v2", namespace.world.hub.url);
    let store = json!({
        "apiVersion": weir_crds::API_VERSION, "kind": "MemoryStore", "metadata": {"name": "odd"},
        "spec": {
            "embedding": {"model": "all-minilm-l6-v2", "source": source, "dimensions": 512},
            "store": {"embedded": {"storage": "1Gi", "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}}}},
            "deletionPolicy": "Delete",
        },
    });
    namespace.apply_object(&store).await?;
    let store = namespace
        .ready(("MemoryStore", "odd"), ("False", "CrashLoop"), 120)
        .await?;
    let told = conditions(&store);
    println!("    {told}");
    ensure!(
        told.contains("384 dimensions, the store holds 512"),
        "the condition does not say what does not fit: {told}"
    );
    namespace.delete("MemoryStore", "odd").await
}

/// What refers to nothing says so, and goes when it is told to.
async fn nothing_to_depend_on(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply_object(&orphan()).await?;
    let gateway = namespace
        .ready(("InferenceGateway", "orphan"), ("False", ""), 60)
        .await?;
    println!("    {}", conditions(&gateway));
    namespace.delete("InferenceGateway", "orphan").await
}

fn orphan() -> Value {
    json!({
        "apiVersion": weir_crds::API_VERSION, "kind": "InferenceGateway", "metadata": {"name": "orphan"},
        "spec": {
            "pools": {"matchLabels": {"weir.dev/stack": "nowhere"}}, "memory": "gone",
            "router": {"version": "gone"}, "auth": {"apiKeysSecretRef": {"name": "gone"}},
        },
    })
}

/// Deletion waits for nobody: what goes while no operator runs goes all the same, with everything that was made for it.
async fn without_an_operator(namespace: &Namespace<'_>) -> Result<()> {
    operators::scale(namespace.world, 0).await?;
    namespace.delete("ModelPool", "moving").await?;
    let left = namespace.world.until(Duration::from_secs(90), async || {
        let label = "weir.dev/pool=moving";
        let kinds = "deployments,services,networkpolicies,poddisruptionbudgets,configmaps";
        let arguments = [
            "-n",
            &namespace.name,
            "get",
            kinds,
            "-l",
            label,
            "-o",
            "name",
        ];
        let left = namespace.world.tool("kubectl", &arguments).await?;
        Ok(left.trim().is_empty().then_some(()))
    });
    left.await.context("objects stay behind their owner")
}
