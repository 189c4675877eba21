//! A future that wakes its task only from outside.
//!
//! A connection, the request on it and the engine's connection that the request drives tell each other of their progress by waking
//! their task, which is the one that runs. The runtime then puts that task into its queue and gets another thread out of its sleep to look at
//! it: two system calls, a processor taken from the engine beside us, and the task on another core. Polled here, what was woken
//! meanwhile is polled again at once. Reading on: `serve.rs`.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Polls in a row before other tasks have their turn.
const ROUNDS_MAX: usize = 8;

/// Nobody polls: who wakes wakes the task.
const RESTS: u8 = 0;
/// It is polled.
const RUNS: u8 = 1;
/// It was woken while it was polled.
const WOKEN: u8 = 2;

/// The future.
pub(crate) struct Quiet<F> {
    future: Pin<Box<F>>,
    state: Arc<State>,
    waker: Waker,
}

struct State {
    now: AtomicU8,
    task: AtomicWaker,
}

impl<F: Future> Quiet<F> {
    pub(crate) fn new(future: F) -> Self {
        let state = Arc::new(State {
            now: AtomicU8::new(RESTS),
            task: AtomicWaker::new(),
        });
        Self {
            future: Box::pin(future),
            waker: Arc::clone(&state).into(),
            state,
        }
    }
}

impl<F: Future> Future for Quiet<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self {
            future,
            state,
            waker,
        } = &mut *self;
        state.task.register(cx.waker());
        for _ in 0..ROUNDS_MAX {
            state.now.store(RUNS, Ordering::Release);
            let polled = future.as_mut().poll(&mut Context::from_waker(waker));
            if polled.is_ready() || state.now.swap(RESTS, Ordering::AcqRel) == RUNS {
                return polled;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Wake for State {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let runs = |now| (now != RESTS).then_some(WOKEN);
        let during = self
            .now
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, runs);
        if during.is_err() {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;

    /// Counts how often its task would have been put into the queue.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn polled<F: Future + Unpin>(future: &mut F, count: &Arc<Count>) -> Poll<F::Output> {
        let waker = Arc::clone(count).into();
        Pin::new(future).poll(&mut Context::from_waker(&waker))
    }

    #[test]
    fn what_wakes_itself_is_polled_again_without_its_task() {
        let count = Arc::new(Count::default());
        let mut left = 5;
        let mut quiet = Quiet::new(poll_fn(move |cx| {
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
        assert_eq!(polled(&mut quiet, &count), Poll::Ready(()));
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_never_stops_waking_itself_lets_others_have_their_turn() {
        let count = Arc::new(Count::default());
        let mut quiet = Quiet::new(poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        assert_eq!(polled(&mut quiet, &count), Poll::Pending);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn who_wakes_it_while_it_rests_wakes_its_task() {
        let count = Arc::new(Count::default());
        let (sender, mut receiver) = tokio::sync::oneshot::channel();
        let mut quiet = Quiet::new(async { (&mut receiver).await.unwrap() });
        assert_eq!(polled(&mut quiet, &count), Poll::Pending);
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        sender.send(7).unwrap();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert_eq!(polled(&mut quiet, &count), Poll::Ready(7));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_wake_from_another_thread_is_lost() {
        for round in 0..2_000 {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let quiet = tokio::spawn(Quiet::new(receiver));
            let told = tokio::spawn(async move { sender.send(round) });
            assert_eq!(quiet.await.unwrap(), Ok(round));
            told.await.unwrap().unwrap();
        }
    }
}
