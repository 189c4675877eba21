//! Following one kind of object: the cluster's objects into a cache, each change told to one listener.
//!
//! A dropped watch lists again; what vanished meanwhile is told as a change, since its deletion was never heard. An
//! object that cannot be read does not stop the watch: its last good version stays, and [`Unreadable`] says what is
//! wrong. Caches keep no managed fields, but for those that say who scales a pool. What a change means is decided in `readers.rs`.

use futures_util::{Stream, StreamExt};
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often a kind that the cluster does not know is looked for.
const UNKNOWN_AGAIN: Duration = Duration::from_secs(60);

/// Hears of every object that was added, changed or deleted.
pub(crate) type Listener<K> = Arc<dyn Fn(&K) + Send + Sync>;

/// Hears of an object of which only namespace and name can be read.
pub(crate) type Named = Arc<dyn Fn(&str, &str) + Send + Sync>;

/// Objects that the API server has and this version cannot read, by kind, namespace and name.
#[derive(Default)]
pub(crate) struct Unreadable(Mutex<HashMap<(String, String, String), String>>);

impl Unreadable {
    fn note(&self, kind: &str, namespace: &str, name: &str, error: Option<String>) {
        let key = (kind.to_owned(), namespace.to_owned(), name.to_owned());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match error {
            Some(error) => {
                if all.insert(key, error.clone()).as_ref() != Some(&error) {
                    tracing::warn!(kind, namespace, name, error, "an object cannot be read");
                }
            }
            None => {
                all.remove(&key);
            }
        }
    }

    /// What is wrong with an object.
    pub(crate) fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<String> {
        let key = (kind.to_owned(), namespace.to_owned(), name.to_owned());
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&key).cloned()
    }

    /// Forgets objects of a kind that are not among those listed: their deletion was never heard.
    fn retain(&self, kind: &str, listed: &HashSet<(String, String)>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(of, namespace, name), _| {
            of != kind || listed.contains(&(namespace.clone(), name.clone()))
        });
    }

    /// How many objects cannot be read.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Follows a kind of Weir's own until the process ends. The listener hears of unreadable objects too, by name alone.
pub(crate) async fn follow_ours<K>(
    api: Api<DeserializeGuard<K>>,
    writer: Writer<K>,
    unreadable: Arc<Unreadable>,
    listener: Listener<K>,
    named: Named,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let store = writer.as_reader();
    let kind = K::kind(&()).into_owned();
    let mut listed = HashSet::new();
    let events = watcher::watcher(api, watcher::Config::default())
        .default_backoff()
        .filter_map(move |event| {
            if let Ok(event) = &event {
                list(event, &mut listed, (&kind, &unreadable));
            }
            let read = event.map(|event| readable(event, &kind, &store, &unreadable, &named));
            std::future::ready(read.transpose())
        });
    keep(events, writer, &(), &listener).await;
}

/// Takes down what a listing has, and at its end forgets what it has not.
fn list<K: Resource>(
    event: &Event<DeserializeGuard<K>>,
    listed: &mut HashSet<(String, String)>,
    (kind, unreadable): (&str, &Unreadable),
) {
    match event {
        Event::Init => listed.clear(),
        Event::InitApply(guard) => {
            listed.insert((guard.namespace().unwrap_or_default(), guard.name_any()));
        }
        Event::InitDone => unreadable.retain(kind, &std::mem::take(listed)),
        Event::Apply(_) | Event::Delete(_) => {}
    }
}

