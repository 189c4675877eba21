//! `GET /v1/models`: `auto`, then every pool's model.
//!
//! Shows what a client needs to choose (context, tier, privacy, whether it can answer now), never where it runs.

use super::Shared;
use crate::gateway::Serving;
use crate::rescue::Rescue;
use axum::Json;
use axum::extract::{Path, State};
use http::HeaderMap;
use serde_json::{Value, json};
use weir_plan::{Pool, Scope};

pub(crate) async fn list(
    State(surfaces): Shared,
    headers: HeaderMap,
) -> Result<Json<Value>, Rescue> {
    let serving = surfaces.gateway.serving();
    surfaces.identify(&serving, &headers, Scope::Ask).await?;
    let pools = serving.plan.pools.iter().map(|pool| model(&serving, pool));
    let data: Vec<Value> = std::iter::once(auto(&serving)).chain(pools).collect();
    Ok(Json(json!({"object": "list", "data": data})))
}

pub(crate) async fn one(
    State(surfaces): Shared,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Rescue> {
    let serving = surfaces.gateway.serving();
    surfaces.identify(&serving, &headers, Scope::Ask).await?;
    if name == "auto" {
        return Ok(Json(auto(&serving)));
    }
    let plan = &serving.plan;
    let (_, pool) = plan
        .pool_for_model(&name)
        .ok_or_else(|| Rescue::unknown_model(&name, plan))?;
    Ok(Json(model(&serving, pool)))
}

fn auto(serving: &Serving) -> Value {
    let mut pools = serving.plan.pools.iter();
    let available = pools.any(|pool| serving.engines.available(pool));
    let context = serving
        .plan
        .pools
        .iter()
        .map(|pool| pool.context_tokens)
        .max();
    json!({
        "id": "auto", "object": "model", "created": 0, "owned_by": "weir",
        "weir": {"context_tokens": context, "available": available},
    })
}

fn model(serving: &Serving, pool: &Pool) -> Value {
    json!({
        "id": pool.model, "object": "model", "created": 0, "owned_by": "weir",
        "weir": {
            "pool": pool.name, "tier": pool.tier, "privacy": pool.privacy,
            "context_tokens": pool.context_tokens,
            "available": serving.engines.available(pool),
        },
    })
}
