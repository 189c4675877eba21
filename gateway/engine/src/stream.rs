//! The answer as it arrives: events until `[DONE]`, the first failure, or the deadline.
//!
//! A stream holds its replica's place until it ends; dropping it closes the connection, which is how an engine learns
//! that nobody listens any more. It never retries: by then something may have been read. Reading on: `engines.rs`.

use crate::error::{EngineError, Phase};
use crate::event::ChatEvent;
use crate::links::Answer;
use crate::replica::Lease;
use crate::sse::SseDecoder;
use crate::tool_events::ToolEvents;
use bytes::Bytes;
use futures_util::Stream;
use http_body_util::BodyExt;
use hyper::body::Body;
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// How long the end of a finished answer may take to arrive, so that its connection can be used again.
const DRAIN: Duration = Duration::from_secs(1);

/// Events of one answer. Ends after `[DONE]`, or after the one error it yields.
#[derive(Debug)]
pub struct ChatStream {
    lease: Lease,
    body: Option<Answer>,
    decoder: SseDecoder,
    /// Events that were read and not yet taken.
    read_ahead: VecDeque<ChatEvent>,
    /// Where tools were offered: what makes calls of what the engine sends.
    tools: Option<ToolEvents>,
    /// Whether something of the answer has been read.
    answering: bool,
    /// Choices that have not said that they end.
    unfinished: u32,
    queued: Duration,
    since: Instant,
    deadline: Pin<Box<Sleep>>,
}

impl ChatStream {
    pub(crate) fn new(
        lease: Lease,
        body: Answer,
        deadline: Instant,
        (choices, tools): (u32, Option<ToolEvents>),
    ) -> Self {
        Self {
            lease,
            body: Some(body),
            decoder: SseDecoder::default(),
            read_ahead: VecDeque::new(),
            tools,
            answering: false,
            unfinished: choices,
            queued: Duration::ZERO,
            since: Instant::now(),
            deadline: Box::pin(tokio::time::sleep_until(deadline.into())),
        }
    }

    /// How long the request waited until its pool had a place for it.
    pub fn queued(&self) -> Duration {
        self.queued
    }

    pub(crate) fn queued_for(mut self, queued: Duration) -> Self {
        self.queued = queued;
        self
    }

    /// Reads on until something of the answer is there, so that a replica that dies before can be replaced. An opening
    /// event that only names the role is not yet an answer.
    pub(crate) async fn begin(mut self, until: Instant) -> Result<Self, EngineError> {
        match tokio::time::timeout_at(until.into(), self.read_opening()).await {
            Ok(Ok(())) => Ok(self),
            Ok(Err(error)) => Err(self.fail(error)),
            Err(_) => {
                let error = self.lease.target.timed_out(Phase::FirstEvent, self.since);
                Err(self.fail(error))
            }
        }
    }

    /// Reads and drops the rest of the answer.
    pub(crate) async fn read_to_end(mut self) -> Result<(), EngineError> {
        self.read_ahead.clear();
        while let Some(event) = self.read_event().await {
            event?;
        }
        Ok(())
    }

    async fn read_opening(&mut self) -> Result<(), EngineError> {
        while self.read_ahead.len() < 2 && self.read_ahead.iter().all(is_preamble) {
            match self.read_event().await {
                Some(event) => {
                    let event = event?;
                    self.keep(event);
                }
                None if self.read_ahead.is_empty() => {
                    return Err(self
                        .lease
                        .target
                        .bad_event("an answer without a single event"));
                }
                None => break,
            }
        }
        Ok(())
    }

    /// Puts an event among those to be taken, as what stands in its place.
    fn keep(&mut self, event: ChatEvent) {
        match &mut self.tools {
            Some(tools) => self.read_ahead.extend(tools.push(event)),
            None => self.read_ahead.push_back(event),
        }
    }

    async fn read_event(&mut self) -> Option<Result<ChatEvent, EngineError>> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<ChatEvent, EngineError>>> {
        loop {
            match self.decoder.next_event() {
                Ok(Some(raw)) => return Poll::Ready(self.event(raw, cx)),
                Ok(None) => {}
                Err(_) => {
                    let error = self.lease.target.bad_event("an event larger than 4 MiB");
                    return Poll::Ready(Some(Err(self.fail(error))));
                }
            }
            let Some(body) = self.body.as_mut() else {
                return Poll::Ready(None);
            };
            match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.decoder.push(&data);
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    let error = self.lease.target.reset(self.phase(), Some(error));
                    return Poll::Ready(Some(Err(self.fail(error))));
                }
                Poll::Ready(None) => return Poll::Ready(self.end_of_body(cx)),
                Poll::Pending => {
                    if self.deadline.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    let error = self.lease.target.timed_out(self.phase(), self.since);
                    return Poll::Ready(Some(Err(self.fail(error))));
                }
            }
        }
    }

    fn event(
        &mut self,
        raw: Bytes,
        cx: &mut Context<'_>,
    ) -> Option<Result<ChatEvent, EngineError>> {
        if raw.trim_ascii() == b"[DONE]" {
            if self.unfinished > 0 {
                let error = self
                    .lease
                    .target
                    .bad_event("an answer that ends without saying why");
                return Some(Err(self.fail(error)));
            }
            self.complete(cx);
            return None;
        }
        match ChatEvent::parse(&self.lease.target.pool, &self.lease.target.hidden(), raw) {
            Ok(event) => {
                if !self.answering && !is_preamble(&event) {
                    self.answering = true;
                    self.lease.answering();
                }
                self.unfinished = self.unfinished.saturating_sub(event.ended);
                Some(Ok(event))
            }
            Err(error) => Some(Err(self.fail(error))),
        }
    }

    /// Some engines end the body without `[DONE]`; that is an end only when the answer said that it had finished.
    fn end_of_body(&mut self, cx: &mut Context<'_>) -> Option<Result<ChatEvent, EngineError>> {
        if let Some(raw) = self.decoder.finish() {
            return self.event(raw, cx);
        }
        if self.unfinished == 0 {
            self.complete(cx);
            return None;
        }
        let error = self.lease.target.reset(self.phase(), None);
        Some(Err(self.fail(error)))
    }

    fn complete(&mut self, cx: &mut Context<'_>) {
        self.lease.succeeded();
        let Some(mut body) = self.body.take() else {
            return;
        };
        if !body.is_end_stream() && Pin::new(&mut body).poll_frame(cx).is_pending() {
            tokio::spawn(tokio::time::timeout(DRAIN, async move {
                while let Some(Ok(_)) = body.frame().await {}
            }));
        }
    }

    fn fail(&mut self, error: EngineError) -> EngineError {
        if self.body.take().is_some() {
            self.lease.failed(&error);
        }
        error
    }

    fn phase(&self) -> Phase {
        if self.answering {
            Phase::Answer
        } else {
            Phase::FirstEvent
        }
    }
}

impl Stream for ChatStream {
    type Item = Result<ChatEvent, EngineError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(event) = self.read_ahead.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            match std::task::ready!(self.poll_event(cx)) {
                Some(Ok(event)) => self.keep(event),
                end => return Poll::Ready(end),
            }
        }
    }
}

fn is_preamble(event: &ChatEvent) -> bool {
    event.delta.is_none()
        && !event.aside
        && event.finish_reason.is_none()
        && event.usage.is_none()
        && event.logprobs.is_empty()
}
