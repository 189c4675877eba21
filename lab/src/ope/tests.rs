//! Rows as a gateway writes them, with known qualities: what is estimated, left out and refused.

use super::*;
use weir_gateway::record::{CacheRow, ExecutedRow, FeedbackRow, OutcomeRow, RouterRow};
use weir_router::{ArmTable, Artifact, ChoiceInputs, QueryFacts};

/// Something that is wrong with a row.
type Change = fn(&mut Record);

/// What an answer of this arm is worth on every other question, and on the rest.
fn quality(arm: usize, question: usize) -> f64 {
    let best = (arm * 5 + question % 2 * 3) % 9;
    1.0 + best as f64 / 2.0
}

fn constant(best: usize) -> Router {
    let table = ArmTable::standard(3);
    let mut qualities = vec![2.0; table.arms.len()];
    qualities[best] = 4.0;
    Router::new(Artifact::constant(&table, &qualities)).unwrap()
}

fn decided(router: &Router, question: usize, draw: f64) -> Record {
    let arms = router.arms().arms.len();
    let text = format!("How do I copy file {question} in Python?");
    let facts = QueryFacts {
        text: &text,
        ..QueryFacts::default()
    };
    let features = vec![facts.features()];
    let mut state = router.start();
    router.observe(&mut state, &features[0]);
    let inputs = ChoiceInputs {
        permitted: vec![true; arms],
        latency_s: vec![0.0; arms],
        cost: vec![0.0; arms],
        per_second: 0.05,
        per_cost_unit: 0.1,
        floor: 0.5,
        near_tie_margin: 0.0,
        draw,
    };
    let outcome = router.choose(&state, &inputs).unwrap();
    Record {
        decision_id: format!("d-{question}"),
        router: RouterRow {
            schema_hash: router.artifact().manifest().schema_hash.clone(),
            models: router.arms().models,
            ..RouterRow::default()
        },
        features,
        propensity: Some(outcome.propensity),
        choice: Some(ChoiceRow {
            chosen: None,
            tau: None,
            inputs,
            outcome,
            mask: vec![None; arms],
        }),
        ..Record::default()
    }
}

/// A log whose every `judged`-th decision has a score.
fn log(router: &Router, rows: usize, judged: usize) -> DecisionLog {
    let draw = |row: usize| (row as f64 * 0.618_033_988_749).fract();
    let decisions: Vec<Record> = (0..rows)
        .map(|row| decided(router, row, draw(row)))
        .collect();
    let scores = decisions
        .iter()
        .enumerate()
        .filter(|(row, _)| row % judged == 0);
    let scores = scores.map(|(row, record)| FeedbackRow {
        feedback_for: record.decision_id.clone(),
        score: quality(record.choice.as_ref().unwrap().outcome.arm, row / judged),
        label: None,
        propensity: None,
    });
    DecisionLog {
        scores: scores.collect(),
        decisions,
        cut: 0,
    }
}

fn evaluated(log: &DecisionLog, candidate: &Router, judged: f64) -> Result<Report, OpeError> {
    let source = LabelSource::Scores {
        propensity: 1.0 / judged,
    };
    ope(
        log,
        Some(&source),
        candidate,
        (Reward::Quality, &Options::default()),
    )
}

#[test]
fn a_candidate_is_worth_what_its_arms_are_worth() {
    let (own, candidate) = (constant(7), constant(12));
    let value = |of: &Router| {
        let arms = of.arms().arms.len();
        let mean = |arm| f64::midpoint(quality(arm, 0), quality(arm, 1));
        let spread: f64 = (0..arms).map(mean).sum::<f64>() / arms as f64;
        let best = if of.artifact() == own.artifact() {
            7
        } else {
            12
        };
        0.5 * spread + 0.5 * mean(best)
    };
    for judged in [1, 5] {
        let report = evaluated(&log(&own, 6_000, judged), &candidate, judged as f64).unwrap();
        let found = &report.evaluation;
        for (name, interval, truth) in [
            ("ips", found.inverse_propensity, value(&candidate)),
            ("dr", found.doubly_robust, value(&candidate)),
            ("logged", found.logged, value(&own)),
            ("gain", found.gain, value(&candidate) - value(&own)),
        ] {
            let reach = (interval.high - interval.low).max(0.02);
            assert!(
                (interval.value - truth).abs() < reach,
                "{name} {interval:?} {truth}"
            );
        }
        assert_eq!(found.diagnostics.unsupported, 0.0);
    }
}

