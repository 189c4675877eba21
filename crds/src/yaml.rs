//! YAML documents into JSON values that know their lines, and JSON values into YAML for committed files.
//!
//! Reads the parser's events itself: duplicate keys are errors (kubectl refuses them too), aliases are refused rather
//! than expanded without bound, and a value of null counts as not written, as the API server treats it.

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};
use serde_json::{Map, Number, Value};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Deeper nesting is refused; the resources need eight levels.
const DEPTH_MAX: usize = 32;

/// One document: its value, its first line and the line of every field by path.
#[derive(Clone, Debug, PartialEq)]
pub struct YamlDocument {
    /// The value; `Value::Null` for an empty document.
    pub value: Value,
    /// Line of the first field, from 1.
    pub line: usize,
    /// Lines by path, for example `spec.guardrails[0].name`.
    pub lines: BTreeMap<String, usize>,
}

/// Why a text is no YAML that can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct YamlError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong, and what to write instead.
    pub message: String,
}

struct Reader<'input> {
    parser: Parser<'input, StrInput<'input>>,
    lines: BTreeMap<String, usize>,
}

/// Reads every document of a text.
///
/// # Errors
/// At the first line that is no YAML, repeats a key, uses an alias or nests too deep.
pub fn documents(text: &str) -> Result<Vec<YamlDocument>, YamlError> {
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        lines: BTreeMap::new(),
    };
    let mut documents = Vec::new();
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => return Ok(documents),
            (Event::DocumentStart(_), _) => {
                reader.lines.clear();
                let (event, span) = reader.next()?;
                let line = span.start.line().max(1);
                let value = reader.node(event, span, "", 0)?;
                let lines = std::mem::take(&mut reader.lines);
                documents.push(YamlDocument { value, line, lines });
            }
            _ => {}
        }
    }
}

impl<'input> Reader<'input> {
    fn next(&mut self) -> Result<(Event<'input>, Span), YamlError> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(YamlError {
                line: error.marker().line(),
                message: format!("is not YAML: {}", error.info()),
            }),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(
        &mut self,
        event: Event<'input>,
        span: Span,
        path: &str,
        depth: usize,
    ) -> Result<Value, YamlError> {
        let line = span.start.line();
        if depth > DEPTH_MAX {
            let message = format!("nests deeper than {DEPTH_MAX} levels: no resource needs that");
            return Err(YamlError { line, message });
        }
        match event {
            Event::Scalar(text, style, _, tag) => scalar(&text, style, tag.as_deref(), line),
            Event::SequenceStart(..) => self.sequence(path, depth),
            Event::MappingStart(..) => self.mapping(path, depth),
            Event::Alias(_) => Err(YamlError {
                line,
                message: "aliases (*name) are not read: write the value out".into(),
            }),
            _ => Ok(Value::Null),
        }
    }

    fn sequence(&mut self, path: &str, depth: usize) -> Result<Value, YamlError> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd | Event::StreamEnd) {
                return Ok(Value::Array(items));
            }
            let path = format!("{path}[{}]", items.len());
            self.lines.insert(path.clone(), span.start.line());
            items.push(self.node(event, span, &path, depth + 1)?);
        }
    }

    fn mapping(&mut self, path: &str, depth: usize) -> Result<Value, YamlError> {
        let mut fields = Map::new();
        let mut seen = BTreeMap::new();
        loop {
            let (event, span) = self.next()?;
            let line = span.start.line();
            let key = match event {
                Event::MappingEnd | Event::StreamEnd => return Ok(Value::Object(fields)),
                Event::Scalar(key, ..) => key.into_owned(),
                _ => {
                    let message = "a field's name must be a plain word".into();
                    return Err(YamlError { line, message });
                }
            };
            if let Some(first) = seen.insert(key.clone(), line) {
                let message =
                    format!("{key:?} stands twice here, first in line {first}: keep one of them");
                return Err(YamlError { line, message });
            }
            let path = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            };
            self.lines.insert(path.clone(), line);
            let (event, span) = self.next()?;
            let value = self.node(event, span, &path, depth + 1)?;
            if !value.is_null() {
                fields.insert(key, value);
            }
        }
    }
}

/// Resolves a scalar by the core schema of YAML 1.2 (section 10.3); quoted text is always a string.
fn scalar(
    text: &str,
    style: ScalarStyle,
    tag: Option<&Tag>,
    line: usize,
) -> Result<Value, YamlError> {
    let is_string = tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
    if style != ScalarStyle::Plain || is_string {
        return Ok(Value::String(text.to_owned()));
    }
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => match number(text) {
            Some(Some(number)) => Value::Number(number),
            Some(None) => {
                let message = format!("{text} is no number JSON can carry: write a finite one");
                return Err(YamlError { line, message });
            }
            None => Value::String(text.to_owned()),
        },
    })
}

