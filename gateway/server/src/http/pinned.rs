//! A pinned model: what the client sent goes to its pool and the answer comes back. No memory, no router.
//!
//! What is still Weir's: the model must be known and within the privacy limit, `weir` is cut out of the body, a failure
//! in the middle of a stream becomes an event, calls that the engine left in the text become calls where tools are offered,
//! and the outcome is recorded. All other bytes stay. Reading on: `chat.rs`, `outcome.rs`.

use super::asked::Asked;
use super::outcome::Outcome;
use super::stream::Streamed;
use crate::ask::{Ask, ModelChoice};
use crate::rescue::Rescue;
use crate::serving::Serving;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderValue, header};
use serde_json::{Map, Value};
use std::sync::Arc;
use weir_engine::{ChatEvent, ChatRequest, ChatStream, ForwardRequest, json_span, offered};
use weir_plan::Pool;

/// What the pool is sent.
pub(crate) enum Sent {
    /// The client's body, to the same path.
    AsItCame { path: &'static str, body: Bytes },
    /// The chat that the client's body was translated to.
    Chat(Map<String, Value>),
}

struct Passing {
    events: ChatStream,
    outcome: Outcome,
    ended: bool,
}

/// The pool that serves a model by name, refused when its data would travel too far.
pub(crate) fn pool<'a>(
    serving: &'a Serving,
    ask: &Ask,
    model: &str,
) -> Result<(usize, &'a Pool), Rescue> {
    let plan = &serving.plan;
    let found = plan
        .pool_for_model(model)
        .ok_or_else(|| Rescue::unknown_model(model, plan))?;
    if found.1.privacy > serving.privacy(ask) {
        Err(Rescue::privacy(model))
    } else {
        Ok(found)
    }
}

/// Passes a body through to the engine's same path and the whole answer back.
pub(crate) async fn whole(
    asked: Asked,
    path: &'static str,
    body: Bytes,
) -> Result<Response, Rescue> {
    let serving = Arc::clone(&asked.serving);
    let (mut outcome, pool) = begin(&serving, asked)?;
    let request = forwarding(&serving, &outcome.ask, path, &body);
    let warm = serving.engines.warm(pool, request.deadline).await;
    let warm = warm.map_err(|error| outcome.failed(&error))?;
    let answer = serving.engines.forward(&warm, request).await;
    let answer = answer.map_err(|error| outcome.failed(&error))?;
    outcome.read(&answer);
    outcome.succeeded();
    let mut response = Response::new(Body::from(answer));
    *response.headers_mut() = outcome.headers();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

/// Asks the pool for a stream. Returns once something of the answer is there.
pub(crate) async fn stream(asked: Asked, sent: Sent) -> Result<Streamed, Rescue> {
    let serving = Arc::clone(&asked.serving);
    let (mut outcome, pool) = begin(&serving, asked)?;
    let ask = &outcome.ask;
    let deadline = serving.deadline(&ask.weir, ask.received);
    let warm = serving.engines.warm(pool, deadline).await;
    let warm = warm.map_err(|error| outcome.failed(&error))?;
    let events = match sent {
        Sent::AsItCame { path, body } => {
            let request = forwarding(&serving, &outcome.ask, path, &body);
            serving.engines.forward_stream(&warm, request).await
        }
        Sent::Chat(body) => {
            let prefix = Some(outcome.ask.prefix(&outcome.ask.messages));
            let request = ChatRequest {
                body,
                prefix,
                deadline,
            };
            serving.engines.chat(&warm, request).await
        }
    };
    let events = events.map_err(|error| outcome.failed(&error))?;
    outcome.begun();
    let (decision, headers) = (outcome.decision(), outcome.headers());
    let passing = Passing {
        events,
        outcome,
        ended: false,
    };
    Ok(Streamed {
        decision,
        headers,
        events: Box::pin(stream::unfold(passing, Passing::next)),
    })
}

fn begin(serving: &Arc<Serving>, asked: Asked) -> Result<(Outcome, &Pool), Rescue> {
    let ModelChoice::Pinned(model) = asked.ask.model.clone() else {
        return Err(Rescue::field("model", "model is auto: nothing is pinned"));
    };
    let (rank, pool) = pool(serving, &asked.ask, &model)?;
    Ok((Outcome::new(asked, model, rank), pool))
}

fn forwarding(
    serving: &Serving,
    ask: &Ask,
    path: &'static str,
    body: &Bytes,
) -> ForwardRequest<'static> {
    ForwardRequest {
        path,
        body: json_span::without(body, &[&["weir"]]),
        prefix: Some(ask.prefix(&ask.messages)),
        deadline: serving.deadline(&ask.weir, ask.received),
        offered: offered(&ask.client.passed),
    }
}

impl Passing {
    async fn next(mut self) -> Option<(Result<ChatEvent, Rescue>, Self)> {
        if self.ended {
            return None;
        }
        match self.events.next().await {
            Some(Ok(event)) => {
                self.outcome.saw(&event);
                Some((Ok(event), self))
            }
            Some(Err(error)) => {
                self.ended = true;
                Some((Err(self.outcome.failed(&error)), self))
            }
            None => {
                self.outcome.succeeded();
                None
            }
        }
    }
}
