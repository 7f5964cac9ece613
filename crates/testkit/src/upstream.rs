//! The fake provider: accepts connections, records requests, plays its script.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::SockRef;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::ask::Ask;
use crate::behaviour::Behaviour;
use crate::reply::{Ending, Reply};
use crate::server::{Gate, Server};
use crate::wire::{self, Body, Inbound};

/// How far apart the pieces of a split answer are written.
const SPLIT_PAUSE: Duration = Duration::from_micros(100);
/// How long the fake may take to close its idle connections.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// The method.
    pub method: String,
    /// The request target: path and query.
    pub path: String,
    /// The headers in their order and case.
    pub headers: Vec<(String, String)>,
    /// The body without framing, byte for byte.
    pub body: Vec<u8>,
    /// When its head had arrived.
    pub at: Instant,
    /// Which connection it came on, counted from 0.
    pub connection: usize,
}

impl Received {
    /// The first header of this name, compared without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        wire::header(&self.headers, name)
    }

    /// The body as JSON. Panics when it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the request body is JSON")
    }

    /// The body as text, with broken UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

#[derive(Debug)]
struct State {
    script: VecDeque<Behaviour>,
    default: Behaviour,
    requests: Vec<Received>,
    cancelled: usize,
    completed: usize,
    accepted: usize,
    open: usize,
    busy: usize,
    protocol_errors: Vec<String>,
}

/// The state, which is also the channel on which changes to it are heard.
type Shared = Arc<watch::Sender<State>>;

/// A fake provider of OpenAI's API on 127.0.0.1. It stops when it is dropped.
#[derive(Debug)]
pub struct Upstream {
    server: Server,
    state: Shared,
}

impl Upstream {
    /// Starts on a free port; every request is answered by [`Behaviour::ok`] until told otherwise.
    pub fn start() -> Upstream {
        let state: Shared = Arc::new(watch::Sender::new(State {
            script: VecDeque::new(),
            default: Behaviour::ok(),
            requests: Vec::new(),
            cancelled: 0,
            completed: 0,
            accepted: 0,
            open: 0,
            busy: 0,
            protocol_errors: Vec::new(),
        }));
        let shared = state.clone();
        let server =
            Server::start("testkit-upstream", move |stream, gate| serve(stream, gate, shared.clone()));
        Upstream { server, state }
    }

    /// Where the API is: `http://127.0.0.1:PORT/v1`.
    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port())
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Adds behaviours to the script: each answers one request, in the order in which requests are complete.
    pub fn script(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.state.send_modify(|state| state.script.extend(behaviours));
    }

    /// What answers when the script is used up.
    pub fn set_default(&self, behaviour: Behaviour) {
        self.state.send_modify(|state| state.default = behaviour);
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Received> {
        self.state.borrow().requests.clone()
    }

    /// How many exchanges the peer left before the answer was complete.
    pub fn cancelled(&self) -> usize {
        self.state.borrow().cancelled
    }

    /// How many exchanges were played to the end of their behaviour, faults included.
    pub fn completed(&self) -> usize {
        self.state.borrow().completed
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.state.borrow().accepted
    }

    /// How many connections are open now.
    pub fn open_connections(&self) -> usize {
        self.state.borrow().open
    }

    /// Requests that were not HTTP/1.1, or were not sent to their end.
    pub fn protocol_errors(&self) -> Vec<String> {
        self.state.borrow().protocol_errors.clone()
    }

    /// Waits until `n` requests have arrived in all, and returns them. Panics after `timeout`.
    pub async fn wait_for_requests(&self, n: usize, timeout: Duration) -> Vec<Received> {
        self.wait(timeout, &format!("{n} requests"), |state| state.requests.len() >= n).await;
        self.requests()
    }

    /// Waits until `n` exchanges in all were left by the peer. Panics after `timeout`.
    pub async fn wait_for_cancelled(&self, n: usize, timeout: Duration) {
        self.wait(timeout, &format!("{n} cancelled exchanges"), |state| state.cancelled >= n).await;
    }

    /// Waits until `n` exchanges in all were played to their end. Panics after `timeout`.
    pub async fn wait_for_completed(&self, n: usize, timeout: Duration) {
        self.wait(timeout, &format!("{n} complete exchanges"), |state| state.completed >= n).await;
    }

    /// Waits until exactly `n` connections are open. Panics after `timeout`.
    pub async fn wait_for_open_connections(&self, n: usize, timeout: Duration) {
        self.wait(timeout, &format!("{n} open connections"), |state| state.open == n).await;
    }

    /// Refuses connections and closes the idle ones; exchanges under way go on and close when they end.
    /// The port stays reserved.
    pub fn stop_listening(&self) {
        self.server.listen(false);
        let started = Instant::now();
        while self.idle() > 0 {
            assert!(started.elapsed() < CLOSE_LIMIT, "the fake did not close its idle connections");
            thread::yield_now();
        }
    }

    /// Accepts connections again, on the same port.
    pub fn resume_listening(&self) {
        self.server.listen(true);
    }

    fn idle(&self) -> usize {
        let state = self.state.borrow();
        state.open.saturating_sub(state.busy)
    }

    async fn wait(&self, timeout: Duration, what: &str, done: impl FnMut(&State) -> bool) {
        let mut changes = self.state.subscribe();
        let reached = tokio::time::timeout(timeout, changes.wait_for(done)).await.is_ok();
        assert!(reached, "waited {timeout:?} for {what}; the upstream has {}", self.summary());
    }

    fn summary(&self) -> String {
        let state = self.state.borrow();
        format!(
            "{} requests, {} cancelled, {} completed, {} connections of which {} open, protocol errors {:?}",
            state.requests.len(),
            state.cancelled,
            state.completed,
            state.accepted,
            state.open,
            state.protocol_errors
        )
    }
}

