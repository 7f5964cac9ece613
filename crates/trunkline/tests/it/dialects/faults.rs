//! A fault of a provider is the same to the client whatever the provider speaks: each is met once at a provider of
//! OpenAI's dialect and once at one of another, and what the client sees is compared.

use serde_json::Value;
use testkit::{Fault, Upstream};

use super::settings;
use crate::app::{PATIENCE, TestApp};

const WHOLE: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const STREAMED: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}"#;

/// Those whose outcome does not hang on how long something takes: they are played elsewhere, and look the same to
/// every dialect.
const FAULTS: [Fault; 17] = [
    Fault::RateLimitedOnce,
    Fault::RateLimited,
    Fault::ServerErrorOnce,
    Fault::Unavailable,
    Fault::Reset,
    Fault::CutEarly,
    Fault::CutLate,
    Fault::MalformedChunk,
    Fault::MissingDone,
    Fault::ContextOverflow,
    Fault::ContentFilter,
    Fault::ResetLate,
    Fault::EndWithoutFinish,
    Fault::ErrorEventEarly,
    Fault::ErrorEventLate,
    Fault::TruncatedBody,
    Fault::NotJson,
];

/// What a client sees.
#[derive(Debug, PartialEq)]
struct Seen {
    status: u16,
    /// The text, and whether it came to its end.
    text: String,
    done: bool,
    /// The code of an error, whole or in the stream.
    code: Option<String>,
    retry_after: Option<String>,
    attempts: Option<String>,
    outcome: String,
}

/// Plays a fault at a provider of this kind. `against` keeps the ids of requests apart.
async fn play(kind: &str, against: &str, fault: Fault, stream: bool) -> Seen {
    let upstream = Upstream::start();
    let (script, after) = fault.script();
    upstream.script(script);
    upstream.set_default(after);
    let resilience = "retries: 1, backoff: 5ms";
    let app = TestApp::start(&settings(kind, &upstream, "up").replace("retries: 0", resilience)).await;
    let path = "/v1/chat/completions";
    let id = format!("fault-{kind}-{against}-{fault:?}-{stream}");
    let mut seen = if stream {
        let mut stream = app.stream(path, &id, STREAMED).await;
        let header = |name: &str| stream.header(name).map(str::to_owned);
        let (status, retry_after, attempts) =
            (stream.status, header("retry-after"), header("x-trunkline-attempts"));
        let whole = status != 200;
        let events = match whole {
            true => vec![String::from_utf8(stream.into_response(PATIENCE).await.body).unwrap()],
            false => stream.collect(PATIENCE).await,
        };
        let done = events.last().is_some_and(|event| event == "data: [DONE]");
        let data = events.iter().map(|event| event.strip_prefix("data: ").unwrap_or(event));
        let data: Vec<Value> = data.filter_map(|data| serde_json::from_str(data).ok()).collect();
        let text = data.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
        let code = data.iter().find_map(|chunk| chunk["error"]["code"].as_str()).map(str::to_owned);
        Seen { status, text, done, code, retry_after, attempts, outcome: String::new() }
    } else {
        let answer = app.post(path, &id, WHOLE).await;
        let body = answer.json();
        let text = body["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned();
        let header = |name: &str| answer.header(name).map(str::to_owned);
        Seen {
            status: answer.status,
            done: answer.status == 200,
            text,
            code: body["error"]["code"].as_str().map(str::to_owned),
            retry_after: header("retry-after"),
            attempts: header("x-trunkline-attempts"),
            outcome: String::new(),
        }
    };
    seen.outcome = app.record(&id).await["outcome"].as_str().unwrap().to_owned();
    if fault == Fault::ContentFilter {
        // Each provider has a code of its own for it.
        seen.code = None;
    }
    seen
}

async fn compare(kind: &str) {
    for fault in FAULTS {
        for stream in [false, true] {
            let expected = play("openai-compatible", kind, fault, stream).await;
            assert_eq!(play(kind, kind, fault, stream).await, expected, "{kind} {fault:?} stream: {stream}");
        }
    }
}

#[tokio::test]
async fn anthropic_fails_as_openai_does() {
    compare("anthropic").await;
}

#[tokio::test]
async fn bedrock_fails_as_openai_does() {
    compare("bedrock").await;
}

#[tokio::test]
async fn gemini_fails_as_openai_does() {
    compare("gemini").await;
}
