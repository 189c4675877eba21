//! Tool calls of an answer in OpenAI's shape, whatever shape the engine gave them.
//!
//! For requests that offer tools only. Calls that the engine left in the text become `tool_calls`; calls that it did make
//! get the `index`, `id` and `type` that clients need and some engines leave out. An event that needs neither keeps its
//! bytes. Reading on: `tool_text.rs`, and `stream.rs`, which uses this.

use crate::event::ChatEvent;
use crate::tool_text::{Piece, ToolText};
use bytes::Bytes;
use serde_json::{Map, Value, json};

/// Names of the functions that a body offers for calling; none under `tool_choice: "none"`.
pub fn offered(body: &Map<String, Value>) -> Vec<String> {
    if body
        .get("tool_choice")
        .is_some_and(|choice| choice == "none")
    {
        return Vec::new();
    }
    let tools = body.get("tools").and_then(Value::as_array);
    let name = |tool: &Value| Some(tool.pointer("/function/name")?.as_str()?.to_owned());
    tools.into_iter().flatten().filter_map(name).collect()
}

/// Follows the events of one answer.
#[derive(Debug)]
pub(crate) struct ToolEvents {
    text: ToolText,
    /// Calls that have begun.
    begun: u64,
    /// Whether some were read out of the text.
    read: bool,
}

impl ToolEvents {
    /// `None` where nothing is offered, and so nothing can be called.
    pub(crate) fn new(offered: Vec<String>) -> Option<Self> {
        (!offered.is_empty()).then(|| Self {
            text: ToolText::new(offered),
            begun: 0,
            read: false,
        })
    }

    /// What stands in the place of an engine's event; nothing while text is held that may become a call.
    pub(crate) fn push(&mut self, event: ChatEvent) -> Vec<ChatEvent> {
        let mut pieces = match &event.delta {
            Some(text) => self.text.push(text),
            None => Vec::new(),
        };
        if event.finish_reason.is_some() {
            let rest = self.text.finish();
            if !rest.is_empty() {
                pieces.push(Piece::Text(rest));
            }
        }
        self.read |= pieces.iter().any(|piece| matches!(piece, Piece::Calls(_)));
        let same = match (&event.delta, pieces.as_slice()) {
            (None, []) => true,
            (Some(text), [Piece::Text(piece)]) => text == piece,
            _ => false,
        };
        let stops = self.read && event.finish_reason.as_deref() == Some("stop");
        if same && !stops && !event.aside {
            return vec![event];
        }
        let Ok(chunk) = serde_json::from_slice::<Value>(&event.raw) else {
            return vec![event];
        };
        if same && !stops {
            return vec![self.completed(event, chunk)];
        }
        self.split(event, &chunk, pieces)
    }

    /// The event without its text, and the pieces beside it: text and calls before an end, after a beginning.
    fn split(&mut self, event: ChatEvent, chunk: &Value, pieces: Vec<Piece>) -> Vec<ChatEvent> {
        let mut events: Vec<ChatEvent> = pieces
            .into_iter()
            .flat_map(|piece| match piece {
                Piece::Text(text) => vec![text_event(chunk, &text)],
                Piece::Calls(calls) => calls
                    .iter()
                    .flat_map(|call| self.call_events(chunk, call))
                    .collect(),
            })
            .collect();
        let mut rest = chunk.clone();
        if let Some(delta) = rest
            .pointer_mut("/choices/0/delta")
            .and_then(Value::as_object_mut)
        {
            delta.remove("content");
        }
        let finish_reason = match event.finish_reason.as_deref() {
            Some("stop") if self.read => Some("tool_calls".to_owned()),
            _ => event.finish_reason.clone(),
        };
        if let (Some(reason), Some(choice)) = (&finish_reason, rest.pointer_mut("/choices/0")) {
            choice["finish_reason"] = json!(reason);
        }
        let beside = rest
            .pointer("/choices/0/delta")
            .and_then(Value::as_object)
            .is_some_and(|delta| !delta.is_empty());
        let says = beside
            || finish_reason.is_some()
            || event.usage.is_some()
            || !event.logprobs.is_empty();
        if says {
            let at = if finish_reason.is_some() {
                events.len()
            } else {
                0
            };
            let rest = ChatEvent {
                raw: rest.to_string().into(),
                delta: None,
                finish_reason,
                ..event
            };
            events.insert(at, rest);
        }
        events
    }

    /// A call that was read out of the text: what it is, then its arguments.
    fn call_events(&mut self, chunk: &Value, call: &crate::call_text::Call) -> [ChatEvent; 2] {
        let index = self.begun;
        self.begun += 1;
        let begins = json!({"index": index, "id": new_id(), "type": "function",
            "function": {"name": call.name, "arguments": ""}});
        let arguments = Value::Object(call.arguments.clone()).to_string();
        let goes_on = json!({"index": index, "function": {"arguments": arguments}});
        [begins, goes_on].map(|piece| ChatEvent {
            aside: true,
            ..bare(chunk, &json!({"tool_calls": [piece]}))
        })
    }

