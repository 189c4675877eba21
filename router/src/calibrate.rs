//! Whether confidences mean what they say, and which share of requests may go to a small model with a certificate.
//!
//! A [`Scored`] is a confidence before the answer and whether the answer was right. [`temperature`] makes confidences
//! honest, [`calibration_error`] says how honest they are, [`guard`] finds the lowest confidence at which the small
//! model may answer: of the answers it gives then, more than `alpha` are wrong with probability at most `delta`, over the
//! draw of the sample.

use serde::Serialize;

use crate::statistics::{bisect, rate_upper};

/// Temperatures that are considered, as logarithms.
const LN_TEMPERATURES: (f64, f64) = (-3.0, 3.0);

/// Confidences are kept this far from 0 and 1, where a logarithm has no value.
const EDGE: f64 = 1e-6;

/// One answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// Probability of a right answer, as it was expected.
    pub confidence: f64,
    /// Whether it was right.
    pub right: bool,
}

/// How far confidences are from what comes out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CalibrationError {
    /// Mean distance of confidence and rate over bins of equal size. Chance alone makes it positive.
    pub plain: f64,
    /// Root of the mean squared distance less what chance makes of it; 0 where chance explains everything.
    pub debiased: f64,
}

/// A certificate: at or above this confidence the small model may answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Guard {
    /// Lowest confidence.
    pub threshold: f64,
    /// Share of the sample at or above it.
    pub share: f64,
    /// Rate of wrong answers there, in the sample.
    pub wrong: f64,
    /// What that rate is not above, with probability 1 - `delta`.
    pub upper: f64,
}

/// The temperature T at which sigmoid(logit(confidence) / T) explains the outcomes best (Guo et al. 2017, "On
/// calibration of modern neural networks").
pub fn temperature(sample: &[Scored]) -> f64 {
    // The loss is convex in 1 / T; its slope there is the sum of (p - right) logit.
    let rises = |inverse: f64| {
        let slope = sample.iter().map(|one| {
            let logit = logit(one.confidence);
            (sigmoid(logit * inverse) - f64::from(u8::from(one.right))) * logit
        });
        slope.sum::<f64>() > 0.0
    };
    let (low, high) = LN_TEMPERATURES;
    bisect(low, high, |ln| rises((-ln).exp())).exp()
}

/// A confidence at a temperature.
pub fn at_temperature(confidence: f64, temperature: f64) -> f64 {
    sigmoid(logit(confidence) / temperature)
}

/// Calibration error over `bins` bins of equal size. Debiased as by Kumar, Liang, Ma (2019), "Verified uncertainty
/// calibration": the squared distance of a bin less the variance of its rate.
pub fn calibration_error(sample: &[Scored], bins: usize) -> CalibrationError {
    let mut sorted = sample.to_vec();
    sorted.sort_by(|a, b| a.confidence.total_cmp(&b.confidence));
    let size = sorted.len().div_ceil(bins.max(1)).max(2);
    let (mut plain, mut squared) = (0.0, 0.0);
    for bin in sorted.chunks(size) {
        let n = bin.len() as f64;
        let confidence = bin.iter().map(|one| one.confidence).sum::<f64>() / n;
        let rate = bin.iter().filter(|one| one.right).count() as f64 / n;
        let share = n / sorted.len() as f64;
        plain += share * (rate - confidence).abs();
        // A bin of one row has no variance that could be taken off.
        let chance = if n > 1.0 {
            rate * (1.0 - rate) / (n - 1.0)
        } else {
            0.25
        };
        squared += share * ((rate - confidence).powi(2) - chance);
    }
    CalibrationError {
        plain,
        debiased: squared.max(0.0).sqrt(),
    }
}

/// The lowest of `thresholds` that is certified, tested from the first on and not beyond the first that fails: a fixed
/// sequence keeps the chance of any false certificate at `delta` (Angelopoulos et al. 2021, "Learn then test"), each test
/// being Clopper and Pearson's. `thresholds` are fixed before the sample is seen, the most careful first.
pub fn guard(sample: &[Scored], thresholds: &[f64], alpha: f64, delta: f64) -> Option<Guard> {
    let mut certified = None;
    for &threshold in thresholds {
        let above = sample.iter().filter(|one| one.confidence >= threshold);
        let (n, wrong) = above.fold((0, 0), |(n, wrong), one| {
            (n + 1, wrong + u64::from(!one.right))
        });
        let upper = rate_upper(wrong, n, delta);
        if n == 0 || upper > alpha {
            break;
        }
        certified = Some(Guard {
            threshold,
            share: n as f64 / sample.len() as f64,
            wrong: wrong as f64 / n as f64,
            upper,
        });
    }
    certified
}

