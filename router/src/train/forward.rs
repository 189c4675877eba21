//! The cell in f64, keeping what its gradient needs.
//!
//! The same formula as [`crate::cell`]; a test holds the two together. The way back is in
//! [`super::backward`].

use super::parameters::{Parameters, sigmoid};
use super::sample::Sample;
use super::shape::Body;

/// One step as it was computed.
#[derive(Debug, Clone)]
pub(super) struct Trace<'a> {
    pub(super) input: &'a [(usize, f64)],
    pub(super) before: Vec<f64>,
    pub(super) gate: Vec<f64>,
    pub(super) candidate: Vec<f64>,
    /// What heads read and the next step starts from.
    pub(super) after: Vec<f64>,
}

impl Parameters {
    /// One step from `before`.
    pub(super) fn step<'a>(&self, input: &'a [(usize, f64)], before: Vec<f64>) -> Trace<'a> {
        match self.shape.body {
            Body::FastGrnn => self.cell(input, before),
            Body::Reset => self.cell(input, self.empty()),
            Body::Perceptron => self.layer(input, before),
        }
    }

    fn cell<'a>(&self, input: &'a [(usize, f64)], before: Vec<f64>) -> Trace<'a> {
        let shape = &self.shape;
        let hidden = shape.hidden;
        let mut sums = vec![0.0; hidden];
        self.add_input(input, &mut sums);
        let u = &self.dense[shape.dense_u()..][..hidden * hidden];
        // The empty state before a first step adds nothing.
        let entries = u.chunks_exact(hidden).zip(&before);
        for (row, &value) in entries.filter(|(_, value)| **value != 0.0) {
            add_scaled(&mut sums, row, value);
        }
        let gate_bias = &self.dense[shape.gate_bias()..][..hidden];
        let candidate_bias = &self.dense[shape.candidate_bias()..][..hidden];
        let (zeta, nu) = (
            sigmoid(self.dense[shape.zeta()]),
            sigmoid(self.dense[shape.nu()]),
        );
        let gate: Vec<f64> = sums
            .iter()
            .zip(gate_bias)
            .map(|(p, b)| sigmoid(p + b))
            .collect();
        let candidate: Vec<f64> = sums
            .iter()
            .zip(candidate_bias)
            .map(|(p, b)| (p + b).tanh())
            .collect();
        let after = (0..hidden)
            .map(|i| (zeta * (1.0 - gate[i]) + nu) * candidate[i] + gate[i] * before[i])
            .collect();
        Trace {
            input,
            before,
            gate,
            candidate,
            after,
        }
    }

    /// The perceptron: hidden entries tanh(sums + bias), then the sums, to which the next step's columns are added.
    fn layer<'a>(&self, input: &'a [(usize, f64)], before: Vec<f64>) -> Trace<'a> {
        let shape = &self.shape;
        let hidden = shape.hidden;
        let mut sums = before[hidden..].to_vec();
        self.add_input(input, &mut sums);
        let bias = &self.dense[shape.candidate_bias()..][..hidden];
        let mut after: Vec<f64> = sums.iter().zip(bias).map(|(p, b)| (p + b).tanh()).collect();
        after.extend(&sums);
        Trace {
            input,
            before,
            gate: Vec::new(),
            candidate: Vec::new(),
            after,
        }
    }

    fn add_input(&self, input: &[(usize, f64)], sums: &mut [f64]) {
        let hidden = self.shape.hidden;
        for &(column, value) in input {
            add_scaled(sums, &self.dense[column * hidden..][..hidden], value);
        }
    }

    /// Every step given, in order, from the empty state.
    pub(super) fn steps<'a>(
        &self,
        inputs: impl Iterator<Item = &'a [(usize, f64)]>,
    ) -> Vec<Trace<'a>> {
        let mut traces: Vec<Trace<'a>> = Vec::new();
        for input in inputs {
            let before = traces
                .last()
                .map_or_else(|| self.empty(), |last| last.after.clone());
            traces.push(self.step(input, before));
        }
        traces
    }

    /// The steps of a question before the choice, of those `kept`, and the state after them.
    pub(super) fn before_choice<'a>(
        &self,
        sample: &'a Sample,
        kept: [bool; 3],
    ) -> (Vec<Trace<'a>>, Vec<f64>) {
        let steps = sample.steps.iter().zip(kept).filter(|(_, kept)| *kept);
        let traces = self.steps(steps.filter_map(|(step, _)| step.as_deref()));
        let state = traces
            .last()
            .map_or_else(|| self.empty(), |last| last.after.clone());
        (traces, state)
    }

    /// The state before any step.
    pub(super) fn empty(&self) -> Vec<f64> {
        vec![0.0; self.shape.state_len()]
    }

    /// The state after every step given.
    pub(super) fn read<'a>(&self, inputs: impl Iterator<Item = &'a [(usize, f64)]>) -> Vec<f64> {
        let last = self.steps(inputs).pop();
        last.map_or_else(|| self.empty(), |trace| trace.after)
    }
}

pub(super) fn add_scaled(sums: &mut [f64], row: &[f64], scale: f64) {
    for (sum, weight) in sums.iter_mut().zip(row) {
        *sum += scale * weight;
    }
}
