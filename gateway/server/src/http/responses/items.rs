//! The items of an `input` as the messages of a chat.
//!
//! A turn of the model is one message: calls join the text before them, and each other. Reading on: `input.rs`.

use crate::ask::{AskError, wrong};
use serde_json::{Map, Value, json};

/// Appends the messages of an `input`.
pub(super) fn conversation(
    input: Option<Value>,
    messages: &mut Vec<Value>,
) -> Result<(), AskError> {
    match input {
        Some(Value::String(text)) => messages.push(json!({"role": "user", "content": text})),
        Some(Value::Array(items)) => {
            for (index, item) in items.into_iter().enumerate() {
                take_item(item, &format!("input[{index}]"), messages)?;
            }
        }
        Some(other) => return Err(wrong("input", &other, "a string or a list of items")),
        None => {
            let message = "input is missing: send a string or a list of items";
            return Err(AskError::new("input", message));
        }
    }
    Ok(())
}

fn take_item(item: Value, at: &str, messages: &mut Vec<Value>) -> Result<(), AskError> {
    let Value::Object(item) = item else {
        return Err(wrong(
            at,
            &item,
            "an object with a type, or with role and content",
        ));
    };
    match item.get("type").and_then(Value::as_str) {
        None | Some("message") => {
            let role = item.get("role").cloned().unwrap_or_default();
            let content = text(item.get("content"), &format!("{at}.content"))?;
            if !matches!(
                role.as_str(),
                Some("user" | "assistant" | "system" | "developer")
            ) {
                let expected = "\"user\", \"assistant\", \"system\" or \"developer\"";
                return Err(wrong(&format!("{at}.role"), &role, expected));
            }
            messages.push(json!({"role": role, "content": content}));
        }
        Some("function_call") => {
            let call = json!({
                "id": string(&item, "call_id", at)?, "type": "function",
                "function": {"name": string(&item, "name", at)?, "arguments": string(&item, "arguments", at)?},
            });
            match messages.last_mut() {
                Some(last) if last["role"] == "assistant" => {
                    match last["tool_calls"].as_array_mut() {
                        Some(calls) => calls.push(call),
                        None => last["tool_calls"] = json!([call]),
                    }
                }
                _ => messages
                    .push(json!({"role": "assistant", "content": null, "tool_calls": [call]})),
            }
        }
        Some("function_call_output") => {
            let content = text(item.get("output"), &format!("{at}.output"))?;
            let id = string(&item, "call_id", at)?;
            messages.push(json!({"role": "tool", "tool_call_id": id, "content": content}));
        }
        Some(_) => {
            let expected = "\"message\", \"function_call\" or \"function_call_output\"";
            return Err(wrong(&format!("{at}.type"), &item["type"], expected));
        }
    }
    Ok(())
}

/// The string that an object must have in this field.
pub(super) fn string<'a>(
    item: &'a Map<String, Value>,
    field: &str,
    at: &str,
) -> Result<&'a str, AskError> {
    match item.get(field) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(wrong(&format!("{at}.{field}"), other, "a string")),
        None => {
            let param = format!("{at}.{field}");
            let message = format!("{param} is missing: send a string");
            Err(AskError::new(param, message))
        }
    }
}

/// The text of a string, or of a list of text parts, joined by newlines.
fn text(content: Option<&Value>, at: &str) -> Result<String, AskError> {
    let parts = match content {
        Some(Value::String(text)) => return Ok(text.clone()),
        Some(Value::Array(parts)) => parts,
        Some(other) => return Err(wrong(at, other, "a string or a list of text parts")),
        None => return Err(AskError::new(at, format!("{at} is missing: send a string"))),
    };
    let part = |(index, part): (usize, &Value)| {
        let kind = part.get("type").and_then(Value::as_str);
        match (kind, part.get("text").and_then(Value::as_str)) {
            (Some("input_text" | "output_text"), Some(text)) => Ok(text.to_owned()),
            _ => {
                let expected =
                    "{\"type\": \"input_text\", \"text\": ...}: these models read text only";
                Err(wrong(&format!("{at}[{index}]"), part, expected))
            }
        }
    };
    let texts: Vec<String> = parts
        .iter()
        .enumerate()
        .map(part)
        .collect::<Result<_, _>>()?;
    Ok(texts.join("\n"))
}
