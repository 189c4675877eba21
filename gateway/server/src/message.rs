//! A message of a conversation: its role, its text, and the object as the client sent it.
//!
//! Owns reading OpenAI's message shapes. Must not cut or rewrite what a client said: the prompt's layout is `prompt.rs`.

use crate::ask::{AskError, wrong};
use serde_json::{Map, Value, json};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Instructions (`developer` is the same and reaches engines as `system`).
    System,
    /// The person who asks.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The text: the string content, or the text parts joined by newlines; empty when there is none.
    pub text: String,
    /// The object for the engine: as the client sent it, with `role` in the engine's words.
    pub object: Map<String, Value>,
}

impl Role {
    /// The engine's word for the role.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        match word {
            "system" | "developer" => Some(Self::System),
            "user" => Some(Self::User),
            "assistant" => Some(Self::Assistant),
            "tool" => Some(Self::Tool),
            _ => None,
        }
    }
}

impl Message {
    /// A message of plain text.
    pub fn new(role: Role, text: &str) -> Self {
        let object = Map::from_iter([
            ("role".to_owned(), json!(role.as_str())),
            ("content".to_owned(), json!(text)),
        ]);
        Self {
            role,
            text: text.to_owned(),
            object,
        }
    }

    /// This message with `text` as a paragraph in front; parts that are not text stay.
    #[must_use]
    pub fn after(&self, text: &str) -> Self {
        let mut object = self.object.clone();
        let content = match object.remove("content") {
            Some(Value::Array(parts)) => {
                let ours = json!({"type": "text", "text": text});
                Value::Array([ours].into_iter().chain(parts).collect())
            }
            _ => json!(format!("{text}\n\n{}", self.text)),
        };
        object.insert("content".to_owned(), content);
        Self {
            role: self.role,
            text: format!("{text}\n\n{}", self.text),
            object,
        }
    }

    /// Whether this is an instruction to the model.
    pub fn is_system(&self) -> bool {
        self.role == Role::System
    }

    /// Parses the `messages` field: a list with at least one user message.
    pub fn parse_all(messages: Option<Value>) -> Result<Vec<Self>, AskError> {
        let items = match messages {
            Some(Value::Array(items)) => items,
            Some(other) => return Err(wrong("messages", &other, "a list of messages")),
            None => {
                return Err(AskError::new(
                    "messages",
                    "messages is missing: send a list",
                ));
            }
        };
        if items.is_empty() {
            return Err(AskError::new(
                "messages",
                "messages is empty: send at least one",
            ));
        }
        let parsed: Vec<Self> = items
            .into_iter()
            .enumerate()
            .map(|(index, item)| Self::parse(item, index))
            .collect::<Result<_, _>>()?;
        let asks = |message: &Self| message.role == Role::User && !message.text.trim().is_empty();
        if !parsed.iter().any(asks) {
            return Err(AskError::new(
                "messages",
                "messages has no user message with text: send the question as role \"user\"",
            ));
        }
        Ok(parsed)
    }

    fn parse(item: Value, index: usize) -> Result<Self, AskError> {
        let mut object = match item {
            Value::Object(object) => object,
            other => {
                let at = format!("messages[{index}]");
                return Err(wrong(&at, &other, "an object with role and content"));
            }
        };
        let role = role_of(object.get("role"), index)?;
        let text = text_of(object.get("content"), role, index)?;
        if object["role"] != role.as_str() {
            object.insert("role".to_owned(), json!(role.as_str()));
        }
        Ok(Self { role, text, object })
    }
}

fn role_of(role: Option<&Value>, index: usize) -> Result<Role, AskError> {
    let known = role.and_then(Value::as_str).and_then(Role::parse);
    if let Some(known) = known {
        return Ok(known);
    }
    let at = format!("messages[{index}].role");
    let expected = "\"system\", \"developer\", \"user\", \"assistant\" or \"tool\"";
    Err(match role {
        Some(other) => wrong(&at, other, expected),
        None => {
            let message = format!("{at} is missing: send {expected}");
            AskError::new(at, message)
        }
    })
}

/// The text of a message's content: a string, a list of text parts, or nothing where the assistant called tools.
fn text_of(content: Option<&Value>, role: Role, index: usize) -> Result<String, AskError> {
    let at = || format!("messages[{index}].content");
    match content {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => {
            let texts: Vec<&str> = parts
                .iter()
                .enumerate()
                .map(|(part, value)| part_text(value, || format!("{}[{part}]", at())))
                .collect::<Result<_, _>>()?;
            Ok(texts.join("\n"))
        }
        None | Some(Value::Null) if role == Role::Assistant => Ok(String::new()),
        Some(other) => Err(wrong(&at(), other, "a string or a list of text parts")),
        None => {
            let message = format!("{} is missing: send a string", at());
            Err(AskError::new(at(), message))
        }
    }
}

fn part_text(part: &Value, at: impl Fn() -> String) -> Result<&str, AskError> {
    let text = part.get("text").and_then(Value::as_str);
    match (part.get("type").and_then(Value::as_str), text) {
        (Some("text"), Some(text)) => Ok(text),
        (Some(kind), _) if kind != "text" => {
            let says = "these models read text only, send type \"text\"";
            let message = format!("{} has type {kind:?}: {says}", at());
            Err(AskError::new(at(), message))
        }
        _ => Err(wrong(&at(), part, "{\"type\": \"text\", \"text\": ...}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_parts_are_joined_and_the_developer_is_the_system() {
        let messages = Message::parse_all(Some(json!([
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]},
        ])))
        .expect("valid messages");
        assert_eq!(messages[0].role, Role::System);
        assert_eq!(messages[0].object["role"], "system");
        assert_eq!(messages[1].text, "a\nb");
        assert_eq!(messages[2].object["tool_calls"], json!([{"id": "1"}]));
    }

    #[test]
    fn pictures_and_missing_content_are_refused_by_path() {
        for (messages, param) in [
            (
                json!([{"role": "user", "content": [{"type": "image_url"}]}]),
                "messages[0].content[0]",
            ),
            (json!([{"role": "user"}]), "messages[0].content"),
            (
                json!([{"role": "user", "content": 3}]),
                "messages[0].content",
            ),
            (json!(["hi"]), "messages[0]"),
            (json!([{"role": "assistant", "content": "hi"}]), "messages"),
            (json!([{"role": "user", "content": "  "}]), "messages"),
        ] {
            let error = Message::parse_all(Some(messages.clone())).expect_err("is refused");
            assert_eq!(error.param, param, "{messages}");
        }
    }
}
