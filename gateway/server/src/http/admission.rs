//! How many requests a gateway works on at once, how many may wait, and whose turn it is.
//!
//! While there is room a request enters at once. A place that becomes free goes to the waiting tenant that has the fewest, and
//! within a tenant to who came first, so that nobody is kept out by how much somebody else asks. A full queue gives room to a
//! tenant that has fewer requests in it than another: the other's last one is refused. A waiting request leaves the queue at its
//! deadline or when its client goes away. Nothing here knows what a request is. Reading on: `mod.rs`.

use crate::rescue::Rescue;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::oneshot;
use weir_plan::Limits;

#[derive(Debug, Default)]
pub(crate) struct Admission {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Places, as the last plan says. After a change, requests that are in finish.
    size: u32,
    in_flight: u32,
    waiting: u32,
    /// Requests that ever waited; the next one's number.
    waited: u64,
    tenants: HashMap<Arc<str>, Tenant>,
}

/// A tenant with requests that are in or wait.
#[derive(Debug, Default)]
struct Tenant {
    in_flight: u32,
    /// By number, the oldest first.
    waiting: BTreeMap<u64, oneshot::Sender<Turn>>,
}

/// What a waiting request is told.
#[derive(Debug)]
enum Turn {
    Enter(Place),
    /// The queue is full, and another tenant has fewer requests in it.
    MakeRoom,
}

/// One of the places; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    state: Arc<Mutex<State>>,
    tenant: Arc<str>,
}

/// A request in the queue; leaves it when dropped, if it is still there.
struct Waiting<'a> {
    state: &'a Mutex<State>,
    tenant: Arc<str>,
    number: u64,
}

/// What waiting requests are told once the lock is free: a place that nobody takes any more is given back then.
#[derive(Debug, Default)]
struct Turns(Vec<(oneshot::Sender<Turn>, Turn)>);

impl Admission {
    /// Takes a place for this tenant, waiting for one until the deadline if the queue has room.
    pub(crate) async fn enter(
        &self,
        tenant: &str,
        limits: &Limits,
        until: Instant,
    ) -> Result<Place, Rescue> {
        self.resize(limits.in_flight_max);
        let (waiting, turn) = match self.ask(tenant, limits.queue_max)? {
            Asked::In(place) => return Ok(place),
            Asked::Waits(waiting, turn) => (waiting, turn),
        };
        let waited = tokio::time::timeout_at(until.into(), turn).await;
        drop(waiting);
        match waited {
            Ok(Ok(Turn::Enter(place))) => Ok(place),
            Ok(Ok(Turn::MakeRoom)) => Err(full()),
            Ok(Err(_)) | Err(_) => Err(Rescue::busy(
                "the gateway was full until the request's time was over",
            )),
        }
    }

    /// Requests being worked on and requests waiting.
    pub(crate) fn load(&self) -> (usize, u32) {
        let state = lock(&self.state);
        let in_flight = usize::try_from(state.in_flight).unwrap_or(usize::MAX);
        (in_flight, state.waiting)
    }

    /// The places that there are from now on.
    fn resize(&self, size: u32) {
        let turns = {
            let mut state = lock(&self.state);
            if state.size == size {
                return;
            }
            state.size = size;
            state.turns(&self.state)
        };
        turns.tell();
    }

    fn ask(&self, tenant: &str, queue_max: u32) -> Result<Asked<'_>, Rescue> {
        let mut state = lock(&self.state);
        let name = state.tenants.get_key_value(tenant);
        let tenant = name.map_or_else(|| Arc::from(tenant), |(name, _)| Arc::clone(name));
        if state.in_flight < state.size {
            return Ok(Asked::In(state.place(&self.state, &tenant)));
        }
        let removed = match state.waiting < queue_max {
            true => Turns::default(),
            false => state.make_room(&tenant).ok_or_else(full)?,
        };
        let (sender, turn) = oneshot::channel();
        let number = state.wait(&tenant, sender);
        drop(state);
        removed.tell();
        let waiting = Waiting {
            state: &self.state,
            tenant,
            number,
        };
        Ok(Asked::Waits(waiting, turn))
    }
}

/// Where a request stands at first.
enum Asked<'a> {
    In(Place),
    Waits(Waiting<'a>, oneshot::Receiver<Turn>),
}

