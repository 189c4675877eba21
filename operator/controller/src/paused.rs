//! What an object says while its annotation stops it from being reconciled: what it said before, and that it is paused.

use crate::context::{Context, Next, ReconcileError};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// Writes the status of a paused object.
pub(crate) async fn status<K>(context: &Context, object: &K) -> Result<Next, ReconcileError>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let document = serde_json::to_value(object).unwrap_or_default();
    let mut status = document.get("status").cloned().unwrap_or_default();
    let before: Vec<Condition> =
        serde_json::from_value(status["conditions"].clone()).unwrap_or_default();
    let seen = weir_reconcile::condition::Seen {
        before: &before,
        generation: object.meta().generation,
        now: context.now(),
    };
    status["conditions"] = serde_json::to_value(seen.paused()).unwrap_or_default();
    tracing::debug!(object = object.name_any(), "paused");
    Ok(context.statuses.write(object, &status).await?)
}
