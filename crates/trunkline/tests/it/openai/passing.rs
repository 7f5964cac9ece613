//! What passes through: the bytes that the provider receives, and those that the client does.

use testkit::{Upstream, chat};

use crate::app::{TestApp, alias};

const HELLO: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"x_new":{"a":[1, 2.50]}}"#;

#[tokio::test]
async fn a_chat_reaches_the_provider_with_only_its_model_changed() {
    let upstream = Upstream::start();
    let app = TestApp::start(&alias(&[upstream.base_url()], "{}")).await;
    let answer = app.post("/v1/chat/completions", "pass-1", HELLO).await;
    assert_eq!((answer.status, answer.text()), (200, chat::body().as_str()));

    let received = &upstream.requests()[0];
    assert_eq!(received.path, "/v1/chat/completions");
    assert_eq!(received.text(), HELLO.replace(r#""m""#, r#""up-a""#));
    assert_eq!(received.header("authorization"), Some("Bearer sk-upstream-a-secret"));
    assert_eq!(received.header("x-request-id"), Some("pass-1"));
    let record = app.record("pass-1").await;
    assert_eq!(
        (&record["outcome"], &record["status"], &record["attempts"]),
        (&"ok".into(), &200.into(), &1.into())
    );
    assert_eq!((&record["input_tokens"], &record["output_tokens"]), (&11.into(), &7.into()));
    assert_eq!((&record["cached_tokens"], &record["reasoning_tokens"]), (&3.into(), &2.into()));
    assert_eq!(app.metric("trunkline_calls_total", &[("outcome", "ok"), ("target", "a/up-a")]).await, 1.0);
}

#[tokio::test]
async fn a_stream_is_forwarded_byte_for_byte_without_the_usage_nobody_asked_for() {
    let upstream = Upstream::start();
    let app = TestApp::start(&alias(&[upstream.base_url()], "{}")).await;
    let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}"#;
    let mut stream = app.stream("/v1/chat/completions", "pass-2", body).await;
    assert_eq!(stream.status, 200);
    assert_eq!(stream.collect(crate::app::PATIENCE).await, chat::events(false));
    assert!(stream.ended_cleanly());
    let sent = r#"{"model":"up-a","stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}],"stream":true}"#;
    assert_eq!(upstream.requests()[0].text(), sent);
    let record = app.record("pass-2").await;
    assert_eq!(
        (&record["outcome"], &record["output_tokens"], &record["usage_estimated"]),
        (&"ok".into(), &7.into(), &false.into())
    );
}
