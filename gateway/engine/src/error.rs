//! What can go wrong between the gateway and an engine, who is at fault and whether trying elsewhere makes sense.
//!
//! `Display` names the pool and what was attempted, never an address, a path or a key; the source chain may hold an
//! address and is for logs only. Reading on: `gateway/server/src/rescue.rs` maps these to statuses.

use serde_json::Value;
use serde_json::error::Category;
use std::time::Duration;
use thiserror::Error;

/// Longest part of an engine's own message that is kept, in characters.
const MESSAGE_MAX: usize = 512;

/// Why a request to an engine failed.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The pool has no replica that can generate.
    #[error("pool `{pool}` has no replica that can generate")]
    NoEndpoint {
        /// Name of the pool.
        pool: String,
    },
    /// The pool is at zero, and the replica that the request asked for did not come in time.
    #[error("pool `{pool}` is at zero and got no replica within {} ms", waited.as_millis())]
    Cold {
        /// Name of the pool.
        pool: String,
        /// How long the request waited.
        waited: Duration,
    },
    /// All replicas have as much to do as they work on at once, and the request's turn would come too late.
    #[error("pool `{pool}` is busy: no place within the request's time, the next in {} ms", retry_after.as_millis())]
    Busy {
        /// Name of the pool.
        pool: String,
        /// When a place is likely to be free.
        retry_after: Duration,
    },
    /// Every replica failed lately and is being left alone.
    #[error("every replica of pool `{pool}` failed lately; next try in {} ms", retry_after.as_millis())]
    BreakerOpen {
        /// Name of the pool.
        pool: String,
        /// When the first replica is tried again.
        retry_after: Duration,
    },
    /// Nothing accepted the connection.
    #[error("connecting to a replica of pool `{pool}` failed")]
    Refused {
        /// Name of the pool.
        pool: String,
        /// The connector's error, for logs.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The other side showed a certificate that the gateway does not trust.
    #[error("a replica of pool `{pool}` shows a certificate that the gateway does not trust")]
    Untrusted {
        /// Name of the pool.
        pool: String,
        /// The connector's error, for logs.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine was too slow.
    #[error("a replica of pool `{pool}` did not finish {phase} within {} ms", waited.as_millis())]
    TimedOut {
        /// Name of the pool.
        pool: String,
        /// What was being waited for.
        phase: Phase,
        /// How long the request had.
        waited: Duration,
    },
    /// The connection broke.
    #[error("a replica of pool `{pool}` closed the connection during {phase}")]
    Reset {
        /// Name of the pool.
        pool: String,
        /// What was being read.
        phase: Phase,
        /// The transport's error, for logs; `None` when the stream just ended.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The engine answered with an error, as a status or as an event.
    #[error("pool `{pool}` answered {status}: {message}")]
    Status {
        /// Name of the pool.
        pool: String,
        /// The HTTP status, 500 for an error event that names none.
        status: u16,
        /// The engine's own error type or code.
        kind: Option<String>,
        /// The engine's own message, without addresses and keys.
        message: String,
        /// When the engine wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The prompt and the model's context do not fit.
    #[error("the prompt has {prompt_tokens} tokens, model of pool `{pool}` takes {context_tokens}")]
    Context {
        /// Name of the pool.
        pool: String,
        /// Tokens of the prompt, 0 when the engine did not say.
        prompt_tokens: u32,
        /// Tokens that the engine takes, 0 when it did not say.
        context_tokens: u32,
    },
    /// The engine sent something that is not what was asked for.
    #[error("pool `{pool}` sent {what}")]
    BadEvent {
        /// Name of the pool.
        pool: String,
        /// What came instead.
        what: String,
    },
    /// The plan holds an endpoint that is not a URL, or a key that is no header value.
    #[error("an endpoint of pool `{pool}` is not usable: {what}")]
    BadEndpoint {
        /// Name of the pool.
        pool: String,
        /// Which part.
        what: &'static str,
    },
}

/// What was being waited for when a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing of the answer had been read.
    FirstEvent,
    /// The answer had begun.
    Answer,
}

/// Who has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The client's request can never succeed as it is.
    Client,
    /// The engine failed or is overloaded.
    Engine,
    /// The gateway's configuration is wrong: address, key, trust or model name.
    Configuration,
}

impl EngineError {
    /// Who has to act.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Status {
                // 501: vectors of an engine that generates, or the other way round.
                status: 400 | 413 | 415 | 422 | 501,
                ..
            }
            | Self::Context { .. } => Fault::Client,
            Self::Status {
                status: 401 | 403 | 404 | 405,
                ..
            }
            | Self::Untrusted { .. }
            | Self::BadEndpoint { .. } => Fault::Configuration,
            _ => Fault::Engine,
        }
    }

    /// Whether the same request may succeed on another replica or another pool.
    pub fn retryable(&self) -> bool {
        self.fault() != Fault::Client
    }

    /// Name of the pool that was asked.
    pub fn pool(&self) -> &str {
        match self {
            Self::NoEndpoint { pool }
            | Self::Cold { pool, .. }
            | Self::Busy { pool, .. }
            | Self::BreakerOpen { pool, .. }
            | Self::Refused { pool, .. }
            | Self::Untrusted { pool, .. }
            | Self::TimedOut { pool, .. }
            | Self::Reset { pool, .. }
            | Self::Status { pool, .. }
            | Self::Context { pool, .. }
            | Self::BadEvent { pool, .. }
            | Self::BadEndpoint { pool, .. } => pool,
        }
    }

    /// How long to wait before asking the same pool again, when that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } | Self::BreakerOpen { retry_after, .. } => {
                Some(*retry_after)
            }
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// A short, fixed name for metrics and the log row.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoEndpoint { .. } => "no_endpoint",
            Self::Cold { .. } => "cold",
            Self::BreakerOpen { .. } => "breaker_open",
            Self::Refused { .. } => "refused",
            Self::Untrusted { .. } => "untrusted",
            Self::TimedOut { .. } => "timed_out",
            Self::Reset { .. } => "reset",
            Self::Busy { .. } | Self::Status { status: 429, .. } => "overloaded",
            Self::Status { .. } => "status",
            Self::Context { .. } => "context",
            Self::BadEvent { .. } => "bad_event",
            Self::BadEndpoint { .. } => "bad_endpoint",
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::FirstEvent => "the start of the answer",
            Self::Answer => "the answer",
        })
    }
}

