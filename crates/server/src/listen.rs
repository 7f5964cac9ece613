//! Listening sockets, and handing each accepted connection to a worker.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::settings::Role;
use crate::workers::{Handoff, Phase, Workers, reached};

/// Connections waiting to be accepted.
const BACKLOG: i32 = 4096;
/// How long we wait when the process has no file descriptor left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// An address we listen on.
pub(crate) struct Listener {
    pub(crate) addr: SocketAddr,
    pub(crate) roles: Vec<Role>,
    pub(crate) tls: Option<TlsAcceptor>,
}

/// Opens a listening socket, so that a port that is taken is known at once.
pub(crate) fn bind(addr: SocketAddr) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        // `[::]` then also takes IPv4, as people expect of it.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    let socket: std::net::TcpListener = socket.into();
    let bound = socket.local_addr()?;
    Ok((socket, bound))
}

/// Accepts until the listeners are to close.
pub(crate) async fn accept(
    listener: TcpListener,
    index: usize,
    workers: Arc<Workers>,
    mut phase: watch::Receiver<Phase>,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            _ = reached(&mut phase, Phase::Closing) => return,
            accepted = listener.accept() => accepted,
        };
        let handed = accepted.and_then(|(stream, _)| {
            stream.set_nodelay(true)?;
            Ok(Handoff { stream: stream.into_std()?, listener: index })
        });
        match handed {
            Ok(handoff) => workers.hand_over(handoff),
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

/// The client was gone before we accepted: nothing is wrong with us.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidInput};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | InvalidInput)
}
