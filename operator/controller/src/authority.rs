//! The operator's certificate authority, kept in a Secret of its namespace, and its own certificate.
//!
//! Whoever starts first creates the Secret; only the leader replaces what is in it. Every process watches it, so that a
//! successor is trusted everywhere as soon as it exists, and reads it again each minute, since only time makes it old. Who
//! begins to lead reads it at once. What is a good certificate is in `pki.rs`.

use crate::cluster::Cluster;
use crate::control::relay::OwnTls;
use crate::pki::{Authority, CERTIFICATE, Entries, Identity, KEY, PkiError, renew_authority};
use futures_util::{Stream, StreamExt};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};
use kube::core::ObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Name of the Secret.
const NAME: &str = "weir-ca";
/// How often the Secret is read without a change.
const EVERY: Duration = Duration::from_secs(60);

/// Why there is no authority; tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// The Secret could not be read or written.
    #[error("{step} secret {NAME:?}: {source}")]
    Api {
        step: &'static str,
        #[source]
        source: Box<kube::Error>,
    },
    /// A certificate could not be made or read.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// This process does not lead, and only a leader replaces an authority.
    #[error("secret {NAME:?} must be renewed by the leader")]
    NotLeading,
}

/// The authority as it was last read, and the operator's own certificate.
pub(crate) struct Keeper {
    cluster: Cluster,
    api: Api<Secret>,
    own: Identity,
    authority: Mutex<Option<Arc<Authority>>>,
    tls: watch::Sender<OwnTls>,
    /// The own certificate's entries, kept in memory: another process has another one.
    leaf: Mutex<Entries>,
}

impl Keeper {
    /// Keeps the authority of an operator that runs in `namespace`.
    pub(crate) fn new(cluster: Cluster, namespace: &str, own: Identity) -> Self {
        Self {
            api: Api::namespaced(cluster.client(), namespace),
            cluster,
            own,
            authority: Mutex::new(None),
            tls: watch::Sender::new(OwnTls::default()),
            leaf: Mutex::default(),
        }
    }

    /// The operator's own certificate, as it changes.
    pub(crate) fn tls(&self) -> watch::Receiver<OwnTls> {
        self.tls.subscribe()
    }

    /// The authority, once it is known.
    pub(crate) fn authority(&self) -> Option<Arc<Authority>> {
        let authority = self
            .authority
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        authority.clone()
    }

    /// Reads the Secret again and again until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let changes = watcher::watch_object(self.api.clone(), NAME).default_backoff();
        let mut changes = std::pin::pin!(changes);
        let mut leadership = self.cluster.leadership();
        loop {
            leadership.mark_unchanged();
            let wait = match self.refresh().await {
                Ok(()) => EVERY,
                Err(error) => {
                    tracing::warn!(%error, "the certificate authority is not usable yet");
                    Duration::from_secs(2)
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                () = changed(&mut changes) => {}
                _ = leadership.changed() => {}
            }
        }
    }

    async fn refresh(&self) -> Result<(), AuthorityError> {
        let now = SystemTime::now();
        let entries = self.load(now).await?;
        let authority = Authority::read(&entries)?;
        let mut leaf = self.leaf.lock().unwrap_or_else(PoisonError::into_inner);
        *leaf = authority.leaf(&leaf, &self.own, now)?;
        let text = |name: &str| {
            let bytes = leaf.get(name).cloned().unwrap_or_default();
            String::from_utf8(bytes).unwrap_or_default()
        };
        let tls = OwnTls {
            trusted: authority.bundle.clone(),
            certificate: text(CERTIFICATE),
            key: text(KEY),
        };
        drop(leaf);
        // Who hears of the new one asks for it.
        let mut kept = self
            .authority
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *kept = Some(Arc::new(authority));
        drop(kept);
        self.tls.send_if_modified(|before| {
            let changed = *before != tls;
            *before = tls;
            changed
        });
        Ok(())
    }

    /// The entries of the Secret, made or renewed when that is right.
    async fn load(&self, now: SystemTime) -> Result<Entries, AuthorityError> {
        let fail = |step| {
            move |source| AuthorityError::Api {
                step,
                source: Box::new(source),
            }
        };
        let found = self.api.get_opt(NAME).await.map_err(fail("read"))?;
        let Some(mut secret) = found else {
            let entries = renew_authority(&Entries::new(), now)?.unwrap_or_default();
            let created = self
                .api
                .create(&PostParams::default(), &document(&entries))
                .await;
            return match created {
                Ok(_) => Ok(entries),
                // Another one was first: its authority counts.
                Err(kube::Error::Api(status)) if status.is_already_exists() => {
                    let other = self.api.get(NAME).await.map_err(fail("read"))?;
                    Ok(entries_of(&other))
                }
                Err(source) => Err(fail("create")(source)),
            };
        };
        let entries = entries_of(&secret);
        let Some(renewed) = renew_authority(&entries, now)? else {
            return Ok(entries);
        };
        if self.cluster.may_write().is_err() {
            // What is there still works for a follower, unless it does not work at all.
            return Authority::read(&entries)
                .map(|_| entries)
                .map_err(|_| AuthorityError::NotLeading);
        }
        secret.data = document(&renewed).data;
        let replaced = self
            .api
            .replace(NAME, &PostParams::default(), &secret)
            .await;
        replaced.map_err(fail("renew"))?;
        Ok(renewed)
    }
}

/// Waits until the Secret is another. A watch that fails is tried again; the Secret is read each minute meanwhile.
async fn changed(changes: &mut (impl Stream<Item = watcher::Result<Option<Secret>>> + Unpin)) {
    loop {
        match changes.next().await {
            Some(Ok(_)) => return,
            Some(Err(error)) => tracing::debug!(%error, "secret {NAME:?} is not watched"),
            None => std::future::pending().await,
        }
    }
}

/// The entries of a Secret.
pub(crate) fn entries_of(secret: &Secret) -> Entries {
    let data = secret.data.clone().unwrap_or_default();
    data.into_iter()
        .map(|(name, bytes)| (name, bytes.0))
        .collect()
}

fn document(entries: &Entries) -> Secret {
    let data = entries.clone().into_iter();
    Secret {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            ..ObjectMeta::default()
        },
        data: Some(
            data.map(|(name, bytes)| (name, ByteString(bytes)))
                .collect(),
        ),
        ..Secret::default()
    }
}
