//! Choice and verdict: masks, objective, exploration, binding to other ladders.

use proptest::prelude::*;
use weir_router::{
    AnswerFacts, ArmTable, Artifact, ChoiceInputs, ChooseError, JudgeError, QueryFacts, RecallMode,
    Router, State, VerdictInputs,
};

/// Everything permitted and free, no exploration.
pub(crate) fn inputs(arms: usize) -> ChoiceInputs {
    ChoiceInputs {
        permitted: vec![true; arms],
        latency_s: vec![0.0; arms],
        cost: vec![0.0; arms],
        per_second: 0.0,
        per_cost_unit: 0.0,
        floor: 0.0,
        near_tie_margin: 0.0,
        draw: 0.0,
    }
}

fn verdict_inputs(models: usize, rank: usize, arm: usize) -> VerdictInputs {
    VerdictInputs {
        rank,
        permitted: vec![true; models],
        latency_s: vec![0.0; models],
        cost: vec![0.0; models],
        per_second: 0.0,
        per_cost_unit: 0.0,
        floor: 0.0,
        draw: 0.0,
        arm,
    }
}

fn read(router: &Router) -> State {
    let mut state = router.start();
    router.observe(
        &mut state,
        &QueryFacts {
            text: "Who?",
            ..QueryFacts::default()
        }
        .features(),
    );
    state
}

fn constant(qualities: &[f32], answer: f32) -> Router {
    let models = qualities.len() / 5;
    let table = ArmTable::standard(models);
    Router::new(Artifact::constant_with_answer(&table, qualities, answer)).expect("it has arms")
}

#[test]
fn constant_heads_change_the_route() {
    for wanted in 0..15 {
        let mut qualities = [2.0; 15];
        qualities[wanted] = 4.0;
        let router = constant(&qualities, 5.0);
        assert_eq!(
            router.choose(&read(&router), &inputs(15)).unwrap().arm,
            wanted
        );
    }
}

#[test]
fn the_builtin_router_decides_and_its_file_reads_back() {
    let router = Router::builtin();
    let arms = router.arms().arms.len();
    assert!(router.choose(&read(&router), &inputs(arms)).is_ok());
    assert!(Artifact::from_bytes(router.artifact().to_bytes()).is_ok());
}

#[test]
fn price_of_a_second_moves_the_choice_to_a_faster_arm() {
    let router = constant(&[3.0, 2.0, 2.0, 2.0, 2.0, 4.0, 2.0, 2.0, 2.0, 2.0], 5.0);
    let mut inputs = inputs(10);
    inputs.latency_s = vec![1.0; 10];
    inputs.latency_s[5] = 9.0;
    assert_eq!(router.choose(&read(&router), &inputs).unwrap().arm, 5);
    inputs.per_second = 0.2;
    assert_eq!(router.choose(&read(&router), &inputs).unwrap().arm, 0);
    inputs.per_second = 0.0;
    inputs.cost[5] = 20.0;
    inputs.per_cost_unit = 0.1;
    assert_eq!(router.choose(&read(&router), &inputs).unwrap().arm, 0);
}

#[test]
fn a_masked_arm_is_never_chosen_even_if_its_latency_is_unknown() {
    let router = constant(&[5.0, 3.0, 3.0, 3.0, 3.0], 5.0);
    let mut inputs = inputs(5);
    inputs.permitted[0] = false;
    inputs.latency_s[0] = f64::INFINITY;
    inputs.floor = 0.1;
    for draw in 0..100 {
        inputs.draw = f64::from(draw) / 100.0;
        assert_ne!(router.choose(&read(&router), &inputs).unwrap().arm, 0);
    }
}

#[test]
fn near_ties_share_probability_only_while_exploring() {
    let router = constant(&[4.0, 3.99, 3.0, 3.0, 3.0], 5.0);
    let mut inputs = inputs(5);
    inputs.near_tie_margin = 0.02;
    let certain = router.choose(&read(&router), &inputs).unwrap();
    assert_eq!(certain.probabilities, [1.0, 0.0, 0.0, 0.0, 0.0]);
    inputs.floor = 0.05;
    let explored = router.choose(&read(&router), &inputs).unwrap();
    assert!(explored.probabilities[1] > 0.3 && explored.probabilities[0] > 0.3);
    assert!((explored.probabilities[2] - 0.01).abs() < 1e-12);
}

#[test]
fn unusable_inputs_are_named() {
    let router = constant(&[4.0; 5], 5.0);
    let state = read(&router);
    let mut masked = inputs(5);
    masked.permitted = vec![false; 5];
    let refused = router.choose(&state, &masked);
    assert_eq!(refused, Err(ChooseError::NothingPermitted { arms: 5 }));
    let refused = router.choose(&state, &inputs(4));
    assert_eq!(
        refused,
        Err(ChooseError::Length {
            field: "permitted",
            got: 4,
            arms: 5
        })
    );
    let mut nan = inputs(5);
    nan.latency_s[2] = f64::NAN;
    let refused = router.choose(&state, &nan);
    assert!(matches!(
        refused,
        Err(ChooseError::Number {
            field: "latency_s",
            ..
        })
    ));
    let refused = router.judge(&state, &verdict_inputs(1, 0, 9));
    assert_eq!(refused, Err(JudgeError::Arm { arm: 9, arms: 5 }));
}

