//! A gateway's rollouts from the first version to the eleventh attempt, and one of them from shadow to rollback.

mod labels;
mod lost;

use super::*;
use weir_crds::{RolloutPhase, RolloutSums, stack};
use weir_router::gate::evidence::{Histogram, VersionEvidence};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).expect("a time")
}

fn version(called: &str) -> VersionRef {
    VersionRef {
        version: called.to_owned(),
        sha256: called.repeat(8),
    }
}

/// A gateway `support` whose rollouts go straight to a canary of one step.
fn gateway(status: Option<GatewayRouterStatus>) -> InferenceGateway {
    let text = "apiVersion: weir.dev/v1alpha1\nkind: InferenceGateway\nmetadata: {name: support}\nspec:\n  \
        pools: {matchLabels: {a: b}}\n  auth: {anonymous: {}}\n  \
        router: {rollout: {shadow: {requests: 10}, canary: {steps: [25], requestsPerStep: 100}}}\n";
    let file = stack::SourceFile {
        path: "g.yaml".into(),
        text: text.into(),
    };
    let documents = stack::parse(&[file]).expect("valid");
    let stack::Resource::InferenceGateway(gateway) = &documents[0].resource else {
        unreachable!("the document is a gateway")
    };
    let mut gateway = (**gateway).clone();
    gateway.status = Some(weir_crds::InferenceGatewayStatus {
        router: status,
        ..Default::default()
    });
    gateway
}

fn serving(active: &str) -> Option<GatewayRouterStatus> {
    Some(GatewayRouterStatus {
        active: active.to_owned(),
        active_sha256: version(active).sha256,
        ..GatewayRouterStatus::default()
    })
}

fn attempt(number: u32, from: &str, to: &str, phase: Option<RolloutPhase>) -> RouterRollout {
    let spec = RouterRolloutSpec {
        gateway: "support".to_owned(),
        from: version(from),
        to: version(to),
        shadow: weir_crds::ShadowPolicy { requests: 10 },
        canary: weir_crds::CanaryPolicy {
            steps: vec![25],
            requests_per_step: 100,
            ..weir_crds::CanaryPolicy::default()
        },
        gate: weir_crds::GatePolicy::default(),
        action: RolloutAction::Continue,
    };
    let mut rollout = RouterRollout::new(&format!("support-{to}-{number}"), spec);
    rollout.status = phase.map(|phase| RouterRolloutStatus {
        phase: Some(phase),
        weight: 25,
        ..RouterRolloutStatus::default()
    });
    rollout
}

fn desire(
    status: Option<GatewayRouterStatus>,
    wanted: &str,
    rollouts: &[RouterRollout],
) -> Rollouts {
    desired_rollout(&gateway(status), Some(&version(wanted)), rollouts, at(0))
}

fn created(desired: &Rollouts) -> Option<&str> {
    let rollout = desired.create.as_ref()?;
    rollout.metadata.name.as_deref()
}

#[test]
fn the_first_version_serves_at_once() {
    let desired = desire(None, "v1", &[]);
    assert_eq!(desired.active, version("v1"));
    assert_eq!(
        (created(&desired), desired.status.attempts),
        (None, Some(0))
    );
}

#[test]
fn another_version_begins_an_attempt_with_the_gateway_s_policy_while_the_active_one_serves() {
    let desired = desire(serving("v1"), "v2", &[]);
    assert_eq!(desired.active, version("v1"));
    let rollout = desired.create.as_ref().expect("an attempt");
    assert_eq!(rollout.metadata.name.as_deref(), Some("support-v2-1"));
    assert_eq!(
        (&rollout.spec.from, &rollout.spec.to),
        (&version("v1"), &version("v2"))
    );
    let policy = gateway(None).spec.router.rollout;
    assert_eq!(rollout.spec.shadow, policy.shadow);
    assert_eq!(rollout.spec.canary, policy.canary);
    assert_eq!(rollout.spec.gate, policy.gate);
    assert_eq!(desired.status.candidate.as_deref(), Some("v2"));
    assert_eq!(desired.status.rollout.as_deref(), Some("support-v2-1"));
}

#[test]
fn one_attempt_runs_at_a_time_and_a_changed_policy_is_for_the_next() {
    let running = attempt(1, "v1", "v2", Some(RolloutPhase::Canary));
    let mut changed = gateway(desire(serving("v1"), "v2", &[]).status.into());
    changed.spec.router.rollout.gate.error_rate_max = 0.5;
    let desired = desired_rollout(&changed, Some(&version("v2")), &[running], at(0));
    assert_eq!((created(&desired), desired.end.len()), (None, 0));
    assert_eq!(desired.running.as_deref(), Some("support-v2-1"));
    assert_eq!(desired.status.phase, Some(RolloutPhase::Canary));
    assert_eq!(desired.status.weight, Some(25));
}

