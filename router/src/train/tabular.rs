//! What can be learned from a table of outcomes: one step of features, and the score of every model on every row.
//!
//! A table exercises the first step only: there is no search, no recall, no answer to read, and every model was tried. With
//! one step the state before it is empty, so that the recurrent matrix does nothing: a FastGRNN is a gated layer here.

use super::TrainOptions;
use super::baselines::{Linear, Neighbours, Rows};
use super::effects::Effects;
use super::objective::softmax;
use super::optimise::{Lesson, Loss, Recipe, fit};
use super::parameters::Parameters;
use super::sample::{ArmStatistics, Dataset, Input, Observed, Sample};
use super::shape::Body;
use crate::arms::{Arm, ArmTable, RecallMode, SamplingClass};
use crate::network::Normaliser;

/// Gradient steps on a table, about, of this many rows each; no fewer and no more passes than these.
const STEPS: usize = 1_000;
const BATCH: usize = 32;
const EPOCHS: (usize, usize) = (10, 80);

/// Networks whose mean is taken; each leaves out another part of the training rows, which says when it has learned enough.
const MEMBERS: usize = 5;

/// What learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableLearner {
    /// Nearest neighbours.
    Neighbours,
    /// Ridge regression.
    Ridge,
    /// A perceptron of as many weights as the FastGRNN.
    Perceptron,
    /// The router's network.
    FastGrnn,
    /// The router's network on labels of the best model.
    Mission,
}

/// A row to learn from.
#[derive(Debug, Clone, Copy)]
pub struct TableExample<'a> {
    /// Features.
    pub features: &'a [f32],
    /// Score of each model, 0 to 1.
    pub scores: &'a [f64],
}

/// How networks are trained on tables: as the router, without prices, and as many steps however many rows there are. With
/// all biases at 1 the only step of a FastGRNN starts where its response to the columns is flat: the gate takes away as much
/// as the candidate adds. With a candidate that starts at 0 it follows them from the beginning.
fn options(seed: u64, rows: usize) -> TrainOptions {
    let epochs_max = (STEPS * BATCH / rows.max(1)).clamp(EPOCHS.0, EPOCHS.1);
    TrainOptions {
        seed,
        per_second: 0.0,
        per_cost_unit: 0.0,
        epochs_max,
        warm_up: epochs_max / 6,
        batch: BATCH,
        learning_rate: 0.004,
        weight_decay: 0.05,
        candidate_bias: 0.0,
        step_dropping: 0.0,
        ..TrainOptions::default()
    }
}

