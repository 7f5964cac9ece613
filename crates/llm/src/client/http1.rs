//! An HTTP/1.1 connection that is driven by whoever uses it.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

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
    connection: Box<Connection<TokioIo<Stream>, Full<Bytes>>>,
}

impl Http1 {
    pub(super) fn new(
        sender: SendRequest<Full<Bytes>>,
        connection: Connection<TokioIo<Stream>, Full<Bytes>>,
    ) -> Self {
        Http1 { sender, connection: Box::new(connection) }
    }

    /// Sends a request and drives the connection until the head of the answer is here.
    pub(super) async fn exchange(
        mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Http1), Unsent> {
        if let Err(error) = poll_fn(|cx| self.poll_usable(cx)).await {
            return Err(Unsent { error, request: Some(request) });
        }
        let mut answer = pin!(self.sender.try_send_request(request));
        let connection = &mut self.connection;
        let mut open = true;
        let answered = poll_fn(|cx| {
            if open && let Poll::Ready(ended) = Pin::new(&mut *connection).poll(cx) {
                // Its error is also the answer's, which says what became of the request.
                drop(ended);
                open = false;
            }
            answer.as_mut().poll(cx)
        });
        match answered.await {
            Ok(response) => Ok((response, self)),
            Err(mut unsent) => {
                let request = unsent.take_message();
                Err(Unsent { error: SendError::Broken(root_cause(unsent.error())), request })
            }
        }
    }

    /// Whether a request can be sent. Nobody looks at a connection while it is in the pool, so that only now
    /// it is seen whether the other side has closed it.
    fn poll_usable(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let closed = || Poll::Ready(Err(SendError::Broken("the connection was closed".into())));
        if Pin::new(&mut self.connection).poll(cx).is_ready() {
            return closed();
        }
        match self.sender.poll_ready(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(_)) | Poll::Pending => closed(),
        }
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
        let mut driven = false;
        loop {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
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
                    if let Some(http1) = &mut self.connection
                        && Pin::new(&mut http1.connection).poll(cx).is_ready()
                    {
                        self.connection = None;
                    }
                    driven = true;
                }
            }
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
