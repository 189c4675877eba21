//! Regret: what a baseline's answers would have been worth more than the candidate's, as sums that merge.
//!
//! Every request gives one term, from the probabilities with which each version takes each arm: mu_B of the baseline (the
//! active version, or a fixed reference), mu_C of the candidate, and p = (1 - w) mu_A + w mu_C of what is dispatched when
//! the candidate has the share w of users. With d what was dispatched, y what a judge gave, e the propensity of its label
//! and m what was expected before,
//!
//! ```text
//! z = sum_a (mu_B - mu_C)(a) m(a)  +  (mu_B - mu_C)(d) / p(d) [judged] (y - m(d)) / e
//! ```
//!
//! has the regret as its mean whatever m is, since m knows earlier rows only ([`Learner`]). Where versions agree the term
//! is 0 and nothing has to be judged. Terms of a step are weighted by 4 w (1 - w), about the inverse of their variance.
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

/// Sums of one comparison. They merge by addition, over gateways and over steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegretEvidence {
    /// Weight and weighted terms of each bucket of users.
    buckets: Vec<(f64, f64)>,
    /// Requests compared.
    pub compared: u64,
    /// Of them, those whose versions differ and that somebody judged.
    pub labelled: u64,
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
    /// The term of a request, from what earlier rows taught; then this one teaches.
    pub fn term(&mut self, row: &Compared<'_>) -> f64 {
        if row.label.is_none() && row.baseline == row.candidate {
            return 0.0;
        }
        let model = self.sums.fit(0.0);
        let of = |arm: usize| model.at(&[1.0, row.expected[arm]]);
        let arms = row.baseline.iter().zip(row.candidate).enumerate();
        let differing = arms.filter(|(_, (baseline, candidate))| baseline != candidate);
        let predicted =
            differing.map(|(arm, (baseline, candidate))| (baseline - candidate) * of(arm));
        let mut term: f64 = predicted.sum();
        let Some(label) = row.label else { return term };
        let d = row.dispatched;
        let difference = row.baseline[d] - row.candidate[d];
        if difference != 0.0 {
            let residual = (label.reward - of(d)) / label.propensity;
            term += difference / dispatched(row) * residual;
        }
        self.sums.add(&[1.0, row.expected[d]], label.reward, 1.0);
        term
    }
}

/// Probability with which the arm that was dispatched was to be.
fn dispatched(row: &Compared<'_>) -> f64 {
    let share = f64::from(row.weight) / 100.0;
    (1.0 - share) * row.active[row.dispatched] + share * row.candidate[row.dispatched]
}

impl Default for RegretEvidence {
    fn default() -> Self {
        Self {
            buckets: vec![(0.0, 0.0); BUCKETS],
            compared: 0,
            labelled: 0,
        }
    }
}

impl RegretEvidence {
    /// Adds a request. One of which nothing was dispatched by chance, as in the shadow, says nothing.
    pub fn observe(&mut self, row: &Compared<'_>, learner: &mut Learner) {
        let share = f64::from(row.weight) / 100.0;
        let weight = 4.0 * share * (1.0 - share);
        if weight <= 0.0 {
            return;
        }
        let term = learner.term(row);
        let (weights, terms) = &mut self.buckets[usize::from(row.bucket)];
        *weights += weight;
        *terms += weight * term;
        self.compared += 1;
        let differs = row.baseline != row.candidate;
        self.labelled += u64::from(differs && row.label.is_some());
    }

    /// Adds what another process counted.
    pub fn add(&mut self, other: &Self) {
        for (own, others) in self.buckets.iter_mut().zip(&other.buckets) {
            *own = (own.0 + others.0, own.1 + others.1);
        }
        self.compared += other.compared;
        self.labelled += other.labelled;
    }

