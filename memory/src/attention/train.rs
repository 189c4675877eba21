//! Training: from questions with known answers to weights.
//!
//! Hyper-parameters (the number of layers, the pull towards the prior, the number of epochs) are
//! chosen on a held-out part of the training questions, and the rest follows from the gradients.
//! Two rounds: the weights of the first grow the subgraphs of the second. The same questions, stores
//! and seed give the same weights. Reading on: `optimise.rs`, `parameters.rs`.

use super::features::{EdgeFeature, NodeFeature};
use super::labels::LabelledQuestion;
use super::optimise::{Example, Found, Run, SplitMix};
use super::parameters::{Frozen, Layout};
use super::weights::{AttentionWeights, Wanted};
use super::{EDGE, NODE};
use crate::recall::RecallLimits;
use crate::search::SearchError;
use crate::store::{Memory, ReadError};

/// Fewest questions that weights can be learned from.
const QUESTIONS_MIN: usize = 10;

/// One question in this many is held out.
const HELD_OUT: usize = 4;

/// Numbers of layers that are tried.
const LAYERS: [usize; 3] = [2, 3, 6];

/// Strengths of the pull towards the prior that are tried.
const PULLS: [f64; 3] = [1e-2, 3e-3, 1e-3];

/// Times that subgraphs are grown.
const ROUNDS: usize = 2;

/// What counts as found.
const TOP: usize = 5;

/// How to train.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainOptions {
    /// How far recall goes when it is used.
    pub limits: RecallLimits,
    /// Seed of the order and of what is held out.
    pub seed: u64,
    /// Passes over the questions at most.
    pub epochs_max: usize,
    /// What is not trained.
    pub frozen: Frozen,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            limits: RecallLimits::default(),
            seed: 1,
            epochs_max: 60,
            frozen: Frozen::Nothing,
        }
    }
}

/// How far training is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainProgress {
    /// Runs done.
    pub done: usize,
    /// Runs to do.
    pub total: usize,
}

/// What training found.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct TrainReport {
    /// Questions given.
    pub questions: usize,
    /// Questions without a gold node in their subgraph, which teach nothing.
    pub unreachable: usize,
    /// Questions held out for the hyper-parameters.
    pub held_out: usize,
    /// Mean loss of the held-out questions with the weights before.
    pub loss_before: f64,
    /// The same with weights trained on the others.
    pub loss: f64,
    /// Share of gold nodes among the first five of the held-out questions, before.
    pub recall_before: f64,
    /// The same with weights trained on the others.
    pub recall: f64,
    /// Layers chosen.
    pub layers: usize,
    /// Pull towards the prior chosen.
    pub pull: f64,
    /// Epochs chosen.
    pub epochs: usize,
}

/// Why nothing was trained.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A question's vector does not fit its store.
    #[error("cannot search for the training question {question:?}")]
    Search {
        /// The question.
        question: String,
        /// Why.
        source: SearchError,
    },
    /// What training looks at cannot be read.
    #[error("cannot read what a memory is trained on")]
    Read(#[from] ReadError),
    /// Not enough to learn from.
    #[error(
        "{usable} of {questions} questions have a gold node within reach of recall, training needs {QUESTIONS_MIN}: \
         give more questions, or check that their gold passages are in this memory"
    )]
    TooFew {
        /// Questions given.
        questions: usize,
        /// Questions that can be learned from.
        usable: usize,
    },
}

/// Trains on the questions of one or more memories.
///
/// # Errors
/// A question cannot be searched for, or too few have an answer that recall can reach.
pub fn train(
    sets: &[(&Memory, &[LabelledQuestion])],
    options: &TrainOptions,
    progress: &mut dyn FnMut(TrainProgress),
) -> Result<(AttentionWeights, TrainReport), TrainError> {
    for (memory, _) in sets {
        memory.make_ready(&Wanted::ALL)?;
    }
    let prior = prior(options.frozen);
    let mut weights = prior.clone();
    let mut report = None;
    let runs = LAYERS.len() * PULLS.len() + 1;
    let mut done = 0;
    let mut tell = || {
        done += 1;
        progress(TrainProgress {
            done,
            total: ROUNDS * runs,
        });
    };
    for _ in 0..ROUNDS {
        let (examples, unreachable) = examples(sets, &weights, options)?;
        let round = Round::of(&examples, options);
        let (found, next) = round.run(&prior, &mut tell);
        report = Some(TrainReport {
            unreachable,
            ..round.report(&prior, &found, examples.len() + unreachable)
        });
        weights = next;
    }
    let report = report.expect("there is at least one round");
    Ok((weights, report))
}

