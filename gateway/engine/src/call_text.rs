//! Calls as LFM2 writes them: `[f(a='b'), g(x=1)]`, Python's call syntax with literals for arguments.
//!
//! Pure: text in, calls out, or nothing where the text is anything else. Nothing is guessed: an argument without a name, a
//! name given twice or a number that JSON cannot hold exactly is no call. Source: Python 3 language reference, 2.4 and 6.3.4.
//! Reading on: `tool_text.rs`, which finds such text in an answer.

use serde_json::{Map, Number, Value};

/// Deepest nesting of lists and dictionaries that is followed.
const DEPTH_MAX: usize = 32;

/// One call of a function.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The function's name.
    pub name: String,
    /// Its arguments by name.
    pub arguments: Map<String, Value>,
}

/// Reads a list of at least one call; nothing but space may stand around it.
///
/// ```
/// # use weir_engine::call_text::parse;
/// let calls = parse("[get_weather(city='Paris', days=[1, 2])]").expect("well-formed");
/// assert_eq!(calls[0].name, "get_weather");
/// assert_eq!(serde_json::json!(calls[0].arguments), serde_json::json!({"city": "Paris", "days": [1, 2]}));
/// assert_eq!(parse("[get_weather('Paris')]"), None);
/// ```
pub fn parse(text: &str) -> Option<Vec<Call>> {
    let mut reader = Reader { rest: text };
    reader.take('[')?;
    let (calls, _) = reader.list(']', Reader::call)?;
    reader.space();
    (reader.rest.is_empty() && !calls.is_empty()).then_some(calls)
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Takes this character and the space before it.
    fn take(&mut self, wanted: char) -> Option<()> {
        self.space();
        self.rest = self.rest.strip_prefix(wanted)?;
        Some(())
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.chars().next()?;
        self.rest = &self.rest[next.len_utf8()..];
        Some(next)
    }

    /// Takes what stands before the first character that does not belong.
    fn run(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (run, rest) = self.rest.split_at(end);
        self.rest = rest;
        run
    }

    /// Items up to `close`, and whether a comma stands after the last one.
    fn list<T>(
        &mut self,
        close: char,
        mut item: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<(Vec<T>, bool)> {
        let mut items = Vec::new();
        loop {
            if self.take(close).is_some() {
                let comma = !items.is_empty();
                return Some((items, comma));
            }
            items.push(item(self)?);
            if self.take(',').is_none() {
                self.take(close)?;
                return Some((items, false));
            }
        }
    }

    fn call(&mut self) -> Option<Call> {
        self.space();
        let starts = |c: char| c.is_alphabetic() || c == '_';
        let name = self.run(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
        let name = Some(name).filter(|name| name.starts_with(starts))?;
        self.take('(')?;
        let (given, _) = self.list(')', Self::argument)?;
        let count = given.len();
        let arguments = Map::from_iter(given);
        (arguments.len() == count).then(|| Call {
            name: name.to_owned(),
            arguments,
        })
    }

    fn argument(&mut self) -> Option<(String, Value)> {
        self.space();
        let name = self.run(|c| c.is_alphanumeric() || c == '_');
        let name = Some(name).filter(|name| !name.is_empty())?;
        self.take('=')?;
        Some((name.to_owned(), self.value(0)?))
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.space();
        match self.rest.chars().next()? {
            '\'' | '"' => self.string().map(Value::String),
            '[' => {
                self.next();
                let (items, _) = self.list(']', |reader| reader.value(depth + 1))?;
                Some(Value::Array(items))
            }
            '(' => {
                self.next();
                let (mut items, comma) = self.list(')', |reader| reader.value(depth + 1))?;
                // Python's `(x)` is x, `(x,)` a tuple of one.
                let lone = items.len() == 1 && !comma;
                if lone {
                    items.pop()
                } else {
                    Some(Value::Array(items))
                }
            }
            '{' => {
                self.next();
                let (entries, _) = self.list('}', |reader| reader.entry(depth + 1))?;
                let count = entries.len();
                let object = Map::from_iter(entries);
                (object.len() == count).then_some(Value::Object(object))
            }
            '-' | '+' | '.' | '0'..='9' => self.number().map(Value::Number),
            _ => match self.run(|c| c.is_alphanumeric() || c == '_') {
                "True" | "true" => Some(Value::Bool(true)),
                "False" | "false" => Some(Value::Bool(false)),
                "None" | "null" => Some(Value::Null),
                _ => None,
            },
        }
    }

    fn entry(&mut self, depth: usize) -> Option<(String, Value)> {
        self.space();
        let key = self.string()?;
        self.take(':')?;
        Some((key, self.value(depth)?))
    }

    fn number(&mut self) -> Option<Number> {
        let negative = self.rest.starts_with('-');
        self.rest = self.rest.strip_prefix(['-', '+']).unwrap_or(self.rest);
        let mut text = String::from(if negative { "-" } else { "" });
        let whole = self.digits()?;
        let point = self.rest.strip_prefix('.');
        self.rest = point.unwrap_or(self.rest);
        let fraction = if point.is_some() {
            self.digits()?
        } else {
            String::new()
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        text.push_str(&whole);
        let exponent = self.rest.strip_prefix(['e', 'E']);
        if point.is_none() && exponent.is_none() {
            let zeros = whole.starts_with('0') && whole.bytes().any(|digit| digit != b'0');
            return (self.ends_number() && !zeros).then(|| integer(&text))?;
        }
        text = format!("{text}.{fraction}");
        if let Some(rest) = exponent {
            self.rest = rest;
            let negative = rest.starts_with('-');
            self.rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
            let digits = Some(self.digits()?).filter(|digits| !digits.is_empty())?;
            text = format!("{text}e{}{digits}", if negative { "-" } else { "" });
        }
        self.ends_number()
            .then(|| Number::from_f64(text.parse().ok()?))?
    }

    /// Digits, perhaps none; single underscores between them are left out.
    fn digits(&mut self) -> Option<String> {
        let run = self.run(|c| c.is_ascii_digit() || c == '_');
        let odd = run.starts_with('_') || run.ends_with('_') || run.contains("__");
        (!odd).then(|| run.replace('_', ""))
    }

    fn ends_number(&self) -> bool {
        !self
            .rest
            .starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '.'))
    }

    fn string(&mut self) -> Option<String> {
        let quote = ["'''", "\"\"\"", "'", "\""].into_iter();
        let end = quote
            .into_iter()
            .find(|quote| self.rest.starts_with(quote))?;
        self.rest = &self.rest[end.len()..];
        let mut text = String::new();
        loop {
            if let Some(rest) = self.rest.strip_prefix(end) {
                self.rest = rest;
                return Some(text);
            }
            match self.next()? {
                '\\' => self.escape(&mut text)?,
                plain => text.push(plain),
            }
        }
    }

    /// What a backslash and the characters after it stand for. One that Python does not know stays as it is.
    fn escape(&mut self, text: &mut String) -> Option<()> {
        let escaped = self.next()?;
        let character = match escaped {
            '\n' => return Some(()),
            '\\' | '\'' | '"' => escaped,
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '0'..='7' => {
                let mut code = escaped.to_digit(8)?;
                for _ in 0..2 {
                    let Some(digit) = self.rest.chars().next().and_then(|c| c.to_digit(8)) else {
                        break;
                    };
                    self.next();
                    code = code * 8 + digit;
                }
                char::from_u32(code)?
            }
            'x' => char::from_u32(self.hex(2)?)?,
            'u' => self.unicode()?,
            'U' => char::from_u32(self.hex(8)?)?,
            'N' => return None,
            other => {
                text.push('\\');
                other
            }
        };
        text.push(character);
        Some(())
    }

    /// Four hexadecimal digits, or eight in two halves, as models that learned JSON write what lies beyond them.
    fn unicode(&mut self) -> Option<char> {
        let first = self.hex(4)?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first);
        }
        self.rest = self.rest.strip_prefix("\\u")?;
        let second = self.hex(4)?;
        let second = Some(second).filter(|half| (0xdc00..0xe000).contains(half))?;
        char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))
    }

    fn hex(&mut self, digits: usize) -> Option<u32> {
        let hex = self.rest.get(..digits)?;
        let plain = hex.bytes().all(|digit| digit.is_ascii_hexdigit());
        self.rest = &self.rest[digits..];
        plain.then(|| u32::from_str_radix(hex, 16).ok())?
    }
}

