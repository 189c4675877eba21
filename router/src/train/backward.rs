//! The gradient of heads and cell, by hand.
//!
//! With G = zeta (1 - z) + nu and h' = G c + z h:
//!
//! ```text
//! dc = G dh'          da_c = dc (1 - c^2)        dzeta = sum dh' (1 - z) c    dnu = sum dh' c
//! dz = (h - zeta c) dh'   da_z = dz z (1 - z)    dp = da_c + da_z
//! dW += x dp^T        dU += h dp^T               dh = z dh' + U dp
//! ```

use super::forward::{Trace, add_scaled};
use super::parameters::{Gradient, Parameters, sigmoid};

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
        let range = row * self.shape.row_len()..(row + 1) * self.shape.row_len();
        let target = &mut gradient.fused[range.clone()];
        add_scaled(target, state, slope);
        target[state.len()] += slope;
        add_scaled(state_slope, &self.fused[range], slope);
    }

    /// Adds the gradient of one step and returns the slope at the state before it.
    pub(super) fn step_back(
        &self,
        trace: &Trace<'_>,
        slope: &[f64],
        gradient: &mut Gradient,
    ) -> Vec<f64> {
        let shape = &self.shape;
        let hidden = shape.hidden;
        let (zeta, nu) = (
            sigmoid(self.values[shape.zeta()]),
            sigmoid(self.values[shape.nu()]),
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
            gradient.values[shape.gate_bias() + i] += gate;
            gradient.values[shape.candidate_bias() + i] += candidate;
            sum_slope[i] = gate + candidate;
            before_slope[i] = d * z;
        }
        gradient.values[shape.zeta()] += zeta_slope * zeta * (1.0 - zeta);
        gradient.values[shape.nu()] += nu_slope * nu * (1.0 - nu);
        for &(column, value) in trace.input {
            let target = &mut gradient.values[column * hidden..][..hidden];
            add_scaled(target, &sum_slope, value);
        }
        for (j, &value) in trace.before.iter().enumerate() {
            let start = shape.u() + j * hidden;
            add_scaled(&mut gradient.values[start..][..hidden], &sum_slope, value);
            let row = &self.values[start..][..hidden];
            before_slope[j] += row.iter().zip(&sum_slope).map(|(u, d)| u * d).sum::<f64>();
        }
        before_slope
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
