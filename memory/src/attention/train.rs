//! Training: from questions with known answers to weights.
//!
//! Hyper-parameters (the number of layers, the pull towards the prior, the number of epochs) are
//! chosen on training questions that are held out: each memory in turn, since weights are used on memories that
//! they were not trained on, or a quarter of the questions where there is one memory. The rest follows from the
//! gradients. Two rounds: the weights of the first grow the subgraphs of the second. The same questions, stores
//! and seed give the same weights. Reading on: `optimise.rs`, `parameters.rs`.

use super::features::NodeFeature;
use super::labels::LabelledQuestion;
use super::optimise::{BATCH, Example, Found, Run, SplitMix};
use super::parameters::{Frozen, Layout};
use super::weights::{AttentionWeights, Wanted};
use super::{EDGE, NODE};
use crate::recall::RecallLimits;
use crate::search::SearchError;
use crate::store::{Memory, ReadError};

/// Fewest questions that weights can be learned from.
const QUESTIONS_MIN: usize = 10;

/// One question in this many is held out where there is one memory.
const HELD_OUT: usize = 4;

/// Numbers of layers that are tried.
const LAYERS: [usize; 1] = [3];

/// Strengths of the pull towards the prior that are tried.
const PULLS: [f64; 5] = [1.0, 0.3, 0.1, 0.01, 0.001];

/// Steps of the optimiser after which nothing changes any more, about.
const STEPS_MAX: usize = 240;

/// Fewest epochs that are tried, however many questions there are.
const EPOCHS_MIN: usize = 10;

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
    // The first round only says where the subgraphs grow.
    let pulls = |round: usize| {
        if round + 1 == ROUNDS {
            &PULLS[..]
        } else {
            &PULLS[..1]
        }
    };
    let runs = (0..ROUNDS).map(|round| LAYERS.len() * pulls(round).len() + 1);
    let total = runs.sum();
    let mut done = 0;
    let mut tell = || {
        done += 1;
        progress(TrainProgress { done, total });
    };
    for number in 0..ROUNDS {
        let (examples, unreachable) = examples(sets, &weights, options)?;
        let round = Round::of(&examples, options);
        let (found, next) = round.run(&prior, pulls(number), &mut tell);
        if number + 1 == ROUNDS {
            report = Some(TrainReport {
                unreachable,
                ..round.report(&prior, &found, round.all.len() + unreachable)
            });
        }
        weights = next;
    }
    let report = report.expect("there is a last round");
    Ok((weights, report))
}

/// What training starts from and is pulled towards: the weights set by hand.
fn prior(frozen: Frozen) -> AttentionWeights {
    let mut prior = AttentionWeights::by_hand();
    match frozen {
        Frozen::Nothing => {}
        Frozen::Edges => {
            prior.relations.clear();
            for head in [&mut prior.other.forwards, &mut prior.other.backwards] {
                (head.bias, head.edge) = (0.0, [0.0; EDGE]);
            }
        }
        Frozen::Attention => {
            prior.score = [0.0; NODE];
            prior.score[NodeFeature::Cosine as usize] = 1.0;
        }
    }
    prior
}

/// The subgraphs of the questions of each memory, and how many questions have none of their gold nodes.
fn examples(
    sets: &[(&Memory, &[LabelledQuestion])],
    weights: &AttentionWeights,
    options: &TrainOptions,
) -> Result<(Vec<Vec<Example>>, usize), TrainError> {
    let (mut examples, mut unreachable) = (Vec::new(), 0);
    for (memory, questions) in sets {
        let mut own = Vec::new();
        for question in *questions {
            let example = memory.example(weights, question, &options.limits);
            let example = example.map_err(|source| TrainError::Search {
                question: question.query.text.clone(),
                source,
            })?;
            match example {
                Some(example) => own.push(example),
                None => unreachable += 1,
            }
        }
        examples.push(own);
    }
    let usable = examples.iter().map(Vec::len).sum();
    if usable < QUESTIONS_MIN {
        return Err(TrainError::TooFew {
            questions: usable + unreachable,
            usable,
        });
    }
    Ok((examples, unreachable))
}

/// One choice of hyper-parameters.
struct Choice {
    layout: Layout,
    layers: usize,
    pull: f64,
    epochs: usize,
    loss: f64,
}

/// Questions that are learned from, and those that say how well.
struct Fold<'a> {
    learned: Vec<&'a Example>,
    held_out: Vec<&'a Example>,
}

/// One round: the examples, and what is held out of them.
struct Round<'a> {
    options: &'a TrainOptions,
    all: Vec<&'a Example>,
    folds: Vec<Fold<'a>>,
}