/// What an engine said about its failure, before it is known to be a context overflow or not.
pub(crate) struct Reply<'a> {
    pub(crate) pool: &'a str,
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    /// Strings that must never be shown: authority of the endpoint and its key.
    pub(crate) hidden: &'a [&'a str],
}

impl Reply<'_> {
    /// Reads an error body: OpenAI's shape, a bare string, vLLM's older shape, or plain text.
    pub(crate) fn into_error(self, body: &[u8]) -> EngineError {
        match serde_json::from_slice::<Value>(body) {
            Ok(value) => self.value_into_error(value.get("error").unwrap_or(&value)),
            Err(_) => self.status_error(None, String::from_utf8_lossy(body).trim()),
        }
    }

    /// Reads the value of an `error` member.
    pub(crate) fn value_into_error(mut self, error: &Value) -> EngineError {
        let message = match error {
            Value::String(text) => text.as_str(),
            _ => error
                .get("message")
                .and_then(Value::as_str)
                .unwrap_or("no message"),
        };
        let text = |key: &str| error.get(key).and_then(Value::as_str);
        let code = error
            .get("code")
            .and_then(Value::as_u64)
            .and_then(|code| code.try_into().ok());
        if let Some(code) = code.filter(|code| self.status == 200 && (400..600).contains(code)) {
            self.status = code;
        }
        if self.status == 200 {
            self.status = 500;
        }
        let kind = text("code").or_else(|| text("type"));
        let overflow = [text("type"), text("code")]
            .into_iter()
            .flatten()
            .any(|name| name == "exceed_context_size_error" || name == "context_length_exceeded");
        let said = context_and_prompt(message);
        if overflow || said.is_some() {
            let number = |key: &str| {
                error
                    .get(key)
                    .and_then(Value::as_u64)
                    .and_then(|number| u32::try_from(number).ok())
            };
            let (context, prompt) = said.unwrap_or_default();
            return EngineError::Context {
                pool: self.pool.to_owned(),
                prompt_tokens: number("n_prompt_tokens").or(prompt).unwrap_or(0),
                context_tokens: number("n_ctx").or(context).unwrap_or(0),
            };
        }
        let kind = kind.map(str::to_owned);
        self.status_error(kind, message)
    }

    fn status_error(self, kind: Option<String>, message: &str) -> EngineError {
        let message = match self.status {
            // What an upstream says about our key may quote the key.
            401 | 403 => "the engine refused the gateway's key".to_owned(),
            _ => self.hidden.iter().filter(|hidden| !hidden.is_empty()).fold(
                message.chars().take(MESSAGE_MAX).collect::<String>(),
                |shown, hidden| shown.replace(hidden, "***"),
            ),
        };
        EngineError::Status {
            pool: self.pool.to_owned(),
            status: self.status,
            kind,
            message,
            retry_after: self.retry_after,
        }
    }
}