/// An integer that JSON readers take exactly.
fn integer(text: &str) -> Option<Number> {
    let signed = text.parse::<i64>().ok().map(Number::from);
    signed.or_else(|| text.parse::<u64>().ok().map(Number::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn arguments(value: &str) -> Option<Value> {
        let calls = parse(&format!("[f(x={value})]"))?;
        calls[0].arguments.get("x").cloned()
    }

    #[test]
    fn every_literal_of_python_that_json_has_is_read() {
        for (literal, value) in [
            ("'a'", json!("a")),
            ("\"it's\"", json!("it's")),
            ("''", json!("")),
            ("'''two\n'lines' '''", json!("two\n'lines' ")),
            (
                r"'\x41\u00e9\U0001F600\ud83d\ude00\101\q\n'",
                json!("Aé😀😀A\\q\n"),
            ),
            ("-7", json!(-7)),
            ("1_000", json!(1000)),
            ("18446744073709551615", json!(u64::MAX)),
            (".5", json!(0.5)),
            ("-2.e-1", json!(-0.2)),
            ("True", json!(true)),
            ("false", json!(false)),
            ("None", json!(null)),
            ("[1, 'b', [], ]", json!([1, "b", []])),
            ("(1)", json!(1)),
            ("(1,)", json!([1])),
            ("()", json!([])),
            (
                "{'k': {'l': (1, 2)}, \"m\": None}",
                json!({"k": {"l": [1, 2]}, "m": null}),
            ),
        ] {
            assert_eq!(arguments(literal), Some(value), "{literal}");
        }
    }

    #[test]
    fn several_calls_and_names_of_every_kind_are_read_in_order() {
        let calls =
            parse(" [ get_weather ( city = 'Paris' , ), fs.read-file(),_x(a=1)\n] ").unwrap();
        let names: Vec<&str> = calls.iter().map(|call| call.name.as_str()).collect();
        assert_eq!(names, ["get_weather", "fs.read-file", "_x"]);
        assert_eq!(json!(calls[0].arguments), json!({"city": "Paris"}));
    }

    #[test]
    fn what_is_no_call_is_not_guessed_at() {
        for text in [
            "",
            "[]",
            "f(a=1)",
            "[f(a=1)",
            "[f(a=1)] and more",
            "[f(1)]",
            "[f(a=1, a=2)]",
            "[f(a)]",
            "[f(a=b)]",
            "[f(a=g())]",
            "[f(a=1 b=2)]",
            "[f(,)]",
            "[1(a=1)]",
            "[f]",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        for literal in [
            "'open",
            "007",
            "0x1f",
            "1__0",
            "_1",
            "1_",
            "1.2.3",
            "1e",
            "1j",
            "-",
            ".",
            "1e999",
            "99999999999999999999",
            "'a' 'b'",
            "f'a'",
            "{1: 2}",
            "{'a': 1, 'a': 2}",
            "{'a'}",
            "1 + 1",
            "-True",
            r"'\ud83d'",
            r"'\x4'",
            r"'\N{DASH}'",
        ] {
            assert_eq!(arguments(literal), None, "{literal}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(arguments(&deep), None);
    }

    /// A value as Python prints it.
    fn python(value: &Value) -> String {
        let items = |items: Vec<String>| items.join(", ");
        match value {
            Value::Null => "None".to_owned(),
            Value::Bool(true) => "True".to_owned(),
            Value::Bool(false) => "False".to_owned(),
            Value::Number(number) => number.to_string(),
            Value::String(text) => quoted(text),
            Value::Array(list) => format!("[{}]", items(list.iter().map(python).collect())),
            Value::Object(map) => {
                let entry =
                    |(key, value): (&String, &Value)| format!("{}: {}", quoted(key), python(value));
                format!("{{{}}}", items(map.iter().map(entry).collect()))
            }
        }
    }

    fn quoted(text: &str) -> String {
        let escaped = text
            .replace('\\', "\\\\")
            .replace('\'', "\\'")
            .replace('\n', "\\n");
        format!("'{escaped}'")
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::from),
            (-1e12..1e12f64).prop_map(Value::from),
            ".{0,12}".prop_map(Value::String),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::vec((".{0,6}", inner), 0..4)
                    .prop_map(|entries| Value::Object(Map::from_iter(entries))),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_python_prints_is_read_back(
            calls in prop::collection::vec(
                ("[a-z_][a-z0-9_.]{0,8}", prop::collection::vec(("[a-z_]{1,6}", values()), 0..4)), 1..4)
        ) {
            let calls: Vec<Call> = calls
                .into_iter()
                .map(|(name, arguments)| Call { name, arguments: Map::from_iter(arguments) })
                .collect();
            let printed: Vec<String> = calls
                .iter()
                .map(|call| {
                    let arguments = call.arguments.iter().map(|(name, value)| format!("{name}={}", python(value)));
                    format!("{}({})", call.name, arguments.collect::<Vec<_>>().join(", "))
                })
                .collect();
            prop_assert_eq!(parse(&format!("[{}]", printed.join(", "))), Some(calls));
        }

        #[test]
        fn no_text_is_too_odd_to_be_read(text in r#"[\[\](){}a-f'"\\=:,.0-9 _ux\-]{0,40}"#) {
            let calls = parse(&text).unwrap_or_default();
            prop_assert!(calls.len() <= text.len());
        }
    }
}
