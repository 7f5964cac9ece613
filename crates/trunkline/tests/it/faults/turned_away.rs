//! Answers that are neither good nor a mishap: a refused credential, an unknown model, a redirect, a filter.

use testkit::{Behaviour, Reply, chat};

use super::{CHAT, STREAMED, WHOLE, error_body, upstream};
use crate::app::{PATIENCE, TestApp, alias};

#[tokio::test]
async fn a_refused_credential_is_ours_and_not_the_clients() {
    for status in [401, 402, 403] {
        let words = chat::error_body("Incorrect API key sk-up***cret", "auth", None, Some("invalid_api_key"));
        let refusal = Behaviour::custom("refused credential", move |_| {
            Reply::whole(status, "application/json", words.clone())
        });
        let a = upstream(refusal.clone());
        let app = TestApp::start(&alias(&[a.base_url()], "{}")).await;
        for (kind, body) in [("whole", WHOLE), ("stream", STREAMED)] {
            let id = format!("credential-{status}-{kind}");
            let answer = app.post(CHAT, &id, body).await;
            let text = "The provider of `a/up-a` refused the credential configured for it; \
                        its operator must mend that.";
            let body = error_body(text, "server_error", None, "upstream_credential_refused");
            assert_eq!((answer.status, answer.text()), (502, body.as_str()));
            assert_eq!(answer.header("www-authenticate"), None);
            let record = app.record(&id).await;
            assert_eq!((&record["outcome"], &record["error_type"]), (&"failed".into(), &"credential".into()));
            assert_eq!((&record["attempts"], &record["input_tokens"]), (&1.into(), &0.into()));
            // The provider may have quoted the key in its words: they are not even in our log.
            let lines = app.lines(&id);
            assert!(lines.iter().all(|line| !line.contains("Incorrect API key")), "{lines:#?}");
        }
        let refused = [("provider", "a"), ("result", "credential")];
        assert_eq!(app.metric("trunkline_attempts_total", &refused).await, 2.0);

        let b = upstream(Behaviour::ok());
        let app = TestApp::start(&alias(&[a.base_url(), b.base_url()], "{}")).await;
        let answer = app.post(CHAT, &format!("credential-{status}-fallback"), WHOLE).await;
        assert_eq!((answer.status, answer.header("x-trunkline-target")), (200, Some("b/up-b")));
        assert_eq!(answer.header("x-trunkline-attempts"), Some("2"), "not tried twice with one key");
    }
}

#[tokio::test]
async fn a_model_that_a_provider_does_not_have_is_looked_for_elsewhere() {
    let (a, b) = (upstream(Behaviour::error(404, None)), upstream(Behaviour::ok()));
    let app = TestApp::start(&alias(&[a.base_url(), b.base_url()], "{}")).await;
    assert_eq!(app.post(CHAT, "404-whole", WHOLE).await.status, 200);
    let mut stream = app.stream(CHAT, "404-stream", STREAMED).await;
    assert_eq!(stream.collect(PATIENCE).await, chat::events(false));
    assert_eq!((a.requests().len(), b.requests().len()), (2, 2), "each asked once for each call");

    b.set_default(Behaviour::error(404, None));
    let answer = app.post(CHAT, "404-last", WHOLE).await;
    assert_eq!((answer.status, answer.body), (404, Behaviour::error(404, None).expected_body()));
    let record = app.record("404-last").await;
    assert_eq!((&record["outcome"], &record["error_type"]), (&"refused".into(), &"refused".into()));
    assert_eq!((&record["routed_to"], &record["attempts"]), (&"b/up-b".into(), &2.into()));
}

