//! AWS's framing of streams (`application/vnd.amazon.eventstream`), turned into server-sent events.
//!
//! A message is `total length, headers' length, CRC of these` (each four bytes, big-endian), headers, payload, CRC of
//! all before it (CRC-32 of IEEE 802.3). A header is its name's length (one byte), name, type (one byte), value.
//! What comes out is one server-sent event for each message, named as its `:event-type` or `:exception-type`.
//!
//! Source: <https://docs.aws.amazon.com/transcribe/latest/dg/event-stream.html> and botocore's `eventstream.py`.

use bytes::{Buf as _, Bytes, BytesMut};

/// The content type of such a stream.
pub const MEDIA: &[u8] = b"application/vnd.amazon.eventstream";

/// The longest message that is read. AWS's own limit is 16 MiB for a payload; an event of an answer has a fraction.
const MAX_MESSAGE: usize = 4 << 20;
/// The most headers there may be, in bytes: AWS's own limit.
const MAX_HEADERS: usize = 128 << 10;
/// Lengths and their checksum.
const PRELUDE: usize = 12;
/// The checksum at the end.
const CRC: usize = 4;

/// Cuts a byte stream into messages.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

/// The bytes are not what they should be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the event stream is broken: {0}")]
pub struct Broken(&'static str);

impl Decoder {
    /// Adds what arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether a message has begun and its end has not come.
    pub fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next message as a server-sent event, `None` until more has arrived.
    pub fn next_event(&mut self) -> Result<Option<Bytes>, Broken> {
        let Some((total, headers)) = self.lengths()? else { return Ok(None) };
        if self.buffer.len() < total {
            return Ok(None);
        }
        let message = self.buffer.split_to(total).freeze();
        let (checked, mut crc) = message.split_at(total - CRC);
        if crc32fast::hash(checked) != crc.get_u32() {
            return Err(Broken("a message's checksum is wrong"));
        }
        let name = event_name(&message[PRELUDE..PRELUDE + headers])?;
        let payload = &message[PRELUDE + headers..total - CRC];
        let mut event = BytesMut::with_capacity(payload.len() + name.len() + 32);
        event.extend_from_slice(b"event: ");
        event.extend_from_slice(name.as_bytes());
        // A payload may be written over several lines.
        for line in payload.split(|byte| *byte == b'\n') {
            event.extend_from_slice(b"\ndata: ");
            event.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        }
        event.extend_from_slice(b"\n\n");
        Ok(Some(event.freeze()))
    }

    /// The lengths of the message that begins the buffer, checked before anything is waited for.
    fn lengths(&self) -> Result<Option<(usize, usize)>, Broken> {
        let Some(mut prelude) = self.buffer.get(..PRELUDE) else { return Ok(None) };
        let sum = crc32fast::hash(&prelude[..PRELUDE - CRC]);
        let (total, headers) = (prelude.get_u32() as usize, prelude.get_u32() as usize);
        if sum != prelude.get_u32() {
            return Err(Broken("the checksum of a message's lengths is wrong"));
        }
        if total > MAX_MESSAGE || headers > MAX_HEADERS {
            return Err(Broken("a message is longer than it may be"));
        }
        if total < PRELUDE + headers + CRC {
            return Err(Broken("a message's lengths contradict each other"));
        }
        Ok(Some((total, headers)))
    }
}

/// What the headers call a message.
fn event_name(mut headers: &[u8]) -> Result<String, Broken> {
    let (mut name, mut kind) = (None, None);
    while !headers.is_empty() {
        let length = headers.get_u8() as usize;
        let key = take(&mut headers, length)?;
        let value = value(&mut headers)?;
        match (key, value) {
            (b":message-type", Some(value)) => kind = Some(value),
            (b":event-type" | b":exception-type" | b":error-code", Some(value)) => name = Some(value),
            _ => {}
        }
    }
    let name = name.ok_or(Broken("a message has no name"))?;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte == b'-';
    if name.is_empty() || !name.iter().all(plain) {
        return Err(Broken("a message's name is none"));
    }
    let name = String::from_utf8_lossy(name);
    Ok(match kind {
        // An error of the transport is an exception to whoever reads.
        Some(b"error") => format!("{name}Exception"),
        _ => name.into_owned(),
    })
}

/// The value of a header; `None` when it is no text.
fn value<'a>(headers: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Broken> {
    let kind = *take(headers, 1)?.first().ok_or(Broken("a header is cut off"))?;
    let length = match kind {
        0 | 1 => 0,
        2 => 1,
        3 => 2,
        4 => 4,
        5 | 8 => 8,
        9 => 16,
        6 | 7 => usize::from(take(headers, 2)?.get_u16()),
        _ => return Err(Broken("a header has an unknown type")),
    };
    let value = take(headers, length)?;
    Ok((kind == 7).then_some(value))
}