/// A connection and its place in the count. The socket is declared first, so it is closed before it is discounted.
struct Connection {
    stream: TcpStream,
    counted: Counted,
}

struct Counted(Shared);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|state| state.open -= 1);
    }
}

/// How an exchange went.
enum Outcome {
    Played,
    PeerGone,
}

async fn serve(stream: TcpStream, mut gate: Gate, shared: Shared) {
    shared.send_modify(|state| {
        state.accepted += 1;
        state.open += 1;
    });
    let id = shared.borrow().accepted - 1;
    let mut connection = Connection { stream, counted: Counted(shared) };
    let mut inbound = Inbound::default();
    loop {
        let read = tokio::select! {
            () = closed(&mut gate) => return,
            read = read_request(&mut inbound, &mut connection.stream, id) => read,
        };
        let shared = &connection.counted.0;
        let received = match read {
            Ok(Some(received)) => received,
            Ok(None) => return,
            Err(error) => {
                shared.send_modify(|state| state.protocol_errors.push(error.to_string()));
                let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                // The peer may be gone already; the error is recorded either way.
                let _ = connection.stream.write_all(answer).await;
                return;
            }
        };
        let last = received.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let ask = Ask::of(&received.path, &received.body);
        let ask = Ask { delete: received.method == "DELETE", ..ask };
        let mut behaviour = None;
        shared.send_modify(|state| {
            behaviour = Some(state.script.pop_front().unwrap_or_else(|| state.default.clone()));
            state.requests.push(received);
            state.busy += 1;
        });
        let reply = behaviour.expect("a behaviour was taken").reply(&ask);
        let outcome = exchange(&mut connection.stream, &mut inbound, &reply).await;
        let over = last || reply.ending != Ending::Complete || matches!(outcome, Outcome::PeerGone);
        if reply.ending == Ending::Reset {
            SockRef::from(&connection.stream).set_linger(Some(Duration::ZERO)).expect("set SO_LINGER");
        }
        let count = |state: &mut State| {
            state.busy -= 1;
            match outcome {
                Outcome::Played => state.completed += 1,
                Outcome::PeerGone => state.cancelled += 1,
            }
        };
        if over {
            // Close first, so that who waits for the end of the exchange finds the connection closed.
            let Connection { stream, counted } = connection;
            drop(stream);
            counted.0.send_modify(count);
            return;
        }
        shared.send_modify(count);
    }
}

async fn closed(gate: &mut Gate) {
    // An error means that the whole fake is stopping, which closes the connection as well.
    let _ = gate.wait_for(|open| !open).await.is_ok();
}

pub(crate) async fn read_request(
    inbound: &mut Inbound,
    stream: &mut TcpStream,
    connection: usize,
) -> io::Result<Option<Received>> {
    let Some(head) = inbound.head(stream).await? else { return Ok(None) };
    let at = Instant::now();
    let mut parts = head.start.split(' ');
    let (Some(method), Some(path), Some("HTTP/1.1"), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("request line {:?}", head.start)));
    };
    let (method, path) = (method.to_owned(), path.to_owned());
    let mut body = Vec::new();
    let mut framing = Body::of(&head.headers, Body::Done)?;
    inbound.body(stream, &mut framing, &mut body).await?;
    Ok(Some(Received { method, path, headers: head.headers, body, at, connection }))
}

/// Plays the answer, and watches meanwhile whether the peer leaves.
async fn exchange(stream: &mut TcpStream, inbound: &mut Inbound, reply: &Reply) -> Outcome {
    let (mut reader, mut writer) = stream.split();
    let answer = async {
        play(&mut writer, reply).await?;
        match reply.ending {
            Ending::Silence => std::future::pending().await,
            _ => Ok::<(), io::Error>(()),
        }
    };
    tokio::select! {
        biased;
        answered = answer => match answered {
            Ok(()) => Outcome::Played,
            Err(_) => Outcome::PeerGone,
        },
        () = inbound.closed(&mut reader) => Outcome::PeerGone,
    }
}

async fn play(writer: &mut (impl AsyncWrite + Unpin), reply: &Reply) -> io::Result<()> {
    let mut writer = Splitter { writer, sizes: reply.splits.iter().cycle() };
    pause(reply.delay).await;
    writer.write(&reply.head()).await?;
    for piece in &reply.pieces {
        pause(piece.after).await;
        writer.write(&reply.frame(piece)).await?;
    }
    writer.write(reply.terminator()).await
}

async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

/// Writes in pieces of the sizes that are next in turn.
struct Splitter<'a, W, I> {
    writer: &'a mut W,
    sizes: I,
}

impl<'s, W: AsyncWrite + Unpin, I: Iterator<Item = &'s usize>> Splitter<'_, W, I> {
    async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let size = self.sizes.next().map_or(bytes.len(), |size| bytes.len().min(*size));
            let (now, later) = bytes.split_at(size);
            self.writer.write_all(now).await?;
            self.writer.flush().await?;
            bytes = later;
            if !bytes.is_empty() {
                // The runtime's timer counts in milliseconds; this thread serves only the fake and may block.
                thread::sleep(SPLIT_PAUSE);
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
