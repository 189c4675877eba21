//! Reconciling a `RouterRollout`: what gateways report is added up, and the gate moves the attempt on or takes it out.
//!
//! Once a second while it runs. What was added up is kept here between two looks and lies in the status, from which the
//! next leader goes on. Which attempts there should be is the gateway's matter (`inference_gateway.rs` begins and ends
//! them); the plan follows the status in `publisher.rs`. What the numbers decide is `weir_reconcile::router_rollout`.

use crate::apply::{ApplyError, MANAGER};
use crate::cache::{Caches, get, listed};
use crate::context::{Context, Next, ReconcileError, is_ending};
use crate::control::caller::GatewayId;
use crate::key::Key;
use crate::paused;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, PostParams};
use kube::{Resource, ResourceExt};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use weir_crds::{InferenceGateway, RolloutPhase, RouterRollout, RouterRolloutStatus};
use weir_proto::control::v1 as wire;
use weir_reconcile::condition::is_paused;
use weir_reconcile::router_rollout::{self, GatewayReport, Heard, Rollouts};
use weir_reconcile::{ServedRouters, Stack};
use weir_router::gate::evidence::{Histogram, RolloutEvidence, VersionEvidence};
use weir_router::gate::regret::{BUCKETS, RegretEvidence};

/// How often an attempt that runs is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// Numbers alone are written this often at most.
const NUMBERS_EVERY: Duration = Duration::from_secs(30);

/// What this process knows of the attempts that run beyond their objects, by uid.
#[derive(Default)]
pub(crate) struct Attempts(Mutex<HashMap<String, Attempt>>);

struct Attempt {
    /// The leadership in which it was taken up.
    epoch: u64,
    /// Since when reports about it are heard.
    listening: Timestamp,
    /// Its newest status, which a cache may not show yet.
    status: RouterRolloutStatus,
    written: Option<Instant>,
}

/// The reports of one look: each with the age of what it says.
pub(crate) struct Reports {
    pub(crate) reports: Vec<(GatewayReport, Duration)>,
    /// Pods of the gateway that live.
    pub(crate) pods: Vec<String>,
}

impl Attempts {
    /// Takes reports in and asks the gate: the status, and whether it is to be written now.
    pub(crate) fn step(
        &self,
        rollout: &RouterRollout,
        heard: &Reports,
        (epoch, now): (u64, Timestamp),
    ) -> (RouterRolloutStatus, bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = rollout.uid().unwrap_or_default();
        let known = || Attempt {
            epoch,
            listening: now,
            status: rollout.status.clone().unwrap_or_default(),
            written: None,
        };
        let attempt = all.entry(uid).or_insert_with(known);
        if attempt.epoch != epoch {
            // Another process led meanwhile: its status goes on.
            *attempt = known();
        }
        let mut ledger = attempt.status.ledger.clone();
        for (report, _) in &heard.reports {
            router_rollout::fold(&mut ledger, report);
        }
        let speaks = |pod: &str| heard.reports.iter().any(|(report, _)| report.pod == pod);
        let lives = |pod: &str| speaks(pod) || heard.pods.iter().any(|one| one == pod);
        router_rollout::leave(&mut ledger, lives);
        let youngest = heard.reports.iter().map(|(_, age)| *age).min();
        let at = Heard {
            now,
            report: youngest.and_then(|age| now.checked_sub(age).ok()),
            listening: attempt.listening,
        };
        let rollout_now = RouterRollout {
            status: Some(attempt.status.clone()),
            ..rollout.clone()
        };
        attempt.status = router_rollout::step(&rollout_now, &ledger, &at).status;
        let shown = rollout.status.clone().unwrap_or_default();
        // Against what the API server has, since a write may have failed.
        let gone = ledger.gone != shown.ledger.gone;
        let due = attempt
            .written
            .is_none_or(|written| written.elapsed() >= NUMBERS_EVERY);
        // What a process counted that is gone is reported by nobody any more: the next leader reads it in the status alone.
        let write = due || gone || moved(&shown, &attempt.status);
        (attempt.status.clone(), write)
    }

