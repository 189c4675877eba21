//! `POST /v1/chat/completions`: parse, wait for a place, answer whole, as a stream, or pinned.
//!
//! Reading on: `asked.rs`, `stream.rs`, `pinned.rs`, and `answer.rs` for everything between question and answer.

use super::asked::{self, Asked};
use super::chunks::{Chunks, Wanted};
use super::pinned::Sent;
use super::{Shared, body, pinned, plan_age, stream};
use crate::answer::{Answer, Decided};
use crate::ask::ModelChoice;
use crate::gateway::Serving;
use crate::rescue::Rescue;
use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use weir_engine::Usage;

const PATH: &str = "/v1/chat/completions";
/// Headers that an answer has room for before they are laid out anew.
const HEADERS: usize = 12;
static DECISION: HeaderName = HeaderName::from_static("x-weir-decision");
static MODEL: HeaderName = HeaderName::from_static("x-weir-model");
static RECALL: HeaderName = HeaderName::from_static("x-weir-recall");
static ESCALATED: HeaderName = HeaderName::from_static("x-weir-escalated");
static CACHE: HeaderName = HeaderName::from_static("x-weir-cache");
static PLAN_AGE: HeaderName = HeaderName::from_static("x-weir-plan-age");

pub(crate) async fn complete(
    State(surfaces): Shared,
    request: Request,
) -> Result<Response, Rescue> {
    let chat = |bytes: Bytes| Ok((body::object(&bytes)?, bytes));
    let (asked, bytes) = asked::ask(surfaces, request, chat).await?;
    // What is routed takes much more room than what is passed on, which would have to move it about.
    match (&asked.ask.model, asked.ask.client.stream) {
        (ModelChoice::Pinned(_), _) => pass(asked, PATH, bytes).await,
        (ModelChoice::Auto, true) => {
            let (wanted, serving) = (Wanted::of(&asked.ask), Arc::clone(&asked.serving));
            let streamed = Box::pin(stream::routed(asked)).await?;
            let chunks = Chunks::routed(wanted, &serving, &streamed.decision);
            Ok(streamed.respond(chunks))
        }
        (ModelChoice::Auto, false) => {
            let wanted = Wanted::of(&asked.ask);
            let (answer, headers) = Box::pin(whole(asked)).await?;
            Ok((headers, Json(completion(&answer, wanted))).into_response())
        }
    }
}

/// A pinned model's answer as its engine gives it, whole or as a stream.
pub(crate) async fn pass(
    asked: Asked,
    path: &'static str,
    body: Bytes,
) -> Result<Response, Rescue> {
    if !asked.ask.client.stream {
        return pinned::whole(asked, path, &body).await;
    }
    let chunks = Chunks::passed(&asked.ask);
    let streamed = pinned::stream(asked, Sent::AsItCame { path, body }).await?;
    Ok(streamed.respond(chunks))
}

/// A routed answer, whole, with what its headers say.
pub(crate) async fn whole(asked: Asked) -> Result<(Answer, HeaderMap), Rescue> {
    let gateway = &asked.surfaces.gateway;
    let answered = gateway.answer(Arc::clone(&asked.serving), asked.ask).await;
    let metrics = &asked.surfaces.metrics;
    let answer = answered.inspect_err(|error| metrics.failed(error.kind()))?;
    metrics.answered(&answer.decision, &asked.serving.plan, answer.usage);
    let headers = headers(&answer.decision, &asked.serving);
    Ok((answer, headers))
}

fn completion(answer: &Answer, wanted: Wanted) -> Value {
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
    if wanted.weir {
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
    let mut headers = HeaderMap::with_capacity(HEADERS);
    let escalated = if decision.escalated { "true" } else { "false" };
    for (name, value) in [
        (&DECISION, decision.id.as_str()),
        (&MODEL, decision.model.as_str()),
        (&RECALL, recall_name(decision)),
        (&ESCALATED, escalated),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    if let Some(cached) = decision.cached {
        let cached = if cached { "hit" } else { "miss" };
        headers.insert(&CACHE, HeaderValue::from_static(cached));
    }
    headers.insert(&PLAN_AGE, plan_age(serving));
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