    /// The event with an `index` on each piece of a call, and an `id` and `type` where a call begins.
    fn completed(&mut self, event: ChatEvent, mut chunk: Value) -> ChatEvent {
        let pieces = chunk.pointer_mut("/choices/0/delta/tool_calls");
        let mut changed = false;
        for piece in pieces.and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(piece) = piece.as_object_mut() else {
                continue;
            };
            let named = piece
                .get("function")
                .is_some_and(|function| function["name"].is_string());
            let said = piece.get("index").and_then(Value::as_u64);
            let index = said.unwrap_or(if named {
                self.begun
            } else {
                self.begun.saturating_sub(1)
            });
            if said.is_none() {
                piece.insert("index".to_owned(), json!(index));
                changed = true;
            }
            if index >= self.begun {
                self.begun = index + 1;
                changed |= identify(piece);
            }
        }
        let raw = if changed {
            chunk.to_string().into()
        } else {
            event.raw
        };
        ChatEvent { raw, ..event }
    }
}

/// A whole answer whose calls have OpenAI's shape; the same bytes where they have it already, or nothing is called.
pub(crate) fn whole(body: Bytes, offered: Vec<String>) -> Bytes {
    let Ok(mut answer) = serde_json::from_slice::<Value>(&body) else {
        return body;
    };
    let Some(choice) = answer.pointer_mut("/choices/0") else {
        return body;
    };
    let made = choice
        .pointer_mut("/message/tool_calls")
        .and_then(Value::as_array_mut);
    let mut calls = made.map(std::mem::take).unwrap_or_default();
    let completed = calls
        .iter_mut()
        .filter_map(Value::as_object_mut)
        .fold(false, |any, call| identify(call) | any);
    let mut text = String::new();
    let content = choice.pointer("/message/content").and_then(Value::as_str);
    let pieces = ToolText::new(offered).split(content);
    let mut read = false;
    for piece in pieces {
        match piece {
            Piece::Text(piece) => text.push_str(&piece),
            Piece::Calls(found) => {
                read = true;
                calls.extend(found.iter().map(|call| {
                    let arguments = Value::Object(call.arguments.clone()).to_string();
                    json!({"id": new_id(), "type": "function",
                        "function": {"name": call.name, "arguments": arguments}})
                }));
            }
        }
    }
    if !read && !completed {
        return body;
    }
    if read {
        let text = text.trim();
        choice["message"]["content"] = if text.is_empty() {
            Value::Null
        } else {
            json!(text)
        };
        if choice["finish_reason"] == "stop" {
            choice["finish_reason"] = json!("tool_calls");
        }
    }
    choice["message"]["tool_calls"] = Value::Array(calls);
    answer.to_string().into()
}

/// Gives a call the `id` and `type` that it lacks; whether it lacked one.
fn identify(call: &mut Map<String, Value>) -> bool {
    let lacks =
        |call: &Map<String, Value>, field: &str| !call.get(field).is_some_and(Value::is_string);
    let (id, kind) = (lacks(call, "id"), lacks(call, "type"));
    if id {
        call.insert("id".to_owned(), json!(new_id()));
    }
    if kind {
        call.insert("type".to_owned(), json!("function"));
    }
    id || kind
}

fn new_id() -> String {
    format!("call_{:032x}", rand::random::<u128>())
}

fn text_event(chunk: &Value, text: &str) -> ChatEvent {
    ChatEvent {
        delta: Some(text.to_owned()),
        ..bare(chunk, &json!({"content": text}))
    }
}

