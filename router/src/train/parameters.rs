//! All weights in f64: the vector that is trained, and the dense one it comes to.
//!
//! [`super::shape`] says where everything stands. [`Parameters::fuse`] makes the dense vector after the trained one
//! changed: low-rank factors are multiplied, head rows summed, and, once training goes through 8 bits, every weight is
//! the one its byte stands for. [`Gradient::split`] is the way back.

use std::borrow::Cow;

use rand_chacha::ChaCha8Rng;

use super::shape::{Body, Factored, Shape};
use crate::artifact::{Tensor, Weights};
use crate::network::Normaliser;
use crate::statistics::normal;

/// Initial deviation of the cell's weights, and its initial zeta and nu before the sigmoid
/// (Kusupati et al. 2018).
const INITIAL_WEIGHT: f64 = 0.1;
const INITIAL_ZETA: f64 = 1.0;
const INITIAL_NU: f64 = -4.0;

/// How much faster an arm's own row decays than the rows it shares.
const OWN_ROW_DECAY: f64 = 4.0;

/// A point in weight space.
#[derive(Debug, Clone)]
pub(super) struct Parameters {
    pub(super) shape: Shape,
    /// What is trained.
    pub(super) values: Vec<f64>,
    /// What is evaluated: W, U, biases, zeta, nu, then `heads` rows of weights and bias.
    pub(super) dense: Vec<f64>,
    /// Whether every weight is rounded to 8 bits before it is used.
    pub(super) int8: bool,
}

impl Parameters {
    /// Where training begins. The biases of gate and candidate start at 1 (Kusupati et al. 2018), those of the candidate at
    /// another value where one is given.
    pub(super) fn initial(
        shape: Shape,
        (mean_quality, candidate_bias): (f64, f64),
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let mut values = vec![0.0; shape.len()];
        for value in &mut values[..shape.matrices()] {
            *value = INITIAL_WEIGHT * normal(rng);
        }
        // Factors whose product has the deviation a full matrix starts with.
        for matrix in [&shape.w, &shape.u] {
            if let Some(rank) = matrix.rank {
                let scale = (1.0 / INITIAL_WEIGHT / (rank as f64).sqrt()).sqrt();
                let both = matrix.start..matrix.right().end;
                values[both].iter_mut().for_each(|value| *value *= scale);
            }
        }
        let constants = shape.constants();
        if shape.body == Body::Perceptron {
            values[constants].fill(0.0);
        } else {
            values[constants.clone()].fill(1.0);
            values[constants.start + shape.hidden..][..shape.hidden].fill(candidate_bias);
            values[constants.end - 2] = INITIAL_ZETA;
            values[constants.end - 1] = INITIAL_NU;
        }
        for &row in &shape.means {
            values[shape.factor(row).end - 1] = mean_quality;
        }
        let mut parameters = Self {
            dense: vec![0.0; shape.dense_len()],
            shape,
            values,
            int8: false,
        };
        parameters.fuse();
        parameters
    }

    /// Empties the weights of columns that never vary: nothing would train them.
    pub(super) fn freeze(&mut self, normaliser: &Normaliser) {
        let width = self.shape.w.rank.unwrap_or(self.shape.hidden);
        for (column, scale) in normaliser.scale.iter().enumerate() {
            if *scale == 0.0 {
                self.values[column * width..][..width].fill(0.0);
            }
        }
        self.fuse();
    }

    /// Makes the dense vector; call after the values changed.
    pub(super) fn fuse(&mut self) {
        let shape = &self.shape;
        let values = if self.int8 {
            Cow::Owned(self.rounded_matrices())
        } else {
            Cow::Borrowed(&self.values)
        };
        let u = shape.dense_u();
        multiply(&shape.w, &values, &mut self.dense[..u]);
        let constants = shape.dense_constants();
        multiply(&shape.u, &values, &mut self.dense[u..constants.start]);
        self.dense[constants].copy_from_slice(&values[shape.constants()]);
        for (row, factors) in shape.factors.iter().enumerate() {
            let dense = &mut self.dense[shape.head(row)];
            dense.fill(0.0);
            for &factor in factors {
                let values = &values[shape.factor(factor)];
                dense
                    .iter_mut()
                    .zip(values)
                    .for_each(|(sum, value)| *sum += value);
            }
        }
        if self.int8 {
            self.round_heads();
        }
    }

