//! A pinned model: the body goes to its pool and the answer comes back, bytes untouched. No memory, no router.
//!
//! What is still Weir's: the model must be known and within the privacy limit, `weir` is cut out of the body, a failure
//! in the middle of a stream becomes an event, and the outcome is recorded. Reading on: `chat.rs`.

use super::chat::Asked;
use super::stream::sse_headers;
use super::{Surfaces, plan_age};
use crate::ask::{Ask, ModelChoice};
use crate::fill::PinnedAnswer;
use crate::rescue::Rescue;
use crate::serving::Serving;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use weir_engine::sse::{EventTooLong, WholeEvents};
use weir_engine::{EngineError, ForwardBody, ForwardRequest, Phase, Usage, json_span};
use weir_plan::Pool;

const CHAT: &str = "/v1/chat/completions";
/// Bytes of the end of a stream that are kept to read the usage from: its last events.
const TAIL_MAX: usize = 4 << 10;

/// The outcome of a pinned request, recorded once, also when the client goes away.
struct Outcome {
    surfaces: Arc<Surfaces>,
    serving: Arc<Serving>,
    ask: Ask,
    rank: usize,
    pool: String,
    id: String,
    model: String,
    /// The last bytes of a stream.
    tail: Vec<u8>,
    /// What the end of the answer says, once it is there.
    end: End,
    error: Option<&'static str>,
    ttft: Option<Duration>,
    finished: bool,
    _place: super::admission::Place,
}

struct Passing {
    body: ForwardBody,
    events: WholeEvents,
    outcome: Outcome,
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

pub(crate) async fn pass(asked: Asked, bytes: Bytes) -> Result<Response, Rescue> {
    let Asked {
        surfaces,
        serving,
        ask,
        place,
    } = asked;
    let ModelChoice::Pinned(model) = ask.model.clone() else {
        return Err(Rescue::field("model", "model is auto: nothing is pinned"));
    };
    let (rank, pool) = pool(&serving, &ask, &model)?;
    let deadline = serving.deadline(&ask.weir, ask.received);
    let request = ForwardRequest {
        path: CHAT,
        body: json_span::without(&bytes, &[&["weir"]]),
        prefix: Some(ask.prefix(&ask.messages)),
        deadline,
    };
    let id = surfaces.gateway.new_decision_id();
    let streams = ask.client.stream;
    let mut outcome = Outcome {
        surfaces: Arc::clone(&surfaces),
        serving: Arc::clone(&serving),
        ask,
        rank,
        pool: pool.name.clone(),
        id,
        model,
        tail: Vec::new(),
        end: End::default(),
        error: Some("client_gone"),
        ttft: None,
        finished: false,
        _place: place,
    };
    let warm = serving.engines.warm(pool, deadline).await;
    let warm = warm.map_err(|error| outcome.failed(&error))?;
    let forwarded = serving.engines.forward(&warm, request).await;
    let forwarded = forwarded.map_err(|error| outcome.failed(&error))?;
    outcome.ttft = Some(outcome.ask.received.elapsed());
    let mut response = Response::new(Body::empty());
    outcome.head(&mut response);
    if streams {
        sse_headers(&mut response);
        let passing = Passing {
            body: forwarded.into_body(),
            events: WholeEvents::default(),
            outcome,
        };
        *response.body_mut() = Body::from_stream(stream::unfold(passing, Passing::next));
        return Ok(response);
    }
    let whole = forwarded.into_body().collect().await;
    let whole = whole.map_err(|error| outcome.failed(&error))?.to_bytes();
    if serde_json::from_slice::<IgnoredAny>(&whole).is_err() {
        let (pool, what) = (outcome.pool.clone(), "an answer that is no JSON".to_owned());
        return Err(outcome.failed(&EngineError::BadEvent { pool, what }));
    }
    outcome.end = End::read(&whole);
    outcome.succeeded();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    *response.body_mut() = Body::from(whole);
    Ok(response)
}

impl Passing {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        while !self.outcome.finished {
            let passed = match self.body.frame().await {
                Some(Ok(frame)) => self.whole(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => self.outcome.failed(&error).event().into(),
                None => {
                    let rest = self.events.rest();
                    self.outcome.ended().unwrap_or(rest)
                }
            };
            if !passed.is_empty() {
                return Some((Ok(passed), self));
            }
        }
        None
    }