impl State {
    fn place(&mut self, state: &Arc<Mutex<Self>>, tenant: &Arc<str>) -> Place {
        self.in_flight += 1;
        self.tenant(tenant).in_flight += 1;
        Place {
            state: Arc::clone(state),
            tenant: Arc::clone(tenant),
        }
    }

    fn wait(&mut self, tenant: &Arc<str>, sender: oneshot::Sender<Turn>) -> u64 {
        self.waiting += 1;
        self.waited += 1;
        let number = self.waited;
        self.tenant(tenant).waiting.insert(number, sender);
        number
    }

    fn tenant(&mut self, name: &Arc<str>) -> &mut Tenant {
        self.tenants.entry(Arc::clone(name)).or_default()
    }

    /// Who enters now: while there is room, the first of the tenant that has the fewest places.
    fn turns(&mut self, state: &Arc<Mutex<Self>>) -> Turns {
        let mut turns = Turns::default();
        while self.in_flight < self.size {
            let waiting = self.tenants.iter().filter_map(|(name, tenant)| {
                let (number, _) = tenant.waiting.first_key_value()?;
                Some((tenant.in_flight, *number, Arc::clone(name)))
            });
            let Some((_, _, name)) = waiting.min() else {
                break;
            };
            let Some((_, sender)) = self.tenant(&name).waiting.pop_first() else {
                break;
            };
            self.waiting -= 1;
            turns
                .0
                .push((sender, Turn::Enter(self.place(state, &name))));
        }
        turns
    }

    /// Takes the last request of the tenant that has the most in the queue out of it, unless this tenant would then be
    /// the one that has the most.
    fn make_room(&mut self, newcomer: &str) -> Option<Turns> {
        let own = self
            .tenants
            .get(newcomer)
            .map_or(0, |tenant| tenant.waiting.len());
        let most = self
            .tenants
            .values_mut()
            .max_by_key(|tenant| tenant.waiting.len())?;
        if most.waiting.len() <= own + 1 {
            return None;
        }
        let (_, sender) = most.waiting.pop_last()?;
        self.waiting -= 1;
        Some(Turns(vec![(sender, Turn::MakeRoom)]))
    }

    /// Nothing is kept of a tenant that asks nothing.
    fn forget_idle(&mut self, tenant: &str) {
        let idle = |tenant: &Tenant| tenant.in_flight == 0 && tenant.waiting.is_empty();
        if self.tenants.get(tenant).is_some_and(idle) {
            self.tenants.remove(tenant);
        }
    }
}

