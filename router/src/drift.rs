//! Whether the requests of now are still those that a router was trained on.
//!
//! A gateway adds every request's [`Reading`] to a [`Window`], which forgets: the last [`REMEMBERED`] requests or so count.
//! Windows of several processes add up. [`Window::judge`] compares one with the artifact's profile and says what is
//! different, in words. Thresholds are sizes of effects and not tests: with enough requests every difference is certain,
//! and only a large one makes expectations wrong.

use serde::{Deserialize, Serialize};

use crate::artifact::Artifact;
use crate::network::Layout;
use crate::novelty::{FALSE_ALARMS, Reading, columns};
use crate::schema::FeatureSchema;
use crate::statistics::rate_upper;

/// Requests that a window remembers: each one more makes those before it count 1 / this less.
pub const REMEMBERED: f64 = 500.0;

/// Requests below which nothing is concluded.
pub const REQUESTS_MIN: f64 = 200.0;

/// Deviations by which the mean of a column may have moved.
const MOVED_MAX: f64 = 0.5;

/// Half of the summed differences between shares of kinds may be this.
const MIX_MAX: f64 = 0.25;

/// The share of unusual requests may be known to be this many times what it is in training.
const UNUSUAL_MAX: f64 = 2.0;

/// Probability with which it is known.
const CERTAIN: f64 = 0.999;

/// Columns that are named, those that moved most.
const NAMED: usize = 3;

/// Sums over the last requests. Plain numbers, so that they travel and add up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Window {
    /// Requests.
    pub requests: f64,
    /// Of them, the unusual ones.
    pub unusual: f64,
    /// Of them, those nearest to each kind of the profile.
    pub kinds: Vec<f64>,
    /// Deviations of each column that the profile reads.
    pub columns: Vec<f64>,
}

/// What is different.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Of {
    /// Means of features.
    Features,
    /// Shares of the kinds of questions.
    Tasks,
    /// The share of requests that are unlike any of training.
    Unusual,
}

impl Of {
    /// Everything that is compared.
    pub const ALL: [Self; 3] = [Self::Features, Self::Tasks, Self::Unusual];

    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Features => "features",
            Self::Tasks => "tasks",
            Self::Unusual => "unusual",
        }
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What is different.
    pub of: Of,
    /// How, for people.
    pub says: String,
}

/// A window beside training.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Drift {
    /// Requests that were compared.
    pub requests: u64,
    /// What is different; empty too where there are fewer than [`REQUESTS_MIN`].
    pub findings: Vec<Finding>,
}

impl Drift {
    /// Whether there are requests enough to say anything.
    pub fn is_known(&self) -> bool {
        self.requests as f64 >= REQUESTS_MIN
    }
}

impl Window {
    /// Adds a request and forgets a little of those before it.
    pub fn add(&mut self, reading: &Reading, kinds: usize) {
        self.kinds.resize(kinds, 0.0);
        self.columns.resize(reading.values.len(), 0.0);
        let kept = 1.0 - 1.0 / REMEMBERED;
        let sums = [&mut self.requests, &mut self.unusual].into_iter();
        let sums = sums.chain(&mut self.kinds).chain(&mut self.columns);
        sums.for_each(|sum| *sum *= kept);
        self.requests += 1.0;
        self.unusual += f64::from(u8::from(reading.unusual));
        if let Some(sum) = reading.kind.and_then(|kind| self.kinds.get_mut(kind)) {
            *sum += 1.0;
        }
        let columns = self.columns.iter_mut().zip(&reading.values);
        columns.for_each(|(sum, value)| *sum += f64::from(*value));
    }

    /// Adds the requests of another process.
    pub fn merge(&mut self, other: &Self) {
        let add = |sums: &mut Vec<f64>, more: &[f64]| {
            sums.resize(sums.len().max(more.len()), 0.0);
            sums.iter_mut().zip(more).for_each(|(sum, one)| *sum += one);
        };
        self.requests += other.requests;
        self.unusual += other.unusual;
        add(&mut self.kinds, &other.kinds);
        add(&mut self.columns, &other.columns);
    }

