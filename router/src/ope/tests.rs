//! Estimates against closed forms, exact expectations and known truth; every refusal by its row.

use proptest::prelude::*;

use super::nuisance::{Model, Policy};
use super::simulate::{SCENARIOS, World, coverage, replicates};
use super::*;

/// Something that is wrong with a log.
type Change = fn(&mut Vec<Trajectory>);

fn row(id: usize, taken: usize, candidate: f64, reward: f64) -> Trajectory {
    Trajectory {
        id: id.to_string(),
        steps: vec![Step {
            taken,
            logged: vec![0.5, 0.5],
            candidate: vec![1.0 - candidate, candidate],
            features: vec![vec![1.0, 0.0], vec![1.0, 1.0]],
        }],
        label: Some(Label {
            reward,
            propensity: 1.0,
        }),
        ..Trajectory::default()
    }
}

/// Rows in equal number that took 0 for reward 1 and 1 for reward 4.
fn halves(rows: usize, candidate: f64) -> Vec<Trajectory> {
    (0..rows)
        .map(|id| row(id, id % 2, candidate, [1.0, 4.0][id % 2]))
        .collect()
}

fn refused(log: &[Trajectory]) -> String {
    evaluate(log, &Options::default())
        .expect_err("it is refused")
        .to_string()
}

#[test]
fn the_logged_policy_s_own_value_is_the_mean_reward() {
    let log = halves(400, 0.5);
    let found = evaluate(&log, &Options::default()).unwrap();
    for interval in [
        found.inverse_propensity,
        found.self_normalised,
        found.doubly_robust,
        found.switch,
        found.logged,
    ] {
        assert!((interval.value - 2.5).abs() < 1e-2, "{interval:?}");
    }
    assert_eq!(found.gain.value, 0.0);
    assert_eq!((found.gain.low, found.gain.high), (0.0, 0.0));
    assert!((found.diagnostics.effective - 400.0).abs() < 1e-9);
}

#[test]
fn intervals_are_those_of_the_closed_form() {
    // Weights are .4 and 1.6, so that the terms of inverse propensity are .4 and 6.4 in equal number.
    let found = evaluate(&halves(400, 0.8), &Options::default()).unwrap();
    let ips = found.inverse_propensity;
    assert!((ips.value - 3.4).abs() < 1e-12);
    let error = 3.0 * (400.0_f64 / 399.0).sqrt() / 20.0;
    let reach = crate::statistics::student_quantile(0.975, 399.0) * error;
    assert!((ips.high - ips.value - reach).abs() < 1e-9);
    // The reward follows from the action: the model knows it but for its penalty, and nothing is left to chance.
    let robust = found.doubly_robust;
    assert!((robust.value - 3.4).abs() < 0.02);
    assert!(robust.high - robust.low < 0.02);
    assert!((found.self_normalised.value - 3.4).abs() < 1e-12);
    // (sum of weights)^2 over the sum of squares.
    let effective = 400.0 / ((0.16 + 2.56) / 2.0);
    assert!((found.diagnostics.effective - effective).abs() < 1e-9);
}

#[test]
fn rows_of_one_asker_widen_the_interval() {
    let mut log = halves(800, 0.8);
    let alone = evaluate(&log, &Options::default()).unwrap();
    for (index, row) in log.iter_mut().enumerate() {
        // Askers whose rows are all alike: ten rows say what one does.
        row.asker = Some(format!("{}-{}", index % 2, index / 20));
    }
    let together = evaluate(&log, &Options::default()).unwrap();
    let width = |of: &Evaluation| of.inverse_propensity.high - of.inverse_propensity.low;
    let ratio = width(&together) / width(&alone);
    assert!((ratio - 10.0_f64.sqrt()).abs() < 0.1, "{ratio}");
    assert_eq!(together.diagnostics.askers, 80);
}

#[test]
fn a_log_that_cannot_say_is_refused_with_the_reason() {
    let log = halves(400, 0.5);
    let changed = |change: &dyn Fn(&mut Vec<Trajectory>)| {
        let mut log = log.clone();
        change(&mut log);
        refused(&log)
    };
    let cases: [(Change, &str); 15] = [
        (|log| log.clear(), "no decision"),
        (|log| log.truncate(99), "as 99 rows would, at least 100"),
        (
            |log| log[7].steps[0].logged = vec![1.0, 0.0],
            "decision 7: the propensity of what was taken is 0",
        ),
        (
            |log| log[7].label.as_mut().unwrap().propensity = 0.0,
            "decision 7: the propensity of its label is 0",
        ),
        (
            |log| log[7].label.as_mut().unwrap().propensity = f64::NAN,
            "decision 7: the propensity of its label is NaN",
        ),
        (
            |log| log[7].label.as_mut().unwrap().reward = f64::NAN,
            "decision 7: the reward is not finite",
        ),
        (
            |log| log[7].steps[0].candidate[0] = f64::NAN,
            "decision 7: a probability of the candidate is not finite",
        ),
        (
            |log| log[7].steps[0].features[1][1] = f64::INFINITY,
            "decision 7: a feature is not finite",
        ),
        (|log| log[7].steps[0].candidate[0] = 0.7, "no distribution"),
        (
            |log| log[7].id = "8".into(),
            "decision 8 is in the log more than once, as 1 rows are",
        ),
        (
            |log| log[7].schema = "other".into(),
            "mixes feature schemas (: 399 rows, other: 1 rows)",
        ),
        (|log| log[7].steps[0].taken = 2, "action 2 of 2"),
        (|log| log[7].steps.clear(), "holds no decision"),
        (
            |log| log.iter_mut().skip(50).for_each(|row| row.label = None),
            "stand for 50 decisions, the log has 400",
        ),
        (
            |log| log.iter_mut().for_each(|row| row.label = None),
            "the 0 labels stand for 0 decisions, the log has 400",
        ),
    ];
    for (change, reason) in cases {
        let said = changed(&change);
        assert!(said.contains(reason), "{said} does not say {reason}");
    }
}

