//! What this process counts of a rollout: totals since its start, for the reports to the operator.
//!
//! Owns the counters of the rollout that the plan names, and keeps them while it names none, as during a pause: the operator
//! knows what was reported before and believes no totals that are smaller. A request is open from its dispatch until its row is finished,
//! whichever way it ends: a guard that is dropped counts. Requests that the versions decided differently wait for a judge's
//! score and are counted once. Nothing is concluded here; that is weir-router's gate. Which version a request belongs to is
//! `candidate.rs`, what is compared `comparison.rs`.

use crate::comparison::{Comparison, Unjudged, WORST};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use weir_plan::CandidatePlan;
use weir_router::gate::evidence::{RolloutEvidence, VersionEvidence};
use weir_router::gate::regret::{Learner, RegretEvidence};
use weir_router::ope::Label;

/// A version's part in a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// It serves everybody else.
    Active,
    /// It is tried.
    Candidate,
}

impl Role {
    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Candidate => "candidate",
        }
    }
}

/// The totals of one rollout since this process began to count it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RolloutReport {
    /// Name of the `RouterRollout`.
    pub rollout: String,
    /// Its uid: one that is made again under its name is another.
    pub uid: String,
    /// The how-manieth rollout this is that the process counts.
    pub counting: u64,
    /// What was counted.
    pub evidence: RolloutEvidence,
    /// What judges said of the answers.
    pub regret: RegretEvidence,
}

/// The counters. Cheap to clone; all clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    rollout: Option<Counting>,
    /// The one that the plan named last, while it names none.
    left: Option<Counting>,
    /// Rollouts that were counted.
    countings: u64,
    /// Over all rollouts, for the metrics.
    total: RolloutEvidence,
    /// Labelled disagreements of all rollouts, for the metrics.
    labelled: u64,
}

/// One rollout as it is counted.
#[derive(Debug, Default)]
struct Counting {
    report: RolloutReport,
    learner: Learner,
    unjudged: Unjudged,
}

impl Counting {
    fn judged(&mut self, comparison: &Comparison, label: Label) {
        let row = comparison.compared(Some(label));
        self.report.regret.judged(&row, &mut self.learner);
    }
}

impl Inner {
    /// The rollouts that are still counted.
    fn countings(&mut self) -> impl Iterator<Item = &mut Counting> {
        self.rollout.iter_mut().chain(&mut self.left)
    }

    /// Both places where something of a rollout is counted; only the total when it is neither the present one nor the one
    /// that was left: what was open then ends later.
    fn of(&mut self, rollout: &str) -> impl Iterator<Item = &mut RolloutEvidence> {
        let known = self.rollout.iter_mut().chain(&mut self.left);
        known
            .filter(move |counting| counting.report.rollout == rollout)
            .map(|counting| &mut counting.report.evidence)
            .chain([&mut self.total])
    }

    fn begin(&mut self, candidate: &CandidatePlan) -> Counting {
        self.countings += 1;
        let report = RolloutReport {
            rollout: candidate.rollout.clone(),
            uid: candidate.uid.clone(),
            counting: self.countings,
            ..RolloutReport::default()
        };
        Counting {
            report,
            ..Counting::default()
        }
    }
}

impl Evidence {
    /// Counts for this rollout from now on. The totals of one that is named again after none was go on; after another one,
    /// and for one that was made again under its name, they begin at zero.
    pub(crate) fn follow(&self, candidate: Option<&CandidatePlan>) {
        let mut inner = self.lock();
        let known = inner.rollout.take().or_else(|| inner.left.take());
        let Some(candidate) = candidate else {
            inner.left = known;
            return;
        };
        let is_same = |known: &Counting| {
            known.report.rollout == candidate.rollout && known.report.uid == candidate.uid
        };
        let counting = known.filter(is_same);
        let counting = counting.unwrap_or_else(|| inner.begin(candidate));
        inner.rollout = Some(counting);
    }

    /// The present rollout's totals.
    pub(crate) fn report(&self) -> Option<RolloutReport> {
        let inner = self.lock();
        let counting = inner.rollout.as_ref()?;
        Some(counting.report.clone())
    }