#[test]
fn naming_the_active_version_again_rolls_back() {
    let running = attempt(1, "v1", "v2", Some(RolloutPhase::Canary));
    let desired = desire(serving("v1"), "v1", &[running]);
    let (called, status) = &desired.end[0];
    assert_eq!(called, "support-v2-1");
    assert_eq!(
        (status.phase, status.weight),
        (Some(RolloutPhase::RolledBack), 0)
    );
    assert_eq!(status.reason, "SpecReverted");
    assert_eq!(status.ended_at, Some(Time(at(0))));
    assert_eq!((created(&desired), &desired.running), (None, &None));
    assert_eq!(desired.status.candidate, None);
}

#[test]
fn a_third_version_ends_the_attempt_and_begins_when_it_has_ended() {
    let running = attempt(1, "v1", "v2", Some(RolloutPhase::Shadow));
    let desired = desire(serving("v1"), "v3", &[running]);
    assert_eq!(desired.end[0].1.phase, Some(RolloutPhase::Aborted));
    assert_eq!(desired.end[0].1.reason, "Superseded");
    assert_eq!(created(&desired), None);
    let ended = attempt(1, "v1", "v2", Some(RolloutPhase::Aborted));
    assert_eq!(
        created(&desire(serving("v1"), "v3", &[ended])),
        Some("support-v3-2")
    );
}

#[test]
fn a_failed_attempt_is_repeated_only_after_a_revert_or_its_deletion() {
    for phase in [RolloutPhase::RolledBack, RolloutPhase::Aborted] {
        let failed = [attempt(1, "v1", "v2", Some(phase))];
        let begun = desire(serving("v1"), "v2", &[]).status;
        let after = desire(Some(begun), "v2", &failed);
        assert_eq!((created(&after), &after.active), (None, &version("v1")));
        assert_eq!(after.status.candidate.as_deref(), Some("v2"));
        assert_eq!(after.status.phase, Some(phase));
        let reverted = desire(Some(after.status.clone()), "v1", &failed);
        assert_eq!(
            (created(&reverted), &reverted.status.candidate),
            (None, &None)
        );
        let again = desire(Some(reverted.status), "v2", &failed);
        assert_eq!(created(&again), Some("support-v2-2"));
        let deleted = desire(Some(after.status), "v2", &[]);
        assert_eq!(created(&deleted), Some("support-v2-1"));
    }
}

#[test]
fn a_rollout_that_is_not_seen_yet_is_not_begun_twice() {
    let begun = desire(serving("v1"), "v2", &[]);
    let again = desire(Some(begun.status.clone()), "v2", &[]);
    assert_eq!(
        (created(&again), &again.status),
        (created(&begun), &begun.status)
    );
}

#[test]
fn a_passed_attempt_makes_its_version_active_once() {
    let passed = attempt(1, "v1", "v2", Some(RolloutPhase::Active));
    let begun = desire(serving("v1"), "v2", &[]).status;
    let after = desire(Some(begun), "v2", std::slice::from_ref(&passed));
    assert_eq!((&after.active, created(&after)), (&version("v2"), None));
    assert_eq!(
        (&after.status.candidate, &after.status.rollout),
        (&None, &None)
    );
    // Back to v1 by a second attempt, whose object is deleted afterwards: the first one says nothing any more.
    let back = GatewayRouterStatus {
        attempts: Some(2),
        ..serving("v1").unwrap_or_default()
    };
    let desired = desire(Some(back), "v1", &[passed]);
    assert_eq!((&desired.active, created(&desired)), (&version("v1"), None));
}

#[test]
fn a_version_that_is_not_ready_changes_nothing() {
    let gateway = gateway(serving("v1"));
    assert_eq!(created(&desired_rollout(&gateway, None, &[], at(0))), None);
    let running = attempt(1, "v1", "v2", Some(RolloutPhase::Canary));
    let desired = desired_rollout(&gateway, None, &[running], at(0));
    assert_eq!((desired.end.len(), desired.running.is_some()), (0, true));
}

