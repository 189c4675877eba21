//! Tests that may be looked at after every request: e-processes, functions of the counts alone.
//!
//! An e-process E is a non-negative process with E[E at any stopping time] <= 1 under the hypothesis, so by Ville's
//! inequality the hypothesis is falsely refused with probability at most alpha when it is refused at E >= 1 / alpha,
//! however often somebody looks. For a count of k in n requests with unknown rates,
//!
//! ```text
//! E = integral of likelihood over Beta(1/2, 1/2)  /  largest likelihood within the hypothesis
//! ```
//!
//! is one: the mixture over the likelihood of the true rate is a martingale (Robbins 1970, "Statistical methods related to
//! the law of the iterated logarithm"), and the largest likelihood is at least that of the true rate (Wasserman, Ramdas,
//! Balakrishnan 2020, "Universal inference", PNAS 117, section 8). The mixture of k in n is
//! `B(k + 1/2, n - k + 1/2) / pi` (Krichevsky, Trofimov 1981).
//!
//! A quantile is at most x where at most the rest lies above x, so that a test of rates at every bound is a test of
//! quantiles (Howard, Ramdas 2022, "Sequential estimation of quantiles", Bernoulli 28, use the same duality).

use std::f64::consts::PI;

use super::evidence::{BUCKET_RATIO, BUCKETS, Histogram, VersionEvidence};
use crate::statistics::ln_gamma;

/// Share of requests above the 99th percentile.
const TAIL: f64 = 0.01;

/// Above this, counts would be refused by a test that looks once at a level of 5 %: half of the 90 % quantile of a
/// chi-square distribution with one degree (Wilks 1938), since only one side is tested.
const LEANING: f64 = 1.353;

/// What counts say against a hypothesis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Against {
    /// Logarithm of the e-process: the mixture over the largest likelihood within the hypothesis.
    pub(super) ln_e: f64,
    /// Logarithm of the largest likelihood anywhere over the largest within the hypothesis.
    pub(super) ln_ratio: f64,
}

impl Against {
    /// Whether the hypothesis is refused, however often it was looked at.
    pub(super) fn decides(self, ln_threshold: f64) -> bool {
        self.ln_e >= ln_threshold
    }

    /// Whether it would be refused by somebody who looks once.
    pub(super) fn leans(self) -> bool {
        self.ln_ratio > LEANING
    }

    /// Against the union of two hypotheses: both must be refused.
    fn either(self, other: Self) -> Self {
        Self {
            ln_e: self.ln_e.min(other.ln_e),
            ln_ratio: self.ln_ratio.min(other.ln_ratio),
        }
    }
}

/// Against "the candidate's error rate is at most the active version's, or at most `most`".
pub(super) fn errors(active: &VersionEvidence, candidate: &VersionEvidence, most: f64) -> Against {
    let a = Count::of(active.errors, active.requests);
    let c = Count::of(candidate.errors, candidate.requests);
    // Where the candidate's rate is higher, rates that are not are likeliest when they are equal.
    let equal = if c.rate() <= a.rate() {
        a.ln_best() + c.ln_best()
    } else {
        let pooled = (a.k + c.k) / (a.n + c.n);
        a.ln_likelihood(pooled) + c.ln_likelihood(pooled)
    };
    let at_most_active = Against {
        ln_e: a.ln_mixture() + c.ln_mixture() - equal,
        ln_ratio: a.ln_best() + c.ln_best() - equal,
    };
    at_most_active.either(c.against_at_most(most))
}

/// Against "the candidate's 99th percentile is at most `ratio` times the active version's".
///
/// If the active version's percentile lies in a bucket, then at least 1 % of its requests lie above the bound below it
/// and at most 1 % above its own, and at most 1 % of the candidate's lie above `ratio` times its own. Each bucket is
/// thus one hypothesis about rates; all of them must be refused, so the smallest e-process counts. The two sides of
/// the active version are averaged with a constant 1, which is an e-process again, and requests of the versions are
/// different factors of one product.
pub(super) fn latency(active: &Histogram, candidate: &Histogram, ratio: f64) -> Against {
    let shift = (ratio.max(1.0).ln() / BUCKET_RATIO.ln() - 1e-9).ceil() as usize;
    let (n_active, n_candidate) = (active.total(), candidate.total());
    let (above_active, above_candidate) = (active.above(), candidate.above());
    let of_bucket = |bucket: usize| {
        let exceed = Count::of(above_active[bucket], n_active).against_at_most(TAIL);
        let short = match bucket.checked_sub(1) {
            Some(below) => Count::of(above_active[below], n_active).against_at_least(TAIL),
            None => Against {
                ln_e: 0.0,
                ln_ratio: 0.0,
            },
        };
        let bound = (bucket + shift).min(BUCKETS - 1);
        let candidate = Count::of(above_candidate[bound], n_candidate).against_at_most(TAIL);
        Against {
            ln_e: ln_mean(&[0.0, exceed.ln_e, short.ln_e]) + ln_mean(&[0.0, candidate.ln_e]),
            ln_ratio: exceed.ln_ratio.max(short.ln_ratio) + candidate.ln_ratio,
        }
    };
    // The hypothesis likeliest to stand is looked at first: where it stands, no other one makes the test refuse or lean.
    let likeliest = above_active
        .iter()
        .position(|above| *above as f64 <= TAIL * n_active as f64);
    let first = of_bucket(likeliest.unwrap_or(BUCKETS - 1));
    if first.ln_e <= 0.0 && !first.leans() {
        return first;
    }
    (0..BUCKETS).map(of_bucket).fold(first, Against::either)
}