#[test]
fn a_poor_answer_is_asked_again_of_the_rank_that_is_worth_most() {
    let mut qualities = vec![3.0; 15];
    qualities[7] = 4.0; // vector@400 of the middle model
    qualities[12] = 4.5; // and of the biggest
    let router = constant(&qualities, 2.0);
    let mut state = read(&router);
    router.observe(
        &mut state,
        &AnswerFacts {
            models: 3,
            ..AnswerFacts::default()
        }
        .features(),
    );
    let mut inputs = verdict_inputs(3, 0, 2);
    let verdict = router.judge(&state, &inputs).unwrap();
    assert_eq!((verdict.ask, verdict.quality), (Some(2), 2.0));
    assert_eq!(verdict.expected, [2.0, 3.0, 4.0, 4.5]);
    inputs.per_second = 0.1;
    inputs.latency_s = vec![0.0, 1.0, 8.0];
    assert_eq!(router.judge(&state, &inputs).unwrap().ask, Some(1));
    inputs.per_second = 3.0;
    assert_eq!(router.judge(&state, &inputs).unwrap().ask, None);
}

#[test]
fn a_verdict_never_asks_the_same_or_a_smaller_rank() {
    let router = constant(&[5.0; 15], 1.0);
    let state = read(&router);
    assert_eq!(
        router.judge(&state, &verdict_inputs(3, 2, 12)).unwrap().ask,
        None
    );
    let mut inputs = verdict_inputs(3, 1, 7);
    assert_eq!(router.judge(&state, &inputs).unwrap().ask, Some(2));
    inputs.permitted[2] = false;
    assert_eq!(router.judge(&state, &inputs).unwrap().ask, None);
}

#[test]
fn a_ladder_of_another_length_binds_by_relative_rank_and_starts_cold() {
    let mut qualities = [1.0; 15];
    for (rank, quality) in [2.0, 3.0, 4.0].into_iter().enumerate() {
        qualities[rank * 5..][..5].fill(quality);
    }
    let router = constant(&qualities, 5.0);
    assert!(!router.cold_start() && !router.bind(3).cold_start());
    for (pools, expected) in [
        (1, vec![4.0]),
        (2, vec![2.0, 4.0]),
        (5, vec![2.0, 2.5, 3.0, 3.5, 4.0]),
    ] {
        let bound = router.bind(pools);
        assert!(bound.cold_start());
        assert_eq!(*bound.arms(), ArmTable::standard(pools));
        let choice = bound.choose(&read(&bound), &inputs(5 * pools)).unwrap();
        let of_rank = choice
            .qualities
            .chunks_exact(5)
            .map(|qualities| qualities[0]);
        assert_eq!(of_rank.collect::<Vec<_>>(), expected);
        assert_eq!(bound.bind(3).arms(), router.arms());
    }
}

#[test]
fn a_second_attempt_keeps_recall_and_context() {
    let table = ArmTable::standard(3);
    let arm = table.find(RecallMode::Graph, 0, 200).unwrap();
    let again = table.arms[table.with_rank(arm, 2).unwrap()];
    assert_eq!(
        (again.recall, again.rank, again.context_tokens),
        (RecallMode::Graph, 2, 200)
    );
}

proptest! {
    #[test]
    fn probabilities_sum_to_one_and_a_log_row_replays_bit_for_bit(
        qualities in prop::array::uniform15(1.0f32..5.0),
        permitted in prop::array::uniform15(any::<bool>()),
        latency in prop::array::uniform15(0.0f64..30.0),
        knobs in (0.0f64..0.2, 0.0f64..0.5, 0.0f64..1.0),
    ) {
        prop_assume!(permitted.contains(&true));
        let router = constant(&qualities, 3.0);
        let (floor, near_tie_margin, draw) = knobs;
        let inputs = ChoiceInputs {
            permitted: permitted.to_vec(),
            latency_s: latency.to_vec(),
            per_second: 0.05,
            floor,
            near_tie_margin,
            draw,
            ..inputs(15)
        };
        let choice = router.choose(&read(&router), &inputs).unwrap();
        prop_assert!((choice.probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        prop_assert!(permitted[choice.arm] && choice.propensity > 0.0);
        let least = floor / permitted.iter().filter(|p| **p).count() as f64;
        for (probability, permitted) in choice.probabilities.iter().zip(permitted) {
            let expected = if permitted { least..=1.0 } else { 0.0..=0.0 };
            prop_assert!(expected.contains(probability));
        }
        let row = serde_json::to_string(&inputs).unwrap();
        let bytes = router.artifact().to_bytes().to_vec();
        let replayed = Router::new(Artifact::from_bytes(&bytes).unwrap()).unwrap();
        let again = replayed
            .choose(&read(&replayed), &serde_json::from_str(&row).unwrap())
            .unwrap();
        prop_assert_eq!(choice, again);
    }
}

#[test]
fn draws_select_arms_as_often_as_their_probability_says() {
    let router = constant(&[4.0, 3.0, 3.0, 3.0, 3.0], 5.0);
    let mut inputs = inputs(5);
    inputs.floor = 0.5;
    let mut counts = [0_u32; 5];
    for draw in 0..1000 {
        inputs.draw = (f64::from(draw) + 0.5) / 1000.0;
        counts[router.choose(&read(&router), &inputs).unwrap().arm] += 1;
    }
    assert_eq!(counts, [600, 100, 100, 100, 100]);
}
