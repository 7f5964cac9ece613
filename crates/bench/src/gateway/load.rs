//! The load generator: precomputed requests on connections that stay open, every answer compared.
//!
//! It shares the machine with what it measures, so it does no more than it must: one connection is a blocking
//! socket, many are tasks of one thread. Comparing an answer comes after its time was taken.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::fixtures::Exchange;
use super::reply::Reply;
use crate::Outcome;

/// No answer may take longer: the run is over by then, whatever the figures.
pub const PATIENCE: Duration = Duration::from_secs(30);
const BUFFER: usize = 16 << 10;

/// What a load gave.
#[derive(Debug, Default)]
pub struct Run {
    /// Nanoseconds from sending a request to the first content of its answer.
    pub first: Vec<u64>,
    /// Nanoseconds from sending a request to the last byte of its answer.
    pub last: Vec<u64>,
    /// Requests sent and answered rightly, those that only warmed up included.
    pub sent: u64,
    /// From the first measured request to the end of the last one.
    pub elapsed: Duration,
}

impl Run {
    /// Measured requests a second.
    pub fn rate(&self) -> f64 {
        self.last.len() as f64 / self.elapsed.as_secs_f64()
    }

    fn record(&mut self, (first, last): (Duration, Duration)) {
        self.first.push(first.as_nanos() as u64);
        self.last.push(last.as_nanos() as u64);
    }
}

/// One blocking connection.
pub struct Connection {
    socket: TcpStream,
    reply: Reply,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects within [`PATIENCE`].
    pub fn open(address: SocketAddr) -> Outcome<Self> {
        let socket = TcpStream::connect_timeout(&address, PATIENCE)
            .and_then(|socket| {
                socket.set_nodelay(true)?;
                socket.set_read_timeout(Some(PATIENCE))?;
                socket.set_write_timeout(Some(PATIENCE))?;
                Ok(socket)
            })
            .map_err(|error| format!("cannot connect to {address}: {error}"))?;
        Ok(Connection { socket, reply: Reply::default(), buffer: vec![0; BUFFER] })
    }

    /// Sends the request and checks the answer; the times to its first content and to its last byte.
    pub fn ask(&mut self, exchange: &Exchange) -> Outcome<(Duration, Duration)> {
        let sent = Instant::now();
        self.send(&exchange.request)?;
        let mut first = None;
        while !self.reply.done() {
            self.receive()?;
            if first.is_none() && self.reply.payload().len() >= exchange.first_at {
                first = Some(sent.elapsed());
            }
        }
        let last = sent.elapsed();
        self.reply.check(&exchange.expected)?;
        Ok((first.unwrap_or(last), last))
    }

    /// Sends a request and gives the body of its answer, whose status must be 2xx.
    pub fn fetch(&mut self, request: &[u8]) -> Outcome<Vec<u8>> {
        self.send(request)?;
        while !self.reply.done() {
            self.receive()?;
        }
        match self.reply.status() {
            200..=299 => Ok(self.reply.payload().to_vec()),
            status => Err(format!("status {status}, expected 2xx")),
        }
    }

    fn send(&mut self, request: &[u8]) -> Outcome<()> {
        self.reply.reset();
        self.socket.write_all(request).map_err(|error| format!("a request was not taken: {error}"))
    }

    fn receive(&mut self) -> Outcome<()> {
        match self.socket.read(&mut self.buffer) {
            Ok(0) => Err("the connection was closed within a response".into()),
            Ok(count) => self.reply.feed(&self.buffer[..count]),
            Err(error) => Err(format!("no answer: {error}")),
        }
    }
}

/// One connection, `count` requests one after the other, after a twentieth of them to warm up.
pub fn sequential(address: SocketAddr, exchange: &Exchange, count: usize) -> Outcome<Run> {
    let mut connection = Connection::open(address)?;
    let warm_up = (count / 20).max(20);
    for _ in 0..warm_up {
        connection.ask(exchange)?;
    }
    let mut run = Run { sent: (warm_up + count) as u64, ..Run::default() };
    let started = Instant::now();
    for _ in 0..count {
        run.record(connection.ask(exchange)?);
    }
    run.elapsed = started.elapsed();
    Ok(run)
}

/// `connections` at once, each asking again as soon as it was answered, for `duration`; each warms up with one
/// request. What is in flight at the end is waited for, and counts.
pub fn concurrent(
    address: SocketAddr,
    exchange: &Arc<Exchange>,
    connections: usize,
    duration: Duration,
) -> Outcome<Run> {
    runtime()?.block_on(async {
        let mut open = Vec::with_capacity(connections);
        for _ in 0..connections {
            let mut connection = AsyncConnection::open(address).await?;
            within(connection.ask(exchange, || ())).await?;
            open.push(connection);
        }
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        for mut connection in open {
            let exchange = Arc::clone(exchange);
            tasks.spawn(async move {
                let mut run = Run::default();
                while started.elapsed() < duration {
                    run.record(connection.ask(&exchange, || ()).await?);
                }
                Ok::<_, String>(run)
            });
        }
        let finished = tokio::time::timeout(duration + PATIENCE, async {
            let mut all = Run::default();
            while let Some(task) = tasks.join_next().await {
                let run = task.map_err(|error| error.to_string())??;
                all.first.extend(run.first);
                all.last.extend(run.last);
            }
            Ok::<_, String>(all)
        });
        let mut run = finished.await.map_err(|_| format!("answers took more than {PATIENCE:?}"))??;
        run.elapsed = started.elapsed();
        run.sent = (connections + run.last.len()) as u64;
        Ok(run)
    })
}

