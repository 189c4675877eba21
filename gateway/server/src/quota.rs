//! What a tenant may use in a minute or a day, and what it has used.
//!
//! A budget is a bucket: it fills evenly up to what one period allows, and what is used is taken out of it. A request needs
//! one of the requests at once. What its answer takes of the tokens and of the money is known when it has ended and taken
//! out then, so that a bucket can be in debt; the next request waits until it is not. The plan says what this process's share is,
//! and a process that starts begins with full buckets. Reading on: `rescue.rs` for what a refusal looks like.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use weir_plan::{Beyond, Budgets, TenantLimits};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest wait that is ever told; what is further away is as good as never.
const WAIT_MAX: Duration = DAY;

/// The budgets of every tenant that has some. Cheap to clone; all clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quotas {
    tenants: Arc<Mutex<HashMap<String, Tenant>>>,
}

/// What is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Requests,
    Tokens,
    Cost,
}

/// A request that is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Within,
    /// A budget is used up: the smallest model answers.
    Beyond,
}

/// A budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the tenant's budget of {} is used up: try again in {} s, or ask whoever runs the gateway for a larger one",
    .kind.per(), .wait.as_secs_f64().ceil().max(1.0)
)]
pub(crate) struct OverBudget {
    pub(crate) kind: Kind,
    /// Until the next request is let in, if nothing else is used meanwhile.
    pub(crate) wait: Duration,
}

/// A bucket of each kind, in their order.
#[derive(Debug)]
struct Tenant([Bucket; Kind::ALL.len()]);

/// What is left of a budget, if there is one.
#[derive(Debug)]
struct Bucket {
    kind: Kind,
    /// What one period allows.
    limit: Option<f64>,
    left: f64,
    at: Instant,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Requests, Self::Tokens, Self::Cost];

    /// The word in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Cost => "cost",
        }
    }

    fn per(self) -> &'static str {
        match self {
            Self::Requests => "requests a minute",
            Self::Tokens => "tokens a minute",
            Self::Cost => "cost a day",
        }
    }

    fn period(self) -> Duration {
        match self {
            Self::Requests | Self::Tokens => MINUTE,
            Self::Cost => DAY,
        }
    }

    fn limit(self, budgets: &Budgets) -> Option<f64> {
        match self {
            Self::Requests => budgets.requests_per_minute,
            Self::Tokens => budgets.tokens_per_minute,
            Self::Cost => budgets.cost_per_day,
        }
    }

    /// What a bucket holds at most: a share of less than one request still lets one in, now and then.
    fn most(self, limit: f64) -> f64 {
        match self {
            Self::Requests => limit.max(1.0),
            Self::Tokens | Self::Cost => limit,
        }
    }

    /// What has to be there for the next request.
    fn needed(self) -> f64 {
        match self {
            Self::Requests => 1.0,
            Self::Tokens | Self::Cost => f64::MIN_POSITIVE,
        }
    }
}

impl Quotas {
    /// Takes one request out of the tenant's budget, unless one of its budgets is used up. One that `may_degrade` is taken
    /// beyond those of tokens and cost where the plan says so, and told as [`Taken::Beyond`].
    pub(crate) fn take(
        &self,
        (tenant, limits): (&str, Option<&TenantLimits>),
        may_degrade: bool,
        now: Instant,
    ) -> Result<Taken, OverBudget> {
        let Some(limits) = limits.filter(|limits| !limits.budgets.is_empty()) else {
            return Ok(Taken::Within);
        };
        let budgets = &limits.budgets;
        let mut tenants = self.lock();
        let kept = tenants.entry(tenant.to_owned());
        let kept = kept.or_insert_with(|| Tenant::full(budgets, now));
        kept.follow(budgets, now);
        let waits = kept.0.iter().filter_map(Bucket::wait);
        let over: Vec<OverBudget> = waits.collect();
        let degrades = may_degrade && limits.beyond == Beyond::Degrade;
        let refuses = |over: &OverBudget| over.kind == Kind::Requests || !degrades;
        let refusing = over.iter().copied().filter(refuses);
        if let Some(over) = refusing.max_by_key(|over| over.wait) {
            return Err(over);
        }
        kept.bucket(Kind::Requests).take(1.0);
        Ok(match over.is_empty() {
            true => Taken::Within,
            false => Taken::Beyond,
        })
    }

