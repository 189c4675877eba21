//! Who asks a pool when more want to than it works on at once.
//!
//! A pool has as many places as those of its replicas have slots that may be asked. While one is free a request takes it at once; else
//! it waits, the urgent ones first and of those who came first, until its deadline. One whose turn would come too late, as fast
//! as the pool worked lately, is refused at once and told when to come again. Which replica is asked is chosen when the turn comes, so that
//! nobody waits at one while another is free. Nothing here does I/O. Reading on: `replica.rs`.

use crate::replica::lock;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Weight of the newest request in how long one keeps its place.
const NEWEST: f64 = 0.1;

/// Who goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Somebody waits for the answer.
    #[default]
    Normal,
    /// Work in the background, which has its turn when nobody else wants it.
    Low,
}

/// The places of one pool and who waits for them.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// As many as were seen last. After they became fewer, requests that are in finish.
    places: usize,
    taken: usize,
    /// Requests that ever waited; the next one's number.
    waited: u64,
    waiting: BTreeMap<(Priority, u64), oneshot::Sender<Place>>,
    /// Seconds that requests kept their place lately; `None` before the first has ended.
    kept_s: Option<f64>,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    queue: Arc<Queue>,
    since: Instant,
}

/// Why a request got no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLate {
    /// When a place is likely to be free.
    pub(crate) retry_after: Duration,
}

/// What a request is told at first.
enum Told {
    Enter(Place),
    Wait((Priority, u64), oneshot::Receiver<Place>),
}

/// A request that waits; leaves when dropped.
struct Waiting<'a> {
    queue: &'a Queue,
    key: (Priority, u64),
}

impl Queue {
    /// Takes one of `places`, now or when the turn comes; holds what `wait` gives while it waits. The answer says how long that was.
    ///
    /// # Errors
    /// The turn would come after the deadline, or has not come until then.
    pub(crate) async fn enter<T>(
        self: &Arc<Self>,
        places: usize,
        priority: Priority,
        deadline: Instant,
        wait: impl FnOnce() -> T,
    ) -> Result<(Place, Duration), TooLate> {
        let (key, turn) = match self.ask(places, priority, deadline)? {
            Told::Enter(place) => return Ok((place, Duration::ZERO)),
            Told::Wait(key, turn) => (key, turn),
        };
        let since = Instant::now();
        let waiting = (Waiting { queue: self, key }, wait());
        let turn = tokio::time::timeout_at(deadline.into(), turn).await;
        drop(waiting);
        match turn {
            Ok(Ok(place)) => Ok((place, since.elapsed())),
            Ok(Err(_)) | Err(_) => Err(TooLate {
                retry_after: lock(&self.state).turn_after(1),
            }),
        }
    }

    /// The places that there are from now on.
    pub(crate) fn resize(self: &Arc<Self>, places: usize) {
        let turns = {
            let mut state = lock(&self.state);
            state.places = places;
            state.turns(self)
        };
        tell(turns);
    }

    fn ask(
        self: &Arc<Self>,
        places: usize,
        priority: Priority,
        deadline: Instant,
    ) -> Result<Told, TooLate> {
        let mut state = lock(&self.state);
        state.places = places;
        let turns = state.turns(self);
        let told = state.told(self, priority, deadline);
        drop(state);
        tell(turns);
        told
    }
}

impl Place {
    /// One more place for the same request, where one is free.
    pub(crate) fn another(&self) -> Option<Self> {
        let mut state = lock(&self.queue.state);
        (state.taken < state.places).then(|| state.place(&self.queue))
    }
}

impl State {
    fn place(&mut self, queue: &Arc<Queue>) -> Place {
        self.taken += 1;
        Place {
            queue: Arc::clone(queue),
            since: Instant::now(),
        }
    }

    fn told(
        &mut self,
        queue: &Arc<Queue>,
        priority: Priority,
        deadline: Instant,
    ) -> Result<Told, TooLate> {
        // Nobody waits while a place is free: whoever gives one back hands it on.
        if self.taken < self.places {
            return Ok(Told::Enter(self.place(queue)));
        }
        let ahead = self.waiting.keys().filter(|(other, _)| *other <= priority);
        let retry_after = self.turn_after(ahead.count() + 1);
        if Instant::now() + retry_after > deadline {
            return Err(TooLate { retry_after });
        }
        self.waited += 1;
        let key = (priority, self.waited);
        let (sender, turn) = oneshot::channel();
        self.waiting.insert(key, sender);
        Ok(Told::Wait(key, turn))
    }

    /// The places that are free go to those who are first.
    fn turns(&mut self, queue: &Arc<Queue>) -> Vec<(oneshot::Sender<Place>, Place)> {
        let mut turns = Vec::new();
        while self.taken < self.places
            && let Some((_, sender)) = self.waiting.pop_first()
        {
            turns.push((sender, self.place(queue)));
        }
        turns
    }

    /// When the place is free that is the `nth` to be, as places were given back lately.
    fn turn_after(&self, nth: usize) -> Duration {
        let kept_s = self.kept_s.unwrap_or(0.0);
        Duration::from_secs_f64(kept_s * nth as f64 / self.places.max(1) as f64)
    }

    fn gave_back(&mut self, kept: Duration) {
        let kept_s = kept.as_secs_f64();
        let known = self.kept_s.unwrap_or(kept_s);
        self.kept_s = Some(known + NEWEST * (kept_s - known));
        self.taken -= 1;
    }
}