#[test]
fn the_default_artifact_is_a_version_and_its_build_is_not() {
    let old = GatewayRouterStatus {
        active: RouterPlan::BUILTIN.to_owned(),
        active_sha256: "of an older build".to_owned(),
        ..GatewayRouterStatus::default()
    };
    let same = desired_rollout(&gateway(Some(old.clone())), Some(&builtin()), &[], at(0));
    assert_eq!(created(&same), None);
    assert_eq!(served(&same.active, None).active, None);
    let other = desired_rollout(&gateway(Some(old)), Some(&version("v1")), &[], at(0));
    assert_eq!(created(&other), Some("support-v1-1"));
}

#[test]
fn the_last_ten_attempts_are_kept_and_other_gateways_are_left_alone() {
    let mut rollouts: Vec<RouterRollout> = (1..=12)
        .map(|number| attempt(number, "v1", "v2", Some(RolloutPhase::RolledBack)))
        .collect();
    rollouts.reverse();
    let mut foreign = attempt(1, "v1", "v2", Some(RolloutPhase::Canary));
    foreign.spec.gateway = "other".to_owned();
    rollouts.push(foreign);
    let desired = desire(serving("v1"), "v1", &rollouts);
    assert_eq!(desired.delete, ["support-v2-1", "support-v2-2"]);
    assert_eq!(desired.end, []);
    assert_eq!(desired.status.attempts, Some(12));
}

/// Totals of a process: shadowed requests, then requests and errors of both versions at one latency each.
fn totals(shadowed: u64, active: (u64, u64, f64), candidate: (u64, u64, f64)) -> RolloutEvidence {
    let version = |(requests, errors, milliseconds): (u64, u64, f64)| {
        let mut latency = Histogram::default();
        (0..requests).for_each(|_| latency.record(milliseconds));
        VersionEvidence {
            requests,
            errors,
            open: 0,
            latency,
        }
    };
    RolloutEvidence {
        active: version(active),
        candidate: version(candidate),
        shadowed,
        disagreements: shadowed / 2,
    }
}

fn report(pod: &str, boot: &str, evidence: RolloutEvidence) -> GatewayReport {
    GatewayReport {
        pod: pod.to_owned(),
        boot: boot.to_owned(),
        evidence,
        ..GatewayReport::default()
    }
}

fn requests(ledger: &RolloutLedger) -> (u64, u64) {
    let sums: RolloutSums = total(ledger);
    (sums.active.requests, sums.candidate.errors)
}

#[test]
fn reports_are_overwritten_and_those_of_other_processes_added() {
    let mut ledger = RolloutLedger::default();
    let of = |count| totals(count, (count, 0, 5.0), (count, 1, 5.0));
    assert!(fold(&mut ledger, &report("a", "1", of(10))));
    assert!(fold(&mut ledger, &report("b", "1", of(20))));
    assert_eq!(requests(&ledger), (30, 2));
    assert!(fold(&mut ledger, &report("a", "1", of(15))));
    assert_eq!(requests(&ledger), (35, 2));
    assert!(
        !fold(&mut ledger, &report("a", "1", of(12))),
        "it came late"
    );
    assert_eq!(requests(&ledger), (35, 2));
}

#[test]
fn what_a_dead_process_had_open_counts_as_errors_and_its_late_reports_do_not_count() {
    let mut open = totals(10, (10, 0, 5.0), (10, 0, 5.0));
    open.candidate.open = 3;
    let mut ledger = RolloutLedger::default();
    fold(&mut ledger, &report("a", "1", open.clone()));
    assert!(!leave(&mut ledger, |_| true));
    assert!(leave(&mut ledger, |pod| pod != "a"));
    assert_eq!(requests(&ledger), (10, 3));
    open.candidate.requests = 13;
    assert!(
        !fold(&mut ledger, &report("a", "1", open)),
        "the process is gone"
    );
    assert_eq!(requests(&ledger), (10, 3));
    // The pod's next process begins at zero beside it.
    fold(
        &mut ledger,
        &report("a", "2", totals(1, (1, 0, 5.0), (1, 0, 5.0))),
    );
    fold(
        &mut ledger,
        &report("a", "3", totals(2, (2, 0, 5.0), (1, 1, 5.0))),
    );
    assert_eq!(requests(&ledger), (13, 4));
}

/// Steps a rollout once after this report of its only gateway.
fn stepped(rollout: &mut RouterRollout, second: i64, evidence: RolloutEvidence) -> Stepped {
    let mut ledger = rollout.status.clone().unwrap_or_default().ledger;
    fold(&mut ledger, &report("a", "1", evidence));
    let heard = Heard {
        now: at(second),
        report: Some(at(second)),
        listening: at(0),
    };
    let stepped = step(rollout, &ledger, &heard);
    rollout.status = Some(stepped.status.clone());
    stepped
}

