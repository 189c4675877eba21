//! All weights as one vector in f64, and how the heads of arms share them.
//!
//! An arm's head is a sum of a row every arm has, one per recall, one per rank, one per context
//! size and a small one of its own, so that what is learned about a model under one recall helps
//! under another. The artifact holds only the sums.

use std::ops::Range;

use rand_chacha::ChaCha8Rng;

use super::sample::Dataset;
use crate::arms::ArmTable;
use crate::cell::Cell;
use crate::network::{HIDDEN, Heads, Layout, Network};
use crate::schema::{FeatureSchema, Step};
use crate::statistics::normal;

/// Initial deviation of the cell's weights, and its initial zeta and nu before the sigmoid
/// (Kusupati et al. 2018).
const INITIAL_WEIGHT: f64 = 0.1;
const INITIAL_ZETA: f64 = 1.0;
const INITIAL_NU: f64 = -4.0;

/// How much faster an arm's own row decays than the rows it shares.
const OWN_ROW_DECAY: f64 = 4.0;

/// Where everything stands in the vector.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) hidden: usize,
    /// Columns, then the step one-hot.
    pub(super) inputs: usize,
    /// For each fused head row, the factor rows it is the sum of.
    factors: Vec<Vec<usize>>,
    /// Arms' own rows.
    own: Range<usize>,
    factor_rows: usize,
    pub(super) arms: usize,
}

impl Shape {
    pub(super) fn new(table: &ArmTable, columns: usize, hidden: usize) -> Self {
        let (arms, sampling) = (table.arms.len(), table.sampling.len());
        let mut contexts: Vec<u32> = table.arms.iter().map(|arm| arm.context_tokens).collect();
        contexts.sort_unstable();
        contexts.dedup();
        // Rows: 0 for every arm, 3 recalls, ranks, contexts, arms' own, the answer, samplings.
        let ranks = 4;
        let context_rows = ranks + table.models;
        let own = context_rows + contexts.len()..context_rows + contexts.len() + arms;
        let of_arm = |(index, arm): (usize, &crate::Arm)| {
            let context = contexts.binary_search(&arm.context_tokens).unwrap_or(0);
            let recall = 1 + arm.recall as usize;
            vec![
                0,
                recall,
                ranks + arm.rank,
                context_rows + context,
                own.start + index,
            ]
        };
        let mut factors: Vec<Vec<usize>> = table.arms.iter().enumerate().map(of_arm).collect();
        factors.extend((own.end..=own.end + sampling).map(|row| vec![row]));
        let (inputs, factor_rows) = (columns + Step::ALL.len(), own.end + 1 + sampling);
        Self {
            hidden,
            inputs,
            factors,
            own,
            factor_rows,
            arms,
        }
    }

    pub(super) fn u(&self) -> usize {
        self.inputs * self.hidden
    }

    pub(super) fn gate_bias(&self) -> usize {
        self.u() + self.hidden * self.hidden
    }

    pub(super) fn candidate_bias(&self) -> usize {
        self.gate_bias() + self.hidden
    }

    pub(super) fn zeta(&self) -> usize {
        self.candidate_bias() + self.hidden
    }

    pub(super) fn nu(&self) -> usize {
        self.zeta() + 1
    }

    fn factor_start(&self) -> usize {
        self.nu() + 1
    }

    /// Weights and bias of one head row.
    pub(super) fn row_len(&self) -> usize {
        self.hidden + 1
    }

    pub(super) fn len(&self) -> usize {
        self.factor_start() + self.factor_rows * self.row_len()
    }

    /// Head rows after summing factors.
    pub(super) fn heads(&self) -> usize {
        self.factors.len()
    }

    /// The row of the answer in hand.
    pub(super) fn answer(&self) -> usize {
        self.arms
    }

    /// The row of a sampling class.
    pub(super) fn sampling_row(&self, class: usize) -> usize {
        self.arms + 1 + class
    }

    fn factor(&self, row: usize) -> Range<usize> {
        let start = self.factor_start() + row * self.row_len();
        start..start + self.row_len()
    }
}

/// A point in weight space, with its heads summed.
#[derive(Debug, Clone)]
pub(super) struct Parameters {
    pub(super) shape: Shape,
    pub(super) values: Vec<f64>,
    /// `heads` rows of weights and bias.
    pub(super) fused: Vec<f64>,
}

impl Parameters {
    pub(super) fn initial(shape: Shape, mean_quality: f64, rng: &mut ChaCha8Rng) -> Self {
        let mut values = vec![0.0; shape.len()];
        for value in &mut values[..shape.gate_bias()] {
            *value = INITIAL_WEIGHT * normal(rng);
        }
        values[shape.gate_bias()..shape.zeta()].fill(1.0);
        values[shape.zeta()] = INITIAL_ZETA;
        values[shape.nu()] = INITIAL_NU;
        for row in [0, shape.own.end] {
            values[shape.factor(row).end - 1] = mean_quality;
        }
        let mut parameters = Self {
            fused: Vec::new(),
            shape,
            values,
        };
        parameters.fuse();
        parameters
    }

