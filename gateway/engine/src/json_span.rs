//! Cutting and replacing members of a JSON object by byte span, so that nothing else is written anew.
//!
//! Token log-probabilities and usage that Weir asked for and the client did not are removed here; every other byte
//! stays as the engine wrote it. Pure; what is not JSON is returned as it came. Reading on: `event.rs`.

use bytes::Bytes;
use std::ops::Range;

/// Deepest nesting that is followed.
const DEPTH_MAX: usize = 64;

/// Removes the members at `paths` from a JSON object; `*` stands for every element of an array.
///
/// ```
/// # use weir_engine::json_span::without;
/// let event = br#"{"choices": [{"index": 0, "logprobs": {"content": []}}], "usage": null}"#;
/// let paths: &[&[&str]] = &[&["usage"], &["choices", "*", "logprobs"]];
/// assert_eq!(&without(&event[..].into(), paths)[..], br#"{"choices": [{"index": 0}]}"#);
/// ```
pub fn without(json: &Bytes, paths: &[&[&str]]) -> Bytes {
    let mut scan = Scan {
        json,
        at: 0,
        removed: Vec::new(),
        found: Vec::new(),
    };
    if scan.value(paths, 0).is_none() || scan.removed.is_empty() {
        return json.clone();
    }
    let mut kept = Vec::with_capacity(json.len());
    let mut from = 0;
    scan.removed.sort_by_key(|range| range.start);
    for range in scan.removed {
        kept.extend_from_slice(&json[from..range.start.max(from)]);
        from = range.end.max(from);
    }
    kept.extend_from_slice(&json[from..]);
    kept.into()
}

/// Replaces the value of a top-level member by a string, wherever it stands when it stands twice: which of two an engine
/// would take is its own affair. An object without the member stays as it is.
///
/// ```
/// # use weir_engine::json_span::with_string;
/// let body = br#"{ "model":"small", "n": 1 }"#;
/// assert_eq!(&with_string(&body[..].into(), "model", "a\"b")[..], br#"{ "model":"a\"b", "n": 1 }"#);
/// ```
pub fn with_string(json: &Bytes, member: &str, value: &str) -> Bytes {
    let mut scan = Scan {
        json,
        at: 0,
        removed: Vec::new(),
        found: Vec::new(),
    };
    if scan.value(&[&[member]], 0).is_none() {
        return json.clone();
    }
    if scan.found.is_empty() {
        return json.clone();
    }
    let value = serde_json::Value::from(value).to_string();
    let (mut written, mut from) = (Vec::with_capacity(json.len() + value.len()), 0);
    for range in scan.found {
        written.extend_from_slice(&json[from..range.start]);
        written.extend_from_slice(value.as_bytes());
        from = range.end;
    }
    written.extend_from_slice(&json[from..]);
    written.into()
}

/// Sets a top-level member of a JSON object to `value`, which is JSON itself, in front of the others. What is no object stays as
/// it is.
///
/// ```
/// # use weir_engine::json_span::with_member;
/// let body = br#"{"model": "small", "stream_options": null}"#;
/// let asked = with_member(&body[..].into(), "stream_options", "{}");
/// assert_eq!(&asked[..], br#"{"stream_options":{},"model": "small"}"#);
/// ```
pub fn with_member(json: &Bytes, member: &str, value: &str) -> Bytes {
    let others = without(json, &[&[member]]);
    let text = others.trim_ascii_start();
    let Some(rest) = text.strip_prefix(b"{") else {
        return json.clone();
    };
    let comma = if rest.trim_ascii_start().starts_with(b"}") {
        ""
    } else {
        ","
    };
    let name = serde_json::Value::from(member);
    let set = format!("{{{name}:{value}{comma}");
    [set.as_bytes(), rest].concat().into()
}

struct Scan<'a> {
    json: &'a [u8],
    at: usize,
    removed: Vec<Range<usize>>,
    /// Values of the members that a path named.
    found: Vec<Range<usize>>,
}

