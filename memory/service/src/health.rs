//! `/healthz`, `/readyz` and `/metrics` over plain HTTP, for probes that have no certificate: nothing private is shown.
//!
//! Alive means this process answers; ready means the store is open, the embedder loaded, and the service not told to stop.
//! An external store is asked from the start, whether its servers are there or not: what it lacks is said by `Describe`.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use weir_memory_live::Upkept;

use crate::metrics::Metrics;
use crate::served::Served;

/// How often recorded times are folded.
const UPKEEP: Duration = Duration::from_secs(10);

/// What probes and scrapes see.
#[derive(Debug, Default)]
pub(crate) struct Health {
    metrics: Arc<Metrics>,
    phase: Mutex<Phase>,
}

#[derive(Debug, Default)]
enum Phase {
    /// The store is being opened.
    #[default]
    Opening,
    /// Calls are answered. Also while the last ones are, when it was told to stop.
    Open {
        store: Served,
        refused: Arc<AtomicUsize>,
        upkept: Arc<Upkept>,
        draining: bool,
    },
    /// The store is closed.
    Closed,
}

impl Health {
    pub(crate) fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// The store is open; `refused` counts its passages that get no vector.
    pub(crate) fn open(&self, store: Served, refused: Arc<AtomicUsize>, upkept: Arc<Upkept>) {
        *self.phase() = Phase::Open {
            store,
            refused,
            upkept,
            draining: false,
        };
    }

    /// No more calls are taken.
    pub(crate) fn drain(&self) {
        if let Phase::Open { draining, .. } = &mut *self.phase() {
            *draining = true;
        }
    }

    /// Lets go of the store.
    pub(crate) fn close(&self) {
        *self.phase() = Phase::Closed;
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers until `stop`.
pub(crate) async fn serve(listener: TcpListener, health: Arc<Health>, stop: CancellationToken) {
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .with_state(Arc::clone(&health));
    let upkeep = async {
        let mut tick = tokio::time::interval(UPKEEP);
        loop {
            tick.tick().await;
            health.metrics.upkeep();
        }
    };
    let answering = axum::serve(listener, routes);
    // A connection that is kept alive must not keep the process: it ends here, answered or not.
    tokio::select! {
        ended = async { answering.await } => {
            if let Err(error) = ended {
                tracing::error!("probes are no longer answered: {error}");
            }
        }
        () = upkeep => {}
        () = stop.cancelled() => {}
    }
}

async fn readyz(State(health): State<Arc<Health>>) -> (StatusCode, &'static str) {
    match &*health.phase() {
        Phase::Opening => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the store is being opened\n",
        ),
        Phase::Open {
            draining: false, ..
        } => (StatusCode::OK, "ok\n"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
    }
}

async fn scrape(State(health): State<Arc<Health>>) -> Response {
    let text = match &*health.phase() {
        Phase::Open {
            store,
            refused,
            upkept,
            ..
        } => health.metrics.render(Some((store, refused, upkept))),
        _ => health.metrics.render(None),
    };
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_that_has_no_open_store_is_not_ready() {
        let health = Arc::new(Health::default());
        let said = readyz(State(Arc::clone(&health))).await;
        let opening = "the store is being opened\n";
        assert_eq!(said, (StatusCode::SERVICE_UNAVAILABLE, opening));
        health.close();
        let said = readyz(State(health)).await;
        assert_eq!(said, (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"));
    }
}
