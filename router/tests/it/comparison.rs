//! The comparison finds what was planted, and who cannot find it.

use weir_router::train::TrainOptions;
use weir_router::train::compare::{Compared, PRICES, Plan, Policy, compare};

use crate::planted::{episodes, options, table};

fn compared(policies: &[Policy]) -> Vec<Compared> {
    let log = episodes(150, 5);
    let groups: Vec<String> = (0..log.len())
        .map(|index| format!("g{}", index / 2))
        .collect();
    let plan = Plan {
        groups: &groups,
        folds: 3,
        seeds: 1,
        options: TrainOptions {
            folds: 2,
            epochs_max: 30,
            ..options()
        },
        policies: policies.to_vec(),
    };
    let mut rounds = 0;
    let found = compare(&log, &table(), &plan, &mut || rounds += 1).expect("a usable log");
    assert_eq!(rounds, plan.rounds());
    found
}

fn utility(of: &Compared) -> f64 {
    let worth = &of.worth[0];
    let sum: f64 = worth.iter().map(|one| one.utility(&options())).sum();
    sum / worth.len() as f64
}

#[test]
fn whoever_reads_the_question_beats_whoever_does_not() {
    let found = compared(&[
        Policy::FastGrnn,
        Policy::BestSingle,
        Policy::BestSingleAtLatency,
        Policy::Random,
        Policy::Neighbours,
        Policy::Ridge,
        Policy::Perceptron,
        Policy::Mission,
        Policy::Oracle,
    ]);
    let of = |policy: Policy| found.iter().find(|one| one.policy == policy).unwrap();
    let single = utility(of(Policy::BestSingle));
    for policy in [
        Policy::FastGrnn,
        Policy::Neighbours,
        Policy::Ridge,
        Policy::Perceptron,
    ] {
        let own = utility(of(policy));
        assert!(
            own > single,
            "{policy}: {own}, the best single arm {single}"
        );
    }
    assert!(utility(of(Policy::Random)) < single);
    assert!(utility(of(Policy::Oracle)) > utility(of(Policy::FastGrnn)));
    let router = of(Policy::FastGrnn);
    assert_eq!(router.worth.len(), PRICES.len());
    assert!((router.routes.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    // Dearer seconds are spent more sparingly.
    let seconds = |at: usize| {
        router.worth[at]
            .iter()
            .map(|one| one.latency_s)
            .sum::<f64>()
    };
    assert!(seconds(5) < seconds(1), "{} and {}", seconds(5), seconds(1));
}

#[test]
fn who_does_not_read_answers_never_asks_again_and_who_forgets_the_question_loses() {
    let found = compared(&[Policy::FastGrnn, Policy::NoVerdict, Policy::Reset]);
    let [full, reset] = [0, 2].map(|index| utility(&found[index]));
    assert!(found[0].asked_again > 0.0);
    assert_eq!(found[1].asked_again, 0.0);
    // With the state emptied, the query is forgotten when the arm is chosen.
    assert!(full > reset, "{full} and {reset}");
}
