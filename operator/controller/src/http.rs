//! `/metrics`, `/healthz` and `/readyz` of the operator. No secret, no name of a tenant, bounded labels.

use crate::cache::Caches;
use crate::control::relay::OwnTls;
use crate::control::server::Hub;
use crate::lease::Leadership;
use crate::queue::Queue;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Seconds; from an object that is in step to one that waits for a slow API server.
const SECONDS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// What is read at the moment of a request.
#[derive(Clone)]
pub(crate) struct Health {
    pub(crate) caches: Arc<Caches>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) tls: watch::Receiver<OwnTls>,
    /// Whether every cache has been filled once.
    pub(crate) filled: Arc<AtomicBool>,
    pub(crate) metrics: PrometheusHandle,
}

/// Installs the recorder of the process. Called once.
pub(crate) fn record() -> Option<PrometheusHandle> {
    let suffix = Matcher::Suffix("_seconds".to_owned());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(suffix, &SECONDS);
    let handle = builder.ok()?.install_recorder().ok()?;
    describe();
    Some(handle)
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("weir_reconciles_total", "Reconciles by kind and result");
    describe_histogram!("weir_reconcile_seconds", "Time of a reconcile by kind");
    describe_counter!(
        "weir_watch_errors_total",
        "Watches that failed and were tried again, by kind"
    );
    describe_counter!(
        "weir_plans_published_total",
        "Plans or endpoints told to gateways"
    );
    describe_gauge!("weir_leader", "1 while this process leads");
    describe_gauge!("weir_queue_length", "Objects that are due or wait");
    describe_gauge!(
        "weir_gateways_connected",
        "Gateway processes on the control stream"
    );
    describe_gauge!(
        "weir_unreadable_objects",
        "Objects that this version cannot read"
    );
}

/// Serves until `stop`.
pub(crate) async fn serve(
    listener: TcpListener,
    health: Health,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .with_state(health);
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

async fn ready(State(health): State<Health>) -> (StatusCode, &'static str) {
    let unready = |why| (StatusCode::SERVICE_UNAVAILABLE, why);
    if !health.filled.load(Ordering::Relaxed) {
        return unready("the cluster has not been read yet\n");
    }
    if health.tls.borrow().certificate.is_empty() {
        return unready("there is no certificate for the control stream yet\n");
    }
    match *health.leadership.borrow() {
        Leadership::Leader { .. } => (StatusCode::OK, "leading\n"),
        Leadership::Follower { leader: Some(_) } => (StatusCode::OK, "following\n"),
        Leadership::Follower { leader: None } => unready("nobody leads yet\n"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
async fn metrics_text(State(health): State<Health>) -> String {
    let leads = health.leadership.borrow().epoch().is_some();
    metrics::gauge!("weir_leader").set(if leads { 1.0 } else { 0.0 });
    metrics::gauge!("weir_queue_length").set(health.queue.len() as f64);
    metrics::gauge!("weir_gateways_connected").set(health.hub.ledger().connections() as f64);
    metrics::gauge!("weir_unreadable_objects").set(health.caches.unreadable.len() as f64);
    health.metrics.render()
}
