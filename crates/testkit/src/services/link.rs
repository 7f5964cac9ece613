//! A way to a service that can be cut, stalled and mended: the service goes away without being stopped.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::server::Server;

/// How long connecting to the service behind it may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long cutting all connections may take.
const CUT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    Stalled,
    /// What clients say passes, what the service answers does not.
    Muted,
    Cut,
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    ToService,
    ToClient,
}

impl State {
    fn passes(self, direction: Direction) -> bool {
        matches!((self, direction), (State::Whole, _) | (State::Muted, Direction::ToService))
    }
}

/// How many connections there are and have been.
#[derive(Debug, Default)]
struct Count {
    open: usize,
    accepted: usize,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    state: watch::Sender<State>,
    count: Mutex<Count>,
    fewer: Condvar,
}

/// A TCP proxy on a free port of 127.0.0.1, at first whole. Dropping it closes its connections.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # let service = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let link = testkit::services::Link::to(service.local_addr()?);
/// let url = testkit::services::through("redis://127.0.0.1:6379/0", link.address());
/// link.cut(); // connections are reset and refused
/// link.mend();
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Link {
    server: Server,
    shared: Arc<Shared>,
}

impl Link {
    /// A link to this address. Nothing needs to listen there yet.
    pub fn to(target: SocketAddr) -> Link {
        let shared = Arc::new(Shared {
            target,
            state: watch::Sender::new(State::Whole),
            count: Mutex::default(),
            fewer: Condvar::new(),
        });
        let ours = shared.clone();
        let server = Server::start("testkit-link", move |stream, _| carry(stream, Open::new(&ours)));
        Link { server, shared }
    }

    /// Where clients connect; the same whatever happens to the link.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.server.port()).into()
    }

    /// Resets every connection and refuses new ones. When it returns, none is left. What was under way is lost.
    pub fn cut(&self) {
        self.server.listen(false);
        self.shared.state.send_replace(State::Cut);
        let count = self.shared.count.lock().unwrap_or_else(PoisonError::into_inner);
        let left = self.shared.fewer.wait_timeout_while(count, CUT, |count| count.open > 0);
        let (count, _) = left.unwrap_or_else(PoisonError::into_inner);
        assert_eq!(count.open, 0, "connections that are left after the cut");
    }

    /// Accepts connections and forwards nothing, in either direction. What is sent meanwhile arrives when it is
    /// mended.
    pub fn stall(&self) {
        self.set(State::Stalled);
    }

    /// Forwards what clients send, and holds back what the service answers. With [`Link::cut`] afterwards, the
    /// service has done what it was asked and nobody hears of it.
    pub fn mute(&self) {
        self.set(State::Muted);
    }

    /// Accepts and forwards again.
    pub fn mend(&self) {
        self.set(State::Whole);
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.shared.count(|count| count.open)
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.count(|count| count.accepted)
    }

    fn set(&self, state: State) {
        self.shared.state.send_replace(state);
        self.server.listen(true);
    }
}

impl Shared {
    fn count<T>(&self, f: impl FnOnce(&mut Count) -> T) -> T {
        f(&mut self.count.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Counts a connection as open while it lives.
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: &Arc<Shared>) -> Open {
        shared.count(|count| {
            count.open += 1;
            count.accepted += 1;
        });
        Open(shared.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.count(|count| count.open -= 1);
        self.0.fewer.notify_all();
    }
}

/// Carries one connection until both sides have ended it or the link is cut.
async fn carry(mut client: TcpStream, open: Open) {
    let shared = &open.0;
    let mut state = shared.state.subscribe();
    let orderly = tokio::select! {
        _ = state.wait_for(|state| *state == State::Cut) => false,
        joined = join(&mut client, shared) => joined,
    };
    if !orderly {
        reset(&client);
    }
    // Closed before it is counted as gone.
    drop(client);
    drop(open);
}

/// Whether there was a service to join the client to.
async fn join(client: &mut TcpStream, shared: &Shared) -> bool {
    let Ok(Ok(mut service)) = timeout(CONNECT, TcpStream::connect(shared.target)).await else { return false };
    service.set_nodelay(true).expect("set TCP_NODELAY");
    let (mut from_client, mut to_client) = client.split();
    let (mut from_service, mut to_service) = service.split();
    tokio::join!(
        forward(&mut from_client, &mut to_service, shared, Direction::ToService),
        forward(&mut from_service, &mut to_client, shared, Direction::ToClient),
    );
    true
}

/// Makes closing this socket a reset, so that nobody takes it for an orderly end.
fn reset(socket: &TcpStream) {
    // It may be closed already.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Copies one direction until it ends, and then ends it on the other side too: both only while the link lets it
/// through.
async fn forward(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    shared: &Shared,
    direction: Direction,
) {
    let mut state = shared.state.subscribe();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        // Asked after the read: what is read while it is stalled must wait.
        if state.wait_for(|state| state.passes(direction)).await.is_err() {
            return;
        }
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            // The other side may be gone already.
            let _ = to.shutdown().await;
            return;
        }
    }
}
