//! Reconciling an `InferenceGateway`: the processes that answer, their certificate, and the plan on their disk.
//!
//! The plan that travels is made in `publisher.rs`, which asks for a reconcile when it told a gateway another one. What is
//! written here is its slow part, with which a gateway starts while the operator is away and goes on when it hears nothing
//! more. When the stack stops fitting together, the last one that did stays.

use crate::apply::{Applied, ApplyError};
use crate::authority::entries_of;
use crate::cache::{Caches, get, listed};
use crate::context::{Context, Next, ReconcileError, after, is_ending, refused, sooner};
use crate::control::caller::GatewayId;
use crate::key::Key;
use crate::pki::Identity;
use crate::{certificate, paused, router_rollout, router_version, shown, tls_secret};
use k8s_openapi::api::core::v1::Secret;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use weir_crds::{InferenceGateway, RouterRollout, RouterRolloutStatus};
use weir_plan::{GatewayPlan, RouterPlan};
use weir_reconcile::condition::is_paused;
use weir_reconcile::inference_gateway::{self, Material, Observed};
use weir_reconcile::router_rollout::Rollouts;
use weir_reconcile::{Problem, Stack, names, still_accepted, still_may_ask};
use weir_router::drift::{Drift, Window};
use weir_router::{Artifact, Router};

/// How soon a gateway of which no plan was told yet is looked at again, should nobody ask for that.
const UNTOLD: Duration = Duration::from_secs(1);

/// How soon requests are compared again with those that the router was trained on.
const COMPARED_EVERY: Duration = Duration::from_secs(30);

/// What is looked at.
struct Seen {
    gateway: Arc<InferenceGateway>,
    stack: Arc<Stack>,
    rollouts: Vec<RouterRollout>,
    /// What its rollouts should be; `None` while its first version is not ready.
    desired: Option<Rollouts>,
}

impl Seen {
    /// The status of the rollout that the gateway's status speaks of.
    fn rollout_status(&self) -> Option<RouterRolloutStatus> {
        let named = self.desired.as_ref()?.status.rollout.as_ref();
        let mut all = self.rollouts.iter();
        let rollout = all.find(|rollout| rollout.metadata.name.as_ref() == named)?;
        rollout.status.clone()
    }
}

pub(crate) async fn reconcile(context: &Context, key: &Key) -> Result<Next, ReconcileError> {
    let Some(seen) = observe(context, key) else {
        return Ok(None);
    };
    if is_paused(&seen.gateway.metadata) {
        return paused::status(context, &*seen.gateway).await;
    }
    if let Some(desired) = &seen.desired {
        router_rollout::apply(context, &seen.gateway, desired).await?;
    }
    let mut problems = inference_gateway::validate(&seen.gateway, &seen.stack);
    let is_stopped = problems.iter().any(|problem| !problem.left_out);
    let look_again = is_stopped.then_some(shown::LOOK_AGAIN);
    let plan = if is_stopped {
        last_plan(context, key, (&seen.gateway, &seen.stack))?
    } else {
        slow_plan(context, key)?
    };
    if plan.is_none() && !is_stopped {
        return Ok(Some(UNTOLD));
    }
    let Some(plan) = plan else {
        // Nothing was ever served and nothing could be: only the status has something to say.
        explain(context, &seen, &mut problems).await?;
        let wait = status(context, key, &seen, (&problems, &Applied::default())).await?;
        return Ok(sooner(wait, look_again));
    };
    let tls = tls_secret::build(context, &*seen.gateway, tls(key)).await?;
    let artifacts = artifacts(context, key, &plan);
    let material = Material {
        plan: Some(&plan),
        artifacts: &artifacts,
    };
    let built = inference_gateway::build(&seen.gateway, &context.platform(), material);
    let mut desired = vec![tls.document];
    desired.extend(built.iter().map(weir_reconcile::Object::to_json));
    let applied = context.apply(&*seen.gateway, desired).await?;
    explain(context, &seen, &mut problems).await?;
    let wait = status(context, key, &seen, (&problems, &applied)).await?;
    let wait = sooner(sooner(wait, after(&applied)), tls.look_again);
    Ok(sooner(wait, look_again))
}

fn observe(context: &Context, key: &Key) -> Option<Seen> {
    let gateway = get(&context.caches.gateways, &key.namespace, &key.name)?;
    if is_ending(&*gateway) {
        return None;
    }
    let stack = context.stacks.get(&context.caches, &key.namespace);
    let rollouts = listed(&context.caches.rollouts, &key.namespace);
    let now = context.now();
    Some(Seen {
        desired: weir_reconcile::router_rollout::rollouts(&gateway, &stack, &rollouts, now),
        gateway,
        stack,
        rollouts,
    })
}

/// Problems of a gateway may be about Secrets of its own and of its pools.
async fn explain(
    context: &Context,
    seen: &Seen,
    problems: &mut [Problem],
) -> Result<(), ReconcileError> {
    shown::explain(context, &[&*seen.gateway], problems).await?;
    shown::explain(context, &seen.stack.used(&seen.gateway), problems).await
}

/// The slow part of the plan that the gateway was told last. One that says the same as the one written last keeps that one's
/// revision: a new leader, or a candidate that moves on, writes nothing.
pub(crate) fn slow_plan(
    context: &Context,
    key: &Key,
) -> Result<Option<GatewayPlan>, ReconcileError> {
    let before = plan_on_disk(&context.caches, &key.namespace, &key.name);
    let epoch = context.cluster.epoch().map_err(ApplyError::from)?;
    let Some(told) = context.hub.plans.plan_of(&gateway_id(key), epoch) else {
        return Ok(before);
    };
    let plan = inference_gateway::slow_plan(&told, &key.namespace);
    let same = |before: &GatewayPlan| {
        let revision = before.revision;
        *before
            == GatewayPlan {
                revision,
                ..plan.clone()
            }
    };
    Ok(before.filter(same).or(Some(plan)))
}

