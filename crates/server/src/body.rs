//! Reading a request's body, bounded in size and time.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use axum::body::Body;
use base::Kind;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use http::{HeaderMap, HeaderValue, Request, Version};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::error::ApiError;
use crate::state::Limits;

/// How much of a body that nobody wants is read, in bytes, before the connection is closed instead.
const LINGER_BYTES: usize = 64 << 20;
/// For how long.
const LINGER_TIME: Duration = Duration::from_secs(10);
/// How long its client may pause.
const LINGER_PAUSE: Duration = Duration::from_secs(2);

/// A request whose body is read to its end in the background when its handler leaves some of it.
pub(crate) fn lingering(request: Request<Incoming>) -> Request<Body> {
    let waits = request.headers().contains_key(EXPECT);
    let own_task = request.version() < Version::HTTP_2;
    request.map(|body| match body.is_end_stream() {
        true => Body::empty(),
        false => Body::new(Lingering { body: Some(body), waits, own_task }),
    })
}

/// Many clients send all of a request before they look at the answer. Were we to close while bytes are on
/// their way, the answer that says what to change would be lost with the connection (RFC 9112 §9.6). So it
/// is sent at once, and what still comes is read and thrown away for a while.
struct Lingering {
    /// Until its end was seen.
    body: Option<Incoming>,
    /// The client sends nothing before we say `100 Continue`, which the first read does: a refused body then
    /// never comes.
    waits: bool,
    /// HTTP/1: the handler runs within the task of the connection, which polls it each time after it has
    /// read. A piece that arrives need not wake that task: it is running.
    own_task: bool,
}

impl http_body::Body for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.waits = false;
        let own_task = self.own_task;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let mut unawaited = Context::from_waker(Waker::noop());
        let frame = ready!(Pin::new(body).poll_frame(if own_task { &mut unawaited } else { cx }));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.as_ref().map(Incoming::size_hint).unwrap_or_default()
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !self.waits && !body.is_end_stream())
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            drop(runtime.spawn(timeout(LINGER_TIME, discard(body))));
        }
    }
}

async fn discard(mut body: Incoming) {
    let mut left = LINGER_BYTES;
    while let Ok(Some(Ok(frame))) = timeout(LINGER_PAUSE, body.frame()).await {
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// Reads the JSON body of a request, after looking at what its headers say about it.
pub(crate) async fn read_json(headers: &HeaderMap, body: Body, limits: &Limits) -> Result<Bytes, ApiError> {
    check_encoding(headers)?;
    check_media(headers)?;
    read(headers, body, limits.max_body, limits.body_timeout).await
}

/// Reads a form with files, or JSON.
pub(crate) async fn read_body(
    is_form: bool,
    headers: &HeaderMap,
    body: Body,
    limits: &Limits,
) -> Result<Bytes, ApiError> {
    if !is_form {
        return read_json(headers, body, limits).await;
    }
    check_encoding(headers)?;
    read(headers, body, limits.max_upload, limits.body_timeout).await
}

/// Reads a body of at most `max` bytes within a time.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    max: usize,
    within: Duration,
) -> Result<Bytes, ApiError> {
    let too_large = || {
        let text = format!("The request body is larger than {max} bytes: send less at once.");
        ApiError::new(Kind::TooLarge, "request_too_large", text)
    };
    let declared = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > max as u64) {
        return Err(too_large());
    }
    match timeout(within, collect(body, max)).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => Err(too_large()),
        Ok(Err(())) => Err(ApiError::new(
            Kind::Invalid,
            "body_broken",
            "The request body broke off before its end, or its framing is malformed.",
        )),
        Err(_) => Err(ApiError::new(
            Kind::Timeout,
            "request_timeout",
            format!(
                "The request body did not arrive within {}: send it faster, or less at once.",
                base::Duration(within)
            ),
        )),
    }
}

/// `None` when it is longer than `limit`. A body that comes in one piece, as most do, is not copied.
async fn collect(mut body: Body, limit: usize) -> Result<Option<Bytes>, ()> {
    let mut first: Option<Bytes> = None;
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(drop)?.into_data() else { continue };
        let have = first.as_ref().map_or(all.len(), Bytes::len);
        if have + data.len() > limit {
            return Ok(None);
        }
        match first.take() {
            None if all.is_empty() => first = Some(data),
            None => all.extend_from_slice(&data),
            Some(before) => {
                all.extend_from_slice(&before);
                all.extend_from_slice(&data);
            }
        }
    }
    Ok(Some(first.unwrap_or_else(|| all.freeze())))
}

/// Whether the body comes as it is.
pub(crate) fn check_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    if headers.get(CONTENT_ENCODING).is_some_and(|v| !v.as_bytes().eq_ignore_ascii_case(b"identity")) {
        let text = "Compressed request bodies are not read: send it as it is.";
        return Err(ApiError::new(Kind::UnsupportedMedia, "unsupported_encoding", text));
    }
    Ok(())
}

fn check_media(headers: &HeaderMap) -> Result<(), ApiError> {
    // Without the header we take it for JSON, as OpenAI does.
    if headers.get(CONTENT_TYPE).is_some_and(|value| !is_json(value)) {
        let text = "Send the body as JSON, with `Content-Type: application/json`.";
        return Err(ApiError::new(Kind::UnsupportedMedia, "unsupported_media_type", text));
    }
    Ok(())
}

fn is_json(value: &HeaderValue) -> bool {
    let media = value.as_bytes().split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    media.eq_ignore_ascii_case(b"application/json")
        || (media.len() > 5 && media[media.len() - 5..].eq_ignore_ascii_case(b"+json"))
}
