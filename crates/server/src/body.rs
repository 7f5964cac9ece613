//! Reading a request's body, bounded in size and time.

use axum::body::Body;
use base::Kind;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt as _;

use crate::error::ApiError;
use crate::state::Limits;

/// Reads the JSON body of a request, after looking at what its headers say about it.
pub(crate) async fn read_json(headers: &HeaderMap, body: Body, limits: &Limits) -> Result<Bytes, ApiError> {
    check_media(headers)?;
    let too_large = || {
        let text = format!("The request body is larger than {} bytes: send less at once.", limits.max_body);
        ApiError::new(Kind::TooLarge, "request_too_large", text)
    };
    let declared = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limits.max_body as u64) {
        return Err(too_large());
    }
    match tokio::time::timeout(limits.body_timeout, collect(body, limits.max_body)).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => Err(too_large()),
        Ok(Err(())) => {
            Err(ApiError::new(Kind::Invalid, "body_broken", "The request body broke off before its end."))
        }
        Err(_) => Err(ApiError::new(
            Kind::Timeout,
            "request_timeout",
            format!("The request body did not arrive within {} s.", limits.body_timeout.as_secs()),
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

fn check_media(headers: &HeaderMap) -> Result<(), ApiError> {
    let unsupported = |code, text: &str| Err(ApiError::new(Kind::UnsupportedMedia, code, text));
    if headers.get(CONTENT_ENCODING).is_some_and(|v| !v.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return unsupported(
            "unsupported_encoding",
            "Compressed request bodies are not read: send it as it is.",
        );
    }
    // Without the header we take it for JSON, as OpenAI does.
    if headers.get(CONTENT_TYPE).is_some_and(|value| !is_json(value)) {
        return unsupported(
            "unsupported_media_type",
            "Send the body as JSON, with `Content-Type: application/json`.",
        );
    }
    Ok(())
}

fn is_json(value: &HeaderValue) -> bool {
    let media = value.as_bytes().split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    media.eq_ignore_ascii_case(b"application/json")
        || (media.len() > 5 && media[media.len() - 5..].eq_ignore_ascii_case(b"+json"))
}
