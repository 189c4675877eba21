//! An answer as OpenAI's `response` object, and the items in it.
//!
//! Pure. The events of a stream (`events.rs`) carry the same objects.

use super::super::chat::{unix_seconds, weir};
use super::super::chunks::Wanted;
use crate::answer::{Answer, Decided};
use serde_json::{Map, Value, json};
use weir_engine::Usage;

/// What a response says beside the answer.
#[derive(Clone, Debug)]
pub(super) struct Told {
    echo: Map<String, Value>,
    wanted: Wanted,
    created: u64,
}

/// How far a response is.
#[derive(Clone, Copy, Debug)]
pub(super) enum State<'a> {
    /// It is being generated.
    InProgress,
    /// It ended, for the engine's reason.
    Ended(&'a str, Usage),
    /// It broke: message and code.
    Failed(&'a str, &'a str),
}

impl Told {
    pub(super) fn new(echo: Map<String, Value>, wanted: Wanted) -> Self {
        let created = unix_seconds();
        Self {
            echo,
            wanted,
            created,
        }
    }

    /// The response of a whole answer.
    pub(super) fn whole(&self, answer: &Answer) -> Value {
        let id = &answer.decision.id;
        let calls = answer.message.get("tool_calls").and_then(Value::as_array);
        let content = answer.message.get("content").and_then(Value::as_str);
        let mut output = Vec::new();
        // An answer without text and without calls is an empty message.
        if content.is_some_and(|text| !text.is_empty()) || calls.is_none() {
            output.push(message_item(id, 0, "completed", content));
        }
        for call in calls.into_iter().flatten() {
            let text = |path: &str| {
                call.pointer(path)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            let call = Call {
                id: text("/id"),
                name: text("/function/name"),
                arguments: text("/function/arguments"),
            };
            output.push(call.item(id, output.len(), "completed"));
        }
        let state = State::Ended(&answer.finish_reason, answer.usage);
        self.response(&answer.decision, state, &output)
    }

    /// The `response` object.
    pub(super) fn response(&self, decision: &Decided, state: State<'_>, output: &[Value]) -> Value {
        let cut = match state {
            State::Ended("length", _) => Some("max_output_tokens"),
            State::Ended("content_filter", _) => Some("content_filter"),
            _ => None,
        };
        let (status, usage, error) = match state {
            State::InProgress => ("in_progress", None, None),
            State::Ended(_, usage) if cut.is_some() => ("incomplete", Some(usage), None),
            State::Ended(_, usage) => ("completed", Some(usage), None),
            State::Failed(message, code) => (
                "failed",
                None,
                Some(json!({"code": code, "message": message})),
            ),
        };
        let mut response = json!({
            "id": format!("resp_{}", decision.id), "object": "response", "created_at": self.created,
            "status": status, "error": error,
            "incomplete_details": cut.map(|reason| json!({"reason": reason})),
            "model": decision.model, "output": output, "usage": usage.map(used),
            "background": false, "store": false, "previous_response_id": null,
            "instructions": null, "max_output_tokens": null, "metadata": {}, "parallel_tool_calls": true,
            "temperature": null, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [],
            "top_p": null, "truncation": "auto",
        });
        for (field, value) in &self.echo {
            response[field] = value.clone();
        }
        if self.wanted.weir && usage.is_some() {
            response["weir"] = weir(decision);
        }
        response
    }
}

/// A call of a function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) arguments: &'a str,
}

impl Call<'_> {
    /// The item at `index` of an answer's output.
    pub(super) fn item(&self, decision_id: &str, index: usize, status: &str) -> Value {
        json!({
            "id": item_id("fc", decision_id, index), "type": "function_call", "status": status,
            "call_id": self.id, "name": self.name, "arguments": self.arguments,
        })
    }
}

/// The item at `index` of an answer's output, of text; `None` has no part yet.
pub(super) fn message_item(
    decision_id: &str,
    index: usize,
    status: &str,
    text: Option<&str>,
) -> Value {
    let content: Vec<Value> = text.map(text_part).into_iter().collect();
    json!({
        "id": item_id("msg", decision_id, index), "type": "message", "status": status,
        "role": "assistant", "content": content,
    })
}

pub(super) fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn item_id(kind: &str, decision_id: &str, index: usize) -> String {
    format!("{kind}_{decision_id}_{index}")
}

fn used(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    })
}