/// Requests that the active version needs before any candidate's latency can be refused: with fewer its 99th percentile
/// may be anywhere above the slowest of them.
pub(super) fn active_requests_min(ln_threshold: f64) -> u64 {
    // A candidate that shows nothing at a bound leaves the constant's half.
    let bounded = |n: u64| {
        let short = Count::of(0, n).against_at_least(TAIL);
        ln_mean(&[0.0, f64::NEG_INFINITY, short.ln_e]) - 2.0_f64.ln() >= ln_threshold
    };
    let (mut low, mut high) = (0, 1);
    while !bounded(high) {
        (low, high) = (high, high * 2);
    }
    while low + 1 < high {
        let middle = low.midpoint(high);
        if bounded(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// k of n.
#[derive(Clone, Copy, Debug)]
struct Count {
    k: f64,
    n: f64,
}

impl Count {
    fn of(k: u64, n: u64) -> Self {
        // More errors than requests cannot be counted; a broken report must not make a likelihood of a negative count.
        Self {
            k: k.min(n) as f64,
            n: n as f64,
        }
    }

    fn rate(self) -> f64 {
        if self.n == 0.0 { 0.0 } else { self.k / self.n }
    }

    /// ln(p^k (1 - p)^(n - k)) with 0 ln 0 = 0.
    fn ln_likelihood(self, p: f64) -> f64 {
        let term = |count: f64, p: f64| if count == 0.0 { 0.0 } else { count * p.ln() };
        term(self.k, p) + term(self.n - self.k, 1.0 - p)
    }

    /// The largest likelihood of any rate.
    fn ln_best(self) -> f64 {
        self.ln_likelihood(self.rate())
    }

    fn ln_mixture(self) -> f64 {
        ln_gamma(self.k + 0.5) + ln_gamma(self.n - self.k + 0.5) - PI.ln() - ln_gamma(self.n + 1.0)
    }

    fn against_at_most(self, most: f64) -> Against {
        self.against(self.rate().min(most))
    }

    fn against_at_least(self, least: f64) -> Against {
        self.against(self.rate().max(least))
    }

    /// Against a hypothesis within which this rate is the likeliest.
    fn against(self, likeliest: f64) -> Against {
        let within = self.ln_likelihood(likeliest);
        Against {
            ln_e: self.ln_mixture() - within,
            ln_ratio: self.ln_best() - within,
        }
    }
}

/// ln of the mean of exponentials.
fn ln_mean(ln_values: &[f64]) -> f64 {
    let most = ln_values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = ln_values.iter().map(|value| (value - most).exp()).sum();
    most + (sum / ln_values.len() as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mixture_is_the_sequential_estimator_s_product() {
        // Krichevsky and Trofimov: the chance of the next success after k of n is (k + 1/2) / (n + 1).
        let outcomes = [true, false, false, true, true, false, false, false];
        let (mut k, mut product) = (0_u64, 0.0_f64);
        for (n, outcome) in outcomes.into_iter().enumerate() {
            let success = (k as f64 + 0.5) / (n as f64 + 1.0);
            product += if outcome { success } else { 1.0 - success }.ln();
            k += u64::from(outcome);
        }
        let mixture = Count::of(k, outcomes.len() as u64).ln_mixture();
        assert!((mixture - product).abs() < 1e-9, "{mixture} {product}");
    }

    #[test]
    fn e_processes_have_mean_one_at_most_under_their_hypothesis() {
        // Exact: the sum over all counts of 12 requests at the hypothesis' worst rate.
        let n = 12_u64;
        for (rate, above) in [(0.3_f64, true), (0.1, true), (0.3, false)] {
            let mean: f64 = (0..=n)
                .map(|k| {
                    let count = Count::of(k, n);
                    let ways = ln_gamma(n as f64 + 1.0)
                        - ln_gamma(k as f64 + 1.0)
                        - ln_gamma((n - k) as f64 + 1.0);
                    let e = if above {
                        count.against_at_most(0.3).ln_e
                    } else {
                        count.against_at_least(0.3).ln_e
                    };
                    (ways + count.ln_likelihood(rate) + e).exp()
                })
                .sum();
            assert!(mean <= 1.0, "at {rate}: {mean}");
        }
    }

    #[test]
    fn the_active_version_s_percentile_needs_about_a_thousand_requests() {
        let needed = active_requests_min(120.0_f64.ln());
        assert!((800..1300).contains(&needed), "{needed}");
    }
}
