//! The fault suite: what the client sees, and what the log, the metrics and the provider are told, when
//! something goes wrong.
//!
//! `suite` goes through sixteen faults, each with one target and with a second one to fall back to, streamed
//! and not: `expected` is its table, `case` plays it and checks every side. The other files each hold one
//! rule of resilience to its details.

mod breaker;
mod case;
mod context;
mod expected;
mod leaving;
mod retry_after;
mod shedding;
mod streams;
mod suite;
mod turned_away;

use std::time::Duration;

use serde_json::Value;
use testkit::{Behaviour, Response, StreamResponse, Upstream};

use crate::app::{PATIENCE, TestApp};

const CHAT: &str = "/v1/chat/completions";
/// A request that is not streamed. Counted here it has [`INPUT_TOKENS`].
const WHOLE: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
/// The same, streamed.
const STREAMED: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}"#;
/// What we count for a request: 3 for a message, 1 for its role, 1 for its text, 3 for the answer's beginning.
const INPUT_TOKENS: u64 = 8;

/// A fake provider that always does this.
fn upstream(behaviour: Behaviour) -> Upstream {
    let upstream = Upstream::start();
    upstream.set_default(behaviour);
    upstream
}

/// An error body, and error event, in OpenAI's form, byte for byte.
fn error_body(message: &str, class: &str, param: Option<&str>, code: &str) -> String {
    let text = |text: &str| Value::from(text).to_string();
    let param = param.map_or("null".to_owned(), text);
    format!(
        r#"{{"error":{{"message":{},"type":{},"param":{param},"code":{}}}}}"#,
        text(message),
        text(class),
        text(code)
    )
}

/// The event that ends a stream that broke.
fn error_event(message: &str, code: &str) -> String {
    format!("data: {}", error_body(message, "server_error", None, code))
}

/// `Retry-After` in whole seconds, as we always write it.
fn retry_after(answer: &Response) -> Option<u64> {
    answer.header("retry-after").map(|text| text.parse().unwrap())
}

/// The code of an error answer.
fn code(answer: &Response) -> String {
    answer.json()["error"]["code"].as_str().unwrap().to_owned()
}

/// Reads until the first content has come.
async fn first_content(stream: &mut StreamResponse) {
    while !stream.next_event(PATIENCE).await.unwrap().contains(r#""delta":{"content":"Hello"}"#) {}
}

/// The breaker of a target, as `/health/ready` shows it.
async fn breaker(app: &TestApp, target: &str) -> String {
    let ready = app.client().get("/health/ready", &[]).await.json();
    let targets = ready["targets"].as_array().unwrap();
    let found = targets.iter().find(|state| state["target"] == target).unwrap();
    found["breaker"].as_str().unwrap().to_owned()
}

/// Between the arrivals of the first two requests.
fn gap(upstream: &Upstream) -> Duration {
    let requests = upstream.requests();
    requests[1].at.duration_since(requests[0].at)
}
