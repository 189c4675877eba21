//! Rollouts of router versions: which attempt a gateway wants, what its evidence adds up to, where it stands.
//!
//! Pure, in three calls that the controller makes in this order: [`desired_rollout`] with the gateway and its rollouts
//! (create, end, delete, which version serves), [`fold`] and [`leave`] as reports come and pods go, [`step`] for the
//! status of the running rollout and the plan's candidate. What the numbers decide is weir-router's gate. If a status
//! is lost, the version that was active serves; never the candidate.

mod attempts;
mod demands;
mod evidence;
mod status;

pub use evidence::{GatewayReport, fold, leave};

use crate::inference_gateway::ready_condition;
use crate::plan::ServedRouters;
use crate::stack::Stack;
use crate::validate::name;
use attempts::{End, active, current, decides, has_ended, number, rollout_name, step_of, surplus};
use demands::{action, policy};
use evidence::{since_start, total, total_regret};
use k8s_openapi::jiff::Timestamp;
use status::{decided, progress, regret_status};
use std::sync::LazyLock;
use std::time::Duration;
use weir_crds::{
    GatewayRouterStatus, InferenceGateway, RolloutAction, RolloutLedger, RouterRollout,
    RouterRolloutSpec, RouterRolloutStatus, Time, VersionRef,
};
use weir_plan::{CandidatePhase, CandidatePlan, RouterPlan};
use weir_router::gate::evidence::RolloutEvidence;
use weir_router::gate::{self, Evidence};

/// Rollouts of a gateway that are kept, the newest first.
pub const KEPT: usize = 10;

/// What a gateway's rollouts should be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rollouts {
    /// The version that decides.
    pub active: VersionRef,
    /// An attempt to begin. It has no owner and no namespace yet.
    pub create: Option<RouterRollout>,
    /// The attempt that runs; [`step`] it.
    pub running: Option<String>,
    /// Attempts that end because of the gateway's spec, each with its last status.
    pub end: Vec<(String, RouterRolloutStatus)>,
    /// Attempts beyond those that are kept.
    pub delete: Vec<String>,
    /// What the gateway says of its router.
    pub status: GatewayRouterStatus,
}

/// What a gateway's rollouts should be; nothing is known while the first version that it ever had is not ready, so that it
/// begins with that one instead of rolling it out against the default artifact.
pub fn rollouts(
    gateway: &InferenceGateway,
    stack: &Stack,
    rollouts: &[RouterRollout],
    now: Timestamp,
) -> Option<Rollouts> {
    let wanted = wanted(gateway, stack);
    let own = name(&gateway.metadata.name);
    let status = gateway.status.as_ref();
    let router = status.and_then(|status| status.router.as_ref());
    let had_one = router.is_some_and(|router| !router.active_sha256.is_empty())
        || rollouts.iter().any(|rollout| rollout.spec.gateway == own);
    (wanted.is_some() || had_one).then(|| desired_rollout(gateway, wanted.as_ref(), rollouts, now))
}

/// The version that a gateway's spec names, once it is ready.
fn wanted(gateway: &InferenceGateway, stack: &Stack) -> Option<VersionRef> {
    let Some(named) = gateway.spec.router.version.as_deref() else {
        return Some(builtin());
    };
    let version = stack.router(named)?;
    let status = version.status.as_ref();
    let conditions = status.map_or(&[][..], |status| &status.conditions);
    let ready = ready_condition(conditions, version.metadata.generation)?;
    (ready.status == "True").then(|| VersionRef {
        version: named.to_owned(),
        sha256: version.spec.sha256.clone(),
    })
}

