//! A value against a structural schema: types, required and unknown fields, enums and bounds.
//!
//! Covers what the schemas of this crate use, and says in each finding what to write instead. A value of format
//! `password` is never shown. Rules in CEL are not its business (`validate.rs`).

use serde_json::{Map, Value};

/// Something wrong at a field; the caller knows the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) field: String,
    pub(crate) message: String,
    pub(crate) instead: String,
}

/// Every fault of `value` at `field`, in the order in which the document is written.
pub(crate) fn check(schema: &Value, value: &Value, field: &str, faults: &mut Vec<Fault>) {
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true)) {
        return;
    }
    let expected = schema["type"].as_str().unwrap_or_default();
    if !has_type(value, expected) {
        faults.push(wrong_type(schema, expected, value, field));
        return;
    }
    match value {
        Value::Object(fields) => check_object(schema, fields, field, faults),
        Value::Array(items) => check_array(schema, items, field, faults),
        Value::String(text) => check_string(schema, text, field, faults),
        Value::Number(_) => check_number(schema, value, field, faults),
        _ => {}
    }
}

fn has_type(value: &Value, expected: &str) -> bool {
    match expected {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => true,
    }
}

fn wrong_type(schema: &Value, expected: &str, value: &Value, field: &str) -> Fault {
    if schema["format"] == "password" {
        let message = format!("is not {}", article(expected));
        return Fault {
            field: field.into(),
            message,
            instead: "write it in quotes".into(),
        };
    }
    let instead = match (expected, value) {
        ("string", Value::Number(_) | Value::Bool(_)) => format!("write it in quotes, \"{value}\""),
        ("integer" | "number" | "boolean", Value::String(text))
            if has_type(&serde_json::from_str(text).unwrap_or_default(), expected) =>
        {
            format!("write {text} without quotes")
        }
        ("array", _) => "write a list: one line with \"- \" for each entry".into(),
        ("object", _) => match names(schema).as_slice() {
            [] => "write fields below it, NAME: VALUE".into(),
            known => format!("write fields below it, of {}", known.join(", ")),
        },
        ("integer", _) => format!("write a whole number{}", span(schema)),
        ("number", _) => format!("write a number{}", span(schema)),
        ("boolean", _) => "write true or false".into(),
        _ => "write text".into(),
    };
    let message = format!("{} is not {}", shown(value), article(expected));
    Fault {
        field: field.into(),
        message,
        instead,
    }
}

fn check_object(schema: &Value, fields: &Map<String, Value>, field: &str, faults: &mut Vec<Fault>) {
    let empty = Map::new();
    let known = schema["properties"].as_object().unwrap_or(&empty);
    let entries = schema
        .get("additionalProperties")
        .filter(|entries| entries.is_object());
    for (name, value) in fields {
        let path = join(field, name);
        match known.get(name).or(entries) {
            Some(schema) => check(schema, value, &path, faults),
            None => faults.push(unknown(schema, name, path)),
        }
    }
    let required = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    for name in required.filter(|name| !fields.contains_key(*name)) {
        faults.push(Fault {
            field: join(field, name),
            message: "is missing".into(),
            instead: example(name, &known.get(name).cloned().unwrap_or_default()),
        });
    }
    if let Some(max) = schema["maxProperties"]
        .as_u64()
        .filter(|max| fields.len() as u64 > *max)
    {
        let message = format!("has {} entries", fields.len());
        faults.push(Fault {
            field: field.into(),
            message,
            instead: format!("write at most {max}"),
        });
    }
}

fn unknown(schema: &Value, name: &str, path: String) -> Fault {
    let known = names(schema);
    let instead = match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {near}?"),
        None if known.is_empty() => "leave it out, no fields are known here".into(),
        None => format!("leave it out, or write one of {}", known.join(", ")),
    };
    Fault {
        field: path,
        message: "unknown field".into(),
        instead,
    }
}

fn check_array(schema: &Value, items: &[Value], field: &str, faults: &mut Vec<Fault>) {
    for (index, item) in items.iter().enumerate() {
        check(&schema["items"], item, &format!("{field}[{index}]"), faults);
    }
    if let Some(max) = schema["maxItems"]
        .as_u64()
        .filter(|max| items.len() as u64 > *max)
    {
        let message = format!("has {} entries", items.len());
        faults.push(Fault {
            field: field.into(),
            message,
            instead: format!("write at most {max}"),
        });
    }
}

