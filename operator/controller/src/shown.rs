//! Secrets and ConfigMaps that exist but do not carry the label with which people show them to Weir.
//!
//! Weir reads by label only, so such an object looks missing. What is said then must not be "not found": its author sees
//! it with `kubectl get`. Only names that a document refers to are asked for, and only their metadata.

use crate::context::{Context, ReconcileError};
use crate::readers::references;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use std::collections::BTreeSet;
use weir_crds::Condition;
use weir_reconcile::Problem;

/// How soon a missing object is looked for again. Its label, once given, is a change that is heard at once.
pub(crate) const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_secs(30);

/// What an object without the label is called in reasons.
const REASON: &str = "NotShown";

/// Rewrites problems about Secrets that exist without the label, and to which one of the objects refers.
pub(crate) async fn explain<K>(
    context: &Context,
    objects: &[&K],
    problems: &mut [Problem],
) -> Result<(), ReconcileError>
where
    K: Resource<DynamicType = ()> + Serialize,
{
    if !problems
        .iter()
        .any(|problem| problem.reason == "SecretNotFound")
    {
        return Ok(());
    }
    for object in objects {
        for (kind, name) in unlabelled(context, *object).await? {
            let quoted = format!("{name:?}");
            let about = problems.iter_mut().filter(|problem| {
                problem.reason == format!("{kind}NotFound") && problem.message.contains(&quoted)
            });
            for problem in about {
                problem.reason = format!("{kind}{REASON}");
                problem.message = message(kind, &name);
                problem.instead = instead(kind, &name);
            }
        }
    }
    Ok(())
}

/// Rewrites conditions about Secrets and ConfigMaps that exist without the label.
pub(crate) async fn explain_conditions<K>(
    context: &Context,
    object: &K,
    conditions: &mut [Condition],
) -> Result<(), ReconcileError>
where
    K: Resource<DynamicType = ()> + Serialize,
{
    let is_missing =
        |one: &Condition| ["SecretNotFound", "ConfigMapNotFound"].contains(&one.reason.as_str());
    if !conditions.iter().any(is_missing) {
        return Ok(());
    }
    for (kind, name) in unlabelled(context, object).await? {
        let about = conditions
            .iter_mut()
            .filter(|one| one.reason == format!("{kind}NotFound") && one.message.contains(&name));
        for condition in about {
            condition.reason = format!("{kind}{REASON}");
            condition.message = format!("{}: {}", message(kind, &name), instead(kind, &name));
        }
    }
    Ok(())
}

fn message(kind: &str, name: &str) -> String {
    format!("{kind} {name} exists without the label weir.dev/watch=true, so Weir does not read it")
}

fn instead(kind: &str, name: &str) -> String {
    let kind = kind.to_ascii_lowercase();
    format!("run `kubectl label {kind} {name} weir.dev/watch=true`")
}

/// What a document refers to that exists and is not in the caches.
async fn unlabelled<K>(
    context: &Context,
    object: &K,
) -> Result<BTreeSet<(&'static str, String)>, ReconcileError>
where
    K: Resource<DynamicType = ()> + Serialize,
{
    let document = serde_json::to_value(object).unwrap_or_default();
    let mut named = Vec::new();
    references(&document["spec"], &mut named);
    let namespace = object.namespace().unwrap_or_default();
    let caches = &context.caches;
    let mut found = BTreeSet::new();
    for (kind, name) in named {
        let exists = if kind == "Secret" {
            crate::cache::get(&caches.secrets, &namespace, name).is_none()
                && exists::<Secret>(context, &namespace, name).await?
        } else {
            crate::cache::get(&caches.config_maps, &namespace, name).is_none()
                && exists::<ConfigMap>(context, &namespace, name).await?
        };
        if exists {
            found.insert((kind, name.to_owned()));
        }
    }
    Ok(found)
}

async fn exists<K>(context: &Context, namespace: &str, name: &str) -> Result<bool, ReconcileError>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(context.cluster.client(), namespace);
    let found = api.get_metadata_opt(name).await;
    let found = found.map_err(|source| ReconcileError::Read {
        what: format!("{} {name}", K::kind(&())),
        source: Box::new(source),
    })?;
    Ok(found.is_some())
}
