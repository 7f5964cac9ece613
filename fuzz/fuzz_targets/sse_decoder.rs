//! Feeds the SSE decoder any bytes, cut anywhere, and holds it to what the gateway relies on: where the
//! chunks end never shows, no byte is lost or made up, and no event is longer than the limit.
//!
//! An input reads `limit lengths | text`: one byte, times 16, is the limit for an event; the bytes up to the
//! first `|`, each modulo 16, are the lengths of the chunks, in turn and over again (so ASCII digits mean
//! themselves); what follows is the stream.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::{Corpus, fuzz_target};
use llm::sse::{Decoder, Event, TooLong};

fuzz_target!(|input: &[u8]| -> Corpus { check(input) });

fn check(input: &[u8]) -> Corpus {
    let Some((limit, rest)) = input.split_first() else { return Corpus::Reject };
    let Some(bar) = rest.iter().position(|byte| *byte == b'|') else { return Corpus::Reject };
    let (lengths, text) = (&rest[..bar], &rest[bar + 1..]);
    if !lengths.is_empty() && lengths.iter().all(|length| length % 16 == 0) {
        return Corpus::Reject;
    }
    let limit = usize::from(*limit) * 16;

    let whole = decode(limit, std::iter::once(text));
    let pieces = decode(limit, Chunks { text, lengths: lengths.iter().cycle() });
    assert_eq!(pieces, whole, "where the chunks end shows");

    for event in &whole.events {
        assert!(event.raw.len() <= limit, "an event over the limit came through");
        assert!(ends_with_blank_line(&event.raw), "an event does not end with a blank line");
        let data = event.data();
        assert!(data.is_none_or(|data| data.len() < event.raw.len()), "more data than bytes");
        assert!(event.name().is_none_or(|name| !name.contains(&b'\n')), "a name of two lines");
    }
    let events = whole.events.iter().map(|event| &event.raw);
    let out = events.chain(whole.rest.iter().map(|rest| &rest.raw)).fold(Vec::new(), |mut out, raw| {
        out.extend_from_slice(raw);
        out
    });
    match whole.error {
        None => assert_eq!(out, text, "bytes were lost or made up"),
        Some(_) => assert!(text.starts_with(&out), "bytes were lost or made up before the error"),
    }
    Corpus::Keep
}

fn ends_with_blank_line(raw: &[u8]) -> bool {
    let before = raw.strip_suffix(b"\r\n").or_else(|| raw.strip_suffix(b"\n"));
    before.is_some_and(|before| before.is_empty() || before.ends_with(b"\n"))
}

#[derive(Debug, PartialEq)]
struct Decoded {
    events: Vec<Event>,
    error: Option<TooLong>,
    rest: Option<Event>,
}

/// Everything the decoder gives for these chunks, up to the first error.
fn decode<'a>(limit: usize, chunks: impl Iterator<Item = &'a [u8]>) -> Decoded {
    let mut decoder = Decoder::new(limit);
    let mut events = Vec::new();
    for chunk in chunks {
        decoder.push(Bytes::copy_from_slice(chunk));
        loop {
            match decoder.next_event() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return Decoded { events, error: Some(error), rest: None },
            }
        }
    }
    Decoded { events, error: None, rest: decoder.finish() }
}

/// `text` in chunks of the given lengths, some of them empty; in one piece when there are no lengths.
struct Chunks<'a, L> {
    text: &'a [u8],
    lengths: L,
}

impl<'a, 'l, L: Iterator<Item = &'l u8>> Iterator for Chunks<'a, L> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.text.is_empty() {
            return None;
        }
        let length = self.lengths.next().map_or(self.text.len(), |length| usize::from(length % 16));
        let (chunk, rest) = self.text.split_at(length.min(self.text.len()));
        self.text = rest;
        Some(chunk)
    }
}
