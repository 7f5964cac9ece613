//! A client that shows what was on the wire: exact bytes, and how the body ended.
//!
//! Each call opens a connection of its own. It panics when there is no answer, for a test has nothing to do then;
//! the calls named `try_` return the error instead.

use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::wire::{self, Body, Headers, Inbound};

/// How long a call may take in all, when it does not say otherwise.
const LIMIT: Duration = Duration::from_secs(30);
/// How long [`Client::raw`] waits for more bytes.
const RAW_IDLE: Duration = Duration::from_secs(2);

/// A client of one server.
#[derive(Debug, Clone)]
pub struct Client {
    authority: String,
    prefix: String,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers in their order and case.
    pub headers: Vec<(String, String)>,
    /// The body without framing, byte for byte.
    pub body: Vec<u8>,
    /// Whether the body ended as its framing says; false when the connection ended within it.
    pub complete: bool,
}

impl Response {
    /// The first header of this name, compared without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        wire::header(&self.headers, name)
    }

    /// The body as text. Panics when it is not UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    /// The body as JSON. Panics when it is not JSON.
    pub fn json(&self) -> Value {
        let json = serde_json::from_slice(&self.body);
        json.unwrap_or_else(|error| {
            panic!("the body is not JSON ({error}): {:?}", String::from_utf8_lossy(&self.body))
        })
    }
}

impl Client {
    /// A client for `http://HOST:PORT`, with a path that is put before every other, if there is one.
    /// Panics when the address does not start with `http://`.
    pub fn new(base_url: impl AsRef<str>) -> Client {
        let rest = base_url.as_ref().strip_prefix("http://").expect("an address that starts with http://");
        let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
        Client { authority: authority.to_owned(), prefix }
    }

    /// Posts a JSON body and reads the whole answer.
    pub async fn post_json(&self, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Response {
        self.must("POST", path, &json_headers(headers), body.as_ref()).await
    }

    /// Gets a path and reads the whole answer.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.must("GET", path, headers, b"").await
    }

    /// Sends any request and reads the whole answer; nothing is added but `host` and `content-length`.
    /// Fails when the connection fails or ends before the head of an answer, or after 30 s.
    pub async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Response> {
        let whole = async {
            let stream = self.open(&self.request(method, path, headers, body)).await?;
            Ok(stream.into_response(LIMIT).await)
        };
        timeout(LIMIT, whole).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Posts a JSON body and returns when the head of the answer has arrived. Panics when none arrives.
    pub async fn stream(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> StreamResponse {
        let request = self.request("POST", path, &json_headers(headers), body.as_ref());
        match timeout(LIMIT, self.open(&request)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => panic!("POST {path}: {error}"),
            Err(_) => panic!("POST {path}: no answer in {LIMIT:?}"),
        }
    }

    /// Writes any bytes and returns all that comes back, until the server closes or is silent for 2 s.
    pub async fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        self.raw_for(bytes, RAW_IDLE).await
    }

    /// Writes any bytes and returns all that comes back, until the server closes or is silent for `idle`.
    pub async fn raw_for(&self, bytes: &[u8], idle: Duration) -> Vec<u8> {
        let mut stream = self.connect().await.expect("connect");
        let (mut reader, mut writer) = stream.split();
        let mut all = Vec::new();
        let read = async { while let Ok(Ok(1..)) = timeout(idle, reader.read_buf(&mut all)).await {} };
        tokio::select! {
            () = read => {}
            () = write_then_wait(&mut writer, bytes) => {}
        }
        all
    }

    /// A connection on which nothing is sent yet, with `TCP_NODELAY` set.
    pub async fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(&self.authority).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn must(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        match self.try_send(method, path, headers, body).await {
            Ok(response) => response,
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }

    fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let mut head = format!("{method} {}{path} HTTP/1.1\r\nhost: {}\r\n", self.prefix, self.authority);
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || method == "POST" {
            head += &format!("content-length: {}\r\n", body.len());
        }
        head += "\r\n";
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        request
    }

    async fn open(&self, request: &[u8]) -> io::Result<StreamResponse> {
        let mut stream = self.connect().await?;
        let mut inbound = Inbound::default();
        let (mut reader, mut writer) = stream.split();
        // A server may answer and close before it has read the request: the answer counts, not the failed write.
        let head = tokio::select! {
            head = inbound.head(&mut reader) => head?,
            () = write_then_wait(&mut writer, request) => None,
        };
        let head =
            head.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "closed without an answer"))?;
        let status = head.start.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("status line {:?}", head.start))
        })?;
        let bodiless = status == 204 || status == 304;
        let framing = if bodiless { Body::Done } else { Body::of(&head.headers, Body::UntilClose)? };
        let complete = framing == Body::Done;
        Ok(StreamResponse {
            status,
            headers: head.headers,
            stream,
            inbound,
            framing,
            received: Vec::new(),
            taken: 0,
            searched: 0,
            end: complete.then_some(true),
        })
    }
}

