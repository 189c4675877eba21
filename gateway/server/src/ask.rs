//! `Ask`: what a client wants, parsed once from an OpenAI-shaped body and the `weir` extension.
//!
//! Owns the names and limits of the request's fields; every refusal names the field. Must not look at the plan, the
//! memory or the clock's meaning: whether a model exists or a privacy level is served is decided later. The flow that
//! uses an `Ask` is `answer.rs`.

pub use crate::field::AskError;
pub(crate) use crate::field::{read, wrong};

use crate::extension::Extension;
use crate::message::Message;
use serde_json::{Map, Value};
use std::time::Instant;
use weir_engine::Prefix;
use weir_memory::NodeId;

/// A request in the shape that every step reads.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Who asks.
    pub caller: Caller,
    /// The conversation, oldest first; at least one user message.
    pub messages: Vec<Message>,
    /// Whether the router chooses the model.
    pub model: ModelChoice,
    /// What the client set itself; it wins over the router.
    pub client: ClientSettings,
    /// Weir's own per-request settings.
    pub weir: Extension,
    /// Nodes that the memory keeps back. Measurements set it; no body and no header can.
    pub hidden: Vec<NodeId>,
    /// A budget of its tenant is used up, and the smallest permitted model answers.
    pub(crate) over_budget: bool,
    /// When the request's head arrived; deadlines and `latency_ms.total` count from here.
    pub received: Instant,
}

/// Who asks, as authentication found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Whose memory is read and who may read the decision.
    pub tenant: String,
    /// Id of this HTTP request, for logs.
    pub request_id: String,
    /// Trace that the request is a part of, as the client's header of this name says.
    pub traceparent: Option<String>,
    /// Name of the API key, or `jwt:` and that of a token's; `None` where none was asked for.
    pub key_id: Option<String>,
}

/// Whether the router chooses the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelChoice {
    /// `"auto"`: the router chooses.
    Auto,
    /// A pool's model name: no choice, no memory, no verdict.
    Pinned(String),
}

/// What the client set itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientSettings {
    /// How many answers are wanted (`n`); more than one of a pinned model alone.
    pub n: Option<u32>,
    /// Softmax temperature, 0 to 2.
    pub temperature: Option<f32>,
    /// Nucleus, above 0 and at most 1.
    pub top_p: Option<f32>,
    /// Largest completion in tokens (`max_completion_tokens` is the same).
    pub max_tokens: Option<u32>,
    /// Whether the answer is wanted as a stream of events.
    pub stream: bool,
    /// Whether the stream ends with an event that has the usage.
    pub include_usage: bool,
    /// Whether token log-probabilities are wanted back.
    pub logprobs: bool,
    /// Whether the request offers tools.
    pub tools: bool,
    /// Whether `response_format` asks for JSON.
    pub json: bool,
    /// OpenAI's `user`: stable name of the end user, kept as a hash only.
    pub user: Option<String>,
    /// Every other field of the body (`stop`, `seed`, `tools`, penalties ...), sent to the engine as it came.
    pub passed: Map<String, Value>,
}

/// Most answers to one request.
const CHOICES_MAX: u32 = 16;

/// Fields that Weir writes itself and never passes on as they came.
const OWN_FIELDS: [&str; 9] = [
    "model",
    "messages",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "weir",
];

