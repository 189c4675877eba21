//! How much each pool is asked: totals since the process began, and what goes on now.
//!
//! Totals only grow, also while a pool leaves the plan and comes back, so that a reader may take the latest for all that
//! happened. Counting only; what follows from it is the operator's. Reading on: `replica.rs`, which counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Load of one pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolLoad {
    /// Name of the pool.
    pub pool: String,
    /// Requests at its replicas now, also at those that have left the plan.
    pub in_flight: u32,
    /// Requests that wait now for a place, or for the first replica of a pool at zero.
    pub waiting: u32,
    /// Requests that asked the pool.
    pub requests: u64,
    /// Of them, those that got no whole answer from it, unless the client was at fault or went away.
    pub errors: u64,
    /// Requests that chose the pool while it was at zero: those that waited and those that another pool answered, or that
    /// did without it. Of a pool that another process asks for vectors, all that need one.
    pub wanted: u64,
    /// Requests for which a second replica was asked while the first said nothing.
    pub hedged: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    in_flight: AtomicU32,
    waiting: AtomicU32,
    requests: AtomicU64,
    errors: AtomicU64,
    wanted: AtomicU64,
    hedged: AtomicU64,
}

/// Counts one request, now, until it is dropped.
#[derive(Debug)]
pub(crate) struct Present {
    counts: Arc<Counts>,
    of: fn(&Counts) -> &AtomicU32,
}

impl Counts {
    pub(crate) fn requested(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn wanted(&self) {
        self.wanted.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn hedged(&self) {
        self.hedged.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn in_flight(self: &Arc<Self>) -> Present {
        self.present(|counts| &counts.in_flight)
    }

    pub(crate) fn waiting(self: &Arc<Self>) -> Present {
        self.present(|counts| &counts.waiting)
    }

    pub(crate) fn now_waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed) as usize
    }

    fn present(self: &Arc<Self>, of: fn(&Self) -> &AtomicU32) -> Present {
        of(self).fetch_add(1, Ordering::Relaxed);
        let counts = Arc::clone(self);
        Present { counts, of }
    }

    pub(crate) fn load(&self, pool: &str) -> PoolLoad {
        PoolLoad {
            pool: pool.to_owned(),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            wanted: self.wanted.load(Ordering::Relaxed),
            hedged: self.hedged.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        (self.of)(&self.counts).fetch_sub(1, Ordering::Relaxed);
    }
}
