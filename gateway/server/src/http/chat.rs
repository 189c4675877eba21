//! `POST /v1/chat/completions`: parse, wait for a place, answer whole, as a stream, or pinned.
//!
//! Reading on: `stream.rs`, `pinned.rs`, and `answer.rs` for everything between question and answer.

use super::admission::Place;
use super::{Shared, Surfaces, body, caller, extension, pinned, plan_age, stream};
use crate::answer::{Answer, Decided};
use crate::ask::{Ask, ModelChoice};
use crate::gateway::Serving;
use crate::rescue::Rescue;
use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use weir_engine::Usage;
use weir_plan::Scope;

/// One request with what it holds while it is answered.
pub(crate) struct Asked {
    pub(crate) surfaces: Arc<Surfaces>,
    pub(crate) serving: Arc<Serving>,
    pub(crate) ask: Ask,
    pub(crate) place: Place,
}

pub(crate) async fn complete(
    State(surfaces): Shared,
    request: Request,
) -> Result<Response, Rescue> {
    let received = Instant::now();
    let serving = surfaces.gateway.serving();
    let identity = surfaces.identify(&serving, request.headers(), Scope::Ask)?;
    let (head, bytes) = body::read(request, serving.plan.limits.body_max_bytes).await?;
    let caller = caller(identity, &head.headers);
    let weir = extension(&head.headers)?;
    let ask = Ask::parse(body::object(&bytes)?, weir, caller, received)?;
    let until = serving.deadline(&ask.weir, ask.received);
    let place = surfaces.enter(&serving, until).await?;
    let asked = Asked {
        surfaces,
        serving,
        ask,
        place,
    };
    match asked.ask.model {
        ModelChoice::Pinned(_) => pinned::pass(asked, bytes).await,
        ModelChoice::Auto if asked.ask.client.stream => stream::answer(asked).await,
        ModelChoice::Auto => whole(asked).await,
    }
}

async fn whole(asked: Asked) -> Result<Response, Rescue> {
    let wants_weir = wants_weir(&asked.ask);
    let gateway = &asked.surfaces.gateway;
    let answered = gateway.answer(Arc::clone(&asked.serving), asked.ask).await;
    let metrics = &asked.surfaces.metrics;
    let answer = answered.inspect_err(|error| metrics.failed(error.kind()))?;
    metrics.answered(&answer.decision, answer.usage);
    let headers = headers(&answer.decision, &asked.serving);
    drop(asked.place);
    Ok((headers, Json(completion(&answer, wants_weir))).into_response())
}

/// Whether the client asked for more than OpenAI's fields.
pub(crate) fn wants_weir(ask: &Ask) -> bool {
    ask.weir.explain || ask.weir.citations
}

fn completion(answer: &Answer, wants_weir: bool) -> Value {
    let decision = &answer.decision;
    let mut body = json!({
        "id": format!("chatcmpl-{}", decision.id),
        "object": "chat.completion",
        "created": unix_seconds(),
        "model": decision.model,
        "choices": [{
            "index": 0,
            "message": answer.message,
            "logprobs": answer.logprobs,
            "finish_reason": answer.finish_reason,
        }],
        "usage": usage(answer.usage),
    });
    if wants_weir {
        body["weir"] = weir(decision);
    }
    body
}

/// The `weir` object of an answer: where it comes from and how it was decided.
pub(crate) fn weir(decision: &Decided) -> Value {
    let mut object = Map::new();
    object.insert("decision_id".to_owned(), json!(decision.id));
    object.insert("sources".to_owned(), json!(decision.sources));
    if let Some(explain) = &decision.explain {
        object.insert("explain".to_owned(), explain.clone());
    }
    Value::Object(object)
}

/// OpenAI's `usage`.
pub(crate) fn usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    })
}

pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

/// What every answer says about itself. A value that is no header value (a model with control characters) is left out.
pub(crate) fn headers(decision: &Decided, serving: &Serving) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let escalated = if decision.escalated { "true" } else { "false" };
    for (name, value) in [
        ("x-weir-decision", decision.id.as_str()),
        ("x-weir-model", decision.model.as_str()),
        ("x-weir-recall", recall_name(decision)),
        ("x-weir-escalated", escalated),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    headers.insert("x-weir-plan-age", plan_age(serving));
    headers
}

/// The recall as the header and metrics name it.
pub(crate) fn recall_name(decision: &Decided) -> &'static str {
    match decision.recall {
        weir_router::RecallMode::None => "none",
        weir_router::RecallMode::Vector => "vector",
        weir_router::RecallMode::Graph => "graph",
    }
}
