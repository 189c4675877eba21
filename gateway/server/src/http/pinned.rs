//! A pinned model: what the client sent goes to its pool and the answer comes back. No memory, no router.
//!
//! What is still Weir's: the model must be known and within the privacy limit, `weir` is cut out of the body, a stream is asked
//! for its usage, a failure in the middle of a stream becomes an event, calls that the engine left in the text become calls
//! where tools are offered, and the outcome is recorded. All other bytes stay. Reading on: `chat.rs`, `outcome.rs`.

use super::asked::Asked;
use super::chat::headers;
use super::outcome::Outcome;
use super::stream::Streamed;
use crate::ask::{Ask, ModelChoice};
use crate::dispatch::{CACHE_SALT, add_salt, cache_salt};
use crate::rescue::Rescue;
use crate::serving::Serving;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, poll};
use http::{HeaderValue, header};
use serde_json::{Map, Value, json};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use weir_engine::{
    ChatEvent, ChatRequest, ChatStream, EngineError, ForwardRequest, json_span, offered,
};
use weir_plan::{EngineKind, Pool};

/// What the pool is sent.
pub(crate) enum Sent {
    /// The client's body, to the same path.
    AsItCame { path: &'static str, body: Bytes },
    /// The chat that the client's body was translated to.
    Chat(Map<String, Value>),
}

struct Passing {
    events: ChatStream,
    /// `None` once it is recorded.
    outcome: Option<Outcome>,
}

/// The pool that serves a model by name, with its rank; refused when the request's data would travel too far.
pub(crate) fn pool<'a>(
    serving: &'a Serving,
    ask: &Ask,
    model: &str,
) -> Result<(usize, &'a Pool), Rescue> {
    let plan = &serving.plan;
    let found = plan.pool_for_model(model);
    let found = found.ok_or_else(|| Rescue::unknown_model(model, plan))?;
    if found.1.privacy > serving.privacy(ask) {
        Err(Rescue::privacy(model))
    } else {
        Ok(found)
    }
}

fn pinned<'a>(serving: &'a Serving, ask: &Ask) -> Result<(usize, &'a Pool), Rescue> {
    match &ask.model {
        ModelChoice::Pinned(model) => pool(serving, ask, model),
        ModelChoice::Auto => Err(Rescue::field("model", "model is auto: nothing is pinned")),
    }
}

/// Passes a body through to the engine's same path and the whole answer back.
pub(crate) async fn whole(
    asked: Asked,
    path: &'static str,
    body: &Bytes,
) -> Result<Response, Rescue> {
    let serving = Arc::clone(&asked.serving);
    let (rank, pool) = pinned(&serving, &asked.ask)?;
    let request = forwarding(&serving, &asked.ask, pool, (path, body));
    let answering = async {
        let since = Instant::now();
        let warm = serving.engines.warm(pool, request.deadline).await?;
        let held = since.elapsed();
        let answer = serving.engines.forward(&warm, request).await?;
        Ok((held + answer.queued, answer.body))
    };
    let (mut outcome, answer) = beside(answering, || Outcome::new(asked, rank)).await;
    let (held, body) = answer.map_err(|error| outcome.failed(&error))?;
    outcome.held(held);
    outcome.read(&body);
    outcome.succeeded();
    let mut response = Response::new(Body::from(body));
    *response.headers_mut() = headers(&outcome.decision(), &serving);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

/// Asks the pool for a stream. Returns once something of the answer is there.
pub(crate) async fn stream(asked: Asked, sent: Sent) -> Result<Streamed, Rescue> {
    let serving = Arc::clone(&asked.serving);
    let (rank, pool) = pinned(&serving, &asked.ask)?;
    let ask = &asked.ask;
    let deadline = serving.deadline(&ask.weir, ask.received);
    let beginning = {
        let request = match sent {
            Sent::AsItCame { path, body } => {
                let body = asking_for_usage(pool, ask, body);
                Ok(forwarding(&serving, ask, pool, (path, &body)))
            }
            Sent::Chat(mut body) => {
                add_salt(&mut body, ask, pool);
                Err(ChatRequest {
                    body,
                    prefix: Some(ask.prefix(&ask.messages)),
                    priority: ask.weir.priority.into(),
                    deadline,
                })
            }
        };
        let engines = &serving.engines;
        async move {
            let since = Instant::now();
            let warm = engines.warm(pool, deadline).await?;
            let held = since.elapsed();
            let events = match request {
                Ok(as_it_came) => engines.forward_stream(&warm, as_it_came).await?,
                Err(chat) => engines.chat(&warm, chat).await?,
            };
            Ok((held + events.queued(), events))
        }
    };
    let (mut outcome, begun) = beside(beginning, || Outcome::new(asked, rank)).await;
    let (held, events) = begun.map_err(|error| outcome.failed(&error))?;
    outcome.held(held);
    outcome.begun();
    let decision = outcome.decision();
    let headers = headers(&decision, &serving);
    let passing = Passing {
        events,
        outcome: Some(outcome),
    };
    Ok(Streamed {
        decision,
        headers,
        events: Box::pin(passing),
    })
}

/// What an engine answers, and beside it the outcome, which is made while the engine works: it has been asked when this is
/// polled for the first time.
async fn beside<T>(
    asking: impl Future<Output = Result<T, EngineError>>,
    make: impl FnOnce() -> Outcome,
) -> (Outcome, Result<T, EngineError>) {
    let mut asking = pin!(asking);
    let begun = poll!(asking.as_mut());
    let outcome = make();
    match begun {
        Poll::Ready(answer) => (outcome, answer),
        Poll::Pending => (outcome, asking.await),
    }
}

/// The body of a stream as its engine is sent it: what the answer used is always told, also where the client does not want to
/// hear it (see `chunks.rs`). llama.cpp says it in its own words anyway.
fn asking_for_usage(pool: &Pool, ask: &Ask, body: Bytes) -> Bytes {
    if ask.client.include_usage || pool.engine == EngineKind::LlamaCpp {
        return body;
    }
    json_span::with_member(&body, "stream_options", r#"{"include_usage":true}"#)
}

fn forwarding(
    serving: &Serving,
    ask: &Ask,
    pool: &Pool,
    (path, body): (&'static str, &Bytes),
) -> ForwardRequest<'static> {
    let body = json_span::without(body, &[&["weir"]]);
    ForwardRequest {
        path,
        body: match cache_salt(ask, pool) {
            Some(salt) => json_span::with_member(&body, CACHE_SALT, &json!(salt).to_string()),
            None => body,
        },
        prefix: Some(ask.prefix(&ask.messages)),
        priority: ask.weir.priority.into(),
        deadline: serving.deadline(&ask.weir, ask.received),
        offered: offered(&ask.client.passed),
        choices: ask.client.choices(),
    }
}

impl Stream for Passing {
    type Item = Result<ChatEvent, Rescue>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let passing = &mut *self;
        let Some(outcome) = &mut passing.outcome else {
            return Poll::Ready(None);
        };
        Poll::Ready(
            match std::task::ready!(passing.events.poll_next_unpin(cx)) {
                Some(Ok(event)) => {
                    outcome.saw(&event);
                    Some(Ok(event))
                }
                Some(Err(error)) => {
                    let rescue = outcome.failed(&error);
                    passing.outcome = None;
                    Some(Err(rescue))
                }
                None => {
                    outcome.succeeded();
                    passing.outcome = None;
                    None
                }
            },
        )
    }
}