    /// Takes what an answer used.
    pub(crate) fn used(&self, tenant: &str, tokens: u64, cost: f64) {
        if let Some(kept) = self.lock().get_mut(tenant) {
            #[expect(
                clippy::cast_precision_loss,
                reason = "an answer has far fewer than 2^52 tokens"
            )]
            kept.bucket(Kind::Tokens).take(tokens as f64);
            kept.bucket(Kind::Cost).take(cost);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Tenant>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tenant {
    fn full(budgets: &Budgets, now: Instant) -> Self {
        Self(Kind::ALL.map(|kind| Bucket::full(kind, kind.limit(budgets), now)))
    }

    /// Fills every bucket for the time that has passed, by what the plan says now.
    fn follow(&mut self, budgets: &Budgets, now: Instant) {
        for bucket in &mut self.0 {
            bucket.follow(bucket.kind.limit(budgets), now);
        }
    }

    fn bucket(&mut self, kind: Kind) -> &mut Bucket {
        &mut self.0[kind as usize]
    }
}

impl Bucket {
    fn full(kind: Kind, limit: Option<f64>, now: Instant) -> Self {
        Self {
            kind,
            limit,
            left: limit.map_or(0.0, |limit| kind.most(limit)),
            at: now,
        }
    }

    fn follow(&mut self, limit: Option<f64>, now: Instant) {
        let (Some(before), Some(new)) = (self.limit, limit) else {
            *self = Self::full(self.kind, limit, now);
            return;
        };
        // The time that has passed was under the limit before.
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        let filled = self.left + before * passed / self.kind.period().as_secs_f64();
        *self = Self {
            limit,
            left: filled.min(self.kind.most(new)),
            at: now,
            kind: self.kind,
        };
    }

    /// What is missing for the next request and how long until it is there; `None` when it is there now.
    fn wait(&self) -> Option<OverBudget> {
        let (kind, limit) = (self.kind, self.limit?);
        let missing = kind.needed() - self.left;
        (missing > 0.0).then(|| {
            let seconds = missing / limit * kind.period().as_secs_f64();
            let wait = Duration::try_from_secs_f64(seconds);
            let wait = wait.map_or(WAIT_MAX, |wait| wait.min(WAIT_MAX));
            OverBudget { kind, wait }
        })
    }

