//! The gate as a table, and its error rates by simulation under continuous looking.

use super::evidence::{Histogram, VersionEvidence};
use super::*;
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const NOW: Duration = Duration::from_secs(1_000);

fn policy() -> Policy {
    Policy {
        shadow_requests: 100,
        steps: vec![5, 25, 50],
        requests_per_step: 200,
        p99_latency_ratio_max: 1.1,
        error_rate_max: 0.01,
        confidence: 0.95,
        deadline: None,
        quality: None,
    }
}

/// Requests that all took this long.
fn version(requests: u64, errors: u64, milliseconds: f64) -> VersionEvidence {
    let mut latency = Histogram::default();
    for _ in 0..requests {
        latency.record(milliseconds);
    }
    VersionEvidence {
        requests,
        errors,
        open: 0,
        latency,
    }
}

fn heard(active: VersionEvidence, candidate: VersionEvidence) -> Evidence {
    let sums = RolloutEvidence {
        active,
        candidate,
        shadowed: 500,
        disagreements: 50,
    };
    Evidence {
        sums,
        regret: Vec::new(),
        heard: Some(NOW),
        listening: NOW,
        began: NOW,
    }
}

fn at(step: usize, evidence: &Evidence) -> Decision {
    next(step, &policy(), evidence, Action::Continue, NOW)
}

#[test]
fn the_shadow_ends_after_its_requests_and_dispatches_nobody_before() {
    let mut evidence = heard(version(0, 0, 1.0), version(0, 0, 1.0));
    evidence.sums.shadowed = 99;
    let held = at(0, &evidence);
    assert_eq!((held.phase, held.weight), (Phase::Shadow, 0));
    assert_eq!(held.message, "99 of 100 requests decided by both versions");
    evidence.sums.shadowed = 100;
    let begun = at(0, &evidence);
    assert_eq!(
        (begun.phase, begun.step, begun.weight),
        (Phase::Canary, 1, 5)
    );
}

#[test]
fn each_step_waits_for_both_versions_and_the_last_one_promotes() {
    let few = at(2, &heard(version(5_000, 0, 50.0), version(199, 0, 50.0)));
    assert_eq!((few.phase, few.step, few.weight), (Phase::Canary, 2, 25));
    assert_eq!(few.reason, Reason::Collecting);
    assert!(few.message.starts_with("199 of 200"), "{}", few.message);
    let few = at(2, &heard(version(199, 0, 50.0), version(900, 0, 50.0)));
    assert_eq!((few.phase, few.step), (Phase::Canary, 2));
    let enough = heard(version(200, 0, 50.0), version(200, 0, 50.0));
    let passed = at(2, &enough);
    assert_eq!(
        (passed.phase, passed.step, passed.weight),
        (Phase::Canary, 3, 50)
    );
    let active = at(3, &enough);
    assert_eq!((active.phase, active.weight), (Phase::Active, 100));
    assert_eq!(active.reason, Reason::Passed);
}

#[test]
fn the_first_step_waits_until_the_active_version_s_percentile_can_be_known() {
    let unknown = at(1, &heard(version(600, 0, 50.0), version(300, 0, 50.0)));
    assert_eq!((unknown.step, unknown.reason), (1, Reason::Collecting));
    let known = at(1, &heard(version(1_300, 0, 50.0), version(300, 0, 50.0)));
    assert_eq!((known.step, known.weight), (2, 25));
}

#[test]
fn a_candidate_that_fails_is_taken_out_after_a_handful_of_requests() {
    let failing = at(1, &heard(version(60, 0, 50.0), version(3, 3, 50.0)));
    assert_eq!((failing.phase, failing.weight), (Phase::RolledBack, 0));
    assert_eq!(failing.reason, Reason::ErrorRate);
    assert!(failing.message.starts_with("3 of 3"), "{}", failing.message);
}

