//! What a body of `POST /v1/responses` asks for, as the body of a chat.
//!
//! Every field is read here or refused by name with what to send instead; none is accepted and ignored. Source: OpenAI's API
//! reference, "Create a model response". Reading on: `items.rs`, `output.rs`.

use super::items::{conversation, string};
use crate::ask::{AskError, wrong};
use serde_json::{Map, Value, json};

/// What cannot be served, and what a client does instead. Each is accepted at the value that asks for nothing.
const REFUSED: [(&str, &str); 13] = [
    (
        "previous_response_id",
        "nothing is stored here: send the whole conversation as input",
    ),
    (
        "conversation",
        "nothing is stored here: send the whole conversation as input",
    ),
    (
        "prompt",
        "prompts are not stored here: send the text as instructions and input",
    ),
    (
        "background",
        "answers are not kept for later: wait for the answer, or stream it",
    ),
    (
        "include",
        "nothing beyond the answer can be included: leave it out",
    ),
    (
        "max_tool_calls",
        "only functions are called, and by you: leave it out",
    ),
    (
        "reasoning",
        "the models here have no setting of reasoning: leave it out",
    ),
    ("service_tier", "there is one tier: leave it out"),
    (
        "stream_options",
        "there is nothing to set of a stream: leave it out",
    ),
    (
        "top_logprobs",
        "log-probabilities are served at /v1/chat/completions",
    ),
    (
        "truncation",
        "the oldest turns are left out by model \"auto\" only, always: leave it out",
    ),
    (
        "prompt_cache_key",
        "send weir.session, which names a conversation",
    ),
    ("safety_identifier", "send user"),
];
/// What a chat knows by the same name.
const SAME: [&str; 7] = [
    "model",
    "stream",
    "temperature",
    "top_p",
    "parallel_tool_calls",
    "user",
    "weir",
];
const METADATA_MAX: usize = 16;

/// A body of `POST /v1/responses`, read.
#[derive(Debug)]
pub(super) struct Translated {
    /// The body of the chat.
    pub(super) chat: Map<String, Value>,
    /// What the response repeats of the request.
    pub(super) echo: Map<String, Value>,
}

/// Reads a body. The fields of the chat are checked where every chat's are.
pub(super) fn translate(mut body: Map<String, Value>) -> Result<Translated, AskError> {
    body.retain(|_, value| !value.is_null());
    let mut echo = body.clone();
    let (mut chat, mut messages) = (Map::new(), Vec::new());
    match body.remove("store") {
        None | Some(Value::Bool(false)) => {}
        Some(other) => return Err(wrong("store", &other, "false: nothing is stored here")),
    }
    for (field, instead) in REFUSED {
        match body.remove(field) {
            Some(value) if !asks_nothing(&value) => {
                return Err(AskError::new(
                    field,
                    format!("{field} is not served: {instead}"),
                ));
            }
            _ => {}
        }
    }
    for field in SAME {
        if let Some(value) = body.remove(field) {
            chat.insert(field.to_owned(), value);
        }
    }
    if let Some(most) = body.remove("max_output_tokens") {
        chat.insert("max_tokens".to_owned(), most);
    }
    match body.remove("instructions") {
        None => {}
        Some(Value::String(text)) => messages.push(json!({"role": "system", "content": text})),
        Some(other) => return Err(wrong("instructions", &other, "a string")),
    }
    conversation(body.remove("input"), &mut messages)?;
    chat.insert("messages".to_owned(), Value::Array(messages));
    if let Some(tools) = body.remove("tools") {
        chat.insert("tools".to_owned(), functions(tools)?);
    }
    if let Some(choice) = body.remove("tool_choice") {
        chat.insert("tool_choice".to_owned(), tool_choice(choice)?);
    }
    if let Some(text) = body.remove("text")
        && let Some(format) = response_format(text)?
    {
        chat.insert("response_format".to_owned(), format);
    }
    if let Some(metadata) = body.remove("metadata") {
        check_metadata(&metadata)?;
    }
    if let Some((field, _)) = body.into_iter().next() {
        let message = format!("{field} is not known at /v1/responses: leave it out");
        return Err(AskError::new(field, message));
    }
    echo.retain(|field, _| {
        matches!(
            field.as_str(),
            "instructions"
                | "max_output_tokens"
                | "metadata"
                | "parallel_tool_calls"
                | "temperature"
                | "text"
                | "tool_choice"
                | "tools"
                | "top_p"
                | "user"
        )
    });
    Ok(Translated { chat, echo })
}

