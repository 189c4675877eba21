//! The gradient against finite differences, and the two forward passes against each other.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::effects::Effects;
use super::objective::Objective;
use super::parameters::{Gradient, Parameters, Shape};
use super::sample::{Again, ArmStatistics, Input, Observed, Sample};
use super::{Episode, Outcome};
use crate::arms::{ArmTable, RecallMode};
use crate::schema::{Step, StepFeatures};

const COLUMNS: usize = 6;
const HIDDEN: usize = 5;

fn random_input(rng: &mut ChaCha8Rng, step: usize) -> Input {
    let columns = (0..COLUMNS).map(|column| (column, rng.random_range(-2.0..2.0)));
    columns.chain([(COLUMNS + step, 1.0)]).collect()
}

fn random_sample(rng: &mut ChaCha8Rng, arms: usize) -> Sample {
    let steps = [0, 1, 2].map(|step| Some(random_input(rng, step)));
    let estimate = (0..arms).map(|_| rng.random_range(1.0..5.0)).collect();
    let observed = [0, 3, 3, 6].map(|arm| Observed {
        arm,
        sampling: arm % 2,
        quality: rng.random_range(1.0..5.0),
        weight: rng.random_range(1.0..4.0),
        answer: random_input(rng, 3),
        prefix: (arm == 3).then(|| random_input(rng, 3)),
        again: (arm + 5..arms)
            .step_by(5)
            .map(|arm| Again {
                arm,
                quality: rng.random_range(1.0..5.0),
                price: 0.3,
            })
            .collect(),
    });
    Sample {
        steps,
        observed: observed.to_vec(),
        estimate,
    }
}

fn statistics(rng: &mut ChaCha8Rng, arms: usize) -> ArmStatistics {
    let mut list = |high: f64| (0..arms).map(|_| rng.random_range(0.0..high)).collect();
    ArmStatistics {
        quality: list(5.0),
        latency_s: list(9.0),
        cost: list(1.0),
        price: list(1.0),
    }
}

#[test]
fn gradient_agrees_with_finite_differences_to_1e_6() {
    let rng = &mut ChaCha8Rng::seed_from_u64(7);
    let table = ArmTable::standard(3);
    let arms = statistics(rng, table.arms.len());
    let sample = random_sample(rng, table.arms.len());
    let shape = Shape::new(&table, COLUMNS, HIDDEN);
    let mut parameters = Parameters::initial(shape, 3.0, rng);
    parameters
        .values
        .iter_mut()
        .for_each(|value| *value += rng.random_range(-0.2..0.2));
    parameters.fuse();
    let objective = Objective {
        arms: &arms,
        tau: 0.5,
        utility_weight: 0.7,
    };
    for kept in [[true; 3], [true, false, true], [true, true, false]] {
        let mut gradient = Gradient::zero(&parameters.shape);
        objective.add(&parameters, &sample, kept, &mut gradient);
        gradient.split(&parameters.shape);
        let loss_at = |index: usize, offset: f64| {
            let mut moved = parameters.clone();
            moved.values[index] += offset;
            moved.fuse();
            objective.add(
                &moved,
                &sample,
                kept,
                &mut Gradient::zero(&parameters.shape),
            )
        };
        for (index, slope) in gradient.values.iter().enumerate() {
            const OFFSET: f64 = 1e-5;
            let measured = (loss_at(index, OFFSET) - loss_at(index, -OFFSET)) / (2.0 * OFFSET);
            let allowed = 1e-6 * slope.abs().max(1.0);
            assert!(
                (slope - measured).abs() < allowed,
                "{index}: {slope} but {measured}"
            );
        }
    }
}

#[test]
fn utility_is_the_part_of_the_objective_that_is_maximised() {
    let rng = &mut ChaCha8Rng::seed_from_u64(8);
    let table = ArmTable::standard(3);
    let arms = statistics(rng, table.arms.len());
    let sample = random_sample(rng, table.arms.len());
    let shape = Shape::new(&table, COLUMNS, HIDDEN);
    let parameters = Parameters::initial(shape, 3.0, rng);
    let loss = |utility_weight: f64| {
        let objective = Objective {
            arms: &arms,
            tau: 0.5,
            utility_weight,
        };
        objective.add(
            &parameters,
            &sample,
            [true; 3],
            &mut Gradient::zero(&parameters.shape),
        )
    };
    let objective = Objective {
        arms: &arms,
        tau: 0.5,
        utility_weight: 1.0,
    };
    let utility = objective.utility(&parameters, &sample);
    assert!((loss(0.0) - loss(1.0) - utility).abs() < 1e-9);
}

/// Questions of four outcomes each; `quality` gets the question's two hidden signs and the arm.
fn questions(quality: &dyn Fn([f64; 2], usize, &mut ChaCha8Rng) -> f64) -> Vec<Episode> {
    let rng = &mut ChaCha8Rng::seed_from_u64(3);
    let features = |step| StepFeatures {
        step,
        values: Vec::new(),
    };
    let outcome = |arm: usize, quality: f64| Outcome {
        arm,
        sampling: 0,
        seed: 0,
        quality,
        latency_s: 1.0,
        prompt_tokens: 1,
        completion_tokens: 1,
        cost: 0.0,
        answer: features(Step::Answer),
        prefix: None,
        probability: 0.25,
    };
    let question = |index: usize| {
        let signs = [0, 1].map(|_| if rng.random::<bool>() { 1.0 } else { -1.0 });
        let arms = [0, 5, 1 + index % 4, 6 + index % 4];
        let outcomes = arms.map(|arm| outcome(arm, quality(signs, arm, rng)));
        Episode {
            question: index.to_string(),
            source: "planted".to_owned(),
            query: features(Step::Query),
            search: None,
            recall: None,
            outcomes: outcomes.to_vec(),
        }
    };
    (0..400).map(question).collect()
}

#[test]
fn outcomes_speak_most_for_arms_that_recall_alike() {
    let table = ArmTable::standard(3);
    let log = questions(&|[every, recalling], arm, rng| {
        let recalls = table.arms[arm].recall != RecallMode::None;
        let part = if recalls { recalling } else { 0.0 };
        3.0 + 0.4 * every + part + rng.random_range(-0.5..0.5)
    });
    let log: Vec<&Episode> = log.iter().collect();
    let means = [3.0; 15];
    let effects = Effects::of(&log, &table, &means);
    // The big model was not tried: what is expected of it with recall follows the small ones'.
    let recalled = |episode: &Episode| {
        let seen = [2, 3].map(|index: usize| episode.outcomes[index].quality - 3.0);
        (seen[0] + seen[1]) / 2.0
    };
    let followed = log.iter().filter(|episode| recalled(episode).abs() > 0.9);
    for episode in followed {
        let [none, vector] = [10, 12].map(|arm| effects.on(episode, arm, &table, &means));
        assert!(vector * recalled(episode) > 0.0);
        assert!(vector.abs() > none.abs(), "{vector} and {none}");
    }
}

#[test]
fn outcomes_that_do_not_hang_together_have_no_effect() {
    let table = ArmTable::standard(3);
    let log = questions(&|_, _, rng| rng.random_range(1.0..5.0));
    let log: Vec<&Episode> = log.iter().collect();
    let means = [3.0; 15];
    let effects = Effects::of(&log, &table, &means);
    for episode in &log {
        let effect = effects.on(episode, 12, &table, &means);
        assert!(effect.abs() < 0.5, "{effect}");
    }
}