impl Ask {
    /// Parses the body of `POST /v1/chat/completions`, of a request that arrived at `received`. `weir` starts from what
    /// the `x-weir-*` headers said (see [`Extension::from_headers`]); the body's `weir` object wins field by field.
    pub fn parse(
        mut body: Map<String, Value>,
        headers: Extension,
        caller: Caller,
        received: Instant,
    ) -> Result<Self, AskError> {
        let weir = match body.remove("weir") {
            Some(value) => headers.overlaid(value)?,
            None => headers,
        };
        let model = match body.get("model") {
            Some(Value::String(name)) if name == "auto" => ModelChoice::Auto,
            Some(Value::String(name)) if !name.is_empty() => ModelChoice::Pinned(name.clone()),
            Some(other) => return Err(wrong("model", other, "\"auto\" or a model's name")),
            None => {
                return Err(AskError::new(
                    "model",
                    "model is missing: send \"auto\" or a model's name from GET /v1/models",
                ));
            }
        };
        let messages = Message::parse_all(body.remove("messages"))?;
        let client = ClientSettings::parse(body)?;
        if model == ModelChoice::Auto && client.tools && client.logprobs {
            let message = "logprobs cannot be had together with tools: leave one of them out";
            return Err(AskError::new("logprobs", message));
        }
        check_choices(&model, &client)?;
        Ok(Self {
            caller,
            messages,
            model,
            client,
            weir,
            hidden: Vec::new(),
            over_budget: false,
            received,
        })
    }

    /// How a prompt of these messages begins, as replicas may have read it for the same tenant.
    pub(crate) fn prefix(&self, messages: &[Message]) -> Prefix {
        let mut prefix = Prefix::new(&self.caller.tenant, self.weir.session.as_deref());
        for message in messages {
            prefix.push(message.role.as_str(), &message.text);
        }
        prefix
    }

    /// A question of one user turn with everything else left to the router: what the lab and `weir ask` send.
    pub fn question(text: &str, caller: Caller) -> Self {
        Self {
            caller,
            messages: vec![Message::new(crate::message::Role::User, text)],
            model: ModelChoice::Auto,
            client: ClientSettings::default(),
            weir: Extension::default(),
            hidden: Vec::new(),
            over_budget: false,
            received: Instant::now(),
        }
    }

    /// Whether the client brought its own system prompt.
    pub fn has_system(&self) -> bool {
        self.messages.iter().any(Message::is_system)
    }
}

impl ClientSettings {
    /// How many answers are wanted.
    pub fn choices(&self) -> u32 {
        self.n.unwrap_or(1)
    }

    /// Reads the sampling and format fields of an OpenAI body; what is left is passed on.
    pub fn parse(mut body: Map<String, Value>) -> Result<Self, AskError> {
        let n = choices(&body)?;
        let temperature = number(&body, "temperature", 0.0, 2.0)?;
        let top_p = number(&body, "top_p", 0.0, 1.0)?;
        let max_tokens = match tokens(&body, "max_completion_tokens")? {
            Some(most) => Some(most),
            None => tokens(&body, "max_tokens")?,
        };
        let stream = flag(&body, "stream")?;
        let include_usage = match present(&body, "stream_options") {
            Some(Value::Object(options)) => flag(options, "include_usage").map_err(|error| {
                let (param, message) = (error.param, error.message);
                AskError::new(format!("stream_options.{param}"), message)
            })?,
            Some(other) => return Err(wrong("stream_options", other, "an object")),
            None => false,
        };
        let logprobs = flag(&body, "logprobs")?;
        check_alternatives(&body, logprobs)?;
        check_stop(&body)?;
        for (field, instead) in [("functions", "tools"), ("function_call", "tool_choice")] {
            if present(&body, field).is_some() {
                let message =
                    format!("{field} is OpenAI's older name and not served: send {instead}");
                return Err(AskError::new(field, message));
            }
        }
        let tools = match present(&body, "tools") {
            Some(Value::Array(tools)) => !tools.is_empty(),
            Some(other) => return Err(wrong("tools", other, "a list of tools")),
            None => false,
        };
        let json = match present(&body, "response_format") {
            Some(Value::Object(format)) => format
                .get("type")
                .and_then(Value::as_str)
                .is_some_and(|kind| kind != "text"),
            Some(other) => return Err(wrong("response_format", other, "an object with a type")),
            None => false,
        };
        let user = match present(&body, "user") {
            Some(Value::String(user)) => Some(user.clone()),
            Some(other) => return Err(wrong("user", other, "a string")),
            None => None,
        };
        for field in OWN_FIELDS {
            body.remove(field);
        }
        Ok(Self {
            n,
            temperature,
            top_p,
            max_tokens,
            stream,
            include_usage,
            logprobs,
            tools,
            json,
            user,
            passed: body,
        })
    }
}

