//! Removing kept router artifacts that nothing needs any more.
//!
//! They belong to nobody (`router_version.rs`), so nothing else removes them. What is needed is decided in
//! `operator/reconcile`; here it is put together from versions, plans that are told and plans that lie on disks. An artifact
//! goes when nothing needed it for a while: a version may be deleted only to be created again.

use crate::cache::{Caches, listed};
use crate::cluster::Cluster;
use crate::control::caller::GatewayId;
use crate::control::server::Hub;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, DeleteParams, Preconditions};
use kube::core::DynamicObject;
use kube::{Resource, ResourceExt};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_crds::RouterVersion;
use weir_reconcile::{names, router_version};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(60);
/// How long nothing must have needed an artifact.
const UNUSED_FOR: Duration = Duration::from_secs(600);

/// Looks and removes.
pub(crate) struct Collector {
    cluster: Cluster,
    caches: Arc<Caches>,
    hub: Arc<Hub>,
    /// Since when nothing needs an artifact, by the uid of its ConfigMap.
    unused: HashMap<String, Instant>,
}

impl Collector {
    pub(crate) fn new(cluster: Cluster, caches: Arc<Caches>, hub: Arc<Hub>) -> Self {
        Self {
            cluster,
            caches,
            hub,
            unused: HashMap::new(),
        }
    }

    /// Collects until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            self.collect(Instant::now()).await;
        }
    }

    /// One look at `now`.
    pub(crate) async fn collect(&mut self, now: Instant) {
        let unused = self.look();
        let before = std::mem::take(&mut self.unused);
        for object in unused {
            let uid = object.uid().unwrap_or_default();
            let since = before.get(&uid).copied().unwrap_or(now);
            self.unused.insert(uid, since);
            if now.duration_since(since) >= UNUSED_FOR {
                self.remove(&object).await;
            }
        }
    }

    /// Every kept artifact that nothing needs.
    fn look(&self) -> Vec<Arc<DynamicObject>> {
        let mut by_namespace: BTreeMap<String, Vec<Arc<DynamicObject>>> = BTreeMap::new();
        for object in self.caches.owned_with("ConfigMap", names::ROUTER_LABEL) {
            let namespace = object.namespace().unwrap_or_default();
            by_namespace.entry(namespace).or_default().push(object);
        }
        let mut unused = Vec::new();
        for (namespace, kept) in by_namespace {
            let versions: Vec<RouterVersion> = listed(&self.caches.routers, &namespace);
            let planned = self.planned(&namespace);
            let needed = router_version::needed(&versions, &planned);
            let rest = kept.into_iter();
            unused.extend(rest.filter(|object| !needed.contains(&object.name_any())));
        }
        unused
    }

    /// Digests of the artifacts that plans of a namespace's gateways name: those that are told now, and those on their disks,
    /// with which a new process starts.
    fn planned(&self, namespace: &str) -> BTreeSet<String> {
        let mut digests = BTreeSet::new();
        let gateways = self.caches.gateways.state();
        let names = gateways
            .iter()
            .filter(|gateway| gateway.meta().namespace.as_deref() == Some(namespace))
            .map(|gateway| gateway.name_any());
        for name in names {
            let secret = names::gateway_plan(&name);
            let on_disk: Option<Secret> = self.caches.typed("Secret", namespace, &secret);
            let entries = on_disk.and_then(|secret| secret.data).unwrap_or_default();
            let entries = entries.keys().filter_map(|key| key.strip_suffix(".onnx"));
            digests.extend(entries.map(str::to_owned));
            let id = GatewayId {
                namespace: namespace.to_owned(),
                name,
            };
            let told = self.hub.plans.get(&id);
            digests.extend(told.iter().flat_map(|told| told.artifacts.clone()));
        }
        digests
    }

    /// Removes one. What fails is looked at again.
    async fn remove(&self, object: &DynamicObject) {
        if self.cluster.may_write().is_err() {
            return;
        }
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let api: Api<ConfigMap> = Api::namespaced(self.cluster.client(), &namespace);
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: object.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match api.delete(&name, &params).await {
            Ok(_) => tracing::info!(namespace, name, "an unused router artifact was removed"),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
            Err(error) => {
                tracing::warn!(namespace, name, %error, "an unused router artifact stays");
            }
        }
    }
}