/// Tells whose turn it is once the lock is free: one that has left meanwhile gives its place back.
fn tell(turns: Vec<(oneshot::Sender<Place>, Place)>) {
    for (sender, place) in turns {
        drop(sender.send(place));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let turns = {
            let mut state = lock(&self.queue.state);
            state.gave_back(self.since.elapsed());
            state.turns(&self.queue)
        };
        tell(turns);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.queue.state).waiting.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::task::{JoinHandle, JoinSet};

    fn waiting(queue: &Queue) -> usize {
        lock(&queue.state).waiting.len()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    async fn now(queue: &Arc<Queue>, places: usize) -> Place {
        let (place, waited) = queue
            .enter(places, Priority::Normal, soon(), || ())
            .await
            .unwrap();
        assert!(waited.is_zero());
        place
    }

    /// A request that waits when this returns.
    async fn waits(queue: &Arc<Queue>, priority: Priority) -> JoinHandle<Result<Place, TooLate>> {
        let before = waiting(queue);
        let asking = tokio::spawn({
            let queue = Arc::clone(queue);
            async move {
                let (place, waited) = queue.enter(1, priority, soon(), || ()).await?;
                assert!(!waited.is_zero());
                Ok(place)
            }
        });
        while waiting(queue) == before {
            tokio::task::yield_now().await;
        }
        asking
    }

    #[tokio::test]
    async fn urgent_requests_go_first_and_then_who_came_first() {
        let queue = Arc::new(Queue::default());
        let inside = now(&queue, 1).await;
        let background = waits(&queue, Priority::Low).await;
        let first = waits(&queue, Priority::Normal).await;
        let second = waits(&queue, Priority::Normal).await;
        drop(inside);
        let first = first.await.unwrap().unwrap();
        assert_eq!(waiting(&queue), 2);
        drop(first);
        let second = second.await.unwrap().unwrap();
        assert!(!background.is_finished());
        drop(second);
        drop(background.await.unwrap().unwrap());
        assert_eq!(lock(&queue.state).taken, 0);
    }

    #[tokio::test]
    async fn a_turn_that_would_come_too_late_is_refused_at_once_and_says_when() {
        let queue = Arc::new(Queue::default());
        let _inside = (now(&queue, 2).await, now(&queue, 2).await);
        lock(&queue.state).kept_s = Some(10.0);
        let second = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move {
                queue
                    .enter(2, Priority::Normal, soon(), || ())
                    .await
                    .map(drop)
            }
        });
        while waiting(&queue) == 0 {
            tokio::task::yield_now().await;
        }
        let until = Instant::now() + Duration::from_secs(9);
        let refused = queue.enter(2, Priority::Normal, until, || ()).await;
        let late = TooLate {
            retry_after: Duration::from_secs(10),
        };
        assert_eq!(refused.map(drop), Err(late), "the second to come in");
        assert_eq!(waiting(&queue), 1);
        second.abort();
    }

    #[tokio::test]
    async fn nothing_is_refused_before_it_is_known_how_fast_the_pool_works() {
        let queue = Arc::new(Queue::default());
        let _inside = now(&queue, 1).await;
        let until = Instant::now() + Duration::from_millis(20);
        let refused = queue.enter(1, Priority::Normal, until, || ()).await;
        assert!(Instant::now() >= until, "it waited");
        assert!(refused.is_err());
        assert_eq!(waiting(&queue), 0);
    }

    #[tokio::test]
    async fn who_leaves_the_queue_is_passed_over() {
        let queue = Arc::new(Queue::default());
        let inside = now(&queue, 1).await;
        let gone = waits(&queue, Priority::Normal).await;
        let next = waits(&queue, Priority::Normal).await;
        gone.abort();
        drop(inside);
        assert!(gone.await.unwrap_err().is_cancelled());
        drop(next.await.unwrap().unwrap());
        assert_eq!(lock(&queue.state).taken, 0);
    }

    #[tokio::test]
    async fn more_places_let_in_who_waits_and_fewer_wait_for_who_is_in() {
        let queue = Arc::new(Queue::default());
        let first = now(&queue, 1).await;
        let second = waits(&queue, Priority::Normal).await;
        queue.resize(2);
        let second = second.await.unwrap().unwrap();
        let third = waits(&queue, Priority::Normal).await;
        drop(first);
        tokio::task::yield_now().await;
        assert!(!third.is_finished(), "one place, and it is taken");
        drop(second);
        drop(third.await.unwrap().unwrap());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn whoever_comes_and_goes_no_place_is_given_twice_and_none_is_lost() {
        const PLACES: usize = 3;
        let queue = Arc::new(Queue::default());
        let inside = Arc::new(AtomicUsize::new(0));
        let mut asking = JoinSet::new();
        for number in 0..200 {
            let (queue, inside) = (Arc::clone(&queue), Arc::clone(&inside));
            asking.spawn(async move {
                for round in 0..50 {
                    let hurries = (number + round) % 3 == 0;
                    let patience = if hurries { 200 } else { 60_000_000 };
                    let until = Instant::now() + Duration::from_micros(patience);
                    let priority = [Priority::Normal, Priority::Low][usize::from(round % 2 == 0)];
                    let entered = queue.enter(PLACES, priority, until, || ()).await;
                    let Ok((place, _)) = entered else { continue };
                    let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                    assert!(now <= PLACES, "{now} are in");
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(place);
                }
            });
        }
        while let Some(asked) = asking.join_next().await {
            asked.unwrap();
        }
        let state = lock(&queue.state);
        assert_eq!((state.taken, state.waiting.len()), (0, 0));
    }
}