#[test]
fn errors_that_both_versions_have_or_that_are_allowed_take_nobody_out() {
    let both = at(2, &heard(version(1_000, 300, 50.0), version(300, 90, 50.0)));
    assert_eq!((both.phase, both.step), (Phase::Canary, 3));
    let allowed = at(2, &heard(version(3_000, 0, 50.0), version(1_000, 8, 50.0)));
    assert_eq!((allowed.phase, allowed.step), (Phase::Canary, 3));
}

#[test]
fn a_candidate_twice_as_slow_is_taken_out_and_one_as_fast_is_not() {
    let slow = at(1, &heard(version(1_300, 0, 50.0), version(68, 0, 100.0)));
    assert_eq!(
        (slow.phase, slow.reason),
        (Phase::RolledBack, Reason::Latency)
    );
    let equal = at(1, &heard(version(1_300, 0, 50.0), version(300, 0, 54.0)));
    assert_eq!(equal.step, 2);
}

#[test]
fn evidence_against_the_candidate_that_does_not_decide_holds_the_weight() {
    // 3 % of errors against none: likelier beyond the limit than within it, not beyond chance.
    let held = at(2, &heard(version(300, 0, 50.0), version(200, 6, 50.0)));
    assert_eq!(
        (held.phase, held.step, held.weight),
        (Phase::Inconclusive, 2, 25)
    );
    assert_eq!(held.reason, Reason::Undecided);
}

#[test]
fn a_person_may_hold_promote_and_abort_but_not_overrule_a_decided_rollback() {
    let good = heard(version(2_000, 0, 50.0), version(200, 0, 50.0));
    let bad = heard(version(60, 0, 50.0), version(9, 9, 50.0));
    for (step, evidence, action, phase, reason) in [
        (2, &good, Action::Pause, Phase::Canary, Reason::Paused),
        (0, &good, Action::Pause, Phase::Shadow, Reason::Paused),
        (1, &good, Action::Promote, Phase::Active, Reason::Promoted),
        (0, &good, Action::Promote, Phase::Active, Reason::Promoted),
        (
            2,
            &good,
            Action::Abort,
            Phase::Aborted,
            Reason::AbortedByUser,
        ),
        (2, &bad, Action::Pause, Phase::RolledBack, Reason::ErrorRate),
        (
            2,
            &bad,
            Action::Promote,
            Phase::RolledBack,
            Reason::ErrorRate,
        ),
        (
            2,
            &bad,
            Action::Abort,
            Phase::Aborted,
            Reason::AbortedByUser,
        ),
    ] {
        let decision = next(step, &policy(), evidence, action, NOW);
        assert_eq!(
            (decision.phase, decision.reason),
            (phase, reason),
            "{action:?} at {step}"
        );
    }
}

#[test]
fn silence_holds_the_weight_and_says_so() {
    let mut evidence = heard(version(5_000, 0, 50.0), version(500, 0, 50.0));
    evidence.heard = Some(NOW.saturating_sub(STALE + Duration::from_millis(1)));
    let held = at(1, &evidence);
    assert_eq!(
        (held.phase, held.step, held.weight),
        (Phase::Inconclusive, 1, 5)
    );
    assert_eq!(held.reason, Reason::EvidenceStale);
    evidence.heard = None;
    let held = at(1, &evidence);
    assert_eq!(
        (held.step, held.reason),
        (1, Reason::Collecting),
        "it has just begun to listen"
    );
    evidence.listening = NOW.saturating_sub(STALE + Duration::from_millis(1));
    assert_eq!(at(1, &evidence).reason, Reason::EvidenceStale);
}

fn any_version() -> impl Strategy<Value = VersionEvidence> {
    (0_u64..4_000, 0_u64..50, 1.0_f64..500.0)
        .prop_map(|(requests, errors, ms)| version(requests, errors.min(requests), ms))
}