    /// The events that have arrived whole.
    fn whole(&mut self, data: Bytes) -> Bytes {
        self.outcome.keep(&data);
        self.events.push(data).unwrap_or_else(|EventTooLong| {
            let error = EngineError::BadEvent {
                pool: self.outcome.pool.clone(),
                what: "an event larger than 4 MiB".to_owned(),
            };
            self.outcome.failed(&error).event().into()
        })
    }
}

impl Outcome {
    fn head(&self, response: &mut Response) {
        let headers = response.headers_mut();
        for (name, value) in [
            ("x-weir-decision", self.id.as_str()),
            ("x-weir-model", self.model.as_str()),
            ("x-weir-recall", "none"),
            ("x-weir-escalated", "false"),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        headers.insert("x-weir-plan-age", plan_age(&self.serving));
    }

    fn keep(&mut self, data: &[u8]) {
        self.tail.extend_from_slice(data);
        if self.tail.len() > 2 * TAIL_MAX {
            self.tail.drain(..self.tail.len() - TAIL_MAX);
        }
    }

    fn failed(&mut self, error: &EngineError) -> Rescue {
        self.finished = true;
        self.error = Some(error.kind());
        self.surfaces.metrics.failed(error.kind());
        Rescue::from(error)
    }

    /// The engine closed the stream. Unless it had said that this is the end, the answer is broken and the client is
    /// told, if the engine has not told it already.
    fn ended(&mut self) -> Option<Bytes> {
        self.end = End::read(&self.tail);
        let failed = self.end.failed;
        let whole = self.end.finish_reason.is_some() || self.end.done;
        if whole && !failed {
            self.succeeded();
            return None;
        }
        let pool = self.pool.clone();
        let error = if failed {
            EngineError::Status {
                pool,
                status: 500,
                kind: None,
                message: "an error in the middle of its answer".to_owned(),
                retry_after: None,
            }
        } else {
            EngineError::Reset {
                pool,
                phase: Phase::Answer,
                source: None,
            }
        };
        let event = self.failed(&error).event();
        (!failed).then(|| event.into())
    }

    fn succeeded(&mut self) {
        self.finished = true;
        self.error = None;
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        if !self.finished {
            self.end = End::read(&self.tail);
        }
        let end = std::mem::take(&mut self.end);
        let usage = end.usage.map(|usage| Usage {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            cached_tokens: usage
                .prompt_tokens_details
                .map_or(0, |details| details.cached_tokens),
        });
        if self.error.is_none() {
            self.surfaces
                .metrics
                .pinned(&self.model, usage.unwrap_or_default());
        }
        let total = self.ask.received.elapsed();
        self.surfaces.gateway.pinned(PinnedAnswer {
            serving: &self.serving,
            id: self.id.clone(),
            ask: &self.ask,
            pool: self.rank,
            usage,
            finish_reason: end.finish_reason,
            error: self.error,
            ttft: self.ttft.unwrap_or(total),
            total,
        });
    }
}

/// What the end of an answer says.
#[derive(Debug, Default, PartialEq)]
struct End {
    usage: Option<WireUsage>,
    finish_reason: Option<String>,
    /// Whether the engine sent `[DONE]`.
    done: bool,
    /// Whether the engine sent an error.
    failed: bool,
}

#[derive(Deserialize)]
struct WireEnd {
    error: Option<IgnoredAny>,
    #[serde(default)]
    choices: Vec<WireChoice>,
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct WireChoice {
    finish_reason: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct WireUsage {
    #[serde(default)]
    prompt_tokens: u32,
    #[serde(default)]
    completion_tokens: u32,
    prompt_tokens_details: Option<WireDetails>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct WireDetails {
    #[serde(default)]
    cached_tokens: u32,
}

impl End {
    /// Reads a whole answer, or the last events of a stream.
    fn read(tail: &[u8]) -> Self {
        let mut end = Self::default();
        for line in tail.split(|byte| *byte == b'\n').rev() {
            let json = line.strip_prefix(b"data:").unwrap_or(line);
            end.done |= json.trim_ascii() == b"[DONE]";
            let Ok(wire) = serde_json::from_slice::<WireEnd>(json) else {
                continue;
            };
            end.failed |= wire.error.is_some();
            end.usage = end.usage.or(wire.usage);
            let reason = wire
                .choices
                .into_iter()
                .next()
                .and_then(|choice| choice.finish_reason);
            if reason.is_some() {
                end.finish_reason = reason;
                break;
            }
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_answer_is_read_from_events_and_from_a_whole_body() {
        let usage = r#""usage":{"prompt_tokens":3,"completion_tokens":2}"#;
        let events = format!(
            "tten\"}}]}}\n\ndata: {{\"choices\":[{{\"finish_reason\":\"stop\"}}]}}\n\ndata: {{\"choices\":[],{usage}}}\n\ndata: [DONE]\n\n"
        );
        let whole = format!("{{\"choices\":[{{\"finish_reason\":\"stop\"}}],{usage}}}");
        for tail in [events, whole] {
            let end = End::read(tail.as_bytes());
            assert_eq!(end.finish_reason.as_deref(), Some("stop"));
            assert_eq!(end.usage.unwrap().completion_tokens, 2);
        }
        assert_eq!(End::read(b"\xff garbage"), End::default());
        let failed = End::read(b"data: {\"error\":{\"message\":\"no\"}}\n\ndata: [DONE]\n\n");
        assert!(failed.failed && failed.done);
    }
}
