//! Certificates that a gateway shows to clients: two Secrets, and a third pair that one of them gets in its place.

use crate::ask::Gateway;
use crate::world::Namespace;
use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// The Secrets of the stack and of its change.
const SECRETS: [&str; 2] = ["first-certificate", "second-certificate"];
/// A kubelet brings a changed Secret into its pods once a minute or so.
const RENEWAL: Duration = Duration::from_secs(180);

/// A certificate with its key.
struct Pair {
    der: Vec<u8>,
    pem: String,
    key: String,
}

/// What is in which Secret.
pub(super) struct Certificates {
    given: Vec<(&'static str, Pair)>,
}

impl Pair {
    fn new() -> Result<Self> {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec!["secure.example".to_owned()])?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            der: certificate.der().to_vec(),
            pem: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    async fn put_into(&self, namespace: &Namespace<'_>, name: &str) -> Result<()> {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": name, "labels": {"weir.dev/watch": "true"}},
            "stringData": {"tls.crt": self.pem, "tls.key": self.key},
        });
        namespace.apply_object(&secret).await.map(drop)
    }
}

impl Certificates {
    /// Makes the Secrets.
    pub(super) async fn given(namespace: &Namespace<'_>) -> Result<Self> {
        let mut given = Vec::new();
        for name in SECRETS {
            let pair = Pair::new()?;
            pair.put_into(namespace, name).await?;
            given.push((name, pair));
        }
        Ok(Self { given })
    }

    /// The Secret whose certificate a new connection shows.
    pub(super) async fn shown_by(&self, gateway: &Gateway) -> Result<Value> {
        let shown = gateway.certificate().await?;
        let known = self.given.iter().find(|(_, pair)| pair.der == shown);
        Ok(json!(known.map_or("another", |(name, _)| *name)))
    }

    /// The Secret in use gets another pair: connections show it, and no pod is replaced for it.
    pub(super) async fn renewed_in_place(
        &self,
        namespace: &Namespace<'_>,
        gateway: &Gateway,
    ) -> Result<()> {
        let pods = async || {
            // One that another Secret has replaced may be still ending.
            let mut pods = namespace.pods("weir.dev/gateway=secure").await?;
            pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
            Ok::<BTreeSet<String>, anyhow::Error>(pods.iter().map(ResourceExt::name_any).collect())
        };
        let before = pods().await?;
        let renewed = Pair::new()?;
        renewed.put_into(namespace, SECRETS[1]).await?;
        let shown = namespace.world.until(RENEWAL, async || {
            let shown = gateway.certificate().await?;
            Ok((shown == renewed.der).then_some(()))
        });
        shown.await.context("it is not shown")?;
        let after = pods().await?;
        ensure!(before == after, "pods were replaced: {before:?}, {after:?}");
        Ok(())
    }
}
