//! An answer down to its bytes: head, pieces with pauses, and how it ends.

use std::time::Duration;

use bytes::Bytes;

/// How the body is delimited on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// `content-length` of the pieces together.
    Length,
    /// A `content-length` that may be a lie, in bytes.
    Declared(usize),
    /// `transfer-encoding: chunked`, one chunk for each piece.
    Chunked,
    /// No head at all: the pieces are written as they are.
    Raw,
}

/// What happens after the last piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// A chunked body is terminated, and the connection serves the next request.
    Complete,
    /// The connection is closed (FIN) with no terminating chunk.
    Close,
    /// The connection is reset (RST).
    Reset,
    /// Nothing more is sent until the peer closes.
    Silence,
}

/// Some bytes of the body, written at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The pause before it.
    pub after: Duration,
    /// The bytes, without framing.
    pub bytes: Bytes,
}

impl Piece {
    /// A piece that is sent at once.
    pub fn now(bytes: impl Into<Bytes>) -> Piece {
        Piece { after: Duration::ZERO, bytes: bytes.into() }
    }
}

/// An answer to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The headers, without those of the framing.
    pub headers: Vec<(String, String)>,
    /// How the body is delimited.
    pub framing: Framing,
    /// The body.
    pub pieces: Vec<Piece>,
    /// What happens after the last piece.
    pub ending: Ending,
    /// The pause before the first byte.
    pub delay: Duration,
    /// Sizes in bytes into which all writes are split, repeated in turn; empty for no split.
    pub splits: Vec<usize>,
}

impl Reply {
    /// A whole body with its length.
    pub fn whole(status: u16, content_type: &str, body: impl Into<Bytes>) -> Reply {
        Reply {
            status,
            headers: vec![
                ("content-type".to_owned(), content_type.to_owned()),
                ("x-request-id".to_owned(), crate::chat::REQUEST_ID.to_owned()),
            ],
            framing: Framing::Length,
            pieces: vec![Piece::now(body)],
            ending: Ending::Complete,
            delay: Duration::ZERO,
            splits: Vec::new(),
        }
    }

    /// A stream of server-sent events, one HTTP chunk each; the blank line after each event is added.
    pub fn events(events: impl IntoIterator<Item = String>) -> Reply {
        let pieces = events.into_iter().map(|event| Piece::now(event + "\n\n")).collect();
        let mut reply = Reply::whole(200, "text/event-stream; charset=utf-8", Bytes::new());
        reply.headers.push(("cache-control".to_owned(), "no-cache".to_owned()));
        Reply { framing: Framing::Chunked, pieces, ..reply }
    }

    /// Nothing is sent; the connection ends like this.
    pub fn nothing(ending: Ending) -> Reply {
        Reply { framing: Framing::Raw, pieces: Vec::new(), ending, ..Reply::whole(0, "", Bytes::new()) }
    }

    /// Sets a header, in place of one of the same name.
    pub fn set_header(&mut self, name: &str, value: &str) {
        self.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    /// The body, without framing.
    pub fn body(&self) -> Vec<u8> {
        self.pieces.iter().flat_map(|piece| piece.bytes.iter().copied()).collect()
    }

    /// The head as written, or nothing for a raw answer.
    pub fn head(&self) -> Vec<u8> {
        let framing = match self.framing {
            Framing::Raw => return Vec::new(),
            Framing::Length => format!("content-length: {}", self.body().len()),
            Framing::Declared(length) => format!("content-length: {length}"),
            Framing::Chunked => "transfer-encoding: chunked".to_owned(),
        };
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &framing;
        head += "\r\n\r\n";
        head.into_bytes()
    }

    /// A piece as written, with its framing.
    pub fn frame(&self, piece: &Piece) -> Vec<u8> {
        if self.framing != Framing::Chunked || piece.bytes.is_empty() {
            return piece.bytes.to_vec();
        }
        let mut framed = format!("{:x}\r\n", piece.bytes.len()).into_bytes();
        framed.extend_from_slice(&piece.bytes);
        framed.extend_from_slice(b"\r\n");
        framed
    }

    /// What closes the body on the wire: the terminating chunk of a complete chunked body, or nothing.
    pub fn terminator(&self) -> &'static [u8] {
        match (self.framing, self.ending) {
            (Framing::Chunked, Ending::Complete) => b"0\r\n\r\n",
            _ => b"",
        }
    }

    /// Every byte that is written, in order.
    pub fn bytes(&self) -> Vec<u8> {
        let mut all = self.head();
        for piece in &self.pieces {
            all.extend(self.frame(piece));
        }
        all.extend_from_slice(self.terminator());
        all
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}