/// A runtime of one thread.
pub fn runtime() -> Outcome<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())
}

/// `work`, unless it takes longer than [`PATIENCE`].
pub async fn within<T>(work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    tokio::time::timeout(PATIENCE, work).await.map_err(|_| format!("no answer within {PATIENCE:?}"))?
}

/// One of many connections of a thread.
pub struct AsyncConnection {
    socket: tokio::net::TcpStream,
    reply: Reply,
    buffer: Vec<u8>,
}

impl AsyncConnection {
    /// Connects within [`PATIENCE`].
    pub async fn open(address: SocketAddr) -> Outcome<Self> {
        let socket = within(async {
            let socket = tokio::net::TcpStream::connect(address).await.map_err(|error| error.to_string())?;
            socket.set_nodelay(true).map_err(|error| error.to_string())?;
            Ok(socket)
        });
        let socket = socket.await.map_err(|error| format!("cannot connect to {address}: {error}"))?;
        Ok(AsyncConnection { socket, reply: Reply::default(), buffer: vec![0; BUFFER] })
    }

    /// As [`Connection::ask`]; `on_first` is called when the first content is there.
    pub async fn ask(
        &mut self,
        exchange: &Exchange,
        on_first: impl FnOnce(),
    ) -> Outcome<(Duration, Duration)> {
        self.reply.reset();
        let sent = Instant::now();
        let written = self.socket.write_all(&exchange.request).await;
        written.map_err(|error| format!("a request was not taken: {error}"))?;
        let mut first = None;
        let mut on_first = Some(on_first);
        while !self.reply.done() {
            match self.socket.read(&mut self.buffer).await {
                Ok(0) => return Err("the connection was closed within a response".into()),
                Ok(count) => self.reply.feed(&self.buffer[..count])?,
                Err(error) => return Err(format!("no answer: {error}")),
            }
            if first.is_none() && self.reply.payload().len() >= exchange.first_at {
                first = Some(sent.elapsed());
                if let Some(tell) = on_first.take() {
                    tell();
                }
            }
        }
        let last = sent.elapsed();
        self.reply.check(&exchange.expected)?;
        Ok((first.unwrap_or(last), last))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::Exchanges;
    use super::super::mock;
    use super::*;

    /// A mock in a thread of the test; it ends with the test's process.
    fn mock() -> SocketAddr {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            runtime().unwrap().block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                mock::serve(listener, mock::Script::new(Duration::ZERO, Duration::from_millis(5))).await;
            });
        });
        told.recv().unwrap()
    }

    #[test]
    fn one_connection_measures_what_it_was_told_to() {
        let (address, exchanges) = (mock(), Exchanges::new("k"));
        for exchange in [&exchanges.chat, &exchanges.stream] {
            let run = sequential(address, exchange, 100).unwrap();
            assert_eq!((run.sent, run.first.len(), run.last.len()), (120, 100, 100));
            assert!(run.first.iter().zip(&run.last).all(|(first, last)| first <= last));
        }
        let (first, last) = Connection::open(address).unwrap().ask(&exchanges.slow).unwrap();
        assert!(first >= Duration::from_millis(5) && last >= Duration::from_millis(5 * 20));
    }

    #[test]
    fn many_connections_count_all_they_sent() {
        let (address, exchanges) = (mock(), Exchanges::new("k"));
        for exchange in [exchanges.chat, exchanges.stream] {
            let run = concurrent(address, &exchange, 8, Duration::from_millis(50)).unwrap();
            assert_eq!(run.sent, 8 + run.last.len() as u64);
            assert!(run.last.len() >= 8 && run.rate() > 0.0);
        }
    }

    #[test]
    fn a_wrong_answer_ends_the_run() {
        let (address, exchanges) = (mock(), Exchanges::new("k"));
        let mut wrong = Arc::into_inner(exchanges.chat).unwrap();
        wrong.expected.push(b' ');
        assert!(sequential(address, &wrong, 10).unwrap_err().contains("wrong body"));
        let wrong = Arc::new(wrong);
        assert!(
            concurrent(address, &wrong, 2, Duration::from_millis(10)).unwrap_err().contains("wrong body")
        );
    }

    #[test]
    fn a_refusal_ends_the_run() {
        let mut exchange = Arc::into_inner(Exchanges::new("k").chat).unwrap();
        exchange.request = b"GET /v1/models HTTP/1.1\r\n\r\n".to_vec();
        assert!(sequential(mock(), &exchange, 10).unwrap_err().contains("status 404"));
    }
}
