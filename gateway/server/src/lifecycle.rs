//! What a gateway says of itself beyond its pools: whether its plan is the newest, what it could not take over, whether it
//! is leaving.
//!
//! Facts only: whoever follows an operator or a signal reports them here, `/readyz`, metrics and headers show them. A
//! gateway without an operator (`weir up`) is never stale. Reading on: `http/health.rs`.

use crate::gateway::Gateway;
use crate::http::can_answer;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use weir_memory_live::Presence;

/// A plan that its operator has not confirmed for this long is stale.
pub const STALE_AFTER: Duration = Duration::from_secs(10);

/// How long a gateway that starts waits for its memory before it is ready without it.
const MEMORY_PATIENCE: Duration = Duration::from_secs(10);

/// What is known; see [`Gateway::standing`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether the plan comes from an operator.
    pub follows: bool,
    /// When the operator confirmed the plan last.
    pub confirmed: Option<Instant>,
    /// Why the newest plan was refused; `None` once a newer one is served.
    pub refused: Option<&'static str>,
    /// Plans refused since the process began, by reason.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Digest of the router artifact that the plan names and nobody has: another router decides meanwhile.
    pub router_missing: Option<String>,
    /// Whether the gateway is leaving: it answers, and asks to be sent nothing more.
    pub draining: bool,
}

#[derive(Debug)]
pub(crate) struct Lifecycle {
    standing: Mutex<Standing>,
    began: Instant,
    /// Whether it was ready once: from then on it is without its memory too.
    was_ready: AtomicBool,
}

impl Standing {
    /// Whether the operator that should confirm the plan has not done so for [`STALE_AFTER`].
    pub fn is_stale(&self) -> bool {
        let lately = |confirmed: Instant| confirmed.elapsed() < STALE_AFTER;
        self.follows && !self.confirmed.is_some_and(lately)
    }
}

impl Lifecycle {
    /// Of a gateway that begins now.
    pub(crate) fn begin() -> Self {
        Self {
            standing: Mutex::default(),
            began: Instant::now(),
            was_ready: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a gateway that could answer is ready, `now`, with a memory that is away or not.
    fn becomes_ready(&self, memory_away: bool, now: Instant) -> bool {
        let waits = memory_away && now.saturating_duration_since(self.began) < MEMORY_PATIENCE;
        if !waits {
            self.was_ready.store(true, Ordering::Relaxed);
        }
        self.was_ready.load(Ordering::Relaxed)
    }
}

impl Gateway {
    /// What this gateway says of itself now.
    pub fn standing(&self) -> Standing {
        self.lifecycle().lock().clone()
    }

    /// Whether the plan is not confirmed by the operator that it comes from.
    pub fn is_stale(&self) -> bool {
        self.lifecycle().lock().is_stale()
    }

    /// Whether this gateway is leaving.
    pub(crate) fn is_draining(&self) -> bool {
        self.lifecycle().lock().draining
    }

    /// Whether requests shall be sent here: some model can answer, or will once it is up, the gateway is not leaving, and one that
    /// starts has reached its memory or waited for it.
    pub(crate) fn is_ready(&self) -> bool {
        let serving = self.serving();
        if self.is_draining() || !can_answer(&serving) {
            return false;
        }
        let presence = serving.memory.as_ref().map(|memory| memory.presence());
        let memory_away = matches!(presence, Some(Presence::Away(_)));
        self.lifecycle().becomes_ready(memory_away, Instant::now())
    }

    /// From now on the plan comes from an operator, and is stale while that does not confirm it.
    pub fn follow_operator(&self) {
        self.lifecycle().lock().follows = true;
    }

    /// The operator lives and says that the plan that is served is the newest one.
    pub fn plan_confirmed(&self) {
        self.lifecycle().lock().confirmed = Some(Instant::now());
    }

    /// A plan was refused, for one of a few fixed reasons, and the present one stays.
    pub fn plan_refused(&self, reason: &'static str) {
        let mut standing = self.lifecycle().lock();
        standing.refused = Some(reason);
        *standing.refusals.entry(reason).or_default() += 1;
    }

    /// The newest plan is served.
    pub fn plan_taken(&self) {
        self.lifecycle().lock().refused = None;
    }

    /// The artifact that the plan names is not to be had, or not missing any more.
    pub fn router_missing(&self, sha256: Option<String>) {
        self.lifecycle().lock().router_missing = sha256;
    }

    /// From now on `/readyz` says no and connections are closed after the answer at hand; requests are still answered.
    pub fn drain(&self) {
        self.lifecycle().lock().draining = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plan_that_an_operator_should_confirm_grows_stale() {
        let mut standing = Standing::default();
        assert!(!standing.is_stale());
        standing.follows = true;
        assert!(standing.is_stale(), "never confirmed");
        standing.confirmed = Some(Instant::now());
        assert!(!standing.is_stale());
        standing.confirmed = Instant::now().checked_sub(STALE_AFTER);
        assert!(standing.is_stale());
    }

    #[test]
    fn a_gateway_that_starts_waits_for_its_memory_but_not_for_ever() {
        let lifecycle = Lifecycle::begin();
        let at = |seconds| lifecycle.began + Duration::from_secs(seconds);
        assert!(!lifecycle.becomes_ready(true, at(9)));
        assert!(lifecycle.becomes_ready(true, at(10)));
    }

    #[test]
    fn a_gateway_that_was_ready_stays_so_without_its_memory() {
        let lifecycle = Lifecycle::begin();
        assert!(lifecycle.becomes_ready(false, lifecycle.began));
        assert!(lifecycle.becomes_ready(true, lifecycle.began));
    }
}
