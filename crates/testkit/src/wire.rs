//! Reading HTTP/1.1 messages (RFC 9112) from a socket, bounded, with nothing hidden.
//!
//! A library would repair or refuse what the tests need to see: the case and order of headers, the exact
//! body, whether the body ended by its framing or by the connection.

use std::io::{self, ErrorKind};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest message head that is read, in bytes.
const MAX_HEAD: usize = 256 * 1024;
/// The longest line of chunk framing that is read, in bytes.
const MAX_LINE: usize = 8 * 1024;
/// The longest body that is read, in bytes.
pub(crate) const MAX_BODY: usize = 256 * 1024 * 1024;

/// Headers in their order and case.
pub(crate) type Headers = Vec<(String, String)>;

/// The first header of this name, compared without case.
pub(crate) fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// The start line and headers of a message.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) start: String,
    pub(crate) headers: Headers,
}

/// How the bytes of a body are delimited, and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    UntilClose,
    Done,
}

impl Body {
    /// The framing that these headers announce; `otherwise` when they announce none.
    pub(crate) fn of(headers: &[(String, String)], otherwise: Body) -> io::Result<Body> {
        if let Some(coding) = header(headers, "transfer-encoding") {
            return match coding.trim().eq_ignore_ascii_case("chunked") {
                true => Ok(Body::ChunkSize),
                false => Err(invalid(format!("transfer-encoding {coding:?} is not known"))),
            };
        }
        match header(headers, "content-length") {
            None => Ok(otherwise),
            Some(length) => match length.trim().parse() {
                Ok(0) => Ok(Body::Done),
                Ok(length) => Ok(Body::Length(length)),
                Err(_) => Err(invalid(format!("content-length {length:?} is not a number"))),
            },
        }
    }
}

/// The bytes read and not yet consumed of one connection. Every method may be cancelled without loss.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    buffer: BytesMut,
}

impl Inbound {
    /// Reads once from the socket; 0 means that the peer closed its side.
    pub(crate) async fn fill(&mut self, socket: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        self.buffer.reserve(16 * 1024);
        socket.read_buf(&mut self.buffer).await
    }

    /// Everything read and not consumed.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.buffer
    }

    /// Returns when the peer has closed or broken the connection. What it sends meanwhile is kept, up to a bound.
    pub(crate) async fn closed(&mut self, socket: &mut (impl AsyncRead + Unpin)) {
        while self.buffer.len() <= MAX_HEAD {
            if matches!(self.fill(socket).await, Ok(0) | Err(_)) {
                return;
            }
        }
    }

    /// Reads a message head; `None` when the peer closed before its first byte.
    pub(crate) async fn head(&mut self, socket: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let text = self.buffer.split_to(end + 4);
                return parse_head(&text[..end]).map(Some);
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(invalid("the message head is too long".to_owned()));
            }
            if self.fill(socket).await? == 0 {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(eof("the peer closed within the message head")),
                };
            }
        }
    }

    /// Reads the next piece of a body and moves its state; `None` when the body is complete.
    pub(crate) async fn piece(
        &mut self,
        socket: &mut (impl AsyncRead + Unpin),
        body: &mut Body,
    ) -> io::Result<Option<Bytes>> {
        loop {
            match *body {
                Body::Done => return Ok(None),
                Body::UntilClose => {
                    if self.buffer.is_empty() && self.fill(socket).await? == 0 {
                        *body = Body::Done;
                        return Ok(None);
                    }
                    return Ok(Some(self.buffer.split().freeze()));
                }
                Body::Length(left) | Body::ChunkData(left) => {
                    if self.buffer.is_empty() && self.fill(socket).await? == 0 {
                        return Err(eof("the peer closed within the body"));
                    }
                    let take = left.min(self.buffer.len() as u64);
                    let chunked = matches!(body, Body::ChunkData(_));
                    *body = match (left - take, chunked) {
                        (0, true) => Body::ChunkEnd,
                        (0, false) => Body::Done,
                        (left, true) => Body::ChunkData(left),
                        (left, false) => Body::Length(left),
                    };
                    let take = usize::try_from(take).unwrap_or(usize::MAX);
                    return Ok(Some(self.buffer.split_to(take).freeze()));
                }
                Body::ChunkSize => {
                    let line = self.line(socket).await?;
                    let size = line.split(';').next().unwrap_or_default().trim();
                    *body = match u64::from_str_radix(size, 16) {
                        Ok(0) => Body::Trailers,
                        Ok(size) => Body::ChunkData(size),
                        Err(_) => return Err(invalid(format!("{line:?} is not a chunk size"))),
                    };
                }
                Body::ChunkEnd => match self.line(socket).await?.as_str() {
                    "" => *body = Body::ChunkSize,
                    other => return Err(invalid(format!("a chunk is followed by {other:?}"))),
                },
                Body::Trailers => {
                    if self.line(socket).await?.is_empty() {
                        *body = Body::Done;
                    }
                }
            }
        }
    }

    /// Reads a whole body. The bytes read so far stay in `into` when it fails.
    pub(crate) async fn body(
        &mut self,
        socket: &mut (impl AsyncRead + Unpin),
        body: &mut Body,
        into: &mut Vec<u8>,
    ) -> io::Result<()> {
        while let Some(piece) = self.piece(socket, body).await? {
            into.extend_from_slice(&piece);
            if into.len() > MAX_BODY {
                return Err(invalid("the body is too long".to_owned()));
            }
        }
        Ok(())
    }

    async fn line(&mut self, socket: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.advance(end + 2);
                return Ok(line);
            }
            if self.buffer.len() > MAX_LINE {
                return Err(invalid("a line of the chunk framing is too long".to_owned()));
            }
            if self.fill(socket).await? == 0 {
                return Err(eof("the peer closed before the end of the chunked body"));
            }
        }
    }
}