proptest! {
    #[test]
    fn the_weight_rises_by_one_step_at_a_time_and_never_while_evidence_is_stale(
        step in 0_usize..=3,
        active in any_version(),
        candidate in any_version(),
        age in 0_u64..30,
        pause in any::<bool>(),
    ) {
        let mut evidence = heard(active, candidate);
        evidence.heard = Some(NOW.saturating_sub(Duration::from_secs(age)));
        let action = if pause { Action::Pause } else { Action::Continue };
        let decision = next(step, &policy(), &evidence, action, NOW);
        let before = policy().weight(step);
        if decision.phase.ended() {
            prop_assert_eq!(decision.weight, if decision.phase == Phase::Active { 100 } else { 0 });
        } else {
            prop_assert_eq!(decision.weight, policy().weight(decision.step));
            prop_assert!(decision.step == step || decision.step == step + 1);
        }
        if age > STALE.as_secs() || pause {
            prop_assert!(decision.weight <= before);
        }
    }
}

/// Where a rollout is simulated, and looked at after every twentieth request.
struct World {
    /// Median of a log-normal latency, of the active version and of the candidate.
    milliseconds: [f64; 2],
    error_rate: [f64; 2],
    /// Both versions are slowed by this in a part of the run, as by a busy hour.
    busy: f64,
}

