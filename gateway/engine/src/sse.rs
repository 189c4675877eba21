//! Server-sent events out of a byte stream, wherever the chunks happen to be cut.
//!
//! Pure and bounded: bytes in, payloads of `data:` lines out. Accepts LF, CRLF and CR, comments, a byte order mark and
//! llama.cpp's older `error:` lines. Source: WHATWG HTML, section 9.2. Reading on: `stream.rs`.

use bytes::{Buf, Bytes, BytesMut};

/// Largest event that is accepted.
const EVENT_MAX: usize = 4 << 20;

/// Cuts a byte stream into the payloads of its events.
#[derive(Debug, Default)]
pub struct SseDecoder {
    buffer: BytesMut,
    scanned: usize,
    skip_line_feed: bool,
    started: bool,
    data: Vec<Bytes>,
    data_len: usize,
}

/// The event was larger than [`EVENT_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub struct EventTooLong;

impl SseDecoder {
    /// Takes the next bytes of the stream, cut anywhere.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The payload of the next whole event, if it has arrived.
    ///
    /// # Errors
    /// The event is larger than 4 MiB.
    pub fn next_event(&mut self) -> Result<Option<Bytes>, EventTooLong> {
        while let Some(line) = self.line() {
            if line.is_empty() {
                if let Some(event) = self.take_event() {
                    return Ok(Some(event));
                }
            } else {
                self.field(&line);
            }
            if self.data_len > EVENT_MAX {
                return Err(EventTooLong);
            }
        }
        if self.buffer.len() > EVENT_MAX {
            Err(EventTooLong)
        } else {
            Ok(None)
        }
    }

    /// The last event of a stream that ended without an empty line.
    pub fn finish(&mut self) -> Option<Bytes> {
        if !self.buffer.is_empty() {
            let rest = self.buffer.split().freeze();
            self.field(&rest);
        }
        self.take_event()
    }

    fn line(&mut self) -> Option<Bytes> {
        if self.skip_line_feed && !self.buffer.is_empty() {
            self.skip_line_feed = false;
            if self.buffer[0] == b'\n' {
                self.buffer.advance(1);
            }
        }
        let found = self.buffer[self.scanned..]
            .iter()
            .position(|byte| matches!(byte, b'\n' | b'\r'));
        let Some(offset) = found else {
            self.scanned = self.buffer.len();
            return None;
        };
        let mut line = self.buffer.split_to(self.scanned + offset).freeze();
        self.skip_line_feed = self.buffer[0] == b'\r';
        self.buffer.advance(1);
        self.scanned = 0;
        if !self.started {
            self.started = true;
            if line.starts_with(b"\xef\xbb\xbf") {
                line.advance(3);
            }
        }
        Some(line)
    }

    fn field(&mut self, line: &Bytes) {
        let colon = line
            .iter()
            .position(|byte| *byte == b':')
            .unwrap_or(line.len());
        let mut value = line.slice((colon + 1).min(line.len())..);
        if value.first() == Some(&b' ') {
            value.advance(1);
        }
        let value = match &line[..colon] {
            b"data" => value,
            b"error" => [b"{\"error\":", &value[..], b"}"].concat().into(),
            _ => return,
        };
        self.data_len += value.len();
        self.data.push(value);
    }

    fn take_event(&mut self) -> Option<Bytes> {
        self.data_len = 0;
        match self.data.len() {
            0 => None,
            1 => self.data.pop(),
            _ => Some(std::mem::take(&mut self.data).join(&b'\n').into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(chunks: &[&[u8]]) -> Vec<String> {
        let mut decoder = SseDecoder::default();
        let mut events = Vec::new();
        for chunk in chunks {
            decoder.push(chunk);
            while let Some(event) = decoder.next_event().unwrap() {
                events.push(event);
            }
        }
        events.extend(decoder.finish());
        events
            .iter()
            .map(|event| String::from_utf8_lossy(event).into_owned())
            .collect()
    }

    #[test]
    fn every_line_ending_and_every_cut_gives_the_same_events() {
        let expected = ["{\"a\":1}", "two\nlines", "[DONE]"];
        for newline in ["\n", "\r\n", "\r"] {
            let text = "\u{feff}: hello\ndata: {\"a\":1}\n\nevent: x\nid: 1\ndata:two\ndata: lines\n\n\n\ndata: [DONE]\n\n";
            let text = text.replace('\n', newline);
            let bytes = text.as_bytes();
            for cut in 0..bytes.len() {
                assert_eq!(
                    events(&[&bytes[..cut], &bytes[cut..]]),
                    expected,
                    "{newline:?} {cut}"
                );
            }
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(events(&single), expected);
        }
    }

    #[test]
    fn an_event_without_its_empty_line_is_read_at_the_end() {
        assert_eq!(events(&[b"data: a\n\ndata: b"]), ["a", "b"]);
    }

    #[test]
    fn an_error_line_becomes_an_error_object() {
        assert_eq!(
            events(&[b"error: {\"code\":500}\n\n"]),
            ["{\"error\":{\"code\":500}}"]
        );
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut decoder = SseDecoder::default();
        decoder.push(b"data: ");
        decoder.push(&vec![b'x'; EVENT_MAX]);
        assert_eq!(decoder.next_event(), Err(EventTooLong));
    }
}
