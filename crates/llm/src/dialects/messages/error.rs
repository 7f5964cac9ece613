//! Errors: `{"type": "error", "error": {"type", "message", "details"}}`.
//!
//! Source: <https://platform.claude.com/docs/en/api/errors>.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::form::ErrorClass;
use crate::openai::ProviderError;

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: Error<'a>,
}

#[derive(Serialize)]
struct Error<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    message: &'a str,
    details: Details<'a>,
}

/// Where the official clients look for what a program may act on (`error_code`).
#[derive(Serialize)]
struct Details<'a> {
    error_code: &'a str,
}

/// Anthropic's `type` of an error.
fn kind(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::Invalid => "invalid_request_error",
        ErrorClass::Authentication => "authentication_error",
        ErrorClass::Permission => "permission_error",
        ErrorClass::NotFound => "not_found_error",
        ErrorClass::TooLarge => "request_too_large",
        ErrorClass::Unpaid => "billing_error",
        ErrorClass::RateLimited => "rate_limit_error",
        ErrorClass::Overloaded => "overloaded_error",
        ErrorClass::Timeout => "timeout_error",
        ErrorClass::Server => "api_error",
    }
}

pub(super) fn body(class: ErrorClass, message: &str, code: &str) -> Bytes {
    let error = Error { kind: kind(class), message, details: Details { error_code: code } };
    serde_json::to_vec(&Body { kind: "error", error }).unwrap_or_default().into()
}

pub(super) fn event(class: ErrorClass, message: &str, code: &str) -> Bytes {
    [b"event: error\ndata: ", &body(class, message, code)[..], b"\n\n"].concat().into()
}

/// Reads a provider's error body; `None` when it is not in this form.
pub(super) fn read(body: &[u8]) -> Option<ProviderError> {
    #[derive(Deserialize)]
    struct Wire {
        error: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        #[serde(rename = "type")]
        kind: String,
        message: String,
    }
    let wire: Wire = serde_json::from_slice(body).ok()?;
    Some(ProviderError { message: wire.error.message, code: Some(wire.error.kind) })
}