    fn take(&mut self, amount: f64) {
        if self.limit.is_some() {
            self.left -= amount;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use weir_plan::Privacy;

    fn limits(requests: Option<f64>, tokens: Option<f64>, cost: Option<f64>) -> TenantLimits {
        TenantLimits {
            budgets: Budgets {
                requests_per_minute: requests,
                tokens_per_minute: tokens,
                cost_per_day: cost,
            },
            ..TenantLimits::within(Privacy::Cloud)
        }
    }

    fn after(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn requests_beyond_a_minutes_wait_until_the_next_one_is_due() {
        let (quotas, start) = (Quotas::default(), Instant::now());
        let limits = limits(Some(60.0), None, None);
        for _ in 0..60 {
            quotas.take(("acme", Some(&limits)), false, start).unwrap();
        }
        let over = quotas
            .take(("acme", Some(&limits)), false, start)
            .unwrap_err();
        assert_eq!(over.kind, Kind::Requests);
        assert_eq!(over.wait, Duration::from_secs(1));
        quotas
            .take(("acme", Some(&limits)), false, after(start, 1.1))
            .unwrap();
        assert!(
            quotas
                .take(("acme", Some(&limits)), false, after(start, 1.2))
                .is_err()
        );
        quotas.take(("other", Some(&limits)), false, start).unwrap();
        quotas.take(("acme", None), false, start).unwrap();
    }

    #[test]
    fn what_an_answer_used_is_paid_back_before_the_next_request() {
        let (quotas, start) = (Quotas::default(), Instant::now());
        let limits = limits(None, Some(600.0), None);
        quotas.take(("acme", Some(&limits)), false, start).unwrap();
        quotas.used("acme", 1_200, 0.0);
        let over = quotas
            .take(("acme", Some(&limits)), false, start)
            .unwrap_err();
        assert_eq!((over.kind, over.wait.as_secs()), (Kind::Tokens, 60));
        assert!(
            over.to_string()
                .contains("tokens a minute is used up: try again in 60 s"),
            "{over}"
        );
        quotas
            .take(("acme", Some(&limits)), false, after(start, 60.1))
            .unwrap();
    }

    #[test]
    fn the_longest_wait_is_told_and_a_refused_request_is_not_counted() {
        let (quotas, start) = (Quotas::default(), Instant::now());
        let limits = limits(Some(2.0), Some(10.0), Some(1.0));
        quotas.take(("acme", Some(&limits)), false, start).unwrap();
        quotas.used("acme", 20, 1.5);
        for _ in 0..5 {
            let over = quotas
                .take(("acme", Some(&limits)), false, start)
                .unwrap_err();
            assert_eq!((over.kind, over.wait.as_secs()), (Kind::Cost, 43_200));
        }
        let later = after(start, 43_201.0);
        quotas.take(("acme", Some(&limits)), false, later).unwrap();
        quotas.take(("acme", Some(&limits)), false, later).unwrap();
        assert_eq!(
            quotas
                .take(("acme", Some(&limits)), false, later)
                .unwrap_err()
                .kind,
            Kind::Requests
        );
    }

    #[test]
    fn a_small_budget_of_cost_is_no_larger_at_first_than_a_days() {
        let (quotas, start) = (Quotas::default(), Instant::now());
        let limits = limits(None, None, Some(0.01));
        quotas.take(("acme", Some(&limits)), false, start).unwrap();
        quotas.used("acme", 0, 0.02);
        let over = quotas.take(("acme", Some(&limits)), false, start);
        assert_eq!(over.unwrap_err().kind, Kind::Cost);
    }

    #[test]
    fn another_limit_holds_from_then_on_and_none_forgets_the_debt() {
        let (quotas, start) = (Quotas::default(), Instant::now());
        let (small, large) = (
            limits(None, Some(60.0), None),
            limits(None, Some(6_000.0), None),
        );
        quotas.take(("acme", Some(&small)), false, start).unwrap();
        quotas.used("acme", 160, 0.0);
        assert_eq!(
            quotas
                .take(("acme", Some(&small)), false, start)
                .unwrap_err()
                .wait
                .as_secs(),
            100
        );
        assert_eq!(
            quotas
                .take(("acme", Some(&large)), false, start)
                .unwrap_err()
                .wait
                .as_secs(),
            1
        );
        let other = limits(Some(5.0), None, None);
        quotas.take(("acme", Some(&other)), false, start).unwrap();
        quotas.take(("acme", Some(&small)), false, start).unwrap();
    }

    proptest! {
        /// Whatever comes when: what was let in is never more than what a full bucket and the time allow.
        #[test]
        fn no_more_is_let_in_than_the_limit(limit in 0.2f64..200.0, gaps in prop::collection::vec(0.0f64..5.0, 1..300)) {
            let (quotas, start) = (Quotas::default(), Instant::now());
            let limits = limits(Some(limit), None, None);
            let (mut seconds, mut let_in) = (0.0, 0.0);
            for gap in gaps {
                seconds += gap;
                let taken = quotas.take(("acme", Some(&limits)), false, after(start, seconds));
                let_in += f64::from(u8::from(taken.is_ok()));
                prop_assert!(let_in <= Kind::Requests.most(limit) + limit * seconds / 60.0 + 1e-6);
            }
        }
    }
}
