//! Objects: the values that a PDF file is made of, and the words of a page's content, which look the same.
//!
//! Knows no pages and no fonts. Nothing in a file can make it fail or recurse deeply: what is no value is passed over.
//! Syntax: ISO 32000-1, 7.2 and 7.3.

use std::collections::HashMap;

/// Values inside values that are followed.
const DEPTH_MAX: usize = 32;

/// A dictionary.
pub(super) type Dict = HashMap<String, Object>;

/// A value, or a word that is none.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Object {
    Number(f64),
    Name(String),
    Text(Vec<u8>),
    Array(Vec<Object>),
    Dict(Dict),
    /// Number of another object.
    Reference(u32),
    /// `true`, `null`, an operator of a page's content, or a bracket that closes nothing.
    Word(String),
}

impl Object {
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            _ => None,
        }
    }

    pub(super) fn dict(&self) -> Option<&Dict> {
        match self {
            Self::Dict(dict) => Some(dict),
            _ => None,
        }
    }

    pub(super) fn array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }
}

/// Reads values from bytes.
pub(super) struct Lexer<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Lexer<'b> {
    /// From the byte `at` on.
    pub(super) fn new(bytes: &'b [u8], at: usize) -> Self {
        let at = at.min(bytes.len());
        Self { bytes, at }
    }

    /// The next byte to be read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Goes on at the byte `at`.
    pub(super) fn skip_to(&mut self, at: usize) {
        self.at = at.clamp(self.at, self.bytes.len());
    }

    /// The next value or word.
    pub(super) fn next(&mut self) -> Option<Object> {
        self.value(0)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn skip_space(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b'%' => {
                    while self
                        .peek()
                        .is_some_and(|byte| !matches!(byte, b'\n' | b'\r'))
                    {
                        self.at += 1;
                    }
                }
                _ if is_space(byte) => self.at += 1,
                _ => return,
            }
        }
    }

    fn value(&mut self, depth: usize) -> Option<Object> {
        self.skip_space();
        let rest = &self.bytes[self.at..];
        match *rest.first()? {
            b'<' if rest.starts_with(b"<<") && depth < DEPTH_MAX => {
                self.at += 2;
                Some(Object::Dict(dict(self.values(b">>", depth))))
            }
            b'[' if depth < DEPTH_MAX => {
                self.at += 1;
                Some(Object::Array(self.values(b"]", depth)))
            }
            b'<' if !rest.starts_with(b"<<") => Some(Object::Text(self.hex())),
            b'(' => Some(Object::Text(self.literal())),
            b'/' => Some(Object::Name(self.name())),
            b'+' | b'-' | b'.' | b'0'..=b'9' => Some(self.number()),
            byte if is_delimiter(byte) => {
                let length = if rest.starts_with(b">>") || rest.starts_with(b"<<") {
                    2
                } else {
                    1
                };
                self.at += length;
                let word = String::from_utf8_lossy(&rest[..length]).into_owned();
                Some(Object::Word(word))
            }
            _ => Some(Object::Word(self.word())),
        }
    }

    /// Values up to the bracket `end`, with references in place of their three words.
    fn values(&mut self, end: &[u8], depth: usize) -> Vec<Object> {
        let mut values: Vec<Object> = Vec::new();
        loop {
            self.skip_space();
            if self.bytes[self.at..].starts_with(end) {
                self.at += end.len();
                return values;
            }
            match self.value(depth + 1) {
                None => return values,
                Some(Object::Word(word)) if word == "R" => {
                    if let [.., Object::Number(number), Object::Number(_)] = values.as_slice() {
                        let number = *number as u32;
                        values.truncate(values.len() - 2);
                        values.push(Object::Reference(number));
                    }
                }
                // The end of the object inside a bracket: the bracket was left open.
                Some(Object::Word(word)) if word == "endobj" || word == "stream" => {
                    self.at -= word.len();
                    return values;
                }
                Some(value) => values.push(value),
            }
        }
    }

    fn hex(&mut self) -> Vec<u8> {
        self.at += 1;
        let mut digits = Vec::new();
        while let Some(byte) = self.take() {
            match (byte as char).to_digit(16) {
                Some(digit) => digits.push(digit as u8),
                None if byte == b'>' => break,
                None => {}
            }
        }
        let pairs = digits.chunks(2);
        pairs
            .map(|pair| (pair[0] << 4) | pair.get(1).copied().unwrap_or(0))
            .collect()
    }

    fn literal(&mut self) -> Vec<u8> {
        self.at += 1;
        let mut text = Vec::new();
        let mut open = 1;
        while let Some(byte) = self.take() {
            match byte {
                b'(' => open += 1,
                b')' => {
                    open -= 1;
                    if open == 0 {
                        break;
                    }
                }
                b'\\' => {
                    self.escape(&mut text);
                    continue;
                }
                _ => {}
            }
            text.push(byte);
        }
        text
    }

    fn escape(&mut self, text: &mut Vec<u8>) {
        match self.take() {
            Some(b'n') => text.push(b'\n'),
            Some(b'r') => text.push(b'\r'),
            Some(b't') => text.push(b'\t'),
            Some(b'b' | b'f' | b'\n') | None => {}
            Some(b'\r') => self.at += usize::from(self.peek() == Some(b'\n')),
            Some(digit @ b'0'..=b'7') => {
                let mut code = u32::from(digit - b'0');
                for _ in 0..2 {
                    let Some(digit @ b'0'..=b'7') = self.peek() else {
                        break;
                    };
                    code = code * 8 + u32::from(digit - b'0');
                    self.at += 1;
                }
                text.push(code as u8);
            }
            Some(other) => text.push(other),
        }
    }

    fn name(&mut self) -> String {
        self.at += 1;
        let word = self.run();
        let mut name = Vec::with_capacity(word.len());
        let mut rest = word;
        while let [first, tail @ ..] = rest {
            let digits = tail
                .get(..2)
                .and_then(|digits| std::str::from_utf8(digits).ok());
            let code = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            match code.filter(|_| *first == b'#') {
                Some(code) => {
                    name.push(code);
                    rest = &tail[2..];
                }
                None => {
                    name.push(*first);
                    rest = tail;
                }
            }
        }
        String::from_utf8_lossy(&name).into_owned()
    }

    fn number(&mut self) -> Object {
        let word = String::from_utf8_lossy(self.run()).into_owned();
        // Some writers put two signs.
        let digits = word.trim_start_matches("--");
        match digits.parse::<f64>() {
            Ok(number) if number.is_finite() => Object::Number(number),
            _ => Object::Word(word),
        }
    }

    fn word(&mut self) -> String {
        String::from_utf8_lossy(self.run()).into_owned()
    }

    /// Bytes up to the next space or delimiter, at least one.
    fn run(&mut self) -> &'b [u8] {
        let rest = &self.bytes[self.at..];
        let ends = |byte: &u8| is_space(*byte) || is_delimiter(*byte);
        let length = rest.iter().position(ends).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }
}