impl Turns {
    fn tell(self) {
        for (sender, turn) in self.0 {
            // One that has left meanwhile drops its place.
            drop(sender.send(turn));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let turns = {
            let mut state = lock(&self.state);
            state.in_flight -= 1;
            if let Some(tenant) = state.tenants.get_mut(&self.tenant) {
                tenant.in_flight -= 1;
            }
            state.forget_idle(&self.tenant);
            state.turns(&self.state)
        };
        turns.tell();
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = lock(self.state);
        let tenant = state.tenants.get_mut(&self.tenant);
        if tenant.is_some_and(|tenant| tenant.waiting.remove(&self.number).is_some()) {
            state.waiting -= 1;
        }
        state.forget_idle(&self.tenant);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn full() -> Rescue {
    Rescue::busy("the gateway is full: try again shortly")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::task::JoinHandle;

    fn limits(in_flight_max: u32, queue_max: u32) -> Limits {
        Limits {
            in_flight_max,
            queue_max,
            ..Limits::default()
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    /// A request that is in the queue when this returns, unless it was let in or refused at once.
    async fn asks(
        admission: &Arc<Admission>,
        tenant: &'static str,
        limits: Limits,
    ) -> JoinHandle<Result<Place, Rescue>> {
        let before = lock(&admission.state).waited;
        let asking = tokio::spawn({
            let admission = Arc::clone(admission);
            async move { admission.enter(tenant, &limits, soon()).await }
        });
        while lock(&admission.state).waited == before && !asking.is_finished() {
            tokio::task::yield_now().await;
        }
        asking
    }

    #[tokio::test]
    async fn a_full_gateway_queues_then_refuses_and_a_free_place_goes_to_who_waits() {
        let admission = Arc::new(Admission::default());
        let first = admission.enter("a", &limits(1, 1), soon()).await.unwrap();
        let queued = asks(&admission, "a", limits(1, 1)).await;
        assert_eq!(admission.load(), (1, 1));
        let refused = admission.enter("a", &limits(1, 1), soon()).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.status(), http::StatusCode::TOO_MANY_REQUESTS);
        let as_it_was = admission.load();
        assert_eq!(
            as_it_was,
            (1, 1),
            "a refused request leaves the queue alone"
        );
        drop(first);
        drop(queued.await.unwrap().unwrap());
        assert_eq!(admission.load(), (0, 0));
        assert!(lock(&admission.state).tenants.is_empty(), "nothing is kept");
    }

    #[tokio::test]
    async fn a_waiting_request_leaves_at_its_deadline() {
        let admission = Admission::default();
        let _first = admission.enter("a", &limits(1, 8), soon()).await.unwrap();
        let until = Instant::now() + Duration::from_millis(20);
        assert!(admission.enter("a", &limits(1, 8), until).await.is_err());
        assert_eq!(admission.load(), (1, 0));
    }

    #[tokio::test]
    async fn places_that_become_free_are_shared_by_tenants_however_much_one_asks() {
        let admission = Arc::new(Admission::default());
        let limits = limits(4, 100);
        let mut inside = Vec::new();
        for _ in 0..4 {
            inside.push(admission.enter("loud", &limits, soon()).await.unwrap());
        }
        let mut waiting = Vec::new();
        for _ in 0..20 {
            waiting.push(asks(&admission, "loud", limits).await);
        }
        let mut quiet = Vec::new();
        for _ in 0..3 {
            quiet.push(asks(&admission, "quiet", limits).await);
        }
        // Two of four places become free: the quiet tenant, which came last, has half of them all.
        inside.truncate(2);
        let second = quiet.remove(1).await.unwrap().unwrap();
        let first = quiet.remove(0).await.unwrap().unwrap();
        assert_eq!(admission.load(), (4, 21));
        // At two each the one that waited longest is next, whoever asked.
        inside.truncate(1);
        let next = waiting.remove(0).await.unwrap().unwrap();
        assert_eq!(admission.load(), (4, 20));
        drop((first, second, next, inside));
        for one in quiet.into_iter().chain(waiting) {
            drop(one.await.unwrap().unwrap());
        }
        assert_eq!(admission.load(), (0, 0));
    }

    #[tokio::test]
    async fn a_full_queue_makes_room_for_a_tenant_that_has_fewer_in_it() {
        let admission = Arc::new(Admission::default());
        let limits = limits(1, 4);
        let _inside = admission.enter("loud", &limits, soon()).await.unwrap();
        let mut loud = Vec::new();
        for _ in 0..4 {
            loud.push(asks(&admission, "loud", limits).await);
        }
        let first = asks(&admission, "quiet", limits).await;
        assert!(
            loud.pop().unwrap().await.unwrap().is_err(),
            "the last one is refused"
        );
        let second = asks(&admission, "quiet", limits).await;
        assert!(loud.pop().unwrap().await.unwrap().is_err());
        // Two and two: nobody is taken out any more.
        assert!(admission.enter("quiet", &limits, soon()).await.is_err());
        assert!(admission.enter("loud", &limits, soon()).await.is_err());
        assert_eq!(admission.load(), (1, 4));
        drop((first, second, loud));
    }

    #[tokio::test]
    async fn a_place_that_a_client_does_not_take_any_more_goes_to_the_next() {
        let admission = Arc::new(Admission::default());
        let limits = limits(1, 8);
        let inside = admission.enter("a", &limits, soon()).await.unwrap();
        let gone = asks(&admission, "a", limits).await;
        let next = asks(&admission, "b", limits).await;
        gone.abort();
        drop(inside);
        assert!(gone.await.unwrap_err().is_cancelled());
        drop(next.await.unwrap().unwrap());
        assert_eq!(admission.load(), (0, 0));
    }

    #[tokio::test]
    async fn more_places_let_in_who_waits_and_fewer_wait_for_who_is_in() {
        let admission = Arc::new(Admission::default());
        let first = admission.enter("a", &limits(1, 8), soon()).await.unwrap();
        let second = asks(&admission, "a", limits(1, 8)).await;
        let third = admission.enter("a", &limits(3, 8), soon()).await.unwrap();
        let second = second.await.unwrap().unwrap();
        let fourth = asks(&admission, "a", limits(1, 8)).await;
        drop((first, second));
        assert_eq!(admission.load(), (1, 1), "one place, and it is taken");
        drop(third);
        drop(fourth.await.unwrap().unwrap());
    }
}
