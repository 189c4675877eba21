//! Replicas of pools: how many requests each has in flight, its breaker, and which one is asked next.
//!
//! State outlives plans: an endpoint that stays in a plan keeps its breaker. Nothing here does I/O.
//! Reading on: `engines.rs` for the retry loop, `breaker.rs` for the state machine.

use crate::breaker::{Admission, Breaker, Failure};
use crate::error::{EngineError, Phase};
use rand::Rng;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use weir_plan::{Endpoint, Pool};

/// Rest of an overloaded replica that did not say how long.
const REST: Duration = Duration::from_millis(500);

/// All replicas of all pools.
#[derive(Debug, Default)]
pub(crate) struct Replicas {
    by_pool: Mutex<HashMap<String, Vec<Arc<Replica>>>>,
}

#[derive(Debug)]
pub(crate) struct Replica {
    url: String,
    in_flight: AtomicUsize,
    breaker: Mutex<Breaker>,
}

/// The replicas that one request has not asked yet.
pub(crate) struct Attempts<'a> {
    pool: &'a Pool,
    left: Vec<(usize, Arc<Replica>)>,
    current: Option<(usize, Arc<Replica>)>,
    again: Option<(usize, Arc<Replica>)>,
    asked_again: bool,
    waits: Vec<Duration>,
    last: Option<EngineError>,
}

/// One request at one replica; the replica counts it until this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    replica: Arc<Replica>,
    /// Position of the endpoint in the pool.
    pub(crate) endpoint: usize,
    /// Whether another replica could still be asked after this one.
    pub(crate) others: bool,
    settled: bool,
}

impl Replicas {
    /// Forgets replicas that are in no pool any more, keeps the state of those that stay.
    pub(crate) fn set_pools(&self, pools: &[&Pool]) {
        let mut by_pool = lock(&self.by_pool);
        by_pool.retain(|name, _| pools.iter().any(|pool| pool.name == *name));
        for pool in pools {
            let known = by_pool.entry(pool.name.clone()).or_default();
            known.retain(|replica| pool.endpoints.iter().any(|end| end.url == replica.url));
            for endpoint in &pool.endpoints {
                Replica::known(known, endpoint);
            }
        }
    }

    /// Requests in flight at the current replicas of a pool.
    pub(crate) fn load(&self, pool: &str) -> usize {
        let by_pool = lock(&self.by_pool);
        by_pool.get(pool).map_or(0, |replicas| {
            replicas.iter().map(|replica| replica.load()).sum()
        })
    }

    /// Whether some replica of the pool would be asked now.
    pub(crate) fn available(&self, pool: &Pool) -> bool {
        let now = Instant::now();
        self.of(pool).iter().any(|(_, replica)| {
            !matches!(lock(&replica.breaker).admission(now), Admission::Wait(_))
        })
    }

    pub(crate) fn attempts<'a>(&self, pool: &'a Pool) -> Attempts<'a> {
        Attempts {
            pool,
            left: self.of(pool),
            current: None,
            again: None,
            asked_again: false,
            waits: Vec::new(),
            last: None,
        }
    }

    fn of(&self, pool: &Pool) -> Vec<(usize, Arc<Replica>)> {
        let mut by_pool = lock(&self.by_pool);
        let known = by_pool.entry(pool.name.clone()).or_default();
        let endpoints = pool.endpoints.iter().enumerate();
        endpoints
            .map(|(index, endpoint)| (index, Replica::known(known, endpoint)))
            .collect()
    }
}

impl Replica {
    fn known(known: &mut Vec<Arc<Self>>, endpoint: &Endpoint) -> Arc<Self> {
        if let Some(replica) = known.iter().find(|replica| replica.url == endpoint.url) {
            return Arc::clone(replica);
        }
        let replica = Arc::new(Self {
            url: endpoint.url.clone(),
            in_flight: AtomicUsize::new(0),
            breaker: Mutex::new(Breaker::new()),
        });
        known.push(Arc::clone(&replica));
        replica
    }