fn check_string(schema: &Value, text: &str, field: &str, faults: &mut Vec<Fault>) {
    let length = text.chars().count() as u64;
    let mut fault = |message: String, instead: String| {
        faults.push(Fault {
            field: field.into(),
            message,
            instead,
        });
    };
    if let Some(words) = words(schema).filter(|words| !words.contains(&text)) {
        let instead = match nearest(text, words.iter().copied()) {
            Some(near) if words.len() > 1 => format!("did you mean {near}?"),
            _ => format!("write {}", words.join(" or ")),
        };
        let is_not = if words.len() > 1 { "none of" } else { "not" };
        fault(
            format!("{text:?} is {is_not} {}", words.join(", ")),
            instead,
        );
    }
    if schema["minLength"].as_u64().is_some_and(|min| length < min) {
        fault(
            "is empty".into(),
            "write a value, or leave the field out".into(),
        );
    }
    if let Some(max) = schema["maxLength"].as_u64().filter(|max| length > *max) {
        fault(
            format!("has {length} characters"),
            format!("write at most {max}"),
        );
    }
}

fn check_number(schema: &Value, value: &Value, field: &str, faults: &mut Vec<Fault>) {
    let number = value.as_f64().unwrap_or_default();
    let is_low = schema["minimum"].as_f64().is_some_and(|min| number < min);
    let is_high = schema["maximum"].as_f64().is_some_and(|max| number > max);
    if is_low || is_high {
        let message = format!("{value} is too {}", if is_low { "small" } else { "large" });
        let kind = if schema["type"] == "integer" {
            "a whole number"
        } else {
            "a number"
        };
        let instead = format!("write {kind}{}", span(schema));
        faults.push(Fault {
            field: field.into(),
            message,
            instead,
        });
    }
}

/// What to write for a missing field: its words, an example made from its own required fields, or its description.
fn example(name: &str, schema: &Value) -> String {
    if let Some(words) = words(schema) {
        return format!("write {name}: {}", words.join(" or "));
    }
    let described = schema["description"].as_str().unwrap_or_default();
    let sentence = described
        .split_once(". ")
        .map_or(described, |(first, _)| first);
    let sentence = sentence
        .lines()
        .next()
        .unwrap_or_default()
        .trim_end_matches('.');
    match sentence {
        "" => format!("write {name}"),
        _ => format!("write {name} ({sentence})"),
    }
}

fn words(schema: &Value) -> Option<Vec<&str>> {
    schema["enum"]
        .as_array()
        .map(|words| words.iter().filter_map(Value::as_str).collect())
}

/// The fields of a schema, sorted, since the order of a JSON map depends on the build.
fn names(schema: &Value) -> Vec<String> {
    let fields = schema["properties"].as_object();
    let mut names: Vec<String> = fields
        .into_iter()
        .flatten()
        .map(|(name, _)| name.clone())
        .collect();
    names.sort();
    names
}

fn span(schema: &Value) -> String {
    match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
        (Some(min), Some(max)) => format!(" from {min} to {max}"),
        (Some(min), None) => format!(" of at least {min}"),
        (None, Some(max)) => format!(" of at most {max}"),
        (None, None) => String::new(),
    }
}

fn article(expected: &str) -> &'static str {
    match expected {
        "object" => "a set of fields",
        "array" => "a list",
        "string" => "text",
        "boolean" => "true or false",
        "integer" => "a whole number",
        _ => "a number",
    }
}

/// A value as it may stand in a message: scalars as written, the rest by what they are.
fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "a set of fields".into(),
        Value::Array(_) => "a list".into(),
        scalar => scalar.to_string().chars().take(80).collect(),
    }
}

fn join(field: &str, name: &str) -> String {
    if field.is_empty() {
        name.to_owned()
    } else {
        format!("{field}.{name}")
    }
}

/// The candidate that somebody who wrote `word` meant: the one at most a third of the letters away, ignoring case.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_lowercase();
    let limit = (word.chars().count() / 3).max(1);
    candidates
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, by Wagner and Fischer with one row.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_offered_only_when_it_is_near() {
        let words = ["contextTokens", "slots", "threads"];
        assert_eq!(
            nearest("contexttoken", words.into_iter()),
            Some("contextTokens")
        );
        assert_eq!(nearest("slot", words.into_iter()), Some("slots"));
        assert_eq!(nearest("replicas", words.into_iter()), None);
    }
}
