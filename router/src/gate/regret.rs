//! Regret: what a baseline's answers would have been worth more than the candidate's, as sums that merge.
//!
//! Every request that was judged gives one term, from the probabilities with which each version takes each arm: mu_B of the
//! baseline (the active version, or a fixed reference), mu_C of the candidate, and p = (1 - w) mu_A + w mu_C of what is
//! dispatched when the candidate has the share w of users. With d what was dispatched, y what a judge gave and m what was
//! expected before,
//!
//! ```text
//! z = sum_a (mu_B - mu_C)(a) m(a)  +  (mu_B - mu_C)(d) / p(d) (y - m(d))
//! ```
//!
//! has the regret of its request as its mean whatever m is, since m knows earlier labels only ([`Learner`]). Where versions
//! agree the term is 0 and nothing has to be judged. A label that was drawn with the propensity e stands for 1 / e
//! disagreements. Labels come later than their answers and some never come, so the terms are taken per disagreement that
//! they stand for, and times the disagreements that there were (Hajek's ratio): with all of them judged that is the plain
//! mean. [`RegretEvidence::share_judged`] is the denominator over the numerator; the gate decides nothing while it is far
//! from one. Terms of a step are weighted by 4 w (1 - w), about the inverse of their variance.
//!
//! A user stays with a version, so terms of one user are not independent: sums are kept by bucket of users, and the
//! spread is that of buckets. [`RegretEvidence::against_at_most`] and its sister are the tests, valid however often
//! somebody looks: with x_b a bucket's sum under the hypothesis, S their sum and V the sum of their squares,
//! exp(theta S - theta^2 V / 2) is a supermartingale where increments are symmetric (de la Pena 1999) and
//! asymptotically elsewhere (Waudby-Smith et al. 2024, "Time-uniform central limit theory"), and the mixture over
//! theta > 0 from half a normal distribution with deviation rho is
//!
//! ```text
//! E = 2 / sqrt(1 + rho^2 V) * exp(S^2 / (2 (V + rho^-2))) * Phi(S / sqrt(V + rho^-2))
//! ```

use serde::{Deserialize, Serialize};

use super::sequential::Against;
use crate::linear::RidgeSums;
use crate::ope::Label;
use crate::statistics::{bisect, normal_cdf};

/// Groups of users that are told apart.
pub const BUCKETS: usize = 256;

/// Squared points that a labelled disagreement adds to V when half of the users have the candidate and quality has a
/// deviation of 1.2: only the width of the sequence depends on it, not its validity.
const VARIANCE_PER_LABEL: f64 = 6.0;

/// Rows that pull what is expected towards the prior.
const PENALTY: f64 = 4.0;

/// The largest regret there is, on a scale of 1 to 5.
const REGRET_MAX: f64 = 4.0;

/// Sums are kept in millionths.
const MILLION: f64 = 1e6;

/// One request as all versions decided it.
#[derive(Clone, Copy, Debug)]
pub struct Compared<'a> {
    /// The user's group.
    pub bucket: u8,
    /// Percent of users that the candidate is dispatched to.
    pub weight: u32,
    /// The arm that was dispatched.
    pub dispatched: usize,
    /// Probability of each arm under the active version.
    pub active: &'a [f64],
    /// Under the candidate.
    pub candidate: &'a [f64],
    /// Under the baseline that regret is measured against.
    pub baseline: &'a [f64],
    /// Quality that was expected of each arm before it answered.
    pub expected: &'a [f64],
    /// What a judge gave.
    pub label: Option<Label>,
}

/// What is expected of an arm, learned from the rows that came before.
#[derive(Clone, Debug)]
pub struct Learner {
    sums: RidgeSums,
}

/// Sums of one comparison, in millionths where they are no counts. They merge by addition of integers, over gateways and
/// over steps, so that the order in which reports come changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegretEvidence {
    /// Requests compared.
    pub compared: u64,
    /// Of them, those that the versions decided differently.
    pub disagreements: u64,
    /// Of these, those that somebody judged.
    pub labelled: u64,
    /// Weight of the disagreements.
    pub disagreeing: i64,
    /// Weight that the labels stand for: of each, over its propensity.
    pub stood_for: i64,
    /// Variance that drawing the labels gives to that.
    pub stood_for_variance: i64,
    /// Weight of the requests compared, by bucket of users. Trailing zeros may be missing.
    pub weights: Vec<i64>,
    /// Weighted terms of the labels over their propensities, by bucket of users. Trailing zeros may be missing.
    pub terms: Vec<i64>,
}

