//! What this process counts of a rollout: totals since its start, for the reports to the operator.
//!
//! Owns the counters of the rollout that the plan names. A request is open from its dispatch until its row is finished,
//! whichever way it ends: a guard that is dropped counts. Nothing is concluded here; that is weir-router's gate. Which
//! version a request belongs to is `candidate.rs`.

use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use weir_router::gate::evidence::{RolloutEvidence, VersionEvidence};

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
    /// What was counted.
    pub evidence: RolloutEvidence,
}

/// The counters. Cheap to clone; all clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    rollout: Option<RolloutReport>,
    /// Over all rollouts, for the metrics.
    total: RolloutEvidence,
}

impl Inner {
    /// Both places where something of a rollout is counted; only the total when it is not the present one.
    fn of(&mut self, rollout: &str) -> impl Iterator<Item = &mut RolloutEvidence> {
        let present = self
            .rollout
            .as_mut()
            .filter(|report| report.rollout == rollout);
        present
            .map(|report| &mut report.evidence)
            .into_iter()
            .chain([&mut self.total])
    }
}

impl Evidence {
    /// Counts for this rollout from now on. The totals of one that is named again go on.
    pub(crate) fn follow(&self, rollout: Option<&str>) {
        let mut inner = self.lock();
        if inner.rollout.as_ref().map(|report| report.rollout.as_str()) == rollout {
            return;
        }
        inner.rollout = rollout.map(|rollout| RolloutReport {
            rollout: rollout.to_owned(),
            ..RolloutReport::default()
        });
    }

    /// The present rollout's totals.
    pub(crate) fn report(&self) -> Option<RolloutReport> {
        self.lock().rollout.clone()
    }

    /// The totals of all rollouts.
    pub(crate) fn total(&self) -> RolloutEvidence {
        self.lock().total.clone()
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
    /// The request has ended after this time.
    pub(crate) fn end(mut self, milliseconds: f64, failed: bool) {
        self.count(milliseconds, failed);
    }

    fn count(&mut self, milliseconds: f64, failed: bool) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        for sums in self.evidence.lock().of(&self.rollout) {
            let version = version(sums, self.role);
            // A rollout that was left and is named again has begun at zero in between.
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

    fn counted(evidence: &Evidence) -> (u64, u64, u64) {
        let candidate = evidence.report().unwrap_or_default().evidence.candidate;
        (candidate.requests, candidate.errors, candidate.open)
    }

    #[test]
    fn a_request_is_open_until_it_ends_and_one_that_dies_has_failed() {
        let evidence = Evidence::default();
        evidence.follow(Some("a"));
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
        evidence.follow(Some("a"));
        evidence.decided("a", false);
        let late = evidence.dispatched("a", Role::Candidate);
        evidence.follow(Some("a"));
        assert_eq!(
            evidence.report().map(|report| report.evidence.shadowed),
            Some(1)
        );
        evidence.follow(Some("b"));
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
}
