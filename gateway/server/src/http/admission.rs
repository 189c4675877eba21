//! How many requests a gateway works on at once, and how many may wait.
//!
//! The queue is first come, first served and bounded by the plan; a waiting request leaves it at its deadline or when
//! its client goes away. Nothing here knows what a request is. Reading on: `mod.rs`.

use crate::rescue::Rescue;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use weir_plan::Limits;

#[derive(Debug)]
pub(crate) struct Admission {
    gate: Mutex<Gate>,
    waiting: AtomicU32,
}

#[derive(Debug)]
struct Gate {
    size: u32,
    places: Arc<Semaphore>,
}

/// One of the places; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// A request in the queue; leaves it when dropped.
struct Waiting<'a>(&'a AtomicU32);

impl Admission {
    pub(crate) fn new() -> Self {
        let gate = Gate {
            size: 0,
            places: Arc::new(Semaphore::new(0)),
        };
        Self {
            gate: Mutex::new(gate),
            waiting: AtomicU32::new(0),
        }
    }

    /// Takes a place, waiting for one until the deadline if the queue has room.
    pub(crate) async fn enter(&self, limits: &Limits, until: Instant) -> Result<Place, Rescue> {
        let places = self.places(limits.in_flight_max);
        if let Ok(permit) = Arc::clone(&places).try_acquire_owned() {
            return Ok(Place(permit));
        }
        let waiting = Waiting(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::SeqCst) >= limits.queue_max {
            return Err(Rescue::busy("the gateway is full: try again shortly"));
        }
        let waited = tokio::time::timeout_at(until.into(), places.acquire_owned()).await;
        drop(waiting);
        match waited {
            Ok(Ok(permit)) => Ok(Place(permit)),
            Ok(Err(_)) | Err(_) => Err(Rescue::busy(
                "the gateway was full until the request's time was over",
            )),
        }
    }

    /// Requests being worked on and requests waiting.
    pub(crate) fn load(&self) -> (usize, u32) {
        let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let size = usize::try_from(gate.size).unwrap_or(usize::MAX);
        (
            size.saturating_sub(gate.places.available_permits()),
            self.waiting.load(Ordering::SeqCst),
        )
    }

    /// The places of the present limit. After a change, requests that hold an old place finish beside the new ones.
    fn places(&self, size: u32) -> Arc<Semaphore> {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        if gate.size != size {
            let places = usize::try_from(size)
                .unwrap_or(usize::MAX)
                .min(Semaphore::MAX_PERMITS);
            *gate = Gate {
                size,
                places: Arc::new(Semaphore::new(places)),
            };
        }
        Arc::clone(&gate.places)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn limits(in_flight_max: u32, queue_max: u32) -> Limits {
        Limits {
            in_flight_max,
            queue_max,
            ..Limits::default()
        }
    }

    #[tokio::test]
    async fn a_full_gateway_queues_then_refuses_and_a_free_place_goes_to_who_waits() {
        let admission = Arc::new(Admission::new());
        let until = Instant::now() + Duration::from_secs(60);
        let first = admission.enter(&limits(1, 1), until).await.unwrap();
        let queued = tokio::spawn({
            let admission = Arc::clone(&admission);
            async move { admission.enter(&limits(1, 1), until).await.is_ok() }
        });
        while admission.load() != (1, 1) {
            tokio::task::yield_now().await;
        }
        let refused = admission.enter(&limits(1, 1), until).await.unwrap_err();
        assert_eq!(refused.status(), http::StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(
            admission.load(),
            (1, 1),
            "a refused request leaves the queue as it was"
        );
        drop(first);
        assert!(queued.await.unwrap());
        assert_eq!(admission.load(), (0, 0));
    }

    #[tokio::test]
    async fn a_waiting_request_leaves_at_its_deadline() {
        let admission = Admission::new();
        let now = Instant::now();
        let _first = admission
            .enter(&limits(1, 8), now + Duration::from_secs(60))
            .await
            .unwrap();
        assert!(
            admission
                .enter(&limits(1, 8), now + Duration::from_millis(20))
                .await
                .is_err()
        );
        assert_eq!(admission.load(), (1, 0));
    }
}
