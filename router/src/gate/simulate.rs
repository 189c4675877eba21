//! Simulated rollouts: how often the gate errs, and how soon it decides.
//!
//! Users come back, stay with their version and differ by an effect that all their answers share. The versions disagree on
//! a share of requests; there the candidate's answer is worth less by as much as makes the regret over all requests the
//! true one. Errors and latencies of both versions are alike, so that whatever takes the candidate out is the evidence.

use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::evidence::RolloutEvidence;
use super::regret::{Compared, Learner, RegretEvidence};
use super::{Action, Decision, Evidence, Phase, Policy, Quality, Reason, next};
use crate::ope::Label;
use crate::statistics::normal;

/// What a rollout is simulated in.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    /// Points that the candidate's answers are worth less, over all requests.
    pub regret: f64,
    /// Share of requests that the versions decide differently.
    pub disagreement: f64,
    /// Users.
    pub users: usize,
    /// Standard deviation of what a user's answers share, in points.
    pub user_effect: f64,
    /// Correlation with quality of what the artifact expects, 0 to 1.
    pub foresight: f64,
    /// The rollout.
    pub policy: Policy,
    /// Requests between two looks.
    pub look_every: u64,
}

/// How a simulated rollout ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// Promoted, rolled back, or neither.
    pub outcome: Outcome,
    /// Why.
    pub reason: String,
    /// Requests until then.
    pub requests: u64,
    /// Labelled disagreements until then.
    pub labelled: u64,
}

/// What became of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It is active.
    Promoted,
    /// It was taken out.
    RolledBack,
    /// The evidence did not decide.
    Inconclusive,
}

/// Shares of many ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rates {
    /// Rollouts.
    pub runs: usize,
    /// Share promoted.
    pub promoted: f64,
    /// Share rolled back.
    pub rolled_back: f64,
    /// Share that did not decide.
    pub inconclusive: f64,
    /// Labelled disagreements at the median of the rollouts that decided.
    pub labelled_median: u64,
}

impl World {
    /// A rollout in the usual steps with this true regret.
    pub fn new(regret: f64) -> Self {
        Self {
            regret,
            disagreement: 0.2,
            users: 2_000,
            user_effect: 0.5,
            foresight: 0.3,
            policy: Policy {
                shadow_requests: 100,
                steps: vec![5, 25, 50],
                requests_per_step: 100,
                p99_latency_ratio_max: 1.1,
                error_rate_max: 0.01,
                confidence: 0.95,
                deadline: None,
                quality: Some(Quality {
                    regret_max: 0.1,
                    disagreements_per_step: 100,
                    disagreements_max: 3_000,
                }),
            },
            look_every: 50,
        }
    }

    /// One rollout, looked at all the time.
    pub fn run(&self, seed: u64) -> End {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let users: Vec<User> = (0..self.users.max(1))
            .map(|_| User::new(self, rng))
            .collect();
        let now = Duration::from_secs(1_000);
        let mut evidence = Evidence {
            sums: RolloutEvidence::default(),
            regret: vec![RegretEvidence::default()],
            heard: Some(now),
            listening: now,
            began: now,
        };
        evidence.sums.shadowed = self.policy.shadow_requests;
        let mut learner = Learner::default();
        let mut at = next(0, &self.policy, &evidence, Action::Continue, now);
        let mut requests = self.policy.shadow_requests;
        loop {
            for _ in 0..self.look_every.max(1) {
                let user = &users[rng.random_range(0..users.len())];
                self.request(user, at.weight, (&mut evidence, &mut learner), rng);
            }
            requests += self.look_every.max(1);
            let step = at.step;
            at = next(step, &self.policy, &evidence, Action::Continue, now);
            if at.step != step {
                evidence.sums = RolloutEvidence::default();
            }
            let exhausted = self.exhausted(&evidence);
            if at.phase.ended() || exhausted {
                return End::of(&at, requests, evidence.regret[0].labelled);
            }
        }
    }

    /// Whether the most evidence that is waited for has come.
    fn exhausted(&self, evidence: &Evidence) -> bool {
        let quality = self.policy.quality.as_ref();
        let most = quality.map_or(0, |quality| quality.disagreements_max);
        evidence.regret[0].labelled >= most
    }

    fn request(
        &self,
        user: &User,
        weight: u32,
        (evidence, learner): (&mut Evidence, &mut Learner),
        rng: &mut ChaCha8Rng,
    ) {
        let candidate = u32::from(user.bucket) * 100 < weight * 256;
        let sums = &mut evidence.sums;
        let version = if candidate {
            &mut sums.candidate
        } else {
            &mut sums.active
        };
        version.requests += 1;
        version.latency.record(400.0 * (0.4 * normal(rng)).exp());
        let disagree = rng.random::<f64>() < self.disagreement;
        // A question's ease is in part what the artifact foresees.
        let ease = normal(rng);
        let seen = self.foresight * ease + (1.0 - self.foresight.powi(2)).sqrt() * normal(rng);
        let lost = if candidate {
            self.regret / self.disagreement
        } else {
            0.0
        };
        // Quality is 1 or 5; its chance leaves room for what the candidate loses.
        let right = (0.55 + 0.12 * ease - lost / 4.0).clamp(0.0, 1.0);
        let quality = if rng.random::<f64>() < right {
            5.0
        } else {
            1.0
        };
        let arms: [[f64; 2]; 2] = [[1.0, 0.0], [0.0, 1.0]];
        let tried = arms[usize::from(disagree)];
        let row = Compared {
            bucket: user.bucket,
            weight,
            dispatched: usize::from(candidate && disagree),
            active: &arms[0],
            candidate: &tried,
            baseline: &arms[0],
            expected: &[3.2 + 0.5 * seen; 2],
            label: disagree.then_some(Label {
                reward: quality + user.effect,
                propensity: 1.0,
            }),
        };
        evidence.regret[0].observe(&row, learner);
    }
}

struct User {
    bucket: u8,
    effect: f64,
}

impl User {
    fn new(world: &World, rng: &mut ChaCha8Rng) -> Self {
        Self {
            bucket: rng.random(),
            effect: world.user_effect * normal(rng),
        }
    }
}

impl End {
    fn of(decision: &Decision, requests: u64, labelled: u64) -> Self {
        let outcome = match decision.phase {
            Phase::Active => Outcome::Promoted,
            Phase::RolledBack => Outcome::RolledBack,
            _ => Outcome::Inconclusive,
        };
        let reason = match outcome {
            Outcome::Inconclusive => Reason::Undecided,
            _ => decision.reason,
        };
        Self {
            outcome,
            reason: reason.as_str().to_owned(),
            requests,
            labelled,
        }
    }
}

impl Rates {
    /// Of these ends.
    pub fn of(ends: &[End]) -> Self {
        let runs = ends.len();
        let share = |outcome: Outcome| {
            let of = ends.iter().filter(|end| end.outcome == outcome);
            of.count() as f64 / runs.max(1) as f64
        };
        let decided = ends
            .iter()
            .filter(|end| end.outcome != Outcome::Inconclusive);
        let mut labelled: Vec<u64> = decided.map(|end| end.labelled).collect();
        labelled.sort_unstable();
        Self {
            runs,
            promoted: share(Outcome::Promoted),
            rolled_back: share(Outcome::RolledBack),
            inconclusive: share(Outcome::Inconclusive),
            labelled_median: labelled.get(labelled.len() / 2).copied().unwrap_or(0),
        }
    }
}
