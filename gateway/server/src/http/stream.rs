//! A routed answer as server-sent events, as the engine wrote them but for what the client did not ask for.
//!
//! Log-probabilities and usage that only Weir wanted are cut out by byte span; a failure in the middle is a last event
//! with an `error`; a client that goes away drops the stream, which frees the engine. Reading on: `answer.rs`.

use super::chat::{Asked, headers, wants_weir, weir};
use crate::answer::{AnswerStream, Decided};
use crate::error::AnswerError;
use crate::rescue::Rescue;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderValue, header};
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use weir_engine::{ChatEvent, Usage, json_span};

/// What is left of a stream, and what it does to each event.
struct Events {
    asked: AskedFor,
    answer: AnswerStream,
    usage: Usage,
    ended: bool,
    /// The rest lives as long as the stream does.
    held: Held,
}

struct Held {
    surfaces: Arc<super::Surfaces>,
    _place: super::admission::Place,
}

/// What of an event the client wants.
#[derive(Clone, Debug)]
struct AskedFor {
    logprobs: bool,
    usage: bool,
    weir: bool,
    /// The model's name here, when the engine knows it by another.
    model: Option<String>,
}

pub(crate) async fn answer(asked: Asked) -> Result<Response, Rescue> {
    let (client, weir) = (&asked.ask.client, wants_weir(&asked.ask));
    let (logprobs, usage) = (client.logprobs, client.include_usage);
    let (gateway, serving) = (&asked.surfaces.gateway, Arc::clone(&asked.serving));
    let answered = gateway.answer_stream(serving, asked.ask).await;
    let answer = answered.inspect_err(|error| asked.surfaces.metrics.failed(error.kind()))?;
    let pool = asked.serving.plan.pool_for_model(&answer.decision.model);
    let renamed = pool.is_some_and(|(_, pool)| pool.model != pool.upstream_model);
    let model = renamed.then(|| answer.decision.model.clone());
    let mut response = headers(&answer.decision, &asked.serving).into_response();
    let held = Held {
        surfaces: asked.surfaces,
        _place: asked.place,
    };
    let wanted = AskedFor {
        logprobs,
        usage,
        weir,
        model,
    };
    let events = Events {
        asked: wanted,
        answer,
        usage: Usage::default(),
        ended: false,
        held,
    };
    *response.body_mut() = Body::from_stream(stream::unfold(events, Events::next));
    sse_headers(&mut response);
    Ok(response)
}

/// Headers of an event stream; proxies are asked not to hold it back.
pub(crate) fn sse_headers(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
}

impl Events {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        loop {
            if self.ended {
                return None;
            }
            let bytes = match self.answer.events.next().await {
                Some(Ok(event)) => {
                    self.usage = event.usage.unwrap_or(self.usage);
                    match self.asked.event(&event) {
                        Some(bytes) => bytes,
                        None => continue,
                    }
                }
                Some(Err(error)) => self.broken(error),
                None => self.end(),
            };
            return Some((Ok(bytes), self));
        }
    }

    fn broken(&mut self, error: AnswerError) -> Bytes {
        self.ended = true;
        self.held.surfaces.metrics.failed(error.kind());
        Rescue::from(error).event().into()
    }

    fn end(&mut self) -> Bytes {
        self.ended = true;
        self.held
            .surfaces
            .metrics
            .answered(&self.answer.decision, self.usage);
        let weir = self.asked.weir.then(|| weir_event(&self.answer.decision));
        format!("{}data: [DONE]\n\n", weir.unwrap_or_default()).into()
    }
}

/// The event before the last, sent only to clients that asked for citations or an explanation.
fn weir_event(decision: &Decided) -> String {
    let event = json!({
        "id": format!("chatcmpl-{}", decision.id), "object": "chat.completion.chunk",
        "created": super::chat::unix_seconds(), "model": decision.model, "choices": [],
        "weir": weir(decision),
    });
    format!("data: {event}\n\n")
}

impl AskedFor {
    /// The event for the client, or nothing when all of it was only for Weir.
    fn event(&self, event: &ChatEvent) -> Option<Bytes> {
        let mut cut: Vec<&[&str]> = Vec::new();
        if !self.logprobs {
            cut.push(&["choices", "*", "logprobs"]);
        }
        if !self.usage {
            if event.usage.is_some() && is_usage_only(event) {
                return None;
            }
            cut.push(&["usage"]);
            cut.push(&["timings"]);
        }
        let mut raw = json_span::without(&event.raw, &cut);
        if let Some(model) = &self.model {
            raw = json_span::with_string(&raw, "model", model);
        }
        Some([b"data: ", &raw[..], b"\n\n"].concat().into())
    }
}

fn is_usage_only(event: &ChatEvent) -> bool {
    let said = event.delta.is_some() || event.aside || !event.logprobs.is_empty();
    !said && event.finish_reason.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(raw: &'static str, usage: Option<Usage>) -> ChatEvent {
        ChatEvent {
            raw: Bytes::from_static(raw.as_bytes()),
            usage,
            ..ChatEvent::default()
        }
    }

    #[test]
    fn what_only_weir_asked_for_is_cut_and_the_rest_is_untouched() {
        let plain = AskedFor {
            logprobs: false,
            usage: false,
            weir: false,
            model: None,
        };
        let raw =
            r#"{"choices":[{"delta":{"content":"é 1.0"},"logprobs":{"content":[]}}], "x":1.50}"#;
        let sent = plain.event(&event(raw, None)).unwrap();
        let expected = "data: {\"choices\":[{\"delta\":{\"content\":\"é 1.0\"}}], \"x\":1.50}\n\n";
        assert_eq!(sent, expected.as_bytes());
        let usage = r#"{"choices":[],"usage":{"prompt_tokens":1}}"#;
        assert_eq!(plain.event(&event(usage, Some(Usage::default()))), None);
    }

    #[test]
    fn what_the_client_asked_for_stays_and_the_model_has_its_name_here() {
        let model = Some("smol".to_owned());
        let all = AskedFor {
            logprobs: true,
            usage: true,
            weir: false,
            model,
        };
        let raw = r#"{"model":"up","choices":[{"logprobs":{}}],"usage":{"prompt_tokens":1}}"#;
        let sent = all.event(&event(raw, Some(Usage::default()))).unwrap();
        assert_eq!(
            sent,
            format!("data: {}\n\n", raw.replace("up", "smol")).as_bytes()
        );
    }
}