/// Whether a value is what OpenAI does without the field.
fn asks_nothing(value: &Value) -> bool {
    match value {
        Value::Bool(set) => !set,
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.values().all(Value::is_null),
        Value::Number(number) => number.as_u64() == Some(0),
        Value::String(text) => text == "auto",
        Value::Null => true,
    }
}

/// Tools as a chat names them. OpenAI's own tools run at OpenAI.
fn functions(tools: Value) -> Result<Value, AskError> {
    let Value::Array(tools) = tools else {
        return Err(wrong("tools", &tools, "a list of tools"));
    };
    let function = |(index, tool): (usize, Value)| {
        let at = format!("tools[{index}]");
        let Value::Object(mut tool) = tool else {
            return Err(wrong(&at, &tool, "an object with a type"));
        };
        match tool.remove("type") {
            Some(Value::String(kind)) if kind == "function" => {}
            other => {
                let kind = other.unwrap_or_default();
                let expected = "\"function\": no other tool is run here";
                return Err(wrong(&format!("{at}.type"), &kind, expected));
            }
        }
        string(&tool, "name", &at)?;
        tool.retain(|_, value| !value.is_null());
        Ok(json!({"type": "function", "function": tool}))
    };
    tools.into_iter().enumerate().map(function).collect()
}

fn tool_choice(choice: Value) -> Result<Value, AskError> {
    match (&choice, choice["type"].as_str(), choice["name"].as_str()) {
        (Value::String(word), ..) if matches!(word.as_str(), "none" | "auto" | "required") => {
            Ok(choice)
        }
        (_, Some("function"), Some(name)) => {
            Ok(json!({"type": "function", "function": {"name": name}}))
        }
        _ => {
            let expected =
                "\"none\", \"auto\", \"required\" or {\"type\": \"function\", \"name\": ...}";
            Err(wrong("tool_choice", &choice, expected))
        }
    }
}

/// The chat's `response_format` of a `text` field; `None` for plain text.
fn response_format(text: Value) -> Result<Option<Value>, AskError> {
    let Value::Object(mut text) = text else {
        return Err(wrong("text", &text, "an object with a format"));
    };
    let format = text.remove("format").unwrap_or_default();
    if let Some((field, value)) = text.iter().find(|(_, value)| !value.is_null()) {
        return Err(wrong(
            &format!("text.{field}"),
            value,
            "nothing: only text.format is served",
        ));
    }
    match format["type"].as_str() {
        None if format.is_null() => Ok(None),
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(json!({"type": "json_object"}))),
        Some("json_schema") if format["schema"].is_object() => {
            let mut schema = format.as_object().cloned().unwrap_or_default();
            schema.remove("type");
            Ok(Some(json!({"type": "json_schema", "json_schema": schema})))
        }
        _ => {
            let expected = "{\"type\": \"text\"}, {\"type\": \"json_object\"} or \
                {\"type\": \"json_schema\", \"name\": ..., \"schema\": {...}}";
            Err(wrong("text.format", &format, expected))
        }
    }
}

