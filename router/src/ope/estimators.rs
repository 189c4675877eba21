//! From terms of rows to estimates with intervals.
//!
//! Every estimate is the mean of one number a row (for the self-normalised one: of its influence), so one interval serves
//! them all: the standard error with rows summed by asker first (Liang, Zeger 1986), times Student's quantile.

use std::collections::HashMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::nuisance::Terms;
use super::{Interval, Trajectory};
use crate::statistics::student_quantile;

/// Any will do; a fixed one repeats the numbers.
const FOLDS_SEED: u64 = 1;

/// Thresholds that `switch` considers.
const THRESHOLDS: u32 = 24;

/// Which rows belong together.
pub(super) struct Askers {
    of_row: Vec<usize>,
    count: usize,
}

impl Askers {
    /// Askers numbered by their first row.
    pub(super) fn of(log: &[Trajectory]) -> Self {
        let mut known: HashMap<&str, usize> = HashMap::new();
        let mut count = 0;
        let mut number = || {
            count += 1;
            count - 1
        };
        let of_row = log.iter().map(|row| match row.asker.as_deref() {
            Some(asker) => *known.entry(asker).or_insert_with(&mut number),
            None => number(),
        });
        let of_row = of_row.collect();
        Self { of_row, count }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn of_row(&self, row: usize) -> usize {
        self.of_row[row]
    }

    /// The fold of each asker, dealt out by a seeded shuffle: in the order of the log, every fifth row being judged would
    /// put all labels into one fold.
    pub(super) fn folds(&self, folds: usize) -> Vec<usize> {
        let mut fold_of: Vec<usize> = (0..self.count).map(|asker| asker % folds).collect();
        fold_of.shuffle(&mut ChaCha8Rng::seed_from_u64(FOLDS_SEED));
        fold_of
    }

    /// The mean of one number a row.
    pub(super) fn interval(&self, values: &[f64], confidence: f64) -> Interval {
        let (mean, error) = self.mean(values);
        let freedom = self.count.saturating_sub(1).max(1) as f64;
        let reach = student_quantile(0.5 + confidence / 2.0, freedom) * error;
        Interval {
            value: mean,
            low: mean - reach,
            high: mean + reach,
        }
    }

    /// The mean with its standard error.
    fn mean(&self, values: &[f64]) -> (f64, f64) {
        let rows = values.len() as f64;
        let mean = values.iter().sum::<f64>() / rows;
        let mut sums = vec![0.0; self.count];
        for (asker, value) in self.of_row.iter().zip(values) {
            sums[*asker] += value - mean;
        }
        let askers = self.count as f64;
        let squares: f64 = sums.iter().map(|sum| sum * sum).sum();
        let variance = squares * askers / (askers - 1.0).max(1.0) / (rows * rows);
        (mean, variance.sqrt())
    }
}

pub(super) fn inverse_propensity(log: &[Trajectory]) -> Vec<f64> {
    log.iter().map(weighted).collect()
}

/// The estimate plus each row's influence on it: their mean is the estimate, their spread that of a ratio of sums.
pub(super) fn self_normalised(log: &[Trajectory]) -> Vec<f64> {
    let weights: f64 = log.iter().map(Trajectory::weight).sum();
    let estimate = log.iter().map(weighted).sum::<f64>() / weights;
    let mean = weights / log.len() as f64;
    log.iter()
        .map(|row| estimate + (weighted(row) - row.weight() * estimate) / mean)
        .collect()
}

fn weighted(row: &Trajectory) -> f64 {
    row.weight() * row.label.map_or(0.0, |label| label.reward)
}

/// Wang, Agarwal, Dudik (2017), "Optimal and adaptive off-policy evaluation in contextual bandits": beyond a threshold of
/// the ratio the model alone is believed. The threshold is the one with the least variance plus squared bound of the
/// bias, which is the candidate's share beyond it times the range of rewards.
pub(super) fn switch(
    log: &[Trajectory],
    terms: &[Terms],
    askers: &Askers,
    confidence: f64,
) -> (Interval, f64) {
    let ratios: Vec<f64> = log.iter().map(Trajectory::ratio).collect();
    let largest = ratios.iter().copied().fold(1.0, f64::max);
    let rewards = || {
        log.iter()
            .filter_map(|row| row.label)
            .map(|label| label.reward)
    };
    let (lowest, highest) = rewards().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), r| {
        (low.min(r), high.max(r))
    });
    let at = |threshold: f64| {
        let within = |row: usize| ratios[row] <= threshold;
        let rows = terms.iter().enumerate();
        let values: Vec<f64> = rows
            .map(|(row, terms)| {
                if within(row) {
                    terms.robust()
                } else {
                    terms.direct
                }
            })
            .collect();
        let beyond: f64 = (0..log.len())
            .filter(|row| !within(*row))
            .map(|row| ratios[row])
            .sum();
        let bias = (highest - lowest) * beyond / log.len() as f64;
        let (_, error) = askers.mean(&values);
        (error * error + bias * bias, values, bias)
    };
    // From the largest ratio, where it is the doubly robust estimate, down to 1.
    let thresholds = (0..=THRESHOLDS).map(|step| {
        let share = 1.0 - f64::from(step) / f64::from(THRESHOLDS);
        largest.powf(share)
    });
    let mut best = (f64::INFINITY, Vec::new(), 0.0, largest);
    for threshold in thresholds {
        // Rounding must not put the largest ratio beyond its own threshold.
        let threshold = if threshold >= largest * (1.0 - 1e-12) {
            largest
        } else {
            threshold
        };
        let (loss, values, bias) = at(threshold);
        if loss < best.0 {
            best = (loss, values, bias, threshold);
        }
    }
    let (_, values, bias, threshold) = best;
    let interval = askers.interval(&values, confidence);
    let widened = Interval {
        low: interval.low - bias,
        high: interval.high + bias,
        ..interval
    };
    (widened, threshold)
}
