//! An answer as it arrives, after the verdict: the held events, then what the engine still sends.
//!
//! Nothing switches here any more; only the end is recorded. The flow before it is `answer.rs`.

use crate::answer::Decided;
use crate::answer_cache::{KeptAnswer, Work};
use crate::decisions::Draft;
use crate::dispatch::Try;
use crate::error::AnswerError;
use crate::gateway::Gateway;
use crate::http::{unix_seconds, usage};
use crate::prepare::Prepared;
use crate::serving::Serving;
use crate::write_back::WriteBack;
use futures_util::{Stream, StreamExt, stream};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use weir_engine::{ChatEvent, Usage};

/// A streamed answer. Dropping it frees the engine and records that the client went away.
pub struct AnswerStream {
    /// How it was decided; `explain` is the row when the first byte leaves.
    pub decision: Decided,
    /// Events as the engine wrote them; log-probabilities and usage are in them whether the client asked or not.
    pub events: Pin<Box<dyn Stream<Item = Result<ChatEvent, AnswerError>> + Send>>,
}

impl std::fmt::Debug for AnswerStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnswerStream")
            .field("decision", &self.decision)
            .finish_non_exhaustive()
    }
}

struct Live {
    gateway: Gateway,
    draft: Draft,
    serving: Arc<Serving>,
    write_back: Option<WriteBack>,
    kept: Try,
    work: Option<Work>,
    held: VecDeque<ChatEvent>,
    ended: bool,
}

impl AnswerStream {
    pub(crate) fn new(
        gateway: Gateway,
        draft: Draft,
        mut prepared: Prepared,
        (mut kept, work): (Try, Option<Work>),
        explain: bool,
    ) -> Self {
        let decision = draft.decided(explain);
        let held = std::mem::take(&mut kept.taken.events).into();
        let live = Live {
            gateway,
            draft,
            write_back: WriteBack::of(&mut prepared),
            serving: prepared.serving,
            kept,
            work,
            held,
            ended: false,
        };
        Self {
            decision,
            events: Box::pin(stream::unfold(live, Live::next)),
        }
    }

    /// An answer that was kept, given again: its text at once, its end, its usage.
    pub(crate) fn again(draft: &mut Draft, kept: &KeptAnswer, explain: bool) -> Self {
        draft.finish(Some(kept.finish_reason.clone()), None);
        let decision = draft.decided(explain);
        let delta = json!({"role": "assistant", "content": kept.text});
        let text = ChatEvent {
            delta: Some(kept.text.clone()),
            ..choice_event(&decision, &delta, None)
        };
        let end = ChatEvent {
            finish_reason: Some(kept.finish_reason.clone()),
            ..choice_event(&decision, &json!({}), Some(&kept.finish_reason))
        };
        let events = [text, end, usage_event(&decision, kept.usage)].map(Ok);
        Self {
            decision,
            events: Box::pin(stream::iter(events)),
        }
    }
}

impl Live {
    async fn next(mut self) -> Option<(Result<ChatEvent, AnswerError>, Self)> {
        if let Some(event) = self.held.pop_front() {
            return Some((Ok(event), self));
        }
        if self.ended {
            return None;
        }
        let next = match &mut self.kept.taken.rest {
            Some(rest) => rest.next().await,
            None => None,
        };
        match next {
            Some(Ok(event)) => {
                self.kept.taken.tally.add(&event);
                Some((Ok(event), self))
            }
            Some(Err(error)) => {
                self.end(Some(error.kind()));
                Some((Err(error.into()), self))
            }
            None => {
                let used = self.end(None);
                let told = self.kept.taken.tally.usage.is_some();
                (!told).then(|| (Ok(usage_event(&self.draft.decided(false), used)), self))
            }
        }
    }

    fn end(&mut self, error: Option<&str>) -> Usage {
        self.ended = true;
        self.kept.taken.rest = None;
        let used = self
            .gateway
            .settle(&mut self.draft, &self.serving, &self.kept);
        self.draft
            .finish(self.kept.taken.tally.finish_reason.clone(), error);
        if let Some(work) = self.work.take() {
            work.keep(self.draft.row(), &self.kept.taken.tally.text, used);
        }
        let write_back = self.write_back.take().filter(|_| error.is_none());
        self.gateway.write_back(write_back);
        used
    }
}

/// The usage as Weir counted it, in the place of the event that the engine did not send.
fn usage_event(decision: &Decided, used: Usage) -> ChatEvent {
    let mut chunk = chunk(decision, &json!([]));
    chunk["usage"] = usage(used);
    ChatEvent {
        raw: chunk.to_string().into(),
        usage: Some(used),
        ..ChatEvent::default()
    }
}

fn choice_event(decision: &Decided, delta: &Value, finish_reason: Option<&str>) -> ChatEvent {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": finish_reason});
    ChatEvent {
        raw: chunk(decision, &json!([choice])).to_string().into(),
        ..ChatEvent::default()
    }
}

/// A chunk of a chat, as an engine would write it.
pub(crate) fn chunk(decision: &Decided, choices: &Value) -> Value {
    json!({
        "id": format!("chatcmpl-{}", decision.id), "object": "chat.completion.chunk",
        "created": unix_seconds(), "model": decision.model, "choices": choices,
    })
}

impl Drop for Live {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Some("client_gone"));
        }
    }
}
