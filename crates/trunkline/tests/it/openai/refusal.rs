//! What every refusal must look like.

use std::time::Duration;

use serde_json::Value;
use testkit::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::app::{PATIENCE, TestApp};

/// Asserts OpenAI's error body: `{"error": {message, type, param, code}}` and nothing else, as JSON, with an
/// id to ask about. Returns the inner object.
pub fn assert_openai_error(what: &str, response: &Response) -> Value {
    assert!((400..600).contains(&response.status), "{what}: {}", response.status);
    assert_eq!(response.header("content-type"), Some("application/json"), "{what}");
    assert!(response.header("x-request-id").is_some_and(|id| !id.is_empty()), "{what}");
    assert!(response.complete, "{what}: the body broke off");
    let body: Value = serde_json::from_slice(&response.body)
        .unwrap_or_else(|e| panic!("{what}: {e}: {}", String::from_utf8_lossy(&response.body)));
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(keys(&body), "error", "{what}");
    let error = &body["error"];
    assert_eq!(keys(error), "code message param type", "{what}");
    let message = error["message"].as_str().unwrap();
    // A sentence of bounded length: what the caller sent is not sent back.
    assert!(message.len() > 20 && message.len() < 1000, "{what}: {message}");
    assert!(message.ends_with(['.', ')']), "{what}: {message}");
    let class = error["type"].as_str().unwrap();
    assert!(class.ends_with("_error"), "{what}: {class}");
    assert!(error["code"].is_null() || error["code"].is_string(), "{what}: {error}");
    assert!(error["param"].is_null() || error["param"].is_string(), "{what}: {error}");
    error.clone()
}

/// Asserts one refusal: its status, code, and a piece of its sentence.
pub fn assert_refused(what: &str, response: &Response, status: u16, code: &str, says: &str) {
    let error = assert_openai_error(what, response);
    assert_eq!(response.status, status, "{what}: {error}");
    assert_eq!(error["code"], code, "{what}: {error}");
    assert!(error["message"].as_str().unwrap().contains(says), "{what}: {error}");
}

/// Writes bytes on a connection of its own and reads until the server closes it, which it must do in time.
pub async fn exchange(app: &TestApp, bytes: &[u8]) -> Vec<u8> {
    exchange_then(app, bytes, false).await
}

/// The same, where the client says that no more will come (half-closes) when `done`.
pub async fn exchange_then(app: &TestApp, bytes: &[u8], done: bool) -> Vec<u8> {
    let mut stream = app.client().connect().await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let write = async {
        // The server may close before it has read all: what it said before counts.
        let _ = writer.write_all(bytes).await;
        if done {
            let _ = writer.shutdown().await;
        }
        std::future::pending::<()>().await;
    };
    let mut received = Vec::new();
    let read = async { while let Ok(1..) = reader.read_buf(&mut received).await {} };
    let both = async {
        tokio::select! { () = read => {}, () = write => {} }
    };
    let closed = tokio::time::timeout(PATIENCE, both).await.is_ok();
    assert!(closed, "left open after {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(200)]));
    received
}

/// Reads the first answer among raw bytes, `None` when there is none.
pub fn first_answer(mut bytes: &[u8]) -> Option<Response> {
    while let Some(rest) = bytes.strip_prefix(b"HTTP/1.1 100 Continue\r\n\r\n") {
        bytes = rest;
    }
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> =
        lines.filter_map(|l| l.split_once(": ")).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    let length =
        headers.iter().find(|(n, _)| n == "content-length").map(|(_, v)| v.parse::<usize>().unwrap());
    let rest = &bytes[end + 4..];
    let body = rest[..length.unwrap_or(rest.len()).min(rest.len())].to_vec();
    let complete = length.is_none_or(|length| length == body.len());
    Some(Response { status, headers, body, complete })
}

/// Short enough that a test of a limit does not take long, long enough for a busy machine.
pub const SHORT: Duration = Duration::from_millis(300);