    pub(crate) fn wrote(&self, rollout: &RouterRollout) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(attempt) = all.get_mut(&rollout.uid().unwrap_or_default()) {
            attempt.written = Some(Instant::now());
        }
    }

    /// Forgets attempts that are gone or have ended.
    pub(crate) fn forget(&self, caches: &Caches) {
        let all = caches.rollouts.state();
        let running = all.iter().filter(|rollout| !has_ended(rollout));
        let running: Vec<String> = running.filter_map(|rollout| rollout.uid()).collect();
        let mut attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.retain(|uid, _| running.contains(uid));
    }
}

pub(crate) async fn reconcile(context: &Context, key: &Key) -> Result<Next, ReconcileError> {
    let Some(rollout) = observe(context, key) else {
        return Ok(None);
    };
    if is_paused(&rollout.metadata) {
        return paused::status(context, &*rollout).await;
    }
    let epoch = context.cluster.epoch().map_err(ApplyError::from)?;
    let heard = reports(context, &rollout);
    let (status, write) = context
        .attempts
        .step(&rollout, &heard, (epoch, context.now()));
    if write {
        context.statuses.write(&*rollout, &status).await?;
        context.attempts.wrote(&rollout);
    }
    let ended = status.phase.is_some_and(RolloutPhase::ended);
    Ok((!ended).then_some(EVERY))
}

/// The attempt, while it runs and its gateway wants it.
fn observe(context: &Context, key: &Key) -> Option<Arc<RouterRollout>> {
    let caches = &context.caches;
    let rollout = get(&caches.rollouts, &key.namespace, &key.name)?;
    let gateway = get(&caches.gateways, &key.namespace, &rollout.spec.gateway)?;
    if is_ending(&*rollout) || is_paused(&gateway.metadata) {
        return None;
    }
    let stack = context.stacks.get(caches, &key.namespace);
    let all = listed(&caches.rollouts, &key.namespace);
    let desired = router_rollout::rollouts(&gateway, &stack, &all, context.now())?;
    (desired.running.as_ref() == Some(&key.name)).then_some(rollout)
}

/// What gateway processes have said of an attempt, and which of their pods live.
fn reports(context: &Context, rollout: &RouterRollout) -> Reports {
    let gateway = GatewayId {
        namespace: rollout.namespace().unwrap_or_default(),
        name: rollout.spec.gateway.clone(),
    };
    let all = context.hub.ledger().evidence(&gateway, &rollout.name_any());
    let uid = rollout.uid().unwrap_or_default();
    // One that was made again under its name has nothing of the one before. Gateways of before name no uid.
    let of_this = |evidence: &wire::RolloutEvidence| evidence.uid.is_empty() || evidence.uid == uid;
    let reports = all.into_iter().filter(|(.., evidence)| of_this(evidence));
    let asks_for_labels = rollout.spec.gate.regret_max.is_some();
    let reports = reports.map(|(process, at, evidence)| {
        let regret = evidence.regret.as_ref().filter(|_| asks_for_labels);
        let report = GatewayReport {
            pod: process.pod,
            boot: counting(&process.boot, evidence.counting),
            evidence: read(&evidence),
            regret: regret.map(read_regret).unwrap_or_default(),
        };
        (report, at.elapsed())
    });
    let label = weir_reconcile::names::GATEWAY_LABEL;
    let pods = context
        .caches
        .pods_with(&gateway.namespace, label, &gateway.name);
    Reports {
        reports: reports.collect(),
        pods: pods.iter().map(ResourceExt::name_any).collect(),
    }
}

/// Which counting of a pod it is. Totals that begin at zero are added to those before them, as those of a process that was
/// started again: taken for a late report, they would not be looked at until they are as great as the former.
fn counting(boot: &str, counting: u64) -> String {
    match counting {
        0 => boot.to_owned(),
        counting => format!("{boot}/{counting}"),
    }
}

