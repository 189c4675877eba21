//! `Comparison`: a canary's request as both versions of the router chose for it, for the regret of the candidate.
//!
//! Made of a finished row, in the gateway that wrote it and wherever its log is read. Given the random draw that both share
//! each version does one thing: where they agree nothing has to be judged. Who counts is `evidence.rs`, what follows from
//! it is weir-router's gate.

use crate::evidence::Role;
use crate::record::{Record, is_fault};
use std::collections::{HashMap, VecDeque};
use weir_router::gate::regret::Compared;
use weir_router::ope::Label;

/// What an answer is worth that failed behind the gateway; nobody has to judge it.
pub const WORST: f64 = 1.0;

/// Disagreements that wait for a judge; the oldest makes room for the newest.
const UNJUDGED_MAX: usize = 16_384;

/// What the active version does, and a candidate that agrees.
const ACTIVE: [f64; 2] = [1.0, 0.0];
/// What a candidate does that differs.
const OTHER: [f64; 2] = [0.0, 1.0];

/// A canary's request as both versions chose for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    bucket: u8,
    weight: u32,
    dispatched: usize,
    candidate: [f64; 2],
    expected: [f64; 2],
}

impl Comparison {
    /// `None` where an answer says nothing of the versions: outside of a canary, where a guardrail or an error decided for
    /// one of them, where it was kept from before, or where the client ended the request.
    pub fn of(row: &Record) -> Option<Self> {
        let rollout = row.rollout.as_ref().filter(|of| of.weight > 0)?;
        let own = row.choice.as_ref().filter(|_| row.guardrail.is_none())?;
        let other = rollout.shadow.choice.as_ref()?;
        let error = row.outcome.error.as_deref();
        if row.is_cached() || error.is_some_and(|kind| !is_fault(kind)) {
            return None;
        }
        let (active, candidate) = match rollout.dispatched {
            Role::Active => (own, other),
            Role::Candidate => (other, own),
        };
        let differs = !rollout.shadow.agrees;
        let expected = [active, candidate].map(|of| {
            let known = active.outcome.qualities.get(of.outcome.arm);
            known.copied().unwrap_or(3.0)
        });
        Some(Self {
            bucket: rollout.bucket,
            weight: rollout.weight,
            dispatched: usize::from(differs && rollout.dispatched == Role::Candidate),
            candidate: if differs { OTHER } else { ACTIVE },
            expected,
        })
    }

    /// Whether a judge of the answer says which version is better.
    pub fn differs(&self) -> bool {
        self.candidate != ACTIVE
    }

    /// As the gate compares it.
    pub fn compared(&self, label: Option<Label>) -> Compared<'_> {
        Compared {
            bucket: self.bucket,
            weight: self.weight,
            dispatched: self.dispatched,
            active: &ACTIVE,
            candidate: &self.candidate,
            baseline: &ACTIVE,
            expected: &self.expected,
            label,
        }
    }
}

/// Disagreements that nobody has judged yet, by the id of their decision.
#[derive(Debug, Default)]
pub(crate) struct Unjudged {
    waiting: HashMap<String, Comparison>,
    order: VecDeque<String>,
}

impl Unjudged {
    pub(crate) fn insert(&mut self, id: &str, comparison: Comparison) {
        self.order.push_back(id.to_owned());
        self.waiting.insert(id.to_owned(), comparison);
        if self.order.len() > UNJUDGED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.waiting.remove(&oldest);
        }
    }

    /// The disagreement of a decision, which waits no longer.
    pub(crate) fn take(&mut self, id: &str) -> Option<Comparison> {
        self.waiting.remove(id)
    }
}

#[cfg(test)]
impl Comparison {
    /// The active version answered half of the users, and this one.
    pub(crate) fn disagreement() -> Self {
        Self {
            bucket: 7,
            weight: 50,
            dispatched: 0,
            candidate: OTHER,
            expected: [4.0, 3.0],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_disagreement_makes_room_for_the_newest() {
        let mut unjudged = Unjudged::default();
        for number in 0..=UNJUDGED_MAX {
            unjudged.insert(&number.to_string(), Comparison::disagreement());
        }
        assert_eq!(unjudged.waiting.len(), UNJUDGED_MAX);
        assert_eq!(unjudged.take("0"), None);
        assert!(unjudged.take("1").is_some() && unjudged.take("1").is_none());
    }
}
