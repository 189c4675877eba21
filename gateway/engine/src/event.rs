//! One event of a streamed answer, read as far as the gateway needs it.
//!
//! The bytes of the event stay as the engine wrote them (`raw`); what is parsed beside them is read-only. Nothing here
//! knows about connections. Reading on: `stream.rs`.

use crate::error::{EngineError, Reply, place};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

/// One event of a streamed answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatEvent {
    /// The JSON after `data:`, as the engine wrote it.
    pub raw: Bytes,
    /// Text added to the answer.
    pub delta: Option<String>,
    /// Whether it carries something generated that is no text of the answer: a piece of a tool call, reasoning, or text of another
    /// choice than the first.
    pub aside: bool,
    /// Natural log-probability of each token of this event, when they were asked for.
    pub logprobs: Vec<f32>,
    /// Why the answer ended: `stop`, `length`, `tool_calls` ...
    pub finish_reason: Option<String>,
    /// How many choices end with this event.
    pub ended: u32,
    /// Tokens used, on the last event.
    pub usage: Option<Usage>,
    /// The engine's own measurement, on the last event of llama.cpp.
    pub timings: Option<Timings>,
}

/// Tokens used by one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub prompt_tokens: u32,
    /// Tokens generated.
    pub completion_tokens: u32,
    /// Tokens of the prompt that were not computed again.
    pub cached_tokens: u32,
}

/// What llama.cpp measured itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings {
    /// Tokens of the prompt that were computed.
    pub prompt_tokens: u32,
    /// Tokens of the prompt that were not computed again.
    pub cached_tokens: u32,
    /// Time for them, milliseconds.
    pub prompt_ms: f64,
    /// Tokens generated.
    pub completion_tokens: u32,
    /// Time for them, milliseconds.
    pub completion_ms: f64,
}

#[derive(Deserialize)]
struct WireChunk {
    #[serde(default)]
    choices: Vec<WireChoice>,
    usage: Option<WireUsage>,
    timings: Option<WireTimings>,
    error: Option<Value>,
    object: Option<String>,
}

