//! Hard thresholding and 8 bits while a network trains, in the three phases of Kusupati et al. 2018.
//!
//! First every weight is trained. Then, after each step, each matrix (or factor) keeps its greatest entries and the rest
//! are set to zero: iterative hard thresholding, in which a zero may come back. In the last phase the zeros stay, and
//! with 8 bits asked for the network is evaluated as bytes while what is trained stays fine. Only passes of the last
//! phase are ever kept.

use super::TrainOptions;
use super::parameters::Parameters;

/// Thinning of one training run.
pub(super) struct Thinning {
    /// Range of each matrix in the trained vector, with the entries it keeps.
    kept: Vec<(std::ops::Range<usize>, usize)>,
    /// The passes on which the second and the third phase begin.
    phases: (usize, usize),
    /// Entries that stay zero, once that is settled.
    zeros: Option<Vec<usize>>,
    int8: bool,
}

impl Thinning {
    pub(super) fn of(parameters: &Parameters, options: &TrainOptions) -> Self {
        let compression = &options.compression;
        let shape = &parameters.shape;
        let ranges = [&shape.w, &shape.u]
            .into_iter()
            .flat_map(|matrix| [matrix.left(), matrix.right()]);
        let keep = |range: std::ops::Range<usize>| {
            // What is frozen at zero does not count: it needs no thinning.
            let live = parameters.values[range.clone()]
                .iter()
                .filter(|v| **v != 0.0);
            let keep = ((1.0 - compression.sparsity) * live.count() as f64).ceil();
            (range, keep as usize)
        };
        let kept = if compression.sparsity > 0.0 {
            ranges.map(keep).collect()
        } else {
            Vec::new()
        };
        Self {
            kept,
            phases: (options.epochs_max / 4, options.epochs_max / 2),
            zeros: None,
            int8: compression.int8,
        }
    }

    /// The first pass whose weights are as the artifact has them.
    pub(super) fn settled(options: &TrainOptions) -> usize {
        let compression = &options.compression;
        if compression.sparsity > 0.0 || compression.int8 {
            options.epochs_max / 2
        } else {
            0
        }
    }

    /// Enters the phase of a pass.
    pub(super) fn begin(&mut self, epoch: usize, parameters: &mut Parameters) {
        if epoch < self.phases.1 {
            return;
        }
        if self.zeros.is_none() && !self.kept.is_empty() {
            self.threshold(&mut parameters.values);
            let matrices = self.kept.iter().flat_map(|(range, _)| range.clone());
            self.zeros = Some(
                matrices
                    .filter(|at| parameters.values[*at] == 0.0)
                    .collect(),
            );
        }
        parameters.int8 = self.int8;
        parameters.fuse();
    }

    /// Thins the values after a step.
    pub(super) fn apply(&self, epoch: usize, values: &mut [f64]) {
        match &self.zeros {
            Some(zeros) => zeros.iter().for_each(|at| values[*at] = 0.0),
            None if epoch >= self.phases.0 => self.threshold(values),
            None => {}
        }
    }

    fn threshold(&self, values: &mut [f64]) {
        for (range, keep) in &self.kept {
            let values = &mut values[range.clone()];
            let mut order: Vec<usize> = (0..values.len()).collect();
            // Of equals the first is kept, so that the same numbers give the same zeros.
            order.sort_by(|a, b| values[*b].abs().total_cmp(&values[*a].abs()));
            order[(*keep).min(values.len())..]
                .iter()
                .for_each(|at| values[*at] = 0.0);
        }
    }
}
