//! Who must be reconciled when an object changed: the object itself, its owner, and everything that refers to it.
//!
//! References are found in the documents themselves: a field whose name ends in `SecretRef` names a Secret, a field
//! `configMap` a ConfigMap. So a new field of a kind is followed without being named here.

use crate::cache::{Caches, listed};
use crate::change::Change;
use crate::key::{Key, Kind};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::Value;
use weir_reconcile::names;

/// Labels of pods, and the kind whose name their value is.
const OF_PODS: [(&str, Kind); 3] = [
    ("weir.dev/pool", Kind::ModelPool),
    ("weir.dev/memory", Kind::MemoryStore),
    ("weir.dev/gateway", Kind::InferenceGateway),
];

/// The keys to reconcile after a change.
pub(crate) fn readers(change: &Change, caches: &Caches) -> Vec<Key> {
    let key = |kind, name: &str| Key::new(kind, &change.namespace, name);
    if let Some(kind) = Kind::of(&change.kind) {
        let mut keys = vec![key(kind, &change.name)];
        keys.extend(referring(kind, change, caches));
        return keys;
    }
    let mut keys = Vec::new();
    if let Some((kind, name)) = &change.owner
        && let Some(kind) = Kind::of(kind)
    {
        keys.push(key(kind, name));
    }
    match change.kind.as_str() {
        "Pod" => {
            let labelled = OF_PODS
                .into_iter()
                .filter_map(|(label, kind)| change.labels.get(label).map(|name| key(kind, name)));
            keys.extend(labelled);
        }
        "Secret" | "ConfigMap" => {
            keys.extend(documents_naming(change, caches));
            if change.labels.contains_key(names::ROUTER_LABEL) {
                keys.extend(of_kept_artifact(change, caches));
            }
            keys.sort();
            keys.dedup();
        }
        _ => {}
    }
    keys
}

/// Objects of Weir's own kinds that look at another one.
fn referring(kind: Kind, change: &Change, caches: &Caches) -> Vec<Key> {
    let namespace = change.namespace.as_str();
    let gateways = || gateways(caches, namespace).into_iter();
    match kind {
        Kind::ModelPool => {
            let embeds = listed(&caches.memories, namespace).into_iter();
            let embeds = embeds
                .filter(|memory| memory.spec.embedding.pool.as_deref() == Some(&change.name))
                .map(|memory| Key::new(Kind::MemoryStore, namespace, &memory.name_any()));
            gateways().chain(embeds).collect()
        }
        Kind::MemoryStore => {
            // The engine of a pool that embeds is started for vectors alone.
            let pools = listed(&caches.memories, namespace).into_iter();
            let pools = pools
                .filter(|memory| memory.name_any() == change.name)
                .filter_map(|memory| memory.spec.embedding.pool)
                .map(|pool| Key::new(Kind::ModelPool, namespace, &pool));
            gateways().chain(pools).collect()
        }
        Kind::RouterVersion => gateways().collect(),
        // Which versions are in use is said by the versions; the former one is not in the document any more.
        Kind::InferenceGateway => {
            let versions = listed(&caches.routers, namespace).into_iter();
            let versions = versions
                .map(|version| Key::new(Kind::RouterVersion, namespace, &version.name_any()));
            let rollouts = listed(&caches.rollouts, namespace).into_iter();
            let rollouts = rollouts
                .filter(|rollout| rollout.spec.gateway == change.name)
                .map(|rollout| Key::new(Kind::RouterRollout, namespace, &rollout.name_any()));
            versions.chain(rollouts).collect()
        }
        // Its owner is the gateway, also when it is gone.
        Kind::RouterRollout => {
            let gateway = change.owner.iter();
            gateway
                .map(|(_, name)| Key::new(Kind::InferenceGateway, namespace, name))
                .collect()
        }
    }
}

/// Every gateway of a namespace.
fn gateways(caches: &Caches, namespace: &str) -> Vec<Key> {
    let all = listed(&caches.gateways, namespace).into_iter();
    all.map(|gateway| Key::new(Kind::InferenceGateway, namespace, &gateway.name_any()))
        .collect()
}

/// Who needs the verified bytes that nobody owns: the versions of that digest, and gateways, whose plans carry them.
fn of_kept_artifact(change: &Change, caches: &Caches) -> Vec<Key> {
    let namespace = change.namespace.as_str();
    let versions = listed(&caches.routers, namespace).into_iter();
    let versions = versions.filter(|version| names::router(&version.spec.sha256) == change.name);
    versions
        .map(|version| Key::new(Kind::RouterVersion, namespace, &version.name_any()))
        .chain(gateways(caches, namespace))
        .collect()
}

fn documents_naming(change: &Change, caches: &Caches) -> Vec<Key> {
    let namespace = change.namespace.as_str();
    let mut keys = naming(Kind::ModelPool, change, &listed(&caches.pools, namespace));
    if !keys.is_empty() {
        // Their plans carry what a pool's server wants to see.
        keys.extend(gateways(caches, namespace));
    }
    let memories = listed(&caches.memories, namespace);
    keys.extend(naming(Kind::MemoryStore, change, &memories));
    let routers = listed(&caches.routers, namespace);
    keys.extend(naming(Kind::RouterVersion, change, &routers));
    let gateways = listed(&caches.gateways, namespace);
    keys.extend(naming(Kind::InferenceGateway, change, &gateways));
    keys
}

fn naming<K: Resource + Serialize>(kind: Kind, change: &Change, all: &[K]) -> Vec<Key> {
    all.iter()
        .filter(|object| {
            let document = serde_json::to_value(object).unwrap_or_default();
            let mut found = Vec::new();
            references(&document["spec"], &mut found);
            found.contains(&(change.kind.as_str(), change.name.as_str()))
        })
        .map(|object| Key::new(kind, &change.namespace, &object.name_any()))
        .collect()
}

/// Every Secret and ConfigMap that a document names, as kind and name.
pub(crate) fn references<'a>(document: &'a Value, found: &mut Vec<(&'static str, &'a str)>) {
    match document {
        Value::Object(fields) => {
            for (field, value) in fields {
                let kind = match field.as_str() {
                    "configMap" => Some("ConfigMap"),
                    field if field.ends_with("SecretRef") => Some("Secret"),
                    _ => None,
                };
                match (kind, value["name"].as_str()) {
                    (Some(kind), Some(name)) => found.push((kind, name)),
                    _ => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_found_wherever_a_document_has_them() {
        let document = serde_json::json!({
            "model": {"credentialsSecretRef": {"name": "hub"}},
            "artifact": {"configMap": {"name": "router", "key": "onnx"}},
            "list": [{"tlsSecretRef": {"name": "tls"}}],
            "labels": {"name": "no reference"}
        });
        let mut found = Vec::new();
        references(&document, &mut found);
        found.sort_unstable();
        let expected = [
            ("ConfigMap", "router"),
            ("Secret", "hub"),
            ("Secret", "tls"),
        ];
        assert_eq!(found, expected);
    }
}