#[test]
fn what_no_router_decided_is_left_out_and_a_failure_is_the_lowest_score() {
    let own = constant(7);
    let mut log = log(&own, 900, 1);
    let pinned = Record {
        decision_id: "p".to_owned(),
        executed: Some(serde_json::from_value::<ExecutedRow>(serde_json::json!({
            "arm": null, "recall": "none", "model": "m", "pool": "p", "context_tokens": 0, "sampling": null,
            "temperature": null, "top_p": null, "client_set": ["model"], "fallback_to_cloud": false, "turns_cut": 0,
        }))
        .unwrap()),
        ..Record::default()
    };
    log.decisions.push(pinned);
    log.decisions.push(Record::default());
    log.decisions[0].guardrail = Some("finance".to_owned());
    let failed = |kind: &str| OutcomeRow {
        finish_reason: None,
        error: Some(kind.to_owned()),
    };
    log.decisions[1].outcome = failed("client_gone");
    log.decisions[2].outcome = failed("engine");
    log.decisions[3].cache = Some(CacheRow::Hit {
        decision: log.decisions[4].decision_id.clone(),
        near: false,
    });
    log.decisions[5].cache = Some(CacheRow::Miss);
    let labels = log
        .labels(Some(&LabelSource::Scores { propensity: 1.0 }))
        .unwrap();
    let sample = sample(&log.decisions, &labels, &own, Reward::Quality).unwrap();
    let expected = Excluded {
        pinned: 1,
        guardrail: 1,
        cached: 1,
        undecided: 1,
        client: 1,
    };
    assert_eq!(sample.excluded, expected);
    assert_eq!(sample.trajectories.len(), 897);
    let label = sample.trajectories[0].label.unwrap();
    assert_eq!((label.reward, label.propensity), (1.0, 1.0));
}

#[test]
fn utility_is_the_score_less_what_was_measured() {
    let own = constant(7);
    let mut log = log(&own, 4, 1);
    log.decisions[3].latency_ms.llm = 2_000.0;
    log.decisions[3].cost = 3.0;
    let labels = log
        .labels(Some(&LabelSource::Scores { propensity: 1.0 }))
        .unwrap();
    let of = |reward| {
        sample(&log.decisions, &labels, &own, reward)
            .unwrap()
            .trajectories
    };
    let rewards =
        [Reward::Quality, Reward::Utility].map(|reward| of(reward)[3].label.unwrap().reward);
    assert!((rewards[0] - rewards[1] - 0.4).abs() < 1e-12, "{rewards:?}");
}

#[test]
fn a_row_that_contradicts_itself_or_the_candidate_is_named() {
    let own = constant(7);
    let cases: [(Change, &str); 5] = [
        (|row| row.propensity = None, "it has no propensity"),
        (|row| row.propensity = Some(0.25), "its propensity is 0.25"),
        (
            |row| row.router.schema_hash = "0123456789abcdef".into(),
            "features of schema 0123456789ab",
        ),
        (|row| row.router.models = 2, "the candidate has 10 arms"),
        (
            |row| row.choice.as_mut().unwrap().inputs.draw = 2.0,
            "the candidate cannot choose",
        ),
    ];
    for (change, said) in cases {
        let mut log = log(&own, 300, 1);
        change(&mut log.decisions[5]);
        let error = evaluated(&log, &own, 1.0).unwrap_err().to_string();
        assert!(
            error.contains("decision d-5") && error.contains(said),
            "{error} does not say {said}"
        );
    }
    let mut log = log(&own, 300, 1);
    log.decisions[6].decision_id = "d-5".to_owned();
    let error = evaluated(&log, &own, 1.0).unwrap_err();
    assert!(
        matches!(error, OpeError::Refused(Refusal::Duplicate { .. })),
        "{error}"
    );
}
