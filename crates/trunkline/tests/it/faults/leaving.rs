//! A client that goes away takes its work at the provider with it, and is accounted for.

use std::time::Duration;

use serde_json::Value;
use testkit::Behaviour;

use super::{CHAT, INPUT_TOKENS, STREAMED, WHOLE, first_content, upstream};
use crate::app::{PATIENCE, TestApp, alias};

/// How soon the provider must notice.
const SOON: Duration = Duration::from_secs(1);

fn used(record: &Value) -> (&Value, &Value, &Value) {
    (&record["input_tokens"], &record["output_tokens"], &record["usage_estimated"])
}

#[tokio::test]
async fn before_the_head_it_cancels_what_the_provider_does() {
    for (kind, body) in [("whole", WHOLE), ("stream", STREAMED)] {
        let a = upstream(Behaviour::no_response());
        let mut app = TestApp::start(&alias(&[a.base_url()], "{}")).await;
        let id = format!("leaves-early-{kind}");
        tokio::select! {
            answer = app.post(CHAT, &id, body) => panic!("an answer: {answer:?}"),
            _ = a.wait_for_requests(1, PATIENCE) => {}
        }
        a.wait_for_cancelled(1, SOON).await;
        app.settle().await;
        let record = app.record(&id).await;
        assert_eq!((&record["outcome"], &record["status"]), (&"cancelled".into(), &499.into()));
        assert_eq!((&record["attempts"], &record["routed_to"]), (&1.into(), &"a/up-a".into()));
        // It has the prompt, and may charge for it.
        assert_eq!(used(&record), (&INPUT_TOKENS.into(), &0.into(), &true.into()));
        let cancelled = [("outcome", "cancelled"), ("target", "a/up-a")];
        assert_eq!(app.metric("trunkline_calls_total", &cancelled).await, 1.0);
        assert_eq!(app.metric("trunkline_calls_in_flight", &[]).await, 0.0);
        assert_eq!(a.requests().len(), 1);
    }
}

#[tokio::test]
async fn within_a_stream_it_cancels_and_what_was_written_is_recorded() {
    let a = upstream(Behaviour::stall_after_events(4));
    let mut app = TestApp::start(&alias(&[a.base_url()], "{}")).await;
    let mut stream = app.stream(CHAT, "leaves-late", STREAMED).await;
    for _ in 0..4 {
        stream.next_event(PATIENCE).await.unwrap();
    }
    stream.abort();
    a.wait_for_cancelled(1, SOON).await;
    app.settle().await;
    let record = app.record("leaves-late").await;
    assert_eq!((&record["outcome"], &record["status"]), (&"cancelled".into(), &200.into()));
    assert_eq!(used(&record), (&INPUT_TOKENS.into(), &3.into(), &true.into()));
    assert!(record["error_type"].is_null(), "{record}");
    let estimated = [("source", "estimate"), ("type", "output"), ("provider", "a")];
    assert_eq!(app.metric("trunkline_tokens_total", &estimated).await, 3.0);
}

#[tokio::test]
async fn between_two_attempts_nothing_was_spent_and_nothing_more_is_sent() {
    let a = upstream(Behaviour::error(500, None));
    let mut app = TestApp::start(&alias(&[a.base_url()], "{backoff: 20s, max_backoff: 20s}")).await;
    tokio::select! {
        answer = app.post(CHAT, "leaves-between", WHOLE) => panic!("an answer: {answer:?}"),
        () = a.wait_for_completed(1, PATIENCE) => {}
    }
    app.settle().await;
    let record = app.record("leaves-between").await;
    assert_eq!((&record["outcome"], &record["attempts"]), (&"cancelled".into(), &1.into()));
    assert_eq!(a.requests().len(), 1);
}

#[tokio::test]
async fn it_does_not_count_against_the_target() {
    let a = upstream(Behaviour::stall_after_events(2));
    let settings = "{retries: 0, breaker: {failures: 1}}";
    let mut app = TestApp::start(&alias(&[a.base_url()], settings)).await;
    for n in 0..2 {
        let mut stream = app.stream(CHAT, &format!("leaves-{n}"), STREAMED).await;
        first_content(&mut stream).await;
        stream.abort();
        app.settle().await;
    }
    assert_eq!(super::breaker(&app, "a/up-a").await, "closed");
}

#[tokio::test]
async fn the_others_on_the_same_worker_go_on() {
    let a = upstream(Behaviour::ok());
    a.script([Behaviour::stall_after_events(2), Behaviour::slow_body(Duration::from_millis(20))]);
    let mut app = TestApp::start(&alias(&[a.base_url()], "{}")).await;
    let mut leaving = app.stream(CHAT, "leaving-one", STREAMED).await;
    first_content(&mut leaving).await;
    let mut staying = app.stream(CHAT, "staying-one", STREAMED).await;
    leaving.abort();
    assert_eq!(staying.collect(PATIENCE).await, Behaviour::ok().expected_events(false));
    app.settle().await;
    assert_eq!(app.record("leaving-one").await["outcome"], "cancelled");
    assert_eq!(app.record("staying-one").await["outcome"], "ok");
}
