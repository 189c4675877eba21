//! The gradient of heads and cell, by hand.
//!
//! With G = zeta (1 - z) + nu and h' = G c + z h:
//!
//! ```text
//! dc = G dh'          da_c = dc (1 - c^2)        dzeta = sum dh' (1 - z) c    dnu = sum dh' c
//! dz = (h - zeta c) dh'   da_z = dz z (1 - z)    dp = da_c + da_z
//! dW += x dp^T        dU += h dp^T               dh = z dh' + U dp
//! ```
//!
//! What low rank, shared head rows and 8 bits make of dW, dU and the heads' rows is [`Gradient::split`].

use super::forward::{Trace, add_scaled};
use super::parameters::{Gradient, Parameters, sigmoid};
use super::shape::Body;

impl Parameters {
    /// Adds the gradient of one head value, `slope` times, and returns nothing: the state's part
    /// goes into `state_slope`.
    pub(super) fn head_back(
        &self,
        row: usize,
        slope: f64,
        at: (&[f64], &mut [f64]),
        gradient: &mut Gradient,
    ) {
        let (state, state_slope) = at;
        let (hidden, range) = (self.shape.hidden, self.shape.head(row));
        let target = &mut gradient.dense[range.clone()];
        add_scaled(&mut target[..hidden], state, slope);
        target[hidden] += slope;
        add_scaled(state_slope, &self.dense[range][..hidden], slope);
    }

    /// Adds the gradient of one step and returns the slope at the state before it.
    pub(super) fn step_back(
        &self,
        trace: &Trace<'_>,
        slope: &[f64],
        gradient: &mut Gradient,
    ) -> Vec<f64> {
        match self.shape.body {
            Body::FastGrnn => self.cell_back(trace, slope, gradient),
            Body::Reset => {
                self.cell_back(trace, slope, gradient);
                self.empty()
            }
            Body::Perceptron => self.layer_back(trace, slope, gradient),
        }
    }

    fn cell_back(&self, trace: &Trace<'_>, slope: &[f64], gradient: &mut Gradient) -> Vec<f64> {
        let shape = &self.shape;
        let hidden = shape.hidden;
        let (zeta, nu) = (
            sigmoid(self.dense[shape.zeta()]),
            sigmoid(self.dense[shape.nu()]),
        );
        let mut sum_slope = vec![0.0; hidden];
        let mut before_slope = vec![0.0; hidden];
        let (mut zeta_slope, mut nu_slope) = (0.0, 0.0);
        for i in 0..hidden {
            let (z, c, h, d) = (trace.gate[i], trace.candidate[i], trace.before[i], slope[i]);
            let candidate = d * (zeta * (1.0 - z) + nu) * (1.0 - c * c);
            let gate = d * (h - zeta * c) * z * (1.0 - z);
            zeta_slope += d * (1.0 - z) * c;
            nu_slope += d * c;
            gradient.dense[shape.gate_bias() + i] += gate;
            gradient.dense[shape.candidate_bias() + i] += candidate;
            sum_slope[i] = gate + candidate;
            before_slope[i] = d * z;
        }
        gradient.dense[shape.zeta()] += zeta_slope * zeta * (1.0 - zeta);
        gradient.dense[shape.nu()] += nu_slope * nu * (1.0 - nu);
        self.input_back(trace, &sum_slope, gradient);
        for (j, &value) in trace.before.iter().enumerate() {
            let start = shape.dense_u() + j * hidden;
            if value != 0.0 {
                add_scaled(&mut gradient.dense[start..][..hidden], &sum_slope, value);
            }
            let row = &self.dense[start..][..hidden];
            before_slope[j] += row.iter().zip(&sum_slope).map(|(u, d)| u * d).sum::<f64>();
        }
        before_slope
    }

    /// The perceptron's: heads pull at the hidden entries, later steps at the sums behind them.
    fn layer_back(&self, trace: &Trace<'_>, slope: &[f64], gradient: &mut Gradient) -> Vec<f64> {
        let hidden = self.shape.hidden;
        let mut before_slope = self.empty();
        for i in 0..hidden {
            let entry = slope[i] * (1.0 - trace.after[i] * trace.after[i]);
            gradient.dense[self.shape.candidate_bias() + i] += entry;
            before_slope[hidden + i] = slope[hidden + i] + entry;
        }
        self.input_back(trace, &before_slope[hidden..], gradient);
        before_slope
    }

    fn input_back(&self, trace: &Trace<'_>, sum_slope: &[f64], gradient: &mut Gradient) {
        let hidden = self.shape.hidden;
        for &(column, value) in trace.input {
            let target = &mut gradient.dense[column * hidden..][..hidden];
            add_scaled(target, sum_slope, value);
        }
    }

    /// Adds the gradient of a run of steps whose last state has this slope.
    pub(super) fn steps_back(
        &self,
        traces: &[Trace<'_>],
        mut slope: Vec<f64>,
        gradient: &mut Gradient,
    ) {
        for trace in traces.iter().rev() {
            slope = self.step_back(trace, &slope, gradient);
        }
    }
}
