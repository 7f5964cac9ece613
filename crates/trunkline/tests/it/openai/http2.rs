//! HTTP/2 on a plain port, with prior knowledge: calls and streams, many on one connection.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use testkit::{Upstream, chat};

use super::refusal::assert_refused;
use crate::app::{PATIENCE, TestApp, alias};

const HELLO: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const STREAM: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

async fn connect(app: &TestApp) -> SendRequest<Full<Bytes>> {
    let stream = app.client().connect().await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn post(app: &TestApp, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(format!("{}{path}", app.url))
        .header("authorization", format!("Bearer {}", app.key))
        .body(Full::new(body.into()))
        .unwrap()
}

async fn whole(response: Response<Incoming>) -> testkit::Response {
    let (head, body) = response.into_parts();
    let headers = head.headers.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    testkit::Response { status: head.status.as_u16(), headers, body, complete: true }
}

fn as_sent(events: &[String]) -> String {
    events.iter().map(|event| format!("{event}\n\n")).collect()
}

#[tokio::test]
async fn calls_and_many_streams_share_a_connection() {
    let upstream = Upstream::start();
    let mut app = TestApp::start(&alias(&[upstream.base_url()], "{}")).await;
    let mut sender = connect(&app).await;
    let answer = whole(sender.send_request(post(&app, "/v1/chat/completions", HELLO)).await.unwrap()).await;
    assert_eq!((answer.status, answer.text()), (200, chat::body().as_str()));
    assert_eq!(answer.header("x-trunkline-target"), Some("a/up-a"));

    let mut calls = Vec::new();
    for i in 0..100 {
        let body = if i % 4 == 0 { HELLO } else { STREAM };
        let answer = sender.send_request(post(&app, "/v1/chat/completions", body));
        calls.push(tokio::spawn(async move { (i, whole(answer.await.unwrap()).await) }));
    }
    for call in calls {
        let (i, answer) = tokio::time::timeout(PATIENCE, call).await.unwrap().unwrap();
        let expected = if i % 4 == 0 { chat::body() } else { as_sent(&chat::events(false)) };
        assert_eq!((answer.status, answer.text()), (200, expected.as_str()), "{i}");
    }
    assert_eq!(upstream.requests().len(), 101);
    assert_eq!(app.app().server.connections(), 1, "one connection for all");
}

#[tokio::test]
async fn refusals_are_those_of_http_1() {
    let app = TestApp::start("server: {max_body: 64KiB}\n").await;
    let mut sender = connect(&app).await;
    let mut send = async |request: Request<Full<Bytes>>| {
        let answer = tokio::time::timeout(PATIENCE, sender.send_request(request)).await.unwrap();
        whole(answer.unwrap()).await
    };
    let chat = "/v1/chat/completions";
    assert_refused("JSON", &send(post(&app, chat, "{")).await, 400, "invalid_request", "not valid JSON");
    // More than fits the window that is open before we read.
    let large = vec![b'a'; 4 << 20];
    let answer = send(post(&app, chat, large.clone())).await;
    assert_refused("too large", &answer, 413, "request_too_large", "65536 bytes");
    let mut keyless = post(&app, chat, large);
    keyless.headers_mut().remove("authorization");
    assert_refused("no key", &send(keyless).await, 401, "missing_api_key", "API key");
    assert_refused("no path", &send(post(&app, "/v1/x", "{}")).await, 404, "not_found", "nothing at");
    let body = r#"{"model":"demo/chat","messages":[{"role":"user","content":"hi"}]}"#;
    assert_eq!(send(post(&app, chat, body)).await.status, 200, "the connection goes on");
}
