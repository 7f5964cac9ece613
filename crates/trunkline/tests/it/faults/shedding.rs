//! More than we take: refused at once by the replica, sent on to the next target by a provider's limit.

use std::time::{Duration, Instant};

use testkit::{Behaviour, Upstream};

use super::{CHAT, STREAMED, WHOLE, code, error_body, first_content, retry_after, upstream};
use crate::app::{PATIENCE, TestApp, alias};

/// A provider that says `Hello` and then is silent until we leave.
fn holding() -> Upstream {
    upstream(Behaviour::stall_after_events(2))
}

/// Settings in which provider `a` takes one request at a time.
fn narrow(urls: &[String]) -> String {
    alias(urls, "{retries: 0}").replacen("{kind:", "{max_concurrent_requests: 1, kind:", 1)
}

#[tokio::test]
async fn a_full_replica_refuses_at_once() {
    let a = holding();
    let settings = alias(&[a.base_url()], "{}") + "server: {max_concurrent_requests: 1}\n";
    let mut app = TestApp::start(&settings).await;
    let mut first = app.stream(CHAT, "shed-first", STREAMED).await;
    first_content(&mut first).await;

    for (id, body) in [("shed-whole", WHOLE), ("shed-stream", STREAMED)] {
        let began = Instant::now();
        let answer = app.post(CHAT, id, body).await;
        assert!(began.elapsed() < Duration::from_secs(5), "at once: {:?}", began.elapsed());
        let text = "This replica is serving as many requests as it takes; try again shortly.";
        let body = error_body(text, "overloaded_error", None, "overloaded");
        assert_eq!((answer.status, answer.text()), (503, body.as_str()));
        assert_eq!((retry_after(&answer), answer.header("x-trunkline-attempts")), (Some(1), Some("0")));
        let record = app.record(id).await;
        assert_eq!((&record["outcome"], &record["error_type"]), (&"failed".into(), &"overloaded".into()));
        assert_eq!((&record["status"], &record["attempts"]), (&503.into(), &0.into()));
        assert_eq!((&record["input_tokens"], &record["usage_estimated"]), (&0.into(), &false.into()));
    }
    assert_eq!(app.metric("trunkline_calls_shed_total", &[]).await, 2.0);
    assert_eq!(app.metric("trunkline_calls_total", &[("target", ""), ("outcome", "failed")]).await, 2.0);
    assert_eq!(a.requests().len(), 1);

    // The one that was there is not disturbed, and its place is free again when it is gone.
    assert_eq!(app.app().server.calls_in_flight(), 1);
    first.abort();
    app.settle().await;
    a.set_default(Behaviour::ok());
    assert_eq!(app.post(CHAT, "shed-after", WHOLE).await.status, 200);
}

#[tokio::test]
async fn places_are_given_back_whatever_becomes_of_a_call() {
    let a = upstream(Behaviour::ok());
    let settings = alias(&[a.base_url()], "{retries: 0, first_token_timeout: 800ms, request_timeout: 800ms}")
        + "server: {max_concurrent_requests: 1}\n";
    let mut app = TestApp::start(&settings).await;
    let ends = [
        (Behaviour::ok(), 200),
        (Behaviour::error(500, None), 502),
        (Behaviour::context_overflow(), 400),
        (Behaviour::no_response(), 504),
        (Behaviour::ok(), 200),
    ];
    for (n, (behaviour, status)) in ends.into_iter().enumerate() {
        for (kind, body) in [("whole", WHOLE), ("stream", STREAMED)] {
            a.script([behaviour.clone()]);
            let answer = app.post(CHAT, &format!("places-{n}-{kind}"), body).await;
            assert_eq!(answer.status, status, "{behaviour:?} {kind}");
            app.settle().await;
        }
    }
    assert_eq!(app.post(CHAT, "places-bad", "{").await.status, 400);
    app.settle().await;
    assert_eq!(app.metric("trunkline_calls_in_flight", &[]).await, 0.0);
}

#[tokio::test]
async fn what_a_provider_does_not_take_goes_to_the_next_target() {
    let (a, b) = (holding(), upstream(Behaviour::ok()));
    let mut app = TestApp::start(&narrow(&[a.base_url(), b.base_url()])).await;
    let mut first = app.stream(CHAT, "narrow-first", STREAMED).await;
    first_content(&mut first).await;
    let answer = app.post(CHAT, "narrow-second", WHOLE).await;
    assert_eq!((answer.status, answer.header("x-trunkline-target")), (200, Some("b/up-b")));
    assert_eq!(answer.header("x-trunkline-attempts"), Some("1"), "it waited for nobody");
    assert_eq!((a.requests().len(), b.requests().len()), (1, 1));

    first.abort();
    app.settle().await;
    a.set_default(Behaviour::ok());
    assert_eq!(app.post(CHAT, "narrow-third", WHOLE).await.header("x-trunkline-target"), Some("a/up-a"));
}

#[tokio::test]
async fn when_every_provider_has_all_it_takes_the_client_comes_later() {
    let a = holding();
    let mut app = TestApp::start(&narrow(&[a.base_url()])).await;
    let mut first = app.stream(CHAT, "busy-first", STREAMED).await;
    first_content(&mut first).await;
    let answer = app.post(CHAT, "busy-second", WHOLE).await;
    let text = "Every target of `m` is serving as many requests as it takes; try again shortly.";
    let body = error_body(text, "overloaded_error", None, "all_targets_busy");
    assert_eq!((answer.status, answer.text(), retry_after(&answer)), (503, body.as_str(), Some(1)));
    assert_eq!(app.record("busy-second").await["error_type"], "all_targets_busy");
    first.abort();
    app.settle().await;
}

#[tokio::test]
async fn a_providers_limit_counts_what_began_before_a_reload() {
    let a = holding();
    let mut app = TestApp::start(&narrow(&[a.base_url()])).await;
    let mut first = app.stream(CHAT, "reloaded-first", STREAMED).await;
    first_content(&mut first).await;
    let settings = app.app().settings().clone();
    assert_eq!(app.app().reload(settings), Ok(Vec::new()));
    let answer = app.post(CHAT, "reloaded-second", WHOLE).await;
    assert_eq!((answer.status, code(&answer)), (503, "all_targets_busy".into()));
    first.abort();
    app.settle().await;
    a.set_default(Behaviour::ok());
    assert_eq!(app.post(CHAT, "reloaded-third", WHOLE).await.status, 200);
}

#[tokio::test]
async fn a_refused_connection_is_a_mishap_like_others() {
    let (a, b) = (upstream(Behaviour::ok()), upstream(Behaviour::ok()));
    a.stop_listening();
    let settings = "{retries: 1, backoff: 1ms}";
    let alone = TestApp::start(&alias(&[a.base_url()], settings)).await;
    let answer = alone.post(CHAT, "refused-one", WHOLE).await;
    let body = error_body("`a/up-a` failed: no connection.", "server_error", None, "upstream_failed");
    assert_eq!((answer.status, answer.text()), (502, body.as_str()));
    assert_eq!(alone.metric("trunkline_attempts_total", &[("result", "connect")]).await, 2.0);
    assert_eq!(alone.record("refused-one").await["input_tokens"], 0);

    let app = TestApp::start(&alias(&[a.base_url(), b.base_url()], settings)).await;
    let mut stream = app.stream(CHAT, "refused-two", STREAMED).await;
    assert_eq!(stream.collect(PATIENCE).await, Behaviour::ok().expected_events(false));
    assert_eq!(stream.header("x-trunkline-attempts"), Some("3"));
}
