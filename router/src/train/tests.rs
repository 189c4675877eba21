//! The gradient against finite differences, and the two forward passes against each other.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::objective::Objective;
use super::parameters::{Gradient, Parameters, Shape};
use super::sample::{Again, ArmStatistics, Input, Observed, Sample};
use crate::arms::ArmTable;

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