impl<'a> Round<'a> {
    /// Of the examples of each memory.
    fn of(examples: &'a [Vec<Example>], options: &'a TrainOptions) -> Self {
        let all: Vec<&Example> = examples.iter().flatten().collect();
        let told = examples
            .iter()
            .filter(|own| own.len() >= QUESTIONS_MIN)
            .count();
        let folds = if told > 1 {
            let held_out = (0..examples.len()).filter(|at| examples[*at].len() >= QUESTIONS_MIN);
            let fold = |at: usize| {
                let others = examples
                    .iter()
                    .enumerate()
                    .filter(|(other, _)| *other != at);
                Fold {
                    learned: others.flat_map(|(_, own)| own).collect(),
                    held_out: examples[at].iter().collect(),
                }
            };
            held_out.map(fold).collect()
        } else {
            let mut order = all.clone();
            SplitMix(options.seed).shuffle(&mut order);
            let learned = order.split_off(order.len() / HELD_OUT);
            vec![Fold {
                learned,
                held_out: order,
            }]
        };
        Self {
            options,
            all,
            folds,
        }
    }

    /// Tries all hyper-parameters, then trains with the best on all questions.
    fn run(
        &self,
        prior: &AttentionWeights,
        pulls: &[f64],
        tell: &mut dyn FnMut(),
    ) -> (Choice, AttentionWeights) {
        let epochs = (STEPS_MAX * BATCH / self.all.len()).max(EPOCHS_MIN);
        let epochs = epochs.min(self.options.epochs_max);
        let graphs: Vec<_> = self.all.iter().map(|example| &example.graph).collect();
        let mut best: Option<Choice> = None;
        for layers in LAYERS {
            let layout = Layout::of(&graphs, layers, self.options.frozen);
            let start = layout.parameters(prior);
            for pull in pulls.iter().copied() {
                let run = self.with(&layout, &start, pull, epochs);
                let (epochs, loss) = self.best_epoch(&run);
                tell();
                if best.as_ref().is_none_or(|best| loss < best.loss) {
                    best = Some(Choice {
                        layout: layout.clone(),
                        layers,
                        pull,
                        epochs,
                        loss,
                    });
                }
            }
        }
        let best = best.expect("there is at least one choice");
        let start = best.layout.parameters(prior);
        let run = self.with(&best.layout, &start, best.pull, best.epochs);
        let parameters = run.train(&self.all, &[]).parameters;
        tell();
        let weights = best.layout.weights(&parameters);
        (best, weights)
    }

    /// What is learned without each fold's own questions, in the order of the folds, which are learned beside each other.
    fn of_each_fold(&self, run: &Run<'_>) -> Vec<Found> {
        std::thread::scope(|scope| {
            let folds = self.folds.iter();
            let learning: Vec<_> = folds
                .map(|fold| scope.spawn(|| run.train(&fold.learned, &fold.held_out)))
                .collect();
            let learned = learning
                .into_iter()
                .map(std::thread::ScopedJoinHandle::join);
            learned
                .map(|found| found.expect("arithmetic ends in numbers"))
                .collect()
        })
    }

    /// The epoch after which the held-out loss is lowest, and that loss, in the mean of all folds.
    fn best_epoch(&self, run: &Run<'_>) -> (usize, f64) {
        let mut losses: Vec<f64> = Vec::new();
        for found in self.of_each_fold(run) {
            losses.resize(found.losses.len(), 0.0);
            for (sum, loss) in losses.iter_mut().zip(&found.losses) {
                *sum += loss / self.folds.len() as f64;
            }
        }
        let epochs = losses.into_iter().enumerate();
        let best = epochs.min_by(|a, b| a.1.total_cmp(&b.1));
        best.expect("the loss before the first epoch is there")
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
        let run = self.with(&best.layout, &start, best.pull, best.epochs);
        let learned = self.of_each_fold(&run);
        let of_folds = |value: &dyn Fn(&Fold<'_>, &Found) -> f64| {
            let folds = self.folds.iter().zip(&learned);
            folds.map(|(fold, found)| value(fold, found)).sum::<f64>() / self.folds.len() as f64
        };
        let recall = |parameters: &[f64], held_out: &[&Example]| {
            let weights = best.layout.weights(parameters);
            let each = held_out
                .iter()
                .map(|example| recall_at(&example.graph.scores(&weights), &example.gold));
            each.sum::<f64>() / held_out.len().max(1) as f64
        };
        TrainReport {
            questions,
            unreachable: 0,
            held_out: self.folds.iter().map(|fold| fold.held_out.len()).sum(),
            loss_before: of_folds(&|fold, _| run.loss(&start, &fold.held_out)),
            loss: best.loss,
            recall_before: of_folds(&|fold, _| recall(&start, &fold.held_out)),
            recall: of_folds(&|fold, found| recall(&found.parameters, &fold.held_out)),
            layers: best.layers,
            pull: best.pull,
            epochs: best.epochs,
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
