//! Reconciling a `ModelPool`: Deployment, Service, disruption budget and network policy of one model.

use crate::apply::Applied;
use crate::cache::{get, listed};
use crate::context::{Context, Next, ReconcileError, after, is_ending, refused, sooner};
use crate::key::Key;
use crate::{paused, shown};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use std::sync::Arc;
use std::time::Duration;
use weir_crds::ModelPool;
use weir_reconcile::condition::is_paused;
use weir_reconcile::model_pool::{self, FetchProgress, Observed, Reach};
use weir_reconcile::{Platform, Stack, names};

/// Pools are looked at this often even when nothing changes, since the authority by which downloads know the operator is
/// renewed by time alone.
const LOOK_AGAIN: Duration = Duration::from_secs(6 * 3600);

/// What is looked at.
struct Seen {
    pool: Arc<ModelPool>,
    stack: Stack,
    deployment: Option<Deployment>,
    /// Of an external server.
    reach: Option<Reach>,
}

pub(crate) async fn reconcile(context: &Context, key: &Key) -> Result<Next, ReconcileError> {
    let Some(seen) = observe(context, key) else {
        return Ok(None);
    };
    if is_paused(&seen.pool.metadata) {
        return paused::status(context, &*seen.pool).await;
    }
    if waits_for_a_look(&seen) {
        return Ok(None);
    }
    let mut problems = model_pool::validate(&seen.pool, &seen.stack);
    if !problems.is_empty() {
        shown::explain(context, &[&*seen.pool], &mut problems).await?;
        // What serves goes on serving until the object is right again.
        let observed = observed(context, key, &seen, &Applied::default());
        let now = (problems.as_slice(), context.now());
        let status = model_pool::status(&seen.pool, &seen.stack, &observed, now);
        let wait = context.statuses.write(&*seen.pool, &status).await?;
        return Ok(sooner(wait, Some(shown::LOOK_AGAIN)));
    }
    let platform = platform(context)?;
    let existing = seen.deployment.as_ref();
    let desired = model_pool::build(&seen.pool, &seen.stack, &platform, existing);
    let desired = desired
        .iter()
        .map(weir_reconcile::Object::to_json)
        .collect();
    let applied = context.apply(&*seen.pool, desired).await?;
    let observed = observed(context, key, &seen, &applied);
    let now = (problems.as_slice(), context.now());
    let status = model_pool::status(&seen.pool, &seen.stack, &observed, now);
    let wait = context.statuses.write(&*seen.pool, &status).await?;
    Ok(sooner(sooner(wait, after(&applied)), Some(LOOK_AGAIN)))
}

/// What the operator was started with, and its authority as it is now.
fn platform(context: &Context) -> Result<Platform, ReconcileError> {
    let authority = context.keeper.authority();
    let authority = authority.ok_or(ReconcileError::NoAuthority)?;
    Ok(Platform {
        operator_ca: authority.bundle.clone(),
        ..context.platform()
    })
}

/// Whether an external server was looked at by an operator before this one and by this one not yet. What is known stays until
/// then; the look puts the pool into the queue.
fn waits_for_a_look(seen: &Seen) -> bool {
    let conditions = seen
        .pool
        .status
        .iter()
        .flat_map(|status| &status.conditions);
    let is_known = conditions.into_iter().any(|condition| {
        condition.type_ == "EndpointsReady"
            && condition.status != "Unknown"
            && condition.observed_generation == seen.pool.metadata.generation
    });
    is_known && seen.reach == Some(Reach::Unknown)
}

fn observe(context: &Context, key: &Key) -> Option<Seen> {
    let pool = get(&context.caches.pools, &key.namespace, &key.name)?;
    if is_ending(&*pool) {
        return None;
    }
    let name = names::pool(&key.name);
    let stack = around(context, &pool);
    let server = model_pool::server(&pool, &stack);
    Some(Seen {
        reach: server.map(|server| context.reaches.of(key, &server)),
        stack,
        deployment: context.caches.typed("Deployment", &key.namespace, &name),
        pool,
    })
}

/// The part of the stack that a pool looks at: Secrets, and the memories that may embed with it. Never the other pools, so that
/// a pool costs the same in a namespace with thousands.
fn around(context: &Context, pool: &ModelPool) -> Stack {
    let caches = &context.caches;
    let namespace = pool.metadata.namespace.as_deref().unwrap_or_default();
    Stack {
        pools: vec![pool.clone()],
        memories: listed(&caches.memories, namespace),
        secrets: listed(&caches.secrets, namespace),
        ..Stack::default()
    }
}

fn observed(context: &Context, key: &Key, seen: &Seen, applied: &Applied) -> Observed {
    let name = names::pool(&key.name);
    let place = (key.namespace.as_str(), name.as_str());
    let (caches, fetches) = (&context.caches, &context.hub.fetches);
    let pods = caches.pods_with(&key.namespace, names::POOL_LABEL, &key.name);
    let fetch = fetches.of_pool((&key.namespace, &key.name), |name| {
        let pod = pods.iter().find(|pod| pod.name_any() == name);
        pod.is_some_and(model_pool::is_fetching)
    });
    Observed {
        deployment: applied.now(caches, "Deployment", place),
        pods,
        fetch: fetch.map(|fetch| FetchProgress {
            downloaded_bytes: fetch.downloaded_bytes,
            total_bytes: fetch.total_bytes,
            remaining_seconds: fetch.remaining_seconds,
        }),
        benchmark: context.benchmarks.get(key),
        reach: seen.reach.clone().unwrap_or_default(),
        scale_manager: model_pool::other_scale_manager(&seen.pool),
        refused: refused(applied),
    }
}
