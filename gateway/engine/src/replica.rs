//! Replicas of pools: how many requests each has in flight, its breaker, and what it has read; and the places of each pool.
//!
//! State outlives plans: an endpoint that stays in a plan keeps its breaker. Nothing here does I/O.
//! Reading on: `queue.rs` for whose turn it is, `attempts.rs` for who is asked next, `engines.rs` for the retry loop, `breaker.rs` for the state machine.

use crate::attempts::Attempts;
use crate::breaker::{Admission, Breaker, Failure};
use crate::client::Target;
use crate::error::{EngineError, Phase};
use crate::load::{Counts, PoolLoad, Present};
use crate::prefix::{Held, Prefix};
use crate::queue::{Place, Priority, Queue};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use weir_plan::{Endpoint, Pool};

/// Rest of an overloaded replica that did not say how long.
const REST: Duration = Duration::from_millis(500);
/// A replica that said nothing for a shorter time may have worked as ever, for a client that had none to spare.
const SILENCE: Duration = Duration::from_secs(5);

/// All replicas of all pools.
#[derive(Debug)]
pub(crate) struct Replicas {
    by_pool: Mutex<HashMap<String, Known>>,
    /// Told each time the pools change.
    changed: watch::Sender<()>,
}

/// What is known of one pool.
#[derive(Debug, Default)]
struct Known {
    /// As the newest plan has it; `None` when that plan has no such pool.
    served: Option<Pool>,
    replicas: Vec<Arc<Replica>>,
    counts: Arc<Counts>,
    queue: Arc<Queue>,
}

/// What a request has that may ask a pool now.
#[derive(Debug)]
pub(crate) struct Turn {
    /// `None` where no replica may be asked: trying says why.
    pub(crate) place: Option<Arc<Place>>,
    /// How long it waited; not at zero, the pool's replicas may be others by now.
    pub(crate) waited: Duration,
}

#[derive(Debug)]
pub(crate) struct Replica {
    url: String,
    in_flight: AtomicUsize,
    pub(crate) breaker: Mutex<Breaker>,
    pub(crate) held: Mutex<Held>,
    /// How it was addressed last.
    target: Mutex<Option<Arc<Target>>>,
}

/// A replica with its address.
pub(crate) type Asked = (Arc<Target>, Arc<Replica>);

/// One request at one replica; the replica counts it until this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    replica: Arc<Replica>,
    counts: Arc<Counts>,
    /// Where the replica is.
    pub(crate) target: Arc<Target>,
    /// Whether another replica could still be asked after this one.
    pub(crate) others: bool,
    began: bool,
    settled: bool,
    _in_flight: Present,
    /// `None` for a question that is asked without regard to how much the pool has to do.
    _place: Option<Arc<Place>>,
}

/// What has become of a pool that had no endpoint.
pub(crate) enum Live {
    /// It has some.
    Warm(Box<Pool>),
    /// It still has none.
    Cold,
    /// The newest plan has another pool of this name, or none.
    Gone,
}

impl Default for Replicas {
    fn default() -> Self {
        Self {
            by_pool: Mutex::default(),
            changed: watch::channel(()).0,
        }
    }
}

impl Replicas {
    /// Forgets replicas that are in no pool any more, keeps the state of those that stay and every pool's totals.
    pub(crate) fn set_pools(&self, pools: &[&Pool]) {
        let mut by_pool = lock(&self.by_pool);
        let names: HashSet<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
        for (name, known) in &mut *by_pool {
            if !names.contains(name.as_str()) {
                known.served = None;
                known.replicas.clear();
            }
        }
        for pool in pools {
            let known = by_pool.entry(pool.name.clone()).or_default();
            let kept = |replica: &Arc<Replica>| pool.endpoints.iter().any(|e| e.url == replica.url);
            known.replicas.retain(kept);
            for endpoint in &pool.endpoints {
                Replica::known(&mut known.replicas, endpoint);
            }
            known.served = Some((*pool).clone());
            known.queue.resize(places(pool, pool.endpoints.len()));
        }
        drop(by_pool);
        self.changed.send_replace(());
    }

    /// Told each time the pools change.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// What the newest plan says of a pool.
    pub(crate) fn live(&self, pool: &Pool) -> Live {
        let by_pool = lock(&self.by_pool);
        let served = by_pool
            .get(&pool.name)
            .and_then(|known| known.served.as_ref());
        match served {
            Some(served) if !is_same(served, pool) => Live::Gone,
            Some(served) if served.endpoints.is_empty() => Live::Cold,
            Some(served) => Live::Warm(Box::new(served.clone())),
            None => Live::Gone,
        }
    }

    /// The counters of a pool.
    pub(crate) fn counts(&self, pool: &str) -> Arc<Counts> {
        let mut by_pool = lock(&self.by_pool);
        Arc::clone(&by_pool.entry(pool.to_owned()).or_default().counts)
    }

