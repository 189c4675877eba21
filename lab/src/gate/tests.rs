//! Rollouts as a gateway logs them, with known qualities.

use super::*;
use weir_gateway::record::{FeedbackRow, RouterRow, ShadowRow};
use weir_router::gate::Quality;
use weir_router::{ArmTable, Artifact, ChoiceInputs, QueryFacts, StepFeatures};

fn constant(best: usize) -> Router {
    let table = ArmTable::standard(3);
    let mut qualities = vec![2.0; table.arms.len()];
    qualities[best] = 4.0;
    Router::new(Artifact::constant(&table, &qualities)).unwrap()
}

fn choice(router: &Router, features: &StepFeatures, draw: f64) -> ChoiceRow {
    let arms = router.arms().arms.len();
    let mut state = router.start();
    router.observe(&mut state, features);
    let inputs = ChoiceInputs {
        permitted: vec![true; arms],
        latency_s: vec![0.0; arms],
        cost: vec![0.0; arms],
        per_second: 0.05,
        per_cost_unit: 0.1,
        floor: 0.1,
        near_tie_margin: 0.0,
        draw,
    };
    let outcome = router.choose(&state, &inputs).unwrap();
    ChoiceRow {
        chosen: None,
        tau: None,
        mask: vec![None; arms],
        inputs,
        outcome,
    }
}

/// A rollout at half of the users: arm 12 is the candidate's, `lost` points worse than arm 7, the active version's.
fn log(rows: usize, lost: f64) -> DecisionLog {
    let versions = [constant(7), constant(12)];
    let mut log = DecisionLog::default();
    for row in 0..rows {
        let draw = (row as f64 * 0.618_033_988_749).fract();
        let text = format!("How do I copy file {row}?");
        let facts = QueryFacts {
            text: &text,
            ..QueryFacts::default()
        };
        let features = facts.features();
        let [active, candidate] = versions.each_ref().map(|of| choice(of, &features, draw));
        let bucket = u8::try_from(row * 7 % 256).unwrap();
        let dispatched = if bucket < 128 {
            Role::Candidate
        } else {
            Role::Active
        };
        let (own, other) = match dispatched {
            Role::Active => (active, candidate),
            Role::Candidate => (candidate, active),
        };
        let agrees = own.outcome.arm == other.outcome.arm;
        let spread = if row / 3 % 2 == 0 { 0.8 } else { -0.8 };
        let score = 3.5 + spread - if own.outcome.arm == 12 { lost } else { 0.0 };
        let id = format!("d-{row}");
        if !agrees {
            log.scores.push(FeedbackRow {
                feedback_for: id.clone(),
                score: score.clamp(1.0, 5.0),
                label: None,
                propensity: None,
            });
        }
        log.decisions.push(Record {
            decision_id: id,
            router: RouterRow {
                schema_hash: versions[0].artifact().manifest().schema_hash.clone(),
                models: 3,
                ..RouterRow::default()
            },
            features: vec![features],
            propensity: Some(own.outcome.propensity),
            rollout: Some(RolloutRow {
                name: "support-v2-1".to_owned(),
                bucket,
                weight: 50,
                dispatched,
                shadow: ShadowRow {
                    router: RouterRow::default(),
                    arm: Some(other.outcome.arm),
                    choice: Some(other),
                    agrees,
                    error: None,
                },
            }),
            choice: Some(own),
            ..Record::default()
        });
    }
    log
}

fn policy() -> Policy {
    Policy {
        shadow_requests: 10,
        steps: vec![50],
        requests_per_step: 100,
        p99_latency_ratio_max: 1.1,
        error_rate_max: 0.01,
        confidence: 0.95,
        deadline: None,
        quality: Some(Quality {
            regret_max: 0.3,
            disagreements_per_step: 100,
            disagreements_max: 10_000,
        }),
    }
}

const SCORES: LabelSource = LabelSource::Scores { propensity: 1.0 };

fn asked<'a>(policy: &'a Policy, labels: Option<&'a LabelSource>) -> Question<'a> {
    Question {
        rollout: None,
        labels,
        reference: None,
        policy,
    }
}

#[test]
fn a_candidate_as_good_is_promoted_and_a_worse_one_is_rolled_back() {
    let policy = policy();
    let equal = gate(&log(4_000, 0.0), &asked(&policy, Some(&SCORES))).unwrap();
    assert_eq!(
        (equal.phase.as_str(), equal.reason.as_str()),
        ("Active", "Passed"),
        "{equal:?}"
    );
    let bounds = equal.regret.unwrap();
    assert!(
        bounds.low < 0.0 && 0.0 < bounds.high && bounds.high <= 0.3,
        "{bounds:?}"
    );
    let worse = gate(&log(4_000, 1.0), &asked(&policy, Some(&SCORES))).unwrap();
    assert_eq!(
        (worse.phase.as_str(), worse.reason.as_str()),
        ("RolledBack", "Regret"),
        "{worse:?}"
    );
    assert_eq!(worse.labelled, worse.disagreements);
}

#[test]
fn a_reference_is_compared_from_the_same_rows() {
    let (policy, log) = (policy(), log(4_000, 1.0));
    let reference = constant(7);
    let question = Question {
        reference: Some(&reference),
        ..asked(&policy, Some(&SCORES))
    };
    // The reference is the active version here, so both regrets estimate the same number.
    let report = gate(&log, &question);
    // Rows on which both agree have no label, and the reference needs those where the candidate may differ from it.
    assert!(
        matches!(report, Err(GateError::Labels { .. })),
        "{report:?}"
    );
    let mut judged = log;
    let unjudged: Vec<FeedbackRow> = judged
        .decisions
        .iter()
        .filter(|row| row.rollout.as_ref().unwrap().shadow.agrees)
        .map(|row| FeedbackRow {
            feedback_for: row.decision_id.clone(),
            score: 3.5,
            label: None,
            propensity: None,
        })
        .collect();
    judged.scores.extend(unjudged);
    let report = gate(&judged, &question).unwrap();
    let (active, reference) = (report.regret.unwrap(), report.reference_regret.unwrap());
    assert!(
        (active.value - reference.value).abs() < 0.15,
        "{active:?} {reference:?}"
    );
    assert!(reference.value > 0.5, "{reference:?}");
}

#[test]
fn without_labels_it_says_what_is_missing_and_partial_labels_are_refused() {
    let policy = policy();
    let mut log = log(4_000, 0.0);
    let scores = std::mem::take(&mut log.scores);
    let waits = gate(&log, &asked(&policy, None)).unwrap();
    assert_eq!(waits.message, "0 of 100 labelled disagreements");
    log.scores = scores;
    log.scores.truncate(500);
    let error = gate(&log, &asked(&policy, Some(&SCORES))).unwrap_err();
    assert!(matches!(error, GateError::Labels { .. }), "{error}");
}

#[test]
fn a_log_without_a_rollout_or_with_other_steps_is_refused() {
    let mut policy = policy();
    let none = gate(&DecisionLog::default(), &asked(&policy, None)).unwrap_err();
    assert!(none.to_string().contains("no rows of a rollout"), "{none}");
    let log = log(10, 0.0);
    let other = Question {
        rollout: Some("other"),
        ..asked(&policy, Some(&SCORES))
    };
    let error = gate(&log, &other).unwrap_err().to_string();
    assert!(error.contains("rows of support-v2-1"), "{error}");
    policy.steps = vec![5, 25];
    let error = gate(&log, &asked(&policy, Some(&SCORES)))
        .unwrap_err()
        .to_string();
    assert!(error.contains("stands at 50 %"), "{error}");
}