/// Writes, then never returns: the reading side decides when the exchange is over.
async fn write_then_wait(writer: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8]) {
    // What matters of a failed write is what the server said before it closed; the reading side sees that.
    let _ = writer.write_all(bytes).await;
    std::future::pending::<()>().await;
}

fn json_headers<'a>(headers: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut all = headers.to_vec();
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        all.push(("content-type", "application/json"));
    }
    all
}

/// An answer whose body is read as it comes.
#[derive(Debug)]
pub struct StreamResponse {
    /// The status code.
    pub status: u16,
    /// The headers in their order and case.
    pub headers: Headers,
    stream: TcpStream,
    inbound: Inbound,
    framing: Body,
    received: Vec<u8>,
    taken: usize,
    /// How far the body was searched for the end of an event, so that a long event is searched once.
    searched: usize,
    /// Whether the body ended well, once it has ended.
    end: Option<bool>,
}

impl StreamResponse {
    /// The first header of this name, compared without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        wire::header(&self.headers, name)
    }

    /// The text of the next server-sent event without the blank line after it; `None` when the body has ended.
    /// Panics when `limit` passes first.
    pub async fn next_event(&mut self, limit: Duration) -> Option<String> {
        match timeout(limit, self.event()).await {
            Ok(event) => event,
            Err(_) => panic!("no event in {limit:?}, after {:?}", String::from_utf8_lossy(&self.received)),
        }
    }

    /// All events that are left. Panics when the body has not ended within `limit`.
    pub async fn collect(&mut self, limit: Duration) -> Vec<String> {
        let mut events = Vec::new();
        let all = async {
            while let Some(event) = self.event().await {
                events.push(event);
            }
        };
        let ended = timeout(limit, all).await.is_ok();
        assert!(ended, "the body did not end in {limit:?}, after {events:?}");
        events
    }

    /// Reads to the end, for an answer that is not a stream. Panics when the body has not ended within `limit`.
    pub async fn into_response(mut self, limit: Duration) -> Response {
        let ended = timeout(limit, async { while self.more().await {} }).await.is_ok();
        assert!(ended, "the body did not end in {limit:?}, after {} bytes", self.received.len());
        let complete = self.ended_cleanly();
        Response { status: self.status, headers: self.headers, body: self.received, complete }
    }

    /// Whether the body has ended as its framing says: by its length or its terminating chunk.
    pub fn ended_cleanly(&self) -> bool {
        self.end == Some(true)
    }

    /// Whether the connection broke within the body.
    pub fn broken(&self) -> bool {
        self.end == Some(false)
    }

    /// The body so far, byte for byte.
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// The bytes after the last complete event: a part of one that broke off.
    pub fn leftover(&self) -> &[u8] {
        &self.received[self.taken..]
    }

    /// The bytes that the server sent after the end of the body.
    pub fn surplus(&self) -> &[u8] {
        self.inbound.pending()
    }

    /// Leaves: closes the connection at once.
    pub fn abort(self) {
        drop(self.stream);
    }

    async fn event(&mut self) -> Option<String> {
        loop {
            // A blank line may have begun in what was searched before.
            let from = self.searched.saturating_sub(3).max(self.taken);
            let rest = &self.received[from..];
            let lf = wire::find(rest, b"\n\n").map(|at| (from + at, 2));
            let crlf = wire::find(rest, b"\r\n\r\n").map(|at| (from + at, 4));
            self.searched = self.received.len();
            if let Some((end, blank)) = [lf, crlf].into_iter().flatten().min() {
                let event = String::from_utf8(self.received[self.taken..end].to_vec());
                self.taken = end + blank;
                self.searched = self.taken;
                return Some(event.expect("an event is UTF-8"));
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Reads more of the body; false when it has ended.
    async fn more(&mut self) -> bool {
        if self.end.is_some() {
            return false;
        }
        match self.inbound.piece(&mut self.stream, &mut self.framing).await {
            Ok(Some(piece)) => self.received.extend_from_slice(&piece),
            Ok(None) => self.end = Some(true),
            Err(_) => self.end = Some(false),
        }
        self.end.is_none()
    }
}

#[cfg(test)]
mod tests;
