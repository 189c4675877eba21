//! An answer as the typed events of `POST /v1/responses`.
//!
//! `response.created`, then each item as it grows (`output_item.added`, deltas, `output_item.done`), then
//! `response.completed`, or `incomplete`, or after a failure `error` and `response.failed`. Every event is numbered. Source:
//! OpenAI's API reference, "Streaming events". Reading on: `output.rs` for the objects in them.

use super::super::stream::Shape;
use super::output::{Call, State, Told, message_item, text_part};
use crate::answer::Decided;
use crate::rescue::Rescue;
use bytes::Bytes;
use serde_json::{Value, json};
use weir_engine::{ChatEvent, Usage};

/// Writes one answer.
pub(super) struct ResponseEvents {
    told: Told,
    decision: Decided,
    /// Number of the next event.
    sequence: u64,
    /// Items that are whole.
    output: Vec<Value>,
    open: Option<Open>,
    finish_reason: String,
    usage: Usage,
    written: String,
}

/// The item that grows.
enum Open {
    Text(String),
    Call {
        index: u64,
        id: String,
        name: String,
        arguments: String,
    },
}

impl ResponseEvents {
    pub(super) fn new(told: Told, decision: Decided) -> Self {
        Self {
            told,
            decision,
            sequence: 0,
            output: Vec::new(),
            open: None,
            finish_reason: String::new(),
            usage: Usage::default(),
            written: String::new(),
        }
    }

    /// Writes an event of this type.
    fn write(&mut self, kind: &str, mut event: Value) {
        event["type"] = json!(kind);
        event["sequence_number"] = json!(self.sequence);
        self.sequence += 1;
        self.written
            .push_str(&format!("event: {kind}\ndata: {event}\n\n"));
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.written).into()
    }

    fn write_state(&mut self, kind: &str, state: State<'_>) {
        let response = self.told.response(&self.decision, state, &self.output);
        self.write(kind, json!({"response": response}));
    }

    fn item(&self, open: &Open, status: &str, with_content: bool) -> Value {
        let (id, index) = (&self.decision.id, self.output.len());
        match open {
            Open::Text(text) => message_item(id, index, status, with_content.then_some(text)),
            Open::Call {
                id: call_id,
                name,
                arguments,
                ..
            } => {
                let arguments = if with_content { arguments } else { "" };
                let call = Call {
                    id: call_id,
                    name,
                    arguments,
                };
                call.item(id, index, status)
            }
        }
    }

    /// Ends the item that is open and begins another.
    fn begin_item(&mut self, open: Open) {
        self.close("completed");
        let (index, item) = (self.output.len(), self.item(&open, "in_progress", false));
        let id = item["id"].clone();
        self.write(
            "response.output_item.added",
            json!({"output_index": index, "item": item}),
        );
        if matches!(open, Open::Text(_)) {
            let added = json!({"item_id": id, "output_index": index, "content_index": 0, "part": text_part("")});
            self.write("response.content_part.added", added);
        }
        self.open = Some(open);
    }

    fn close(&mut self, status: &str) {
        let Some(open) = self.open.take() else {
            return;
        };
        let (index, item) = (self.output.len(), self.item(&open, status, true));
        let id = item["id"].clone();
        match &open {
            Open::Text(text) => {
                let at = json!({"item_id": id, "output_index": index, "content_index": 0});
                let mut done = at.clone();
                done["text"] = json!(text);
                done["logprobs"] = json!([]);
                self.write("response.output_text.done", done);
                let mut done = at;
                done["part"] = text_part(text);
                self.write("response.content_part.done", done);
            }
            Open::Call {
                name, arguments, ..
            } => {
                let done = json!({"item_id": id, "output_index": index, "name": name, "arguments": arguments});
                self.write("response.function_call_arguments.done", done);
            }
        }
        self.write(
            "response.output_item.done",
            json!({"output_index": index, "item": item}),
        );
        self.output.push(item);
    }

    fn text(&mut self, more: &str) {
        if !matches!(self.open, Some(Open::Text(_))) {
            self.begin_item(Open::Text(String::new()));
        }
        if let Some(Open::Text(text)) = &mut self.open {
            text.push_str(more);
        }
        self.delta("response.output_text.delta", more);
    }

    /// A piece of a call; one with an index that is not open begins another call.
    fn piece(&mut self, piece: &Value) {
        let text = |path: &str| {
            piece
                .pointer(path)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let index = piece["index"].as_u64().unwrap_or_default();
        if !matches!(self.open, Some(Open::Call { index: open, .. }) if open == index) {
            self.begin_item(Open::Call {
                index,
                id: text("/id").to_owned(),
                name: text("/function/name").to_owned(),
                arguments: String::new(),
            });
        }
        let more = text("/function/arguments");
        if more.is_empty() {
            return;
        }
        if let Some(Open::Call { arguments, .. }) = &mut self.open {
            arguments.push_str(more);
        }
        self.delta("response.function_call_arguments.delta", more);
    }

    fn delta(&mut self, kind: &str, more: &str) {
        let Some(open) = &self.open else {
            return;
        };
        let id = self.item(open, "in_progress", false)["id"].clone();
        let mut event = json!({"item_id": id, "output_index": self.output.len(), "delta": more});
        if matches!(open, Open::Text(_)) {
            event["content_index"] = json!(0);
            event["logprobs"] = json!([]);
        }
        self.write(kind, event);
    }
}

impl Shape for ResponseEvents {
    fn begin(&mut self) -> Bytes {
        self.write_state("response.created", State::InProgress);
        self.write_state("response.in_progress", State::InProgress);
        self.take()
    }

    fn event(&mut self, event: &ChatEvent) -> Option<Bytes> {
        if let Some(more) = &event.delta {
            self.text(more);
        }
        if event.aside {
            let chunk: Value = serde_json::from_slice(&event.raw).unwrap_or_default();
            let pieces = chunk.pointer("/choices/0/delta/tool_calls");
            for piece in pieces.and_then(Value::as_array).into_iter().flatten() {
                self.piece(piece);
            }
        }
        if let Some(reason) = &event.finish_reason {
            self.finish_reason.clone_from(reason);
        }
        self.usage = event.usage.unwrap_or(self.usage);
        (!self.written.is_empty()).then(|| self.take())
    }

    fn end(&mut self) -> Bytes {
        let whole = !matches!(self.finish_reason.as_str(), "length" | "content_filter");
        if self.open.is_none() && self.output.is_empty() {
            self.begin_item(Open::Text(String::new()));
        }
        self.close(if whole { "completed" } else { "incomplete" });
        let (reason, usage) = (std::mem::take(&mut self.finish_reason), self.usage);
        let kind = if whole {
            "response.completed"
        } else {
            "response.incomplete"
        };
        self.write_state(kind, State::Ended(&reason, usage));
        self.take()
    }

    fn broken(&mut self, error: &Rescue) -> Bytes {
        let (message, code) = error.says();
        self.close("incomplete");
        self.write(
            "error",
            json!({"message": message, "code": code, "param": null}),
        );
        self.write_state("response.failed", State::Failed(message, code));
        self.take()
    }
}