/// Learns from the examples and says what to expect of every model on each held-out row: its score, or for
/// [`TableLearner::Mission`] the probability that it is the best. The same rows and seed give the same numbers.
pub fn learn_table(
    learner: TableLearner,
    examples: &[TableExample<'_>],
    held_out: &[&[f32]],
    seed: u64,
) -> Vec<Vec<f64>> {
    let scaling = scaling(examples);
    let rows = |of: &mut dyn Iterator<Item = &[f32]>| -> Vec<Vec<f32>> {
        of.map(|row| scaled(&scaling, row)).collect()
    };
    let rows_in = Rows {
        features: rows(&mut examples.iter().map(|example| example.features)),
        targets: examples.iter().map(|e| e.scores.to_vec()).collect(),
    };
    let held_out = rows(&mut held_out.iter().copied());
    match learner {
        TableLearner::Neighbours => {
            let neighbours = Neighbours::fit(&rows_in);
            held_out.iter().map(|row| neighbours.expect(row)).collect()
        }
        TableLearner::Ridge => {
            let linear = Linear::fit(&rows_in);
            held_out.iter().map(|row| linear.expect(row)).collect()
        }
        TableLearner::Perceptron | TableLearner::FastGrnn | TableLearner::Mission => {
            network(learner, &rows_in, &held_out, seed)
        }
    }
}

/// The mean of several networks, each with other rows to say when it has learned enough.
fn network(learner: TableLearner, rows: &Rows, held_out: &[Vec<f32>], seed: u64) -> Vec<Vec<f64>> {
    let mut sums: Vec<Vec<f64>> = Vec::new();
    for index in 0..MEMBERS {
        let found = member(learner, rows, held_out, (seed, index));
        if sums.is_empty() {
            sums = found;
        } else {
            for (sums, found) in sums.iter_mut().zip(found) {
                sums.iter_mut()
                    .zip(found)
                    .for_each(|(sum, one)| *sum += one);
            }
        }
    }
    sums.iter_mut()
        .flatten()
        .for_each(|sum| *sum /= MEMBERS as f64);
    sums
}

/// Trains on four fifths and keeps the pass that does best on the rest.
fn member(
    learner: TableLearner,
    rows: &Rows,
    held_out: &[Vec<f32>],
    (seed, member): (u64, usize),
) -> Vec<Vec<f64>> {
    let seed = seed.wrapping_mul(31).wrapping_add(member as u64);
    let options = options(seed, rows.features.len());
    let recipe = Recipe {
        body: if learner == TableLearner::Perceptron {
            Body::Perceptron
        } else {
            Body::FastGrnn
        },
        lesson: if learner == TableLearner::Mission {
            Lesson::Mission
        } else {
            Lesson::Choice
        },
        left_out: Vec::new(),
    };
    let part = |validation: bool| -> Vec<usize> {
        let all = 0..rows.features.len();
        all.filter(|index| (index % MEMBERS == member) == validation)
            .collect()
    };
    let (training, validation) = (dataset(rows, &part(false)), dataset(rows, &part(true)));
    let loss = Loss::of(&training, recipe.lesson, options.tau, 0.0);
    let mut best: Option<(f64, Parameters)> = None;
    fit(
        &training,
        &options,
        (&recipe, options.epochs_max),
        |_, parameters| {
            let of = |sample| loss.value(parameters, sample);
            let total: f64 = validation.samples.iter().map(of).sum();
            if best.as_ref().is_none_or(|(least, _)| total < *least) {
                best = Some((total, parameters.clone()));
            }
        },
    );
    best.map_or_else(Vec::new, |(_, parameters)| {
        let of = (training.table.models, training.columns);
        expectations(&parameters, learner, of, held_out)
    })
}

/// What a network expects of every model on each row of `columns` columns.
fn expectations(
    parameters: &Parameters,
    learner: TableLearner,
    (models, columns): (usize, usize),
    rows: &[Vec<f32>],
) -> Vec<Vec<f64>> {
    let expect = |row: &Vec<f32>| {
        let input = input(row, columns);
        let state = parameters.read([input.as_slice()].into_iter());
        let heads: Vec<f64> = (0..models)
            .map(|row| parameters.head(row, &state))
            .collect();
        if learner == TableLearner::Mission {
            return softmax(heads, 1.0);
        }
        // With one sampling class its head is a part of every expectation.
        let class = parameters.head(parameters.shape.sampling_row(0), &state);
        heads
            .iter()
            .map(|quality| (quality + class - 1.0) / 4.0)
            .collect()
    };
    rows.iter().map(expect).collect()
}

fn dataset(rows: &Rows, which: &[usize]) -> Dataset {
    let models = rows.targets.first().map_or(0, Vec::len);
    let columns = rows.features.first().map_or(0, Vec::len);
    let quality = |score: f64| 1.0 + 4.0 * score;
    let sample = |&index: &usize| {
        let qualities: Vec<f64> = rows.targets[index].iter().map(|s| quality(*s)).collect();
        let observed = qualities.iter().enumerate().map(|(arm, quality)| Observed {
            arm,
            sampling: 0,
            quality: *quality,
            weight: 1.0,
            answer: Input::new(),
            prefix: None,
            again: Vec::new(),
        });
        Sample {
            steps: [Some(input(&rows.features[index], columns)), None, None],
            observed: observed.collect(),
            estimate: qualities.clone(),
        }
    };
    let mean = |model: usize| {
        let sum: f64 = which.iter().map(|index| rows.targets[*index][model]).sum();
        quality(sum / which.len().max(1) as f64)
    };
    let arms = (0..models).map(|rank| Arm {
        recall: RecallMode::None,
        rank,
        context_tokens: 0,
    });
    let class = SamplingClass {
        name: "precise".to_owned(),
        temperature: 0.0,
        top_p: 1.0,
    };
    Dataset {
        samples: which.iter().map(sample).collect(),
        normaliser: Normaliser::identity(columns),
        table: ArmTable {
            arms: arms.collect(),
            models,
            sampling: vec![class],
        },
        arms: ArmStatistics {
            quality: (0..models).map(mean).collect(),
            latency_s: vec![0.0; models],
            cost: vec![0.0; models],
            price: vec![0.0; models],
        },
        columns,
        effects: Effects::none(),
    }
}

/// The columns that are not zero, then the one-hot of the first step.
fn input(row: &[f32], columns: usize) -> Input {
    let values = row.iter().enumerate();
    let values = values.map(|(column, value)| (column, f64::from(*value)));
    values
        .filter(|(_, value)| *value != 0.0)
        .chain([(columns, 1.0)])
        .collect()
}

/// Offset and scale of every column; a scale of 0 for one without variance.
fn scaling(examples: &[TableExample<'_>]) -> Normaliser {
    let width = examples.first().map_or(0, |example| example.features.len());
    let count = examples.len().max(1) as f64;
    let column = |column: usize| {
        let values = || examples.iter().map(|e| f64::from(e.features[column]));
        let mean = values().sum::<f64>() / count;
        let variance = values().map(|v| (v - mean) * (v - mean)).sum::<f64>() / count;
        let scale = if variance > 1e-12 {
            1.0 / variance.sqrt()
        } else {
            0.0
        };
        (mean as f32, scale as f32)
    };
    let (offset, scale) = (0..width).map(column).unzip();
    Normaliser { offset, scale }
}

/// A row's normalised columns; those without variance are left out.
fn scaled(scaling: &Normaliser, row: &[f32]) -> Vec<f32> {
    let values = row.iter().enumerate();
    values
        .filter(|(column, _)| scaling.scale[*column] > 0.0)
        .map(|(column, value)| scaling.apply(column, *value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_learner_finds_which_model_a_feature_calls_for() {
        let x: Vec<[f32; 3]> = (0..600)
            .map(|i| [(i as f32 * 0.7).sin(), (i as f32 * 1.3).cos(), 1.0])
            .collect();
        let scores: Vec<[f64; 2]> = x
            .iter()
            .map(|x| if x[0] > 0.0 { [1.0, 0.0] } else { [0.0, 1.0] })
            .collect();
        let examples: Vec<TableExample<'_>> = x
            .iter()
            .zip(&scores)
            .map(|(features, scores)| TableExample { features, scores })
            .collect();
        let rows: [&[f32]; 2] = [&[0.8, 0.0, 1.0], &[-0.8, 0.0, 1.0]];
        for learner in [
            TableLearner::Neighbours,
            TableLearner::Ridge,
            TableLearner::Perceptron,
            TableLearner::FastGrnn,
            TableLearner::Mission,
        ] {
            let found = learn_table(learner, &examples, &rows, 1);
            assert!(found[0][0] > found[0][1] + 0.3, "{learner:?}: {found:?}");
            assert!(found[1][1] > found[1][0] + 0.3, "{learner:?}: {found:?}");
            assert_eq!(found, learn_table(learner, &examples, &rows, 1));
        }
    }
}
