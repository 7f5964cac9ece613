//! Errors: `{"error": {"code", "message", "status", "details"}}`, the JSON form of `google.rpc.Status`
//! (<https://cloud.google.com/apis/design/errors>).

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::form::ErrorClass;
use crate::openai::ProviderError;

/// The status code and its name for each class.
fn status(class: ErrorClass) -> (u16, &'static str) {
    match class {
        ErrorClass::Invalid => (400, "INVALID_ARGUMENT"),
        ErrorClass::Authentication => (401, "UNAUTHENTICATED"),
        ErrorClass::Permission => (403, "PERMISSION_DENIED"),
        ErrorClass::NotFound => (404, "NOT_FOUND"),
        ErrorClass::TooLarge => (413, "INVALID_ARGUMENT"),
        ErrorClass::Unpaid => (402, "FAILED_PRECONDITION"),
        ErrorClass::RateLimited => (429, "RESOURCE_EXHAUSTED"),
        ErrorClass::Overloaded => (503, "UNAVAILABLE"),
        ErrorClass::Timeout => (504, "DEADLINE_EXCEEDED"),
        ErrorClass::Server => (500, "INTERNAL"),
    }
}

pub(super) fn body(class: ErrorClass, message: &str, param: Option<&str>, code: &str) -> Bytes {
    let (number, status) = status(class);
    let mut details = vec![json!({
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": code.to_ascii_uppercase(),
        "domain": "trunkline",
    })];
    if let Some(field) = param {
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": field, "description": message}],
        }));
    }
    let body = json!({"error": {"code": number, "message": message, "status": status, "details": details}});
    serde_json::to_vec(&body).unwrap_or_default().into()
}

pub(super) fn event(class: ErrorClass, message: &str, code: &str) -> Bytes {
    [b"data: ", &body(class, message, None, code)[..], b"\n\n"].concat().into()
}

#[derive(Deserialize)]
struct Wire {
    error: Status,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    message: String,
    status: Option<String>,
    #[serde(default)]
    details: Vec<Value>,
}

/// An error body, also the list of one that an endpoint for streams answers with.
fn wire(body: &[u8]) -> Option<Status> {
    let wire = match body.iter().find(|byte| !byte.is_ascii_whitespace())? {
        b'[' => serde_json::from_slice::<Vec<Wire>>(body).ok()?.into_iter().next()?,
        _ => serde_json::from_slice::<Wire>(body).ok()?,
    };
    Some(wire.error)
}

pub(super) fn read(body: &[u8]) -> Option<ProviderError> {
    let Status { message, status, details } = wire(body)?;
    // The reason is narrower than the status: `API_KEY_INVALID` is an INVALID_ARGUMENT too.
    let reason = details.iter().find_map(|detail| detail.get("reason")?.as_str());
    Some(ProviderError { message, code: reason.map(str::to_owned).or(status) })
}

/// `RetryInfo`: seconds with a fraction, as `37.5s`. The API sends no `Retry-After`.
pub(super) fn retry_after(body: &[u8]) -> Option<Duration> {
    let details = wire(body)?.details;
    let delay = details.iter().find_map(|detail| detail.get("retryDelay")?.as_str())?;
    let seconds: f64 = delay.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let body = body(ErrorClass::RateLimited, "Slow down.", Some("contents"), "rate_limited");
        let read = read(&body).unwrap();
        assert_eq!((read.message.as_str(), read.code.as_deref()), ("Slow down.", Some("RATE_LIMITED")));
        let value: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(value["error"]["code"], 429);
        assert_eq!(value["error"]["status"], "RESOURCE_EXHAUSTED");
        assert_eq!(value["error"]["details"][1]["fieldViolations"][0]["field"], "contents");
    }

    #[test]
    fn the_providers_own_forms_are_read() {
        let long = r#"[{"error":{"code":400,"status":"INVALID_ARGUMENT","message":
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."}}]"#;
        let overflow = read(long.as_bytes()).unwrap();
        assert_eq!(overflow.code.as_deref(), Some("INVALID_ARGUMENT"));
        assert!(overflow.is_context_overflow());
        let quota = r#"{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED","details":[
            {"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[]},
            {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"37.5s"}]}}"#;
        assert_eq!(retry_after(quota.as_bytes()), Some(Duration::from_millis(37_500)));
        assert_eq!(retry_after(quota.replace("37.5s", "-1s").as_bytes()), None);
        let key = r#"{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT","details":[
            {"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}]}}"#;
        assert!(read(key.as_bytes()).unwrap().is_about_the_credential());
        assert_eq!(read(b"<html>"), None);
        assert_eq!(read(b""), None);
        assert_eq!(read(b"[]"), None);
        assert_eq!(read(b"{\"error\":\"text\"}"), None);
    }
}
