//! Requests that are wrong: each gets OpenAI's error with a sentence that says what to change.

use testkit::{Behaviour, Response, Upstream};

use super::refusal::{assert_openai_error, assert_refused};
use crate::app::{TestApp, alias};

const CHAT: &str = "/v1/chat/completions";
const EMBEDDINGS: &str = "/v1/embeddings";

async fn post(app: &TestApp, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let (name, value) = app.auth();
    let all: Vec<_> = [(name, value.as_str())].into_iter().chain(headers.iter().copied()).collect();
    app.client().post_json(path, &all, body).await
}

#[tokio::test]
async fn bodies_that_no_provider_should_see() {
    let upstream = Upstream::start();
    let app = TestApp::start(&alias(&[upstream.base_url()], "{}")).await;
    let nested = |open: &str, close: &str, n| {
        format!(r#"{{"model":"m","messages":[1],"x":{}1{}}}"#, open.repeat(n), close.repeat(n))
    };
    let with = |rest: &str| {
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],{rest}}}"#).into_bytes()
    };
    let cases: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        // (what, body, param, a piece of the sentence)
        ("nothing", b"".to_vec(), "", "empty"),
        ("spaces", b" \n ".to_vec(), "", "not valid JSON"),
        ("a byte order mark", "\u{feff}{}".into(), "", "not valid JSON"),
        ("UTF-16", b"\xff\xfe{\0}\0".to_vec(), "", "not valid JSON"),
        ("a form", b"model=m&messages=hi".to_vec(), "", "not valid JSON"),
        ("a NUL", b"\0".to_vec(), "", "not valid JSON"),
        ("a list", b"[]".to_vec(), "", "must be a JSON object"),
        ("null", b"null".to_vec(), "", "must be a JSON object"),
        ("a number", b"-1e5".to_vec(), "", "must be a JSON object"),
        ("a long text", format!("\"{}\"", "a".repeat(1 << 20)).into(), "", "must be a JSON object"),
        ("half an object", with("")[..30].to_vec(), "", "EOF"),
        ("a comma too many", with(r#""x":1,"#), "", "trailing comma"),
        ("a comment", with("\"x\":1 /* one */"), "", "not valid JSON"),
        ("single quotes", b"{'model':'m'}".to_vec(), "", "not valid JSON"),
        ("NaN", with(r#""temperature":NaN"#), "", "not valid JSON"),
        ("two values", b"{} {}".to_vec(), "", "trailing characters"),
        ("bad UTF-8", [&with("")[..20], b"\xc3\x28\"}]}"].concat(), "", "not valid JSON"),
        ("half a surrogate pair", with(r#""x":"\ud83d""#), "", "not valid JSON"),
        ("a bare control character", with("\"x\":\"a\u{1}\""), "", "not valid JSON"),
        ("lists of lists", nested("[", "]", 100_000).into(), "", "nested deeper"),
        ("objects of objects", nested("{\"a\":", "}", 100_000).into(), "", "nested deeper"),
        ("unclosed lists", "[".repeat(1 << 20).into(), "", "must be a JSON object"),
        ("an absurd number", with(r#""x":1e99999"#), "", "number out of range"),
        ("two models", with(r#""model":"n""#), "", "`model` twice"),
        ("two models, one in disguise", with(r#""mod\u0065l":"n""#), "", "`model` twice"),
        ("two lists of messages", with(r#""messages":[1]"#), "", "`messages` twice"),
        ("no fields", b"{}".to_vec(), "model", "must provide a `model`"),
        ("model null", br#"{"model":null,"messages":[1]}"#.to_vec(), "model", "must be a string"),
        ("model empty", br#"{"model":"","messages":[1]}"#.to_vec(), "model", "is empty"),
        (
            "a long model",
            format!(r#"{{"model":"{}","messages":[1]}}"#, "m".repeat(257)).into(),
            "model",
            "at most 256",
        ),
        (
            "a line in the model",
            br#"{"model":"a\nb","messages":[1]}"#.to_vec(),
            "model",
            "no control characters",
        ),
        ("no messages", br#"{"model":"m"}"#.to_vec(), "messages", "at least one message"),
        ("empty messages", br#"{"model":"m","messages":[]}"#.to_vec(), "messages", "at least one message"),
        (
            "messages as text",
            br#"{"model":"m","messages":"hi"}"#.to_vec(),
            "messages",
            "at least one message",
        ),
        ("stream as text", with(r#""stream":"true""#), "stream", "true or false"),
        ("stream as number", with(r#""stream":1"#), "stream", "true or false"),
        (
            "a deep stream",
            with(&format!("\"stream\":{}1{}", "[".repeat(9000), "]".repeat(9000))),
            "stream",
            "true or false",
        ),
        (
            "stream_options as list",
            with(r#""stream":true,"stream_options":[]"#),
            "stream_options",
            "an object",
        ),
        (
            "include_usage as text",
            with(r#""stream":true,"stream_options":{"include_usage":"yes"}"#),
            "stream_options",
            "an object",
        ),
        ("max_tokens 0", with(r#""max_tokens":0"#), "max_tokens", "whole number"),
        ("max_tokens below 0", with(r#""max_tokens":-5"#), "max_tokens", "whole number"),
        ("max_tokens broken", with(r#""max_tokens":1.5"#), "max_tokens", "whole number"),
        (
            "max_tokens beyond 64 bits",
            with(r#""max_tokens":99999999999999999999"#),
            "max_tokens",
            "whole number",
        ),
        (
            "max_tokens as text",
            with(r#""max_completion_tokens":"many""#),
            "max_completion_tokens",
            "whole number",
        ),
        ("n of a billion", with(r#""n":1000000000"#), "n", "from 1 to 1024"),
    ];
    for (what, body, param, says) in cases {
        let answer = post(&app, CHAT, &[], &body).await;
        assert_refused(what, &answer, 400, "invalid_request", says);
        assert_eq!(answer.json()["error"]["param"].as_str().unwrap_or_default(), param, "{what}");
        assert_eq!(answer.json()["error"]["type"], "invalid_request_error", "{what}");
    }
    for (what, body, param, says) in [
        ("no input", r#"{"model":"m"}"#, "input", "a text, or a list"),
        ("an empty list", r#"{"model":"m","input":[]}"#, "input", "a text, or a list"),
        ("an object", r#"{"model":"m","input":{}}"#, "input", "a text, or a list"),
        ("a stream", r#"{"model":"m","input":"hi","stream":true}"#, "stream", "cannot be streamed"),
    ] {
        let answer = post(&app, EMBEDDINGS, &[], body.as_bytes()).await;
        assert_refused(what, &answer, 400, "invalid_request", says);
        assert_eq!(answer.json()["error"]["param"], param, "{what}");
    }
    assert_eq!(upstream.requests().len(), 0, "nothing of it reached the provider");
}

#[tokio::test]
async fn media_that_are_not_read() {
    let app = TestApp::start("").await;
    let body = br#"{"model":"demo/chat","messages":[{"role":"user","content":"hi"}]}"#;
    for media in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "",
        "json",
        "+json",
    ] {
        let answer = post(&app, CHAT, &[("content-type", media)], body).await;
        assert_refused(media, &answer, 415, "unsupported_media_type", "application/json");
    }
    for coding in ["gzip", "br", "deflate", "zstd", "gzip, identity", "x"] {
        let answer = post(&app, CHAT, &[("content-encoding", coding)], b"\x1f\x8b\x08\0\0").await;
        assert_refused(coding, &answer, 415, "unsupported_encoding", "send it as it is");
    }
    for headers in [
        [("content-type", "application/json; charset=utf-8")],
        [("content-type", "Application/JSON")],
        [("content-type", "application/vnd.api+json")],
        [("content-encoding", "identity")],
    ] {
        assert_eq!(post(&app, CHAT, &headers, body).await.status, 200, "{headers:?}");
    }
    // As OpenAI does, a body without a media type is taken for JSON.
    let (name, value) = app.auth();
    let answer = app.client().try_send("POST", CHAT, &[(name, &value)], body).await.unwrap();
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn the_largest_body_passes_and_one_byte_more_does_not() {
    let upstream = Upstream::start();
    let app = TestApp::start(&alias(&[upstream.base_url()], "{}")).await;
    let limit = 20 << 20;
    let (before, after) = (r#"{"model":"m","messages":[{"role":"user","content":""#, r#""}]}"#);
    let sized = |size: usize| {
        let mut body = Vec::with_capacity(size);
        body.extend_from_slice(before.as_bytes());
        body.resize(size - after.len(), b'a');
        body.extend_from_slice(after.as_bytes());
        body
    };
    for size in [limit - 1, limit] {
        let answer = app.post(CHAT, &format!("large-{size}"), sized(size)).await;
        assert_eq!(answer.status, 200, "{size}: {}", answer.text());
    }
    let lengths: Vec<usize> = upstream.requests().iter().map(|r| r.body.len()).collect();
    let longer = r#""up-a""#.len() - r#""m""#.len();
    assert_eq!(lengths, [limit - 1 + longer, limit + longer], "whole");

    let answer = app.post(CHAT, "large-not", sized(limit + 1)).await;
    assert_refused("declared", &answer, 413, "request_too_large", "larger than 20971520 bytes");
    let body = sized(limit + 1);
    let chunks = [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n",
        app.key
    );
    let received = super::refusal::exchange(&app, &[head.as_bytes(), &chunks].concat()).await;
    let answer = super::refusal::first_answer(&received).unwrap();
    assert_refused("chunked", &answer, 413, "request_too_large", "larger than 20971520 bytes");
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test]
async fn models_that_nobody_knows() {
    let upstream = Upstream::start();
    let app = TestApp::start(&alias(&[upstream.base_url()], "{}")).await;
    for model in [
        "nothing",
        "M",
        "m ",
        "a/",
        "/x",
        "a",
        "b/x",
        "../m",
        "m\u{301}",
        "'; drop table models; --",
        "{{7*7}}",
        "<script>",
    ] {
        for (path, rest) in [(CHAT, r#""messages":[1]"#), (EMBEDDINGS, r#""input":"hi""#)] {
            let body = format!(r#"{{"model":{},{rest}}}"#, serde_json::Value::from(model));
            let answer = app.post(path, "unknown", body).await;
            assert_refused(model, &answer, 404, "model_not_found", "/v1/models");
            assert_eq!(answer.json()["error"]["param"], "model");
            assert!(
                answer.json()["error"]["message"].as_str().unwrap().contains("`a`"),
                "names the providers"
            );
        }
    }
    assert_eq!(upstream.requests().len(), 0);
}

/// A provider's refusal speaks to the caller in OpenAI's dialect: it is handed on, status and bytes.
#[tokio::test]
async fn a_providers_refusal_is_handed_on_as_it_came() {
    let upstream = Upstream::start();
    let app = TestApp::start(&alias(&[upstream.base_url()], "{retries: 0}")).await;
    for status in [400, 404, 413, 415, 422] {
        let refusal = Behaviour::error(status, None);
        upstream.script([refusal.clone()]);
        let answer = app.post(CHAT, &format!("handed-{status}"), r#"{"model":"m","messages":[1]}"#).await;
        assert_eq!((answer.status, &answer.body), (status, &refusal.expected_body()));
        assert_openai_error("handed on", &answer);
    }
    // Words that are not OpenAI's are not handed on; that is a gateway's failure, not the caller's.
    upstream.script([Behaviour::html_error(400)]);
    let answer = app.post(CHAT, "handed-html", r#"{"model":"m","messages":[1]}"#).await;
    assert_refused("HTML", &answer, 502, "upstream_failed", "it answered 400");
}
