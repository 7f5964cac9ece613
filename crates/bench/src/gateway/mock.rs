//! A provider that answers at once: one thread, a hand-written HTTP/1.1 loop, answers made before it starts.
//!
//! It must cost far less than what is measured against it, since it shares the machine. It knows one path, and
//! refuses what the benchmark never sends.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::fixtures;
use super::reply::{find, header};
use crate::Outcome;

/// How the mock runs.
#[derive(clap::Args)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    #[arg(long)]
    pub listen: SocketAddr,
    /// Gets the address once it listens.
    #[arg(long)]
    pub ready_file: PathBuf,
    /// Microseconds between the chunks of a stream.
    #[arg(long, default_value_t = 0)]
    pub chunk_delay_us: u64,
    /// Milliseconds between the chunks of a stream from the model "slow".
    #[arg(long, default_value_t = 200)]
    pub slow_delay_ms: u64,
}

/// Serves until standard input closes, which it does when the process that started us ends, however it ends.
pub fn run(options: &Options) -> Outcome<()> {
    let (closed, parent_gone) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = io::stdin().lock().read_to_end(&mut Vec::new());
        let _ = closed.send(());
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let listener = TcpListener::bind(options.listen).await.map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let partial = options.ready_file.with_extension("partial");
        std::fs::write(&partial, address.to_string())
            .and_then(|()| std::fs::rename(&partial, &options.ready_file))
            .map_err(|error| format!("cannot write {}: {error}", options.ready_file.display()))?;
        let script = Script::new(
            Duration::from_micros(options.chunk_delay_us),
            Duration::from_millis(options.slow_delay_ms),
        );
        tokio::select! {
            _ = parent_gone => {}
            () = serve(listener, script) => {}
        }
        Ok(())
    })
}

/// Every byte the mock can answer, made once.
pub struct Script {
    answer: Vec<u8>,
    /// What is written, piece by piece, for a stream without usage and with it.
    streams: [Vec<Vec<u8>>; 2],
    delay: Duration,
    slow_delay: Duration,
}

impl Script {
    /// Answers with `delay` between the chunks of a stream, `slow_delay` for the model "slow".
    pub fn new(delay: Duration, slow_delay: Duration) -> Self {
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
            fixtures::ANSWER.len(),
            fixtures::ANSWER
        );
        Script { answer: answer.into_bytes(), streams: [pieces(false), pieces(true)], delay, slow_delay }
    }
}

/// A stream as it is written: the head with the first chunk, each further chunk, the end.
fn pieces(usage: bool) -> Vec<Vec<u8>> {
    let mut events = fixtures::events();
    events.extend(usage.then(fixtures::usage));
    events.push(fixtures::done().to_owned());
    let mut pieces: Vec<String> =
        events.iter().map(|event| format!("{:x}\r\n{event}\r\n", event.len())).collect();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
                transfer-encoding: chunked\r\n\r\n";
    pieces[0].insert_str(0, head);
    if let Some(last) = pieces.last_mut() {
        last.push_str("0\r\n\r\n");
    }
    pieces.into_iter().map(String::into_bytes).collect()
}

/// Answers every connection of `listener`.
pub async fn serve(listener: TcpListener, script: Script) {
    let script = Arc::new(script);
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                let script = Arc::clone(&script);
                // A connection that breaks is the other side's failure, and is seen and told there.
                tokio::spawn(async move { connection(socket, &script).await.unwrap_or_default() });
            }
            // Out of file descriptors, or the peer gave up: the connections we have go on.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn connection(mut socket: TcpStream, script: &Script) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(16 << 10);
    loop {
        let (wanted, end) = loop {
            if let Some(request) = parse(&buffer) {
                break request;
            }
            if buffer.len() > 1 << 20 || socket.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        match wanted {
            Wanted::Chat => socket.write_all(&script.answer).await?,
            Wanted::Stream { usage, slow } => {
                let delay = if slow { script.slow_delay } else { script.delay };
                stream(&mut socket, &script.streams[usize::from(usage)], delay).await?;
            }
            Wanted::Unknown => {
                let refusal = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                return socket.write_all(refusal.as_bytes()).await;
            }
        }
        buffer.drain(..end);
    }
}

async fn stream(socket: &mut TcpStream, pieces: &[Vec<u8>], delay: Duration) -> io::Result<()> {
    for (index, piece) in pieces.iter().enumerate() {
        if index > 0 && !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        socket.write_all(piece).await?;
    }
    Ok(())
}

#[derive(Debug, PartialEq)]
enum Wanted {
    Chat,
    Stream { usage: bool, slow: bool },
    Unknown,
}

/// The first request in `buffer` and where it ends; `None` while it is incomplete.
fn parse(buffer: &[u8]) -> Option<(Wanted, usize)> {
    let body_at = find(buffer, b"\r\n\r\n")? + 4;
    let head = &buffer[..body_at - 4];
    let length: Option<usize> =
        header(head, b"content-length").and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
    let known = head.starts_with(b"POST /v1/chat/completions HTTP/1.1");
    let (true, Some(length)) = (known, length) else { return Some((Wanted::Unknown, buffer.len())) };
    let body = buffer.get(body_at..body_at.checked_add(length)?)?;
    let wanted = if truthy(body, b"\"stream\"") {
        Wanted::Stream { usage: truthy(body, b"\"include_usage\""), slow: find(body, b"\"slow\"").is_some() }
    } else {
        Wanted::Chat
    };
    Some((wanted, body_at + length))
}

/// Whether the member `name` (with its quotes) is `true`. Enough for bodies whose texts hold no such words.
fn truthy(body: &[u8], name: &[u8]) -> bool {
    let Some(at) = find(body, name) else { return false };
    let value = body[at + name.len()..].trim_ascii_start().strip_prefix(b":").unwrap_or_default();
    value.trim_ascii_start().starts_with(b"true")
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::Exchanges;
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        let exchanges = Exchanges::new("k");
        let end = exchanges.chat.request.len();
        assert_eq!(parse(&exchanges.chat.request), Some((Wanted::Chat, end)));
        assert_eq!(parse(&exchanges.chat.request[..end - 1]), None);
        let plain = Wanted::Stream { usage: false, slow: false };
        assert_eq!(parse(&exchanges.stream.request).map(|(wanted, _)| wanted), Some(plain));
        let slow = Wanted::Stream { usage: false, slow: true };
        assert_eq!(parse(&exchanges.slow.request).map(|(wanted, _)| wanted), Some(slow));
        let body = r#"{"stream": true,"stream_options":{"include_usage": true}}"#;
        let request =
            format!("POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let usage = Wanted::Stream { usage: true, slow: false };
        assert_eq!(parse(request.as_bytes()).map(|(wanted, _)| wanted), Some(usage));
        let other = b"GET /v1/models HTTP/1.1\r\n\r\n";
        assert_eq!(parse(other), Some((Wanted::Unknown, other.len())));
    }

    #[test]
    fn the_usage_chunk_comes_only_when_asked_for() {
        let text = |usage| String::from_utf8(pieces(usage).concat()).unwrap();
        assert!(!text(false).contains("prompt_tokens"));
        assert!(text(true).contains("prompt_tokens"));
        assert_eq!(pieces(true).len(), fixtures::CHUNKS + 2);
    }
}