    /// Load of every pool of the newest plan, by name.
    pub(crate) fn loads(&self) -> Vec<PoolLoad> {
        let by_pool = lock(&self.by_pool);
        let served = by_pool.iter().filter(|(_, known)| known.served.is_some());
        let mut loads: Vec<PoolLoad> = served
            .map(|(name, known)| known.counts.load(name))
            .collect();
        drop(by_pool);
        loads.sort_unstable_by(|a, b| a.pool.cmp(&b.pool));
        loads
    }

    /// Requests in flight at the current replicas of a pool, and those that wait for it.
    pub(crate) fn load(&self, pool: &str) -> usize {
        let by_pool = lock(&self.by_pool);
        by_pool.get(pool).map_or(0, |known| {
            let in_flight = known.replicas.iter().map(|replica| replica.load());
            in_flight.sum::<usize>() + known.counts.now_waiting()
        })
    }

    /// Whether some replica of the pool would be asked now.
    pub(crate) fn available(&self, pool: &Pool) -> bool {
        let mut by_pool = lock(&self.by_pool);
        let known = by_pool.entry(pool.name.clone()).or_default();
        known.open(pool).next().is_some()
    }

    /// The replica with the fewest requests in flight, for a question beside the requests: it is not counted, and the
    /// breaker hears nothing of how it ends.
    pub(crate) fn aside(&self, pool: &Pool) -> Option<Arc<Target>> {
        let now = Instant::now();
        let mut by_pool = lock(&self.by_pool);
        let replicas = by_pool.entry(pool.name.clone()).or_default().of(pool);
        drop(by_pool);
        let open = |(_, replica): &&Asked| {
            matches!(lock(&replica.breaker).admission(now), Admission::Open)
        };
        let best = (replicas.iter().filter(open)).min_by_key(|(_, replica)| replica.load());
        best.map(|(target, _)| Arc::clone(target))
    }

    /// Waits until it is a request's turn to ask a pool.
    ///
    /// # Errors
    /// That would be after the deadline.
    async fn turn(
        &self,
        pool: &Pool,
        priority: Priority,
        deadline: Instant,
    ) -> Result<Turn, EngineError> {
        let (open, queue, counts) = {
            let mut by_pool = lock(&self.by_pool);
            let known = by_pool.entry(pool.name.clone()).or_default();
            let open = known.open(pool).count();
            (open, Arc::clone(&known.queue), Arc::clone(&known.counts))
        };
        if open == 0 {
            return Ok(Turn::at_once());
        }
        let entered = queue.enter(places(pool, open), priority, deadline, || counts.waiting());
        match entered.await {
            Ok((place, waited)) => Ok(Turn {
                place: Some(Arc::new(place)),
                waited,
            }),
            Err(late) => {
                counts.requested();
                counts.failed();
                Err(EngineError::Busy {
                    pool: pool.name.clone(),
                    retry_after: late.retry_after,
                })
            }
        }
    }

    /// Begins a request to a pool when it is its turn, with a prompt where its replicas keep what they have read.
    ///
    /// # Errors
    /// That would be after the deadline.
    pub(crate) async fn begin<'a>(
        &'a self,
        pool: &'a Pool,
        prefix: Option<&'a Prefix>,
        (priority, deadline): (Priority, Instant),
    ) -> Result<Attempts<'a>, EngineError> {
        let turn = self.turn(pool, priority, deadline).await?;
        Ok(self.attempts(pool, prefix, turn))
    }

    /// The attempts of a request whose turn it is.
    pub(crate) fn attempts<'a>(
        &'a self,
        pool: &'a Pool,
        prefix: Option<&'a Prefix>,
        turn: Turn,
    ) -> Attempts<'a> {
        let newest = match turn.waited {
            Duration::ZERO => None,
            _ => match self.live(pool) {
                Live::Warm(newest) => Some(newest),
                Live::Cold | Live::Gone => None,
            },
        };
        let mut by_pool = lock(&self.by_pool);
        let known = by_pool.entry(pool.name.clone()).or_default();
        let counts = Arc::clone(&known.counts);
        let left = known.of(newest.as_deref().unwrap_or(pool));
        drop(by_pool);
        Attempts::new(self, pool, prefix, (counts, left), turn)
    }

    /// Replicas of the pool in the newest plan that `pool`, of an older one, lacks.
    pub(crate) fn newer(&self, pool: &Pool) -> Vec<Asked> {
        let Live::Warm(mut served) = self.live(pool) else {
            return Vec::new();
        };
        let is_new = |endpoint: &Endpoint| pool.endpoints.iter().all(|e| e.url != endpoint.url);
        served.endpoints.retain(is_new);
        let mut by_pool = lock(&self.by_pool);
        by_pool.entry(pool.name.clone()).or_default().of(&served)
    }
}

