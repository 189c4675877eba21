//! Percentile intervals by resampling questions with replacement (Efron 1979).

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Estimate;

const REPLICATES: usize = 2_000;

/// The same resamples for every figure, so that differences are paired.
pub(super) struct Resamples {
    questions: usize,
    draws: Vec<Vec<usize>>,
}

impl Resamples {
    pub(super) fn new(questions: usize, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = || {
            (0..questions)
                .map(|_| rng.random_range(0..questions))
                .collect()
        };
        Self {
            questions,
            draws: (0..REPLICATES).map(|_| draw()).collect(),
        }
    }

    /// The mean of a figure over questions.
    pub(super) fn mean(&self, of: &dyn Fn(usize) -> f64) -> Estimate {
        self.ratio(of, &|_| 1.0)
    }

    /// The ratio of two sums over questions.
    pub(super) fn ratio(
        &self,
        above: &dyn Fn(usize) -> f64,
        below: &dyn Fn(usize) -> f64,
    ) -> Estimate {
        let above: Vec<f64> = (0..self.questions).map(above).collect();
        let below: Vec<f64> = (0..self.questions).map(below).collect();
        let of = |questions: &mut dyn Iterator<Item = usize>| {
            let (a, b) = questions.fold((0.0, 0.0), |(a, b), q| (a + above[q], b + below[q]));
            if b == 0.0 { 0.0 } else { a / b }
        };
        let mut replicates: Vec<f64> = self
            .draws
            .iter()
            .map(|draw| of(&mut draw.iter().copied()))
            .collect();
        replicates.sort_by(f64::total_cmp);
        let at = |share: f64| replicates[((REPLICATES - 1) as f64 * share).round() as usize];
        Estimate {
            value: of(&mut (0..self.questions)),
            low: at(0.025),
            high: at(0.975),
        }
    }
}
