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

/// Passes a byte stream on, cut between events only: a break leaves no torn event behind.
#[derive(Debug, Default)]
pub struct WholeEvents {
    /// The beginning of an event whose end has not arrived.
    begun: BytesMut,
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

impl WholeEvents {
    /// Takes the next bytes and returns those up to the end of the last whole event; the bytes themselves where they end with
    /// one, as engines send them.
    ///
    /// # Errors
    /// An event is larger than 4 MiB.
    pub fn push(&mut self, bytes: Bytes) -> Result<Bytes, EventTooLong> {
        if self.begun.is_empty() && bytes.ends_with(b"\n\n") {
            return Ok(bytes);
        }
        // The longest end is four bytes, of which three may have been there.
        let seen = self.begun.len().saturating_sub(3);
        self.begun.extend_from_slice(&bytes);
        let end = end_of_events(&self.begun[seen..]).map_or(0, |end| seen + end);
        let whole = self.begun.split_to(end).freeze();
        if self.begun.len() > EVENT_MAX {
            return Err(EventTooLong);
        }
        Ok(whole)
    }

    /// What is left when the stream has ended.
    pub fn rest(&mut self) -> Bytes {
        self.begun.split().freeze()
    }
}

/// Where the last empty line ends.
fn end_of_events(bytes: &[u8]) -> Option<usize> {
    let is_end = |end: &usize| {
        let (before, after) = bytes.split_at(*end);
        match before.strip_suffix(b"\n") {
            Some(line) => {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                line.ends_with(b"\n") || line.ends_with(b"\r")
            }
            // The first half of a `\r\n` ends nothing, and what it belongs to may not be there yet.
            None => before.ends_with(b"\r\r") && !after.starts_with(b"\n"),
        }
    };
    (1..=bytes.len()).rev().find(is_end)
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
    fn events_are_passed_on_whole_wherever_the_stream_is_cut() {
        for newline in ["\n", "\r\n", "\r"] {
            let event = "data: {\"a\":1}\n: hello\n\n".replace('\n', newline);
            let text = event.repeat(3) + "data: torn";
            for cut in 0..text.len() {
                let mut whole = WholeEvents::default();
                let mut passed = 0;
                for part in [&text.as_bytes()[..cut], &text.as_bytes()[cut..]] {
                    passed += whole.push(Bytes::copy_from_slice(part)).unwrap().len();
                    let torn = passed % event.len();
                    // What follows the `\r` of a `\r\n` may come later.
                    assert!(
                        torn == 0 || torn == event.len() - 1,
                        "{newline:?} {cut}: {torn}"
                    );
                }
                assert_eq!(passed, 3 * event.len(), "{newline:?} {cut}");
                assert_eq!(whole.rest(), "data: torn");
            }
        }
    }

    #[test]
    fn an_endless_event_is_not_kept() {
        let mut whole = WholeEvents::default();
        let part = Bytes::from(vec![b'x'; EVENT_MAX]);
        assert_eq!(whole.push(part), Ok(Bytes::new()));
        assert_eq!(whole.push(Bytes::from_static(b"x")), Err(EventTooLong));
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut decoder = SseDecoder::default();
        decoder.push(b"data: ");
        decoder.push(&vec![b'x'; EVENT_MAX]);
        assert_eq!(decoder.next_event(), Err(EventTooLong));
    }
}