impl Scan<'_> {
    fn value(&mut self, paths: &[&[&str]], depth: usize) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.space();
        match self.json.get(self.at)? {
            b'{' => self.object(paths, depth),
            b'[' => self.array(paths, depth),
            b'"' => self.string().map(|_| ()),
            _ => self.scalar(),
        }
    }

    fn object(&mut self, paths: &[&[&str]], depth: usize) -> Option<()> {
        let mut members: Vec<(Range<usize>, bool)> = Vec::new();
        self.at += 1;
        self.space();
        while *self.json.get(self.at)? != b'}' {
            let start = self.at;
            let key = self.string()?;
            self.space();
            self.expect(b':')?;
            self.space();
            let value = self.at;
            let below = below(paths, &self.json[key.clone()]);
            self.value(&below, depth + 1)?;
            let key = &self.json[key];
            let named = paths
                .iter()
                .any(|path| path.len() == 1 && spells(key, path[0]));
            if named {
                self.found.push(value..self.at);
            }
            members.push((start..self.at, named));
            self.space();
            if *self.json.get(self.at)? == b',' {
                self.at += 1;
                self.space();
            }
        }
        self.at += 1;
        self.remove(&members);
        Some(())
    }

    /// A removed member takes one comma with it: the one after it, or, at the end, the one before.
    fn remove(&mut self, members: &[(Range<usize>, bool)]) {
        let kept = members
            .iter()
            .rposition(|(_, named)| !named)
            .map_or(0, |last| last + 1);
        for window in members[..kept].windows(2).filter(|window| window[0].1) {
            self.removed.push(window[0].0.start..window[1].0.start);
        }
        if let (Some((first, _)), Some((last, _))) = (members.get(kept), members.last()) {
            let from = if kept == 0 {
                first.start
            } else {
                members[kept - 1].0.end
            };
            self.removed.push(from..last.end);
        }
    }

    fn array(&mut self, paths: &[&[&str]], depth: usize) -> Option<()> {
        let below = below(paths, b"*");
        self.at += 1;
        self.space();
        while *self.json.get(self.at)? != b']' {
            self.value(&below, depth + 1)?;
            self.space();
            if *self.json.get(self.at)? == b',' {
                self.at += 1;
                self.space();
            }
        }
        self.at += 1;
        Some(())
    }

    /// The range between the quotes.
    fn string(&mut self) -> Option<Range<usize>> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            match self.json.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(start..self.at - 1)
    }

    fn scalar(&mut self) -> Option<()> {
        let start = self.at;
        let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace();
        while self.json.get(self.at).is_some_and(|byte| !ends(byte)) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (*self.json.get(self.at)? == byte).then(|| self.at += 1)
    }

    fn space(&mut self) {
        while self.json.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }
}

fn below<'p>(paths: &[&'p [&'p str]], key: &[u8]) -> Vec<&'p [&'p str]> {
    let inside = paths
        .iter()
        .filter(|path| path.len() > 1 && spells(key, path[0]));
    inside.map(|path| &path[1..]).collect()
}

/// Whether what stands between a key's quotes is `name`, which may be written with escapes.
fn spells(key: &[u8], name: &str) -> bool {
    if !key.contains(&b'\\') {
        return key == name.as_bytes();
    }
    let quoted = [b"\"", key, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).is_ok_and(|key| key == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(json: &'static str, paths: &[&[&str]]) -> String {
        let kept = without(&Bytes::from_static(json.as_bytes()), paths);
        String::from_utf8(kept.to_vec()).unwrap()
    }

    #[test]
    fn members_are_cut_wherever_they_stand_and_the_rest_stays_json() {
        for (json, expected) in [
            (r#"{"a":1,"x":2,"b":3}"#, r#"{"a":1,"b":3}"#),
            (r#"{"x":{"a":[1,"}"]},"b":3}"#, r#"{"b":3}"#),
            (r#"{"a":1,"x":"\"}"}"#, r#"{"a":1}"#),
            (r#"{"x":1}"#, "{}"),
            (r#"{"x":1,"y":2}"#, "{}"),
            (r#"{"a":1,"x":1,"y":2}"#, r#"{"a":1}"#),
            (r#"{"x":1,"y":2,"a":1,"y":3}"#, r#"{"a":1}"#),
            (r#"{ "a" : 1 , "x" : null }"#, r#"{ "a" : 1 }"#),
            (r#"{"a":{"x":1}}"#, r#"{"a":{"x":1}}"#),
            (r#"{"\u0078":1,"a":1,"\\x":2}"#, r#"{"a":1,"\\x":2}"#),
            ("[1,2", "[1,2"),
            ("", ""),
        ] {
            assert_eq!(cut(json, &[&["x"], &["y"]]), expected, "{json}");
        }
    }

    #[test]
    fn a_member_that_stands_twice_is_replaced_twice_however_it_is_spelled() {
        let body = r#"{"model":"a","n":{"model":1},"mod\u0065l": "b"}"#;
        let written = with_string(&Bytes::from_static(body.as_bytes()), "model", "up");
        let expected = r#"{"model":"up","n":{"model":1},"mod\u0065l": "up"}"#;
        assert_eq!(written, expected.as_bytes());
    }

    #[test]
    fn a_member_is_set_whether_it_was_there_or_not() {
        for (json, expected) in [
            (r#" {"a":1}"#, r#"{"x":{},"a":1}"#),
            (r#"{"x":[1],"a":1,"x":2}"#, r#"{"x":{},"a":1}"#),
            (r#"{ "x":1 }"#, r#"{"x":{}  }"#),
            ("{}", r#"{"x":{}}"#),
            ("[1]", "[1]"),
            ("", ""),
        ] {
            let set = with_member(&Bytes::from_static(json.as_bytes()), "x", "{}");
            assert_eq!(set, expected.as_bytes(), "{json}");
        }
    }

    #[test]
    fn every_element_of_an_array_is_cut() {
        let json =
            r#"{"choices":[{"logprobs":null,"i":0},{"i":1,"logprobs":{"x":[]}}],"logprobs":1}"#;
        let kept = cut(json, &[&["choices", "*", "logprobs"]]);
        assert_eq!(kept, r#"{"choices":[{"i":0},{"i":1}],"logprobs":1}"#);
    }

    #[test]
    fn deep_nesting_is_left_alone() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(without(&deep.clone().into(), &[&["x"]]), deep);
    }
}
