//! An HTTP/1.1 connection that is driven by whoever uses it.
//!
//! One task polls both ends of hyper's channels: the connection, and the answer or body that waits for it.
//! Whatever the waiting end gets, it gets from polling the connection, which always comes first. So only the
//! connection is polled with the task's waker; the waiting end has one that does nothing, else each message
//! between the two would wake the very task that is about to look.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{Shared, Unsent, root_cause};
use crate::SendError;
use crate::provider::BodyError;

/// A connection between requests, or during one.
pub(super) struct Http1 {
    sender: SendRequest<Full<Bytes>>,
    /// `None` once it has ended: it may not be polled again.
    connection: Option<Box<Connection<TokioIo<Stream>, Full<Bytes>>>>,
}

impl Http1 {
    pub(super) fn new(
        sender: SendRequest<Full<Bytes>>,
        connection: Connection<TokioIo<Stream>, Full<Bytes>>,
    ) -> Self {
        Http1 { sender, connection: Some(Box::new(connection)) }
    }

    /// Sends a request and drives the connection until the head of the answer is here.
    pub(super) async fn exchange(
        mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Http1), Unsent> {
        if let Err(error) = self.check_usable() {
            return Err(Unsent { error, request: Some(request) });
        }
        let mut answer = pin!(self.sender.try_send_request(request));
        let connection = &mut self.connection;
        let answered = poll_fn(|cx| {
            // Should it end, the answer knows why, and what became of the request.
            drive(connection, cx);
            answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        });
        match answered.await {
            Ok(response) => {
                // Forgets the task's waker, which reading the body would call.
                drive(&mut self.connection, &mut Context::from_waker(Waker::noop()));
                Ok((response, self))
            }
            Err(mut unsent) => {
                let request = unsent.take_message();
                Err(Unsent { error: SendError::Broken(root_cause(unsent.error())), request })
            }
        }
    }

    /// Whether a request can be sent. Nobody looks at a connection while it is in the pool, so that only now
    /// it is seen whether the other side has closed it.
    fn check_usable(&mut self) -> Result<(), SendError> {
        let mut unawaited = Context::from_waker(Waker::noop());
        drive(&mut self.connection, &mut unawaited);
        match self.sender.poll_ready(&mut unawaited) {
            Poll::Ready(Ok(())) if self.connection.is_some() => Ok(()),
            _ => Err(SendError::Broken("the connection was closed".into())),
        }
    }
}

/// Does what can be done now, and has the waker called when there is more.
fn drive(connection: &mut Option<Box<Connection<TokioIo<Stream>, Full<Bytes>>>>, cx: &mut Context<'_>) {
    let ended = connection.as_mut().is_some_and(|connection| Pin::new(connection).poll(cx).is_ready());
    if ended {
        *connection = None;
    }
}

/// A connection whose answer is being read.
pub struct Lease {
    connection: Option<Http1>,
    pool: Arc<Shared>,
    origin: u64,
}

impl Lease {
    pub(super) fn new(connection: Http1, pool: Arc<Shared>, origin: u64) -> Self {
        Lease { connection: Some(connection), pool, origin }
    }

    /// The next piece of the body, `None` at its end. At the end the connection goes back to the pool.
    pub(crate) fn poll_data(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        let mut unawaited = Context::from_waker(Waker::noop());
        let mut driven = false;
        loop {
            // A body of known length ends with its last piece, without another look at the connection.
            let frame = match body.is_end_stream() {
                true => Poll::Ready(None),
                false => Pin::new(&mut *body).poll_frame(&mut unawaited),
            };
            match frame {
                Poll::Ready(Some(Ok(frame))) => {
                    if driven {
                        // Whoever gets a piece comes back for the next: no waker is needed until then.
                        self.drive(&mut unawaited);
                    }
                    // Trailers carry nothing that a model's answer needs.
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    self.connection = None;
                    return Poll::Ready(Some(Err(BodyError(root_cause(&error)))));
                }
                Poll::Ready(None) => {
                    if let Some(connection) = self.connection.take() {
                        self.pool.give_back(self.origin, connection);
                    }
                    return Poll::Ready(None);
                }
                Poll::Pending if driven => return Poll::Pending,
                Poll::Pending => {
                    // The body has nothing: the connection may bring something, once it is driven. Should it
                    // end, the body knows.
                    self.drive(cx);
                    driven = true;
                }
            }
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(http1) = &mut self.connection {
            drive(&mut http1.connection, cx);
        }
    }
}

/// TCP, or TLS over it.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
