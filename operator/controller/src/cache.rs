//! What the operator knows of the cluster: one cache per kind that is read, filled by watches.
//!
//! Weir's own kinds whole; what Weir made by the label `app.kubernetes.io/managed-by=weir`; Secrets and ConfigMaps of
//! people by the label `weir.dev/watch=true` only, so that a cluster's thousands of others never come here. Reading
//! never waits and never fails: what is not here is not there. Filled by `watch.rs`; who reads what is `readers.rs`.

use crate::change::Change;
use crate::key::{Key, Kind};
use crate::watch::{Listener, Unreadable, follow, follow_ours, follow_when_known};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::core::{ApiResource, DeserializeGuard, DynamicObject, GroupVersionKind};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use tokio::task::JoinSet;
use weir_crds::{InferenceGateway, MemoryStore, ModelPool, RouterRollout, RouterVersion};
use weir_reconcile::Stack;
use weir_reconcile::names::WATCHED;

/// Label of everything that Weir made.
pub(crate) const MANAGED: &str = "app.kubernetes.io/managed-by=weir";

/// Kinds that Weir makes: group, version, kind.
const OWNED: [(&str, &str, &str); 9] = [
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "StatefulSet"),
    ("", "v1", "Service"),
    ("", "v1", "ConfigMap"),
    ("", "v1", "Secret"),
    ("", "v1", "ServiceAccount"),
    ("", "v1", "PersistentVolumeClaim"),
    ("policy", "v1", "PodDisruptionBudget"),
    ("networking.k8s.io", "v1", "NetworkPolicy"),
];

/// Kinds that Weir makes where the cluster knows them. Nobody waits for these.
const OPTIONAL: [(&str, &str, &str); 1] = [("gateway.networking.k8s.io", "v1", "HTTPRoute")];

/// Where the operator looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Every namespace.
    Cluster,
    /// One namespace.
    Namespace(String),
}

/// The caches.
pub(crate) struct Caches {
    pub(crate) pools: Store<ModelPool>,
    pub(crate) memories: Store<MemoryStore>,
    pub(crate) routers: Store<RouterVersion>,
    pub(crate) gateways: Store<InferenceGateway>,
    pub(crate) rollouts: Store<RouterRollout>,
    pub(crate) pods: Store<Pod>,
    /// Secrets that people show to Weir.
    pub(crate) secrets: Store<Secret>,
    /// ConfigMaps that people show to Weir.
    pub(crate) config_maps: Store<ConfigMap>,
    /// What Weir made, by kind. A kind that the cluster does not know has an empty cache that is never filled.
    owned: BTreeMap<String, (ApiResource, Store<DynamicObject>)>,
    pub(crate) unreadable: Arc<Unreadable>,
}

/// Told of every change of any kind.
pub(crate) type OnChange = Arc<dyn Fn(Change) + Send + Sync>;

impl Caches {
    /// Starts every watch. The watches end with `tasks`.
    pub(crate) fn start(
        client: &Client,
        scope: &Scope,
        on_change: &OnChange,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let unreadable = Arc::new(Unreadable::default());
        let mut start = Start {
            client,
            scope,
            on_change,
            unreadable: &unreadable,
            tasks,
        };
        let known = OWNED.into_iter().map(|kind| (kind, true));
        let optional = OPTIONAL.into_iter().map(|kind| (kind, false));
        let owned = known.chain(optional);
        let owned = owned.map(|((group, version, kind), is_known)| {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
            let store = start.dynamic(resource.clone(), is_known);
            (kind.to_owned(), (resource, store))
        });
        Self {
            owned: owned.collect(),
            pools: start.ours(),
            memories: start.ours(),
            routers: start.ours(),
            gateways: start.ours(),
            rollouts: start.ours(),
            pods: start.labelled(MANAGED),
            secrets: start.labelled(WATCHED),
            config_maps: start.labelled(WATCHED),
            unreadable,
        }
    }

    /// Caches that hold these objects that Weir made, and nothing else.
    #[cfg(test)]
    pub(crate) fn of(objects: Vec<serde_json::Value>) -> Self {
        let mut kinds: BTreeMap<String, Vec<serde_json::Value>> = BTreeMap::new();
        for object in objects {
            let kind = object["kind"].as_str().unwrap().to_owned();
            kinds.entry(kind).or_default().push(object);
        }
        Self::of_kinds(&kinds)
    }

