//! `POST /v1/feedback`: a score for an answer that this caller got.
//!
//! Reading on: `decisions.rs` for who may name a decision, `record.rs` for where the score goes.

use super::{Shared, body, decisions};
use crate::record::Feedback;
use crate::rescue::Rescue;
use axum::Json;
use axum::extract::{Request, State};
use serde::Deserialize;
use serde_json::{Value, json};
use weir_plan::Scope;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    decision_id: String,
    /// From 1, useless, to 5, perfect.
    score: f64,
    label: Option<String>,
}

pub(crate) async fn take(State(surfaces): Shared, request: Request) -> Result<Json<Value>, Rescue> {
    let serving = surfaces.gateway.serving();
    let identity = surfaces.identify(&serving, request.headers(), Scope::Ask)?;
    let (_, bytes) = body::read(request, serving.plan.limits.body_max_bytes).await?;
    let given: Given = body::typed(&bytes)?;
    if !(1.0..=5.0).contains(&given.score) {
        let message = format!("score is {}: send a number from 1 to 5", given.score);
        return Err(Rescue::field("score", message));
    }
    decisions::visible(&surfaces, &identity, &given.decision_id)?;
    let feedback = Feedback {
        score: given.score,
        label: given.label,
    };
    if !surfaces.gateway.feedback(&given.decision_id, &feedback) {
        return Err(decisions::unknown());
    }
    Ok(Json(
        json!({"decision_id": given.decision_id, "recorded": true}),
    ))
}
