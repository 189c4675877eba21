//! The attempts of one request: which replica of a pool is asked, and which one after it failed.
//!
//! Chooses only among the replicas of the pool that it was handed. Nothing here does I/O. Reading on: `replica.rs` for what is
//! known of a replica, `prefix.rs` for what it has read.

use crate::breaker::Admission;
use crate::error::EngineError;
use crate::load::Counts;
use crate::prefix::Prefix;
use crate::replica::{Asked, Lease, Replica, Replicas, Turn, lock};
use rand::Rng;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir_plan::Pool;

/// A request in flight slows another one down about as much as reading this many blocks of a prompt does.
const BLOCKS_OF_A_NEIGHBOUR: usize = 4;
/// Blocks that a replica was sent more than another, that weigh as much as one block that is read again.
const SURPLUS: usize = 16;
/// Blocks that are remembered of a replica: 4 MiB of prompts, about a million tokens. Engines keep less, but a prompt that is read
/// again is best read where those like it are.
const HELD_BLOCKS: usize = 16 << 10;

/// The replicas that one request has not asked yet.
pub(crate) struct Attempts<'a> {
    pool: &'a Pool,
    prefix: Option<&'a Prefix>,
    replicas: &'a Replicas,
    counts: Arc<Counts>,
    turn: Turn,
    left: Vec<Asked>,
    current: Option<Asked>,
    again: Option<Asked>,
    asked_again: bool,
    renewed: bool,
    waits: Vec<Duration>,
    last: Option<EngineError>,
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(
        replicas: &'a Replicas,
        pool: &'a Pool,
        prefix: Option<&'a Prefix>,
        (counts, left): (Arc<Counts>, Vec<Asked>),
        turn: Turn,
    ) -> Self {
        counts.requested();
        Self {
            pool,
            prefix,
            replicas,
            counts,
            turn,
            left,
            current: None,
            again: None,
            asked_again: false,
            renewed: false,
            waits: Vec::new(),
            last: None,
        }
    }

    /// How long the request waited for its turn.
    pub(crate) fn queued(&self) -> Duration {
        self.turn.waited
    }

    /// Takes the replica that is likely to answer first, a random one of equals; skips those that rest.
    ///
    /// # Errors
    /// The last attempt's error, or why nobody was asked at all.
    pub(crate) fn next(&mut self) -> Result<Lease, EngineError> {
        if let Some(asked) = self.take() {
            return Ok(self.lease(asked, !self.left.is_empty()));
        }
        if !self.renewed {
            // A replica that the newest plan names may have come since this request began.
            self.renewed = true;
            self.left = self.replicas.newer(self.pool);
            if !self.left.is_empty() {
                return self.next();
            }
        }
        if let Some(again) = self.again.take() {
            return Ok(self.lease(again, false));
        }
        self.counts.failed();
        Err(self.give_up())
    }

    /// Takes one more replica, to be asked beside the one that is silent: `None` where no place is free, since work that is done twice
    /// must keep nobody waiting, or no replica is left.
    pub(crate) fn beside(&mut self) -> Option<Lease> {
        let place = Arc::new(self.turn.place.as_ref()?.another()?);
        let asked = self.take()?;
        self.counts.hedged();
        Some(Lease::new(asked, false, &self.counts, Some(place)))
    }

    fn take(&mut self) -> Option<Asked> {
        let now = Instant::now();
        while let Some(best) = self.best() {
            let (target, replica) = self.left.swap_remove(best);
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
            let asked = (target, replica);
            self.sent(&asked.1);
            self.current = Some(asked.clone());
            return Some(asked);
        }
        None
    }

    fn lease(&self, asked: Asked, others: bool) -> Lease {
        Lease::new(asked, others, &self.counts, self.turn.place.clone())
    }

    /// Takes note of a failed attempt. A connection that broke before an answer may have been a kept-alive one that the
    /// engine had just closed, so the same replica is asked once more when no other is left.
    ///
    /// # Errors
    /// The same error, when trying elsewhere cannot help.
    pub(crate) fn failed(&mut self, error: EngineError) -> Result<(), EngineError> {
        if !error.retryable() {
            // Only the client's own fault is not worth another replica, and no fault of the pool.
            return Err(error);
        }
        if matches!(error, EngineError::Reset { .. }) && !self.asked_again {
            self.asked_again = true;
            self.again = self.current.take();
        }
        self.last = Some(error);
        Ok(())
    }

    /// The replica with the shortest queue, and of those the one with the least to read: what it has not read of the prompt,
    /// what its neighbours slow it down, and a share of what it was sent more than others, so that new prompts spread.
    fn best(&self) -> Option<usize> {
        if self.left.len() < 2 {
            return self.left.len().checked_sub(1);
        }
        let mut rng = rand::rng();
        let slots = self.pool.slots.max(1) as usize;
        let keys = self.left.iter().enumerate();
        let work = |replica: &Replica| {
            let load = replica.load();
            let to_read = self.prefix.map_or(0, |prefix| {
                let held = lock(&replica.held);
                prefix.len() - held.matched(prefix) + held.surplus() / SURPLUS
            });
            let queue = (load + 1).saturating_sub(slots);
            (queue, to_read + load * BLOCKS_OF_A_NEIGHBOUR)
        };
        keys.min_by_key(|(_, (_, replica))| (work(replica), rng.random::<u32>()))
            .map(|(i, _)| i)
    }

    /// Takes note that a replica is sent the prompt.
    fn sent(&self, to: &Replica) {
        let Some(prefix) = self.prefix else {
            return;
        };
        let mut held = lock(&to.held);
        held.add(prefix, HELD_BLOCKS);
        let mut least = held.surplus();
        drop(held);
        for (_, other) in &self.left {
            least = least.min(lock(&other.held).surplus());
        }
        for replica in self.left.iter().map(|(_, other)| &**other).chain([to]) {
            lock(&replica.held).forgive(least);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prefix::BLOCK_BYTES;
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use std::collections::{HashMap, VecDeque};
    use std::hash::{DefaultHasher, Hasher};
    use weir_plan::Endpoint;

    const REPLICAS: usize = 3;
    /// What an engine keeps: the blocks used last.
    #[derive(Default)]
    struct Cache {
        used: HashMap<u64, u64>,
        clock: u64,
    }

    impl Cache {
        /// Blocks of the prompt that need not be read again, and all of it.
        fn read(&mut self, prompt: &str, keeps: usize) -> (usize, usize) {
            let mut hasher = DefaultHasher::new();
            let blocks: Vec<u64> = (prompt.as_bytes().chunks_exact(BLOCK_BYTES))
                .map(|block| {
                    hasher.write(block);
                    hasher.finish()
                })
                .collect();
            let known = |block: &&u64| self.used.contains_key(block);
            let cached = blocks.iter().take_while(known).count();
            for block in &blocks {
                self.clock += 1;
                self.used.insert(*block, self.clock);
            }
            while self.used.len() > keeps {
                let oldest = self.used.iter().min_by_key(|(_, used)| **used);
                let oldest = *oldest.expect("more than are kept").0;
                self.used.remove(&oldest);
            }
            (cached, blocks.len())
        }
    }

    /// Who asks what: sessions that grow, each about a document, after one text that all begin with.
    struct Traffic {
        random: StdRng,
        documents: Vec<String>,
        sessions: Vec<Vec<String>>,
    }

    impl Traffic {
        fn new(seed: u64, documents: usize) -> Self {
            let mut random = StdRng::seed_from_u64(seed);
            Self {
                documents: (0..documents).map(|_| text(&mut random, 4096)).collect(),
                sessions: Vec::new(),
                random,
            }
        }

        /// The messages of the next prompt.
        fn next(&mut self) -> Vec<String> {
            let live = 24;
            if self.sessions.len() < live || self.random.random_bool(0.05) {
                let document = self.random.random_range(0..self.documents.len());
                let begin = vec!["s".repeat(1024), self.documents[document].clone()];
                if self.sessions.len() == live {
                    self.sessions.remove(0);
                }
                self.sessions.push(begin);
            }
            let at = self.random.random_range(0..self.sessions.len());
            let turn = text(&mut self.random, 400);
            self.sessions[at].push(turn);
            self.sessions[at].clone()
        }
    }

    fn text(random: &mut StdRng, bytes: usize) -> String {
        (0..bytes).map(|_| random.random_range('a'..='z')).collect()
    }

    fn pool() -> Pool {
        let urls = (0..REPLICAS).map(|number| format!("http://replica-{number}"));
        Pool {
            slots: 4,
            endpoints: urls.map(|url| Endpoint::keyless(&url)).collect(),
            ..Pool::local("small")
        }
    }

    /// Share of the blocks that need not be read again when `choose` says who is asked, and the most requests at one replica over
    /// the mean.
    fn share(
        mut traffic: Traffic,
        mut choose: impl FnMut(&[String]) -> usize,
        keeps: usize,
    ) -> (f64, f64) {
        let mut caches: Vec<Cache> = (0..REPLICAS).map(|_| Cache::default()).collect();
        let (mut cached, mut all, mut asked) = (0, 0, [0_usize; REPLICAS]);
        let requests = 1500;
        for _ in 0..requests {
            let messages = traffic.next();
            let at = choose(&messages);
            asked[at] += 1;
            let (known, whole) = caches[at].read(&messages.concat(), keeps);
            cached += known;
            all += whole;
        }
        let most = asked.into_iter().max().unwrap_or(0);
        let imbalance = (most * REPLICAS) as f64 / f64::from(requests);
        (cached as f64 / all as f64, imbalance)
    }

    #[test]
    fn prompts_go_where_they_were_read_and_spread_evenly() {
        // Documents, blocks that an engine keeps, and what is reached at least: of an engine that has the memory of all three, so
        // that nothing can keep more, and of taking turns. In both, three engines can hold what one cannot.
        for (documents, keeps, of_oracle, of_turns) in [(600, 300, 0.93, 1.8), (12, 220, 0.85, 1.5)]
        {
            let traffic = || Traffic::new(7, documents);
            let (pool, replicas) = (pool(), Replicas::default());
            let mut in_flight = VecDeque::new();
            let by_prefix = |messages: &[String]| {
                let mut prefix = Prefix::new("acme", None);
                for message in messages {
                    prefix.push("user", message);
                }
                let mut attempts = replicas.attempts(&pool, Some(&prefix), Turn::at_once());
                let lease = attempts.next().expect("a replica");
                let number = lease.target.url().bytes().last().expect("a number");
                in_flight.push_back(lease);
                if in_flight.len() > 4 {
                    in_flight.pop_front();
                }
                usize::from(number - b'0')
            };
            let (ours, imbalance) = share(traffic(), by_prefix, keeps);
            let mut turn = 0;
            let in_turn = |_: &[String]| {
                turn += 1;
                turn % REPLICAS
            };
            let (turns, _) = share(traffic(), in_turn, keeps);
            let (oracle, _) = share(traffic(), |_| 0, keeps * REPLICAS);
            let told = format!(
                "{ours:.3} cached, oracle {oracle:.3}, in turn {turns:.3}, imbalance {imbalance:.2}"
            );
            assert!(ours >= of_oracle * oracle, "{documents}: {told}");
            assert!(ours >= of_turns * turns, "{documents}: {told}");
            assert!(imbalance <= 1.2, "{documents}: {told}");
        }
    }

    #[test]
    fn a_replica_with_a_free_slot_is_asked_before_one_that_has_read_the_prompt_and_is_full() {
        let (pool, replicas) = (pool(), Replicas::default());
        let mut prefix = Prefix::new("acme", None);
        prefix.push("user", &"x".repeat(20_000));
        let ask = || {
            replicas
                .attempts(&pool, Some(&prefix), Turn::at_once())
                .next()
                .expect("a replica")
        };
        let first = ask();
        let mut same = Vec::new();
        for _ in 1..pool.slots {
            same.push(ask());
            assert_eq!(
                same.last().map(|lease| lease.target.url()),
                Some(first.target.url())
            );
        }
        let other = ask().target.url().to_owned();
        assert_ne!(other, first.target.url());
        same.clear();
        assert_eq!(
            ask().target.url(),
            other,
            "both have read it, and this one is idle"
        );
    }
}