    /// Compares these requests with those of training; `None` where the artifact has no profile, or one of another shape,
    /// or the sums are no numbers.
    pub fn judge(&self, artifact: &Artifact) -> Option<Drift> {
        let manifest = artifact.manifest();
        let profile = manifest.profile.as_ref()?;
        let columns = columns(&manifest.normaliser);
        let sums = [self.requests, self.unusual].into_iter();
        let mut sums = sums.chain(self.kinds.iter().copied());
        let counts = sums.all(|sum| sum.is_finite() && sum >= 0.0);
        let finite = self.columns.iter().all(|sum| sum.is_finite());
        if self.requests == 0.0 {
            return Some(Drift::default());
        }
        let fits = self.columns.len() == columns.len() && self.kinds.len() == profile.kinds().len();
        if !(counts && finite && fits) {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a finite count that is not negative"
        )]
        let requests = self.requests.round() as u64;
        let known = self.requests >= REQUESTS_MIN;
        let kinds = profile.kinds().iter();
        let kinds: Vec<(&str, f64)> = kinds.map(|kind| (kind.name.as_str(), kind.share)).collect();
        let findings = [self.moved(&columns), self.mix(&kinds), self.unlike()];
        Some(Drift {
            requests,
            findings: findings.into_iter().flatten().filter(|_| known).collect(),
        })
    }

    fn moved(&self, columns: &[usize]) -> Option<Finding> {
        let names = Layout::column_names(FeatureSchema::current());
        let means = self.columns.iter().map(|sum| sum / self.requests);
        let mut moved: Vec<(usize, f64)> = columns
            .iter()
            .copied()
            .zip(means)
            .filter(|(_, mean)| mean.abs() >= MOVED_MAX)
            .collect();
        moved.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        let says = |&(column, mean): &(usize, f64)| {
            let side = if mean > 0.0 { "above" } else { "below" };
            let (name, size) = (&names[column], mean.abs());
            format!("{name} is {size:.1} deviations {side} its mean in training")
        };
        let named: Vec<String> = moved.iter().take(NAMED).map(says).collect();
        let rest = moved.len().saturating_sub(NAMED);
        let more = match rest {
            0 => String::new(),
            rest => format!(", and {rest} more features have moved"),
        };
        (!named.is_empty()).then(|| Finding {
            of: Of::Features,
            says: named.join(", ") + &more,
        })
    }

    fn mix(&self, kinds: &[(&str, f64)]) -> Option<Finding> {
        let now = |kind: usize| self.kinds[kind] / self.requests;
        let differences = (0..kinds.len()).map(|kind| (kind, now(kind) - kinds[kind].1));
        let apart: f64 = differences.clone().map(|(_, d)| d.abs()).sum::<f64>() / 2.0;
        let most = differences.max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()));
        let (kind, _) = most.filter(|_| apart >= MIX_MAX)?;
        let (name, share) = kinds[kind];
        Some(Finding {
            of: Of::Tasks,
            says: format!(
                "{:.0} % of requests are like {name}, {:.0} % were in training",
                now(kind) * 100.0,
                share * 100.0
            ),
        })
    }

    fn unlike(&self) -> Option<Finding> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "finite counts that are not negative"
        )]
        let usual = (self.requests - self.unusual).max(0.0).round() as u64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "finite counts that are not negative"
        )]
        let requests = self.requests.round() as u64;
        let least = 1.0 - rate_upper(usual.min(requests), requests, 1.0 - CERTAIN);
        (least > UNUSUAL_MAX * FALSE_ALARMS).then(|| Finding {
            of: Of::Unusual,
            says: format!(
                "{:.0} % of requests are unlike those of training, {:.0} % are expected",
                self.unusual / self.requests * 100.0,
                FALSE_ALARMS * 100.0
            ),
        })
    }
}
