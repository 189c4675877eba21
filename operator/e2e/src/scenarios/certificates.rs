//! Certificates of a gateway whose time is over, or nearly: the operator issues new ones, and the gateway goes on.
//!
//! They are signed here by the operator's own authority and put into the gateway's Secret, so that age is all that is wrong with
//! them. Parts of the scenario `damage`.

use crate::ask::Gateway;
use crate::world::{Namespace, SYSTEM};
use anyhow::{Context, Result};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, SystemTime};

const SECRET: &str = "load-gateway-tls";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// While an operator runs: what has expired is replaced at once, and what is in the last third of its life too.
pub(super) async fn old(namespace: &Namespace<'_>) -> Result<()> {
    let now = SystemTime::now();
    for (what, ends) in [
        ("an expired one", now - 10 * DAY),
        ("one that expires in ten days", now + 10 * DAY),
    ] {
        let put = put(namespace, (now - 80 * DAY, ends)).await?;
        renewed(namespace, &put).await.context(what)?;
    }
    namespace
        .ready(("InferenceGateway", "load"), ("True", ""), 60)
        .await
        .map(drop)
}

/// While none runs: the certificate that the gateway's processes hold expires. Gives that certificate.
pub(super) async fn expire(namespace: &Namespace<'_>) -> Result<String> {
    let now = SystemTime::now();
    let expired = put(namespace, (now - 100 * DAY, now - 10 * DAY)).await?;
    arrives(namespace, &expired).await?;
    Ok(expired)
}

/// With an operator again: another certificate comes in its place, and with it the gateway hears of a new pool.
pub(super) async fn heal(
    namespace: &Namespace<'_>,
    gateway: &Gateway,
    expired: &str,
) -> Result<()> {
    let renewed = renewed(namespace, expired).await?;
    arrives(namespace, &renewed).await?;
    namespace.apply(super::LOAD).await?;
    super::serves(namespace, &["moving"]).await?;
    super::asks_moving(namespace, gateway).await
}

/// Puts a certificate of this life into the gateway's Secret.
async fn put(namespace: &Namespace<'_>, life: (SystemTime, SystemTime)) -> Result<String> {
    let client = &namespace.world.client;
    let authority: Api<Secret> = Api::namespaced(client.clone(), SYSTEM);
    let signs = entry(&authority.get("weir-ca").await?, "tls.key")?;
    let uri = format!("weir://{}/gateway/load", namespace.name);
    let (certificate, key) = issue(&signs, &uri, life)?;
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace.name);
    let mut secret = api.get(SECRET).await?;
    secret.metadata.managed_fields = None;
    secret.metadata.resource_version = None;
    let entries = [("tls.crt", certificate.clone()), ("tls.key", key)];
    let entries = entries.map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes())));
    secret.data.get_or_insert_default().extend(entries);
    // Another author would be a conflict, which the operator settles only once.
    let params = PatchParams::apply("weir.dev/operator").force();
    api.patch(SECRET, &params, &Patch::Apply(&secret)).await?;
    Ok(certificate)
}

/// Waits until another certificate is in the Secret than this one; that one.
async fn renewed(namespace: &Namespace<'_>, old: &str) -> Result<String> {
    let api: Api<Secret> = Api::namespaced(namespace.world.client.clone(), &namespace.name);
    let renewed = namespace.world.until(Duration::from_secs(60), async || {
        let now = entry(&api.get(SECRET).await?, "tls.crt")?;
        Ok((now != old).then_some(now))
    });
    renewed.await.context("it is not renewed")
}

/// Waits until each process of the gateway has this certificate in its folder. The kubelet looks every minute, and at once when
/// a pod's annotations change. The node is this machine.
async fn arrives(namespace: &Namespace<'_>, certificate: &str) -> Result<()> {
    let world = namespace.world;
    let pods = namespace.pods("weir.dev/gateway=load").await?;
    let api: Api<Pod> = Api::namespaced(world.client.clone(), &namespace.name);
    let looked = Patch::Merge(json!({
        "metadata": {"annotations": {"e2e.weir.dev/look": Timestamp::now().to_string()}},
    }));
    for pod in &pods {
        api.patch(&pod.name_any(), &PatchParams::default(), &looked)
            .await?;
    }
    let has = |pod: &Pod| {
        let file = format!(
            "pods/{}/volumes/kubernetes.io~secret/tls/tls.crt",
            pod.uid().unwrap_or_default()
        );
        holds(&world.kubelet().join(file), certificate)
    };
    let arrived = world.until(Duration::from_secs(180), async || {
        Ok(pods.iter().all(has).then_some(()))
    });
    arrived
        .await
        .context("the certificate does not arrive in the pods of the gateway")
}

fn holds(file: &Path, text: &str) -> bool {
    std::fs::read_to_string(file).is_ok_and(|found| found == text)
}

fn entry(secret: &Secret, name: &str) -> Result<String> {
    let data = secret.data.as_ref().and_then(|data| data.get(name));
    let bytes = data.with_context(|| format!("the Secret has no {name}"))?;
    Ok(String::from_utf8(bytes.0.clone())?)
}

/// A certificate of the operator's authority, whose key is given, for `uri`, with its own key.
fn issue(
    authority: &str,
    uri: &str,
    (begins, ends): (SystemTime, SystemTime),
) -> Result<(String, String)> {
    let mut issuer = rcgen::CertificateParams::default();
    issuer.distinguished_name = rcgen::DistinguishedName::new();
    issuer
        .distinguished_name
        .push(rcgen::DnType::CommonName, "weir");
    issuer.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let issuer = rcgen::Issuer::new(issuer, rcgen::KeyPair::from_pem(authority)?);
    let key = rcgen::KeyPair::generate()?;
    let mut leaf = rcgen::CertificateParams::default();
    leaf.not_before = begins.into();
    leaf.not_after = ends.into();
    leaf.use_authority_key_identifier_extension = true;
    leaf.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into()?)];
    let leaf = leaf.signed_by(&key, &issuer)?;
    Ok((leaf.pem(), key.serialize_pem()))
}
