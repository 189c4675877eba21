//! The gate: whether another router version takes over from the active one, step by step.
//!
//! [`next`] is the whole of it: a pure function of the step a rollout is at, what was counted since that step began, what
//! a person asked for and the time. It never raises the weight while nothing is heard, and it takes the candidate out as
//! soon as the evidence decides. Who counts is the gateway (`gateway/server/src/evidence.rs`), who adds up is
//! `operator/reconcile/src/router_rollout.rs`. Where answers are judged, the quality that the candidate loses is tested too
//! ([`Quality`]; `weir router gate` does so from a log). Reading on: [`evidence`] and [`regret`] for what is counted,
//! `sequential.rs` for the tests, [`simulate`] for how often the gate errs.

pub mod evidence;
mod quality;
pub mod regret;
mod sequential;
pub mod simulate;
mod traffic;

use std::time::Duration;

use evidence::RolloutEvidence;
use regret::{Bounds, RegretEvidence};
use sequential::{Against, active_requests_min};
use serde::{Deserialize, Serialize};

/// Evidence older than this is stale: the weight is held. A gateway stops dispatching a candidate after the same time.
pub const STALE: Duration = Duration::from_secs(10);

/// What a rollout has to show, fixed when it begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Requests that both versions decide before the candidate is dispatched to anybody.
    pub shadow_requests: u64,
    /// Weights of the canary, in percent, ascending.
    pub steps: Vec<u32>,
    /// Requests of each version that have to end in each step.
    pub requests_per_step: u64,
    /// The candidate's 99th percentile of latency may be this many times the active version's.
    pub p99_latency_ratio_max: f64,
    /// The candidate's error rate may be above the active version's as long as it is not above this.
    pub error_rate_max: f64,
    /// Probability that a candidate within the limits is never rolled back, and that one beyond the largest regret is
    /// never promoted.
    pub confidence: f64,
    /// A rollout that is still collecting this long after it began is inconclusive; `None` waits for as long as it takes.
    #[serde(default)]
    pub deadline: Option<Duration>,
    /// What is demanded of the answers; `None` where nobody judges them.
    #[serde(default)]
    pub quality: Option<Quality>,
}

/// What a rollout has to show of the candidate's answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quality {
    /// The largest regret that is allowed, in points on the scale of 1 to 5, over all requests.
    pub regret_max: f64,
    /// Labelled disagreements that each step has to add.
    pub disagreements_per_step: u64,
    /// Labelled disagreements after which a rollout that is not decided is inconclusive.
    pub disagreements_max: u64,
}

/// Labelled disagreements before regret is tested: with fewer their spread is not known.
pub const DISAGREEMENTS_MIN: u64 = 50;

/// Where a rollout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Both versions decide, the active one is dispatched.
    Shadow,
    /// The candidate is dispatched to a share of users.
    Canary,
    /// The candidate has become the active version.
    Active,
    /// The candidate was taken out by the evidence, or because the spec was reverted.
    RolledBack,
    /// The candidate was taken out by a person, or because another version was asked for.
    Aborted,
    /// Neither pass nor failure: the weight is held, and the reason says what is missing.
    Inconclusive,
}

/// What a person asks of a rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Go on by the evidence.
    #[default]
    Continue,
    /// Hold the weight; the evidence may still take the candidate out.
    Pause,
    /// Make the candidate active now, unless the evidence has decided against it.
    Promote,
    /// Take the candidate out now.
    Abort,
}

/// Why a rollout stands where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Requests of this step are still to come.
    Collecting,
    /// A person holds it.
    Paused,
    /// No gateway has reported lately.
    EvidenceStale,
    /// The evidence speaks against the candidate without deciding.
    Undecided,
    /// Something is still missing when the time for it is over.
    DeadlineExceeded,
    /// The last step was passed.
    Passed,
    /// A person promoted it.
    Promoted,
    /// A person aborted it.
    AbortedByUser,
    /// Worse answers than the active version's or the reference's, by more than allowed.
    Regret,
    /// More errors than the active version, and than allowed.
    ErrorRate,
    /// Slower than the active version by more than allowed.
    Latency,
    /// The gateway's spec names the active version again.
    SpecReverted,
    /// The gateway's spec names a third version.
    Superseded,
}

