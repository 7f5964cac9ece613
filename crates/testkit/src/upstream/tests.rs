use tokio::io::AsyncReadExt;

use super::*;
use crate::behaviour::Cut;
use crate::chat;
use crate::client::Client;

const SOON: Duration = Duration::from_secs(10);
const CHAT: &str = "/chat/completions";
const STREAM: &str = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;

/// A request whose answer ends with the connection, so that all of its bytes can be read.
fn closing(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn start(behaviour: Behaviour) -> (Upstream, Client) {
    let upstream = Upstream::start();
    upstream.script([behaviour]);
    let client = Client::new(upstream.base_url());
    (upstream, client)
}

/// Every behaviour that ends by itself and soon.
fn all_that_end() -> Vec<Behaviour> {
    let tick = Duration::from_millis(1);
    vec![
        Behaviour::ok(),
        Behaviour::ok_text("Zwölf \"Boxkämpfer\"\n jagen."),
        Behaviour::ok_tool_call(),
        Behaviour::without_usage(),
        Behaviour::null_usage(),
        Behaviour::huge_body(3_000_000),
        Behaviour::content_filter_finish(),
        Behaviour::error(500, None),
        Behaviour::rate_limited("2"),
        Behaviour::context_overflow(),
        Behaviour::content_filter_refusal(),
        Behaviour::html_error(502),
        Behaviour::redirect(302),
        Behaviour::close_before_response(),
        Behaviour::raw("HTTP/9 what\r\n"),
        Behaviour::slow_first_token(tick),
        Behaviour::slow_body(tick),
        Behaviour::delay(tick, Behaviour::ok()),
        Behaviour::split_bytes([1, 2, 3], Behaviour::ok()),
        Behaviour::cut_after_events(2, Cut::Clean),
        Behaviour::cut_after_events(2, Cut::Reset),
        Behaviour::cut_after_events(2, Cut::ChunkedEnd),
        Behaviour::cut_early(),
        Behaviour::cut_late(),
        Behaviour::malformed_chunk_after(3),
        Behaviour::missing_done(),
        Behaviour::error_event_after(1),
        Behaviour::truncated_body(),
        Behaviour::not_json(),
        Behaviour::wrong_content_type(),
        Behaviour::ignores_stream(),
        Behaviour::ok().with_header("X-Extra", "1"),
    ]
}

#[tokio::test]
async fn each_behaviour_writes_exactly_the_bytes_of_its_reply() {
    let upstream = Upstream::start();
    let client = Client::new(upstream.base_url());
    let asks = [
        (closing("/v1/chat/completions", "{}"), Ask::chat()),
        (closing("/v1/chat/completions", STREAM), Ask::chat_stream(true)),
        (closing("/v1/chat/completions", r#"{"stream":true}"#), Ask::chat_stream(false)),
        (closing("/v1/embeddings", r#"{"input":["a","b"]}"#), Ask::embeddings(2)),
    ];
    let mut played = 0;
    for behaviour in all_that_end() {
        for (request, ask) in &asks {
            upstream.script([behaviour.clone()]);
            let seen = client.raw_for(request, SOON).await;
            let expected = behaviour.reply(ask).bytes();
            assert!(
                seen == expected,
                "{behaviour:?} {ask:?}\n{}\n{}",
                seen.escape_ascii(),
                expected.escape_ascii()
            );
            played += 1;
        }
    }
    upstream.wait_for_completed(played, SOON).await;
    assert_eq!(upstream.cancelled(), 0);
    assert_eq!(upstream.protocol_errors(), Vec::<String>::new());
}

#[tokio::test]
async fn good_answers_are_those_of_the_constants() {
    let upstream = Upstream::start();
    let client = Client::new(upstream.base_url());
    let whole = client.post_json(CHAT, &[], "{}").await;
    assert_eq!((whole.status, whole.text(), whole.complete), (200, chat::body().as_str(), true));
    assert_eq!(whole.header("Content-Type"), Some("application/json"));
    for (body, usage) in [(STREAM, true), (r#"{"stream":true}"#, false)] {
        let mut stream = client.stream(CHAT, &[], body).await;
        assert_eq!(stream.header("content-type"), Some("text/event-stream; charset=utf-8"));
        assert_eq!(stream.collect(SOON).await, chat::events(usage));
        assert!(stream.ended_cleanly() && stream.leftover().is_empty());
        assert_eq!(Behaviour::ok().expected_events(usage), chat::events(usage));
    }
    let vectors = client.post_json("/embeddings", &[], r#"{"input":"a"}"#).await;
    assert_eq!(vectors.text(), chat::embeddings_body(1, false));
    assert_eq!(client.get("/models", &[]).await.text(), chat::models_body());
    assert_eq!(client.get("/nothing", &[]).await.status, 404);
}

#[tokio::test]
async fn requests_are_kept_as_they_arrived() {
    let upstream = Upstream::start();
    let client = Client::new(format!("http://127.0.0.1:{}", upstream.port()));
    client
        .raw(b"POST /a?b=c HTTP/1.1\r\nX-Twice: 1\r\nhOst: y\r\nX-Twice: 2\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab\n\r\n2;x=y\r\n\xff{\r\n0\r\n\r\n")
        .await;
    let received = &upstream.wait_for_requests(1, SOON).await[0];
    assert_eq!((received.method.as_str(), received.path.as_str()), ("POST", "/a?b=c"));
    let headers: Vec<(&str, &str)> =
        received.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(headers[..3], [("X-Twice", "1"), ("hOst", "y"), ("X-Twice", "2")]);
    assert_eq!(received.header("HOST"), Some("y"));
    assert_eq!(received.body, b"ab\n\xff{");
}

#[tokio::test]
async fn the_script_is_played_in_order_and_then_the_default() {
    let upstream = Upstream::start();
    upstream.script([Behaviour::error(500, None), Behaviour::rate_limited("2")]);
    upstream.set_default(Behaviour::ok_text("default"));
    let client = Client::new(upstream.base_url());
    let first = client.post_json(CHAT, &[], "{}").await;
    let second = client.post_json(CHAT, &[], "{}").await;
    assert_eq!((first.status, first.header("retry-after")), (500, None));
    assert_eq!((second.status, second.header("retry-after")), (429, Some("2")));
    assert_eq!(second.json()["error"]["code"], "rate_limit_exceeded");
    for _ in 0..2 {
        let later = client.post_json(CHAT, &[], "{}").await;
        assert_eq!(later.json()["choices"][0]["message"]["content"], "default");
    }
}

#[tokio::test]
async fn a_connection_serves_many_requests_and_pipelined_ones() {
    let upstream = Upstream::start();
    let client = Client::new(upstream.base_url());
    let get = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    let last = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec();
    let answers = client.raw_for(&[get.clone(), get, last].concat(), SOON).await;
    let one = Behaviour::ok().reply(&Ask::of("/v1/models", b"")).bytes();
    assert_eq!(answers, one.repeat(3));
    let connections: Vec<usize> = upstream.requests().iter().map(|received| received.connection).collect();
    assert_eq!((connections, upstream.connections()), (vec![0, 0, 0], 1));
    upstream.wait_for_open_connections(0, SOON).await;
}

#[tokio::test]
async fn a_reset_is_a_reset_and_a_close_is_a_close() {
    for (behaviour, kind) in [
        (Behaviour::reset(), io::ErrorKind::ConnectionReset),
        (Behaviour::close_before_response(), io::ErrorKind::UnexpectedEof),
    ] {
        let (upstream, client) = start(behaviour);
        let error = client.try_send("POST", CHAT, &[], b"{}").await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert_eq!((upstream.requests().len(), upstream.cancelled()), (1, 0));
    }
    // The same within a stream: the events arrive, then the read fails or ends.
    for (cut, kind) in [(Cut::Reset, Some(io::ErrorKind::ConnectionReset)), (Cut::Clean, None)] {
        let behaviour = Behaviour::cut_after_events(2, cut);
        let (_upstream, client) = start(behaviour.clone());
        let mut socket = client.connect().await.unwrap();
        socket.write_all(&closing("/v1/chat/completions", STREAM)).await.unwrap();
        let mut seen = Vec::new();
        let end = socket.read_to_end(&mut seen).await;
        assert_eq!(end.err().map(|error| error.kind()), kind);
        assert_eq!(seen, behaviour.reply(&Ask::chat_stream(true)).bytes());
    }
}

#[tokio::test]
async fn cut_streams_show_their_events_and_how_they_ended() {
    let all = chat::events(true);
    for (behaviour, events, clean) in [
        (Behaviour::cut_early(), 1, false),
        (Behaviour::cut_late(), 4, false),
        (Behaviour::truncated_body(), 3, false),
        (Behaviour::cut_after_events(3, Cut::Reset), 3, false),
        (Behaviour::cut_after_events(3, Cut::ChunkedEnd), 3, true),
        (Behaviour::missing_done(), 8, true),
    ] {
        let (_upstream, client) = start(behaviour.clone());
        let mut stream = client.stream(CHAT, &[], STREAM).await;
        assert_eq!(stream.collect(SOON).await, all[..events], "{behaviour:?}");
        assert_eq!((stream.ended_cleanly(), stream.broken()), (clean, !clean), "{behaviour:?}");
    }
}

#[tokio::test]
async fn broken_and_error_events_are_where_they_should_be() {
    let all = chat::events(true);
    let malformed = [&all[..3], &[chat::malformed_event()], &all[3..]].concat();
    assert_eq!(Behaviour::malformed_chunk_after(3).expected_events(true), malformed);
    let error = [&all[..4], &[chat::error_event()]].concat();
    assert_eq!(Behaviour::error_event_after(4).expected_events(true), error);
    assert_eq!(Behaviour::null_usage().expected_events(false), chat::events(false));
    assert_eq!(Behaviour::without_usage().expected_events(true), chat::events(false));
    let filtered = Behaviour::content_filter_finish().expected_events(false);
    assert!(filtered[3].contains(r#""finish_reason":"content_filter""#));
}

#[tokio::test]
async fn whole_bodies_are_cut_half_way() {
    for behaviour in
        [Behaviour::truncated_body(), Behaviour::cut_late(), Behaviour::cut_after_events(1, Cut::ChunkedEnd)]
    {
        let (_upstream, client) = start(behaviour);
        let response = client.post_json(CHAT, &[], "{}").await;
        let whole = chat::body();
        assert_eq!(response.header("content-length"), Some(whole.len().to_string().as_str()));
        assert_eq!(response.body, whole.as_bytes()[..whole.len() / 2]);
        assert!(!response.complete);
    }
}

#[tokio::test]
async fn silence_lasts_until_the_peer_leaves_and_is_counted() {
    let upstream = Upstream::start();
    upstream.script([Behaviour::stall_after_events(3), Behaviour::no_response(), Behaviour::ok()]);
    let client = Client::new(upstream.base_url());
    let mut stream = client.stream(CHAT, &[], STREAM).await;
    for event in &chat::events(true)[..3] {
        assert_eq!(stream.next_event(SOON).await.as_ref(), Some(event));
    }
    assert_eq!((upstream.cancelled(), upstream.open_connections()), (0, 1));
    stream.abort();
    upstream.wait_for_cancelled(1, SOON).await;

    let mut socket = client.connect().await.unwrap();
    socket.write_all(&closing("/v1/chat/completions", "{}")).await.unwrap();
    upstream.wait_for_requests(2, SOON).await;
    assert_eq!(upstream.cancelled(), 1);
    drop(socket);
    upstream.wait_for_cancelled(2, SOON).await;
    upstream.wait_for_open_connections(0, SOON).await;

    // Leaving after the whole answer is no cancellation.
    assert_eq!(client.post_json(CHAT, &[], "{}").await.status, 200);
    upstream.wait_for_open_connections(0, SOON).await;
    assert_eq!((upstream.cancelled(), upstream.completed()), (2, 1));
}

#[tokio::test]
async fn leaving_within_a_pause_is_a_cancellation() {
    let (upstream, client) = start(Behaviour::slow_first_token(Duration::from_secs(3600)));
    let mut stream = client.stream(CHAT, &[], STREAM).await;
    assert_eq!(stream.next_event(SOON).await.as_ref(), Some(&chat::events(true)[0]));
    stream.abort();
    upstream.wait_for_cancelled(1, SOON).await;
}

#[tokio::test]
async fn pauses_are_kept() {
    let pause = Duration::from_millis(60);
    for behaviour in [Behaviour::slow_first_token(pause), Behaviour::delay(pause, Behaviour::ok())] {
        for body in ["{}", STREAM] {
            let (_upstream, client) = start(behaviour.clone());
            let started = Instant::now();
            client.stream(CHAT, &[], body).await.into_response(SOON).await;
            assert!(started.elapsed() >= pause, "{behaviour:?}");
        }
    }
    let (_upstream, client) = start(Behaviour::slow_body(Duration::from_millis(10)));
    let started = Instant::now();
    client.stream(CHAT, &[], STREAM).await.into_response(SOON).await;
    assert!(started.elapsed() >= Duration::from_millis(90), "nine events, each after a pause");
}

#[tokio::test]
async fn split_bytes_arrive_apart() {
    let behaviour = Behaviour::split_bytes([1, 7], Behaviour::ok());
    let (_upstream, client) = start(behaviour.clone());
    let mut socket = client.connect().await.unwrap();
    socket.write_all(&closing("/v1/chat/completions", STREAM)).await.unwrap();
    let (mut seen, mut reads) = (Vec::new(), 0);
    while socket.read_buf(&mut seen).await.unwrap() > 0 {
        reads += 1;
    }
    assert_eq!(seen, Behaviour::ok().reply(&Ask::chat_stream(true)).bytes());
    assert!(reads > 10, "{} bytes came in {reads} reads", seen.len());
}

#[tokio::test]
async fn it_stops_listening_and_resumes_on_the_same_port() {
    let upstream = Upstream::start();
    let client = Client::new(upstream.base_url());
    upstream.set_default(Behaviour::stall_after_events(1));
    let mut busy = client.stream(CHAT, &[], STREAM).await;
    busy.next_event(SOON).await.unwrap();
    let mut idle = client.connect().await.unwrap();
    upstream.wait_for_open_connections(2, SOON).await;

    upstream.stop_listening();
    assert_eq!(upstream.open_connections(), 1, "the idle connection is closed, the busy one is not");
    assert_eq!(idle.read(&mut [0; 8]).await.unwrap(), 0);
    let refused = client.connect().await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    upstream.stop_listening();

    upstream.set_default(Behaviour::ok());
    upstream.resume_listening();
    upstream.resume_listening();
    assert_eq!(client.post_json(CHAT, &[], "{}").await.text(), chat::body());
    busy.abort();
    upstream.wait_for_cancelled(1, SOON).await;
}

#[tokio::test]
async fn what_is_not_http_is_refused_and_noted() {
    for bytes in [
        &b"nonsense\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let upstream = Upstream::start();
        let answer = Client::new(upstream.base_url()).raw_for(bytes, SOON).await;
        assert!(answer.starts_with(b"HTTP/1.1 400 "), "{}", bytes.escape_ascii());
        assert_eq!((upstream.protocol_errors().len(), upstream.requests().len()), (1, 0));
    }
}

#[tokio::test]
async fn dropping_it_closes_everything() {
    let (upstream, client) = start(Behaviour::stall_after_events(1));
    let mut stream = client.stream(CHAT, &[], STREAM).await;
    stream.next_event(SOON).await.unwrap();
    drop(upstream);
    assert_eq!(stream.next_event(SOON).await, None);
    assert!(stream.broken());
    assert_eq!(client.connect().await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
#[should_panic(expected = "for 1 requests; the upstream has 0 requests")]
async fn waiting_in_vain_says_what_there_is() {
    Upstream::start().wait_for_requests(1, Duration::from_millis(1)).await;
}