/// Thresholds for [`guard`] from confidences of another sample: those that let `first` of it through, then ever more, up
/// to all, `count` in all.
pub fn thresholds(confidences: &[f64], first: f64, count: usize) -> Vec<f64> {
    let mut sorted = confidences.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let at = |step: usize| {
        let share = first + (1.0 - first) * step as f64 / (count.max(2) - 1) as f64;
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
    };
    (0..count.max(2)).filter_map(at).collect()
}

fn logit(confidence: f64) -> f64 {
    let p = confidence.clamp(EDGE, 1.0 - EDGE);
    (p / (1.0 - p)).ln()
}

fn sigmoid(value: f64) -> f64 {
    1.0 / (1.0 + (-value).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Answers that are right with the probability that a confidence has at this temperature.
    fn sample(count: usize, temperature: f64, seed: u64) -> Vec<Scored> {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        (0..count)
            .map(|_| {
                let confidence: f64 = rng.random_range(0.05..0.95);
                let right = rng.random::<f64>() < at_temperature(confidence, temperature);
                Scored { confidence, right }
            })
            .collect()
    }

    #[test]
    fn the_temperature_that_made_the_answers_is_found() {
        for truth in [0.5, 1.0, 2.0] {
            let found = temperature(&sample(40_000, truth, 3));
            assert!((found / truth - 1.0).abs() < 0.05, "{found} {truth}");
        }
    }

    #[test]
    fn honest_confidences_have_no_debiased_error_where_the_plain_one_sees_chance() {
        let honest = calibration_error(&sample(2_000, 1.0, 5), 15);
        assert!(honest.plain > 0.015, "{honest:?}");
        assert!(honest.debiased < honest.plain, "{honest:?}");
        let mean = |seeds: u64| {
            let squares =
                (0..seeds).map(|seed| calibration_error(&sample(2_000, 1.0, seed), 15).debiased);
            squares.sum::<f64>() / seeds as f64
        };
        assert!(mean(20) < 0.01, "{}", mean(20));
        let proud: Vec<Scored> = sample(20_000, 3.0, 5);
        let off = calibration_error(&proud, 15);
        assert!(off.debiased > 0.1, "{off:?}");
        let cooled = temperature(&proud);
        let mended: Vec<Scored> = proud
            .iter()
            .map(|one| Scored {
                confidence: at_temperature(one.confidence, cooled),
                ..*one
            })
            .collect();
        assert!(calibration_error(&mended, 15).debiased < 0.02);
    }

    #[test]
    fn a_guard_is_what_clopper_and_pearson_allow() {
        // 200 answers, the least confident half of them wrong.
        let sample: Vec<Scored> = (0..200)
            .map(|index| Scored {
                confidence: f64::from(index) / 200.0,
                right: index >= 100,
            })
            .collect();
        let thresholds = thresholds(&[0.0, 0.25, 0.5, 0.75], 0.25, 4);
        assert_eq!(thresholds, [0.75, 0.5, 0.25, 0.0]);
        let found = guard(&sample, &thresholds, 0.1, 0.1).unwrap();
        assert_eq!((found.threshold, found.share, found.wrong), (0.5, 0.5, 0.0));
        assert!((found.upper - (1.0 - 0.1_f64.powf(0.01))).abs() < 1e-9);
        assert_eq!(
            guard(&sample, &thresholds, 0.001, 0.1),
            None,
            "too few to say so"
        );
        assert_eq!(guard(&[], &thresholds, 0.1, 0.1), None);
    }

    #[test]
    fn certificates_are_false_no_more_often_than_they_say() {
        // Wrong with probability 1 - confidence: at or above t the true rate is the mean of that over [t, .95].
        let truth = |threshold: f64| 1.0 - f64::midpoint(threshold.max(0.05), 0.95);
        let thresholds: Vec<f64> = (0..80).map(|step| 0.9 - 0.01 * f64::from(step)).collect();
        let violated = (0..500).filter(|seed| {
            let found = guard(&sample(800, 1.0, *seed), &thresholds, 0.25, 0.1);
            found.is_some_and(|guard| truth(guard.threshold) > 0.25)
        });
        // 50 are allowed; four standard deviations beyond that something is wrong.
        let violated = violated.count();
        assert!(violated <= 77, "{violated} of 500");
    }

    proptest! {
        #[test]
        fn a_temperature_keeps_the_order_and_the_middle(p in 0.001_f64..0.999, q in 0.001_f64..0.999, t in 0.1_f64..10.0) {
            prop_assert_eq!(at_temperature(p, t) < at_temperature(q, t), p < q);
            prop_assert!((at_temperature(0.5, t) - 0.5).abs() < 1e-12);
        }
    }
}
