//! A stream of an answer as messages, one for each event, until it is whole, breaks, or nobody takes it.
//!
//! The answer is read by a task of its own. A client that takes nothing fills its share of the connection, and what is not written
//! to is not polled and sees no deadline: the task sees it, and what the answer holds is free. Reading on: `http/stream.rs`.

use super::{reply, status};
use axum::body::Body;
use futures_util::{Stream, stream};
use http_body_util::BodyExt;
use serde_json::Value;
use std::pin::Pin;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tonic::Status;
use weir_engine::sse::SseDecoder;
use weir_proto::gateway::v1::ChatChunk;

/// Pieces of an answer, or the failure that ends it.
pub(super) type ChunkStream = Pin<Box<dyn Stream<Item = Result<ChatChunk, Status>> + Send>>;

/// How long an answer may go on.
#[derive(Clone, Copy)]
pub(super) struct Life {
    /// The call's own deadline.
    pub(super) until: Option<Instant>,
    /// For a client that takes nothing.
    pub(super) patience: Duration,
}

/// What the task that reads hands on.
enum Read {
    Chunk(ChatChunk),
    /// The answer is whole.
    Whole,
}

const DONE: &[u8] = b"[DONE]";

/// The events of this body. Dropping the stream drops the body.
pub(super) fn chunks(body: Body, life: Life) -> ChunkStream {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(pump(body, life, sender));
    Box::pin(stream::unfold(Some(receiver), taken))
}

/// A call whose time is over.
pub(super) fn late() -> Status {
    Status::deadline_exceeded("the time of the call was over")
}

/// What comes before the deadline, where there is one.
pub(super) async fn in_time<T>(until: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match until {
        Some(until) => tokio::time::timeout_at(until.into(), work).await.ok(),
        None => Some(work.await),
    }
}

async fn taken(
    receiver: Option<Receiver<Result<Read, Status>>>,
) -> Option<(
    Result<ChatChunk, Status>,
    Option<Receiver<Result<Read, Status>>>,
)> {
    let mut receiver = receiver?;
    match receiver.recv().await {
        Some(Ok(Read::Chunk(chunk))) => Some((Ok(chunk), Some(receiver))),
        Some(Ok(Read::Whole)) => None,
        Some(Err(status)) => Some((Err(status), None)),
        // The task gave the client up.
        None => Some((Err(late()), None)),
    }
}

async fn pump(body: Body, life: Life, sender: Sender<Result<Read, Status>>) {
    let mut events = Events {
        body,
        decoder: SseDecoder::default(),
    };
    loop {
        let next = tokio::select! {
            next = in_time(life.until, events.next()) => next.unwrap_or_else(|| Err(late())),
            () = sender.closed() => return,
        };
        let last = !matches!(next, Ok(Read::Chunk(_)));
        if last {
            // What the answer held is free before its end is told.
            drop(events);
            drop(tokio::time::timeout(life.patience, sender.send(next)).await);
            return;
        }
        let sent = in_time(
            life.until,
            tokio::time::timeout(life.patience, sender.send(next)),
        );
        if !matches!(sent.await, Some(Ok(Ok(())))) {
            return;
        }
    }
}

struct Events {
    body: Body,
    decoder: SseDecoder,
}

impl Events {
    async fn next(&mut self) -> Result<Read, Status> {
        loop {
            let event = self.decoder.next_event();
            if let Some(event) = event.map_err(|_| status::unreadable())? {
                return read(&event);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.decoder.push(&frame.into_data().unwrap_or_default()),
                // Neither its end nor an error was told.
                Some(Err(_)) | None => return Err(status::unreadable()),
            }
        }
    }
}

fn read(event: &[u8]) -> Result<Read, Status> {
    if event == DONE {
        return Ok(Read::Whole);
    }
    let mut value: Value = serde_json::from_slice(event).map_err(|_| status::unreadable())?;
    if value.get("error").is_some_and(Value::is_object) {
        return Err(status::of_body(&value, &http::HeaderMap::new()));
    }
    reply::told(&mut value).map(Read::Chunk)
}
