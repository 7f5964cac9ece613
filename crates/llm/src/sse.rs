//! Server-sent events, as the bytes arrive.
//!
//! The decoder is handed chunks that begin and end anywhere, and gives back whole events with the exact
//! bytes they came in, so that they can be forwarded untouched. An event that lies within one chunk costs
//! no copy.
//!
//! Source: WHATWG HTML, "Server-sent events" (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//! Lines end with LF or CRLF. A lone CR, which the standard also allows and no provider sends, does not end
//! a line here: it could not be told from half a CRLF without holding an event back for the next chunk.

use bytes::{Bytes, BytesMut};

/// Splits a byte stream into events.
#[derive(Debug)]
pub struct Decoder {
    /// Bytes of an event whose end has not arrived.
    partial: BytesMut,
    /// What has arrived and is not looked at yet.
    chunk: Bytes,
    /// What the current line holds so far.
    line: Line,
    max_event: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Line {
    Empty,
    CarriageReturn,
    Text,
}

/// One event, or the comment or blank line that stands in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The exact bytes, the blank line that ends it included.
    pub raw: Bytes,
}

/// An event outgrew the limit.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("an event is longer than {0} bytes")]
pub struct TooLong(pub usize);

impl Decoder {
    /// A decoder that refuses events of more than `max_event` bytes.
    pub fn new(max_event: usize) -> Self {
        Decoder { partial: BytesMut::new(), chunk: Bytes::new(), line: Line::Empty, max_event }
    }

    /// Adds what has arrived. Call [`Decoder::next_event`] until it gives `None` before pushing again.
    pub fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            let mut joined = BytesMut::from(&self.chunk[..]);
            joined.extend_from_slice(&chunk);
            self.chunk = joined.freeze();
        }
    }

    /// The next whole event, or `None` until more has arrived.
    pub fn next_event(&mut self) -> Result<Option<Event>, TooLong> {
        let mut at = 0;
        while let Some(found) = memchr::memchr(b'\n', &self.chunk[at..]) {
            let blank = match (self.line, &self.chunk[at..at + found]) {
                (Line::Empty, b"" | b"\r") | (Line::CarriageReturn, b"") => true,
                (_, _) => false,
            };
            at += found + 1;
            self.line = Line::Empty;
            if blank {
                self.fits(at)?;
                let tail = self.chunk.split_to(at);
                let raw = if self.partial.is_empty() {
                    tail
                } else {
                    self.partial.extend_from_slice(&tail);
                    self.partial.split().freeze()
                };
                return Ok(Some(Event { raw }));
            }
        }
        self.line = match (self.line, &self.chunk[at..]) {
            (line, b"") => line,
            (Line::Empty, b"\r") => Line::CarriageReturn,
            _ => Line::Text,
        };
        self.fits(self.chunk.len())?;
        self.partial.extend_from_slice(&self.chunk);
        self.chunk.clear();
        Ok(None)
    }

    /// What is left when the stream has ended: an event without its blank line. The standard drops it;
    /// whoever asks decides, since some providers end so after `[DONE]`.
    pub fn finish(&mut self) -> Option<Event> {
        self.line = Line::Empty;
        self.partial.extend_from_slice(&std::mem::take(&mut self.chunk));
        let raw = self.partial.split().freeze();
        (!raw.is_empty()).then_some(Event { raw })
    }

    fn fits(&self, more: usize) -> Result<(), TooLong> {
        if self.partial.len() + more > self.max_event { Err(TooLong(self.max_event)) } else { Ok(()) }
    }
}

