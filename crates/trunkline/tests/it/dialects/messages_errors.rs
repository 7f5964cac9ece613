//! On Anthropic's surface every error is in Anthropic's form, whoever is the reason.

use serde_json::{Value, json};
use testkit::{Behaviour, Cut, Upstream};

use super::settings;
use crate::app::{PATIENCE, TestApp};

const MESSAGES: &str = "/v1/messages";
const BODY: &str = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;

/// Checks the form, and gives `type` and `error_code`.
fn kind(answer: &testkit::Response) -> (u16, String, String) {
    let body = answer.json();
    assert_eq!(body["type"], "error", "{body}");
    assert!(body["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (answer.status, text(&body["error"]["type"]), text(&body["error"]["details"]["error_code"]))
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told_in_anthropic_s_words() {
    let upstream = Upstream::start();
    let app = TestApp::start(&settings("openai-compatible", &upstream, "gpt")).await;
    let key = [("x-api-key", app.key.as_str())];
    for (headers, path, body, expected) in [
        (&key[..0], MESSAGES, BODY, (401, "authentication_error", "missing_api_key")),
        (&[("x-api-key", "nonsense")][..], MESSAGES, BODY, (401, "authentication_error", "invalid_api_key")),
        (&key[..0], "/v1/messages/count_tokens", BODY, (401, "authentication_error", "missing_api_key")),
        (&key[..], MESSAGES, "{", (400, "invalid_request_error", "invalid_request")),
        (
            &key[..],
            MESSAGES,
            r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#,
            (400, "invalid_request_error", "invalid_request"),
        ),
        (
            &key[..],
            MESSAGES,
            r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":[{"type":"search_result","source":"s"}]}]}"#,
            (400, "invalid_request_error", "invalid_request"),
        ),
        (
            &key[..],
            MESSAGES,
            r#"{"model":"nobody","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#,
            (404, "not_found_error", "model_not_found"),
        ),
        (&key[..], "/v1/messages/batches", BODY, (404, "not_found_error", "not_found")),
    ] {
        let answer = app.client().post_json(path, headers, body).await;
        let (status, class, code) = kind(&answer);
        assert_eq!((status, class.as_str(), code.as_str()), expected, "{path} {body}");
    }
    let get = app.client().get(MESSAGES, &key).await;
    assert_eq!((kind(&get).0, get.header("allow")), (405, Some("POST")));
    assert!(upstream.requests().is_empty());
}

/// Failures of providers of two dialects, told in the same words.
#[tokio::test]
async fn what_is_wrong_with_a_provider_is_told_in_anthropic_s_words() {
    for provider in ["openai-compatible", "anthropic"] {
        let upstream = Upstream::start();
        let app = TestApp::start(&settings(provider, &upstream, "up")).await;
        for (behaviour, expected, retry_after) in [
            (Behaviour::error(429, Some("7")), (429, "rate_limit_error", "upstream_rate_limited"), Some("7")),
            (Behaviour::error(500, None), (502, "api_error", "upstream_failed"), None),
            (Behaviour::error(401, None), (502, "api_error", "upstream_credential_refused"), None),
            (Behaviour::html_error(502), (502, "api_error", "upstream_failed"), None),
            (Behaviour::reset(), (502, "api_error", "upstream_failed"), None),
            (Behaviour::not_json(), (502, "api_error", "upstream_failed"), None),
        ] {
            let name = behaviour.name().to_owned();
            upstream.script([behaviour]);
            let answer = app.post(MESSAGES, "failed", BODY).await;
            let (status, class, code) = kind(&answer);
            assert_eq!((status, class.as_str(), code.as_str()), expected, "{provider} {name}");
            assert_eq!(answer.header("retry-after"), retry_after, "{provider} {name}");
            assert!(!answer.text().contains("sk-upstream-secret"));
        }
        // What the provider says about the request is the caller's to know.
        upstream.script([Behaviour::context_overflow()]);
        let answer = app.post(MESSAGES, "overflow", BODY).await;
        let (status, class, _) = kind(&answer);
        assert_eq!((status, class.as_str()), (400, "invalid_request_error"), "{provider}");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_ends_in_an_error_event() {
    let body = BODY.replacen('{', "{\"stream\":true,", 1);
    for provider in ["openai-compatible", "anthropic", "bedrock"] {
        let upstream = Upstream::start();
        let app = TestApp::start(&settings(provider, &upstream, "up")).await;
        for behaviour in [
            Behaviour::cut_after_events(3, Cut::Clean),
            Behaviour::error_event_after(3),
            Behaviour::malformed_chunk_after(3),
        ] {
            let name = behaviour.name().to_owned();
            upstream.script([behaviour]);
            let mut stream = app.stream(MESSAGES, "broken", &body).await;
            let events = stream.collect(PATIENCE).await;
            assert_eq!(stream.status, 200, "{provider} {name}");
            let last = events.last().unwrap();
            let data = last
                .strip_prefix("event: error\ndata: ")
                .unwrap_or_else(|| panic!("{provider} {name}: {events:?}"));
            let error: Value = serde_json::from_str(data).unwrap();
            assert_eq!((&error["type"], &error["error"]["type"]), (&json!("error"), &json!("api_error")));
            assert!(!events.iter().any(|event| event.contains("message_stop")), "{provider} {name}");
            assert!(events.iter().any(|event| event.contains("Hello")), "{provider} {name}: {events:?}");
        }
    }
}
