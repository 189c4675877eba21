//! `Gateway`: what is served now, and the one place where it is swapped.
//!
//! [`Gateway::apply`] checks a plan and its assets (`check.rs`), then swaps both at once; requests in flight finish on what
//! they began with (`serving.rs`). Decides nothing about a request: that is `answer.rs`.

pub use crate::check::PlanError;
pub use crate::serving::{Assets, MemoryAsset, Serving};

use crate::answer_cache::AnswerCache;
use crate::check::check;
use crate::counts::Counts;
use crate::decisions::Decisions;
use crate::evidence::{Evidence, RolloutReport};
use crate::familiarity::{Familiarity, FamiliarityReport};
use crate::jwt::Issuer;
use crate::lifecycle::Lifecycle;
use crate::quota::Quotas;
use crate::recall::want_vectors;
use crate::record::{Feedback, Record};
use crate::speed::Speeds;
use crate::write_back::Summaries;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};
use weir_engine::Engines;
use weir_memory_live::Presence;
use weir_plan::{Endpoint, GatewayPlan};
use weir_router::drift::Drift;
use weir_router::ope::Label;

/// A gateway. Cheap to clone; all clones are the same gateway.
#[derive(Clone, Debug)]
pub struct Gateway {
    inner: Arc<Inner>,
}

/// What became of a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scored {
    /// Nothing is known of the decision in this process.
    Unknown,
    /// It is in the decision's record and in the log.
    Recorded,
    /// It is also a label of the running rollout.
    Counted,
}

#[derive(Debug)]
struct Inner {
    serving: RwLock<Arc<Serving>>,
    engines: Engines,
    counts: Counts,
    speeds: Speeds,
    decisions: Decisions,
    evidence: Evidence,
    quotas: Quotas,
    issuer: Issuer,
    familiarity: Familiarity,
    lifecycle: Lifecycle,
    summaries: Summaries,
    answers: AnswerCache,
    /// Held while what is served is replaced.
    replacing: Mutex<()>,
}