impl Event {
    /// The `data` field: its lines joined by LF. `None` when the event has none, as a comment.
    pub fn data(&self) -> Option<Bytes> {
        let mut found: Option<Bytes> = None;
        let mut joined: Option<BytesMut> = None;
        for line in self.fields("data") {
            match (&found, &mut joined) {
                (None, _) => found = Some(line),
                (Some(first), None) => {
                    let mut both = BytesMut::from(&first[..]);
                    both.extend_from_slice(b"\n");
                    both.extend_from_slice(&line);
                    joined = Some(both);
                }
                (Some(_), Some(all)) => {
                    all.extend_from_slice(b"\n");
                    all.extend_from_slice(&line);
                }
            }
        }
        joined.map(BytesMut::freeze).or(found)
    }

    /// The last `event` field: the event's name.
    pub fn name(&self) -> Option<Bytes> {
        self.fields("event").last()
    }

    /// The values of every line `name: value`; one space after the colon belongs to neither.
    fn fields<'a>(&'a self, name: &'static str) -> impl Iterator<Item = Bytes> + 'a {
        // The standard has one byte order mark ignored, at the very beginning.
        let text = self.raw.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&self.raw);
        let lines = text.split(|b| *b == b'\n');
        lines.filter_map(move |line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let rest = line.strip_prefix(name.as_bytes())?;
            let value = match rest {
                [] => rest,
                [b':', b' ', value @ ..] | [b':', value @ ..] => value,
                _ => return None,
            };
            Some(self.raw.slice_ref(value))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(chunks: &[&[u8]]) -> (Vec<Event>, Option<Event>) {
        let mut decoder = Decoder::new(1 << 20);
        let mut events = Vec::new();
        for chunk in chunks {
            decoder.push(Bytes::copy_from_slice(chunk));
            while let Some(event) = decoder.next_event().unwrap() {
                events.push(event);
            }
        }
        (events, decoder.finish())
    }

    #[test]
    fn gives_events_with_their_exact_bytes() {
        let text = b": hi\n\ndata: {\"a\":1}\n\nevent: x\r\ndata:1\r\ndata: 2\r\n\r\ndata\n\ndata: [DONE]";
        let (events, rest) = decode(&[text]);
        let data: Vec<_> = events.iter().map(Event::data).collect();
        assert_eq!(data[0], None);
        assert_eq!(data[1].as_deref(), Some(&b"{\"a\":1}"[..]));
        assert_eq!(data[2].as_deref(), Some(&b"1\n2"[..]));
        assert_eq!(events[2].name().as_deref(), Some(&b"x"[..]));
        assert_eq!(data[3].as_deref(), Some(&b""[..]));
        assert_eq!(rest.unwrap().data().as_deref(), Some(&b"[DONE]"[..]));
        let all: Vec<u8> = events.iter().flat_map(|e| e.raw.to_vec()).collect();
        assert_eq!(all, text[..text.len() - b"data: [DONE]".len()]);
    }

    #[test]
    fn an_event_over_the_limit_is_refused() {
        let mut decoder = Decoder::new(8);
        decoder.push(Bytes::from_static(b"data: 123456"));
        assert_eq!(decoder.next_event(), Err(TooLong(8)));
    }

    proptest! {
        #[test]
        fn splits_do_not_matter(
            text in "(data: [a-z]{0,4}|: c|event:e|\r|)(\n|\r\n|\n\n|\r\n\r\n){0,40}",
            repeat in 1usize..6,
            cuts in prop::collection::vec(0usize..400, 0..12),
        ) {
            let text = text.repeat(repeat).into_bytes();
            let whole = decode(&[&text]);
            let mut at: Vec<usize> = cuts.into_iter().map(|c| c % (text.len() + 1)).collect();
            at.extend([0, text.len()]);
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|w| &text[w[0]..w[1]]).collect();
            prop_assert_eq!(decode(&chunks), whole);
        }

        #[test]
        fn nothing_is_lost_or_made_up(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..10)) {
            let slices: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            let (events, rest) = decode(&slices);
            let mut out: Vec<u8> = events.iter().flat_map(|e| e.raw.to_vec()).collect();
            out.extend(rest.iter().flat_map(|e| e.raw.to_vec()));
            prop_assert_eq!(out, chunks.concat());
        }
    }
}
