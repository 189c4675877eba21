//! The training log: questions, what was known about each, and what the observed arms gave.
//!
//! One JSON object a line, an [`Episode`] each. Readers name the line and field that do not fit.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::arms::ArmTable;
use crate::schema::{FeatureSchema, Step, StepFeatures};

/// One question and everything observed about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Episode {
    /// Identifies the question; folds are cut by it.
    pub question: String,
    /// The corpus or task family it came from.
    pub source: String,
    /// Features of the query step.
    pub query: StepFeatures,
    /// Features of the search step; absent when there was no memory.
    pub search: Option<StepFeatures>,
    /// Features of the recall step; absent when there was no graph.
    pub recall: Option<StepFeatures>,
    /// The arms that were tried.
    pub outcomes: Vec<Outcome>,
}

/// What one arm gave on one question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Index into the arm table.
    pub arm: usize,
    /// Index of the sampling class.
    pub sampling: usize,
    /// Sampling seed the engine was given.
    pub seed: u64,
    /// 1 + 4 x score.
    pub quality: f64,
    /// Cold seconds from dispatch to the last token.
    pub latency_s: f64,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of the answer.
    pub completion_tokens: u32,
    /// Cost units.
    pub cost: f64,
    /// Features of the whole answer.
    pub answer: StepFeatures,
    /// Features of its first tokens, as a stream holds them back.
    pub prefix: Option<StepFeatures>,
    /// Probability with which the collection design tried this arm on this question.
    pub probability: f64,
}

/// Why a log cannot be used.
#[derive(Debug, Error)]
pub enum DataError {
    /// A line that is not an episode.
    #[error("read a training log: line {line} is not an episode")]
    Parse {
        /// Line, counted from 1.
        line: usize,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// An episode that contradicts the arm table, the schema or itself.
    #[error("read a training log: question `{question}`: {what}")]
    Episode {
        /// The question's id.
        question: String,
        /// What does not fit.
        what: String,
    },
}

/// Reads JSON Lines; empty lines are skipped.
pub fn read_episodes(text: &str) -> Result<Vec<Episode>, DataError> {
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let parse = |(index, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|source| DataError::Parse {
            line: index + 1,
            source,
        })
    };
    lines.map(parse).collect()
}

/// Writes JSON Lines, one episode each.
pub fn write_episodes(episodes: &[Episode]) -> String {
    let line = |episode| serde_json::to_string(episode).expect("an episode has only string keys");
    episodes
        .iter()
        .map(|episode| line(episode) + "\n")
        .collect()
}

/// The same log with each arm's qualities shuffled over its questions: nothing is left to learn but
/// which arm is best on the whole. A router that still beats that arm is measured wrongly.
///
/// Answers stay where they are, so that their confidence says nothing about quality either.
pub fn permuted(episodes: &[Episode], seed: u64) -> Vec<Episode> {
    let mut permuted = episodes.to_vec();
    let rng = &mut ChaCha8Rng::seed_from_u64(seed);
    let outcomes = permuted
        .iter_mut()
        .flat_map(|episode| &mut episode.outcomes);
    let mut by_arm: BTreeMap<usize, Vec<&mut Outcome>> = BTreeMap::new();
    outcomes.for_each(|outcome| by_arm.entry(outcome.arm).or_default().push(outcome));
    for of_arm in by_arm.values_mut() {
        let mut qualities: Vec<f64> = of_arm.iter().map(|outcome| outcome.quality).collect();
        qualities.shuffle(rng);
        of_arm
            .iter_mut()
            .zip(qualities)
            .for_each(|(outcome, quality)| outcome.quality = quality);
    }
    permuted
}

/// Refuses an episode that contradicts the arm table, the schema or itself.
pub(super) fn check(episode: &Episode, table: &ArmTable) -> Result<(), DataError> {
    let wrong = |what: String| DataError::Episode {
        question: episode.question.clone(),
        what,
    };
    let steps = [
        (Some(&episode.query), Step::Query),
        (episode.search.as_ref(), Step::Search),
        (episode.recall.as_ref(), Step::Recall),
    ];
    let answers = episode.outcomes.iter().flat_map(|outcome| {
        [
            (Some(&outcome.answer), Step::Answer),
            (outcome.prefix.as_ref(), Step::Answer),
        ]
    });
    for (features, step) in steps.into_iter().chain(answers) {
        let Some(features) = features else { continue };
        let expected = FeatureSchema::current().of(step).count();
        if features.step != step || features.values.len() != expected {
            let (found, got) = (features.step, features.values.len());
            return Err(wrong(format!(
                "{got} features of step {found} where {expected} of step {step} belong; \
                 collect it again with this version"
            )));
        }
    }
    for outcome in &episode.outcomes {
        let Outcome {
            arm,
            sampling,
            quality,
            latency_s,
            cost,
            probability,
            ..
        } = *outcome;
        if arm >= table.arms.len() || sampling >= table.sampling.len() {
            return Err(wrong(format!(
                "arm {arm} with sampling {sampling} is not in the table"
            )));
        }
        if !(1.0..=5.0).contains(&quality) {
            return Err(wrong(format!(
                "arm {arm} has quality {quality}, which is not in 1 to 5"
            )));
        }
        if !(probability > 0.0 && probability <= 1.0) {
            return Err(wrong(format!(
                "arm {arm} has probability {probability}, not in (0, 1]"
            )));
        }
        let measured = |value: f64| value.is_finite() && value >= 0.0;
        if !measured(latency_s) || !measured(cost) {
            return Err(wrong(format!(
                "arm {arm} took {latency_s} s and cost {cost}"
            )));
        }
    }
    Ok(())
}