fn take<'a>(from: &mut &'a [u8], length: usize) -> Result<&'a [u8], Broken> {
    let (taken, rest) = from.split_at_checked(length).ok_or(Broken("a header is cut off"))?;
    *from = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        for (name, value) in headers {
            all.push(name.len() as u8);
            all.extend_from_slice(name.as_bytes());
            all.push(7);
            all.extend_from_slice(&(value.len() as u16).to_be_bytes());
            all.extend_from_slice(value.as_bytes());
        }
        let mut out = Vec::new();
        out.extend_from_slice(&((PRELUDE + all.len() + payload.len() + CRC) as u32).to_be_bytes());
        out.extend_from_slice(&(all.len() as u32).to_be_bytes());
        out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
        out.extend_from_slice(&all);
        out.extend_from_slice(payload);
        out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
        out
    }

    fn event(name: &str, payload: &[u8]) -> Vec<u8> {
        let headers =
            [(":event-type", name), (":content-type", "application/json"), (":message-type", "event")];
        message(&headers, payload)
    }

    fn decode(chunks: &[&[u8]]) -> Result<Vec<Bytes>, Broken> {
        let (mut decoder, mut events) = (Decoder::default(), Vec::new());
        for chunk in chunks {
            decoder.push(chunk);
            while let Some(event) = decoder.next_event()? {
                events.push(event);
            }
        }
        Ok(events)
    }

    #[test]
    fn messages_become_events() {
        let exception = [(":exception-type", "throttlingException"), (":message-type", "exception")];
        let bytes = [
            event("messageStart", br#"{"role":"assistant"}"#),
            message(&exception, b"{\"message\":\n\"slow\"}"),
            message(&[(":error-code", "Internal"), (":message-type", "error")], b"{}"),
        ]
        .concat();
        let events = decode(&[&bytes]).unwrap();
        assert_eq!(&events[0][..], b"event: messageStart\ndata: {\"role\":\"assistant\"}\n\n");
        assert_eq!(&events[1][..], b"event: throttlingException\ndata: {\"message\":\ndata: \"slow\"}\n\n");
        assert_eq!(&events[2][..], b"event: InternalException\ndata: {}\n\n");
    }

    /// The example of AWS's documentation of the encoding, by way of botocore's own tests: an empty message.
    #[test]
    fn an_empty_message_has_the_known_bytes() {
        let known = [0, 0, 0, 0x10, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff];
        assert_eq!(message(&[], b""), known);
    }

    /// Mutation: the check of the prelude left out (then the length is waited for).
    #[test]
    fn what_is_broken_is_told_at_once() {
        let good = event("metadata", b"{}");
        let mut long = Vec::new();
        long.extend_from_slice(&u32::MAX.to_be_bytes());
        long.extend_from_slice(&0u32.to_be_bytes());
        long.extend_from_slice(&crc32fast::hash(&long).to_be_bytes());
        assert_eq!(decode(&[&long]), Err(Broken("a message is longer than it may be")));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(decode(&[&bad]).is_err(), "byte {at}");
        }
        assert!(decode(&[&message(&[], b"{}")]).is_err());
        assert!(decode(&[&event("a\nb", b"{}")]).is_err());
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(cuts in prop::collection::vec(0usize..200, 0..8)) {
            let bytes = [event("a", b"{\"x\":1}"), event("b", b"{}"), event("c", b"")].concat();
            let mut at: Vec<usize> = cuts.into_iter().map(|cut| cut % bytes.len()).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(decode(&chunks).unwrap(), decode(&[&bytes]).unwrap());
        }

        #[test]
        fn nonsense_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), prelude in any::<bool>()) {
            let bytes = match prelude {
                // Past the first check, so that the headers are read.
                true => {
                    let mut framed = ((PRELUDE + bytes.len() + CRC) as u32).to_be_bytes().to_vec();
                    framed.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                    framed.extend_from_slice(&crc32fast::hash(&framed).to_be_bytes());
                    framed.extend_from_slice(&bytes);
                    framed.extend_from_slice(&crc32fast::hash(&framed).to_be_bytes());
                    framed
                }
                false => bytes,
            };
            let _ = decode(&[&bytes]);
        }
    }
}
