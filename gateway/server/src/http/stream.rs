//! An answer as server-sent events, in the shape of the surface that was asked.
//!
//! A failure in the middle is a last event with an error, never a silent end; a client that goes away drops the stream,
//! which frees the engine. What an event looks like is each surface's: `chat.rs`, `completions.rs`, `responses/`.
//! Reading on: `answer.rs`.

use super::admission::Place;
use super::asked::Asked;
use super::chat::headers;
use crate::answer::{Answer, AnswerStream, Decided};
use crate::rescue::Rescue;
use crate::serving::Serving;
use crate::tally::{Tally, message};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderValue, header};
use hyper::body::Frame;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use weir_engine::{ChatEvent, Usage};

/// Events of an answer, or the failure that ends it.
pub(crate) type EventStream = Pin<Box<dyn Stream<Item = Result<ChatEvent, Rescue>> + Send>>;

/// A streamed answer that has begun: how it was decided, what the response says about that, and what is still to come.
pub(crate) struct Streamed {
    pub(crate) decision: Decided,
    pub(crate) headers: HeaderMap,
    pub(crate) events: EventStream,
}

/// How a surface writes an answer.
pub(crate) trait Shape: Send + Unpin + 'static {
    /// What stands before the engine's first event.
    fn begin(&mut self) -> Bytes;
    /// An event of the engine; `None` when nothing of it is for the client.
    fn event(&mut self, event: &ChatEvent) -> Option<Bytes>;
    /// The end of an answer that is whole.
    fn end(&mut self) -> Bytes;
    /// The end of an answer that broke.
    fn broken(&mut self, error: &Rescue) -> Bytes;
}

/// What is left of a response.
struct Writing<S> {
    shape: S,
    events: EventStream,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Beginning,
    Going,
    Ended,
}

/// A routed answer on its way, counted when it ends.
struct Routed {
    surfaces: Arc<super::Surfaces>,
    serving: Arc<Serving>,
    answer: AnswerStream,
    usage: Usage,
    ended: bool,
    _place: Place,
}

/// Asks the router's choice for a stream. Returns when what the response says about the decision is final.
pub(crate) async fn routed(asked: Asked) -> Result<Streamed, Rescue> {
    let (gateway, serving) = (&asked.surfaces.gateway, Arc::clone(&asked.serving));
    let answered = gateway.answer_stream(serving, asked.ask).await;
    let answer = answered.inspect_err(|error| asked.surfaces.metrics.failed(error.kind()))?;
    let headers = headers(&answer.decision, &asked.serving);
    let decision = answer.decision.clone();
    let routed = Routed {
        surfaces: asked.surfaces,
        serving: asked.serving,
        answer,
        usage: Usage::default(),
        ended: false,
        _place: asked.place,
    };
    Ok(Streamed {
        decision,
        headers,
        events: Box::pin(stream::unfold(routed, Routed::next)),
    })
}

impl Routed {
    async fn next(mut self) -> Option<(Result<ChatEvent, Rescue>, Self)> {
        if self.ended {
            return None;
        }
        match self.answer.events.next().await {
            Some(Ok(event)) => {
                self.usage = event.usage.unwrap_or(self.usage);
                Some((Ok(event), self))
            }
            Some(Err(error)) => {
                self.ended = true;
                self.surfaces.metrics.failed(error.kind());
                Some((Err(error.into()), self))
            }
            None => {
                let metrics = &self.surfaces.metrics;
                metrics.answered(&self.answer.decision, &self.serving.plan, self.usage);
                None
            }
        }
    }
}

impl Streamed {
    /// The response whose body is written as `shape` says.
    pub(crate) fn respond(self, shape: impl Shape) -> Response {
        let mut response = self.headers.into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // Proxies are asked not to hold it back.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        *response.body_mut() = Body::new(Writing {
            shape,
            events: self.events,
            state: State::Beginning,
        });
        response
    }

    /// All of the answer.
    pub(crate) async fn collect(mut self) -> Result<Answer, Rescue> {
        let (mut tally, mut events) = (Tally::default(), Vec::new());
        while let Some(event) = self.events.next().await {
            let event = event?;
            tally.add(&event);
            events.push(event);
        }
        Ok(Answer {
            decision: self.decision,
            message: message(&events, &tally.text),
            logprobs: None,
            usage: tally.used(0),
            finish_reason: tally.finish_reason.unwrap_or_default(),
        })
    }
}

impl<S: Shape> hyper::body::Body for Writing<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let writing = &mut *self;
        let bytes = match writing.state {
            State::Beginning => {
                writing.state = State::Going;
                writing.shape.begin()
            }
            State::Going => Bytes::new(),
            State::Ended => return Poll::Ready(None),
        };
        if !bytes.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let bytes = loop {
            match ready!(writing.events.poll_next_unpin(cx)) {
                Some(Ok(event)) => {
                    if let Some(bytes) = writing.shape.event(&event) {
                        break bytes;
                    }
                }
                Some(Err(error)) => {
                    writing.state = State::Ended;
                    error.log();
                    break writing.shape.broken(&error);
                }
                None => {
                    writing.state = State::Ended;
                    break writing.shape.end();
                }
            }
        };
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}