#[tokio::test]
async fn a_404_page_that_is_no_answer_of_an_api_is_not_handed_on() {
    let a = upstream(Behaviour::html_error(404));
    let app = TestApp::start(&alias(&[a.base_url()], "{}")).await;
    let answer = app.post(CHAT, "404-html", WHOLE).await;
    let body = error_body("`a/up-a` failed: it answered 404.", "server_error", None, "upstream_failed");
    assert_eq!((answer.status, answer.text()), (502, body.as_str()));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    for status in [301, 302, 307, 308] {
        let a = upstream(Behaviour::redirect(status));
        let app = TestApp::start(&alias(&[a.base_url()], "{}")).await;
        let answer = app.post(CHAT, &format!("redirect-{status}"), WHOLE).await;
        let text = format!("`a/up-a` failed: it answered {status}.");
        let body = error_body(&text, "server_error", None, "upstream_failed");
        assert_eq!((answer.status, answer.text()), (502, body.as_str()));
        assert_eq!(answer.header("location"), None);
        assert_eq!(a.requests().len(), 1, "neither followed nor tried again");

        let b = upstream(Behaviour::ok());
        let app = TestApp::start(&alias(&[a.base_url(), b.base_url()], "{}")).await;
        assert_eq!(app.post(CHAT, &format!("redirect-{status}-b"), WHOLE).await.status, 200);
    }
}

#[tokio::test]
async fn a_success_that_brings_no_answer_is_none() {
    let accepted = Behaviour::custom("202", |_| Reply::whole(202, "application/json", "{}"));
    let (a, b) = (upstream(accepted), upstream(Behaviour::ok()));
    let app = TestApp::start(&alias(&[a.base_url(), b.base_url()], "{}")).await;
    assert_eq!(app.post(CHAT, "202-two", WHOLE).await.status, 200);
    assert_eq!((a.requests().len(), b.requests().len()), (1, 1));
    let app = TestApp::start(&alias(&[a.base_url()], "{}")).await;
    let answer = app.post(CHAT, "202-one", WHOLE).await;
    let body = error_body("`a/up-a` failed: it answered 202.", "server_error", None, "upstream_failed");
    assert_eq!((answer.status, answer.text()), (502, body.as_str()));
}

#[tokio::test]
async fn an_error_in_the_clothes_of_an_answer_is_found_out() {
    for behaviour in [Behaviour::not_json(), Behaviour::html_error(200), Behaviour::truncated_body()] {
        let (a, b) = (upstream(behaviour.clone()), upstream(Behaviour::ok()));
        let settings = "{retries: 1, backoff: 1ms}";
        let app = TestApp::start(&alias(&[a.base_url()], settings)).await;
        let answer = app.post(CHAT, "clothes-one", WHOLE).await;
        let text = "`a/up-a` failed: its answer broke off or was malformed.";
        let body = error_body(text, "server_error", None, "upstream_failed");
        assert_eq!((answer.status, answer.text()), (502, body.as_str()), "{behaviour:?}");
        let app = TestApp::start(&alias(&[a.base_url(), b.base_url()], settings)).await;
        let answer = app.post(CHAT, "clothes-two", WHOLE).await;
        assert_eq!((answer.status, answer.header("x-trunkline-attempts")), (200, Some("3")), "{behaviour:?}");
    }
}

#[tokio::test]
async fn an_answer_that_a_filter_ended_is_an_answer() {
    let a = upstream(Behaviour::content_filter_finish());
    let app = TestApp::start(&alias(&[a.base_url()], "{}")).await;
    let answer = app.post(CHAT, "filter-whole", WHOLE).await;
    assert_eq!((answer.status, answer.body), (200, Behaviour::content_filter_finish().expected_body()));
    let mut stream = app.stream(CHAT, "filter-stream", STREAMED).await;
    let events = Behaviour::content_filter_finish().expected_events(false);
    assert_eq!(stream.collect(PATIENCE).await, events);
    for id in ["filter-whole", "filter-stream"] {
        let record = app.record(id).await;
        assert_eq!((&record["outcome"], &record["finish_reason"]), (&"ok".into(), &"content_filter".into()));
    }
    assert_eq!(a.requests().len(), 2);
}
