//! The loop: Adam over shuffled batches, and cross-validation for how long to run it.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::mission::Mission;
use super::objective::Objective;
use super::parameters::{Gradient, Parameters};
use super::sample::{Dataset, Sample};
use super::shape::{Body, HeadKind, Shape};
use super::thin::Thinning;
use super::{Episode, TrainOptions};
use crate::arms::ArmTable;

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// Passes whose validation utility is averaged before the best is picked.
const SMOOTHING: usize = 5;

/// What a network is taught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lesson {
    /// Expected utility over choice and verdict.
    Utility,
    /// Expected utility of the choice; answers are accepted unread.
    Choice,
    /// Labels of the best arm ([`super::mission`]).
    Mission,
}

impl Lesson {
    /// The heads that learn it.
    pub(super) fn heads(self) -> HeadKind {
        if self == Self::Mission {
            HeadKind::Mission
        } else {
            HeadKind::Quality
        }
    }
}

/// What is trained, beside the options.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    pub(super) body: Body,
    pub(super) lesson: Lesson,
    /// Columns that nobody measured.
    pub(super) left_out: Vec<bool>,
}

impl Default for Recipe {
    /// The router: a FastGRNN that learns both decisions from every feature.
    fn default() -> Self {
        Self {
            body: Body::FastGrnn,
            lesson: Lesson::Utility,
            left_out: Vec::new(),
        }
    }
}

/// What is minimised.
pub(super) enum Loss<'a> {
    Utility(Objective<'a>),
    Mission(Mission<'a>),
}

impl<'a> Loss<'a> {
    pub(super) fn of(data: &'a Dataset, lesson: Lesson, tau: f64, utility_weight: f64) -> Self {
        if lesson == Lesson::Mission {
            return Self::Mission(Mission::of(data));
        }
        Self::Utility(Objective {
            arms: &data.arms,
            tau,
            utility_weight,
            verdict: lesson == Lesson::Utility,
        })
    }

    /// Adds the gradient of one question and returns its loss. `kept` hides steps.
    pub(super) fn add(
        &self,
        parameters: &Parameters,
        sample: &Sample,
        kept: [bool; 3],
        gradient: &mut Gradient,
    ) -> f64 {
        match self {
            Self::Utility(objective) => objective.add(parameters, sample, kept, gradient),
            Self::Mission(mission) => mission.add(parameters, sample, kept, gradient),
        }
    }

    /// The loss of one question.
    pub(super) fn value(&self, parameters: &Parameters, sample: &Sample) -> f64 {
        let unused = &mut Gradient::zero(&parameters.shape);
        self.add(parameters, sample, [true; 3], unused)
    }

    /// Expected utility of one question under what was learned.
    pub(super) fn utility(&self, parameters: &Parameters, sample: &Sample) -> f64 {
        match self {
            Self::Utility(objective) => objective.utility(parameters, sample),
            Self::Mission(mission) => mission.utility(parameters, sample),
        }
    }
}

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
    (recipe, epochs): (&Recipe, usize),
    mut after: impl FnMut(usize, &Parameters),
) -> Run {
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let kind = (recipe.body, recipe.lesson.heads());
    let shape = Shape::of(data, kind, &options.compression);
    let arms = data.arms.quality.len().max(1) as f64;
    let mean_quality = data.arms.quality.iter().sum::<f64>() / arms;
    let mut parameters =
        Parameters::initial(shape, (mean_quality, options.candidate_bias), &mut rng);
    parameters.freeze(&data.normaliser);
    let mut thinning = Thinning::of(&parameters, options);
    let mut adam = Adam::new(&parameters);
    let mut order: Vec<usize> = (0..data.samples.len()).collect();
    let mut loss = 0.0;
    for epoch in 0..epochs {
        let utility_weight = if epoch < options.warm_up {
            0.0
        } else {
            options.utility_weight
        };
        let objective = Loss::of(data, recipe.lesson, options.tau, utility_weight);
        thinning.begin(epoch, &mut parameters);
        order.shuffle(&mut rng);
        let taught = match &objective {
            Loss::Mission(mission) => mission.curriculum(&order, &data.samples, (epoch, epochs)),
            Loss::Utility(_) => order.clone(),
        };
        loss = 0.0;
        for batch in taught.chunks(options.batch.max(1)) {
            let mut gradient = Gradient::zero(&parameters.shape);
            for &index in batch {
                let kept = [true, keep(&mut rng, options), keep(&mut rng, options)];
                let sample = &data.samples[index];
                loss += objective.add(&parameters, sample, kept, &mut gradient);
            }
            gradient.split(&parameters);
            gradient
                .values
                .iter_mut()
                .for_each(|value| *value /= batch.len() as f64);
            adam.update(&mut parameters, &gradient.values, options);
            thinning.apply(epoch, &mut parameters.values);
            parameters.fuse();
        }
        loss /= taught.len().max(1) as f64;
        after(epoch, &parameters);
    }
    Run { parameters, loss }
}