/// What is known of a regret.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bounds {
    /// The estimate.
    pub value: f64,
    /// It is not below this.
    pub low: f64,
    /// It is not above this.
    pub high: f64,
}

impl Default for Learner {
    fn default() -> Self {
        let mut sums = RidgeSums::new(2);
        // Before any row, what the artifact expects is believed.
        for expected in [1.0, 5.0] {
            sums.add(&[1.0, expected], expected, PENALTY);
        }
        Self { sums }
    }
}

impl Learner {
    /// The term of a request that was judged, from what earlier labels taught; then this one teaches.
    fn term(&mut self, row: &Compared<'_>, reward: f64) -> f64 {
        let model = self.sums.fit(0.0);
        let of = |arm: usize| model.at(&[1.0, row.expected[arm]]);
        let arms = row.baseline.iter().zip(row.candidate).enumerate();
        let differing = arms.filter(|(_, (baseline, candidate))| baseline != candidate);
        let predicted =
            differing.map(|(arm, (baseline, candidate))| (baseline - candidate) * of(arm));
        let mut term: f64 = predicted.sum();
        let d = row.dispatched;
        let difference = row.baseline[d] - row.candidate[d];
        if difference != 0.0 {
            term += difference / dispatched(row) * (reward - of(d));
        }
        self.sums.add(&[1.0, row.expected[d]], reward, 1.0);
        term
    }
}

impl Compared<'_> {
    /// Whether a judge of this answer says which of the two is better.
    fn differs(&self) -> bool {
        self.baseline != self.candidate
    }
}

/// 4 w (1 - w) in millionths: 0 where nothing was dispatched by chance.
fn weight(row: &Compared<'_>) -> i64 {
    let percent = i64::from(row.weight.min(100));
    400 * percent * (100 - percent)
}

fn millionths(value: f64) -> i64 {
    (value * MILLION).round() as i64
}

fn put(sums: &mut Vec<i64>, bucket: u8, value: i64) {
    let bucket = usize::from(bucket);
    if sums.len() <= bucket {
        sums.resize(bucket + 1, 0);
    }
    sums[bucket] = sums[bucket].saturating_add(value);
}

fn add(sums: &mut Vec<i64>, others: &[i64]) {
    if sums.len() < others.len() {
        sums.resize(others.len(), 0);
    }
    for (own, other) in sums.iter_mut().zip(others) {
        *own = own.saturating_add(*other);
    }
}

/// Probability with which the arm that was dispatched was to be.
fn dispatched(row: &Compared<'_>) -> f64 {
    let share = f64::from(row.weight) / 100.0;
    (1.0 - share) * row.active[row.dispatched] + share * row.candidate[row.dispatched]
}

impl RegretEvidence {
    /// Adds a request, with its label where it has one.
    pub fn observe(&mut self, row: &Compared<'_>, learner: &mut Learner) {
        self.decided(row);
        self.judged(row, learner);
    }

    /// Adds a request that both versions decided and whose label, if one is needed, comes by [`Self::judged`]. One of which
    /// nothing was dispatched by chance, as in the shadow, says nothing.
    pub fn decided(&mut self, row: &Compared<'_>) {
        let weight = weight(row);
        if weight == 0 {
            return;
        }
        put(&mut self.weights, row.bucket, weight);
        self.compared += 1;
        if row.differs() {
            self.disagreements += 1;
            self.disagreeing = self.disagreeing.saturating_add(weight);
        }
    }

    /// Adds the label of a request that was decided; without one nothing.
    pub fn judged(&mut self, row: &Compared<'_>, learner: &mut Learner) {
        let (weight, Some(label)) = (weight(row), row.label) else {
            return;
        };
        if weight == 0 {
            return;
        }
        let term = learner.term(row, label.reward);
        if !row.differs() {
            return;
        }
        let share = weight as f64 / MILLION;
        let stands_for = share / label.propensity;
        let variance = stands_for * stands_for * (1.0 - label.propensity);
        self.labelled += 1;
        self.stood_for = self.stood_for.saturating_add(millionths(stands_for));
        self.stood_for_variance = self.stood_for_variance.saturating_add(millionths(variance));
        put(&mut self.terms, row.bucket, millionths(stands_for * term));
    }

