//! `POST /v1/route`: what would be decided about a request. Nothing is generated and nobody is asked.
//!
//! Reading on: `answer.rs`.

use super::{Shared, body, caller, extension};
use crate::ask::Ask;
use crate::rescue::Rescue;
use axum::Json;
use axum::extract::{Request, State};
use serde_json::{Value, json};
use std::time::Instant;
use weir_plan::Scope;

pub(crate) async fn route(
    State(surfaces): Shared,
    request: Request,
) -> Result<Json<Value>, Rescue> {
    let received = Instant::now();
    let serving = surfaces.gateway.serving();
    let identity = surfaces
        .identify(&serving, request.headers(), Scope::Ask)
        .await?;
    let (head, bytes) = body::read(request, serving.plan.limits.body_max_bytes).await?;
    let mut body = body::object(&bytes)?;
    body.entry("model").or_insert_with(|| json!("auto"));
    let user = identity.user.clone();
    let caller = caller(identity, &head.headers);
    let mut ask = Ask::parse(body, extension(&head.headers)?, caller, received)?;
    ask.client.user = user.or(ask.client.user);
    if let crate::ask::ModelChoice::Pinned(model) = &ask.model {
        let message = format!("model is {model:?}: only \"auto\" is routed");
        return Err(Rescue::field("model", message));
    }
    let until = serving.deadline(&ask.weir, ask.received);
    let _place = surfaces.enter(&serving, &ask.caller.tenant, until).await?;
    Ok(Json(surfaces.gateway.route(serving, ask).await?))
}