/// What was counted since the step began, and when a gateway was last heard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// Sums over gateways since the step began.
    pub sums: RolloutEvidence,
    /// What is known of the answers, since the rollout began: against the active version first, then against a fixed
    /// reference where there is one. Empty where nobody judges.
    pub regret: Vec<RegretEvidence>,
    /// When the last report of a gateway came, since the Unix epoch.
    pub heard: Option<Duration>,
    /// Since when reports would have been heard: the rollout has begun, and this operator leads.
    pub listening: Duration,
    /// When the rollout began.
    pub began: Duration,
}

/// Where a rollout stands now, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The phase.
    pub phase: Phase,
    /// The step: 0 is the shadow, 1 the first of the policy's canary steps.
    pub step: usize,
    /// Percent of users that the candidate is dispatched to.
    pub weight: u32,
    /// Why, in a word.
    pub reason: Reason,
    /// Why, for people: what is missing, or which numbers decided.
    pub message: String,
}

impl Phase {
    /// Whether nothing follows.
    pub fn ended(self) -> bool {
        matches!(self, Self::Active | Self::RolledBack | Self::Aborted)
    }
}

impl Reason {
    /// The word in a status or a condition.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Collecting => "Collecting",
            Self::Paused => "Paused",
            Self::EvidenceStale => "EvidenceStale",
            Self::Undecided => "Undecided",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::Passed => "Passed",
            Self::Promoted => "Promoted",
            Self::AbortedByUser => "AbortedByUser",
            Self::Regret => "Regret",
            Self::ErrorRate => "ErrorRate",
            Self::Latency => "Latency",
            Self::SpecReverted => "SpecReverted",
            Self::Superseded => "Superseded",
        }
    }
}

impl Policy {
    /// Percent of users at a step; none in the shadow.
    pub fn weight(&self, step: usize) -> u32 {
        let canary = step.checked_sub(1).and_then(|step| self.steps.get(step));
        canary.copied().unwrap_or(0)
    }

    /// What each of the two tests of each step must exceed, as a natural logarithm: the chance of a false rollback is
    /// split evenly over tests and steps, so that their sum stays below `1 - confidence`. Where answers are judged, half of
    /// it is kept for them.
    pub fn ln_threshold(&self) -> f64 {
        let tests = 2.0 * self.steps.len().max(1) as f64;
        let halves = if self.quality.is_some() { 2.0 } else { 1.0 };
        (tests * halves / (1.0 - self.confidence)).ln()
    }

    /// What the test of regret against each of so many baselines must exceed for a rollback. It is one test for all
    /// steps.
    fn ln_regret_threshold(&self, baselines: usize) -> f64 {
        (2.0 * baselines.max(1) as f64 / (1.0 - self.confidence)).ln()
    }

    /// Labelled disagreements that are planned for all steps.
    fn planned(&self, quality: &Quality) -> u64 {
        quality.disagreements_per_step * self.steps.len().max(1) as u64
    }

    /// The regret against each baseline with the bounds that promotion looks at.
    pub fn bounds(&self, regret: &[RegretEvidence]) -> Vec<Bounds> {
        let Some(quality) = &self.quality else {
            return Vec::new();
        };
        let planned = self.planned(quality);
        let bounds = regret.iter();
        bounds
            .map(|of| of.bounds(1.0 - self.confidence, planned))
            .collect()
    }

    /// Requests that the active version has to end in a step. The first step also collects enough of them to know its
    /// 99th percentile at all, since without that no latency can be compared.
    fn active_requests(&self, step: usize) -> u64 {
        if step == 1 {
            self.requests_per_step
                .max(active_requests_min(self.ln_threshold()))
        } else {
            self.requests_per_step
        }
    }
}

