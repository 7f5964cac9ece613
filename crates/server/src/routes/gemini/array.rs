//! A stream as one JSON array that grows: what `streamGenerateContent` answers without `alt=sse`.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http_body::Frame;
use llm::sse::Decoder;

/// The longest event: a call of a tool comes in one, with all its arguments.
const MAX_EVENT: usize = 32 << 20;

/// The events of a body as elements of an array.
pub(super) struct Array {
    body: Body,
    decoder: Decoder,
    begun: bool,
    ended: bool,
}

impl Array {
    pub(super) fn new(body: Body) -> Self {
        Array { body, decoder: Decoder::new(MAX_EVENT), begun: false, ended: false }
    }

    /// The elements that have arrived; `None` when an event is too long to go on.
    fn elements(&mut self, chunk: Bytes) -> Option<Vec<u8>> {
        self.decoder.push(chunk);
        let mut out = Vec::new();
        while let Some(event) = self.decoder.next_event().ok()? {
            // A comment has none: it keeps the connection open, which an array has no way to do.
            if let Some(data) = event.data() {
                out.extend_from_slice(if self.begun { b",\r\n" } else { b"[" });
                out.extend_from_slice(&data);
                self.begun = true;
            }
        }
        Some(out)
    }
}

impl http_body::Body for Array {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            let data = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_) => continue,
                },
                // Without its last bracket it is no answer, and the client sees that it was cut.
                Some(Err(_)) => return Poll::Ready(None),
                None => {
                    self.ended = true;
                    let last: &[u8] = if self.begun { b"]" } else { b"[]" };
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(last)))));
                }
            };
            match self.elements(data) {
                None => {
                    self.ended = true;
                    return Poll::Ready(None);
                }
                Some(out) if out.is_empty() => {}
                Some(out) => return Poll::Ready(Some(Ok(Frame::data(out.into())))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn events_become_elements() {
        for (events, array) in [
            ("", "[]"),
            (": hi\n\n", "[]"),
            ("data: {\"a\":1}\n\n", "[{\"a\":1}]"),
            ("data: {\"a\":1}\r\n\r\n: x\n\ndata: {\"b\":2}\n\n", "[{\"a\":1},\r\n{\"b\":2}]"),
        ] {
            let body = Array::new(Body::from(events.to_owned()));
            assert_eq!(body.collect().await.unwrap().to_bytes(), array, "{events}");
        }
    }
}