    /// The value of one head.
    pub(super) fn head(&self, row: usize, state: &[f64]) -> f64 {
        let weights = &self.dense[self.shape.head(row)];
        let hidden = self.shape.hidden;
        let products = weights[..hidden]
            .iter()
            .zip(state)
            .map(|(weight, entry)| weight * entry);
        products.sum::<f64>() + weights[hidden]
    }

    /// Relative decay of every trained value: weights shrink, biases and the gates' constants do not.
    pub(super) fn decay(&self) -> Vec<f64> {
        let shape = &self.shape;
        let mut decay = vec![0.0; shape.len()];
        decay[..shape.matrices()].fill(1.0);
        for row in 0..shape.factor_rows {
            let own = shape.own.contains(&row);
            let range = shape.factor(row);
            decay[range.clone()].fill(if own { OWN_ROW_DECAY } else { 1.0 });
            // An arm's own bias may move, but slowly; shared biases are free.
            decay[range.end - 1] = if own { 1.0 } else { 0.0 };
        }
        decay
    }

    /// The matrices of the trained vector in the order of an artifact's file, each with the range of its values: the
    /// columns' part of W and the step's, then W's right factor, U and its right factor.
    fn tensors(&self) -> [std::ops::Range<usize>; 5] {
        let (w, u) = (&self.shape.w, &self.shape.u);
        let steps = crate::schema::Step::ALL.len();
        let width = w.rank.unwrap_or(w.columns);
        let split = w.start + (w.rows - steps) * width;
        [
            w.start..split,
            split..w.left().end,
            w.right(),
            u.left(),
            u.right(),
        ]
    }

    /// The trained vector with its matrices as 8 bits hold them.
    fn rounded_matrices(&self) -> Vec<f64> {
        let mut values = self.values.clone();
        for range in self.tensors() {
            round(&mut values[range]);
        }
        values
    }

    fn round_heads(&mut self) {
        let weights = self.head_weights();
        let tensor = Tensor::int8(&weights);
        let rounded = tensor.values();
        let heads = self.shape.heads();
        for (index, value) in rounded.iter().enumerate() {
            let (entry, row) = (index / heads, index % heads);
            let start = self.shape.head(row).start;
            self.dense[start + entry] = f64::from(*value);
        }
    }

    /// Weights of the heads, `hidden` x `heads` as the file has them.
    fn head_weights(&self) -> Vec<f32> {
        let shape = &self.shape;
        let entry = |entry: usize| {
            (0..shape.heads()).map(move |row| self.dense[shape.head(row).start + entry] as f32)
        };
        (0..shape.hidden).flat_map(entry).collect()
    }

    /// The weights as an artifact stores them. Of a FastGRNN only.
    pub(super) fn weights(&self) -> Weights {
        let shape = &self.shape;
        let pack = |values: Vec<f32>| {
            if self.int8 {
                Tensor::int8(&values)
            } else {
                Tensor::Float(values)
            }
        };
        let [w, step, w_right, u, u_right] = self.tensors().map(|range| {
            let values = self.values[range].iter().map(|value| *value as f32);
            pack(values.collect())
        });
        let dense = |start: usize, len: usize| -> Vec<f32> {
            let values = &self.dense[start..][..len];
            values.iter().map(|value| *value as f32).collect()
        };
        let bias = (0..shape.heads()).map(|row| self.dense[shape.head(row).end - 1] as f32);
        Weights {
            hidden: shape.hidden,
            w,
            step,
            w_right: shape.w.rank.map(|_| w_right),
            u,
            u_right: shape.u.rank.map(|_| u_right),
            gate_bias: dense(shape.gate_bias(), shape.hidden),
            candidate_bias: dense(shape.candidate_bias(), shape.hidden),
            zeta: sigmoid(self.dense[shape.zeta()]) as f32,
            nu: sigmoid(self.dense[shape.nu()]) as f32,
            heads: pack(self.head_weights()),
            heads_bias: bias.collect(),
        }
    }
}

