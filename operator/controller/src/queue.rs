//! What is to be reconciled, and when: one queue for all kinds, every object in it at most once.
//!
//! An object that is asked for twice is done once, at the earlier time. One that is being worked on is not handed out
//! again until it is finished, and then only when somebody asked for it meanwhile. Failures wait longer each time, with
//! jitter, so that two thousand objects do not come back in the same instant. The queue knows nothing of what is done.

use crate::key::Key;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Wait after the first failure.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
/// Longest wait after a failure.
const BACKOFF_LONGEST: Duration = Duration::from_secs(120);

/// Objects by the time at which they are due.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    order: BTreeSet<(Instant, Key)>,
    due: HashMap<Key, Instant>,
    running: HashSet<Key>,
    failures: HashMap<Key, u32>,
}

impl Queue {
    /// The object is due now.
    pub(crate) fn add(&self, key: Key) {
        self.add_at(key, Instant::now());
    }

    /// The object is due after `wait`, or earlier when somebody asked for that already.
    pub(crate) fn add_after(&self, key: Key, wait: Duration) {
        self.add_at(key, Instant::now() + wait);
    }

    fn add_at(&self, key: Key, at: Instant) {
        let mut state = self.lock();
        match state.due.get(&key) {
            Some(earlier) if *earlier <= at => return,
            Some(later) => {
                let later = *later;
                state.order.remove(&(later, key.clone()));
            }
            None => {}
        }
        state.order.insert((at, key.clone()));
        state.due.insert(key, at);
        drop(state);
        self.changed.notify_one();
    }

    /// The object could not be reconciled: it is due again later, and later still after each further failure. Says how
    /// long it waits.
    pub(crate) fn failed(&self, key: Key) -> Duration {
        let failures = {
            let mut state = self.lock();
            let failures = state.failures.entry(key.clone()).or_default();
            *failures = failures.saturating_add(1);
            *failures
        };
        let wait = backoff(failures, rand::random::<f64>());
        self.add_after(key, wait);
        wait
    }

    /// The object was reconciled: its next failure is a first one.
    pub(crate) fn succeeded(&self, key: &Key) {
        self.lock().failures.remove(key);
    }

    /// The next object that is due; it is out until [`Queue::done`].
    pub(crate) async fn next(&self) -> Key {
        loop {
            let changed = self.changed.notified();
            let wait = match self.take(Instant::now()) {
                Ok(key) => {
                    // Another worker may be asleep while more is due.
                    self.changed.notify_one();
                    return key;
                }
                Err(wait) => wait,
            };
            match wait {
                Some(wait) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep(wait) => {}
                },
                None => changed.await,
            }
        }
    }

    fn take(&self, now: Instant) -> Result<Key, Option<Duration>> {
        let mut state = self.lock();
        let first = state
            .order
            .iter()
            .find(|(_, key)| !state.running.contains(key))
            .cloned();
        match first {
            Some((at, key)) if at <= now => {
                state.order.remove(&(at, key.clone()));
                state.due.remove(&key);
                state.running.insert(key.clone());
                Ok(key)
            }
            Some((at, _)) => Err(Some(at - now)),
            None => Err(None),
        }
    }

    /// The object may be handed out again.
    pub(crate) fn done(&self, key: &Key) {
        self.lock().running.remove(key);
        self.changed.notify_one();
    }

    /// How many objects are due or waiting.
    pub(crate) fn len(&self) -> usize {
        self.lock().due.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pause after so many failures; `jitter` in 0..1 takes away up to half of it.
fn backoff(failures: u32, jitter: f64) -> Duration {
    doubled((BACKOFF_FIRST, BACKOFF_LONGEST), failures).mul_f64(1.0 - 0.5 * jitter.clamp(0.0, 1.0))
}

/// The first pause, doubled with each failure after the first one, up to the longest.
pub(crate) fn doubled((first, longest): (Duration, Duration), failures: u32) -> Duration {
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Kind;

    fn key(name: &str) -> Key {
        Key::new(Kind::ModelPool, "demo", name)
    }

    async fn soon(queue: &Queue) -> Option<Key> {
        tokio::time::timeout(Duration::from_millis(10), queue.next())
            .await
            .ok()
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_asked_for_twice_is_handed_out_once() {
        let queue = Queue::default();
        queue.add(key("a"));
        queue.add(key("a"));
        assert_eq!(soon(&queue).await, Some(key("a")));
        queue.done(&key("a"));
        assert_eq!(soon(&queue).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_in_work_waits_for_its_end_and_others_do_not() {
        let queue = Queue::default();
        queue.add(key("a"));
        assert_eq!(soon(&queue).await, Some(key("a")));
        queue.add(key("a"));
        queue.add(key("b"));
        assert_eq!(soon(&queue).await, Some(key("b")));
        assert_eq!(soon(&queue).await, None);
        queue.done(&key("a"));
        assert_eq!(soon(&queue).await, Some(key("a")));
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_of_two_times_counts() {
        let queue = Queue::default();
        queue.add_after(key("a"), Duration::from_secs(60));
        assert_eq!(soon(&queue).await, None);
        queue.add(key("a"));
        assert_eq!(soon(&queue).await, Some(key("a")));
        queue.done(&key("a"));
        tokio::time::advance(Duration::from_secs(120)).await;
        assert_eq!(soon(&queue).await, None, "the later time is gone");
    }

    #[test]
    fn waits_grow_with_failures_and_stay_bounded() {
        assert_eq!(backoff(1, 0.0), BACKOFF_FIRST);
        assert_eq!(backoff(3, 0.0), BACKOFF_FIRST * 4);
        assert_eq!(backoff(3, 1.0), BACKOFF_FIRST * 2);
        assert_eq!(backoff(1000, 0.0), BACKOFF_LONGEST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_makes_the_next_failure_a_first_one() {
        let queue = Queue::default();
        for _ in 0..6 {
            queue.failed(key("a"));
        }
        queue.succeeded(&key("a"));
        assert!(queue.failed(key("a")) <= BACKOFF_FIRST);
    }
}
