//! What a provider is to the rest of the house.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base::{RequestId, TraceContext};
use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body::Body as _;

use crate::client::Hold;
use crate::providers::Framed;
use crate::{Client, Dialect, Operation};

/// One attempt, ready to be sent. The body is already in the provider's dialect.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// What is asked.
    pub operation: Operation,
    /// What the body is written in: one of [`Provider::dialects`].
    pub dialect: Dialect,
    /// The model, by the provider's own name; some have it in the path.
    pub model: Arc<str>,
    /// Whether a stream is asked for.
    pub stream: bool,
    /// The body.
    pub body: Bytes,
    /// Headers of the client's that belong to the dialect and go along where it is forwarded.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The span of this attempt, sent as `traceparent`.
    pub trace: TraceContext,
    /// The request it belongs to, sent as `x-request-id`.
    pub request_id: RequestId,
    /// For the handshakes of a new connection.
    pub connect_timeout: Duration,
}

/// The head of a provider's answer, and its body to be read.
#[derive(Debug)]
pub struct Inbound {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: InboundBody,
}

/// A body that is read frame by frame. Dropping it cancels what the provider is doing.
pub enum InboundBody {
    /// From a connection, which is held until the end.
    Wire(hyper::body::Incoming, Hold),
    /// In AWS's framing, read as server-sent events.
    Framed(Box<Framed>),
    /// Made in this process.
    Local(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
}

impl std::fmt::Debug for InboundBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            InboundBody::Wire(..) => "Wire",
            InboundBody::Framed(_) => "Framed",
            InboundBody::Local(_) => "Local",
        })
    }
}

impl InboundBody {
    /// The next piece, `None` at the proper end.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self {
            InboundBody::Local(stream) => stream.as_mut().poll_next(cx).map(|piece| piece.map(Ok)),
            InboundBody::Framed(framed) => framed.poll_data(cx),
            InboundBody::Wire(body, Hold::Http1(lease)) => lease.poll_data(body, cx),
            InboundBody::Wire(body, Hold::Http2(_)) => loop {
                match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                    None => return Poll::Ready(None),
                    Some(Err(error)) => return Poll::Ready(Some(Err(BodyError(error.to_string())))),
                    // Trailers carry nothing that a model's answer needs.
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            return Poll::Ready(Some(Ok(data)));
                        }
                    }
                }
            },
        }
    }

    /// The next piece, `None` at the proper end.
    pub async fn data(&mut self) -> Option<Result<Bytes, BodyError>> {
        std::future::poll_fn(|cx| self.poll_data(cx)).await
    }

    /// The whole body, when it has no more than `limit` bytes.
    pub async fn collect(mut self, limit: usize) -> Result<Bytes, BodyError> {
        let Some(first) = self.data().await else { return Ok(Bytes::new()) };
        let first = first?;
        let Some(second) = self.data().await else { return Ok(first) };
        let mut all = Vec::with_capacity(first.len() * 2);
        all.extend_from_slice(&first);
        let mut next = Some(second);
        while let Some(piece) = next {
            let piece = piece?;
            if all.len() + piece.len() > limit {
                return Err(BodyError(format!("the answer is longer than {limit} bytes")));
            }
            all.extend_from_slice(&piece);
            next = self.data().await;
        }
        Ok(all.into())
    }
}

/// The answer broke off, or is larger than we read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BodyError(pub String);

/// No answer came. The texts are for the log.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection could be made.
    #[error("could not connect: {0}")]
    Connect(String),
    /// The connection broke before the answer's head.
    #[error("the connection broke before an answer came: {0}")]
    Broken(String),
    /// The request could not be built, for example because of a header in the settings.
    #[error("could not build the request: {0}")]
    Request(String),
}

/// What is asked about a response that a provider keeps (`/v1/responses/{id}`).
#[derive(Clone, Debug)]
pub struct AskKept {
    /// `GET`, `DELETE` or `POST`.
    pub method: Method,
    /// What follows `/responses` in the path, with its query.
    pub below: String,
    /// The span of this attempt, sent as `traceparent`.
    pub trace: TraceContext,
    /// The request it belongs to, sent as `x-request-id`.
    pub request_id: RequestId,
    /// For the handshakes of a new connection.
    pub connect_timeout: Duration,
}

/// Somebody who answers model calls.
pub trait Provider: Send + Sync {
    /// The dialects of chat it speaks. What comes in one of them is forwarded as it is; everything else is written
    /// in the first.
    fn dialects(&self) -> &'static [Dialect] {
        &[Dialect::Chat]
    }

    /// Whether this can be asked of it.
    fn serves(&self, operation: Operation) -> bool {
        operation == Operation::Chat
    }

    /// Sends one attempt and waits for the head of the answer. `client` is the calling worker's own.
    fn send<'a>(&'a self, client: &'a Client, call: Outbound) -> BoxFuture<'a, Result<Inbound, SendError>>;

    /// Asks how many tokens a request in Anthropic's dialect has; `None`: there is no such question.
    fn count_tokens<'a>(
        &'a self,
        client: &'a Client,
        call: Outbound,
    ) -> Option<BoxFuture<'a, Result<Inbound, SendError>>> {
        let _ = (client, call);
        None
    }

    /// Asks for the list of its models, as a proof that it is there and takes our key. `None`: no call is needed
    /// for that.
    fn ask_models<'a>(
        &'a self,
        client: &'a Client,
        connect_timeout: Duration,
    ) -> Option<BoxFuture<'a, Result<Inbound, SendError>>> {
        let _ = (client, connect_timeout);
        None
    }

    /// Asks about a response that it keeps. `None`: it keeps none.
    fn ask_kept<'a>(
        &'a self,
        client: &'a Client,
        ask: AskKept,
    ) -> Option<BoxFuture<'a, Result<Inbound, SendError>>> {
        let _ = (client, ask);
        None
    }

    /// The host it is reached at (`server.address` in traces).
    fn address(&self) -> &str;

    /// The models it is known to have, when that needs no call.
    fn models(&self) -> &[&'static str] {
        &[]
    }
}