impl World {
    fn run(&self, seed: u64, requests_max: u64) -> (Decision, u64) {
        let (policy, mut random) = (policy(), ChaCha8Rng::seed_from_u64(seed));
        let mut evidence = heard(version(0, 0, 1.0), version(0, 0, 1.0));
        let (mut step, mut of_candidate) = (1, 0);
        let mut last = None;
        for request in 1..=requests_max {
            let candidate = random.random_range(0..100) < policy.weight(step);
            let which = usize::from(candidate);
            let busy = if request / 400 % 2 == 1 {
                self.busy
            } else {
                1.0
            };
            let spread: f64 = (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0;
            let milliseconds = self.milliseconds[which] * busy * (0.5 * spread).exp();
            let of = if candidate {
                of_candidate += 1;
                &mut evidence.sums.candidate
            } else {
                &mut evidence.sums.active
            };
            of.requests += 1;
            of.errors += u64::from(random.random::<f64>() < self.error_rate[which]);
            of.latency.record(milliseconds);
            if request % 20 != 0 {
                continue;
            }
            let decision = next(step, &policy, &evidence, Action::Continue, NOW);
            if decision.phase.ended() {
                return (decision, of_candidate);
            }
            if decision.step != step {
                step = decision.step;
                evidence = heard(version(0, 0, 1.0), version(0, 0, 1.0));
            }
            last = Some(decision);
        }
        (last.expect("at least one look"), of_candidate)
    }

    /// Share of runs that roll back, and the mean number of requests that the candidate got.
    fn rolled_back(&self, runs: u64, requests_max: u64) -> (f64, f64) {
        let ends = (0..runs).map(|seed| self.run(seed, requests_max));
        let (mut back, mut requests) = (0.0, 0.0);
        for (decision, of_candidate) in ends {
            back += f64::from(u8::from(decision.phase == Phase::RolledBack));
            requests += of_candidate as f64;
        }
        (back / runs as f64, requests / runs as f64)
    }
}

#[test]
fn an_equal_candidate_is_rolled_back_less_often_than_the_confidence_allows() {
    for (error_rate, busy) in [(0.0, 1.0), (0.05, 3.0)] {
        let world = World {
            milliseconds: [400.0; 2],
            error_rate: [error_rate; 2],
            busy,
        };
        let (rate, _) = world.rolled_back(120, 7_000);
        assert!(rate <= 0.05, "{rate} at {error_rate}");
    }
}

#[test]
fn an_equal_candidate_becomes_active() {
    let world = World {
        milliseconds: [400.0; 2],
        error_rate: [0.002; 2],
        busy: 1.0,
    };
    let active = (0..50).filter(|seed| world.run(*seed, 20_000).0.phase == Phase::Active);
    let count = active.count();
    assert!(count >= 45, "{count} of 50");
}

#[test]
fn a_candidate_twice_as_slow_is_rolled_back_within_a_few_hundred_of_its_requests() {
    let world = World {
        milliseconds: [400.0, 800.0],
        error_rate: [0.0; 2],
        busy: 1.0,
    };
    let (rate, requests) = world.rolled_back(60, 20_000);
    assert!(rate >= 0.95, "{rate}");
    assert!(requests < 400.0, "{requests}");
}

#[test]
fn a_candidate_with_a_tenth_of_errors_is_rolled_back_within_a_hundred_of_its_requests() {
    let world = World {
        milliseconds: [400.0; 2],
        error_rate: [0.002, 0.1],
        busy: 1.0,
    };
    let (rate, requests) = world.rolled_back(60, 20_000);
    assert!(rate >= 0.95, "{rate}");
    assert!(requests < 100.0, "{requests}");
}

fn judged(regret_max: f64, disagreements_max: u64) -> Policy {
    Policy {
        quality: Some(Quality {
            regret_max,
            disagreements_per_step: 100,
            disagreements_max,
        }),
        ..policy()
    }
}

/// Evidence of a last step whose disagreements gave these qualities in turn, to the active version and the candidate.
fn answered(disagreements: u64, active: f64, candidate: f64) -> Evidence {
    let mut regret = RegretEvidence::default();
    let mut learner = regret::Learner::default();
    for index in 0..disagreements {
        let dispatched = usize::from(index % 2 == 1);
        // Qualities are spread by a point, so that there is something to be unsure of.
        let spread = if index / 2 % 2 == 0 { 1.0 } else { -1.0 };
        let row = regret::Compared {
            bucket: u8::try_from(index % 256).unwrap(),
            weight: 50,
            dispatched,
            active: &[1.0, 0.0],
            candidate: &[0.0, 1.0],
            baseline: &[1.0, 0.0],
            expected: &[3.0, 3.0],
            label: Some(crate::ope::Label {
                reward: [active, candidate][dispatched] + spread,
                propensity: 1.0,
            }),
        };
        regret.observe(&row, &mut learner);
    }
    let mut evidence = heard(version(5_000, 0, 50.0), version(5_000, 0, 50.0));
    evidence.regret = vec![regret];
    evidence
}

fn at_last(policy: &Policy, evidence: &Evidence) -> Decision {
    next(3, policy, evidence, Action::Continue, NOW)
}

#[test]
fn answers_decide_once_enough_disagreements_are_labelled() {
    let policy = judged(0.5, 2_000);
    let few = at_last(&policy, &answered(299, 3.0, 3.0));
    assert_eq!((few.phase, few.reason), (Phase::Canary, Reason::Collecting));
    assert_eq!(few.message, "299 of 300 labelled disagreements");
    let equal = at_last(&policy, &answered(1_200, 3.0, 3.0));
    assert_eq!((equal.phase, equal.reason), (Phase::Active, Reason::Passed));
    let worse = at_last(&policy, &answered(1_200, 4.0, 2.0));
    assert_eq!(
        (worse.phase, worse.reason),
        (Phase::RolledBack, Reason::Regret)
    );
    assert!(
        worse
            .message
            .contains("of the active version, by 1200 labelled"),
        "{}",
        worse.message
    );
}

#[test]
fn answers_that_do_not_decide_are_waited_for_and_then_inconclusive() {
    let open = answered(320, 3.0, 2.7);
    let waits = at_last(&judged(0.5, 2_000), &open);
    assert_eq!(
        (waits.phase, waits.reason),
        (Phase::Canary, Reason::Collecting)
    );
    assert!(
        waits.message.contains("more of them would tell"),
        "{}",
        waits.message
    );
    let inconclusive = at_last(&judged(0.5, 320), &open);
    assert_eq!(
        (inconclusive.phase, inconclusive.reason),
        (Phase::Inconclusive, Reason::Undecided)
    );
}

#[test]
fn labels_that_somebody_chose_decide_nothing() {
    let policy = judged(0.5, 2_000);
    let mut chosen = answered(1_200, 4.0, 2.0);
    let unjudged = regret::Compared {
        bucket: 7,
        weight: 50,
        dispatched: 0,
        active: &[1.0, 0.0],
        candidate: &[0.0, 1.0],
        baseline: &[1.0, 0.0],
        expected: &[3.0, 3.0],
        label: None,
    };
    // One in six is on its way, which is allowed; then as many are missing as were judged.
    (0..240).for_each(|_| chosen.regret[0].decided(&unjudged));
    assert_eq!(at_last(&policy, &chosen).reason, Reason::Regret);
    (0..960).for_each(|_| chosen.regret[0].decided(&unjudged));
    let held = at_last(&policy, &chosen);
    assert_eq!(
        (held.phase, held.reason),
        (Phase::Canary, Reason::Collecting)
    );
    assert!(
        held.message
            .starts_with("the labels stand for 50 % of 2400 disagreements"),
        "{}",
        held.message
    );
}

#[test]
fn what_is_still_missing_after_the_deadline_is_inconclusive_and_comes_too_late_for_nothing() {
    let policy = Policy {
        deadline: Some(Duration::from_secs(600)),
        ..judged(0.5, 2_000)
    };
    let since = |seconds: u64, evidence: Evidence| {
        let began = NOW.saturating_sub(Duration::from_secs(seconds));
        at_last(&policy, &Evidence { began, ..evidence })
    };
    let starved = answered(12, 3.0, 3.0);
    assert_eq!(since(600, starved.clone()).reason, Reason::Collecting);
    let held = since(601, starved);
    assert_eq!(
        (held.phase, held.weight, held.reason),
        (Phase::Inconclusive, 50, Reason::DeadlineExceeded)
    );
    assert_eq!(
        held.message,
        "still missing after 600 s: 12 of 300 labelled disagreements"
    );
    assert_eq!(since(900, answered(1_200, 3.0, 3.0)).phase, Phase::Active);
    assert_eq!(since(900, answered(1_200, 4.0, 2.0)).reason, Reason::Regret);
}

#[test]
fn a_loss_against_the_reference_alone_takes_the_candidate_out() {
    let mut evidence = answered(1_200, 3.0, 3.0);
    evidence.regret.extend(answered(1_200, 4.0, 2.0).regret);
    let decision = at_last(&judged(0.5, 2_000), &evidence);
    assert_eq!(
        (decision.phase, decision.reason),
        (Phase::RolledBack, Reason::Regret)
    );
    assert!(
        decision.message.contains("of the reference"),
        "{}",
        decision.message
    );
    // One that is only not known to be as good as the reference is not promoted either.
    evidence.regret.truncate(1);
    evidence.regret.extend(answered(320, 3.0, 2.7).regret);
    let decision = at_last(&judged(0.5, 2_000), &evidence);
    assert_eq!(decision.reason, Reason::Collecting, "{}", decision.message);
}

#[test]
fn judged_rollouts_err_no_more_often_than_the_confidence_allows() {
    // A few runs: enough to see a gate that is wrong. The claim itself is checked on 2,000 by `weir router gate --simulate`.
    let rates = |regret: f64, steps: &[u32]| {
        let mut world = simulate::World::new(regret);
        world.policy.steps = steps.to_vec();
        simulate::Rates::of(&(0..40).map(|seed| world.run(seed)).collect::<Vec<_>>())
    };
    let usual = [5, 25, 50];
    let (equal, limit, bad) = (rates(0.0, &usual), rates(0.1, &usual), rates(0.3, &[50]));
    assert!(
        equal.rolled_back <= 0.1 && equal.promoted >= 0.6,
        "{equal:?}"
    );
    assert!(limit.promoted <= 0.15, "{limit:?}");
    assert!(
        bad.rolled_back >= 0.9 && bad.labelled_median < 1_500,
        "{bad:?}"
    );
}
