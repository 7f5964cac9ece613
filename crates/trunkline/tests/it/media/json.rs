//! What is asked in JSON.

use testkit::Upstream;

use super::{JSON, app, fake, post};

/// Mutations that made it fail: the model not spliced; `searches` left out of the usage; the content type of the
/// answer not handed on.
#[tokio::test]
async fn each_goes_out_as_it_came_and_is_charged_by_its_unit() {
    let image: &[u8] = br#"{"created":1,"data":[{"b64_json":"AAAA"},{"b64_json":"BBBB"}]}"#;
    for (path, ask, answer, price, cost) in [
        (
            "/moderations",
            r#"{"input":["a", "b"],"model":"m","x": 1.0}"#,
            &br#"{"id":"modr-1","model":"real","results":[{"flagged":false}]}"#[..],
            "{request: 0.001}",
            "0.001",
        ),
        (
            "/rerank",
            r#"{"model":"m","query":"q","documents":["a",{"text":"b"}],"top_n":1}"#,
            br#"{"results":[{"index":1,"relevance_score":0.9}],"meta":{"billed_units":{"search_units":2}}}"#,
            "{search: 0.002}",
            "0.004",
        ),
        (
            "/images/generations",
            r#"{"model":"m","prompt":"a cat","n":3,"size":"1024x1024"}"#,
            image,
            "{image: 0.04}",
            "0.08",
        ),
        (
            "/images/edits",
            r#"{"model":"m","prompt":"a cat","images":[{"image_url":"data:image/png;base64,AAAA"}]}"#,
            image,
            "{image: 0.04}",
            "0.08",
        ),
        (
            "/audio/speech",
            "{\"model\":\"m\",\"input\":\"Grüß dich\",\"voice\":\"alloy\"}",
            b"ID3\x00\xff\xfe",
            "{character: 0.001}",
            "0.009",
        ),
    ] {
        let content_type = if path == "/audio/speech" { "audio/mpeg" } else { JSON };
        let upstream = fake(content_type, answer);
        let app = app(&upstream, price).await;
        let got = post(&app, &format!("/v1{path}"), JSON, ask.as_bytes()).await;
        assert_eq!(got.status, 200, "{path}: {:?}", String::from_utf8_lossy(&got.body));
        assert_eq!((&got.body[..], got.header("content-type")), (answer, Some(content_type)), "{path}");
        assert_eq!(got.header("x-trunkline-cost"), Some(cost), "{path}");
        let sent = upstream.requests().pop().unwrap();
        assert_eq!(sent.path, format!("/v1{path}"));
        assert_eq!(sent.text(), ask.replace("\"model\":\"m\"", "\"model\":\"real\""), "{path}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_with_what_to_change() {
    let upstream = Upstream::start();
    let app = app(&upstream, "{request: 0.001}").await;
    for (path, body, says) in [
        ("/moderations", r#"{"model":"m"}"#, "`input` must be"),
        ("/rerank", r#"{"model":"m","documents":["a"]}"#, "`query` must be"),
        ("/rerank", r#"{"model":"m","query":"q","documents":[]}"#, "`documents` must be"),
        ("/rerank", r#"{"model":"m","query":"q","documents":["a"],"stream":true}"#, "cannot be streamed"),
        ("/images/generations", r#"{"model":"m"}"#, "`prompt` must be"),
        ("/images/generations", r#"{"model":"m","prompt":"a","n":0}"#, "`n` must be"),
        ("/audio/speech", r#"{"model":"m","input":3}"#, "`input` must be"),
        ("/audio/transcriptions", r#"{"model":"m"}"#, "multipart/form-data"),
        ("/images/variations", r#"{"model":"m"}"#, "multipart/form-data"),
        ("/rerank", r#"{"model":"demo/chat","query":"q","documents":["a"]}"#, "no such service (rerank)"),
        ("/moderations", r#"{"model":"nobody/x","input":"a"}"#, "does not exist"),
    ] {
        let got = post(&app, &format!("/v1{path}"), JSON, body.as_bytes()).await;
        assert!((400..=404).contains(&got.status), "{path} {body}: {}", got.status);
        let message = got.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(says), "{path} {body}: {message}");
    }
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn what_is_no_answer_is_a_failure_and_costs_nothing() {
    for (path, body, content_type, answer) in [
        ("/moderations", r#"{"model":"m","input":"a"}"#, JSON, &b"{}"[..]),
        ("/rerank", r#"{"model":"m","query":"q","documents":["a"]}"#, JSON, b"{\"results\":"),
        ("/images/generations", r#"{"model":"m","prompt":"a"}"#, JSON, br#"{"error":{"message":"no"}}"#),
        ("/audio/speech", r#"{"model":"m","input":"a"}"#, JSON, br#"{"error":{"message":"no"}}"#),
        ("/audio/speech", r#"{"model":"m","input":"a"}"#, "audio/mpeg", b""),
    ] {
        let upstream = fake(content_type, answer);
        let app = app(&upstream, "{request: 0.001}").await;
        let got = post(&app, &format!("/v1{path}"), JSON, body.as_bytes()).await;
        assert_eq!(got.status, 502, "{path}");
        let groups = crate::admin::Admin::new(&app.url, &app.admin_key).get("/api/usage").await;
        assert!(!groups.to_string().contains("0.001"), "{path}: {groups}");
    }
}
