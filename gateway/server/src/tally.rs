//! What an answer adds up to while its events arrive.
//!
//! Pure: events in, sums out. The verdict (`verdict.rs`), the response and the log row read the same tally.

use serde_json::{Map, Value, json};
use weir_engine::{ChatEvent, Timings, Usage};

/// The answer so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    /// Its text.
    pub(crate) text: String,
    /// Tokens seen.
    pub(crate) tokens: u32,
    logprob_sum: f64,
    logprobs: u32,
    /// The least likely token's log-probability.
    pub(crate) min_logprob: Option<f32>,
    /// Why it ended.
    pub(crate) finish_reason: Option<String>,
    /// The engine's own count.
    pub(crate) usage: Option<Usage>,
    /// The engine's own times.
    pub(crate) timings: Option<Timings>,
    /// Whether tools are called instead of answering.
    pub(crate) tool_calls: bool,
}

impl Tally {
    /// Adds one event.
    pub(crate) fn add(&mut self, event: &ChatEvent) {
        if let Some(delta) = &event.delta {
            self.text.push_str(delta);
        }
        let with_logprobs = u32::try_from(event.logprobs.len()).unwrap_or(u32::MAX);
        self.tokens += with_logprobs.max(u32::from(event.delta.is_some() || event.aside));
        self.logprobs += with_logprobs;
        for &logprob in &event.logprobs {
            self.logprob_sum += f64::from(logprob);
            self.min_logprob = Some(self.min_logprob.map_or(logprob, |least| least.min(logprob)));
        }
        if event.finish_reason.is_some() {
            self.finish_reason.clone_from(&event.finish_reason);
        }
        self.tool_calls |= event.finish_reason.as_deref() == Some("tool_calls");
        self.usage = event.usage.or(self.usage);
        self.timings = event.timings.or(self.timings);
    }

    /// Mean log-probability of the tokens that came with one.
    pub(crate) fn mean_logprob(&self) -> Option<f32> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a log-probability fits f32"
        )]
        (self.logprobs > 0).then(|| (self.logprob_sum / f64::from(self.logprobs)) as f32)
    }

    /// Tokens of the engine's count, or as many as were seen.
    pub(crate) fn used(&self, prompt_tokens: u32) -> Usage {
        self.usage.unwrap_or(Usage {
            prompt_tokens,
            completion_tokens: self.tokens,
            cached_tokens: 0,
        })
    }
}

/// `choices[0].message` of a whole answer: text, and the tool calls put together from their pieces.
pub(crate) fn message(events: &[ChatEvent], text: &str) -> Map<String, Value> {
    let mut calls: Vec<Value> = Vec::new();
    for delta in events
        .iter()
        .filter_map(|event| choice(event)?.get("delta").cloned())
    {
        let pieces = delta
            .get("tool_calls")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        for piece in pieces {
            add_call(&mut calls, &piece);
        }
    }
    let mut message = Map::new();
    message.insert("role".to_owned(), json!("assistant"));
    let content = if text.is_empty() && !calls.is_empty() {
        Value::Null
    } else {
        json!(text)
    };
    message.insert("content".to_owned(), content);
    if !calls.is_empty() {
        message.insert("tool_calls".to_owned(), Value::Array(calls));
    }
    message
}

/// `choices[0].logprobs` of a whole answer.
pub(crate) fn logprobs(events: &[ChatEvent]) -> Value {
    let content: Vec<Value> = events
        .iter()
        .filter_map(|event| {
            choice(event)?
                .pointer("/logprobs/content")?
                .as_array()
                .cloned()
        })
        .flatten()
        .collect();
    json!({"content": content, "refusal": null})
}

fn choice(event: &ChatEvent) -> Option<Value> {
    let chunk: Value = serde_json::from_slice(&event.raw).ok()?;
    chunk.pointer("/choices/0").cloned()
}

/// Adds a piece of a tool call: the first of an index names it, later ones append to its arguments.
fn add_call(calls: &mut Vec<Value>, piece: &Value) {
    let index = piece.get("index").and_then(Value::as_u64).unwrap_or(0);
    let Ok(index) = usize::try_from(index) else {
        return;
    };
    let more = piece
        .pointer("/function/arguments")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if let Some(call) = calls.get_mut(index) {
        let arguments = call.pointer_mut("/function/arguments");
        if let Some(Value::String(arguments)) = arguments {
            arguments.push_str(more);
        }
    } else if index == calls.len() {
        let name = piece.pointer("/function/name").cloned().unwrap_or_default();
        calls.push(json!({
            "id": piece.get("id").cloned().unwrap_or_default(),
            "type": "function",
            "function": {"name": name, "arguments": more},
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str, logprob: f32) -> ChatEvent {
        ChatEvent {
            delta: Some(text.to_owned()),
            logprobs: vec![logprob],
            ..ChatEvent::default()
        }
    }

    #[test]
    fn text_tokens_and_confidence_add_up() {
        let mut tally = Tally::default();
        for event in [token("a", -1.0), token("b", -3.0)] {
            tally.add(&event);
        }
        assert_eq!((tally.text.as_str(), tally.tokens), ("ab", 2));
        assert_eq!(
            (tally.mean_logprob(), tally.min_logprob),
            (Some(-2.0), Some(-3.0))
        );
        assert_eq!(tally.used(7).prompt_tokens, 7);
    }

    #[test]
    fn an_answer_without_log_probabilities_has_no_confidence() {
        let mut tally = Tally::default();
        tally.add(&ChatEvent {
            delta: Some("a".to_owned()),
            ..ChatEvent::default()
        });
        assert_eq!((tally.tokens, tally.mean_logprob()), (1, None));
    }

    #[test]
    fn a_piece_of_a_tool_call_counts_as_a_token() {
        let mut tally = Tally::default();
        tally.add(&ChatEvent {
            aside: true,
            ..ChatEvent::default()
        });
        assert_eq!((tally.tokens, tally.text.as_str()), (1, ""));
    }

    #[test]
    fn tool_calls_are_put_together_from_their_pieces() {
        let event = |delta: Value| ChatEvent {
            raw: json!({"choices": [{"index": 0, "delta": delta}]})
                .to_string()
                .into(),
            ..ChatEvent::default()
        };
        let first = json!({"tool_calls": [{"index": 0, "id": "c1", "type": "function",
            "function": {"name": "add", "arguments": "{\"a\":"}}]});
        let second = json!({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]});
        let message = message(&[event(first), event(second)], "");
        assert_eq!(message["content"], Value::Null);
        assert_eq!(
            message["tool_calls"][0]["function"]["arguments"],
            "{\"a\":1}"
        );
        assert_eq!(message["tool_calls"][0]["id"], "c1");
    }
}