/// The versions of the router that a gateway serves now. Nobody looks at an attempt that is paused, so nobody is asked its
/// candidate.
pub(crate) fn served(
    gateway: &InferenceGateway,
    stack: &Stack,
    rollouts: &[RouterRollout],
) -> Option<ServedRouters> {
    let desired = router_rollout::rollouts(gateway, stack, rollouts, Timestamp::now())?;
    let mut guarded = rollouts.to_vec();
    guarded.retain(|rollout| !is_paused(&rollout.metadata));
    Some(desired.served(&guarded))
}

/// Makes a gateway's attempts what they should be: begins, ends and clears away.
pub(crate) async fn apply(
    context: &Context,
    gateway: &InferenceGateway,
    desired: &Rollouts,
) -> Result<(), ReconcileError> {
    let namespace = gateway.namespace().unwrap_or_default();
    for (name, status) in &desired.end {
        if let Some(rollout) = get(&context.caches.rollouts, &namespace, name) {
            context.statuses.write(&*rollout, status).await?;
        }
    }
    let api: Api<RouterRollout> = Api::namespaced(context.cluster.client(), &namespace);
    let fail = |step: &'static str, name: &str, source: kube::Error| ApplyError::Api {
        step,
        object: format!("RouterRollout {name}"),
        source: Box::new(source),
    };
    for name in &desired.delete {
        context.cluster.may_write().map_err(ApplyError::from)?;
        match api.delete(name, &DeleteParams::background()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(source) => return Err(fail("delete", name, source).into()),
        }
    }
    let Some(begins) = &desired.create else {
        return Ok(());
    };
    context.cluster.may_write().map_err(ApplyError::from)?;
    let mut begins = begins.clone();
    begins.metadata.owner_references = gateway.controller_owner_ref(&()).map(|owner| vec![owner]);
    let params = PostParams {
        field_manager: Some(MANAGER.into()),
        ..PostParams::default()
    };
    match api.create(&params, &begins).await {
        Ok(_) => Ok(()),
        // It was begun before, and the cache does not show it yet.
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(source) => Err(fail("create", &begins.name_any(), source).into()),
    }
}

fn moved(before: &RouterRolloutStatus, after: &RouterRolloutStatus) -> bool {
    let place = |status: &RouterRolloutStatus| (status.phase, status.step, status.weight);
    // One that was paused says so until it is written again.
    place(before) != place(after)
        || before.reason != after.reason
        || before.conditions.len() != after.conditions.len()
}

fn has_ended(rollout: &RouterRollout) -> bool {
    let phase = rollout.status.as_ref().and_then(|status| status.phase);
    phase.is_some_and(RolloutPhase::ended)
}

fn read(evidence: &wire::RolloutEvidence) -> RolloutEvidence {
    let version = |of: &Option<wire::VersionEvidence>| {
        let of = of.clone().unwrap_or_default();
        VersionEvidence {
            requests: of.requests,
            errors: of.errors,
            open: of.open,
            latency: Histogram::from_counts(&of.latency_ms_buckets),
        }
    };
    RolloutEvidence {
        active: version(&evidence.active),
        candidate: version(&evidence.candidate),
        shadowed: evidence.shadowed,
        disagreements: evidence.disagreements,
    }
}

fn read_regret(of: &wire::RegretEvidence) -> RegretEvidence {
    let buckets = |sums: &[i64]| sums.iter().copied().take(BUCKETS).collect();
    RegretEvidence {
        compared: of.compared,
        disagreements: of.disagreements,
        labelled: of.labelled,
        disagreeing: of.disagreeing,
        stood_for: of.stood_for,
        stood_for_variance: of.stood_for_variance,
        weights: buckets(&of.weights),
        terms: buckets(&of.terms),
    }
}
