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
use kube::ResourceExt;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_crds::{GatewayRouterStatus, InferenceGateway};

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
    let regret = regret(&health.caches.gateways.state());
    health.metrics.render() + &regret
}

/// What labels say of the version on trial, by gateway. Only those that have one are there.
fn regret(gateways: &[Arc<InferenceGateway>]) -> String {
    let mut text = String::new();
    for (name, help, of) in REGRET {
        let rows = gateways.iter().filter_map(|gateway| {
            let value = of(gateway.status.as_ref()?.router.as_ref()?)?;
            let (namespace, gateway) =
                (gateway.namespace().unwrap_or_default(), gateway.name_any());
            // Names of Kubernetes have nothing that a label would have to hide.
            Some(format!(
                "{name}{{namespace=\"{namespace}\",gateway=\"{gateway}\"}} {value}\n"
            ))
        });
        let rows: String = rows.collect();
        if !rows.is_empty() {
            text += &format!("# HELP {name} {help}\n# TYPE {name} gauge\n{rows}\n");
        }
    }
    text
}

type Of = fn(&GatewayRouterStatus) -> Option<f64>;

const REGRET: [(&str, &str, Of); 2] = [
    (
        "weir_rollout_regret",
        "How many points of five the candidate's answers are worth less than those of the active version",
        |router| router.regret,
    ),
    (
        "weir_rollout_regret_upper",
        "The upper bound of that",
        |router| router.regret_upper,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn gateway(name: &str, router: &serde_json::Value) -> Arc<InferenceGateway> {
        let gateway = json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": "InferenceGateway",
            "metadata": {"name": name, "namespace": "demo"},
            "spec": {"pools": {"matchLabels": {"app": "demo"}}, "auth": {"anonymous": {}}},
            "status": {"router": router},
        });
        Arc::new(serde_json::from_value(gateway).unwrap())
    }

    #[test]
    fn the_regret_of_each_version_on_trial_is_shown_and_no_other() {
        let tried = gateway(
            "tried",
            &json!({"active": "a", "regret": 0.25, "regretUpper": 0.5}),
        );
        let quiet = gateway("quiet", &json!({"active": "a"}));
        let text = regret(&[tried, quiet.clone()]);
        for row in [
            "weir_rollout_regret{namespace=\"demo\",gateway=\"tried\"} 0.25\n",
            "weir_rollout_regret_upper{namespace=\"demo\",gateway=\"tried\"} 0.5\n",
        ] {
            assert!(text.contains(row), "{text}");
        }
        assert!(!text.contains("quiet"), "{text}");
        assert_eq!(regret(&[quiet]), "");
    }
}
