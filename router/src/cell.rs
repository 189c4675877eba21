//! The FastGRNN cell, natively in f32.
//!
//! Kusupati et al. 2018, eq. 6, with W and U shared by gate and candidate:
//!
//! ```text
//! p = W x + U h ;  z = sigmoid(p + b_z) ;  c = tanh(p + b_h)
//! h' = (zeta (1 - z) + nu) * c + z * h
//! ```
//!
//! A step allocates nothing. The same arithmetic in f64, with its gradient, is in
//! [`crate::train`]; as an ONNX graph in [`crate::artifact`].

/// The largest hidden state a cell may have; bounds the scratch space of a step.
pub const HIDDEN_MAX: usize = 64;

/// Weights of one cell. `zeta` and `nu` are as the formula uses them: sigmoids already.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// One row of `hidden` weights per input column.
    pub w: Vec<f32>,
    /// One row of `hidden` weights per entry of the old state.
    pub u: Vec<f32>,
    /// Gate bias, `hidden` long.
    pub gate_bias: Vec<f32>,
    /// Candidate bias, `hidden` long.
    pub candidate_bias: Vec<f32>,
    /// Weight of the candidate where the gate is closed.
    pub zeta: f32,
    /// Weight of the candidate everywhere.
    pub nu: f32,
}

impl Cell {
    /// A cell of `inputs` columns and `hidden` entries whose weights are all zero.
    pub fn zero(inputs: usize, hidden: usize) -> Self {
        Self {
            w: vec![0.0; inputs * hidden],
            u: vec![0.0; hidden * hidden],
            gate_bias: vec![0.0; hidden],
            candidate_bias: vec![0.0; hidden],
            zeta: 0.0,
            nu: 0.0,
        }
    }

    /// Entries of the state.
    pub fn hidden(&self) -> usize {
        self.gate_bias.len()
    }

    /// Columns of the input.
    pub fn inputs(&self) -> usize {
        self.w.len() / self.hidden().max(1)
    }

    /// One step. `input` yields the columns that are not zero; `state` is `hidden` long.
    pub fn step(&self, input: impl Iterator<Item = (usize, f32)>, state: &mut [f32]) {
        let hidden = self.hidden();
        let mut scratch = [0.0_f32; HIDDEN_MAX];
        let sums = &mut scratch[..hidden];
        for (column, value) in input {
            add_scaled(sums, &self.w[column * hidden..][..hidden], value);
        }
        for (row, &value) in self.u.chunks_exact(hidden).zip(state.iter()) {
            add_scaled(sums, row, value);
        }
        for (entry, old) in state.iter_mut().enumerate() {
            let gate = sigmoid(sums[entry] + self.gate_bias[entry]);
            let candidate = (sums[entry] + self.candidate_bias[entry]).tanh();
            *old = (self.zeta * (1.0 - gate) + self.nu) * candidate + gate * *old;
        }
    }
}

/// The product of two low-rank factors: `left` is `rows` x `rank`, `right` is `rank` x `columns`,
/// both row-major. W = W1 W2 and U = U1 U2 of a compressed cell become dense this way. Sums are made in f64.
pub fn expand_low_rank(left: &[f32], right: &[f32], rank: usize) -> Vec<f32> {
    let rank = rank.max(1);
    let columns = right.len() / rank;
    let mut dense = Vec::with_capacity(left.len() / rank * columns);
    for factors in left.chunks_exact(rank) {
        let entry = |column: usize| {
            let right = right.iter().skip(column).step_by(columns.max(1));
            let products = factors.iter().zip(right);
            let sum: f64 = products.map(|(l, r)| f64::from(*l) * f64::from(*r)).sum();
            sum as f32
        };
        dense.extend((0..columns).map(entry));
    }
    dense
}

fn add_scaled(sums: &mut [f32], row: &[f32], scale: f32) {
    for (sum, weight) in sums.iter_mut().zip(row) {
        *sum += scale * weight;
    }
}

fn sigmoid(value: f32) -> f32 {
    1.0 / (1.0 + (-value).exp())
}