/// The event without its guard; `None` when nothing readable is in it and nothing was before.
fn readable<K>(
    event: Event<DeserializeGuard<K>>,
    kind: &str,
    store: &Store<K>,
    unreadable: &Unreadable,
    named: &Named,
) -> Option<Event<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let last_good = |guard: &DeserializeGuard<K>| {
        let reference = ObjectRef::new(&guard.name_any());
        let reference = reference.within(&guard.namespace().unwrap_or_default());
        store.get(&reference).map(|object| (*object).clone())
    };
    let open = |guard: DeserializeGuard<K>| {
        let (namespace, name) = (guard.namespace().unwrap_or_default(), guard.name_any());
        let before = last_good(&guard);
        match guard.0 {
            Ok(object) => {
                unreadable.note(kind, &namespace, &name, None);
                Some(object)
            }
            Err(invalid) => {
                unreadable.note(kind, &namespace, &name, Some(invalid.error));
                named(&namespace, &name);
                before
            }
        }
    };
    match event {
        Event::Init => Some(Event::Init),
        Event::InitDone => Some(Event::InitDone),
        Event::InitApply(guard) => open(guard).map(Event::InitApply),
        Event::Apply(guard) => open(guard).map(Event::Apply),
        Event::Delete(guard) => {
            let (namespace, name) = (guard.namespace().unwrap_or_default(), guard.name_any());
            unreadable.note(kind, &namespace, &name, None);
            let before = last_good(&guard);
            guard.0.ok().or(before).map(Event::Delete)
        }
    }
}

/// Follows what carries a label, of any other kind, until the process ends.
pub(crate) async fn follow<K>(
    api: Api<K>,
    kind: <K as Resource>::DynamicType,
    selector: &'static str,
    writer: Writer<K>,
    listener: Listener<K>,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    <K as Resource>::DynamicType: Eq + Hash + Clone,
{
    let config = watcher::Config::default().labels(selector);
    let events = watcher::watcher(api, config).default_backoff();
    keep(events, writer, &kind, &listener).await;
}

/// Follows a kind that the cluster may not know, once it knows it.
pub(crate) async fn follow_when_known<K>(
    api: Api<K>,
    kind: <K as Resource>::DynamicType,
    selector: &'static str,
    writer: Writer<K>,
    listener: Listener<K>,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    <K as Resource>::DynamicType: Eq + Hash + Clone,
{
    let one = ListParams::default().limit(1);
    let mut told = false;
    while let Err(error) = api.list_metadata(&one).await {
        let is_unknown = matches!(&error, kube::Error::Api(status) if status.is_not_found());
        if !is_unknown {
            failed(&K::kind(&kind), &error, is_denied(&error) && !told);
            told = true;
        }
        tokio::time::sleep(UNKNOWN_AGAIN).await;
    }
    follow(api, kind, selector, writer, listener).await;
}

/// Keeps the cache and tells every change.
async fn keep<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    mut writer: Writer<K>,
    kind: &<K as Resource>::DynamicType,
    listener: &Listener<K>,
) where
    K: Resource + Clone + 'static,
    <K as Resource>::DynamicType: Eq + Hash + Clone,
{
    let store = writer.as_reader();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event.modify(trim),
            Err(error) => {
                failed(&K::kind(kind), &error, is_forbidden(&error));
                continue;
            }
        };
        match &event {
            Event::Init | Event::InitApply(_) => writer.apply_watcher_event(&event),
            Event::Apply(object) | Event::Delete(object) => {
                let object = object.clone();
                writer.apply_watcher_event(&event);
                listener(&object);
            }
            Event::InitDone => {
                let before = store.state();
                writer.apply_watcher_event(&event);
                for object in changed(&before, &store.state()) {
                    listener(&object);
                }
            }
        }
    }
}

/// Counts a watch that failed, and says so: loudly where the operator lacks a right, which does not pass by itself.
fn failed(kind: &str, error: &dyn std::error::Error, is_denied: bool) {
    metrics::counter!("weir_watch_errors_total", "kind" => kind.to_owned()).increment(1);
    if is_denied {
        tracing::warn!(%kind, %error, "a watch is not permitted: nothing is known of this kind");
    } else {
        tracing::debug!(%kind, %error, "a watch failed; it is tried again");
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => {
            is_denied(error)
        }
        _ => false,
    }
}

fn is_denied(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_forbidden())
}