fn check_metadata(metadata: &Value) -> Result<(), AskError> {
    let pairs = metadata.as_object();
    let texts = pairs
        .is_some_and(|pairs| pairs.len() <= METADATA_MAX && pairs.values().all(Value::is_string));
    match texts {
        true => Ok(()),
        false => Err(wrong(
            "metadata",
            metadata,
            "an object of at most 16 strings",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Value) -> Result<Translated, AskError> {
        let Value::Object(body) = body else {
            panic!("the test's body is an object")
        };
        translate(body)
    }

    #[test]
    fn a_conversation_with_calls_becomes_a_chat() {
        let read = read(json!({
            "model": "auto", "instructions": "Be brief.", "max_output_tokens": 9, "store": false, "stream": true,
            "truncation": "auto", "include": [], "previous_response_id": null,
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
                {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
                 "content": [{"type": "output_text", "text": "Let me see.", "annotations": []}]},
                {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "weather", "arguments": "{}"},
                {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c1", "output": "rain"},
            ],
            "tools": [{"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": null}],
            "tool_choice": {"type": "function", "name": "weather"},
            "text": {"format": {"type": "json_schema", "name": "w", "schema": {"type": "object"}, "strict": true}},
            "metadata": {"k": "v"}, "weir": {"memory": "off"},
        }))
        .expect("a valid body");
        let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "weather", "arguments": "{}"}});
        let expected = json!({
            "model": "auto", "max_tokens": 9, "stream": true, "weir": {"memory": "off"},
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Weather?"},
                {"role": "assistant", "content": "Let me see.", "tool_calls": [call("c1"), call("c2")]},
                {"role": "tool", "tool_call_id": "c1", "content": "rain"},
            ],
            "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
            "tool_choice": {"type": "function", "function": {"name": "weather"}},
            "response_format": {"type": "json_schema", "json_schema": {"name": "w", "schema": {"type": "object"}, "strict": true}},
        });
        assert_eq!(Value::Object(read.chat), expected);
        assert_eq!(read.echo["metadata"], json!({"k": "v"}));
        assert!(!read.echo.contains_key("input"));
    }

    #[test]
    fn what_is_not_served_is_refused_by_name_with_what_to_send() {
        assert_refused([
            (
                "previous_response_id",
                json!("resp_1"),
                "previous_response_id",
                "whole conversation",
            ),
            ("store", json!(true), "store", "nothing is stored"),
            ("background", json!(true), "background", "stream it"),
            (
                "conversation",
                json!("c"),
                "conversation",
                "whole conversation",
            ),
            ("prompt", json!({"id": "p"}), "prompt", "instructions"),
            ("include", json!(["x"]), "include", "leave it out"),
            (
                "reasoning",
                json!({"effort": "low"}),
                "reasoning",
                "leave it out",
            ),
            (
                "truncation",
                json!("disabled"),
                "truncation",
                "leave it out",
            ),
            (
                "prompt_cache_key",
                json!("k"),
                "prompt_cache_key",
                "weir.session",
            ),
        ]);
    }

    #[test]
    fn a_field_of_another_shape_is_refused_by_its_path() {
        assert_refused([
            (
                "tools",
                json!([{"type": "web_search"}]),
                "tools[0].type",
                "function",
            ),
            (
                "tools",
                json!([{"type": "function"}]),
                "tools[0].name",
                "a string",
            ),
            ("tool_choice", json!("maybe"), "tool_choice", "required"),
            (
                "text",
                json!({"verbosity": "low"}),
                "text.verbosity",
                "text.format",
            ),
            (
                "text",
                json!({"format": {"type": "xml"}}),
                "text.format",
                "json_schema",
            ),
            ("metadata", json!({"k": 1}), "metadata", "strings"),
            ("input", json!(null), "input", "missing"),
            ("input", json!(3), "input", "a string"),
            (
                "input",
                json!([{"type": "reasoning"}]),
                "input[0].type",
                "function_call",
            ),
            (
                "input",
                json!([{"role": "wizard", "content": "x"}]),
                "input[0].role",
                "user",
            ),
            (
                "input",
                json!([{"role": "user", "content": [{"type": "input_image"}]}]),
                "input[0].content[0]",
                "text only",
            ),
            (
                "input",
                json!([{"type": "function_call_output", "output": "x"}]),
                "input[0].call_id",
                "missing",
            ),
            ("instructions", json!(["x"]), "instructions", "a string"),
            ("seed", json!(4), "seed", "not known"),
        ]);
    }

    /// Each value of a field is refused for this path, and the message has these words.
    fn assert_refused<const N: usize>(cases: [(&str, Value, &str, &str); N]) {
        for (field, value, param, says) in cases {
            let mut body = json!({"model": "auto", "input": "hi"});
            body[field] = value.clone();
            let error = read(body).expect_err(field);
            assert_eq!(error.param, param, "{value}");
            assert!(error.message.contains(says), "{value}: {}", error.message);
        }
    }
}
