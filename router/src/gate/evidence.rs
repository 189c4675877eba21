//! What is counted of a rollout: requests, errors and latencies of both versions, as totals that only grow.
//!
//! Totals of several gateways add up, and the difference of two totals is what came between them. Data and arithmetic
//! only; what follows from it is in `sequential.rs`.

use serde::{Deserialize, Serialize};

/// Buckets of a histogram; the last one has no upper bound.
pub const BUCKETS: usize = 150;

/// Each bucket's upper bound is this many times the one before it; that of the first is one millisecond. A ratio of
/// latencies is known to one bucket.
pub const BUCKET_RATIO: f64 = 1.1;

/// What was counted of one rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RolloutEvidence {
    /// Requests that the active version was dispatched for while the candidate had a share.
    pub active: VersionEvidence,
    /// Requests that the candidate was dispatched for.
    pub candidate: VersionEvidence,
    /// Requests that both versions decided.
    pub shadowed: u64,
    /// Of them, those whose two decisions would have been executed differently.
    pub disagreements: u64,
}

/// What was counted of one version in one rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VersionEvidence {
    /// Requests that have ended.
    pub requests: u64,
    /// Of them, those that failed in the gateway or behind it. What a client did wrong is none.
    pub errors: u64,
    /// Requests that have not ended.
    pub open: u64,
    /// Time from arrival to the last byte, of the requests that have ended.
    pub latency: Histogram,
}

/// Counts of latencies. Trailing zeros may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Histogram {
    counts: Vec<u64>,
}

impl RolloutEvidence {
    /// Adds what another gateway counted.
    pub fn add(&mut self, other: &Self) {
        self.active.add(&other.active);
        self.candidate.add(&other.candidate);
        self.shadowed += other.shadowed;
        self.disagreements += other.disagreements;
    }

    /// What came since `earlier`; nothing where it is not smaller, as after a loss.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            active: self.active.since(&earlier.active),
            candidate: self.candidate.since(&earlier.candidate),
            shadowed: self.shadowed.saturating_sub(earlier.shadowed),
            disagreements: self.disagreements.saturating_sub(earlier.disagreements),
        }
    }
}

impl VersionEvidence {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.open += other.open;
        self.latency.add(&other.latency);
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            errors: self.errors.saturating_sub(earlier.errors),
            open: self.open,
            latency: self.latency.since(&earlier.latency),
        }
    }

    /// The process that counted is gone: what it had open has failed.
    pub fn process_ended(&mut self) {
        self.requests += self.open;
        self.errors += self.open;
        self.open = 0;
    }
}

impl Histogram {
    /// A histogram of these counts, the first of the first bucket. Counts beyond [`BUCKETS`] go into the last one.
    pub fn from_counts(counts: &[u64]) -> Self {
        let mut histogram = Self::default();
        for (bucket, count) in counts.iter().enumerate() {
            histogram.put(bucket, *count);
        }
        histogram
    }

    /// The counts, up to the last bucket that is not empty.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Counts one latency.
    pub fn record(&mut self, milliseconds: f64) {
        self.put(bucket(milliseconds), 1);
    }

    /// Latencies counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// For every bucket, how many latencies lie above its upper bound.
    pub fn above(&self) -> Vec<u64> {
        let mut above = vec![0; BUCKETS];
        let mut sum = 0;
        for bucket in (0..BUCKETS).rev() {
            above[bucket] = sum;
            sum += self.counts.get(bucket).copied().unwrap_or(0);
        }
        above
    }

    /// Upper bound of the bucket that this quantile lies in; `None` without a latency, or in the last bucket.
    pub fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        let total = self.total();
        let within = (quantile * total as f64).ceil().max(1.0) as u64;
        let mut sum = 0;
        let found = self.counts.iter().position(|count| {
            sum += count;
            sum >= within
        });
        let bucket = found.filter(|bucket| *bucket + 1 < BUCKETS)?;
        Some(BUCKET_RATIO.powf(bucket as f64))
    }

    fn put(&mut self, bucket: usize, count: u64) {
        let bucket = bucket.min(BUCKETS - 1);
        if count == 0 {
            return;
        }
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += count;
    }

    fn add(&mut self, other: &Self) {
        for (bucket, count) in other.counts.iter().enumerate() {
            self.put(bucket, *count);
        }
    }

    fn since(&self, earlier: &Self) -> Self {
        let before = earlier.counts.iter().chain(std::iter::repeat(&0));
        let mut since = Self::default();
        for (bucket, (count, before)) in self.counts.iter().zip(before).enumerate() {
            since.put(bucket, count.saturating_sub(*before));
        }
        since
    }
}

/// The bucket of a latency. Not a number counts as endless.
fn bucket(milliseconds: f64) -> usize {
    if milliseconds <= 1.0 {
        return 0;
    }
    // Rounding may put a latency that equals a bound into the bucket above it; nothing depends on that.
    let exponent = (milliseconds.ln() / BUCKET_RATIO.ln()).ceil();
    if exponent < (BUCKETS - 1) as f64 {
        exponent as usize
    } else {
        BUCKETS - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_latency_lies_between_the_bounds_of_its_bucket() {
        assert_eq!(bucket(0.0), 0);
        assert_eq!(bucket(1.0), 0);
        assert_eq!(bucket(1.05), 1);
        assert_eq!(bucket(f64::NAN), BUCKETS - 1);
        assert_eq!(bucket(1e12), BUCKETS - 1);
        for milliseconds in [1.5, 10.0, 333.0, 60_000.0, 1_000_000.0] {
            let found = bucket(milliseconds) as f64;
            assert!(BUCKET_RATIO.powf(found) >= milliseconds * (1.0 - 1e-9));
            assert!(BUCKET_RATIO.powf(found - 1.0) < milliseconds * (1.0 + 1e-9));
        }
    }

    #[test]
    fn quantiles_are_upper_bounds() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile_ms(0.99), None);
        for milliseconds in 1..=100 {
            histogram.record(f64::from(milliseconds));
        }
        let p99 = histogram.quantile_ms(0.99).expect("there are latencies");
        assert!((99.0..109.0).contains(&p99), "{p99}");
        histogram.record(f64::INFINITY);
        histogram.record(f64::INFINITY);
        histogram.record(f64::INFINITY);
        assert_eq!(
            histogram.quantile_ms(0.99),
            None,
            "it lies in the open bucket"
        );
    }

    #[test]
    fn what_a_dead_process_had_open_has_failed() {
        let mut version = VersionEvidence {
            requests: 3,
            errors: 1,
            open: 2,
            latency: Histogram::default(),
        };
        version.process_ended();
        assert_eq!((version.requests, version.errors, version.open), (5, 3, 0));
    }

    fn any_histogram() -> impl Strategy<Value = Histogram> {
        prop::collection::vec(0_u64..5, 0..BUCKETS + 20)
            .prop_map(|counts| Histogram::from_counts(&counts))
    }

    proptest! {
        #[test]
        fn sums_and_differences_undo_each_other(a in any_histogram(), b in any_histogram()) {
            let mut sum = a.clone();
            sum.add(&b);
            prop_assert_eq!(sum.since(&a), b.clone());
            prop_assert_eq!(sum.total(), a.total() + b.total());
            let naive: Vec<u64> = (0..BUCKETS).map(|edge| sum.counts().iter().skip(edge + 1).sum()).collect();
            prop_assert_eq!(sum.above(), naive);
        }
    }
}