    /// Sums the factors into head rows; call after the values changed.
    pub(super) fn fuse(&mut self) {
        let row_len = self.shape.row_len();
        self.fused = vec![0.0; self.shape.heads() * row_len];
        for (row, factors) in self
            .fused
            .chunks_exact_mut(row_len)
            .zip(&self.shape.factors)
        {
            for &factor in factors {
                let values = &self.values[self.shape.factor(factor)];
                row.iter_mut()
                    .zip(values)
                    .for_each(|(sum, value)| *sum += value);
            }
        }
    }

    /// The value of one head.
    pub(super) fn head(&self, row: usize, state: &[f64]) -> f64 {
        let weights = &self.fused[row * self.shape.row_len()..][..self.shape.row_len()];
        let products = weights
            .iter()
            .zip(state)
            .map(|(weight, entry)| weight * entry);
        products.sum::<f64>() + weights[state.len()]
    }

    /// Relative decay of every value: weights shrink, biases and the gates' constants do not.
    pub(super) fn decay(&self) -> Vec<f64> {
        let shape = &self.shape;
        let mut decay = vec![0.0; shape.len()];
        decay[..shape.gate_bias()].fill(1.0);
        for row in 0..shape.factor_rows {
            let own = shape.own.contains(&row);
            let range = shape.factor(row);
            decay[range.clone()].fill(if own { OWN_ROW_DECAY } else { 1.0 });
            // An arm's own bias may move, but slowly; shared biases are free.
            decay[range.end - 1] = if own { 1.0 } else { 0.0 };
        }
        decay
    }

    /// The network these weights are, in f32; frozen columns get zero weights.
    pub(super) fn network(&self, data: &Dataset) -> Network {
        let shape = &self.shape;
        let narrow = |range: Range<usize>| -> Vec<f32> {
            self.values[range]
                .iter()
                .map(|value| *value as f32)
                .collect()
        };
        let mut w = narrow(0..shape.u());
        for (column, scale) in data.normaliser.scale.iter().enumerate() {
            if *scale == 0.0 {
                w[column * shape.hidden..][..shape.hidden].fill(0.0);
            }
        }
        let cell = Cell {
            w,
            u: narrow(shape.u()..shape.gate_bias()),
            gate_bias: narrow(shape.gate_bias()..shape.candidate_bias()),
            candidate_bias: narrow(shape.candidate_bias()..shape.zeta()),
            zeta: sigmoid(self.values[shape.zeta()]) as f32,
            nu: sigmoid(self.values[shape.nu()]) as f32,
        };
        let rows = self.fused.chunks_exact(shape.row_len());
        let weights = rows
            .clone()
            .flat_map(|row| &row[..shape.hidden])
            .map(|value| *value as f32);
        let bias = rows.map(|row| row[shape.hidden] as f32);
        let heads = Heads {
            weights: weights.collect(),
            bias: bias.collect(),
        };
        let layout = Layout::of(FeatureSchema::current());
        Network {
            layout,
            normaliser: data.normaliser.clone(),
            cell,
            heads,
        }
    }
}

impl Shape {
    /// The shape of the networks Weir trains.
    pub(super) fn standard(data: &Dataset) -> Self {
        Self::new(&data.table, data.columns, HIDDEN)
    }
}

/// The gradient, with the heads' part collected per fused row until [`Gradient::split`].
#[derive(Debug, Clone)]
pub(super) struct Gradient {
    pub(super) values: Vec<f64>,
    pub(super) fused: Vec<f64>,
}

impl Gradient {
    pub(super) fn zero(shape: &Shape) -> Self {
        let fused = vec![0.0; shape.heads() * shape.row_len()];
        Self {
            values: vec![0.0; shape.len()],
            fused,
        }
    }

    /// Hands each fused row's gradient to the factors it is the sum of.
    pub(super) fn split(&mut self, shape: &Shape) {
        for (row, factors) in self
            .fused
            .chunks_exact_mut(shape.row_len())
            .zip(&shape.factors)
        {
            for &factor in factors {
                let target = &mut self.values[shape.factor(factor)];
                target
                    .iter_mut()
                    .zip(&*row)
                    .for_each(|(sum, value)| *sum += value);
            }
            row.fill(0.0);
        }
    }
}

pub(super) fn sigmoid(value: f64) -> f64 {
    1.0 / (1.0 + (-value).exp())
}