/// `None` when the text is no number, `Some(None)` when it is one that JSON has no way to write.
fn number(text: &str) -> Option<Option<Number>> {
    if matches!(
        text.trim_start_matches(['+', '-']),
        ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN"
    ) {
        return Some(None);
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let starts = digits.strip_prefix('.').unwrap_or(digits);
    if !starts.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    if let Ok(value) = text.parse::<i64>() {
        return Some(Some(value.into()));
    }
    if let Ok(value) = text.parse::<u64>() {
        return Some(Some(value.into()));
    }
    if let Some(hexadecimal) = text.strip_prefix("0x") {
        return u64::from_str_radix(hexadecimal, 16)
            .ok()
            .map(|value| Some(value.into()));
    }
    text.parse::<f64>().ok().map(Number::from_f64)
}

/// Writes a value as YAML in block style with sorted keys, so that the same value gives the same text in every build.
pub fn to_string(value: &Value) -> String {
    let mut text = String::new();
    write_node(&mut text, value, 0);
    text
}

fn write_node(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            for (name, value) in sorted {
                out.extend(std::iter::repeat_n(' ', indent));
                out.push_str(&text(name));
                out.push(':');
                write_child(out, value, indent);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                out.extend(std::iter::repeat_n(' ', indent));
                out.push('-');
                write_item(out, item, indent);
            }
        }
        _ => write_inline(out, value),
    }
}

fn write_child(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            out.push('\n');
            write_node(out, value, indent + 2);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            write_node(out, value, indent);
        }
        _ => {
            out.push(' ');
            write_inline(out, value);
        }
    }
}

fn write_item(out: &mut String, value: &Value, indent: usize) {
    let mut nested = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => write_node(&mut nested, value, indent + 2),
        Value::Array(items) if !items.is_empty() => write_node(&mut nested, value, indent + 2),
        _ => write_inline(&mut nested, value),
    }
    out.push(' ');
    out.push_str(nested.trim_start());
}

fn write_inline(out: &mut String, value: &Value) {
    let written = match value {
        Value::String(value) => writeln!(out, "{}", text(value)),
        Value::Object(_) => writeln!(out, "{{}}"),
        Value::Array(_) => writeln!(out, "[]"),
        other => writeln!(out, "{other}"),
    };
    written.expect("writing to a string cannot fail");
}

/// A string as it may stand in YAML: plain when nothing could read it otherwise, else in JSON's quotes, which YAML reads.
fn text(value: &str) -> String {
    let plain = value.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/')
        && value
            .chars()
            .all(|next| next.is_ascii_alphanumeric() || "-_./".contains(next))
        && !matches!(
            value.to_ascii_lowercase().as_str(),
            "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    if plain {
        value.to_owned()
    } else {
        Value::String(value.to_owned()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalars_follow_the_core_schema() {
        let read = |text: &str| documents(text).expect(text).remove(0).value;
        assert_eq!(
            read("a: 1\nb: -2.5\nc: yes\nd: 'true'\ne: true\nf: ~"),
            json!({
                "a": 1, "b": -2.5, "c": "yes", "d": "true", "e": true
            })
        );
        assert_eq!(
            read("[0x10, 1e3, 12ab, 18446744073709551615, !!str 5, .5, a-]"),
            json!([
                16,
                1000.0,
                "12ab",
                18_446_744_073_709_551_615_u64,
                "5",
                0.5,
                "a-"
            ])
        );
    }

    #[test]
    fn every_field_knows_its_line() {
        let read = documents("# one\na: 1\nb:\n  - c: 2\n  - d: 3\n---\ne: 4\n").expect("YAML");
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].line, read[1].line), (2, 7));
        assert_eq!(read[0].lines["b[1].d"], 5);
        assert_eq!(read[1].lines["e"], 7);
    }

    #[test]
    fn repeated_keys_aliases_and_deep_nesting_are_refused() {
        let message = |text: &str| documents(text).expect_err(text);
        assert_eq!(message("a: 1\nb: 2\na: 3").line, 3);
        assert!(
            message("a: &x 1\nb: *x")
                .message
                .contains("write the value out")
        );
        assert!(message(&"[".repeat(100)).message.contains("deeper"));
        assert!(message("a: [1").message.contains("not YAML"));
        assert!(message("a: .inf").message.contains("finite"));
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let value = json!({
            "text": ["plain", "true", "12", "a: b", "", " x", "line\nbreak", "#c", "\u{e9}"],
            "nested": {"list": [[1, 2], {"a": [], "b": {}}], "x/y.z": 1.5, "none": false}
        });
        let text = to_string(&value);
        assert_eq!(
            documents(&text).expect(&text).remove(0).value,
            value,
            "{text}"
        );
    }
}
