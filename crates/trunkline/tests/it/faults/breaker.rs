//! The breaker of a target: open, half-open, closed, and where that shows.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use testkit::{Behaviour, Response, Upstream};

use super::{CHAT, STREAMED, WHOLE, breaker, code, first_content, retry_after, upstream};
use crate::app::{PATIENCE, TestApp, alias};

/// Opens after two failures, each call one attempt.
async fn app(upstreams: &[&Upstream], open_for: &str) -> TestApp {
    let urls: Vec<String> = upstreams.iter().map(|upstream| upstream.base_url()).collect();
    let breaker = format!("{{failures: 2, successes: 2, open_for: {open_for}}}");
    TestApp::start(&alias(&urls, &format!("{{retries: 0, breaker: {breaker}}}"))).await
}

async fn open(app: &TestApp, id: &str) {
    for n in 0..2 {
        assert_eq!(app.post(CHAT, &format!("{id}-opens-{n}"), WHOLE).await.status, 502);
    }
    // Where `open_for` is short it is half-open as soon as one looks.
    assert_ne!(breaker(app, "a/up-a").await, "closed");
}

async fn half_open(app: &TestApp) {
    let deadline = Instant::now() + PATIENCE;
    while breaker(app, "a/up-a").await != "half_open" {
        assert!(Instant::now() < deadline, "the breaker stays open");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn left_alone(answer: &Response) -> bool {
    answer.status == 503 && code(answer) == "all_targets_unavailable"
}

async fn state_metric(app: &TestApp) -> f64 {
    app.metric("trunkline_breaker_state", &[("target", "a/up-a")]).await
}

#[tokio::test]
async fn it_opens_after_failures_in_a_row_and_then_nothing_is_sent() {
    let a = upstream(Behaviour::error(500, None));
    let app = app(&[&a], "40s").await;
    assert_eq!(app.post(CHAT, "opening-1", WHOLE).await.status, 502);
    a.script([Behaviour::ok()]);
    assert_eq!(app.post(CHAT, "opening-2", WHOLE).await.status, 200);
    assert_eq!(app.post(CHAT, "opening-3", WHOLE).await.status, 502);
    assert_eq!((breaker(&app, "a/up-a").await.as_str(), state_metric(&app).await), ("closed", 0.0));
    assert_eq!(app.post(CHAT, "opening-4", WHOLE).await.status, 502);
    assert_eq!((breaker(&app, "a/up-a").await.as_str(), state_metric(&app).await), ("open", 2.0));

    for (id, body) in [("open-whole", WHOLE), ("open-stream", STREAMED)] {
        let answer = app.post(CHAT, id, body).await;
        let text = "Every target of `m` has failed repeatedly and is left alone for now.";
        let body = super::error_body(text, "overloaded_error", None, "all_targets_unavailable");
        assert_eq!((answer.status, answer.text()), (503, body.as_str()));
        let wait = retry_after(&answer).unwrap();
        assert!((20..=40).contains(&wait), "until it is tried again: {wait}");
        let record = app.record(id).await;
        assert_eq!((&record["outcome"], &record["attempts"]), (&"failed".into(), &0.into()));
        assert_eq!(record["error_type"], "all_targets_unavailable");
        assert!(record["routed_to"].is_null() && answer.header("x-trunkline-target").is_none());
        assert_eq!((&record["input_tokens"], &record["usage_estimated"]), (&0.into(), &false.into()));
    }
    assert_eq!(a.requests().len(), 4, "nothing was sent to it");
    let unsent = [("target", ""), ("outcome", "failed")];
    assert_eq!(app.metric("trunkline_calls_total", &unsent).await, 2.0);
    let ready = app.client().get("/health/ready", &[]).await;
    assert_eq!((ready.status, &ready.json()["status"]), (200, &"degraded".into()));
}

#[tokio::test]
async fn an_open_target_is_passed_over_for_the_next() {
    let (a, b) = (upstream(Behaviour::error(500, None)), upstream(Behaviour::ok()));
    let app = app(&[&a, &b], "60s").await;
    for n in 0..4 {
        assert_eq!(app.post(CHAT, &format!("over-{n}"), WHOLE).await.status, 200);
    }
    assert_eq!((a.requests().len(), b.requests().len()), (2, 4));
    assert_eq!(app.record("over-3").await["attempts"], 1);
}

#[tokio::test]
async fn half_open_it_admits_exactly_one_probe() {
    let a = upstream(Behaviour::error(500, None));
    let app = app(&[&a], "50ms").await;
    open(&app, "probe").await;
    a.set_default(Behaviour::delay(Duration::from_millis(1500), Behaviour::ok()));
    half_open(&app).await;
    assert_eq!(state_metric(&app).await, 1.0);
    let ids: Vec<String> = (0..20).map(|n| format!("probe-{n}")).collect();
    let answers = join_all(ids.iter().map(|id| app.post(CHAT, id, WHOLE))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    assert_eq!(answers.iter().filter(|answer| left_alone(answer)).count(), 19);
    assert!(answers.iter().filter(|answer| left_alone(answer)).all(|a| retry_after(a) == Some(1)));
    assert_eq!(a.requests().len(), 3, "two that opened it, one probe");
}

#[tokio::test]
async fn it_closes_after_enough_good_probes() {
    let a = upstream(Behaviour::error(500, None));
    let app = app(&[&a], "50ms").await;
    open(&app, "closing").await;
    a.set_default(Behaviour::ok());
    half_open(&app).await;
    assert_eq!(app.post(CHAT, "closing-whole", WHOLE).await.status, 200);
    assert_eq!(breaker(&app, "a/up-a").await, "half_open", "one is not enough");
    let mut stream = app.stream(CHAT, "closing-stream", STREAMED).await;
    stream.collect(PATIENCE).await;
    assert_eq!((breaker(&app, "a/up-a").await.as_str(), state_metric(&app).await), ("closed", 0.0));
    let ids: Vec<String> = (0..20).map(|n| format!("closed-{n}")).collect();
    let answers = join_all(ids.iter().map(|id| app.post(CHAT, id, WHOLE))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "everything passes");
}

#[tokio::test]
async fn a_failed_probe_opens_it_again() {
    let a = upstream(Behaviour::error(500, None));
    let app = app(&[&a], "1s").await;
    open(&app, "again").await;
    half_open(&app).await;
    assert_eq!(app.post(CHAT, "again-probe", WHOLE).await.status, 502);
    assert!(left_alone(&app.post(CHAT, "again-after", WHOLE).await));
    assert_eq!(a.requests().len(), 3);
}

#[tokio::test]
async fn a_probe_that_streams_does_not_keep_the_others_out() {
    let a = upstream(Behaviour::error(500, None));
    let mut app = app(&[&a], "50ms").await;
    open(&app, "long").await;
    a.set_default(Behaviour::ok());
    a.script([Behaviour::stall_after_events(2)]);
    half_open(&app).await;
    let mut probe = app.stream(CHAT, "long-probe", STREAMED).await;
    first_content(&mut probe).await;
    // It is still under way; its first token has spoken for the target.
    assert_eq!(app.post(CHAT, "long-second", WHOLE).await.status, 200);
    assert_eq!(breaker(&app, "a/up-a").await, "closed");
    probe.abort();
    app.settle().await;
}

#[tokio::test]
async fn a_probe_whose_client_left_makes_room_for_the_next() {
    let a = upstream(Behaviour::error(500, None));
    let mut app = app(&[&a], "50ms").await;
    open(&app, "left").await;
    a.set_default(Behaviour::no_response());
    half_open(&app).await;
    tokio::select! {
        answer = app.post(CHAT, "left-probe", WHOLE) => panic!("an answer: {answer:?}"),
        _ = a.wait_for_requests(3, PATIENCE) => {}
    }
    app.settle().await;
    a.set_default(Behaviour::ok());
    assert_eq!(app.post(CHAT, "left-next", WHOLE).await.status, 200);
}

#[tokio::test]
async fn a_stream_that_breaks_off_counts_against_its_target() {
    let a = upstream(Behaviour::cut_late());
    let app = app(&[&a], "60s").await;
    for n in 0..2 {
        let mut stream = app.stream(CHAT, &format!("breaks-{n}"), STREAMED).await;
        assert_eq!(stream.status, 200);
        stream.collect(PATIENCE).await;
    }
    assert!(left_alone(&app.post(CHAT, "breaks-after", STREAMED).await));
}

#[tokio::test]
async fn what_does_not_speak_of_ill_health_leaves_it_closed() {
    let bad = [Behaviour::error(429, None), Behaviour::error(404, None), Behaviour::context_overflow()];
    for behaviour in bad {
        let a = upstream(behaviour);
        let app = app(&[&a], "60s").await;
        for n in 0..4 {
            app.post(CHAT, &format!("healthy-{n}"), WHOLE).await;
        }
        assert_eq!((breaker(&app, "a/up-a").await.as_str(), a.requests().len()), ("closed", 4));
    }
}

#[tokio::test]
async fn it_survives_a_reload_of_the_settings() {
    let a = upstream(Behaviour::error(500, None));
    let mut app = app(&[&a], "60s").await;
    open(&app, "reload").await;
    let mut settings = app.app().settings().clone();
    settings.resilience.retries = 1;
    assert_eq!(app.app().reload(settings), Ok(Vec::new()));
    assert_eq!(breaker(&app, "a/up-a").await, "open");
    assert!(left_alone(&app.post(CHAT, "reload-after", WHOLE).await));
    assert_eq!(a.requests().len(), 2);
}

#[tokio::test]
async fn it_is_shared_by_every_alias_of_a_target() {
    let a = upstream(Behaviour::error(500, None));
    let settings = alias(&[a.base_url()], "{retries: 0, breaker: {failures: 2}}");
    let second = "models:\n  other: {targets: [{provider: a, model: up-a}]}\n";
    let app = TestApp::start(&settings.replace("models:\n", second)).await;
    open(&app, "shared").await;
    let body = WHOLE.replace(r#""m""#, r#""other""#);
    assert!(left_alone(&app.post(CHAT, "shared-other", body).await));
}