fn choices(body: &Map<String, Value>) -> Result<Option<u32>, AskError> {
    let Some(n) = present(body, "n") else {
        return Ok(None);
    };
    let count = n.as_u64().and_then(|count| u32::try_from(count).ok());
    count
        .filter(|count| (1..=CHOICES_MAX).contains(count))
        .map(Some)
        .ok_or_else(|| wrong("n", n, "a whole number from 1 to 16"))
}

/// What judges an answer and what finds calls in its text reads one.
fn check_choices(model: &ModelChoice, client: &ClientSettings) -> Result<(), AskError> {
    let n = client.choices();
    let message = match model {
        _ if n == 1 => return Ok(()),
        ModelChoice::Auto => {
            format!("n is {n}: send 1, or the name of a model: auto gives one answer")
        }
        ModelChoice::Pinned(_) if client.tools => {
            format!("n is {n}: send 1 together with tools, or leave them out")
        }
        ModelChoice::Pinned(_) => return Ok(()),
    };
    Err(AskError::new("n", message))
}

/// The field's value; `null` counts as absent, as it does for OpenAI.
fn present<'a>(body: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
    body.get(field).filter(|value| !value.is_null())
}

fn number(
    body: &Map<String, Value>,
    field: &str,
    least: f64,
    most: f64,
) -> Result<Option<f32>, AskError> {
    let Some(value) = present(body, field) else {
        return Ok(None);
    };
    match value.as_f64() {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "checked to lie between 0 and 2"
        )]
        Some(number) if (least..=most).contains(&number) => Ok(Some(number as f32)),
        _ => Err(wrong(
            field,
            value,
            &format!("a number from {least} to {most}"),
        )),
    }
}

fn tokens(body: &Map<String, Value>, field: &str) -> Result<Option<u32>, AskError> {
    let Some(value) = present(body, field) else {
        return Ok(None);
    };
    match value.as_u64().and_then(|count| u32::try_from(count).ok()) {
        Some(count) if count > 0 => Ok(Some(count)),
        _ => Err(wrong(field, value, "a whole number of tokens, at least 1")),
    }
}

/// `top_logprobs`: 0 to 20, and only beside `logprobs`.
fn check_alternatives(body: &Map<String, Value>, logprobs: bool) -> Result<(), AskError> {
    let Some(value) = present(body, "top_logprobs") else {
        return Ok(());
    };
    match value.as_u64() {
        Some(0..=20) if logprobs => Ok(()),
        Some(0..=20) => Err(wrong("top_logprobs", value, "logprobs: true with it")),
        _ => Err(wrong("top_logprobs", value, "a whole number from 0 to 20")),
    }
}

/// `stop`: a string or a list of strings.
fn check_stop(body: &Map<String, Value>) -> Result<(), AskError> {
    match present(body, "stop") {
        None | Some(Value::String(_)) => Ok(()),
        Some(Value::Array(list)) if list.iter().all(Value::is_string) => Ok(()),
        Some(other) => Err(wrong("stop", other, "a string or a list of strings")),
    }
}