    /// The regret as it is estimated; 0 of nothing.
    pub fn regret(&self) -> f64 {
        let (weights, terms) = self.sums();
        if weights > 0.0 { terms / weights } else { 0.0 }
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

    fn sums(&self) -> (f64, f64) {
        let buckets = self.buckets.iter();
        buckets.fold((0.0, 0.0), |sum, bucket| {
            (sum.0 + bucket.0, sum.1 + bucket.1)
        })
    }

    fn against(&self, regret: f64, sign: f64, planned: u64) -> Against {
        let terms = self
            .buckets
            .iter()
            .map(|(weight, term)| sign * (term - regret * weight));
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row<'a>(bucket: u8, dispatched: usize, reward: f64) -> Compared<'a> {
        Compared {
            bucket,
            weight: 50,
            dispatched,
            active: &[1.0, 0.0],
            candidate: &[0.0, 1.0],
            baseline: &[1.0, 0.0],
            expected: &[3.0, 3.0],
            label: Some(Label {
                reward,
                propensity: 1.0,
            }),
        }
    }

    #[test]
    fn versions_that_agree_have_no_regret_and_need_no_judge() {
        let (mut evidence, mut learner) = (RegretEvidence::default(), Learner::default());
        let agreeing = Compared {
            candidate: &[1.0, 0.0],
            label: None,
            ..row(1, 0, 0.0)
        };
        evidence.observe(&agreeing, &mut learner);
        assert_eq!((evidence.compared, evidence.labelled), (1, 0));
        assert_eq!(evidence.regret(), 0.0);
        let shadowed = Compared {
            weight: 0,
            ..row(1, 0, 5.0)
        };
        evidence.observe(&shadowed, &mut learner);
        assert_eq!(evidence.compared, 1, "nothing was dispatched by chance");
    }

    #[test]
    fn the_first_term_is_the_formula() {
        // m = 3 before any row: z = 0 + 1 / .5 (5 - 3) when the active version answered.
        assert!((Learner::default().term(&row(0, 0, 5.0)) - 4.0).abs() < 1e-9);
        assert!((Learner::default().term(&row(0, 1, 5.0)) + 4.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_expected_is_learned_from_earlier_rows_only() {
        let mut learner = Learner::default();
        let first = learner.term(&row(0, 0, 5.0));
        for _ in 0..500 {
            learner.term(&row(0, 0, 5.0));
        }
        let later = learner.term(&row(0, 0, 5.0));
        assert!(later < 0.1 * first, "{later} {first}");
    }

    proptest! {
        #[test]
        fn the_term_s_mean_is_the_regret_whatever_is_expected(
            mu in prop::array::uniform3(0.0_f64..1.0),
            weight in 1_u32..100,
            expected in prop::array::uniform2(1.0_f64..5.0),
            rewards in prop::array::uniform2(1.0_f64..5.0),
            e in 0.2_f64..1.0,
        ) {
            let [active, candidate, baseline] = mu.map(|p| [p, 1.0 - p]);
            let share = f64::from(weight) / 100.0;
            let mut mean = 0.0;
            for dispatched in 0..2 {
                let chance = (1.0 - share) * active[dispatched] + share * candidate[dispatched];
                for (judged, probability) in [(true, e), (false, 1.0 - e)] {
                    let row = Compared {
                        bucket: 0, weight, dispatched, active: &active, candidate: &candidate,
                        baseline: &baseline, expected: &expected,
                        label: judged.then_some(Label { reward: rewards[dispatched], propensity: e }),
                    };
                    if chance > 0.0 {
                        mean += chance * probability * Learner::default().term(&row);
                    }
                }
            }
            let regret: f64 = (0..2).map(|arm| (baseline[arm] - candidate[arm]) * rewards[arm]).sum();
            prop_assert!((mean - regret).abs() < 1e-9, "{mean} {regret}");
        }

        #[test]
        fn bounds_hold_the_estimate_and_what_lies_beyond_them_is_refused(
            rows in prop::collection::vec((any::<u8>(), 0_usize..2, 1.0_f64..5.0), 20..200),
        ) {
            let (mut evidence, mut learner) = (RegretEvidence::default(), Learner::default());
            for (bucket, dispatched, reward) in rows {
                evidence.observe(&row(bucket, dispatched, reward), &mut learner);
            }
            let bounds = evidence.bounds(0.05, 300);
            prop_assert!(bounds.low <= bounds.value && bounds.value <= bounds.high);
            if bounds.high < REGRET_MAX - 0.01 {
                prop_assert!(evidence.against_at_least(bounds.high + 0.01, 300).decides(20.0_f64.ln()));
            }
        }

        #[test]
        fn evidence_merges(rows in prop::collection::vec((any::<u8>(), 0_usize..2, 1.0_f64..5.0), 1..60), cut in 0_usize..60) {
            let cut = cut.min(rows.len());
            let mut learner = Learner::default();
            let mut parts = [RegretEvidence::default(), RegretEvidence::default()];
            let mut whole = RegretEvidence::default();
            let mut again = Learner::default();
            for (index, (bucket, dispatched, reward)) in rows.iter().enumerate() {
                let row = row(*bucket, *dispatched, *reward);
                parts[usize::from(index >= cut)].observe(&row, &mut learner);
                whole.observe(&row, &mut again);
            }
            let [mut first, second] = parts;
            first.add(&second);
            prop_assert!((first.regret() - whole.regret()).abs() < 1e-9);
            prop_assert_eq!(first.labelled, whole.labelled);
        }
    }
}
