//! The certified guard in the choice: what it moves, and that the policy in a row says so.

use crate::decisions::inputs;
use proptest::prelude::*;
use weir_router::guard::Certificate;
use weir_router::{ArmTable, Artifact, Choice, ChoiceInputs, Router};

/// The smallest of three models is worth `small`, the others 3, and must be expected to be right in three of four answers.
fn certified(small: f32) -> Router {
    let table = ArmTable::standard(3);
    let quality = |arm: &weir_router::Arm| if arm.rank == 0 { small } else { 3.0 };
    let qualities: Vec<f32> = table.arms.iter().map(quality).collect();
    let certificate = Certificate {
        temperature: 1.0,
        threshold: 0.75,
        alpha: 0.25,
        delta: 0.1,
        share: 0.4,
        answers: 300,
        models: 3,
        data_sha256: "0".repeat(64),
    };
    let artifact = Artifact::constant(&table, &qualities)
        .with_manifest(|manifest| manifest.certificate = Some(certificate));
    let artifact = Artifact::from_bytes(artifact.to_bytes()).expect("it reads back");
    Router::new(artifact).expect("it has arms")
}

fn chosen(router: &Router, inputs: &ChoiceInputs) -> Choice {
    router.choose(&router.start(), inputs).expect("a choice")
}

#[test]
fn a_small_model_that_is_not_confident_enough_gives_way_to_the_biggest_and_the_row_says_so() {
    let (sure, unsure) = (certified(4.1), certified(3.9));
    let choice = chosen(&sure, &inputs(15));
    assert_eq!((choice.arm, choice.held_back), (0, None));
    let line = serde_json::to_string(&choice).expect("plain data");
    assert!(
        !line.contains("held"),
        "rows without it stay as they were: {line}"
    );
    let choice = chosen(&unsure, &inputs(15));
    assert_eq!(
        (choice.arm, choice.greedy, choice.held_back),
        (10, 10, Some(0))
    );
    assert_eq!(choice.held, [0, 1, 2, 3, 4]);
    assert!((choice.propensity - 1.0).abs() < 1e-12 && !choice.explored);
    let line = serde_json::to_string(&choice).expect("plain data");
    assert_eq!(
        serde_json::from_str::<Choice>(&line).expect("a choice"),
        choice
    );
    let mut only_small = inputs(15);
    only_small.permitted[5..].fill(false);
    let choice = chosen(&unsure, &only_small);
    assert_eq!(
        (choice.arm, choice.held_back),
        (0, None),
        "nothing bigger is permitted"
    );
}

#[test]
fn on_another_ladder_the_least_capable_model_is_held_back_all_the_same() {
    let router = certified(3.9).bind(4);
    let choice = chosen(&router, &inputs(20));
    assert_eq!((choice.arm, choice.held_back), (15, Some(0)));
}

#[test]
fn numbers_that_are_none_are_refused_with_the_artifact() {
    let broken = certified(4.0).artifact().clone().with_manifest(|manifest| {
        if let Some(certificate) = &mut manifest.certificate {
            certificate.threshold = 1.5;
        }
    });
    let error = Artifact::from_bytes(broken.to_bytes()).expect_err("no share");
    assert!(
        error
            .to_string()
            .contains("threshold of its certificate is 1.5"),
        "{error}"
    );
}

proptest! {
    /// Also while exploring, whatever the draw: what is held back is never chosen, probabilities are those of what is done.
    #[test]
    fn exploration_never_asks_what_is_held_back(floor in 0.0_f64..1.0, draw in 0.0_f64..1.0, seconds in prop::collection::vec(0.0_f64..9.0, 15)) {
        let router = certified(3.9);
        let inputs = ChoiceInputs { floor, draw, latency_s: seconds, per_second: 0.3, near_tie_margin: 0.5, ..inputs(15) };
        let choice = chosen(&router, &inputs);
        prop_assert!(choice.arm >= 5);
        prop_assert!(choice.probabilities[..5].iter().all(|p| *p == 0.0));
        prop_assert!((choice.probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        prop_assert_eq!(choice.propensity, choice.probabilities[choice.arm]);
        prop_assert!(choice.propensity > 0.0);
        if choice.held_back.is_some() {
            prop_assert!(choice.arm >= 10, "it goes to the biggest");
        }
    }
}
