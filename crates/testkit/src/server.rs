//! A listener on a thread and runtime of its own, which can stop and resume on the same port.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc as sync;
use std::thread::{self, JoinHandle};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};

/// Whether the listener is open. A connection that is idle when this turns false must close.
pub(crate) type Gate = watch::Receiver<bool>;

/// What the thread is told to do, and where it reports that it is done.
struct Command {
    listen: bool,
    done: sync::Sender<()>,
}

/// The running listener. Dropping it closes every connection and joins the thread.
#[derive(Debug)]
pub(crate) struct Server {
    port: u16,
    commands: Option<mpsc::UnboundedSender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on a free port and calls `handle` for each connection, with `TCP_NODELAY` set.
    pub(crate) fn start<H, F>(name: &str, handle: H) -> Server
    where
        H: Fn(TcpStream, Gate) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind a free port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let port = listener.local_addr().expect("the address of the listener").port();
        let (commands, inbox) = mpsc::unbounded_channel();
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime for the fake").block_on(async {
                    let listener = TcpListener::from_std(listener).expect("register the listener");
                    run(listener, port, inbox, handle).await;
                });
            })
            .expect("start a thread for the fake");
        Server { port, commands: Some(commands), thread: Some(thread) }
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Opens or closes the listener; returns when it is done.
    pub(crate) fn listen(&self, listen: bool) {
        let (done, finished) = sync::channel();
        let commands = self.commands.as_ref().expect("the fake is running");
        commands.send(Command { listen, done }).expect("the thread of the fake is alive");
        finished.recv().expect("the thread of the fake is alive");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !thread::panicking()
        {
            panic!("the thread of a fake panicked");
        }
    }
}

async fn run<H, F>(
    listener: TcpListener,
    port: u16,
    mut commands: mpsc::UnboundedReceiver<Command>,
    handle: H,
) where
    H: Fn(TcpStream, Gate) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let (gate, open) = watch::channel(true);
    let mut listener = Some(listener);
    // While closed, a socket that is bound but does not listen keeps the port from being given away.
    let mut reserved: Option<TcpSocket> = None;
    loop {
        tokio::select! {
            command = commands.recv() => {
                let Some(command) = command else { return };
                if command.listen && listener.is_none() {
                    let socket = reserved.take().expect("the port is reserved while closed");
                    listener = Some(socket.listen(1024).expect("listen again"));
                } else if !command.listen && listener.is_some() {
                    drop(listener.take());
                    reserved = Some(reserve(port));
                }
                gate.send_replace(command.listen);
                // The caller may have stopped waiting; there is nobody else to tell.
                let _ = command.done.send(());
            }
            accepted = accept(listener.as_ref()) => {
                let Ok(stream) = accepted else { continue };
                stream.set_nodelay(true).expect("set TCP_NODELAY");
                tokio::spawn(handle(stream, open.clone()));
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> std::io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

fn reserve(port: u16) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("set SO_REUSEADDR");
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).expect("bind the same port again");
    socket
}