fn dict(values: Vec<Object>) -> Dict {
    let mut dict = Dict::new();
    let mut values = values.into_iter();
    let mut key = None;
    for value in &mut values {
        match (key.take(), value) {
            (None, Object::Name(name)) => key = Some(name),
            (None, _) => {}
            (Some(name), value) => {
                dict.entry(name).or_insert(value);
            }
        }
    }
    dict
}

pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | 0 | 0x0c)
}

fn is_delimiter(byte: u8) -> bool {
    matches!(
        byte,
        b'(' | b')' | b'<' | b'>' | b'[' | b']' | b'{' | b'}' | b'/' | b'%'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_every_kind_are_read() {
        let source = b"<</A#20b 12 0 R/C[1 -.5(a\\(b\\)\\101\\\n)<4a4>true]>>% end\nTj";
        let mut lexer = Lexer::new(source, 0);
        let values = [
            Object::Number(1.0),
            Object::Number(-0.5),
            Object::Text(b"a(b)A".to_vec()),
            Object::Text(vec![0x4a, 0x40]),
            Object::Word("true".to_owned()),
        ];
        let dict = Dict::from([
            ("A b".to_owned(), Object::Reference(12)),
            ("C".to_owned(), Object::Array(values.to_vec())),
        ]);
        assert_eq!(lexer.next(), Some(Object::Dict(dict)));
        assert_eq!(lexer.next(), Some(Object::Word("Tj".to_owned())));
        assert_eq!(lexer.next(), None);
    }

    #[test]
    fn broken_values_end() {
        for source in [
            "<<", "[[[", ">>", ")", "<4", "(a", "/", "--5", "1e999", "{}", "\\",
        ] {
            let mut lexer = Lexer::new(source.as_bytes(), 0);
            let values = std::iter::from_fn(|| lexer.next()).count();
            assert!(values <= source.len(), "{source}");
        }
        let deep = "[".repeat(100_000);
        let mut lexer = Lexer::new(deep.as_bytes(), 0);
        while lexer.next().is_some() {}
    }
}
