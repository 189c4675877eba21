//! Working the queue off: one object at a time per worker, each by the file of its kind.
//!
//! An error is told once as an Event and tried again later; an object that only its author can right waits for a change.

use crate::cache::get;
use crate::context::{Context, Next, ReconcileError};
use crate::key::{Key, Kind};
use crate::lease::Leadership;
use crate::queue::Queue;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_plan::chain;

/// Works while this process leads, until `stop`.
pub(crate) async fn run(
    context: Arc<Context>,
    queue: Arc<Queue>,
    mut leadership: watch::Receiver<Leadership>,
    stop: CancellationToken,
) {
    loop {
        let leads = leadership.borrow_and_update().epoch().is_some();
        if !leads {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = leadership.changed() => continue,
            }
        }
        let key = tokio::select! {
            () = stop.cancelled() => return,
            _ = leadership.changed() => continue,
            key = queue.next() => key,
        };
        work(&context, &queue, &key).await;
        queue.done(&key);
    }
}

async fn work(context: &Context, queue: &Queue, key: &Key) {
    let start = Instant::now();
    let result = reconcile(context, key).await;
    let kind = key.kind.as_str();
    metrics::histogram!("weir_reconcile_seconds", "kind" => kind).record(start.elapsed());
    let word = if result.is_ok() { "ok" } else { "error" };
    metrics::counter!("weir_reconciles_total", "kind" => kind, "result" => word).increment(1);
    match result {
        Ok(next) => {
            queue.succeeded(key);
            if let Some(wait) = next {
                queue.add_after(key.clone(), wait);
            }
        }
        Err(error) => {
            let said = chain(&error);
            let wait = queue.failed(key.clone());
            tracing::warn!(%key, error = said, ?wait, "a reconcile failed; it is tried again");
            tell(context, key, &said).await;
        }
    }
}

async fn reconcile(context: &Context, key: &Key) -> Result<Next, ReconcileError> {
    if let Some(error) = context
        .caches
        .unreadable
        .get(key.kind.as_str(), &key.namespace, &key.name)
    {
        return crate::unreadable::reconcile(context, key, &error).await;
    }
    match key.kind {
        Kind::ModelPool => crate::model_pool::reconcile(context, key).await,
        Kind::MemoryStore => crate::memory_store::reconcile(context, key).await,
        Kind::RouterVersion => crate::router_version::reconcile(context, key).await,
        Kind::InferenceGateway => crate::inference_gateway::reconcile(context, key).await,
        Kind::RouterRollout => crate::router_rollout::reconcile(context, key).await,
    }
}

async fn tell(context: &Context, key: &Key, error: &str) {
    let (caches, statuses) = (&context.caches, &context.statuses);
    let (namespace, name) = (key.namespace.as_str(), key.name.as_str());
    match key.kind {
        Kind::ModelPool => {
            if let Some(object) = get(&caches.pools, namespace, name) {
                statuses.failed(&*object, error).await;
            }
        }
        Kind::MemoryStore => {
            if let Some(object) = get(&caches.memories, namespace, name) {
                statuses.failed(&*object, error).await;
            }
        }
        Kind::RouterVersion => {
            if let Some(object) = get(&caches.routers, namespace, name) {
                statuses.failed(&*object, error).await;
            }
        }
        Kind::InferenceGateway => {
            if let Some(object) = get(&caches.gateways, namespace, name) {
                statuses.failed(&*object, error).await;
            }
        }
        Kind::RouterRollout => {
            if let Some(object) = get(&caches.rollouts, namespace, name) {
                statuses.failed(&*object, error).await;
            }
        }
    }
}