    /// Caches that hold these objects of one kind, and nothing else.
    #[cfg(test)]
    pub(crate) fn of_kind(kind: &str, objects: Vec<serde_json::Value>) -> Self {
        Self::of_kinds(&BTreeMap::from([(kind.to_owned(), objects)]))
    }

    #[cfg(test)]
    fn of_kinds(kinds: &BTreeMap<String, Vec<serde_json::Value>>) -> Self {
        use kube::runtime::watcher::Event;
        let store = |(group, version, kind): (&str, &str, &str)| {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
            let mut writer = Writer::new(resource.clone());
            for object in kinds.get(kind).into_iter().flatten() {
                let object = serde_json::from_value(object.clone()).unwrap();
                writer.apply_watcher_event(&Event::Apply(object));
            }
            (kind.to_owned(), (resource, writer.as_reader()))
        };
        Self {
            owned: OWNED.into_iter().map(store).collect(),
            pools: Writer::default().as_reader(),
            memories: Writer::default().as_reader(),
            routers: Writer::default().as_reader(),
            gateways: Writer::default().as_reader(),
            rollouts: Writer::default().as_reader(),
            pods: Writer::default().as_reader(),
            secrets: Writer::default().as_reader(),
            config_maps: Writer::default().as_reader(),
            unreadable: Arc::default(),
        }
    }

    /// Waits until every cache has been filled once.
    pub(crate) async fn filled(&self) {
        // A writer is dropped only when its watch ended, and watches end with the process.
        let _ = self.pools.wait_until_ready().await;
        let _ = self.memories.wait_until_ready().await;
        let _ = self.routers.wait_until_ready().await;
        let _ = self.gateways.wait_until_ready().await;
        let _ = self.rollouts.wait_until_ready().await;
        let _ = self.pods.wait_until_ready().await;
        let _ = self.secrets.wait_until_ready().await;
        let _ = self.config_maps.wait_until_ready().await;
        for (_, _, kind) in OWNED {
            if let Some((_, store)) = self.owned.get(kind) {
                let _ = store.wait_until_ready().await;
            }
        }
    }

    /// Every object that is reconciled, what others wait for first.
    pub(crate) fn keys(&self) -> Vec<Key> {
        Kind::ALL
            .into_iter()
            .flat_map(|kind| match kind {
                Kind::ModelPool => keys(kind, &self.pools),
                Kind::MemoryStore => keys(kind, &self.memories),
                Kind::RouterVersion => keys(kind, &self.routers),
                Kind::InferenceGateway => keys(kind, &self.gateways),
                Kind::RouterRollout => keys(kind, &self.rollouts),
            })
            .collect()
    }

    /// The objects of one namespace together, each kind by name.
    pub(crate) fn stack(&self, namespace: &str) -> Stack {
        Stack {
            pools: listed(&self.pools, namespace),
            memories: listed(&self.memories, namespace),
            routers: listed(&self.routers, namespace),
            gateways: listed(&self.gateways, namespace),
            secrets: listed(&self.secrets, namespace),
            ..Stack::default()
        }
    }

