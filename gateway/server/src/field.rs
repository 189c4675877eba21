//! A field of a request that cannot be served: which one, what it is, and what to send instead.
//!
//! Owns the wording of these refusals, also of those that serde finds. What a field may be is said where it is read:
//! `ask.rs`, `extension.rs`, the files of `http/`.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

/// A field of a request that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AskError {
    /// Path of the field, for example `messages[2].role`.
    pub param: String,
    /// What is wrong with which value, and what to send instead.
    pub message: String,
}

impl AskError {
    /// A refusal of the field at `param`.
    pub fn new(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            param: param.into(),
            message: message.into(),
        }
    }
}

/// `field is VALUE: send EXPECTED`.
pub(crate) fn wrong(param: &str, value: &Value, expected: &str) -> AskError {
    AskError::new(
        param,
        format!("{param} is {}: send {expected}", shown(value)),
    )
}

/// A value, cut so that an error never echoes a whole body.
fn shown(value: &Value) -> String {
    const SHOWN_MAX: usize = 60;
    let mut shown = value.to_string();
    if let Some((at, _)) = shown.char_indices().nth(SHOWN_MAX) {
        shown.truncate(at);
        shown.push_str("...");
    }
    shown
}

/// Reads what a client sent as a type of ours. A refusal names the field, by its path below `under`, and what to send.
pub(crate) fn read<T: DeserializeOwned>(value: &Value, under: &str) -> Result<T, AskError> {
    serde_path_to_error::deserialize(value).map_err(|error| refused(value, under, &error))
}

fn refused(
    value: &Value,
    under: &str,
    error: &serde_path_to_error::Error<serde_json::Error>,
) -> AskError {
    let (mut param, mut found) = (under.to_owned(), Some(value));
    for segment in error.path() {
        match segment {
            Segment::Seq { index } => {
                param = format!("{param}[{index}]");
                found = found.and_then(|list| list.get(index));
            }
            Segment::Map { key } => {
                param = member(&param, key);
                found = found.and_then(|object| object.get(key));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    let says = error.inner().to_string();
    let quoted = says.split('`').nth(1).unwrap_or_default();
    let found = found.unwrap_or(&Value::Null);
    if says.starts_with("missing field") {
        let param = member(&param, quoted);
        let message = format!("{param} is missing");
        AskError::new(param, message)
    } else if says.starts_with("unknown field") {
        let known = says.split_once(", ").map_or("", |(_, known)| known);
        let message = format!("{param} is not known here: {known}");
        AskError::new(param, message)
    } else if let Some((_, expected)) = says.rsplit_once(", expected ") {
        wrong(&param, found, plain(expected))
    } else {
        let message = format!("{param} is {}: {says}", shown(found));
        AskError::new(param, message)
    }
}

fn member(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// serde's name of what it expected, in words for somebody who writes JSON.
fn plain(expected: &str) -> &str {
    match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" | "u32" | "u64" | "usize" => "a whole number, at least 0",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        _ if expected.starts_with("struct ") => "an object",
        _ => expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_of_another_shape_is_refused_by_its_path() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Sent {
            #[expect(dead_code, reason = "only read")]
            score: f64,
            #[serde(default)]
            #[expect(dead_code, reason = "only read")]
            parts: Vec<Part>,
        }
        #[derive(Debug, serde::Deserialize)]
        struct Part {
            #[expect(dead_code, reason = "only read")]
            tags: Vec<String>,
        }
        for (value, param, says) in [
            (
                json!({"score": "good"}),
                "score",
                "score is \"good\": send a number",
            ),
            (json!({}), "score", "score is missing"),
            (json!({"score": 1, "colour": 2}), "colour", "`score`"),
            (json!({"score": 1, "parts": {}}), "parts", "send a list"),
            (
                json!({"score": 1, "parts": [{"tags": []}, 7]}),
                "parts[1]",
                "is 7: send an object",
            ),
            (
                json!({"score": 1, "parts": [{}]}),
                "parts[0].tags",
                "is missing",
            ),
            (
                json!({"score": 1, "parts": [{"tags": ["a", 5]}]}),
                "parts[0].tags[1]",
                "send a string",
            ),
        ] {
            let error = read::<Sent>(&value, "").expect_err(&format!("{value} is refused"));
            assert_eq!(error.param, param, "{value}");
            assert!(error.message.contains(says), "{value}: {}", error.message);
        }
    }

    #[test]
    fn a_refusal_never_echoes_a_whole_body() {
        let error = wrong("model", &json!(["x".repeat(5000)]), "a name");
        assert!(error.message.len() < 120, "{}", error.message);
    }
}