/// What training starts from and is pulled towards: PageRank with damped hubs, edges that are sure
/// before others.
fn prior(frozen: Frozen) -> AttentionWeights {
    let mut prior = AttentionWeights::pagerank().with_hubs_damped();
    for head in [&mut prior.other.forwards, &mut prior.other.backwards] {
        head.edge[EdgeFeature::Confidence as usize] = 1.0;
        if frozen == Frozen::Edges {
            head.edge = [0.0; EDGE];
        }
    }
    if frozen == Frozen::Attention {
        prior.score = [0.0; NODE];
        prior.score[NodeFeature::Cosine as usize] = 1.0;
    }
    prior
}

/// The subgraphs of all questions, and how many have none of their gold nodes.
fn examples(
    sets: &[(&Memory, &[LabelledQuestion])],
    weights: &AttentionWeights,
    options: &TrainOptions,
) -> Result<(Vec<Example>, usize), TrainError> {
    let (mut examples, mut unreachable) = (Vec::new(), 0);
    for (memory, questions) in sets {
        for question in *questions {
            let example = memory.example(weights, question, &options.limits);
            let example = example.map_err(|source| TrainError::Search {
                question: question.query.text.clone(),
                source,
            })?;
            match example {
                Some(example) => examples.push(example),
                None => unreachable += 1,
            }
        }
    }
    if examples.len() < QUESTIONS_MIN {
        return Err(TrainError::TooFew {
            questions: examples.len() + unreachable,
            usable: examples.len(),
        });
    }
    Ok((examples, unreachable))
}

/// One choice of hyper-parameters.
struct Choice {
    layout: Layout,
    layers: usize,
    pull: f64,
    found: Found,
}

/// One round: the examples, split.
struct Round<'a> {
    options: &'a TrainOptions,
    all: Vec<&'a Example>,
    learned: Vec<&'a Example>,
    held_out: Vec<&'a Example>,
}

impl<'a> Round<'a> {
    fn of(examples: &'a [Example], options: &'a TrainOptions) -> Self {
        let mut order: Vec<usize> = (0..examples.len()).collect();
        SplitMix(options.seed).shuffle(&mut order);
        let all: Vec<&Example> = order.iter().map(|at| &examples[*at]).collect();
        let (held_out, learned) = all.split_at(all.len() / HELD_OUT);
        Self {
            options,
            learned: learned.to_vec(),
            held_out: held_out.to_vec(),
            all,
        }
    }

    /// Tries all hyper-parameters, then trains with the best on all questions.
    fn run(&self, prior: &AttentionWeights, tell: &mut dyn FnMut()) -> (Choice, AttentionWeights) {
        let graphs: Vec<_> = self.all.iter().map(|example| &example.graph).collect();
        let mut best: Option<Choice> = None;
        for layers in LAYERS {
            let layout = Layout::of(&graphs, layers, self.options.frozen);
            let start = layout.parameters(prior);
            for pull in PULLS {
                let run = self.with(&layout, &start, pull, self.options.epochs_max);
                let found = run.train(&self.learned, &self.held_out);
                tell();
                if best
                    .as_ref()
                    .is_none_or(|best| found.loss < best.found.loss)
                {
                    best = Some(Choice {
                        layout: layout.clone(),
                        layers,
                        pull,
                        found,
                    });
                }
            }
        }
        let best = best.expect("there is at least one choice");
        let start = best.layout.parameters(prior);
        let run = self.with(&best.layout, &start, best.pull, best.found.epochs);
        let parameters = run.train(&self.all, &[]).parameters;
        tell();
        let weights = best.layout.weights(&parameters);
        (best, weights)
    }

    fn with<'r>(&self, layout: &'r Layout, prior: &'r [f64], pull: f64, epochs: usize) -> Run<'r> {
        Run {
            layout,
            prior,
            pull,
            epochs,
            seed: self.options.seed,
        }
    }

    fn report(&self, prior: &AttentionWeights, best: &Choice, questions: usize) -> TrainReport {
        let start = best.layout.parameters(prior);
        let run = self.with(&best.layout, &start, best.pull, 0);
        let recall = |parameters: &[f64]| {
            let weights = best.layout.weights(parameters);
            let each = self
                .held_out
                .iter()
                .map(|example| recall_at(&example.graph.scores(&weights), &example.gold));
            each.sum::<f64>() / self.held_out.len().max(1) as f64
        };
        TrainReport {
            questions,
            unreachable: 0,
            held_out: self.held_out.len(),
            loss_before: run.loss(&start, &self.held_out),
            loss: best.found.loss,
            recall_before: recall(&start),
            recall: recall(&best.found.parameters),
            layers: best.layers,
            pull: best.pull,
            epochs: best.found.epochs,
        }
    }
}

/// Share of the gold nodes that are among the first five.
fn recall_at(scores: &[f64], gold: &[usize]) -> f64 {
    let above = |node: &&usize| {
        let own = scores[**node];
        scores.iter().filter(|score| **score > own).count() < TOP
    };
    gold.iter().filter(above).count() as f64 / gold.len() as f64
}