#[test]
fn a_slow_candidate_goes_from_shadow_over_canary_to_rollback() {
    let mut rollout = attempt(1, "v1", "v2", None);
    let none = (0, 0, 5.0);
    let begun = stepped(&mut rollout, 1, totals(4, none, none));
    assert_eq!(
        (begun.status.phase, begun.moved),
        (Some(RolloutPhase::Shadow), true)
    );
    assert_eq!(begun.status.progress, "4/10 decided by both");
    let plan = served(&version("v1"), Some(&rollout))
        .candidate
        .expect("a candidate");
    assert_eq!(plan.phase, CandidatePhase::Shadow);
    let more = stepped(&mut rollout, 2, totals(5, none, none));
    assert!(!more.moved, "only numbers changed");
    let canary = stepped(&mut rollout, 3, totals(10, none, none));
    assert_eq!(
        (canary.status.phase, canary.status.weight),
        (Some(RolloutPhase::Canary), 25)
    );
    assert_eq!(canary.status.step_started_at, Some(Time(at(3))));
    assert_eq!(canary.status.started_at, Some(Time(at(1))));
    let plan = served(&version("v1"), Some(&rollout))
        .candidate
        .expect("a candidate");
    assert_eq!(plan.phase, CandidatePhase::Canary { weight: 25 });
    assert_eq!(
        plan.router.map(|router| router.version).as_deref(),
        Some("v2")
    );
    let back = stepped(
        &mut rollout,
        9,
        totals(2_000, (1_500, 0, 50.0), (400, 0, 100.0)),
    );
    assert_eq!(
        (back.status.phase, back.status.weight),
        (Some(RolloutPhase::RolledBack), 0)
    );
    assert_eq!(back.status.reason, "Latency");
    assert_eq!(back.status.ended_at, Some(Time(at(9))));
    assert_eq!(back.status.conditions[0].reason, "Latency");
    assert_eq!(back.status.evidence.candidate.requests, 400);
    assert_eq!(served(&version("v1"), Some(&rollout)).candidate, None);
    assert!(
        !stepped(&mut rollout, 10, totals(3_000, none, none)).moved,
        "nothing follows"
    );
}

#[test]
fn each_step_counts_from_its_own_beginning() {
    let mut rollout = attempt(1, "v1", "v2", None);
    rollout.spec.canary.steps = vec![25, 50];
    stepped(&mut rollout, 1, totals(10, (0, 0, 5.0), (0, 0, 5.0)));
    let second = stepped(
        &mut rollout,
        2,
        totals(2_000, (1_500, 0, 50.0), (400, 0, 50.0)),
    );
    assert_eq!((second.status.step, second.status.weight), (2, 50));
    let few = stepped(
        &mut rollout,
        3,
        totals(2_050, (1_550, 0, 50.0), (450, 0, 50.0)),
    );
    assert_eq!((few.status.step, few.moved), (2, false));
    assert_eq!(few.status.progress, "step 2/2: 50/100 requests, 0 errors");
    let active = stepped(
        &mut rollout,
        4,
        totals(2_200, (1_600, 0, 50.0), (500, 0, 50.0)),
    );
    assert_eq!(active.status.phase, Some(RolloutPhase::Active));
    assert_eq!(active.status.conditions[0].status, "True");
    assert_eq!(active.status.weight, 100);
}

#[test]
fn a_new_leader_waits_for_reports_before_the_weight_rises() {
    let mut rollout = attempt(1, "v1", "v2", None);
    stepped(&mut rollout, 1, totals(4, (0, 0, 5.0), (0, 0, 5.0)));
    let mut ledger = rollout.status.clone().unwrap_or_default().ledger;
    fold(
        &mut ledger,
        &report("a", "1", totals(50, (0, 0, 5.0), (0, 0, 5.0))),
    );
    let mut heard = Heard {
        now: at(105),
        report: None,
        listening: at(100),
    };
    let waiting = step(&rollout, &ledger, &heard).status;
    assert_eq!(
        (waiting.phase, waiting.step),
        (Some(RolloutPhase::Shadow), 0)
    );
    heard.now = at(111);
    let silent = step(&rollout, &ledger, &heard).status;
    assert_eq!(
        (silent.phase, silent.step),
        (Some(RolloutPhase::Inconclusive), 0)
    );
    assert_eq!(silent.reason, "EvidenceStale");
    heard.report = Some(at(111));
    assert_eq!(step(&rollout, &ledger, &heard).status.step, 1);
}
