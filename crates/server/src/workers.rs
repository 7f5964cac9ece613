//! The threads that serve connections.
//!
//! Each worker is one thread with a runtime, a router and connections to providers of its own. A request is
//! read, sent on, answered and logged on the thread that accepted its connection: no lock is contended and
//! no other core is woken for it. A new connection goes to the worker that has fewest.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use crate::edge;
use crate::state::App;

/// For the TLS handshake of a new connection.
const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of request head we hold for one connection.
const MAX_HEAD: usize = 64 << 10;
/// Requests in progress on one HTTP/2 connection.
const MAX_H2_STREAMS: u32 = 256;
const H2_PING: Duration = Duration::from_secs(20);

/// How far a shutdown has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Serving.
    Open,
    /// Nothing new is accepted; what is in flight may finish.
    Closing,
    /// The time is over.
    Over,
}

/// Waits until a shutdown has come so far. A server that was dropped has come to its end.
pub(crate) async fn reached(phase: &mut watch::Receiver<Phase>, at: Phase) {
    let waited = phase.wait_for(|phase| *phase >= at).await;
    drop(waited);
}

/// An accepted connection on its way to a worker.
pub(crate) struct Handoff {
    pub(crate) stream: std::net::TcpStream,
    /// Which listener accepted it.
    pub(crate) listener: usize,
}

/// What a listener's connections are served with.
#[derive(Clone)]
pub(crate) struct Surface {
    pub(crate) router: Router,
    pub(crate) tls: Option<TlsAcceptor>,
}

/// What one worker needs: its state, and a surface for each listener.
pub(crate) struct Post {
    pub(crate) app: Arc<App>,
    pub(crate) surfaces: Vec<Surface>,
    pub(crate) header_timeout: Duration,
}

struct Worker {
    queue: mpsc::UnboundedSender<Handoff>,
    connections: Arc<AtomicUsize>,
}

/// All workers.
pub(crate) struct Workers(Vec<Worker>);

impl Workers {
    /// Starts one thread for each post. They end when `phase` says so.
    pub(crate) fn start(
        posts: Vec<Post>,
        phase: &watch::Receiver<Phase>,
    ) -> std::io::Result<(Self, Vec<JoinHandle<()>>)> {
        let (mut workers, mut threads) = (Vec::new(), Vec::new());
        for (index, post) in posts.into_iter().enumerate() {
            let (queue, inbox) = mpsc::unbounded_channel();
            let connections = Arc::new(AtomicUsize::new(0));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (phase, count) = (phase.clone(), Arc::clone(&connections));
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || runtime.block_on(run(post, inbox, count, phase)))?;
            workers.push(Worker { queue, connections });
            threads.push(thread);
        }
        Ok((Workers(workers), threads))
    }

    /// Gives a connection to the worker with fewest.
    pub(crate) fn hand_over(&self, handoff: Handoff) {
        let idlest = self.0.iter().min_by_key(|worker| worker.connections.load(Ordering::Relaxed));
        if let Some(worker) = idlest {
            worker.connections.fetch_add(1, Ordering::Relaxed);
            // A worker that is gone has closed with us: the connection is dropped, as any other now.
            if worker.queue.send(handoff).is_err() {
                worker.connections.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

async fn run(
    post: Post,
    mut inbox: mpsc::UnboundedReceiver<Handoff>,
    connections: Arc<AtomicUsize>,
    mut phase: watch::Receiver<Phase>,
) {
    let post = Arc::new(post);
    let watched = phase.clone();
    let begin = |handoff| {
        let open = Open::new(Arc::clone(&connections), &post);
        tokio::spawn(connection(Arc::clone(&post), handoff, watched.clone(), open));
    };
    loop {
        let handoff = tokio::select! {
            handoff = inbox.recv() => handoff,
            _ = reached(&mut phase, Phase::Closing) => None,
        };
        let Some(handoff) = handoff else { break };
        begin(handoff);
    }
    let mut poll = tokio::time::interval(Duration::from_millis(10));
    loop {
        // Connections that were accepted and not begun yet are served like the rest; the last of them may be
        // handed over a moment after we heard of the end.
        while let Ok(handoff) = inbox.try_recv() {
            begin(handoff);
        }
        if connections.load(Ordering::Acquire) == 0 || *phase.borrow() >= Phase::Over {
            break;
        }
        poll.tick().await;
    }
}

/// Counts a connection for as long as it is there.
struct Open {
    worker: Arc<AtomicUsize>,
    app: Arc<App>,
}

impl Open {
    fn new(worker: Arc<AtomicUsize>, post: &Post) -> Self {
        post.app.shared.connections.fetch_add(1, Ordering::Relaxed);
        Open { worker, app: Arc::clone(&post.app) }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.worker.fetch_sub(1, Ordering::Release);
        self.app.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(post: Arc<Post>, handoff: Handoff, phase: watch::Receiver<Phase>, _open: Open) {
    let Some(surface) = post.surfaces.get(handoff.listener) else { return };
    let Ok(stream) = TcpStream::from_std(handoff.stream) else { return };
    let Ok(peer) = stream.peer_addr().map(|peer| peer.ip()) else { return };
    match &surface.tls {
        None => serve(&post, surface, stream, peer, phase).await,
        Some(acceptor) => match tokio::time::timeout(TLS_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => serve(&post, surface, stream, peer, phase).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        },
    }
}

async fn serve<S>(post: &Post, surface: &Surface, stream: S, peer: IpAddr, mut phase: watch::Receiver<Phase>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(post.header_timeout)
        .max_buf_size(MAX_HEAD)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_H2_STREAMS)
        .max_header_list_size(MAX_HEAD as u32)
        .keep_alive_interval(H2_PING)
        .adaptive_window(true);
    let begun = AtomicBool::new(false);
    let service = service_fn(|request| {
        begun.store(true, Ordering::Relaxed);
        let (app, router) = (Arc::clone(&post.app), surface.router.clone());
        async move { Ok::<_, std::convert::Infallible>(edge::serve(app, router, request, peer).await) }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // Hyper looks at its clock from the first bytes on, which say what protocol is spoken: those have to
    // come, too.
    let mut silent = pin!(tokio::time::sleep(post.header_timeout));
    let watched = phase.clone();
    let mut closing = pin!(reached(&mut phase, Phase::Closing));
    let (mut registered, mut told) = (false, false);
    let ended = poll_fn(|cx| {
        // Once registered it wakes this task by itself, so that it need not be asked with every piece that
        // arrives. When the time is over the runtime ends, and this with it.
        if !told && (!registered || watched.has_changed().unwrap_or(true)) {
            registered = true;
            if closing.as_mut().poll(cx).is_ready() {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
        }
        match connection.as_mut().poll(cx) {
            Poll::Ready(ended) => Poll::Ready(ended),
            Poll::Pending if begun.load(Ordering::Relaxed) => Poll::Pending,
            Poll::Pending => silent.as_mut().poll(cx).map(Ok),
        }
    });
    let ended = ended.await;
    if let Err(error) = ended {
        // A client that goes away in the middle, or speaks no HTTP: nothing for an operator to mend.
        tracing::debug!(%error, "a connection ended with an error");
    }
}