#[derive(Deserialize)]
struct WireChoice {
    #[serde(default)]
    index: u32,
    delta: Option<WireDelta>,
    /// The text of a `/v1/completions` chunk.
    text: Option<String>,
    logprobs: Option<WireLogprobs>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct WireDelta {
    content: Option<String>,
    reasoning_content: Option<String>,
    tool_calls: Option<Vec<IgnoredAny>>,
}

impl WireDelta {
    fn is_aside(&self) -> bool {
        let reasons = self.reasoning_content.as_ref();
        let calls = self.tool_calls.as_ref();
        reasons.is_some_and(|text| !text.is_empty()) || calls.is_some_and(|calls| !calls.is_empty())
    }
}

#[derive(Deserialize)]
struct WireLogprobs {
    content: Option<Vec<WireTokenLogprob>>,
}

#[derive(Deserialize)]
struct WireTokenLogprob {
    logprob: Option<f32>,
}

#[derive(Deserialize)]
struct WireUsage {
    prompt_tokens: Option<u32>,
    completion_tokens: Option<u32>,
    prompt_tokens_details: Option<WirePromptDetails>,
}

#[derive(Deserialize)]
struct WirePromptDetails {
    cached_tokens: Option<u32>,
}

#[derive(Deserialize)]
struct WireTimings {
    #[serde(default)]
    cache_n: u32,
    #[serde(default)]
    prompt_n: u32,
    #[serde(default)]
    prompt_ms: f64,
    #[serde(default)]
    predicted_n: u32,
    #[serde(default)]
    predicted_ms: f64,
}

impl ChatEvent {
    /// Reads the JSON of one `data:` line. Of several choices the first is read, and of the others whether something came and ended.
    pub(crate) fn parse(pool: &str, hidden: &[&str], raw: Bytes) -> Result<Self, EngineError> {
        let bad = |what: String| EngineError::BadEvent {
            pool: pool.to_owned(),
            what,
        };
        let chunk: WireChunk = serde_json::from_slice(&raw).map_err(|error| {
            let place = place(&error);
            bad(format!(
                "an event that is not a chat completion chunk ({place})"
            ))
        })?;
        if chunk.error.is_some() || chunk.object.as_deref() == Some("error") {
            let reply = Reply {
                pool,
                status: 200,
                retry_after: None,
                hidden,
            };
            return Err(reply.into_error(&raw));
        }
        let cached = chunk.timings.as_ref().map(|timings| timings.cache_n);
        let mut event = Self {
            raw,
            usage: chunk.usage.map(|usage| usage.read(cached)),
            timings: chunk.timings.map(|timings| timings.read()),
            ..Self::default()
        };
        for choice in chunk.choices {
            event.ended += u32::from(choice.finish_reason.is_some());
            event.aside |= choice.delta.as_ref().is_some_and(WireDelta::is_aside);
            let text = choice.delta.and_then(|delta| delta.content).or(choice.text);
            let text = text.filter(|text| !text.is_empty());
            if choice.index > 0 {
                event.aside |= text.is_some();
                continue;
            }
            event.delta = text;
            event.logprobs = choice.logprobs.map(WireLogprobs::read).unwrap_or_default();
            event.finish_reason = choice.finish_reason;
        }
        Ok(event)
    }
}

impl ChatEvent {
    /// Tokens used, as far as the event says: as `usage`, or as the engine's own measurement.
    pub fn used(&self) -> Option<Usage> {
        let measured = |timings: Timings| Usage {
            prompt_tokens: timings.prompt_tokens + timings.cached_tokens,
            completion_tokens: timings.completion_tokens,
            cached_tokens: timings.cached_tokens,
        };
        self.usage.or(self.timings.map(measured))
    }
}

impl WireLogprobs {
    /// A token whose probability the engine could not represent (`null`) counts as impossible-looking: -100.
    fn read(self) -> Vec<f32> {
        let tokens = self.content.unwrap_or_default();
        tokens
            .into_iter()
            .map(|token| token.logprob.unwrap_or(-100.0).max(-100.0))
            .collect()
    }
}

impl WireUsage {
    fn read(self, cached: Option<u32>) -> Usage {
        let said = self
            .prompt_tokens_details
            .and_then(|details| details.cached_tokens);
        Usage {
            prompt_tokens: self.prompt_tokens.unwrap_or(0),
            completion_tokens: self.completion_tokens.unwrap_or(0),
            cached_tokens: said.or(cached).unwrap_or(0),
        }
    }
}

impl WireTimings {
    fn read(&self) -> Timings {
        Timings {
            prompt_tokens: self.prompt_n,
            cached_tokens: self.cache_n,
            prompt_ms: self.prompt_ms,
            completion_tokens: self.predicted_n,
            completion_ms: self.predicted_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &'static str) -> Result<ChatEvent, EngineError> {
        ChatEvent::parse("small", &[], Bytes::from_static(json.as_bytes()))
    }

    #[test]
    fn usage_timings_and_cached_tokens_of_llama_cpp_are_read() {
        let event = parse(
            r#"{"choices":[],"usage":{"completion_tokens":8,"prompt_tokens":40,"total_tokens":48,"prompt_tokens_details":{"cached_tokens":32}},"timings":{"cache_n":32,"prompt_n":8,"prompt_ms":12.5,"predicted_n":8,"predicted_ms":80.0}}"#,
        )
        .unwrap();
        let usage = Usage {
            prompt_tokens: 40,
            completion_tokens: 8,
            cached_tokens: 32,
        };
        assert_eq!(event.usage, Some(usage));
        assert_eq!(event.timings.unwrap().prompt_tokens, 8);
        let measured = ChatEvent {
            usage: None,
            ..event
        };
        assert_eq!(measured.used(), Some(usage));
    }

    #[test]
    fn text_and_log_probabilities_are_read_and_null_is_finite() {
        let event = parse(
            r#"{"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null,"logprobs":{"content":[{"token":"hi","logprob":-0.25},{"token":"x","logprob":null}]}}]}"#,
        )
        .unwrap();
        assert_eq!(event.delta.as_deref(), Some("hi"));
        assert_eq!(event.logprobs, vec![-0.25, -100.0]);
        assert_eq!(event.finish_reason, None);
    }

    #[test]
    fn the_text_of_a_plain_completion_is_read() {
        let event = parse(
            r#"{"object":"text_completion","choices":[{"text":" 4","index":0,"logprobs":null,"finish_reason":null}]}"#,
        );
        assert_eq!(event.unwrap().delta.as_deref(), Some(" 4"));
    }

    #[test]
    fn a_piece_of_a_tool_call_and_reasoning_stand_aside_and_a_role_does_not() {
        for (delta, aside) in [
            (
                r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#,
                true,
            ),
            (
                r#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#,
                true,
            ),
            (
                r#"{"choices":[{"delta":{"role":"assistant","content":null,"tool_calls":[]}}]}"#,
                false,
            ),
            (r#"{"choices":[{"delta":{"content":"hi"}}]}"#, false),
        ] {
            assert_eq!(parse(delta).unwrap().aside, aside, "{delta}");
        }
    }

    #[test]
    fn an_error_event_is_the_engines_error_and_garbage_is_a_bad_event() {
        let error =
            parse(r#"{"error":{"code":500,"message":"out of memory","type":"server_error"}}"#);
        assert!(matches!(
            error,
            Err(EngineError::Status { status: 500, .. })
        ));
        assert!(matches!(parse("<html>"), Err(EngineError::BadEvent { .. })));
        let shapeless = parse(r#"{"choices":"the capital is Rome"}"#).unwrap_err();
        assert!(matches!(shapeless, EngineError::BadEvent { .. }));
        let said = shapeless.to_string();
        assert!(said.contains("line 1") && !said.contains("Rome"), "{said}");
    }
}
