//! `/healthz`, `/readyz` and `/metrics`: no key needed, nothing private shown.
//!
//! Alive means this process answers; ready means what `lifecycle.rs` says. Reading on: `metrics.rs`.

use super::Shared;
use crate::gateway::Serving;
use crate::metrics::Gauges;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::{Value, json};
use weir_memory_live::Presence;
use weir_plan::Pool;

pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

pub(crate) async fn readyz(State(surfaces): Shared) -> Response {
    let serving = surfaces.gateway.serving();
    let engines = &serving.engines;
    let loads = engines.loads();
    let load = |pool: &Pool| loads.iter().find(|load| load.pool == pool.name);
    let pools: Vec<Value> = serving
        .plan
        .pools
        .iter()
        .map(|pool| {
            json!({
                "name": pool.name, "model": pool.model, "replicas": pool.endpoints.len(),
                "available": engines.available(pool), "cold": is_cold(pool),
                "in_flight": load(pool).map_or(0, |load| load.in_flight),
                "waiting": load(pool).map_or(0, |load| load.waiting),
            })
        })
        .collect();
    let standing = surfaces.gateway.standing();
    let ready = surfaces.gateway.is_ready();
    let memory = serving.memory.as_ref();
    let memory = memory.map(|memory| match memory.presence() {
        Presence::Here(counts) => json!({
            "nodes": counts.nodes, "edges": counts.edges,
            "vectors": counts.vectors, "pending": counts.pending,
        }),
        Presence::Away(message) => json!({"reason": "MemoryAway", "message": message}),
    });
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = json!({
        "ready": ready, "gateway": serving.plan.gateway, "pools": pools, "memory": memory,
        "draining": standing.draining,
        "plan": {
            "revision": serving.plan.revision, "age_seconds": serving.since.elapsed().as_secs(),
            "stale": standing.is_stale(), "refused": standing.refused,
        },
        "router": {
            "version": serving.router_version(), "sha256": serving.router.artifact().sha256(),
            "missing": standing.router_missing, "drift": surfaces.gateway.drift(),
        },
    });
    (status, Json(body)).into_response()
}

/// Whether some model can answer, or will once it is brought up from zero.
pub(crate) fn can_answer(serving: &Serving) -> bool {
    let mut pools = serving.plan.pools.iter();
    pools.any(|pool| serving.engines.available(pool) || is_cold(pool))
}

/// Whether the pool is at zero and demand brings it up.
fn is_cold(pool: &Pool) -> bool {
    pool.endpoints.is_empty() && pool.when_cold.is_some()
}

pub(crate) async fn metrics(State(surfaces): Shared) -> Response {
    let (in_flight, queued) = surfaces.admission.load();
    let serving = surfaces.gateway.serving();
    let gauges = Gauges {
        in_flight,
        queued,
        rows_lost: surfaces.gateway.rows_lost(),
        serving: &serving,
        standing: surfaces.gateway.standing(),
        rollouts: surfaces.gateway.evidence().total(),
        summaries: surfaces.gateway.summaries(),
        labelled: surfaces.gateway.evidence().labelled(),
        familiarity: surfaces.gateway.familiarity().counts(),
        drift: surfaces.gateway.drift(),
        answers: surfaces.gateway.answers().counts(),
        traces_refused: surfaces.gateway.decisions().traces.refused(),
        issuer: surfaces.gateway.issuer().counts(),
    };
    let text = surfaces.metrics.render(&gauges);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