/// Where a rollout that is at `step` stands next. Moves by one step at most; the caller counts from zero when the step
/// has changed, and never asks again about a rollout that has ended.
pub fn next(
    step: usize,
    policy: &Policy,
    evidence: &Evidence,
    action: Action,
    now: Duration,
) -> Decision {
    let held = |phase, reason, message| held(policy, step, (phase, reason), message);
    let running = running(step);
    if action == Action::Abort {
        return ended(step, Reason::AbortedByUser, "aborted by a person");
    }
    let tests = tested(policy, step, evidence);
    if let Some(test) = tests.iter().find(|test| test.decides()) {
        return ended(step, test.reason, &test.message);
    }
    match action {
        Action::Promote => return ended(step, Reason::Promoted, "promoted by a person"),
        Action::Pause => {
            let message = "paused: continue, promote or abort it".to_owned();
            return held(running, Reason::Paused, message);
        }
        Action::Continue | Action::Abort => {}
    }
    if now.saturating_sub(evidence.heard.unwrap_or(evidence.listening)) > STALE {
        let message = format!(
            "no gateway has reported for more than {} s: is one running?",
            STALE.as_secs()
        );
        return held(Phase::Inconclusive, Reason::EvidenceStale, message);
    }
    if evidence.heard.is_none() {
        let message = "waits for the first report of a gateway".to_owned();
        return held(running, Reason::Collecting, message);
    }
    let missing = traffic::missing(policy, step, &evidence.sums)
        .or_else(|| quality::missing(policy, step, &evidence.regret));
    let since_began = now.saturating_sub(evidence.began);
    if let Some(missing) = missing {
        return collecting(policy, step, since_began, missing);
    }
    if let Some(test) = tests.iter().find(|test| test.against.leans()) {
        let message = format!(
            "{}; more requests will tell whether this is chance",
            test.message
        );
        return held(Phase::Inconclusive, Reason::Undecided, message);
    }
    if step == policy.steps.len() {
        return match quality::promotes(policy, &evidence.regret) {
            quality::Promotes::Yes => ended(step, Reason::Passed, "every step was passed"),
            quality::Promotes::NotYet(missing) => collecting(policy, step, since_began, missing),
            quality::Promotes::Undecided(message) => {
                held(Phase::Inconclusive, Reason::Undecided, message)
            }
        };
    }
    Decision {
        phase: Phase::Canary,
        step: step + 1,
        weight: policy.weight(step + 1),
        reason: Reason::Collecting,
        message: format!("step {} of {} begins", step + 1, policy.steps.len()),
    }
}

/// The weight stays as it is.
fn held(policy: &Policy, step: usize, at: (Phase, Reason), message: String) -> Decision {
    Decision {
        phase: at.0,
        step,
        weight: policy.weight(step),
        reason: at.1,
        message,
    }
}

fn running(step: usize) -> Phase {
    if step == 0 {
        Phase::Shadow
    } else {
        Phase::Canary
    }
}

/// Something is missing this long after the rollout began: it is waited for until the deadline, and then told.
fn collecting(policy: &Policy, step: usize, since_began: Duration, missing: String) -> Decision {
    match policy.deadline.filter(|deadline| since_began > *deadline) {
        None => held(policy, step, (running(step), Reason::Collecting), missing),
        Some(deadline) => {
            let message = format!("still missing after {} s: {missing}", deadline.as_secs());
            let at = (Phase::Inconclusive, Reason::DeadlineExceeded);
            held(policy, step, at, message)
        }
    }
}

/// Every test of a step. The shadow dispatches no candidate, so there is nothing to test.
fn tested(policy: &Policy, step: usize, evidence: &Evidence) -> Vec<Test> {
    if step == 0 {
        return Vec::new();
    }
    let mut tests = traffic::tested(policy, &evidence.sums);
    tests.extend(quality::tested(policy, &evidence.regret));
    tests
}

/// The end of a rollout at `step`, for this reason.
pub fn ended(step: usize, reason: Reason, message: &str) -> Decision {
    let phase = match reason {
        Reason::Passed | Reason::Promoted => Phase::Active,
        Reason::Regret | Reason::ErrorRate | Reason::Latency | Reason::SpecReverted => {
            Phase::RolledBack
        }
        _ => Phase::Aborted,
    };
    Decision {
        phase,
        step,
        weight: if phase == Phase::Active { 100 } else { 0 },
        reason,
        message: message.to_owned(),
    }
}

/// One of the tests of a step.
struct Test {
    against: Against,
    /// What the test must exceed to take the candidate out.
    ln_threshold: f64,
    reason: Reason,
    message: String,
}

impl Test {
    fn decides(&self) -> bool {
        self.against.decides(self.ln_threshold)
    }
}

#[cfg(test)]
mod tests;
