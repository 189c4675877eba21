//! Reconciling a `RouterVersion`: an artifact is found or fetched, verified once, and its bytes are kept.
//!
//! The kept ConfigMap belongs to nobody but its digest: what serves outlives the version and the place it came from. When
//! nothing needs it any more, `collect.rs` removes it.

use crate::cache::get;
use crate::context::{Context, Next, ReconcileError, after, is_ending, sooner};
use crate::key::Key;
use crate::{paused, shown};
use k8s_openapi::api::core::v1::ConfigMap;
use std::sync::Arc;
use weir_crds::RouterVersion;
use weir_reconcile::condition::is_paused;
use weir_reconcile::router_version::{self, ARTIFACT_KEY, Found};
use weir_reconcile::{Stack, names};

/// What is looked at.
struct Seen {
    version: Arc<RouterVersion>,
    stack: Arc<Stack>,
    /// What was kept of it, or what lies where the version says.
    found: Option<Found>,
    is_kept: bool,
}

pub(crate) async fn reconcile(context: &Context, key: &Key) -> Result<Next, ReconcileError> {
    let Some((seen, look_again)) = observe(context, key) else {
        return Ok(None);
    };
    if is_paused(&seen.version.metadata) {
        return paused::status(context, &*seen.version).await;
    }
    let verified = match &seen.found {
        Some(Found::Bytes(bytes)) => {
            let verified = router_version::verify(&seen.version, bytes);
            verified.is_ok().then_some(bytes)
        }
        _ => None,
    };
    let desired = verified
        .filter(|_| !seen.is_kept)
        .map(|bytes| router_version::build(&seen.version, bytes).to_json());
    let applied = context
        .apply(&*seen.version, desired.into_iter().collect())
        .await?;
    let found = seen.found.as_ref();
    let mut status = router_version::status(&seen.version, &seen.stack, found, context.now());
    shown::explain_conditions(context, &*seen.version, &mut status.conditions).await?;
    let wait = context.statuses.write(&*seen.version, &status).await?;
    Ok(sooner(sooner(wait, after(&applied)), look_again))
}

/// What there is, and when to look again without a change.
fn observe(context: &Context, key: &Key) -> Option<(Seen, Next)> {
    let caches = &context.caches;
    let version = get(&caches.routers, &key.namespace, &key.name)?;
    if is_ending(&*version) {
        return None;
    }
    let kept = kept(context, &key.namespace, &version.spec.sha256);
    let (there, look_again) = there(context, (key, &version), kept.is_some());
    let seen = Seen {
        stack: context.stacks.get(caches, &key.namespace),
        is_kept: kept.is_some(),
        found: router_version::counts(&version, there, kept),
        version,
    };
    Some((seen, look_again))
}

/// What lies where the version says. Nobody is asked for what is kept already.
fn there(
    context: &Context,
    (key, version): (&Key, &RouterVersion),
    is_kept: bool,
) -> (Option<Found>, Next) {
    if let Some(reference) = &version.spec.artifact.config_map {
        let config_map = get(&context.caches.config_maps, &key.namespace, &reference.name);
        let missing = config_map.is_none().then_some(shown::LOOK_AGAIN);
        let found = router_version::find(version, config_map.as_deref());
        return (Some(found), missing);
    }
    match router_version::address(version, &context.artifact_hosts) {
        Ok(None) => (None, None),
        Err(found) => (Some(found), None),
        Ok(Some(_)) if is_kept => {
            context.artifacts.forget(key);
            (Some(Found::Coming), None)
        }
        Ok(Some(url)) => {
            let (found, wait) = context.artifacts.find(key, url);
            (Some(found), wait)
        }
    }
}

/// The bytes that are kept under a digest.
pub(crate) fn kept(context: &Context, namespace: &str, sha256: &str) -> Option<Vec<u8>> {
    let name = names::router(sha256);
    let kept: ConfigMap = context.caches.typed("ConfigMap", namespace, &name)?;
    Some(kept.binary_data?.remove(ARTIFACT_KEY)?.0)
}
