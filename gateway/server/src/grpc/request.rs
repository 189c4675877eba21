//! A call's message as the body of the HTTP request that it stands for.
//!
//! Fields have the same names in both, so a body is the message as JSON less what is not set; only what holds JSON itself, and
//! what JSON writes in two shapes, is put in by hand. Which values are good is said by whoever reads the body (`ask.rs`), and here only
//! where the body could not be written. Reading on: `mod.rs`.

use crate::ask::{AskError, wrong};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};
use weir_engine::json_span;
use weir_proto::gateway::v1::{
    ChatRequest, EmbedRequest, JsonSchema, Memory, ResponseFormat, Tool, ToolChoice,
};

/// The body of `POST /v1/chat/completions` that asks for the same.
///
/// # Errors
/// A field cannot be written as JSON: it holds text that should be JSON and is not, or two of what excludes each other.
pub fn chat_body(mut asked: ChatRequest, stream: bool) -> Result<Bytes, AskError> {
    check_numbers(&asked)?;
    let extra = asked.extra.take();
    let tools = std::mem::take(&mut asked.tools);
    let (format, choice) = (asked.response_format.take(), asked.tool_choice.take());
    let weir = asked.weir.as_mut();
    let memory = weir.and_then(|weir| weir.memory.take());
    let calls = asked
        .messages
        .iter_mut()
        .flat_map(|message| &mut message.tool_calls);
    for call in calls {
        call.r#type.get_or_insert_with(|| FUNCTION.to_owned());
    }
    let mut body = object(&asked);
    let extra = extra.map(|text| read_extra(&text, &body)).transpose()?;
    prune_members(&mut body);
    body.extend(extra.unwrap_or_default());
    body.insert("stream".to_owned(), json!(stream));
    if let Some(choice) = choice {
        body.extend(tool_choice(choice)?.map(|choice| ("tool_choice".to_owned(), choice)));
    }
    if let Some(memory) = memory.map(recalled).transpose()?.flatten() {
        let weir = body.entry("weir").or_insert_with(|| json!({}));
        weir["memory"] = memory;
    }
    let mut json = Bytes::from(Value::Object(body).to_string());
    // Texts that are JSON stay as the client wrote them: a schema's members have an order.
    if let Some(format) = format {
        json = json_span::with_member(&json, "response_format", &written_format(format)?);
    }
    if !tools.is_empty() {
        let tools = tools.into_iter().enumerate();
        let tools: Vec<String> = tools.map(written_tool).collect::<Result<_, _>>()?;
        json = json_span::with_member(&json, "tools", &format!("[{}]", tools.join(",")));
    }
    Ok(json)
}

/// The body of `POST /v1/embeddings`; vectors come back as bytes, which loses nothing.
pub(super) fn embed_body(asked: &EmbedRequest) -> Bytes {
    let mut body = object(asked);
    prune_members(&mut body);
    body.insert("encoding_format".to_owned(), json!("base64"));
    Value::Object(body).to_string().into()
}

const FUNCTION: &str = "function";

/// JSON has no number for these.
fn check_numbers(asked: &ChatRequest) -> Result<(), AskError> {
    let biases = asked
        .logit_bias
        .values()
        .map(|bias| ("logit_bias", Some(*bias)));
    let numbers = [
        ("temperature", asked.temperature),
        ("top_p", asked.top_p),
        ("presence_penalty", asked.presence_penalty),
        ("frequency_penalty", asked.frequency_penalty),
    ];
    let mut numbers = numbers.into_iter().chain(biases);
    match numbers.find(|(_, number)| number.is_some_and(|number| !number.is_finite())) {
        Some((field, number)) => {
            let shown = number.map(|number| number.to_string());
            Err(wrong(field, &json!(shown), "a number"))
        }
        None => Ok(()),
    }
}

