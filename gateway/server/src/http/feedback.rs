//! `POST /v1/feedback`: a score for an answer that this caller got, or a judge's label of any.
//!
//! A score with a propensity is a label: with which probability the judge had picked this decision before the answer was
//! seen. Only labels enter a rollout's gate, and only keys with the scope `judge` give them. Reading on: `decisions.rs` for
//! who may name a decision, `record.rs` for where the score goes, `evidence.rs` for what a label counts for.

use super::{Shared, body, decisions};
use crate::auth::AuthError;
use crate::gateway::Scored;
use crate::record::Feedback;
use crate::rescue::Rescue;
use axum::Json;
use axum::extract::{Request, State};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use weir_plan::Scope;

/// A label that stands for more disagreements than this many would decide alone.
const PROPENSITY_MIN: f64 = 0.01;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FeedbackRequest")]
pub(crate) struct Given {
    decision_id: String,
    /// From 1, useless, to 5, perfect.
    #[schemars(range(min = 1, max = 5))]
    score: f64,
    label: Option<String>,
    /// A judge's probability of having picked this decision; needs the scope `judge`.
    #[schemars(range(min = PROPENSITY_MIN, max = 1))]
    propensity: Option<f64>,
}

pub(crate) async fn take(State(surfaces): Shared, request: Request) -> Result<Json<Value>, Rescue> {
    let serving = surfaces.gateway.serving();
    let scopes = [Scope::Ask, Scope::Judge];
    let identity = surfaces
        .identify_any(&serving, request.headers(), &scopes)
        .await?;
    let (_, bytes) = body::read(request, serving.plan.limits.body_max_bytes).await?;
    let given: Given = body::typed(&bytes)?;
    if !(1.0..=5.0).contains(&given.score) {
        let message = format!("score is {}: send a number from 1 to 5", given.score);
        return Err(Rescue::field("score", message));
    }
    match given.propensity {
        None => drop(decisions::visible(
            &surfaces,
            &identity,
            &given.decision_id,
        )?),
        Some(_) if !identity.has(Scope::Judge) => return Err(AuthError::Scope(Scope::Judge).into()),
        Some(propensity) if !(PROPENSITY_MIN..=1.0).contains(&propensity) => {
            let message = format!(
                "propensity is {propensity}: send the probability with which the decision was picked to be judged, from \
                 {PROPENSITY_MIN} to 1"
            );
            return Err(Rescue::field("propensity", message));
        }
        Some(_) => {}
    }
    let feedback = Feedback {
        score: given.score,
        label: given.label,
        propensity: given.propensity,
    };
    match surfaces.gateway.feedback(&given.decision_id, &feedback) {
        Scored::Unknown => Err(decisions::unknown()),
        scored => Ok(Json(json!({
            "decision_id": given.decision_id,
            "recorded": true,
            "counted": scored == Scored::Counted,
        }))),
    }
}
