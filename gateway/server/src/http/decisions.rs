//! `GET /v1/decisions/{id}`: everything that was recorded about one answer.
//!
//! Readable by the tenant that asked, by judges and by admin keys; to everybody else it does not exist. Reading on:
//! `record.rs`.

use super::{Shared, Surfaces};
use crate::auth::Identity;
use crate::record::Record;
use crate::rescue::Rescue;
use axum::Json;
use axum::extract::{Path, State};
use http::HeaderMap;
use weir_plan::Scope;

pub(crate) async fn show(
    State(surfaces): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Record>, Rescue> {
    let serving = surfaces.gateway.serving();
    let identity = surfaces
        .identify_any(&serving, &headers, &[Scope::Ask, Scope::Judge])
        .await?;
    Ok(Json(visible(&surfaces, &identity, &id)?))
}

/// The record, if this caller may know of it.
pub(crate) fn visible(
    surfaces: &Surfaces,
    identity: &Identity,
    id: &str,
) -> Result<Record, Rescue> {
    let record = surfaces.gateway.decision(id).ok_or_else(unknown)?;
    let may = record.tenant == identity.tenant || identity.has(Scope::Judge);
    if may { Ok(record) } else { Err(unknown()) }
}

pub(crate) fn unknown() -> Rescue {
    Rescue::not_found("the decision")
}