/// What a gateway's rollouts should be, from its spec, its status and the rollouts that exist for it.
///
/// `wanted` is the version that the spec names, with the digest that was verified; `None` while that version is not
/// ready, which changes nothing. A gateway that never had a version takes the wanted one at once: there is nothing to
/// compare it with. An attempt that failed is not repeated until the spec has named the active version again, or its
/// rollout is deleted.
pub fn desired_rollout(
    gateway: &InferenceGateway,
    wanted: Option<&VersionRef>,
    rollouts: &[RouterRollout],
    now: Timestamp,
) -> Rollouts {
    let own = name(&gateway.metadata.name);
    let mut attempts: Vec<&RouterRollout> = rollouts
        .iter()
        .filter(|rollout| rollout.spec.gateway == own)
        .collect();
    attempts.sort_by_key(|rollout| number(own, rollout));
    let known = gateway
        .status
        .as_ref()
        .and_then(|status| status.router.as_ref());
    // Without a digest the status only repeats what the spec names.
    let remembered = known.filter(|status| !status.active_sha256.is_empty());
    let remembered_attempts = remembered.and_then(|status| status.attempts).unwrap_or(0);
    let attempts_begun = attempts.last().map_or(0, |newest| number(own, newest));
    let last = attempts_begun.max(remembered_attempts);
    let may_run = |rollout: &RouterRollout| {
        number(own, rollout) >= last && remembered.is_none_or(|status| !decides(status, rollout))
    };
    let current = current(remembered, &attempts, may_run);
    let active = active(remembered, current, wanted);
    let mut desired = Rollouts {
        delete: surplus(&attempts, current),
        status: GatewayRouterStatus {
            active: active.version.clone(),
            active_sha256: active.sha256.clone(),
            attempts: Some(last),
            ..GatewayRouterStatus::default()
        },
        active,
        ..Rollouts::default()
    };
    let wanted = match (wanted, current) {
        // The default artifact comes with the gateway's build: another build of it is no other version.
        (Some(wanted), _) if is_builtin(wanted) && is_builtin(&desired.active) => &desired.active,
        (Some(wanted), _) => wanted,
        // A version that cannot be read just now ends no attempt at it.
        (None, Some(rollout)) if !has_ended(rollout) => &rollout.spec.to,
        (None, _) => &desired.active,
    }
    .clone();
    for rollout in attempts.iter().filter(|rollout| !has_ended(rollout)) {
        let is_current = current.is_some_and(|one| one.metadata.name == rollout.metadata.name);
        if is_current && rollout.spec.to == wanted {
            continue;
        }
        let end = End::of(rollout, may_run(rollout), (&wanted, &desired.active));
        let called = name(&rollout.metadata.name).to_owned();
        let decision = gate::ended(step_of(rollout), end.reason(), end.message());
        let before = rollout.status.clone().unwrap_or_default();
        let at = (rollout.metadata.generation, now);
        desired.end.push((called, decided(&before, &decision, at)));
    }
    match current {
        Some(rollout) if rollout.spec.to == wanted && !has_ended(rollout) => {
            desired.running = rollout.metadata.name.clone();
            desired.say(rollout);
        }
        Some(rollout) if rollout.spec.to == wanted && wanted != desired.active => {
            desired.say(rollout);
        }
        // The next attempt begins when the one that ends has ended.
        _ if wanted != desired.active && desired.end.is_empty() => {
            let named = remembered.and_then(|status| status.rollout.as_deref());
            desired.begin(gateway, &wanted, named);
        }
        _ => {}
    }
    desired
}

impl Rollouts {
    /// The versions of the router that the gateway serves, for its plan.
    pub fn served(&self, rollouts: &[RouterRollout]) -> ServedRouters {
        let running = rollouts
            .iter()
            .find(|rollout| self.running.is_some() && rollout.metadata.name == self.running);
        served(&self.active, running)
    }

    /// The gateway's status speaks of this attempt.
    fn say(&mut self, rollout: &RouterRollout) {
        let status = rollout.status.as_ref();
        self.status.candidate = Some(rollout.spec.to.version.clone());
        self.status.rollout = rollout.metadata.name.clone();
        self.status.phase = status.and_then(|status| status.phase);
        self.status.weight = Some(status.map_or(0, |status| status.weight));
        let regret = status.and_then(|status| status.evidence.regret.as_ref());
        self.status.regret = regret.and_then(|regret| regret.estimate);
        self.status.regret_upper = regret.and_then(|regret| regret.upper);
    }

    /// Begins an attempt. One that the gateway's status names already was not seen yet, or was deleted by a person who
    /// wants it again: it is created under the same name, so that looking too early never begins two.
    fn begin(&mut self, gateway: &InferenceGateway, wanted: &VersionRef, named: Option<&str>) {
        let own = name(&gateway.metadata.name);
        let last = self.status.attempts.unwrap_or(0);
        let is_last = named == Some(rollout_name(own, &wanted.version, last).as_str());
        let attempt = if is_last { last } else { last + 1 };
        let policy = &gateway.spec.router.rollout;
        let spec = RouterRolloutSpec {
            gateway: own.to_owned(),
            from: self.active.clone(),
            to: wanted.clone(),
            shadow: policy.shadow.clone(),
            canary: policy.canary.clone(),
            gate: policy.gate.clone(),
            action: RolloutAction::Continue,
        };
        let called = rollout_name(own, &wanted.version, attempt);
        self.status.attempts = Some(attempt);
        self.status.candidate = Some(wanted.version.clone());
        self.status.rollout = Some(called.clone());
        self.create = Some(RouterRollout::new(&called, spec));
    }
}

