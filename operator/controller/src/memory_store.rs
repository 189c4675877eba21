//! Reconciling a `MemoryStore`: the claim, the one process that serves it, and its certificate.

use crate::apply::Applied;
use crate::cache::get;
use crate::context::{Context, Next, ReconcileError, after, is_ending, refused, sooner};
use crate::key::Key;
use crate::pki::Identity;
use crate::{paused, shown, tls_secret};
use std::sync::Arc;
use weir_crds::MemoryStore;
use weir_reconcile::condition::is_paused;
use weir_reconcile::memory_store::{self, Observed};
use weir_reconcile::{Stack, names};

/// What is looked at.
struct Seen {
    store: Arc<MemoryStore>,
    stack: Arc<Stack>,
}

pub(crate) async fn reconcile(context: &Context, key: &Key) -> Result<Next, ReconcileError> {
    let Some(seen) = observe(context, key) else {
        return Ok(None);
    };
    if is_paused(&seen.store.metadata) {
        return paused::status(context, &*seen.store).await;
    }
    let mut problems = memory_store::validate(&seen.store, &seen.stack);
    if !problems.is_empty() {
        shown::explain(context, &[&*seen.store], &mut problems).await?;
        let observed = observed(context, key, &Applied::default());
        let now = (problems.as_slice(), context.now());
        let status = memory_store::status(&seen.store, &seen.stack, &observed, now);
        let wait = context.statuses.write(&*seen.store, &status).await?;
        return Ok(sooner(wait, Some(shown::LOOK_AGAIN)));
    }
    let tls = tls_secret::build(context, &*seen.store, tls(key)).await?;
    let mut desired = vec![tls.document];
    let built = memory_store::build(&seen.store, &seen.stack, &context.platform());
    desired.extend(built.iter().map(weir_reconcile::Object::to_json));
    let applied = context.apply(&*seen.store, desired).await?;
    let observed = observed(context, key, &applied);
    let now = (problems.as_slice(), context.now());
    let status = memory_store::status(&seen.store, &seen.stack, &observed, now);
    let wait = context.statuses.write(&*seen.store, &status).await?;
    Ok(sooner(sooner(wait, after(&applied)), tls.look_again))
}

fn observe(context: &Context, key: &Key) -> Option<Seen> {
    let store = get(&context.caches.memories, &key.namespace, &key.name)?;
    (!is_ending(&*store)).then(|| Seen {
        stack: context.stacks.get(&context.caches, &key.namespace),
        store,
    })
}

/// The Secret of the certificate and whom it names.
fn tls(key: &Key) -> tls_secret::Wanted {
    let service = names::memory(&key.name);
    let namespace = &key.namespace;
    tls_secret::Wanted {
        secret: names::memory_tls(&key.name),
        label: names::MEMORY_LABEL,
        identity: Identity {
            uri: format!("weir://{namespace}/memory/{}", key.name),
            dns: vec![
                format!("{service}.{namespace}.svc"),
                format!("{service}.{namespace}.svc.cluster.local"),
            ],
        },
    }
}

fn observed(context: &Context, key: &Key, applied: &Applied) -> Observed {
    let name = names::memory(&key.name);
    let place = (key.namespace.as_str(), name.as_str());
    let caches = &context.caches;
    let said = context.descriptions.get(key);
    Observed {
        stateful_set: applied.now(caches, "StatefulSet", place),
        pods: caches.pods_with(&key.namespace, names::MEMORY_LABEL, &key.name),
        claim: applied.now(caches, "PersistentVolumeClaim", place),
        counts: said.clone().and_then(Result::ok),
        silent: said.and_then(Result::err),
        refused: refused(applied),
    }
}