impl Gateway {
    /// A gateway that serves `plan`.
    pub fn new(plan: GatewayPlan, assets: Assets) -> Result<Self, PlanError> {
        check(&plan, &assets)?;
        let (engines, quotas) = (Engines::new(), Quotas::default());
        let decisions = Decisions::charging(quotas.clone());
        decisions.log_to(plan.logs.sink, assets.state_dir.as_deref())?;
        decisions.traces.follow(&plan.gateway, plan.traces.as_ref());
        engines.set_pools(plan.served());
        let counts = Counts::default();
        let answers = AnswerCache::new(plan.cache);
        let issuer = Issuer::new();
        issuer.follow(&plan);
        let serving = Serving::new(plan, assets, engines.clone(), counts.clone());
        let serving = Arc::new(serving);
        let evidence = Evidence::default();
        evidence.follow(serving.candidate_plan());
        let serving = RwLock::new(serving);
        let inner = Inner {
            serving,
            engines,
            counts,
            speeds: Speeds::default(),
            decisions,
            evidence,
            quotas,
            issuer,
            familiarity: Familiarity::default(),
            lifecycle: Lifecycle::begin(),
            summaries: Summaries::default(),
            answers,
            replacing: Mutex::new(()),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Serves another plan from now on. When it is refused the present one stays.
    pub fn apply(&self, plan: GatewayPlan, assets: Assets) -> Result<(), PlanError> {
        check(&plan, &assets)?;
        let _one = self.inner.replacing.lock();
        self.inner
            .decisions
            .log_to(plan.logs.sink, assets.state_dir.as_deref())?;
        let (engines, counts) = (self.inner.engines.clone(), self.inner.counts.clone());
        self.replace(Serving::new(plan, assets, engines, counts));
        Ok(())
    }

    /// Serves a pool at other endpoints from now on; everything else stays. False when the plan has no such pool.
    pub fn set_endpoints(&self, pool: &str, endpoints: Vec<Endpoint>) -> bool {
        let _one = self.inner.replacing.lock();
        let mut serving = Serving::clone(&self.serving());
        let Some(pool) = serving.plan.served_mut(pool) else {
            return false;
        };
        pool.endpoints = endpoints;
        self.replace(serving);
        true
    }

    fn replace(&self, serving: Serving) {
        self.inner.engines.set_pools(serving.plan.served());
        self.inner.evidence.follow(serving.candidate_plan());
        self.inner.answers.resize(serving.plan.cache);
        let plan = &serving.plan;
        self.inner
            .decisions
            .traces
            .follow(&plan.gateway, plan.traces.as_ref());
        self.inner.issuer.follow(plan);
        *self
            .inner
            .serving
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(serving);
    }

    /// What is served now.
    pub fn serving(&self) -> Arc<Serving> {
        Arc::clone(
            &self
                .inner
                .serving
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// The HTTP surfaces of this gateway, all on one port.
    pub fn http(&self) -> axum::Router {
        crate::http::router(self.clone())
    }

    /// The surfaces for clients, and those for who runs the gateway: metrics and health, for a port of their own.
    pub fn http_apart(&self) -> (axum::Router, axum::Router) {
        crate::http::routers(self.clone())
    }

    /// The engines.
    pub fn engines(&self) -> &Engines {
        &self.inner.engines
    }

    /// What was counted of the present rollout since this process began to count it.
    pub fn rollout_report(&self) -> Option<RolloutReport> {
        self.inner.evidence.report()
    }

    /// The last requests of this process, as the active version of the router compares them with those of its training.
    pub fn familiarity_report(&self) -> Option<FamiliarityReport> {
        self.inner.familiarity.report(&self.serving().router)
    }

    /// How they differ; `None` where the active version cannot tell.
    pub fn drift(&self) -> Option<Drift> {
        self.inner.familiarity.drift(&self.serving().router)
    }

    /// Counts that the pool of the memory's vectors is wanted while passages wait for theirs: no request says so, since the
    /// memory's own process asks that pool.
    pub fn want_pending_vectors(&self) {
        let serving = self.serving();
        let presence = serving.memory.as_ref().map(|memory| memory.presence());
        if matches!(presence, Some(Presence::Here(counts)) if counts.pending > 0) {
            want_vectors(&serving);
        }
    }

    /// A new name for a decision; later ones sort later.
    pub fn new_decision_id(&self) -> String {
        new_id()
    }

    /// What was recorded about a decision, if it is still kept.
    pub fn decision(&self, id: &str) -> Option<Record> {
        self.inner.decisions.get(id)
    }

    /// Adds a score to a decision; one with a propensity is also the label of a rollout's disagreement.
    pub fn feedback(&self, id: &str, feedback: &Feedback) -> Scored {
        let judged = |propensity| {
            let reward = feedback.score;
            self.inner.evidence.judged(id, Label { reward, propensity })
        };
        let counts = feedback.propensity.is_some_and(judged);
        let kept = self.inner.decisions.feedback(id, feedback, counts);
        match (counts, kept) {
            (true, _) => Scored::Counted,
            (false, true) => Scored::Recorded,
            (false, false) => Scored::Unknown,
        }
    }

    /// Rows that the log could not take or write.
    pub(crate) fn rows_lost(&self) -> u64 {
        self.inner.decisions.rows_lost()
    }

    pub(crate) fn decisions(&self) -> &Decisions {
        &self.inner.decisions
    }

    pub(crate) fn lifecycle(&self) -> &Lifecycle {
        &self.inner.lifecycle
    }

    pub(crate) fn evidence(&self) -> &Evidence {
        &self.inner.evidence
    }

    pub(crate) fn quotas(&self) -> &Quotas {
        &self.inner.quotas
    }

    pub(crate) fn issuer(&self) -> &Issuer {
        &self.inner.issuer
    }

    pub(crate) fn familiarity(&self) -> &Familiarity {
        &self.inner.familiarity
    }

    pub(crate) fn summarised(&self) -> &Summaries {
        &self.inner.summaries
    }

    pub(crate) fn answers(&self) -> &AnswerCache {
        &self.inner.answers
    }

    pub(crate) fn speeds(&self) -> &Speeds {
        &self.inner.speeds
    }
}

/// A UUID of version 7 whose random part begins with the time below the millisecond (RFC 9562, section 6.2, method 3). The
/// process's own generator fills the rest: a call of the system for each would be felt.
pub(crate) fn new_id() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let fraction = u64::from(now.subsec_nanos() % 1_000_000) * 4096 / 1_000_000;
    let mut random: [u8; 10] = rand::random();
    random[..2].copy_from_slice(&fraction.to_be_bytes()[6..]);
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &random);
    id.into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_of_version_7_and_later_ones_sort_later() {
        let mut last = String::new();
        for _ in 0..20 {
            std::thread::sleep(std::time::Duration::from_micros(50));
            let id = new_id();
            let parsed: uuid::Uuid = id.parse().unwrap();
            assert_eq!(parsed.get_version_num(), 7);
            assert!(id > last, "{last} {id}");
            last = id;
        }
    }
}