/// Replaces values by those 8 bits hold.
fn round(values: &mut [f64]) {
    let narrow: Vec<f32> = values.iter().map(|value| *value as f32).collect();
    let rounded = Tensor::int8(&narrow).values();
    for (value, rounded) in values.iter_mut().zip(rounded) {
        *value = f64::from(rounded);
    }
}

/// The matrix, from itself or its factors.
fn multiply(matrix: &Factored, values: &[f64], dense: &mut [f64]) {
    let left = &values[matrix.left()];
    let Some(rank) = matrix.rank else {
        dense.copy_from_slice(left);
        return;
    };
    let right = &values[matrix.right()];
    dense.fill(0.0);
    let columns = matrix.columns;
    for (row, factors) in dense.chunks_exact_mut(columns).zip(left.chunks_exact(rank)) {
        for (&factor, right) in factors.iter().zip(right.chunks_exact(columns)) {
            row.iter_mut()
                .zip(right)
                .for_each(|(sum, value)| *sum += factor * value);
        }
    }
}

/// The gradient: collected in the dense vector until [`Gradient::split`] hands it to what is trained.
#[derive(Debug, Clone)]
pub(super) struct Gradient {
    pub(super) values: Vec<f64>,
    pub(super) dense: Vec<f64>,
}

impl Gradient {
    pub(super) fn zero(shape: &Shape) -> Self {
        Self {
            values: vec![0.0; shape.len()],
            dense: vec![0.0; shape.dense_len()],
        }
    }

    /// Hands the dense gradient to the values it depends on. With M = A B: dA = dM B^T, dB = A^T dM. Rounding to 8 bits
    /// is passed straight through (Bengio, Léonard, Courville 2013).
    pub(super) fn split(&mut self, parameters: &Parameters) {
        let shape = &parameters.shape;
        let values = if parameters.int8 {
            Cow::Owned(parameters.rounded_matrices())
        } else {
            Cow::Borrowed(&parameters.values)
        };
        let u = shape.dense_u();
        let constants = shape.dense_constants();
        let matrices = [(&shape.w, 0..u), (&shape.u, u..constants.start)];
        for (matrix, dense) in matrices {
            multiply_back(matrix, &values, &self.dense[dense], &mut self.values);
        }
        self.values[shape.constants()].copy_from_slice(&self.dense[constants]);
        for (row, factors) in shape.factors.iter().enumerate() {
            let dense = &self.dense[shape.head(row)];
            for &factor in factors {
                let target = &mut self.values[shape.factor(factor)];
                target
                    .iter_mut()
                    .zip(dense)
                    .for_each(|(sum, value)| *sum += value);
            }
        }
    }
}

fn multiply_back(matrix: &Factored, values: &[f64], slope: &[f64], gradient: &mut [f64]) {
    let Some(rank) = matrix.rank else {
        gradient[matrix.left()].copy_from_slice(slope);
        return;
    };
    let columns = matrix.columns;
    let (left, right) = (&values[matrix.left()], &values[matrix.right()]);
    let (left_start, right_start) = (matrix.left().start, matrix.right().start);
    for (row, slope) in slope.chunks_exact(columns).enumerate() {
        for (entry, right) in right.chunks_exact(columns).enumerate() {
            let product: f64 = slope.iter().zip(right).map(|(s, r)| s * r).sum();
            gradient[left_start + row * rank + entry] += product;
            let factor = left[row * rank + entry];
            let target = &mut gradient[right_start + entry * columns..][..columns];
            target
                .iter_mut()
                .zip(slope)
                .for_each(|(sum, slope)| *sum += factor * slope);
        }
    }
}

pub(super) fn sigmoid(value: f64) -> f64 {
    1.0 / (1.0 + (-value).exp())
}