    /// The totals of all rollouts.
    pub(crate) fn total(&self) -> RolloutEvidence {
        self.lock().total.clone()
    }

    /// Labelled disagreements of all rollouts.
    pub(crate) fn labelled(&self) -> u64 {
        self.lock().labelled
    }

    /// A judge's score of a decision. Whether it was counted: it belongs to a disagreement that waited for one, so that no
    /// decision counts twice.
    pub(crate) fn judged(&self, id: &str, label: Label) -> bool {
        let mut inner = self.lock();
        let counted = inner.countings().any(|counting| {
            let waited = counting.unjudged.take(id);
            waited.is_some_and(|comparison| {
                counting.judged(&comparison, label);
                true
            })
        });
        inner.labelled += u64::from(counted);
        counted
    }

    /// Both versions have decided a request.
    pub(crate) fn decided(&self, rollout: &str, agree: bool) {
        for sums in self.lock().of(rollout) {
            sums.shadowed += 1;
            sums.disagreements += u64::from(!agree);
        }
    }

    /// A version is dispatched.
    pub(crate) fn dispatched(&self, rollout: &str, role: Role) -> Dispatched {
        for sums in self.lock().of(rollout) {
            version(sums, role).open += 1;
        }
        Dispatched {
            evidence: self.clone(),
            rollout: rollout.to_owned(),
            role,
            ended: false,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that a version was dispatched for, and that has not ended.
#[derive(Debug)]
pub(crate) struct Dispatched {
    evidence: Evidence,
    rollout: String,
    role: Role,
    ended: bool,
}

impl Dispatched {
    /// The request gave an answer that can be compared, or failed, which is the worst one.
    pub(crate) fn compared(&self, id: &str, comparison: Comparison, failed: bool) {
        let mut inner = self.evidence.lock();
        let mut judged = 0;
        let named = |counting: &&mut Counting| counting.report.rollout == self.rollout;
        for counting in inner.countings().filter(named) {
            let row = comparison.compared(None);
            counting.report.regret.decided(&row);
            if !comparison.differs() {
                continue;
            }
            if failed {
                let worst = Label {
                    reward: WORST,
                    propensity: 1.0,
                };
                counting.judged(&comparison, worst);
                judged += 1;
            } else {
                counting.unjudged.insert(id, comparison);
            }
        }
        inner.labelled += judged;
    }

    /// The request has ended after this time.
    pub(crate) fn end(mut self, milliseconds: f64, failed: bool) {
        self.count(milliseconds, failed);
    }

    /// The request is none of the rollout's: no version was asked.
    pub(crate) fn withdraw(mut self) {
        self.ended = true;
        for sums in self.evidence.lock().of(&self.rollout) {
            let version = version(sums, self.role);
            version.open = version.open.saturating_sub(1);
        }
    }

    fn count(&mut self, milliseconds: f64, failed: bool) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        for sums in self.evidence.lock().of(&self.rollout) {
            let version = version(sums, self.role);
            // One that was made again under its name has begun at zero in between.
            version.open = version.open.saturating_sub(1);
            version.requests += 1;
            version.errors += u64::from(failed);
            version.latency.record(milliseconds);
        }
    }
}

impl Drop for Dispatched {
    /// Whoever held it died without finishing its row.
    fn drop(&mut self) {
        self.count(f64::INFINITY, true);
    }
}

fn version(sums: &mut RolloutEvidence, role: Role) -> &mut VersionEvidence {
    match role {
        Role::Active => &mut sums.active,
        Role::Candidate => &mut sums.candidate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(rollout: &str, uid: &str) -> CandidatePlan {
        CandidatePlan {
            router: None,
            rollout: rollout.to_owned(),
            uid: uid.to_owned(),
            phase: weir_plan::CandidatePhase::Shadow,
        }
    }

    fn counted(evidence: &Evidence) -> (u64, u64, u64) {
        let candidate = evidence.report().unwrap_or_default().evidence.candidate;
        (candidate.requests, candidate.errors, candidate.open)
    }

    #[test]
    fn a_request_is_open_until_it_ends_and_one_that_dies_has_failed() {
        let evidence = Evidence::default();
        evidence.follow(Some(&candidate("a", "1")));
        let (first, second, third) = (
            evidence.dispatched("a", Role::Candidate),
            evidence.dispatched("a", Role::Candidate),
            evidence.dispatched("a", Role::Candidate),
        );
        assert_eq!(counted(&evidence), (0, 0, 3));
        first.end(12.0, false);
        second.end(13.0, true);
        assert_eq!(counted(&evidence), (2, 1, 1));
        drop(third);
        assert_eq!(counted(&evidence), (3, 2, 0));
        assert_eq!(evidence.total().candidate.latency.total(), 3);
    }

    #[test]
    fn totals_go_on_for_the_same_rollout_and_begin_again_for_another() {
        let evidence = Evidence::default();
        evidence.follow(Some(&candidate("a", "1")));
        evidence.decided("a", false);
        let late = evidence.dispatched("a", Role::Candidate);
        evidence.follow(Some(&candidate("a", "1")));
        assert_eq!(
            evidence.report().map(|report| report.evidence.shadowed),
            Some(1)
        );
        evidence.follow(Some(&candidate("b", "2")));
        late.end(5.0, true);
        assert_eq!(
            counted(&evidence),
            (0, 0, 0),
            "it belonged to another rollout"
        );
        assert_eq!(evidence.total().candidate.errors, 1);
        evidence.follow(None);
        assert_eq!(evidence.report(), None);
    }

    /// A pause takes the candidate out of the plan, and the operator believes no totals that are smaller than before it.
    #[test]
    fn totals_go_on_after_a_pause_with_what_was_open_when_it_began() {
        let evidence = Evidence::default();
        evidence.follow(Some(&candidate("a", "1")));
        evidence.dispatched("a", Role::Candidate).end(5.0, false);
        let open = evidence.dispatched("a", Role::Candidate);
        let before = evidence.report().unwrap_or_default();
        evidence.follow(None);
        evidence.follow(None);
        assert_eq!(evidence.report(), None);
        open.end(5.0, true);
        evidence.follow(Some(&candidate("a", "1")));
        assert_eq!(counted(&evidence), (2, 1, 0));
        let after = evidence.report().unwrap_or_default();
        assert_eq!(after.counting, before.counting);
    }

    #[test]
    fn one_that_is_made_again_under_its_name_begins_another_counting_at_zero() {
        let evidence = Evidence::default();
        for pause in [false, true] {
            evidence.follow(Some(&candidate("a", "1")));
            evidence.dispatched("a", Role::Candidate).end(5.0, true);
            let before = evidence.report().unwrap_or_default();
            if pause {
                evidence.follow(None);
            }
            evidence.follow(Some(&candidate("a", "2")));
            assert_eq!(counted(&evidence), (0, 0, 0));
            let after = evidence.report().unwrap_or_default();
            assert!(after.counting > before.counting);
        }
    }

    const GOOD: Label = Label {
        reward: 5.0,
        propensity: 1.0,
    };

    fn judged(evidence: &Evidence) -> (u64, u64) {
        let regret = evidence.report().unwrap_or_default().regret;
        (regret.disagreements, regret.labelled)
    }

    #[test]
    fn a_disagreement_is_judged_once_also_in_a_pause_and_one_of_another_rollout_never() {
        let evidence = Evidence::default();
        evidence.follow(Some(&candidate("a", "1")));
        for id in ["first", "second", "third"] {
            let request = evidence.dispatched("a", Role::Active);
            request.compared(id, Comparison::disagreement(), false);
            request.end(5.0, false);
        }
        assert!(evidence.judged("first", GOOD));
        assert!(!evidence.judged("first", GOOD) && !evidence.judged("fourth", GOOD));
        evidence.follow(None);
        assert!(evidence.judged("second", GOOD), "a judge knows of no pause");
        evidence.follow(Some(&candidate("a", "1")));
        assert_eq!(judged(&evidence), (3, 2));
        evidence.follow(Some(&candidate("a", "2")));
        assert!(!evidence.judged("third", GOOD), "it was made again");
        assert_eq!((judged(&evidence), evidence.labelled()), ((0, 0), 2));
    }
}