fn parse_head(text: &[u8]) -> io::Result<Head> {
    let text = std::str::from_utf8(text).map_err(|_| invalid("the message head is not UTF-8".to_owned()))?;
    let mut lines = text.split("\r\n");
    let start = lines.next().unwrap_or_default().to_owned();
    let mut headers = Headers::new();
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            return Err(invalid(format!("the header line {line:?} has no colon")));
        };
        headers.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
    Ok(Head { start, headers })
}

/// Where `needle` begins in `hay`.
pub(crate) fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}

fn invalid(message: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, message)
}

fn eof(message: &str) -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, message)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Reads one message that arrives in two writes, cut at `at`, on a pipe of 3 bytes.
    async fn read_split(message: &[u8], at: usize) -> io::Result<(Head, Vec<u8>, Vec<u8>)> {
        let (mut ours, mut theirs) = tokio::io::duplex(3);
        let write = async {
            ours.write_all(&message[..at]).await?;
            ours.flush().await?;
            ours.write_all(&message[at..]).await?;
            ours.shutdown().await
        };
        let read = async {
            let mut inbound = Inbound::default();
            let head = inbound.head(&mut theirs).await?.expect("a head");
            let mut body = Vec::new();
            let mut framing = Body::of(&head.headers, Body::UntilClose)?;
            inbound.body(&mut theirs, &mut framing, &mut body).await?;
            while inbound.fill(&mut theirs).await? > 0 {}
            Ok((head, body, inbound.pending().to_vec()))
        };
        let (written, read) = tokio::join!(write, read);
        written?;
        read
    }

    #[tokio::test]
    async fn a_body_is_the_same_wherever_it_is_split() {
        for message in [
            &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab\n\r\n2;e=1\r\ncd\r\n0\r\nT: 1\r\n\r\nrest"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab\ncdrest",
        ] {
            for at in 0..=message.len() {
                let (head, body, rest) = read_split(message, at).await.unwrap();
                assert_eq!((head.start.as_str(), head.headers.len()), ("HTTP/1.1 200 OK", 1), "at {at}");
                assert_eq!((body.as_slice(), rest.as_slice()), (&b"ab\ncd"[..], &b"rest"[..]), "at {at}");
            }
        }
    }

    #[tokio::test]
    async fn a_body_that_ends_early_is_an_error() {
        for message in [
            &b"X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"[..],
            b"X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
            b"X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            b"X\r\ncontent-length: 3\r\n\r\nab",
        ] {
            let error = read_split(message, 0).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{}", message.escape_ascii());
        }
    }

    #[tokio::test]
    async fn endless_heads_and_lines_are_bounded() {
        let mut endless = tokio::io::repeat(b'a');
        assert_eq!(Inbound::default().head(&mut endless).await.unwrap_err().kind(), ErrorKind::InvalidData);
        let mut chunk = Body::ChunkSize;
        let error = Inbound::default().piece(&mut endless, &mut chunk).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    }
}