/// The plan that was written last, while no new one can be made. Keys that were taken back open nothing all the same.
pub(crate) fn last_plan(
    context: &Context,
    key: &Key,
    (gateway, stack): (&InferenceGateway, &Stack),
) -> Result<Option<GatewayPlan>, ReconcileError> {
    let Some(before) = plan_on_disk(&context.caches, &key.namespace, &key.name) else {
        return Ok(None);
    };
    let still = |plan: &GatewayPlan| {
        let jwt = still_accepted(gateway, plan.jwt.as_ref());
        (still_may_ask(stack, gateway, &plan.auth), jwt)
    };
    let is_still = |plan: &GatewayPlan| still(plan) == (plan.auth.clone(), plan.jwt.clone());
    if is_still(&before) {
        return Ok(Some(before));
    }
    let (auth, jwt) = still(&before);
    let epoch = context.cluster.epoch().map_err(ApplyError::from)?;
    let plans = &context.hub.plans;
    let revision = match plans.plan_of(&gateway_id(key), epoch) {
        Some(told) if is_still(&told) => told.revision,
        // It is told at once, and this is looked at again then.
        Some(_) => return Ok(Some(before)),
        None => plans.draw(epoch),
    };
    Ok(Some(GatewayPlan {
        auth,
        jwt,
        revision,
        ..before
    }))
}

fn gateway_id(key: &Key) -> GatewayId {
    GatewayId {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    }
}

/// The plan that was written last, whoever led then.
pub(crate) fn plan_on_disk(caches: &Caches, namespace: &str, gateway: &str) -> Option<GatewayPlan> {
    let name = names::gateway_plan(gateway);
    let secret: Secret = caches.typed("Secret", namespace, &name)?;
    let plan = secret.data?.remove(names::PLAN_KEY)?;
    serde_json::from_slice(&plan.0).ok()
}

/// The bytes of the artifacts that a plan names, as far as they are verified.
fn artifacts(context: &Context, key: &Key, plan: &GatewayPlan) -> BTreeMap<String, Vec<u8>> {
    let named = plan.router.iter().map(|router| router.sha256.clone());
    let bytes = named.filter_map(|sha256| {
        let bytes = router_version::kept(context, &key.namespace, &sha256)?;
        Some((sha256, bytes))
    });
    bytes.collect()
}

/// How the requests of a gateway's processes differ from those that its active router was trained on.
fn drift(context: &Context, key: &Key, seen: &Seen) -> Option<Drift> {
    let windows = context.hub.ledger().familiarity(&gateway_id(key));
    let router = match seen.desired.as_ref().map(|desired| &desired.status.active) {
        Some(active) if active == RouterPlan::BUILTIN => Some(Router::builtin()),
        Some(active) => {
            let version = seen.stack.router(active)?;
            let bytes = router_version::kept(context, &key.namespace, &version.spec.sha256)?;
            Router::new(Artifact::from_bytes(&bytes).ok()?).ok()
        }
        None => None,
    }?;
    let windows = windows.iter().map(|one| {
        let window = Window {
            requests: one.requests,
            unusual: one.unusual,
            kinds: one.kinds.clone(),
            columns: one.columns.clone(),
        };
        (one.sha256.as_str(), window)
    });
    inference_gateway::drift(router.artifact(), windows)
}

/// The Secret of the certificate and whom it names.
fn tls(key: &Key) -> tls_secret::Wanted {
    tls_secret::Wanted {
        secret: names::gateway_tls(&key.name),
        label: names::GATEWAY_LABEL,
        identity: Identity {
            uri: format!("weir://{}/gateway/{}", key.namespace, key.name),
            dns: Vec::new(),
        },
    }
}

async fn status(
    context: &Context,
    key: &Key,
    seen: &Seen,
    (problems, applied): (&[Problem], &Applied),
) -> Result<Next, ReconcileError> {
    let expose = &seen.gateway.spec.expose;
    let certificate = expose.tls_secret_ref.as_ref();
    let certificate = certificate.map(|secret| seen.stack.secret(&secret.name));
    let name = names::gateway(&key.name);
    let place = (key.namespace.as_str(), name.as_str());
    let caches = &context.caches;
    let observed = Observed {
        deployment: applied.now(caches, "Deployment", place),
        pods: caches.pods_with(&key.namespace, names::GATEWAY_LABEL, &key.name),
        service: applied.now(caches, "Service", place),
        router: seen.desired.as_ref().map(|desired| desired.status.clone()),
        rollout: seen.rollout_status(),
        drift: drift(context, key, seen),
        certificate_fault: certificate
            .flatten()
            .and_then(|secret| certificate::fault(&entries_of(secret), SystemTime::now())),
        refused: refused(applied),
    };
    let now = (problems, context.now());
    let mut status = inference_gateway::status(&seen.gateway, &seen.stack, &observed, now);
    shown::explain_conditions(context, &*seen.gateway, &mut status.conditions).await?;
    let wait = context.statuses.write(&*seen.gateway, &status).await?;
    let compares = observed.drift.is_some_and(|drift| drift.requests > 0);
    let wait = sooner(wait, compares.then_some(COMPARED_EVERY));
    let look_again = certificate
        .is_some_and(|found| found.is_none())
        .then_some(shown::LOOK_AGAIN);
    Ok(sooner(wait, look_again))
}