/// A chunk like this one that says nothing but `delta`.
fn bare(chunk: &Value, delta: &Value) -> ChatEvent {
    let mut chunk = chunk.clone();
    if let Some(object) = chunk.as_object_mut() {
        object.remove("usage");
        object.remove("timings");
        object.insert(
            "choices".to_owned(),
            json!([{"index": 0, "delta": delta, "finish_reason": null}]),
        );
    }
    ChatEvent {
        raw: chunk.to_string().into(),
        ..ChatEvent::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &str = "<|tool_call_start|>[add(a=1)]<|tool_call_end|>";

    fn event(delta: &Value, finish: Option<&str>) -> ChatEvent {
        let raw =
            json!({"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
        ChatEvent::parse("small", &[], raw.to_string().into()).unwrap()
    }

    fn follow(events: Vec<ChatEvent>) -> Vec<Value> {
        let mut follower = ToolEvents::new(vec!["add".to_owned()]).unwrap();
        let followed = events.into_iter().flat_map(|event| follower.push(event));
        followed
            .map(|event| serde_json::from_slice(&event.raw).unwrap())
            .collect()
    }

    #[test]
    fn tools_are_offered_unless_the_choice_is_none() {
        let tools = json!([{"type": "function", "function": {"name": "add"}}]);
        let mut body = Map::from_iter([("tools".to_owned(), tools)]);
        assert_eq!(offered(&body), ["add"]);
        body.insert("tool_choice".to_owned(), json!("none"));
        assert!(offered(&body).is_empty() && ToolEvents::new(Vec::new()).is_none());
    }

    #[test]
    fn a_call_in_the_text_becomes_a_call_with_index_id_and_arguments() {
        let (half, other) = CALL.split_at(25);
        let events = follow(vec![
            event(
                &json!({"role": "assistant", "content": format!("Well. {half}")}),
                None,
            ),
            event(&json!({"content": other}), None),
            event(&json!({}), Some("stop")),
        ]);
        let delta = |at: usize| events[at]["choices"][0]["delta"].clone();
        assert_eq!(delta(0), json!({"role": "assistant"}));
        assert_eq!(delta(1), json!({"content": "Well. "}));
        let call = &delta(2)["tool_calls"][0];
        assert_eq!(
            (&call["index"], &call["type"]),
            (&json!(0), &json!("function"))
        );
        assert!(call["id"].as_str().unwrap().starts_with("call_"), "{call}");
        assert_eq!(call["function"], json!({"name": "add", "arguments": ""}));
        let arguments = json!([{"index": 0, "function": {"arguments": "{\"a\":1}"}}]);
        assert_eq!(delta(3)["tool_calls"], arguments);
        assert_eq!(events[4]["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!((events.len(), &events[2]["id"]), (5, &json!("c")));
    }

    #[test]
    fn what_is_held_at_the_end_is_sent_before_it() {
        let events = follow(vec![
            event(&json!({"content": "<|tool_call_start|>[add(a="}), None),
            event(&json!({}), Some("length")),
        ]);
        assert_eq!(
            events[0]["choices"][0]["delta"]["content"],
            "<|tool_call_start|>[add(a="
        );
        assert_eq!(events[1]["choices"][0]["finish_reason"], "length");
    }

    #[test]
    fn events_without_calls_keep_their_bytes() {
        let mut follower = ToolEvents::new(vec!["add".to_owned()]).unwrap();
        let whole = json!({"tool_calls": [{"index": 0, "id": "x", "type": "function", "function": {"name": "add", "arguments": ""}}]});
        for sent in [
            event(&json!({"role": "assistant", "content": null}), None),
            event(&json!({"content": "a < b"}), None),
            event(&whole, None),
            event(
                &json!({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}),
                None,
            ),
            event(&json!({}), Some("tool_calls")),
        ] {
            assert_eq!(follower.push(sent.clone()), [sent]);
        }
    }

    #[test]
    fn a_missing_tool_call_index_is_put_in() {
        let piece = |function: Value| event(&json!({"tool_calls": [{"function": function}]}), None);
        let events = follow(vec![
            piece(json!({"name": "add", "arguments": ""})),
            piece(json!({"arguments": "{\"a\""})),
            piece(json!({"arguments": ":1}"})),
            piece(json!({"name": "add", "arguments": "{}"})),
        ]);
        let calls: Vec<&Value> = events
            .iter()
            .map(|event| &event["choices"][0]["delta"]["tool_calls"][0])
            .collect();
        let indices: Vec<u64> = calls
            .iter()
            .map(|call| call["index"].as_u64().unwrap())
            .collect();
        assert_eq!(indices, [0, 0, 0, 1]);
        for (call, begins) in calls.iter().zip([true, false, false, true]) {
            assert_eq!(
                (call["id"].is_string(), call["type"].is_string()),
                (begins, begins),
                "{call}"
            );
        }
        assert_ne!(calls[0]["id"], calls[3]["id"]);
    }

    #[test]
    fn a_whole_answer_is_read_the_same_way_and_kept_where_nothing_is_called() {
        let answer = |message: Value| -> Bytes {
            json!({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
                .to_string()
                .into()
        };
        let read = |body: Bytes| -> Value {
            serde_json::from_slice(&whole(body, vec!["add".to_owned()])).unwrap()
        };
        let called = read(answer(json!({"role": "assistant", "content": CALL})));
        let choice = &called["choices"][0];
        assert_eq!(
            (&choice["finish_reason"], &choice["message"]["content"]),
            (&json!("tool_calls"), &Value::Null)
        );
        assert_eq!(
            choice["message"]["tool_calls"][0]["function"],
            json!({"name": "add", "arguments": "{\"a\":1}"})
        );
        let nameless = read(answer(
            json!({"content": null, "tool_calls": [{"function": {"name": "add", "arguments": "{}"}}]}),
        ));
        assert!(nameless["choices"][0]["message"]["tool_calls"][0]["id"].is_string());
        let plain = answer(json!({"role": "assistant", "content": "a <| b"}));
        assert_eq!(whole(plain.clone(), vec!["add".to_owned()]), plain);
        assert_eq!(whole(Bytes::from_static(b"<html>"), Vec::new()), "<html>");
    }
}
