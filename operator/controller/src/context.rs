//! Everything that a reconcile may use: what is known, and the few ways to change something.

use crate::apply::{Applied, Applier, ApplyError, Owner};
use crate::artifacts::Artifacts;
use crate::authority::Keeper;
use crate::benchmark::Benchmarks;
use crate::ca_bundle::CaBundle;
use crate::cache::Caches;
use crate::cluster::Cluster;
use crate::control::server::Hub;
use crate::describe::Descriptions;
use crate::key::Key;
use crate::pki::PkiError;
use crate::reach::Reaches;
use crate::router_rollout::Attempts;
use crate::status::Statuses;
use k8s_openapi::jiff::Timestamp;
use kube::{Resource, ResourceExt};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use weir_reconcile::{Platform, Stack};

/// What a reconcile may use.
pub(crate) struct Context {
    pub(crate) cluster: Cluster,
    pub(crate) caches: Arc<Caches>,
    pub(crate) stacks: Arc<Stacks>,
    pub(crate) applier: Applier,
    pub(crate) statuses: Statuses,
    pub(crate) hub: Arc<Hub>,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) reaches: Arc<Reaches>,
    pub(crate) benchmarks: Arc<Benchmarks>,
    pub(crate) descriptions: Arc<Descriptions>,
    pub(crate) attempts: Attempts,
    /// What does not change while the operator runs; see [`Context::platform`].
    pub(crate) started_with: Platform,
    pub(crate) ca_bundle: Arc<CaBundle>,
    pub(crate) artifacts: Arc<Artifacts>,
    /// Hosts that artifacts may be brought from.
    pub(crate) artifact_hosts: Vec<String>,
}

/// When an object must be looked at again without a change; `None` when only a change matters.
pub(crate) type Next = Option<Duration>;

/// Why a reconcile did not come to its end; tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    /// Something could not be applied or written.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A certificate could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The certificate authority is not known yet.
    #[error("the certificate authority is not known yet")]
    NoAuthority,
    /// The API server did not answer.
    #[error("read {what}: {source}")]
    Read {
        what: String,
        #[source]
        source: Box<kube::Error>,
    },
}

impl Context {
    /// Applies what an object wants to exist.
    pub(crate) async fn apply<K>(
        &self,
        object: &K,
        desired: Vec<serde_json::Value>,
    ) -> Result<Applied, ReconcileError>
    where
        K: Resource<DynamicType = ()>,
    {
        let owner = Owner {
            namespace: object.namespace().unwrap_or_default(),
            uid: object.uid().unwrap_or_default(),
        };
        let applied = self.applier.apply(&self.caches, &owner, desired).await?;
        self.statuses.corrected(object, &applied.corrected).await;
        Ok(applied)
    }

    /// What objects depend on besides resources, as it is now, but for the operator's authority: see `model_pool.rs`.
    pub(crate) fn platform(&self) -> Platform {
        Platform {
            ca_bundle: self.ca_bundle.text(),
            ..self.started_with.clone()
        }
    }

    /// Now, as conditions write it.
    pub(crate) fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }
}

/// Whether an object is on its way out: its children go with it, by their owner references.
pub(crate) fn is_ending<K: Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// What the API server refused, in words.
pub(crate) fn refused(applied: &Applied) -> Option<String> {
    let all: Vec<String> = applied
        .refusals
        .iter()
        .map(|refusal| format!("{}: {}", refusal.reason, refusal.message))
        .collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// How long a refusal is left alone before it is tried again: what refused it may have changed unseen.
pub(crate) fn after(applied: &Applied) -> Next {
    (!applied.refusals.is_empty()).then_some(Duration::from_secs(60))
}

/// The earlier of two times to look again.
pub(crate) fn sooner(one: Next, other: Next) -> Next {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The stack of each namespace, put together once for as long as nothing in it changed.
#[derive(Default)]
pub(crate) struct Stacks {
    versions: Mutex<HashMap<String, u64>>,
    kept: Mutex<HashMap<String, (u64, Arc<Stack>)>>,
    counter: AtomicU64,
}

impl Stacks {
    /// Something in a namespace changed.
    pub(crate) fn changed(&self, namespace: &str) {
        let version = self.counter.fetch_add(1, Ordering::Relaxed) + 1;
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        versions.insert(namespace.to_owned(), version);
    }

    /// The stack of a namespace.
    pub(crate) fn get(&self, caches: &Caches, namespace: &str) -> Arc<Stack> {
        let version = {
            let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
            versions.get(namespace).copied().unwrap_or_default()
        };
        let kept = |kept: &HashMap<String, (u64, Arc<Stack>)>| {
            let (of, stack) = kept.get(namespace)?;
            (*of == version).then(|| stack.clone())
        };
        let found = kept(&self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(stack) = found {
            return stack;
        }
        let stack = Arc::new(caches.stack(namespace));
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(namespace.to_owned(), (version, stack.clone()));
        stack
    }

    /// Forgets namespaces without any object of Weir's.
    pub(crate) fn retain(&self, lives: impl Fn(&str) -> bool) {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        versions.retain(|namespace, _| lives(namespace));
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|namespace, _| lives(namespace));
    }
}

/// The namespaces in which something is reconciled.
pub(crate) fn namespaces(keys: &[Key]) -> std::collections::BTreeSet<String> {
    keys.iter().map(|key| key.namespace.clone()).collect()
}
