//! Terms, sums and bounds of the regret.

use super::*;
use proptest::prelude::*;

fn row<'a>(bucket: u8, dispatched: usize, reward: f64) -> Compared<'a> {
    Compared {
        bucket,
        weight: 50,
        dispatched,
        active: &[1.0, 0.0],
        candidate: &[0.0, 1.0],
        baseline: &[1.0, 0.0],
        expected: &[3.0, 3.0],
        label: Some(Label {
            reward,
            propensity: 1.0,
        }),
    }
}

#[test]
fn versions_that_agree_have_no_regret_and_need_no_judge() {
    let (mut evidence, mut learner) = (RegretEvidence::default(), Learner::default());
    let agreeing = Compared {
        candidate: &[1.0, 0.0],
        label: None,
        ..row(1, 0, 0.0)
    };
    evidence.observe(&agreeing, &mut learner);
    assert_eq!((evidence.compared, evidence.labelled), (1, 0));
    assert_eq!((evidence.regret(), evidence.share_judged()), (0.0, None));
    let shadowed = Compared {
        weight: 0,
        ..row(1, 0, 5.0)
    };
    evidence.observe(&shadowed, &mut learner);
    assert_eq!(evidence.compared, 1, "nothing was dispatched by chance");
}

#[test]
fn the_first_term_is_the_formula() {
    // m = 3 before any row: z = 0 + 1 / .5 (5 - 3) when the active version answered.
    assert!((Learner::default().term(&row(0, 0, 5.0), 5.0) - 4.0).abs() < 1e-9);
    assert!((Learner::default().term(&row(0, 1, 5.0), 5.0) + 4.0).abs() < 1e-9);
}

#[test]
fn what_is_expected_is_learned_from_earlier_rows_only() {
    let mut learner = Learner::default();
    let first = learner.term(&row(0, 0, 5.0), 5.0);
    for _ in 0..500 {
        learner.term(&row(0, 0, 5.0), 5.0);
    }
    let later = learner.term(&row(0, 0, 5.0), 5.0);
    assert!(later < 0.1 * first, "{later} {first}");
}

proptest! {
    #[test]
    fn the_term_s_mean_is_the_regret_whatever_is_expected(
        mu in prop::array::uniform3(0.0_f64..1.0),
        weight in 1_u32..100,
        expected in prop::array::uniform2(1.0_f64..5.0),
        rewards in prop::array::uniform2(1.0_f64..5.0),
    ) {
        let [active, candidate, baseline] = mu.map(|p| [p, 1.0 - p]);
        let share = f64::from(weight) / 100.0;
        let mut mean = 0.0;
        for dispatched in 0..2 {
            let chance = (1.0 - share) * active[dispatched] + share * candidate[dispatched];
            let row = Compared {
                bucket: 0, weight, dispatched, active: &active, candidate: &candidate,
                baseline: &baseline, expected: &expected, label: None,
            };
            if chance > 0.0 {
                mean += chance * Learner::default().term(&row, rewards[dispatched]);
            }
        }
        let regret: f64 = (0..2).map(|arm| (baseline[arm] - candidate[arm]) * rewards[arm]).sum();
        prop_assert!((mean - regret).abs() < 1e-9, "{mean} {regret}");
    }

    #[test]
    fn bounds_hold_the_estimate_and_what_lies_beyond_them_is_refused(
        rows in prop::collection::vec((any::<u8>(), 0_usize..2, 1.0_f64..5.0), 20..200),
    ) {
        let (mut evidence, mut learner) = (RegretEvidence::default(), Learner::default());
        for (bucket, dispatched, reward) in rows {
            evidence.observe(&row(bucket, dispatched, reward), &mut learner);
        }
        let bounds = evidence.bounds(0.05, 300);
        prop_assert!(bounds.low <= bounds.value && bounds.value <= bounds.high);
        if bounds.high < REGRET_MAX - 0.01 {
            prop_assert!(evidence.against_at_least(bounds.high + 0.01, 300).decides(20.0_f64.ln()));
        }
    }

    /// Whoever reports when, and whoever adds up: the same requests give the same sums, to the last digit.
    #[test]
    fn evidence_merges_in_any_order(
        rows in prop::collection::vec((any::<u8>(), 0_usize..2, 1.0_f64..5.0, 0.1_f64..1.0, any::<bool>()), 0..60),
        cuts in prop::array::uniform2(0_usize..60),
    ) {
        let mut cuts = cuts.map(|cut| cut.min(rows.len()));
        cuts.sort_unstable();
        let mut learner = Learner::default();
        let mut parts: [RegretEvidence; 3] = Default::default();
        let mut whole = RegretEvidence::default();
        let mut again = Learner::default();
        for (index, (bucket, dispatched, reward, propensity, judged)) in rows.into_iter().enumerate() {
            let label = judged.then_some(Label { reward, propensity });
            let row = Compared { label, ..row(bucket, dispatched, reward) };
            let part = cuts.iter().filter(|cut| index >= **cut).count();
            parts[part].observe(&row, &mut learner);
            whole.observe(&row, &mut again);
        }
        let sum = |order: [usize; 3]| {
            let mut sum = RegretEvidence::default();
            order.iter().for_each(|part| sum.add(&parts[*part]));
            sum
        };
        let [a, b, c] = &parts;
        let mut later = b.clone();
        later.add(c);
        let mut nested = a.clone();
        nested.add(&later);
        prop_assert_eq!(&nested, &whole);
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            prop_assert_eq!(&sum(order), &whole);
        }
    }
}

/// 512 disagreements whose answers are worth 4 and, of the candidate, 2; every `nth` is judged with its propensity.
fn judged_every(nth: usize) -> RegretEvidence {
    let (mut evidence, mut learner) = (RegretEvidence::default(), Learner::default());
    for index in 0..512_usize {
        let dispatched = index / nth % 2;
        let bucket = u8::try_from(index % 256).expect("a bucket");
        let label = Label {
            reward: [4.0, 2.0][dispatched],
            propensity: 1.0 / nth as f64,
        };
        let row = Compared {
            label: index.is_multiple_of(nth).then_some(label),
            ..row(bucket, dispatched, 0.0)
        };
        evidence.observe(&row, &mut learner);
    }
    evidence
}

#[test]
fn labels_that_were_drawn_or_have_not_come_yet_give_the_same_regret() {
    let all = judged_every(1);
    assert_eq!(all.share_judged(), Some((1.0, 0.0)));
    let fourth = judged_every(4);
    assert_eq!((all.labelled, fourth.labelled), (512, 128));
    let (share, deviation) = fourth.share_judged().expect("disagreements");
    assert!((share - 1.0).abs() < 1e-9 && deviation > 0.0);
    assert!((all.regret() - 2.0).abs() < 0.1, "{}", all.regret());
    assert!((fourth.regret() - 2.0).abs() < 0.3, "{}", fourth.regret());
    // Half of the labels are still on their way.
    let mut waiting = all.clone();
    for bucket in 0..=255 {
        for dispatched in [0, 1] {
            waiting.decided(&row(bucket, dispatched, 0.0));
        }
    }
    assert_eq!(waiting.share_judged(), Some((0.5, 0.0)));
    assert!((waiting.regret() - all.regret()).abs() < 1e-9);
}
