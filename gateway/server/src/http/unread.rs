//! Streams of HTTP/2 whose client has stopped reading: each ends by itself, since its connection goes on with others.
//!
//! What a client does not read fills the window of its stream. From then on the body is not polled, so no deadline within it is seen and
//! what it holds at an engine stays held. A connection of HTTP/1.1 has one answer at a time and is watched as a whole:
//! `stalled.rs`. Reading on: `stream.rs`.

use axum::body::Body;
use hyper::body::Frame;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// A body that is dropped when what follows a piece of it is not asked for within the patience.
struct Watched {
    shared: Arc<Shared>,
    watch: AbortHandle,
}

struct Shared(Mutex<State>);

struct State {
    /// `None` once it was given up.
    body: Option<Body>,
    /// When a piece was handed over; `None` while the next one is waited for.
    handed: Option<Instant>,
}

/// The same body, given up when its client takes nothing for this long. Needs a running tokio.
pub(super) fn given_up_after(patience: Duration, body: Body) -> Body {
    let shared = Arc::new(Shared(Mutex::new(State {
        body: Some(body),
        handed: Some(Instant::now()),
    })));
    let watch = tokio::spawn(watch(Arc::downgrade(&shared), patience)).abort_handle();
    Body::new(Watched { shared, watch })
}

async fn watch(shared: Weak<Shared>, patience: Duration) {
    let mut until = Instant::now() + patience;
    loop {
        tokio::time::sleep_until(until).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let now = Instant::now();
        let mut state = shared.lock();
        until = state.handed.unwrap_or(now) + patience;
        if until <= now {
            let unread = state.body.take();
            drop(state);
            return drop(unread);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl hyper::body::Body for Watched {
    type Data = bytes::Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut state = self.shared.lock();
        state.handed = None;
        let Some(body) = &mut state.body else {
            let late = io::Error::new(io::ErrorKind::TimedOut, "the client took nothing");
            return Poll::Ready(Some(Err(late.into())));
        };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        state.handed = Some(Instant::now());
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        let state = self.shared.lock();
        state.body.as_ref().is_some_and(Body::is_end_stream)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::BoxError;
    use bytes::Bytes;
    use futures_util::stream;
    use http_body_util::BodyExt;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Two pieces, the second of which takes a while.
    fn body(pause: Duration) -> Body {
        let pieces = stream::unfold(0, move |number| async move {
            if number == 1 {
                tokio::time::sleep(pause).await;
            }
            let piece = Ok::<_, BoxError>(Bytes::from_static(b"piece"));
            (number < 2).then_some((piece, number + 1))
        });
        Body::from_stream(pieces)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_not_read_is_dropped_and_says_so_to_who_reads_on() {
        let mut watched = given_up_after(PATIENCE, body(Duration::ZERO));
        assert!(watched.frame().await.unwrap().is_ok());
        tokio::time::sleep(PATIENCE + Duration::from_secs(1)).await;
        let error = watched.frame().await.unwrap().unwrap_err();
        assert!(format!("{error:?}").contains("took nothing"), "{error:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_slow_itself_is_waited_for() {
        let watched = given_up_after(PATIENCE, body(PATIENCE * 3));
        let whole = watched.collect().await.unwrap().to_bytes();
        assert_eq!(whole, "piecepiece");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_its_time_within_the_patience_gets_everything() {
        let mut watched = given_up_after(PATIENCE, body(Duration::ZERO));
        for _ in 0..2 {
            tokio::time::sleep(PATIENCE / 2).await;
            assert!(watched.frame().await.unwrap().is_ok());
        }
        assert!(watched.frame().await.is_none());
    }
}