    /// One object of a kind that Weir makes; `None` for kinds that are not watched.
    pub(crate) fn owned(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<DynamicObject>> {
        let (resource, store) = self.owned.get(kind)?;
        store.get(&ObjectRef::new_with(name, resource.clone()).within(namespace))
    }

    /// Whether a kind that Weir makes is watched.
    pub(crate) fn watches(&self, kind: &str) -> bool {
        self.owned.contains_key(kind)
    }

    /// Everything that the object with this uid controls.
    pub(crate) fn owned_by(&self, uid: &str) -> Vec<(ApiResource, Arc<DynamicObject>)> {
        let mut all = Vec::new();
        for (resource, store) in self.owned.values() {
            let of_owner = store.state().into_iter().filter(|object| {
                let mut owners = object.owner_references().iter();
                owners.any(|owner| owner.uid == uid && owner.controller == Some(true))
            });
            all.extend(of_owner.map(|object| (resource.clone(), object)));
        }
        all
    }

    /// Every object of a kind that Weir makes which carries a label.
    pub(crate) fn owned_with(&self, kind: &str, label: &str) -> Vec<Arc<DynamicObject>> {
        let mut all = match self.owned.get(kind) {
            Some((_, store)) => store.state(),
            None => Vec::new(),
        };
        all.retain(|object| object.labels().contains_key(label));
        all
    }

    /// One object that Weir made, as its type.
    pub(crate) fn typed<K: DeserializeOwned + Resource>(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Option<K> {
        let object = self.owned(kind, namespace, name)?;
        (*object).clone().try_parse().ok()
    }

    /// The pods of a namespace that carry a label, by name.
    pub(crate) fn pods_with(&self, namespace: &str, label: &str, value: &str) -> Vec<Pod> {
        let mut pods: Vec<Pod> = listed(&self.pods, namespace);
        pods.retain(|pod| pod.labels().get(label).is_some_and(|found| found == value));
        pods
    }
}

/// One object of Weir's own kinds.
pub(crate) fn get<K>(store: &Store<K>, namespace: &str, name: &str) -> Option<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.get(&ObjectRef::new(name).within(namespace))
}

/// The objects of a namespace by name.
pub(crate) fn listed<K: Resource<DynamicType = ()> + Clone + 'static>(
    store: &Store<K>,
    namespace: &str,
) -> Vec<K> {
    let mut all: Vec<Arc<K>> = store.state();
    all.retain(|object| object.meta().namespace.as_deref() == Some(namespace));
    all.sort_by(|a, b| a.meta().name.cmp(&b.meta().name));
    all.iter().map(|object| (**object).clone()).collect()
}

fn keys<K: Resource<DynamicType = ()> + Clone + 'static>(kind: Kind, store: &Store<K>) -> Vec<Key> {
    let of = |object: Arc<K>| {
        Key::new(
            kind,
            &object.namespace().unwrap_or_default(),
            &object.name_any(),
        )
    };
    store.state().into_iter().map(of).collect()
}

/// What every watch is started with.
struct Start<'a> {
    client: &'a Client,
    scope: &'a Scope,
    on_change: &'a OnChange,
    unreadable: &'a Arc<Unreadable>,
    tasks: &'a mut JoinSet<()>,
}

impl Start<'_> {
    fn ours<K>(&mut self) -> Store<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let writer = Writer::<K>::default();
        let store = writer.as_reader();
        let (told, named) = (self.on_change.clone(), self.on_change.clone());
        let kind = K::kind(&()).into_owned();
        self.tasks.spawn(follow_ours(
            self.api::<DeserializeGuard<K>>(),
            writer,
            self.unreadable.clone(),
            Arc::new(move |object: &K| told(Change::of(&(), object))),
            Arc::new(move |namespace: &str, name: &str| {
                named(Change::named(&kind, namespace, name));
            }),
        ));
        store
    }

    fn labelled<K>(&mut self, selector: &'static str) -> Store<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let writer = Writer::<K>::default();
        let store = writer.as_reader();
        let told = self.on_change.clone();
        self.tasks.spawn(follow(
            self.api::<K>(),
            (),
            selector,
            writer,
            Arc::new(move |object: &K| told(Change::of(&(), object))),
        ));
        store
    }

    fn dynamic(&mut self, resource: ApiResource, is_known: bool) -> Store<DynamicObject> {
        let writer = Writer::new(resource.clone());
        let store = writer.as_reader();
        let told = self.on_change.clone();
        let api = match self.scope {
            Scope::Cluster => Api::all_with(self.client.clone(), &resource),
            Scope::Namespace(namespace) => {
                Api::namespaced_with(self.client.clone(), namespace, &resource)
            }
        };
        let kind = resource.clone();
        let listener: Listener<DynamicObject> =
            Arc::new(move |object| told(Change::of(&kind, object)));
        if is_known {
            let followed = follow(api, resource, MANAGED, writer, listener);
            self.tasks.spawn(followed);
        } else {
            let followed = follow_when_known(api, resource, MANAGED, writer, listener);
            self.tasks.spawn(followed);
        }
        store
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        match self.scope {
            Scope::Cluster => Api::all(self.client.clone()),
            Scope::Namespace(namespace) => Api::namespaced(self.client.clone(), namespace),
        }
    }
}
