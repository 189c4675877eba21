//! The loop: Adam over shuffled batches, and cross-validation for how long to run it.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::objective::Objective;
use super::parameters::{Gradient, Parameters, Shape};
use super::sample::Dataset;
use super::{Episode, TrainOptions};
use crate::arms::ArmTable;

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// Passes whose validation utility is averaged before the best is picked.
const SMOOTHING: usize = 5;

/// Where a run ended.
pub(super) struct Run {
    pub(super) parameters: Parameters,
    /// Mean objective over the last pass.
    pub(super) loss: f64,
}

/// Runs `epochs` passes; `after` sees the parameters at the end of each.
pub(super) fn fit(
    data: &Dataset,
    options: &TrainOptions,
    epochs: usize,
    mut after: impl FnMut(usize, &Parameters),
) -> Run {
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let shape = Shape::standard(data);
    let arms = data.arms.quality.len().max(1) as f64;
    let mean_quality = data.arms.quality.iter().sum::<f64>() / arms;
    let mut parameters = Parameters::initial(shape, mean_quality, &mut rng);
    let mut adam = Adam::new(&parameters);
    let mut order: Vec<usize> = (0..data.samples.len()).collect();
    let mut loss = 0.0;
    for epoch in 0..epochs {
        let utility_weight = if epoch < options.warm_up {
            0.0
        } else {
            options.utility_weight
        };
        let objective = Objective {
            arms: &data.arms,
            tau: options.tau,
            utility_weight,
        };
        order.shuffle(&mut rng);
        loss = 0.0;
        for batch in order.chunks(options.batch.max(1)) {
            let mut gradient = Gradient::zero(&parameters.shape);
            for &index in batch {
                let kept = [true, keep(&mut rng, options), keep(&mut rng, options)];
                let sample = &data.samples[index];
                loss += objective.add(&parameters, sample, kept, &mut gradient);
            }
            gradient.split(&parameters.shape);
            gradient
                .values
                .iter_mut()
                .for_each(|value| *value /= batch.len() as f64);
            adam.update(&mut parameters, &gradient.values, options);
        }
        loss /= data.samples.len().max(1) as f64;
        after(epoch, &parameters);
    }
    Run { parameters, loss }
}

fn keep(rng: &mut ChaCha8Rng, options: &TrainOptions) -> bool {
    rng.random::<f64>() >= options.step_dropping
}

/// Which fold each question belongs to: a seeded shuffle dealt out in turn.
pub(super) fn folds(questions: &[&Episode], folds: usize, seed: u64) -> Vec<usize> {
    let mut ids: Vec<&str> = questions
        .iter()
        .map(|episode| episode.question.as_str())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let fold_of: std::collections::HashMap<&str, usize> = ids
        .into_iter()
        .enumerate()
        .map(|(index, id)| (id, index % folds.max(2)))
        .collect();
    questions
        .iter()
        .map(|episode| fold_of[episode.question.as_str()])
        .collect()
}

/// How many passes maximise held-out expected utility, and that utility after each pass.
pub(super) fn cross_validate(
    episodes: &[&Episode],
    table: &ArmTable,
    options: &TrainOptions,
) -> (usize, Vec<f64>) {
    let fold_of = folds(episodes, options.folds, options.seed);
    let mut utility = vec![0.0; options.epochs_max.max(1)];
    for fold in 0..options.folds.max(2) {
        let part = |held_out: bool| -> Vec<&Episode> {
            let pairs = episodes.iter().zip(&fold_of);
            pairs
                .filter(|(_, of)| (**of == fold) == held_out)
                .map(|(e, _)| *e)
                .collect()
        };
        let data = Dataset::new(&part(false), table, options);
        let validation = data.held_out(&part(true));
        let objective = Objective {
            arms: &data.arms,
            tau: options.tau,
            utility_weight: 1.0,
        };
        fit(&data, options, utility.len(), |epoch, parameters| {
            let samples = validation.samples.iter();
            let total: f64 = samples.map(|s| objective.utility(parameters, s)).sum();
            utility[epoch] += total / episodes.len() as f64;
        });
    }
    (best_epoch(&utility), utility)
}

/// Passes to run: the centre of the best window of [`SMOOTHING`] passes.
fn best_epoch(utility: &[f64]) -> usize {
    let window = SMOOTHING.min(utility.len());
    let mut best = (f64::NEG_INFINITY, 1);
    for (start, values) in utility.windows(window).enumerate() {
        let sum: f64 = values.iter().sum();
        if sum > best.0 {
            best = (sum, start + window / 2 + 1);
        }
    }
    best.1
}

/// Adam with decoupled weight decay (Kingma and Ba 2015, Loshchilov and Hutter 2019).
struct Adam {
    first: Vec<f64>,
    second: Vec<f64>,
    decay: Vec<f64>,
    updates: i32,
}

impl Adam {
    fn new(parameters: &Parameters) -> Self {
        let zero = vec![0.0; parameters.values.len()];
        Self {
            first: zero.clone(),
            second: zero,
            decay: parameters.decay(),
            updates: 0,
        }
    }

    fn update(&mut self, parameters: &mut Parameters, slopes: &[f64], options: &TrainOptions) {
        self.updates = self.updates.saturating_add(1);
        let rate = options.learning_rate;
        let first_scale = 1.0 / (1.0 - BETA_1.powi(self.updates));
        let second_scale = 1.0 / (1.0 - BETA_2.powi(self.updates));
        for (index, value) in parameters.values.iter_mut().enumerate() {
            let slope = slopes[index];
            let (first, second) = (&mut self.first[index], &mut self.second[index]);
            *first = BETA_1 * *first + (1.0 - BETA_1) * slope;
            *second = BETA_2 * *second + (1.0 - BETA_2) * slope * slope;
            let step = *first * first_scale / ((*second * second_scale).sqrt() + EPSILON);
            let decay = options.weight_decay * self.decay[index] * *value;
            *value -= rate * (step + decay);
        }
        parameters.fuse();
    }
}