/// When a rollout is looked at, and how long it has been listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Now.
    pub now: Timestamp,
    /// When the last report of a gateway about this rollout came; `None` before the first one.
    pub report: Option<Timestamp>,
    /// Since when this process leads, or has known the rollout if that is later.
    pub listening: Timestamp,
}

/// Where the running rollout stands now.
#[derive(Clone, Debug, PartialEq)]
pub struct Stepped {
    /// Its new status.
    pub status: RouterRolloutStatus,
    /// Whether phase, step or reason changed: such a status is written at once, another may wait.
    pub moved: bool,
}

/// Steps the running rollout: its status from the reports that were folded into `ledger`, which the caller keeps and
/// takes back from the status, since a new step begins to count there.
pub fn step(rollout: &RouterRollout, ledger: &RolloutLedger, heard: &Heard) -> Stepped {
    let mut before = rollout.status.clone().unwrap_or_default();
    if has_ended(rollout) {
        return Stepped {
            status: before,
            moved: false,
        };
    }
    before.ledger = ledger.clone();
    let began = before.started_at.as_ref().map_or(heard.now, |at| at.0);
    let spec = &rollout.spec;
    let policy = policy(spec);
    let judged = policy.quality.as_ref().map(|_| total_regret(ledger));
    let evidence = Evidence {
        sums: since_start(ledger),
        regret: judged.into_iter().collect(),
        heard: heard.report.map(since_epoch),
        listening: since_epoch(heard.listening),
        began: since_epoch(began),
    };
    let at = before.step as usize;
    let now = since_epoch(heard.now);
    let decision = gate::next(at, &policy, &evidence, action(spec.action), now);
    before.evidence.regret = regret_status(&policy, &evidence.regret);
    let mut status = decided(&before, &decision, (rollout.metadata.generation, heard.now));
    let mut sums = evidence.sums;
    if decision.step != at || status.step_started_at.is_none() {
        status.step_started_at = Some(Time(heard.now));
    }
    if decision.step != at {
        status.ledger.step_start = total(ledger);
        sums = RolloutEvidence::default();
    }
    let labels = status.evidence.regret.as_ref();
    status.progress = progress(
        spec,
        &decision,
        (&sums, labels.map(|regret| regret.labelled)),
    );
    status.started_at = before.started_at.or(Some(Time(heard.now)));
    let moved = before.phase != status.phase
        || before.step != status.step
        || before.reason != status.reason;
    Stepped { status, moved }
}

/// The versions of the router that a gateway serves, for its plan. Without a status there is no candidate.
pub fn served(active: &VersionRef, running: Option<&RouterRollout>) -> ServedRouters {
    let candidate = running
        .filter(|rollout| !has_ended(rollout))
        .and_then(|rollout| {
            let status = rollout.status.as_ref()?;
            status.phase?;
            let phase = match status.weight {
                0 => CandidatePhase::Shadow,
                weight => CandidatePhase::Canary { weight },
            };
            Some(CandidatePlan {
                router: router_plan(&rollout.spec.to),
                rollout: name(&rollout.metadata.name).to_owned(),
                uid: rollout.metadata.uid.clone().unwrap_or_default(),
                phase,
            })
        });
    ServedRouters {
        active: router_plan(active),
        candidate,
    }
}

/// What the default artifact of this build is called in a rollout.
pub fn builtin() -> VersionRef {
    static SHA256: LazyLock<String> = LazyLock::new(|| {
        let router = weir_router::Router::builtin();
        router.artifact().sha256().to_owned()
    });
    VersionRef {
        version: RouterPlan::BUILTIN.to_owned(),
        sha256: SHA256.clone(),
    }
}

fn is_builtin(version: &VersionRef) -> bool {
    version.version == RouterPlan::BUILTIN
}

fn router_plan(version: &VersionRef) -> Option<RouterPlan> {
    (!is_builtin(version)).then(|| RouterPlan {
        version: version.version.clone(),
        sha256: version.sha256.clone(),
    })
}

fn since_epoch(at: Timestamp) -> Duration {
    Duration::try_from(at.as_duration()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