/// A message with all of its fields.
fn object(message: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(message) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// Takes out what is not set: in JSON it is null or empty.
fn prune_members(fields: &mut Map<String, Value>) {
    fields.values_mut().for_each(prune);
    fields.retain(|_, value| match value {
        Value::Null => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    });
}

/// The same inside of a value.
pub(super) fn prune(value: &mut Value) {
    match value {
        Value::Object(fields) => prune_members(fields),
        Value::Array(list) => list.iter_mut().for_each(prune),
        _ => {}
    }
}

/// The engine's own fields; none of those that the message has.
fn read_extra(text: &str, known: &Map<String, Value>) -> Result<Map<String, Value>, AskError> {
    let extra = read_object("extra", text)?;
    match extra
        .keys()
        .find(|name| known.contains_key(*name) || *name == "stream")
    {
        Some(name) => {
            let message =
                format!("extra has {name:?}, which is no field of the engine alone: leave it out");
            Err(AskError::new("extra", message))
        }
        None => Ok(extra),
    }
}

fn read_object(at: &str, text: &str) -> Result<Map<String, Value>, AskError> {
    let read = serde_json::from_str(text);
    read.map_err(|_| wrong(at, &Value::from(text), "a JSON object, as text"))
}

fn tool_choice(choice: ToolChoice) -> Result<Option<Value>, AskError> {
    match (choice.mode, choice.function) {
        (Some(mode), None) => Ok(Some(Value::from(mode))),
        (None, Some(name)) => Ok(Some(json!({"type": FUNCTION, "function": {"name": name}}))),
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(one_of("tool_choice", "mode or function")),
    }
}

/// What of the memory may be recalled; `None` where nothing is said.
fn recalled(memory: Memory) -> Result<Option<Value>, AskError> {
    let Memory {
        mode,
        store,
        domains,
        types,
    } = memory;
    let narrowed = store.is_some() || !domains.is_empty() || !types.is_empty();
    match (mode, narrowed) {
        (Some(_), true) => Err(one_of("weir.memory", "mode, or the other fields")),
        (Some(mode), false) => Ok(Some(Value::from(mode))),
        (None, true) => Ok(Some(
            json!({"store": store, "domains": domains, "types": types}),
        )),
        (None, false) => Ok(None),
    }
}

fn one_of(field: &str, which: &str) -> AskError {
    AskError::new(field, format!("{field} says two things: send {which}"))
}

fn written_tool((index, tool): (usize, Tool)) -> Result<String, AskError> {
    let at = format!("tools[{index}].function");
    let Some(mut function) = tool.function else {
        let message = format!("{at} is missing");
        return Err(AskError::new(at, message));
    };
    let parameters = function.parameters.take();
    let mut fields = object(&function);
    prune_members(&mut fields);
    let function = with_schema(fields, (&at, "parameters"), parameters)?;
    let kind = Value::from(tool.r#type.unwrap_or_else(|| FUNCTION.to_owned()));
    Ok(format!(r#"{{"type":{kind},"function":{function}}}"#))
}

fn written_format(format: ResponseFormat) -> Result<String, AskError> {
    let kind = Value::from(format.r#type);
    let Some(JsonSchema { schema, .. }) = &format.json_schema else {
        return Ok(json!({"type": kind}).to_string());
    };
    let schema = schema.clone();
    let mut fields = object(&format.json_schema);
    fields.remove("schema");
    prune_members(&mut fields);
    let at = "response_format.json_schema";
    let described = with_schema(fields, (at, "schema"), schema)?;
    Ok(format!(r#"{{"type":{kind},"json_schema":{described}}}"#))
}

/// An object with a schema as its member of this name, in the client's own words.
fn with_schema(
    fields: Map<String, Value>,
    (at, member): (&str, &str),
    schema: Option<String>,
) -> Result<String, AskError> {
    let fields = Value::Object(fields).to_string();
    let Some(schema) = schema else {
        return Ok(fields);
    };
    read_object(&format!("{at}.{member}"), &schema)?;
    let whole = json_span::with_member(&fields.into(), member, &schema);
    Ok(String::from_utf8_lossy(&whole).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_proto::gateway::v1::{Function, FunctionCall, Message, ToolCall, Weir};

    fn user(text: &str) -> Message {
        Message {
            role: "user".to_owned(),
            content: Some(text.to_owned()),
            ..Message::default()
        }
    }

    fn asking() -> ChatRequest {
        ChatRequest {
            model: "auto".to_owned(),
            messages: vec![user("hi")],
            ..ChatRequest::default()
        }
    }

    fn read(body: &Bytes) -> Value {
        serde_json::from_slice(body).unwrap()
    }

    #[test]
    fn what_is_not_set_is_not_sent() {
        let body = chat_body(asking(), false).unwrap();
        let expected = json!({"model": "auto", "stream": false, "messages": [{"role": "user", "content": "hi"}]});
        assert_eq!(read(&body), expected);
    }

    #[test]
    fn every_field_has_the_name_and_the_place_that_openai_gives_it() {
        let call = ToolCall {
            id: Some("c1".to_owned()),
            function: Some(FunctionCall {
                name: Some("add".to_owned()),
                arguments: Some("{\"a\":1}".to_owned()),
            }),
            ..ToolCall::default()
        };
        let called = Message {
            role: "assistant".to_owned(),
            tool_calls: vec![call],
            ..Message::default()
        };
        let weir = Weir {
            budget_ms: Some(900),
            privacy: Some("local".to_owned()),
            memory: Some(Memory {
                domains: vec!["python".to_owned()],
                ..Memory::default()
            }),
            explain: Some(true),
            priority: Some("low".to_owned()),
            ..Weir::default()
        };
        let asked = ChatRequest {
            messages: vec![user("hi"), called],
            temperature: Some(0.25),
            max_tokens: Some(9),
            stop: vec!["x".to_owned()],
            seed: Some(-4),
            tool_choice: Some(ToolChoice {
                function: Some("add".to_owned()),
                ..ToolChoice::default()
            }),
            weir: Some(weir),
            extra: Some(r#"{"top_k": 40}"#.to_owned()),
            ..asking()
        };
        let body = read(&chat_body(asked, true).unwrap());
        let expected = json!({
            "model": "auto", "stream": true, "temperature": 0.25, "max_tokens": 9, "stop": ["x"], "seed": -4, "top_k": 40,
            "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{\"a\":1}"}}]}],
            "tool_choice": {"type": "function", "function": {"name": "add"}},
            "weir": {"budget_ms": 900, "privacy": "local", "explain": true, "priority": "low",
                     "memory": {"store": null, "domains": ["python"], "types": []}},
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn a_schema_stays_as_it_was_written() {
        let schema = r#"{"type": "object", "properties": {"z": {}, "a": {}}}"#.to_owned();
        let asked = ChatRequest {
            tools: vec![Tool {
                function: Some(Function {
                    name: "add".to_owned(),
                    parameters: Some(schema.clone()),
                    ..Function::default()
                }),
                ..Tool::default()
            }],
            response_format: Some(ResponseFormat {
                r#type: "json_schema".to_owned(),
                json_schema: Some(JsonSchema {
                    name: "sum".to_owned(),
                    schema: Some(schema.clone()),
                    strict: Some(true),
                    ..JsonSchema::default()
                }),
            }),
            ..asking()
        };
        let body = chat_body(asked, false).unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!(text.matches(&schema).count(), 2, "{text}");
        let body = read(&body);
        assert_eq!(body["tools"][0]["type"], "function");
        assert_eq!(body["tools"][0]["function"]["name"], "add");
        assert_eq!(body["response_format"]["json_schema"]["strict"], true);
    }

    #[test]
    fn what_cannot_be_written_is_refused_by_its_name() {
        let tool = |parameters: &str| Tool {
            function: Some(Function {
                parameters: Some(parameters.to_owned()),
                ..Function::default()
            }),
            ..Tool::default()
        };
        let extra = |text: &str| ChatRequest {
            extra: Some(text.to_owned()),
            ..asking()
        };
        for (asked, param) in [
            (
                ChatRequest {
                    tools: vec![Tool::default()],
                    ..asking()
                },
                "tools[0].function",
            ),
            (
                ChatRequest {
                    tools: vec![tool("{}"), tool("{},\"x\":{}")],
                    ..asking()
                },
                "tools[1].function.parameters",
            ),
            (
                ChatRequest {
                    temperature: Some(f64::NAN),
                    ..asking()
                },
                "temperature",
            ),
            (extra("[]"), "extra"),
            (extra(r#"{"stream": true}"#), "extra"),
            (extra(r#"{"weir": {"privacy": "cloud"}}"#), "extra"),
            (
                ChatRequest {
                    tool_choice: Some(ToolChoice {
                        mode: Some("auto".to_owned()),
                        function: Some("add".to_owned()),
                    }),
                    ..asking()
                },
                "tool_choice",
            ),
        ] {
            let error = chat_body(asked, false).unwrap_err();
            assert_eq!(error.param, param, "{error}");
        }
    }
}
