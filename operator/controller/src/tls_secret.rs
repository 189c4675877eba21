//! The Secret with a process's certificate: what is good in it is kept, the rest is issued anew.

use crate::authority::entries_of;
use crate::context::{Context, Next, ReconcileError};
use crate::pki::{Entries, Identity};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use kube::core::ObjectMeta;
use kube::{Resource, ResourceExt};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};
use weir_reconcile::names;

/// Certificates are looked at this often even when nothing changes, since only time makes them old.
const LOOK_AGAIN: Duration = Duration::from_secs(6 * 3600);

/// A Secret and whom its certificate names.
pub(crate) struct Wanted {
    pub(crate) secret: String,
    pub(crate) label: &'static str,
    pub(crate) identity: Identity,
}

/// A Secret, ready to be applied.
pub(crate) struct Built {
    pub(crate) document: Value,
    pub(crate) look_again: Next,
}

/// The Secret of an object.
pub(crate) async fn build<K>(
    context: &Context,
    object: &K,
    wanted: Wanted,
) -> Result<Built, ReconcileError>
where
    K: Resource<DynamicType = ()>,
{
    let authority = context.keeper.authority();
    let authority = authority.ok_or(ReconcileError::NoAuthority)?;
    let namespace = object.namespace().unwrap_or_default();
    let before = existing(context, &namespace, &wanted.secret).await?;
    let entries = authority.leaf(&before, &wanted.identity, SystemTime::now())?;
    let name = object.name_any();
    let metadata = ObjectMeta {
        name: Some(wanted.secret),
        namespace: Some(namespace),
        labels: Some(names::selector(wanted.label, &name)),
        owner_references: object.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    let data: BTreeMap<String, ByteString> = entries
        .into_iter()
        .map(|(name, bytes)| (name, ByteString(bytes)))
        .collect();
    let secret = Secret {
        metadata,
        data: Some(data),
        ..Secret::default()
    };
    Ok(Built {
        document: serde_json::to_value(secret).unwrap_or_default(),
        look_again: Some(LOOK_AGAIN),
    })
}

/// What is in the Secret now. A cache that lags would cost a certificate, so the API server has the last word.
async fn existing(
    context: &Context,
    namespace: &str,
    name: &str,
) -> Result<Entries, ReconcileError> {
    if let Some(secret) = context.caches.typed::<Secret>("Secret", namespace, name) {
        return Ok(entries_of(&secret));
    }
    let api: Api<Secret> = Api::namespaced(context.cluster.client(), namespace);
    let found = api.get_opt(name).await;
    let found = found.map_err(|source| ReconcileError::Read {
        what: format!("secret {name}"),
        source: Box::new(source),
    })?;
    Ok(found.as_ref().map(entries_of).unwrap_or_default())
}