/// Drops managed fields, but for those of the scale subresource: who scales a pool is read from them.
fn trim<K: Resource>(object: &mut K) {
    let fields = object.managed_fields_mut();
    fields.retain(|entry| entry.subresource.as_deref() == Some("scale"));
    fields.shrink_to_fit();
}

/// What differs between two listings: changed and new objects as they are now, vanished ones as they were.
fn changed<K: Resource>(before: &[Arc<K>], after: &[Arc<K>]) -> Vec<Arc<K>> {
    let id = |object: &Arc<K>| (object.namespace(), object.name_any());
    let version = |object: &Arc<K>| (id(object), object.resource_version());
    let known: HashSet<_> = before.iter().map(version).collect();
    let alive: HashSet<_> = after.iter().map(id).collect();
    let new = after
        .iter()
        .filter(|object| !known.contains(&version(object)));
    let gone = before.iter().filter(|object| !alive.contains(&id(object)));
    new.chain(gone).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::core::ObjectMeta;

    fn map(name: &str, version: &str) -> Arc<ConfigMap> {
        Arc::new(ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some("demo".into()),
                resource_version: Some(version.into()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        })
    }

    #[test]
    fn a_deletion_that_was_never_heard_is_told_by_the_next_listing() {
        let before = [map("kept", "1"), map("changed", "2"), map("gone", "3")];
        let after = [map("kept", "1"), map("changed", "4"), map("new", "5")];
        let mut names: Vec<String> = changed(&before, &after)
            .iter()
            .map(|object| object.name_any())
            .collect();
        names.sort();
        assert_eq!(names, ["changed", "gone", "new"]);
    }

    fn guarded(json: serde_json::Value) -> DeserializeGuard<weir_crds::ModelPool> {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn an_unreadable_object_keeps_its_last_good_version_and_is_noted() {
        let good = serde_json::json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": "ModelPool",
            "metadata": {"name": "a", "namespace": "demo", "resourceVersion": "1"},
            "spec": {"model": {"name": "a"}, "tier": "edge", "privacy": "local",
                     "engine": {"external": {"url": "http://a"}}}
        });
        let mut bad = good.clone();
        bad["metadata"]["resourceVersion"] = "2".into();
        bad["spec"]["tier"] = "orbit".into();
        let mut writer: Writer<weir_crds::ModelPool> = Writer::default();
        let store = writer.as_reader();
        let unreadable = Unreadable::default();
        let named: Named = Arc::new(|_, _| {});
        for json in [&good, &bad] {
            let event = Event::Apply(guarded(json.clone()));
            let event = readable(event, "ModelPool", &store, &unreadable, &named).unwrap();
            writer.apply_watcher_event(&event);
        }
        assert_eq!(store.state()[0].resource_version().as_deref(), Some("1"));
        assert!(
            unreadable
                .get("ModelPool", "demo", "a")
                .unwrap()
                .contains("orbit")
        );

        let event = Event::Delete(guarded(bad));
        let event = readable(event, "ModelPool", &store, &unreadable, &named).unwrap();
        writer.apply_watcher_event(&event);
        assert!(store.state().is_empty());
        assert_eq!(unreadable.len(), 0);
    }

    #[test]
    fn an_unreadable_object_whose_deletion_was_never_heard_is_forgotten() {
        let unreadable = Unreadable::default();
        for (kind, name) in [
            ("ModelPool", "a"),
            ("ModelPool", "gone"),
            ("MemoryStore", "b"),
        ] {
            unreadable.note(kind, "demo", name, Some("orbit".into()));
        }
        let bad = guarded(serde_json::json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": "ModelPool",
            "metadata": {"name": "a", "namespace": "demo"}, "spec": {"tier": "orbit"}
        }));
        let mut listed = HashSet::new();
        for event in [Event::Init, Event::InitApply(bad), Event::InitDone] {
            list(&event, &mut listed, ("ModelPool", &unreadable));
        }
        assert_eq!(unreadable.get("ModelPool", "demo", "gone"), None);
        assert_eq!(unreadable.len(), 2);
    }
}
