//! A request that is too long: a larger model may take it; else the provider's own words are handed on.

use testkit::{Behaviour, Upstream};

use super::{CHAT, STREAMED, WHOLE, upstream};
use crate::app::{PATIENCE, TestApp};

/// `m` leads to `a`, and to `large`, which is `b`, when a request is too long for it.
async fn app(a: &Upstream, b: &Upstream) -> TestApp {
    let (a, b) = (a.base_url(), b.base_url());
    TestApp::start(&format!(
        "providers:
  a: {{kind: openai-compatible, base_url: \"{a}\", api_key: sk-upstream-a-secret}}
  b: {{kind: openai-compatible, base_url: \"{b}\", api_key: sk-upstream-b-secret}}
models:
  m: {{targets: [{{provider: a, model: up-a}}], context_fallback: large}}
  large: {{targets: [{{provider: b, model: up-b}}]}}
resilience: {{retries: 1, backoff: 1ms}}
"
    ))
    .await
}

#[tokio::test]
async fn the_larger_model_takes_over() {
    let (a, b) = (upstream(Behaviour::context_overflow()), upstream(Behaviour::ok()));
    let app = app(&a, &b).await;
    let answer = app.post(CHAT, "larger-whole", WHOLE).await;
    assert_eq!((answer.status, answer.body), (200, Behaviour::ok().expected_body()));
    let mut stream = app.stream(CHAT, "larger-stream", STREAMED).await;
    assert_eq!(stream.collect(PATIENCE).await, Behaviour::ok().expected_events(false));
    for id in ["larger-whole", "larger-stream"] {
        let record = app.record(id).await;
        assert_eq!((&record["outcome"], &record["attempts"]), (&"ok".into(), &2.into()));
        assert_eq!((&record["routed_to"], &record["model"]), (&"b/up-b".into(), &"m".into()));
    }
    assert_eq!((a.requests().len(), b.requests().len()), (2, 2));
    assert_eq!(b.requests()[0].json()["model"], "up-b");
}

#[tokio::test]
async fn the_original_refusal_is_handed_on_when_it_fails_too() {
    let fails = [
        Behaviour::error(500, None),
        Behaviour::error(429, None),
        Behaviour::error(401, None),
        Behaviour::reset(),
    ];
    for (n, behaviour) in fails.into_iter().enumerate() {
        let (a, b) = (upstream(Behaviour::context_overflow()), upstream(behaviour.clone()));
        let app = app(&a, &b).await;
        for (kind, body) in [("whole", WHOLE), ("stream", STREAMED)] {
            let id = format!("original-{kind}-{n}");
            let answer = app.post(CHAT, &id, body).await;
            let refusal = Behaviour::context_overflow().expected_body();
            assert_eq!((answer.status, answer.text().as_bytes()), (400, &refusal[..]), "{behaviour:?}");
            assert_eq!(answer.header("x-trunkline-target"), Some("a/up-a"), "{behaviour:?}");
            let record = app.record(&id).await;
            assert_eq!((&record["outcome"], &record["error_type"]), (&"refused".into(), &"refused".into()));
            assert!(record["error"].as_str().unwrap().contains("maximum context length"), "{record}");
            assert_eq!(record["input_tokens"], 0);
        }
        assert!(!b.requests().is_empty());
    }
}

#[tokio::test]
async fn the_larger_models_own_refusal_for_length_is_no_better() {
    let (a, b) = (upstream(Behaviour::context_overflow()), upstream(Behaviour::context_overflow()));
    let app = app(&a, &b).await;
    assert_eq!(app.post(CHAT, "too-long-for-both", WHOLE).await.status, 400);
    assert_eq!((a.requests().len(), b.requests().len()), (1, 1));
}

#[tokio::test]
async fn no_other_refusal_goes_to_the_larger_model() {
    let (a, b) = (upstream(Behaviour::content_filter_refusal()), upstream(Behaviour::ok()));
    let app = app(&a, &b).await;
    let answer = app.post(CHAT, "filtered", WHOLE).await;
    assert_eq!((answer.status, answer.body), (400, Behaviour::content_filter_refusal().expected_body()));
    assert_eq!(b.requests().len(), 0);
}
