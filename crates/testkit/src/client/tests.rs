use super::*;
use crate::behaviour::Behaviour;
use crate::upstream::Upstream;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_request_is_sent_as_told() {
    let upstream = Upstream::start();
    let client = Client::new(upstream.base_url());
    client.post_json("/chat/completions", &[("Authorization", "Bearer k")], r#"{ "a" : 1 }"#).await;
    client.post_json("/chat/completions", &[("Content-Type", "text/plain")], "").await;
    client.get("/models", &[]).await;
    let received = upstream.requests();
    assert_eq!(received[0].path, "/v1/chat/completions");
    assert_eq!(received[0].body, br#"{ "a" : 1 }"#);
    let names: Vec<&str> = received[0].headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["host", "Authorization", "content-type", "content-length"]);
    assert_eq!(received[1].header("content-type"), Some("text/plain"));
    assert_eq!(received[1].header("content-length"), Some("0"));
    assert_eq!((received[2].method.as_str(), received[2].header("content-length")), ("GET", None));
}

#[tokio::test]
async fn an_answer_that_comes_before_the_request_is_read_is_seen() {
    // The head is malformed, so the fake answers 400 and closes while megabytes are still being written.
    let upstream = Upstream::start();
    let mut request = b"bad\r\n\r\n".to_vec();
    request.resize(8_000_000, b'x');
    let client = Client::new(upstream.base_url());
    let stream = client.open(&request).await.unwrap();
    assert_eq!(stream.status, 400);
}

#[tokio::test]
async fn events_end_at_either_kind_of_blank_line_and_a_part_is_left_over() {
    let upstream = Upstream::start();
    let bytes = "HTTP/1.1 200 OK\r\n\r\n: ping\n\ndata: a\r\n\r\ndata: b\ndata: c\n\ndata: par";
    upstream.set_default(Behaviour::raw(bytes));
    let client = Client::new(upstream.base_url());
    let mut stream = client.stream("/x", &[], "").await;
    assert_eq!(stream.collect(SOON).await, [": ping", "data: a", "data: b\ndata: c"]);
    assert_eq!(stream.leftover(), b"data: par");
    assert!(stream.received().ends_with(b"data: par"));
    assert!(stream.ended_cleanly(), "a body without framing ends with the connection");
}

#[tokio::test]
async fn surplus_bytes_after_a_body_are_seen() {
    let upstream = Upstream::start();
    upstream.set_default(Behaviour::raw("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP"));
    let client = Client::new(upstream.base_url());
    let mut stream = client.stream("/x", &[], "").await;
    assert_eq!(stream.collect(SOON).await, Vec::<String>::new());
    assert_eq!((stream.received(), stream.surplus()), (&b"ok"[..], &b"HTTP"[..]));
}

#[tokio::test]
#[should_panic(expected = "no event in 1ms")]
async fn a_missing_event_fails_the_test() {
    let upstream = Upstream::start();
    upstream.set_default(Behaviour::stall_after_events(0));
    let client = Client::new(upstream.base_url());
    let mut stream = client.stream("/chat/completions", &[], r#"{"stream":true}"#).await;
    stream.next_event(Duration::from_millis(1)).await;
}