fn keep(rng: &mut ChaCha8Rng, options: &TrainOptions) -> bool {
    rng.random::<f64>() >= options.step_dropping
}

/// Which fold each of these belongs to: a seeded shuffle of the different names dealt out in turn.
pub(super) fn folds(names: &[&str], folds: usize, seed: u64) -> Vec<usize> {
    let mut ids = names.to_vec();
    ids.sort_unstable();
    ids.dedup();
    ids.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let fold_of: std::collections::HashMap<&str, usize> = ids
        .into_iter()
        .enumerate()
        .map(|(index, id)| (id, index % folds.max(2)))
        .collect();
    names.iter().map(|name| fold_of[name]).collect()
}

/// The questions of every fold but one, or of that one.
pub(super) fn part<'a>(
    episodes: &[&'a Episode],
    fold_of: &[usize],
    (fold, held_out): (usize, bool),
) -> Vec<&'a Episode> {
    let pairs = episodes.iter().zip(fold_of);
    pairs
        .filter(|(_, of)| (**of == fold) == held_out)
        .map(|(episode, _)| *episode)
        .collect()
}

/// How many passes maximise held-out expected utility, and that utility after each pass.
pub(super) fn cross_validate(
    episodes: &[&Episode],
    table: &ArmTable,
    options: &TrainOptions,
    recipe: &Recipe,
) -> (usize, Vec<f64>) {
    let ids: Vec<&str> = episodes.iter().map(|e| e.question.as_str()).collect();
    let fold_of = folds(&ids, options.folds, options.seed);
    let mut utility = vec![0.0; options.epochs_max.max(1)];
    for fold in 0..options.folds.max(2) {
        let training = part(episodes, &fold_of, (fold, false));
        let data = Dataset::new(&training, table, options);
        let validation = data
            .held_out(&part(episodes, &fold_of, (fold, true)))
            .without(&recipe.left_out);
        let data = data.without(&recipe.left_out);
        let objective = Loss::of(&data, recipe.lesson, options.tau, 1.0);
        fit(
            &data,
            options,
            (recipe, utility.len()),
            |epoch, parameters| {
                let samples = validation.samples.iter();
                let total: f64 = samples.map(|s| objective.utility(parameters, s)).sum();
                utility[epoch] += total / episodes.len() as f64;
            },
        );
    }
    (best_epoch(&utility, Thinning::settled(options)), utility)
}

/// Passes to run: the centre of the best window of [`SMOOTHING`] passes from pass `first` on.
pub(super) fn best_epoch(utility: &[f64], first: usize) -> usize {
    let first = first.min(utility.len().saturating_sub(1));
    let window = SMOOTHING.min(utility.len() - first);
    let mut best = (f64::NEG_INFINITY, first + 1);
    for (start, values) in utility[first..].windows(window).enumerate() {
        let sum: f64 = values.iter().sum();
        if sum > best.0 {
            best = (sum, first + start + window / 2 + 1);
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
    }
}
