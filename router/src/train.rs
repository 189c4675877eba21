//! Training: from a log of outcomes to an artifact, and how good that artifact is.
//!
//! [`data`] owns the log, [`sample`] turns it into numbers (with [`effects`] for what nobody
//! observed), [`shape`] and [`parameters`] hold the weights, [`forward`] and [`backward`] are the network in f64 and its
//! gradient, [`objective`] is what is maximised, [`optimise`] the loop and [`thin`] what makes weights small on the way;
//! [`profile`] says what the questions were like.
//! [`evaluate()`] gives the honest numbers of an artifact, [`compare`] sets the router beside other ways to decide and
//! [`tabular`] does so on tables of outcomes. No clock and no ambient randomness: the same log and seed give the same bytes.

mod backward;
mod baselines;
pub mod compare;
pub mod data;
mod effects;
pub mod evaluate;
mod forward;
mod mission;
mod objective;
mod optimise;
mod parameters;
mod profile;
mod sample;
mod shape;
pub mod tabular;
#[cfg(test)]
mod tests;
mod thin;
mod worth;

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::arms::ArmTable;
use crate::artifact::{Artifact, Compression, Manifest, Training};
use crate::network::HIDDEN;
pub use data::{DataError, Episode, Outcome, permuted, read_episodes, write_episodes};
pub use evaluate::{Estimate, Evaluation, RouteShare, System, evaluate};
use optimise::{Recipe, fit};
use sample::Dataset;
pub use worth::Worth;

/// The fewest questions a router is trained on.
pub const QUESTIONS_MIN: usize = 20;

/// What a training run may vary.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainOptions {
    /// Seed of initial weights, folds, order and step dropping.
    pub seed: u64,
    /// Quality points one second is worth.
    pub per_second: f64,
    /// Quality points one cost unit is worth.
    pub per_cost_unit: f64,
    /// Most passes over the questions; cross-validation picks how many are made.
    pub epochs_max: usize,
    /// Passes that only learn to predict, before expected utility joins the objective.
    pub warm_up: usize,
    /// Folds by question.
    pub folds: usize,
    /// Questions a gradient step.
    pub batch: usize,
    /// Adam's step size.
    pub learning_rate: f64,
    /// Decoupled weight decay, per unit of step size.
    pub weight_decay: f64,
    /// Softmax temperature of the policy, in quality points.
    pub tau: f64,
    /// Weight of expected utility beside the prediction error.
    pub utility_weight: f64,
    /// Probability with which training hides the search or recall step, so that the router copes
    /// when a store is away.
    pub step_dropping: f64,
    /// How the weights are made small.
    pub compression: Compression,
    /// Where the biases of the candidate start.
    pub candidate_bias: f64,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            per_second: 0.05,
            per_cost_unit: 0.1,
            epochs_max: 80,
            warm_up: 10,
            folds: 5,
            batch: 16,
            learning_rate: 0.002,
            weight_decay: 0.5,
            tau: 0.2,
            utility_weight: 1.0,
            step_dropping: 0.1,
            compression: Compression::default(),
            candidate_bias: 1.0,
        }
    }
}

/// What a training run found on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainReport {
    /// Passes over the questions that validation preferred.
    pub epochs: usize,
    /// Mean validation utility after each pass, over the folds. Regret against any fixed
    /// reference is that reference less this.
    pub validation_utility: Vec<f64>,
    /// Mean objective over the final pass on all questions; lower is better.
    pub final_loss: f64,
    /// Input columns without variance, by name.
    pub frozen: Vec<String>,
}

/// Why nothing was trained.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The log contradicts itself or the table.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Too little to learn from.
    #[error(
        "train a router: the log has {questions} questions with outcomes, at least \
         {QUESTIONS_MIN} are needed; run `weir router collect` for longer"
    )]
    TooFew {
        /// Questions with outcomes.
        questions: usize,
    },
    /// Weights that cannot be made small that way.
    #[error("train a router: {0}")]
    Compression(String),
    /// The arm table has no arms.
    #[error("train a router: the arm table has no arms")]
    NoArms,
}

/// Trains an artifact on a log.
///
/// Folds by question choose how many passes maximise held-out expected utility; the artifact is
/// then trained on every question for that many passes.
pub fn train(
    episodes: &[Episode],
    table: &ArmTable,
    options: &TrainOptions,
) -> Result<(Artifact, TrainReport), TrainError> {
    let episodes = usable(episodes, table)?;
    options
        .compression
        .check(HIDDEN)
        .map_err(TrainError::Compression)?;
    Ok(train_on(&episodes, table, options))
}

/// As [`train`], on a log that was checked.
fn train_on(
    episodes: &[&Episode],
    table: &ArmTable,
    options: &TrainOptions,
) -> (Artifact, TrainReport) {
    let recipe = Recipe::default();
    let (epochs, validation_utility) = optimise::cross_validate(episodes, table, options, &recipe);
    let data = Dataset::new(episodes, table, options);
    let run = fit(&data, options, (&recipe, epochs), |_, _| ());
    let training = Training {
        questions: episodes.len(),
        outcomes: episodes.iter().map(|episode| episode.outcomes.len()).sum(),
        seed: options.seed,
        epochs,
        per_second: options.per_second,
        per_cost_unit: options.per_cost_unit,
        data_sha256: digest(episodes.iter().copied()),
    };
    let kind = (options.tau, options.compression);
    let profile = profile::fit(episodes, &data.normaliser, options);
    let manifest = Manifest::trained(table, &data.normaliser, kind, (training, profile));
    let frozen = manifest.frozen.clone();
    let report = TrainReport {
        epochs,
        validation_utility,
        final_loss: run.loss,
        frozen,
    };
    (
        Artifact::assemble(manifest, run.parameters.weights()),
        report,
    )
}

/// The episodes with outcomes, checked; one per question, in order of appearance.
fn usable<'a>(episodes: &'a [Episode], table: &ArmTable) -> Result<Vec<&'a Episode>, TrainError> {
    if table.arms.is_empty() {
        return Err(TrainError::NoArms);
    }
    let with_outcomes = episodes
        .iter()
        .filter(|episode| !episode.outcomes.is_empty());
    let usable: Vec<&Episode> = with_outcomes.collect();
    if usable.len() < QUESTIONS_MIN {
        return Err(TrainError::TooFew {
            questions: usable.len(),
        });
    }
    usable
        .iter()
        .try_for_each(|episode| data::check(episode, table))?;
    Ok(usable)
}

/// Digest of what a log teaches, as an artifact that was trained on it carries it.
pub fn log_sha256(episodes: &[Episode]) -> String {
    let taught = episodes
        .iter()
        .filter(|episode| !episode.outcomes.is_empty());
    digest(taught)
}

fn digest<'a>(episodes: impl Iterator<Item = &'a Episode>) -> String {
    let mut digest = Sha256::new();
    for episode in episodes {
        digest.update(write_episodes(std::slice::from_ref(episode)));
    }
    hex::encode(digest.finalize())
}