    /// Adds what another process counted.
    pub fn add(&mut self, other: &Self) {
        self.compared += other.compared;
        self.disagreements += other.disagreements;
        self.labelled += other.labelled;
        self.disagreeing = self.disagreeing.saturating_add(other.disagreeing);
        self.stood_for = self.stood_for.saturating_add(other.stood_for);
        self.stood_for_variance = self
            .stood_for_variance
            .saturating_add(other.stood_for_variance);
        add(&mut self.weights, &other.weights);
        add(&mut self.terms, &other.terms);
    }

    /// The regret as it is estimated; 0 of nothing.
    pub fn regret(&self) -> f64 {
        let buckets = self.buckets();
        let (weights, terms) = buckets.fold((0.0, 0.0), |sum, (weight, term)| {
            (sum.0 + weight, sum.1 + term)
        });
        if weights > 0.0 { terms / weights } else { 0.0 }
    }

    /// For how many of the disagreements the labels stand, as a share, and by how much chance may have changed that: one
    /// standard deviation. `None` without a disagreement.
    pub fn share_judged(&self) -> Option<(f64, f64)> {
        let disagreeing = self.disagreeing as f64 / MILLION;
        let deviation = (self.stood_for_variance as f64 / MILLION).max(0.0).sqrt();
        let stood_for = self.stood_for as f64 / MILLION;
        (disagreeing > 0.0).then(|| (stood_for / disagreeing, deviation / disagreeing))
    }

    /// Against "the regret is at most this". `planned` labelled disagreements are those it is sharpest at.
    pub(super) fn against_at_most(&self, most: f64, planned: u64) -> Against {
        self.against(most, 1.0, planned)
    }

    /// Against "the regret is at least this".
    pub(super) fn against_at_least(&self, least: f64, planned: u64) -> Against {
        self.against(least, -1.0, planned)
    }

    /// The regret with the bounds that hold at every look together, each with probability 1 - `alpha`.
    pub fn bounds(&self, alpha: f64, planned: u64) -> Bounds {
        let threshold = -alpha.ln();
        let value = self.regret();
        let refused = |against: Against| against.decides(threshold);
        // A hypothesis beyond a refused one is refused, too.
        let high = bisect(value, REGRET_MAX.max(value), |regret| {
            !refused(self.against_at_least(regret, planned))
        });
        let low = bisect((-REGRET_MAX).min(value), value, |regret| {
            refused(self.against_at_most(regret, planned))
        });
        Bounds { value, low, high }
    }

    /// Weight and weighted terms of each bucket, as if all disagreements were judged.
    fn buckets(&self) -> impl Iterator<Item = (f64, f64)> {
        let share = self.share_judged().map_or(0.0, |(share, _)| share);
        let for_all = if share > 0.0 { 1.0 / share } else { 0.0 };
        let of =
            |sums: &[i64], bucket: usize| sums.get(bucket).map_or(0.0, |sum| *sum as f64 / MILLION);
        (0..BUCKETS).map(move |bucket| {
            let term = of(&self.terms, bucket) * for_all;
            (of(&self.weights, bucket), term)
        })
    }

    fn against(&self, regret: f64, sign: f64, planned: u64) -> Against {
        let buckets = self.buckets();
        let terms = buckets.map(|(weight, term)| sign * (term - regret * weight));
        let (sum, squares) = terms.fold((0.0, 0.0), |(s, v), term| (s + term, v + term * term));
        let alpha: f64 = 0.05;
        let ln = -2.0 * alpha.ln();
        let rho_squared = (ln + ln.ln() + 1.0) / (VARIANCE_PER_LABEL * planned.max(1) as f64);
        let spread = squares + 1.0 / rho_squared;
        let above = normal_cdf(sum / spread.sqrt()).max(f64::MIN_POSITIVE);
        let ln_e = std::f64::consts::LN_2 - 0.5 * (rho_squared * squares).ln_1p()
            + sum * sum / (2.0 * spread)
            + above.ln();
        // Somebody who looks once compares S^2 / V with a chi-square quantile.
        let once = if sum > 0.0 && squares > 0.0 {
            sum * sum / (2.0 * squares)
        } else {
            0.0
        };
        Against {
            ln_e,
            ln_ratio: once,
        }
    }
}

#[cfg(test)]
mod tests;