    fn load(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}

impl Attempts<'_> {
    /// Takes the replica with the fewest requests in flight, a random one of equals; skips those that rest.
    ///
    /// # Errors
    /// The last attempt's error, or why nobody was asked at all.
    pub(crate) fn next(&mut self) -> Result<Lease, EngineError> {
        let now = Instant::now();
        while let Some(best) = self.least_loaded() {
            let (endpoint, replica) = self.left.swap_remove(best);
            let mut breaker = lock(&replica.breaker);
            match breaker.admission(now) {
                Admission::Open => {}
                Admission::Probe => breaker.take_probe(),
                Admission::Wait(wait) => {
                    self.waits.push(wait);
                    continue;
                }
            }
            drop(breaker);
            self.current = Some((endpoint, Arc::clone(&replica)));
            return Ok(Lease::new(replica, endpoint, !self.left.is_empty()));
        }
        if let Some((endpoint, replica)) = self.again.take() {
            return Ok(Lease::new(replica, endpoint, false));
        }
        Err(self.give_up())
    }

    /// Takes note of a failed attempt. A connection that broke before an answer may have been a kept-alive one that the
    /// engine had just closed, so the same replica is asked once more when no other is left.
    ///
    /// # Errors
    /// The same error, when trying elsewhere cannot help.
    pub(crate) fn failed(&mut self, error: EngineError) -> Result<(), EngineError> {
        if !error.retryable() {
            return Err(error);
        }
        if matches!(error, EngineError::Reset { .. }) && !self.asked_again {
            self.asked_again = true;
            self.again = self.current.take();
        }
        self.last = Some(error);
        Ok(())
    }

    fn least_loaded(&self) -> Option<usize> {
        let mut rng = rand::rng();
        let keys = self.left.iter().enumerate();
        keys.min_by_key(|(_, (_, replica))| (replica.load(), rng.random::<u32>()))
            .map(|(i, _)| i)
    }

    fn give_up(&mut self) -> EngineError {
        let pool = self.pool.name.clone();
        match (self.last.take(), self.waits.iter().min()) {
            (Some(error), _) => error,
            (None, Some(wait)) => EngineError::BreakerOpen {
                pool,
                retry_after: *wait,
            },
            (None, None) => EngineError::NoEndpoint { pool },
        }
    }
}

impl Lease {
    fn new(replica: Arc<Replica>, endpoint: usize, others: bool) -> Self {
        replica.in_flight.fetch_add(1, Ordering::Relaxed);
        Self {
            replica,
            endpoint,
            others,
            settled: false,
        }
    }

    /// Something of the answer has arrived.
    pub(crate) fn answering(&self) {
        lock(&self.replica.breaker).answering();
    }

    /// The replica answered well enough to be asked again.
    pub(crate) fn succeeded(&mut self) {
        self.settled = true;
        lock(&self.replica.breaker).succeeded();
    }

    /// The replica failed; what that means for its breaker depends on how.
    pub(crate) fn failed(&mut self, error: &EngineError) {
        self.settled = true;
        let mut breaker = lock(&self.replica.breaker);
        let now = Instant::now();
        match error {
            EngineError::Refused { .. } => breaker.failed(Failure::Certain, now),
            EngineError::Status {
                status: 429,
                retry_after,
                ..
            } => {
                breaker.failed(Failure::Rest(retry_after.unwrap_or(REST)), now);
            }
            EngineError::Status {
                status: 503,
                retry_after: Some(wait),
                ..
            } => {
                breaker.failed(Failure::Rest(*wait), now);
            }
            EngineError::Status { status, .. } if *status >= 500 => {
                breaker.failed(Failure::Counted, now);
            }
            EngineError::Reset { .. }
            | EngineError::BadEvent { .. }
            | EngineError::TimedOut {
                phase: Phase::FirstEvent,
                ..
            } => {
                breaker.failed(Failure::Counted, now);
            }
            // It answered, and the request was at fault, or the answer was longer than the time it had.
            _ => breaker.succeeded(),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.replica.in_flight.fetch_sub(1, Ordering::Relaxed);
        if !self.settled {
            lock(&self.replica.breaker).abandon_probe(Instant::now());
        }
    }
}

/// The data behind these locks is valid after every statement, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