/// Where JSON is wrong and how. What the library says of it would quote what stands there, which may be an answer.
pub(crate) fn place(error: &serde_json::Error) -> String {
    let how = match error.classify() {
        Category::Data => "another shape",
        _ => "no JSON",
    };
    format!("{how} at line {}, column {}", error.line(), error.column())
}

/// Tokens of the context and of the prompt, as far as a message of OpenAI or vLLM says them; `None` where it speaks of something else.
/// Of a very long prompt vLLM counts characters alone.
fn context_and_prompt(message: &str) -> Option<(Option<u32>, Option<u32>)> {
    if let Some((prompt, context)) = message.split_once("exceeds model's maximum context length") {
        return Some((numbers(context).next(), numbers(prompt).last()));
    }
    let (_, tail) = message.split_once("maximum context length is")?;
    let tokens = if tail.contains("characters") {
        tail.split("tokens").next().unwrap_or_default()
    } else {
        tail
    };
    let mut numbers = numbers(tokens);
    Some((numbers.next(), numbers.next()))
}

fn numbers(text: &str) -> impl Iterator<Item = u32> {
    let digits = text.split(|c: char| !c.is_ascii_digit());
    digits.filter_map(|digits| digits.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn reply(status: u16) -> Reply<'static> {
        Reply {
            pool: "small",
            status,
            retry_after: None,
            hidden: &["127.0.0.1:4000", "sk-1"],
        }
    }

    #[test]
    fn context_overflow_of_llama_cpp_carries_both_numbers() {
        let body = br#"{"error":{"code":400,"message":"request (9001 tokens) exceeds the available context size (4096 tokens)","type":"exceed_context_size_error","n_prompt_tokens":9001,"n_ctx":4096}}"#;
        let error = reply(400).into_error(body);
        assert!(matches!(
            error,
            EngineError::Context {
                prompt_tokens: 9001,
                context_tokens: 4096,
                ..
            }
        ));
        assert_eq!(error.fault(), Fault::Client);
        assert!(!error.retryable());
    }

    #[test]
    fn context_overflow_of_openai_and_vllm_is_read_from_the_message() {
        for message in [
            "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens (8900 in the messages)",
            "Input length (9000) exceeds model's maximum context length (8192).",
        ] {
            let error =
                json!({"error": {"message": message, "type": "BadRequestError", "code": 400}});
            let error = reply(400).into_error(error.to_string().as_bytes());
            assert!(
                matches!(
                    error,
                    EngineError::Context {
                        prompt_tokens: 9000,
                        context_tokens: 8192,
                        ..
                    }
                ),
                "{message}: {error:?}"
            );
        }
    }

    #[test]
    fn characters_are_not_told_as_tokens() {
        let body = br#"{"error":{"message":"This model's maximum context length is 4096 tokens. However, your prompt contains 400000 characters (more than 331776 characters). Please reduce its length.","type":"BadRequestError","code":400}}"#;
        assert!(matches!(
            reply(400).into_error(body),
            EngineError::Context {
                prompt_tokens: 0,
                context_tokens: 4096,
                ..
            }
        ));
    }

    #[test]
    fn addresses_and_keys_in_engine_messages_are_hidden() {
        let body =
            br#"{"error":{"message":"upstream 127.0.0.1:4000 said sk-1 is odd","type":"x"}}"#;
        let shown = reply(500).into_error(body).to_string();
        assert_eq!(
            shown,
            "pool `small` answered 500: upstream *** said *** is odd"
        );
    }

    #[test]
    fn every_shape_of_error_body_is_read() {
        for (status, body, shown, fault) in [
            (
                401,
                r#"{"error":"Unauthorized"}"#,
                "refused the gateway's key",
                Fault::Configuration,
            ),
            (
                400,
                r#"{"object":"error","message":"bad role"}"#,
                "bad role",
                Fault::Client,
            ),
            (
                502,
                "<html>bad gateway</html>",
                "<html>bad gateway</html>",
                Fault::Engine,
            ),
            (
                429,
                r#"{"error":{"message":"busy"}}"#,
                "busy",
                Fault::Engine,
            ),
            (
                200,
                r#"{"error":{"message":"x","code":503}}"#,
                "answered 503: x",
                Fault::Engine,
            ),
        ] {
            let error = reply(status).into_error(body.as_bytes());
            assert!(error.to_string().contains(shown), "{error}");
            assert_eq!(error.fault(), fault, "{error}");
        }
    }
}