fn flag(body: &Map<String, Value>, field: &str) -> Result<bool, AskError> {
    match present(body, field) {
        None => Ok(false),
        Some(Value::Bool(set)) => Ok(*set),
        Some(other) => Err(wrong(field, other, "true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(body: Value) -> Result<Ask, AskError> {
        let Value::Object(body) = body else {
            panic!("the test's body is an object")
        };
        let headers = Extension::default();
        Ask::parse(body, headers, Caller::default(), Instant::now())
    }

    #[test]
    fn what_the_client_set_is_kept_and_the_rest_is_passed_on() {
        let ask = parse(json!({
            "model": "auto", "messages": [{"role": "user", "content": "hi"}],
            "temperature": 0.2, "max_completion_tokens": 9, "stop": ["x"], "seed": 4, "stream": true,
            "weir": {"budget_ms": 500, "privacy": "local"}
        }))
        .expect("a valid body");
        assert_eq!(ask.model, ModelChoice::Auto);
        assert_eq!(ask.client.temperature, Some(0.2));
        assert_eq!(ask.client.max_tokens, Some(9));
        assert!(ask.client.stream);
        assert_eq!(
            Value::Object(ask.client.passed),
            json!({"stop": ["x"], "seed": 4})
        );
        assert_eq!(ask.weir.budget_ms, Some(500));
    }

    #[test]
    fn every_refusal_names_the_field_and_what_to_send() {
        let user = json!([{"role": "user", "content": "hi"}]);
        assert_refused([
            (json!({"messages": user}), "model", "missing"),
            (json!({"model": 3, "messages": user}), "model", "model is 3"),
            (json!({"model": "auto"}), "messages", "missing"),
            (
                json!({"model": "auto", "messages": []}),
                "messages",
                "empty",
            ),
            (
                json!({"model": "auto", "messages": user, "n": 2}),
                "n",
                "n is 2: send 1, or the name of a model",
            ),
            (
                json!({"model": "m", "messages": user, "n": 2, "tools": [{}]}),
                "n",
                "together with tools",
            ),
            (
                json!({"model": "m", "messages": user, "n": 17}),
                "n",
                "1 to 16",
            ),
            (
                json!({"model": "auto", "messages": user, "temperature": 3}),
                "temperature",
                "0 to 2",
            ),
            (
                json!({"model": "auto", "messages": user, "top_p": "x"}),
                "top_p",
                "0 to 1",
            ),
            (
                json!({"model": "auto", "messages": user, "max_tokens": 0}),
                "max_tokens",
                "at least 1",
            ),
            (
                json!({"model": "auto", "messages": user, "stream": 1}),
                "stream",
                "true or false",
            ),
            (
                json!({"model": "auto", "messages": [{"role": "wizard", "content": "hi"}]}),
                "messages[0].role",
                "wizard",
            ),
        ]);
    }

    #[test]
    fn fields_that_would_be_ignored_are_refused_by_name() {
        let user = json!([{"role": "user", "content": "hi"}]);
        assert_refused([
            (
                json!({"model": "auto", "messages": user, "top_logprobs": 2}),
                "top_logprobs",
                "logprobs: true",
            ),
            (
                json!({"model": "auto", "messages": user, "logprobs": true, "top_logprobs": 21}),
                "top_logprobs",
                "0 to 20",
            ),
            (
                json!({"model": "auto", "messages": user, "logprobs": true, "tools": [{}]}),
                "logprobs",
                "tools",
            ),
            (
                json!({"model": "auto", "messages": user, "stop": [1]}),
                "stop",
                "list of strings",
            ),
            (
                json!({"model": "auto", "messages": user, "functions": []}),
                "functions",
                "send tools",
            ),
            (
                json!({"model": "auto", "messages": user, "user": 7}),
                "user",
                "a string",
            ),
            (
                json!({"model": "auto", "messages": user, "stream_options": {"include_usage": 1}}),
                "stream_options.include_usage",
                "true or false",
            ),
            (
                json!({"model": "auto", "messages": user, "weir": {"colour": 1}}),
                "weir.colour",
                "`budget_ms`",
            ),
            (
                json!({"model": "auto", "messages": user, "weir": {"budget_ms": "soon"}}),
                "weir.budget_ms",
                "is \"soon\": send a whole number, at least 0",
            ),
            (
                json!({"model": "auto", "messages": user, "weir": {"memory": 3}}),
                "weir.memory",
                "\"off\"",
            ),
        ]);
    }

    /// Each body is refused for this field, and the message has these words.
    fn assert_refused<const N: usize>(cases: [(Value, &str, &str); N]) {
        for (body, param, says) in cases {
            let error = parse(body.clone()).expect_err(&format!("{body} is refused"));
            assert_eq!(error.param, param, "{body}");
            assert!(error.message.contains(says), "{body}: {}", error.message);
        }
    }
}
