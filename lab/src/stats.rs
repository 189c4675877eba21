//! Numbers about numbers: quantiles, means and paired bootstrap intervals. Pure; the seed is an argument.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Replicates of a bootstrap; enough for two digits of a 95 % bound.
const REPLICATES: usize = 4000;

/// A value with the bounds of its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The estimate on the sample itself.
    pub value: f64,
    /// 2.5 % quantile of the replicates.
    pub lower: f64,
    /// 97.5 % quantile of the replicates.
    pub upper: f64,
}

/// Arithmetic mean, 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() {
        0.0
    } else {
        values.iter().sum::<f64>() / values.len() as f64
    }
}

/// The smallest value that at least `share` of all values do not exceed (nearest rank); 0 of nothing.
///
/// An error counts as infinite latency and sorts last.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to len"
    )]
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(0.0)
}

/// Mean of `values` with its bootstrap interval.
pub fn mean_interval(values: &[f64], seed: u64) -> Interval {
    bootstrap(values.len(), seed, |draw| {
        draw.iter().map(|&i| values[i]).sum::<f64>() / draw.len() as f64
    })
}

/// `mean(above) / mean(below)` of paired values with its bootstrap interval, pairs resampled together.
pub fn ratio_interval(above: &[f64], below: &[f64], seed: u64) -> Interval {
    bootstrap(above.len().min(below.len()), seed, |draw| {
        let sum = |values: &[f64]| draw.iter().map(|&i| values[i]).sum::<f64>();
        sum(above) / sum(below)
    })
}

fn bootstrap(count: usize, seed: u64, statistic: impl Fn(&[usize]) -> f64) -> Interval {
    if count == 0 {
        return Interval {
            value: 0.0,
            lower: 0.0,
            upper: 0.0,
        };
    }
    let all: Vec<usize> = (0..count).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut replicates = Vec::with_capacity(REPLICATES);
    let mut draw = all.clone();
    for _ in 0..REPLICATES {
        draw.fill_with(|| rng.random_range(0..count));
        replicates.push(statistic(&draw));
    }
    Interval {
        value: statistic(&all),
        lower: quantile(&replicates, 0.025),
        upper: quantile(&replicates, 0.975),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks_and_errors_sort_last() {
        let values = [3.0, 1.0, f64::INFINITY, 2.0];
        assert_eq!(quantile(&values, 0.5), 2.0);
        assert_eq!(quantile(&values, 0.75), 3.0);
        assert_eq!(quantile(&values, 0.99), f64::INFINITY);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }

    #[test]
    fn interval_holds_the_mean_and_narrows_with_more_values() {
        let few: Vec<f64> = (0..20).map(|i| f64::from(i % 5)).collect();
        let many: Vec<f64> = (0..2000).map(|i| f64::from(i % 5)).collect();
        let (few, many) = (mean_interval(&few, 1), mean_interval(&many, 1));
        assert_eq!(few.value, 2.0);
        assert!(few.lower < 2.0 && 2.0 < few.upper);
        assert!(many.upper - many.lower < (few.upper - few.lower) / 5.0);
    }

    #[test]
    fn ratio_of_proportional_values_has_no_spread() {
        let below: Vec<f64> = (1..30).map(f64::from).collect();
        let above: Vec<f64> = below.iter().map(|v| 3.0 * v).collect();
        let ratio = ratio_interval(&above, &below, 7);
        assert!((ratio.lower - 3.0).abs() < 1e-9 && (ratio.upper - 3.0).abs() < 1e-9);
    }
}