#[test]
fn a_log_without_support_and_one_that_a_row_decides_are_refused() {
    let mut log = halves(400, 0.5);
    for row in &mut log[..20] {
        let step = &mut row.steps[0];
        (step.taken, step.logged, step.candidate) = (0, vec![1.0, 0.0], vec![0.5, 0.5]);
    }
    let said = refused(&log);
    assert!(
        said.contains("2.5 % of the candidate's decisions"),
        "{said}"
    );
    let mut log = halves(400, 0.5);
    let step = &mut log[8].steps[0];
    (step.logged, step.candidate) = (vec![0.01, 0.99], vec![0.3, 0.7]);
    let said = refused(&log);
    assert!(
        said.contains("decision 8 alone has 7.0 % of all weight"),
        "{said}"
    );
}

#[test]
fn labels_drawn_with_their_propensity_are_taken() {
    let mut log = halves(4_000, 0.8);
    // Every fifth pair of rows is judged.
    for (index, row) in log.iter_mut().enumerate() {
        let label = row.label.as_mut().unwrap();
        label.propensity = 0.2;
        if index / 2 % 5 != 0 {
            row.label = None;
        }
    }
    let found = evaluate(&log, &Options::default()).unwrap();
    assert!((found.inverse_propensity.value - 3.4).abs() < 1e-9);
    assert_eq!(found.diagnostics.labelled, 800);
}

proptest! {
    /// The mean of v over everything that can happen is the candidate's value, whatever the model was fitted on.
    #[test]
    fn the_doubly_robust_term_is_unbiased_for_any_model(
        p in prop::array::uniform4(0.05_f64..0.95),
        rewards in prop::array::uniform4(-3.0_f64..3.0),
        e in 0.1_f64..1.0,
        fitted in prop::collection::vec((0_usize..2, 0_usize..2, -5.0_f64..5.0), 3..12),
    ) {
        let trajectory = |arm: usize, verdict: usize, reward: Option<f64>| {
            let two = |taken, logged: f64, candidate: f64, features: Vec<Vec<f64>>| Step {
                taken,
                logged: vec![logged, 1.0 - logged],
                candidate: vec![candidate, 1.0 - candidate],
                features,
            };
            let of = |arm: usize, verdict: usize| vec![1.0, arm as f64, verdict as f64];
            Trajectory {
                steps: vec![
                    two(arm, p[0], p[1], vec![of(0, 0), of(1, 0)]),
                    two(verdict, p[2], p[3], vec![of(arm, 0), of(arm, 1)]),
                ],
                label: reward.map(|reward| Label { reward, propensity: e }),
                ..Trajectory::default()
            }
        };
        let others: Vec<Trajectory> =
            fitted.iter().map(|(arm, verdict, r)| trajectory(*arm, *verdict, Some(*r))).collect();
        let model = Model::fit(&others.iter().collect::<Vec<_>>(), Policy::Candidate);
        let (mut mean, mut truth) = (0.0, 0.0);
        for arm in 0..2 {
            for verdict in 0..2 {
                let reward = rewards[2 * arm + verdict];
                let of = |first: f64, second: f64| {
                    let pick = |p: f64, action: usize| if action == 0 { p } else { 1.0 - p };
                    pick(first, arm) * pick(second, verdict)
                };
                truth += of(p[1], p[3]) * reward;
                for (judged, chance) in [(Some(reward), e), (None, 1.0 - e)] {
                    let row = trajectory(arm, verdict, judged);
                    mean += of(p[0], p[2]) * chance * model.from(&row, 0, Policy::Candidate);
                }
            }
        }
        prop_assert!((mean - truth).abs() < 1e-6 * (1.0 + truth.abs()), "{mean} {truth}");
    }
}

#[test]
fn intervals_hold_the_truth_about_as_often_as_they_say() {
    // A few logs: enough to see an interval that is wrong. The claim itself is checked on 2,000 by `weir router ope --simulate`.
    for scenario in SCENARIOS {
        let world = World::new(scenario, 11);
        let found = coverage(&world, &replicates(&world, (0, 80), &Options::default()));
        let robust = found
            .iter()
            .find(|one| one.estimator == "doubly robust")
            .unwrap();
        assert!(robust.held >= 0.87, "{}: {robust:?}", scenario.name);
        assert!(
            robust.bias.abs() < 4.0 * robust.error / 80.0_f64.sqrt(),
            "{robust:?}"
        );
        let ips = &found[0];
        assert!(
            robust.error < ips.error,
            "{}: {robust:?} {ips:?}",
            scenario.name
        );
    }
}