/// How many requests a pool works on at once with so many replicas.
fn places(pool: &Pool, replicas: usize) -> usize {
    replicas * pool.slots.max(1) as usize
}

/// Whether a request for one of two pools of the same name may be answered by the other.
fn is_same(one: &Pool, other: &Pool) -> bool {
    one.model == other.model
        && one.upstream_model == other.upstream_model
        && one.privacy == other.privacy
        && one.engine == other.engine
}

impl Turn {
    /// Without a place, for what is asked whatever the pool has to do.
    pub(crate) fn at_once() -> Self {
        Self {
            place: None,
            waited: Duration::ZERO,
        }
    }
}

impl Known {
    /// Endpoints of the pool that may be asked now.
    fn open<'a>(&mut self, pool: &'a Pool) -> impl Iterator<Item = &'a Endpoint> {
        let now = Instant::now();
        pool.endpoints.iter().filter(move |endpoint| {
            let replica = Replica::known(&mut self.replicas, endpoint);
            let admission = lock(&replica.breaker).admission(now);
            !matches!(admission, Admission::Wait(_))
        })
    }

    fn of(&mut self, pool: &Pool) -> Vec<Asked> {
        let endpoints = pool.endpoints.iter();
        endpoints
            .map(|endpoint| {
                let replica = Replica::known(&mut self.replicas, endpoint);
                (replica.target(pool, endpoint), replica)
            })
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
            held: Mutex::default(),
            target: Mutex::default(),
        });
        known.push(Arc::clone(&replica));
        replica
    }

    /// The replica's address as the plan that has this pool says it.
    fn target(&self, pool: &Pool, endpoint: &Endpoint) -> Arc<Target> {
        let mut last = lock(&self.target);
        match &*last {
            Some(target) if target.is_of(pool, endpoint) => Arc::clone(target),
            _ => Arc::clone(last.insert(Arc::new(Target::new(pool, endpoint)))),
        }
    }

    pub(crate) fn load(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}

impl Lease {
    pub(crate) fn new(
        (target, replica): Asked,
        others: bool,
        counts: &Arc<Counts>,
        place: Option<Arc<Place>>,
    ) -> Self {
        replica.in_flight.fetch_add(1, Ordering::Relaxed);
        Self {
            replica,
            counts: Arc::clone(counts),
            target,
            others,
            began: false,
            settled: false,
            _in_flight: counts.in_flight(),
            _place: place,
        }
    }

    /// Something of the answer has arrived.
    pub(crate) fn answering(&mut self) {
        self.began = true;
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
        if self.began {
            // No other replica takes over any more.
            self.counts.failed();
        }
        let mut breaker = lock(&self.replica.breaker);
        let now = Instant::now();
        match error {
            EngineError::Refused { .. } => {
                breaker.failed(Failure::Certain, now);
                // Whatever comes up there again has read nothing.
                lock(&self.replica.held).clear();
            }
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
            EngineError::Status { status, .. } if *status >= 500 && error.retryable() => {
                breaker.failed(Failure::Counted, now);
            }
            EngineError::Reset { .. } | EngineError::BadEvent { .. } => {
                breaker.failed(Failure::Counted, now);
            }
            EngineError::TimedOut {
                phase: Phase::FirstEvent,
                waited,
                ..
            } => {
                let failure = if *waited < SILENCE {
                    Failure::Impatient
                } else {
                    Failure::Counted
                };
                breaker.failed(failure, now);
            }
            // A certificate that is not trusted stays so however long the replica is left alone, and whether it answers
            // is not known.
            EngineError::Untrusted { .. } => breaker.abandon_probe(now),
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
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(replica: &Arc<Replica>, error: &EngineError) {
        let endpoint = Endpoint::keyless(&replica.url);
        let target = replica.target(&Pool::local("small"), &endpoint);
        Lease::new((target, Arc::clone(replica)), false, &Arc::default(), None).failed(error);
    }

    #[test]
    fn a_certificate_that_is_not_trusted_wipes_nothing_of_what_is_known_of_a_replica() {
        let endpoint = Endpoint::keyless("https://small");
        let replica = Replica::known(&mut Vec::new(), &endpoint);
        let reset = EngineError::Reset {
            pool: "small".to_owned(),
            phase: Phase::FirstEvent,
            source: None,
        };
        let untrusted = EngineError::Untrusted {
            pool: "small".to_owned(),
            source: "unknown issuer".into(),
        };
        let admission = || lock(&replica.breaker).admission(Instant::now());
        for error in [&reset, &reset, &untrusted] {
            end(&replica, error);
            assert_eq!(admission(), Admission::Open, "{error}");
        }
        end(&replica, &reset);
        assert!(
            matches!(admission(), Admission::Wait(_)),
            "the third in a row"
        );
        lock(&replica.breaker).take_probe();
        end(&replica, &untrusted);
        assert_eq!(admission(), Admission::Probe);
    }
}
