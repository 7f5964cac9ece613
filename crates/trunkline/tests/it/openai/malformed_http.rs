//! Nonsense below OpenAI's protocol: requests that are no proper HTTP, or HTTP's corners.
//!
//! What cannot be read as a request is answered by the HTTP library itself, with a status and no body; see
//! "Known limits" in `docs/gateway.md`. Everything else gets OpenAI's error.

use std::time::Instant;

use testkit::Response;

use super::refusal::{SHORT, assert_refused, exchange, exchange_then, first_answer};
use crate::app::TestApp;

const SETTINGS: &str = "server: {header_timeout: 300ms, body_timeout: 300ms}\n";
const BODY: &str = r#"{"model":"demo/chat","messages":[{"role":"user","content":"hi"}]}"#;

/// What comes of a request.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// It is served.
    Served,
    /// OpenAI's error: status, code, and a piece of the sentence.
    Refused(u16, &'static str, &'static str),
    /// The HTTP library's own answer: a status without a body.
    Bare(u16),
}
use Then::{Bare, Refused, Served};

/// A request from its lines. The body is not declared: that is a header's matter.
struct Raw<'a> {
    line: &'a str,
    key: &'a str,
    headers: String,
    body: Vec<u8>,
}

impl Raw<'_> {
    fn bytes(&self) -> Vec<u8> {
        let Raw { line, key, headers, body } = self;
        let head = format!("{line}\r\nauthorization: Bearer {key}\r\nconnection: close\r\n{headers}\r\n");
        [head.as_bytes(), body].concat()
    }
}

const POST: &str = "POST /v1/chat/completions HTTP/1.1";

async fn check(app: &TestApp, what: &str, bytes: &[u8], then: Then) {
    let received = exchange(app, bytes).await;
    let answer = first_answer(&received);
    match (then, answer) {
        (Served, Some(answer)) => assert_eq!(answer.status, 200, "{what}: {}", answer.text()),
        (Refused(status, code, says), Some(answer)) => assert_refused(what, &answer, status, code, says),
        (Bare(status), Some(answer)) => {
            assert_eq!((answer.status, answer.body.len()), (status, 0), "{what}");
        }
        (then, answer) => panic!("{what}: expected {then:?}, got {answer:?}"),
    }
}

#[tokio::test]
async fn request_lines_and_targets() {
    let app = TestApp::start(SETTINGS).await;
    let not_found = Refused(404, "not_found", "nothing at this path");
    let long = format!("GET /v1/{} HTTP/1.1", "a".repeat(60_000));
    let longer = format!("GET /v1/{} HTTP/1.1", "a".repeat(70_000));
    let utf8 = "GET /v1/models/é HTTP/1.1";
    for (line, then) in [
        (POST, Served),
        ("POST http://elsewhere/v1/chat/completions HTTP/1.1", Served),
        ("POST /v1/chat/completions?x=%00&y[]=1 HTTP/1.1", Served),
        ("POST /v1/chat/completions HTTP/1.0", Served),
        ("GARBAGE", Bare(400)),
        ("POST", Bare(400)),
        ("POST /v1/chat/completions", Bare(400)),
        ("\0\x01\x02", Bare(400)),
        ("P@ST( /v1/chat/completions HTTP/1.1", Bare(400)),
        ("POST /v1/chat/completions HTTP/1.2", Bare(400)),
        ("POST /v1/chat/completions HTTP/2.0", Bare(400)),
        ("POST /v1/chat/completions HTTP/9", Bare(400)),
        ("POST v1/chat/completions HTTP/1.1", Bare(400)),
        ("post /v1/chat/completions HTTP/1.1", Refused(405, "method_not_allowed", "use POST")),
        ("BREW /v1/chat/completions HTTP/1.1", Refused(405, "method_not_allowed", "use POST")),
        ("CONNECT /v1/models HTTP/1.1", Refused(405, "method_not_allowed", "use GET or HEAD")),
        ("CONNECT elsewhere:443 HTTP/1.1", not_found),
        ("OPTIONS * HTTP/1.1", not_found),
        ("POST * HTTP/1.1", not_found),
        ("POST //v1/chat/completions HTTP/1.1", not_found),
        ("POST /v1/chat/completions/ HTTP/1.1", not_found),
        ("POST /v1/chat/completions%00 HTTP/1.1", not_found),
        ("POST /v1%2fchat%2fcompletions HTTP/1.1", not_found),
        ("POST /V1/chat/completions HTTP/1.1", not_found),
        ("GET /v1/x/%2e%2e/models HTTP/1.1", not_found),
        ("GET /health/../v1/models HTTP/1.1", not_found),
        ("GET /v1/models/ HTTP/1.1", not_found),
        (&long, not_found),
        (&longer, Bare(431)),
        ("GET /v1/models/%ff HTTP/1.1", Refused(400, "invalid_request", "not UTF-8")),
        ("GET /v1/models/%00 HTTP/1.1", Refused(404, "model_not_found", "does not exist")),
        ("GET /v1/models/%zz HTTP/1.1", Refused(404, "model_not_found", "does not exist")),
        (utf8, Refused(404, "model_not_found", "does not exist")),
    ] {
        let headers = format!("host: x\r\ncontent-length: {}\r\n", BODY.len());
        let raw = Raw { line, key: &app.key, headers, body: BODY.into() };
        check(&app, line, &raw.bytes(), then).await;
    }
    // HTTP/0.9 has neither a version nor headers.
    check(&app, "HTTP/0.9", b"GET /health\r\n", Bare(400)).await;
    // Latin-1 in a path.
    check(&app, "0xff", b"GET /v1/models/\xff HTTP/1.1\r\n\r\n", Bare(400)).await;
    // Empty lines before a request are skipped, but not for ever.
    check(&app, "empty lines", &b"\r\n".repeat(50_000), Bare(431)).await;
    check(&app, "lines that end in CR alone", b"GET / HTTP/1.1\rhost: x\r\r", Bare(400)).await;
    // A client that speaks TLS to a plain port.
    let hello = [&b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03"[..], &[7; 197]].concat();
    check(&app, "TLS hello", &hello, Bare(400)).await;
    assert_eq!(app.client().get("/health", &[]).await.status, 200);
}

#[tokio::test]
async fn header_lines() {
    let app = TestApp::start(SETTINGS).await;
    let length = format!("content-length: {}\r\n", BODY.len());
    let many = |n: usize| (0..n).map(|i| format!("x-{i}: 1\r\n")).collect::<String>();
    for (what, header, then) in [
        ("no host", String::new(), Served),
        ("a colon is missing", "nocolon\r\n".into(), Bare(400)),
        ("NUL in a value", "x: a\0b\r\n".into(), Bare(400)),
        ("a space before the colon", "x : a\r\n".into(), Bare(400)),
        ("an empty name", ": a\r\n".into(), Bare(400)),
        ("a folded line", "x: a\r\n b\r\n".into(), Bare(400)),
        ("a large header", format!("x: {}\r\n", "a".repeat(60_000)), Served),
        ("a header of 100 KB", format!("x: {}\r\n", "a".repeat(100_000)), Bare(431)),
        ("80 headers", many(80), Served),
        ("200 headers", many(200), Bare(431)),
        ("an upgrade to h2c", "upgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n".into(), Served),
        ("an unknown expectation", "expect: 200-ok\r\n".into(), Served),
        ("bytes beyond ASCII", "x: é\r\n".into(), Served),
    ] {
        let raw = Raw { line: POST, key: &app.key, headers: header + &length, body: BODY.into() };
        check(&app, what, &raw.bytes(), then).await;
    }
    let bare_lf = Raw { line: POST, key: &app.key, headers: length, body: BODY.into() }.bytes();
    let bare_lf = String::from_utf8(bare_lf).unwrap().replace("\r\n", "\n");
    check(&app, "lines that end in LF alone", bare_lf.as_bytes(), Served).await;
}

/// Where a body ends decides where the next request begins: what could be read in two ways must not be
/// (request smuggling, RFC 9112 §6.3 and §11.2).
#[tokio::test]
async fn body_framing() {
    let app = TestApp::start(SETTINGS).await;
    let chunked = |body: &str| format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let te = "transfer-encoding: chunked\r\n";
    let broken = Refused(400, "body_broken", "broke off");
    let late = Refused(408, "request_timeout", "300ms");
    let length = BODY.len();
    for (what, headers, body, then) in [
        (
            "the same length twice",
            format!("content-length: {length}\r\ncontent-length: {length}\r\n"),
            BODY.into(),
            Served,
        ),
        ("two lengths", format!("content-length: {length}\r\ncontent-length: 3\r\n"), BODY.into(), Bare(400)),
        ("a list of lengths", format!("content-length: {length}, {length}\r\n"), BODY.into(), Bare(400)),
        ("a negative length", "content-length: -1\r\n".into(), BODY.into(), Bare(400)),
        ("a signed length", "content-length: +5\r\n".into(), BODY.into(), Bare(400)),
        (
            "a length beyond 64 bits",
            "content-length: 99999999999999999999999\r\n".into(),
            BODY.into(),
            Bare(400),
        ),
        ("the largest length", format!("content-length: {}\r\n", u64::MAX), BODY.into(), Bare(431)),
        (
            "an absurd length",
            "content-length: 18446744073709551613\r\n".into(),
            BODY.into(),
            Refused(413, "request_too_large", "larger than"),
        ),
        ("no length", String::new(), String::new(), Refused(400, "invalid_request", "empty")),
        ("chunked", te.into(), chunked(BODY), Served),
        ("chunked, said twice", te.repeat(2), chunked(BODY), Served),
        ("chunked in HTTP's words only", "transfer-encoding: xchunked\r\n".into(), chunked(BODY), Bare(400)),
        (
            "a coding after chunked",
            "transfer-encoding: chunked, identity\r\n".into(),
            chunked(BODY),
            Bare(400),
        ),
        ("identity", "transfer-encoding: identity\r\n".into(), BODY.into(), Bare(400)),
        ("a chunk size that is none", te.into(), "zz\r\n{}\r\n0\r\n\r\n".into(), broken),
        ("a chunk size beyond 64 bits", te.into(), "fffffffffffffffff\r\n{}\r\n".into(), broken),
        ("a chunk that never ends", te.into(), "ffffffffffffffff\r\n{}\r\n".into(), late),
        ("no end of line after a chunk", te.into(), "2\r\n{}X0\r\n\r\n".into(), broken),
        (
            "an endless chunk extension",
            te.into(),
            format!("2;{}\r\n{{}}\r\n0\r\n\r\n", "a".repeat(40_000)),
            broken,
        ),
        (
            "endless trailers",
            te.into(),
            format!("2\r\n{{}}\r\n0\r\n{}\r\n", "a: b\r\n".repeat(9_000)),
            broken,
        ),
    ] {
        let raw = Raw { line: POST, key: &app.key, headers, body: body.into_bytes() };
        check(&app, what, &raw.bytes(), then).await;
    }
    let raw = Raw {
        line: "POST /v1/chat/completions HTTP/1.0",
        key: &app.key,
        headers: te.into(),
        body: chunked(BODY).into(),
    };
    check(&app, "chunked in HTTP/1.0", &raw.bytes(), Bare(400)).await;
}

#[tokio::test]
async fn a_length_beside_chunks_cannot_smuggle_a_request() {
    let app = TestApp::start(SETTINGS).await;
    let chunked = format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len());
    let smuggled = "GET /version HTTP/1.1\r\nhost: x\r\n\r\n";
    for headers in [
        "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
    ] {
        let head = format!("{POST}\r\nhost: x\r\nauthorization: Bearer {}\r\n{headers}\r\n", app.key);
        let received = exchange(&app, format!("{head}{chunked}{smuggled}").as_bytes()).await;
        let answer = first_answer(&received).unwrap();
        assert_eq!(answer.status, 200, "{headers}: chunks decide");
        let heads = received.windows(9).filter(|w| w == b"HTTP/1.1 ").count();
        assert_eq!(heads, 1, "{headers}: the connection is closed after the one answer");
    }
}

/// Nothing that a client leaves out keeps a connection open.
#[tokio::test]
async fn what_never_comes_is_not_waited_for() {
    let app = TestApp::start(SETTINGS).await;
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let head = format!("{POST}\r\nhost: x\r\n");
    for bytes in ["", "P", "POST", head.as_str(), &preface[..16]] {
        let began = Instant::now();
        let received = exchange(&app, bytes.as_bytes()).await;
        assert_eq!(String::from_utf8_lossy(&received), "", "{bytes:?}");
        assert!(began.elapsed() >= SHORT, "{bytes:?}: closed before its time");
    }
    // HTTP/2: what we said are our settings, and a farewell at most.
    let closed = exchange(&app, preface.as_bytes()).await;
    assert!(!closed.starts_with(b"HTTP"), "{closed:?}");
    let garbage = exchange(&app, &[preface.as_bytes(), &[0xff; 100]].concat()).await;
    assert!(!garbage.starts_with(b"HTTP"), "{garbage:?}");

    let headers = "host: x\r\ncontent-length: 100\r\n".to_owned();
    let raw = Raw { line: POST, key: &app.key, headers, body: b"{\"mod".to_vec() };
    check(&app, "a body that stops", &raw.bytes(), Refused(408, "request_timeout", "within 300ms")).await;
    let error = exchange_then(&app, &raw.bytes(), true).await;
    let answer = first_answer(&error).unwrap();
    assert_refused("a body that ends early", &answer, 400, "body_broken", "broke off");
    assert_eq!(exchange_then(&app, head.as_bytes(), true).await, b"", "a head that ends early");
    assert_eq!(app.client().get("/health", &[]).await.status, 200);
}

#[tokio::test]
async fn a_client_may_ask_before_it_sends_its_body() {
    let app = TestApp::start(SETTINGS).await;
    let with = |length: usize| format!("host: x\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n");
    let raw = Raw { line: POST, key: &app.key, headers: with(BODY.len()), body: BODY.into() };
    let received = exchange(&app, &raw.bytes()).await;
    assert!(received.starts_with(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"));

    // What is refused by its head alone is refused before anything is sent.
    for (what, line, key, length, status) in [
        ("too large", POST, app.key.as_str(), 100 << 20, 413),
        ("no such key", POST, "nobody", BODY.len(), 401),
        ("no such path", "POST /v1/other HTTP/1.1", app.key.as_str(), BODY.len(), 404),
    ] {
        let raw = Raw { line, key, headers: with(length), body: Vec::new() };
        let received = exchange(&app, &raw.bytes()).await;
        assert!(received.starts_with(format!("HTTP/1.1 {status} ").as_bytes()), "{what}");
    }
}

/// A client that sends all it has before it reads must find the answer, not a broken connection.
#[tokio::test]
async fn a_refusal_is_readable_by_a_client_that_is_still_sending() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let app = TestApp::start("server: {max_body: 1MiB}\n").await;
    let size = 24 << 20;
    let body = vec![b'a'; size];
    let declared = format!("content-length: {size}\r\n");
    let chunked = "transfer-encoding: chunked\r\n".to_owned();
    let chunks = [format!("{size:x}\r\n").as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
    let path = "POST /v1/other HTTP/1.1";
    for (what, line, key, headers, body, status) in [
        ("declared", POST, app.key.as_str(), &declared, &body, 413),
        ("chunked", POST, app.key.as_str(), &chunked, &chunks, 413),
        ("no such key", POST, "nobody", &declared, &body, 401),
        ("no such path", path, app.key.as_str(), &declared, &body, 404),
    ] {
        let head = format!("{line}\r\nhost: x\r\nauthorization: Bearer {key}\r\n{headers}\r\n");
        let mut stream = app.client().connect().await.unwrap();
        let all = async {
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(body).await.unwrap_or_else(|e| panic!("{what}: {e} while sending"));
            // The connection is as good as new.
            let next = format!(
                "GET /version HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n"
            );
            stream.write_all(next.as_bytes()).await.unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).await.unwrap();
            received
        };
        let received = tokio::time::timeout(crate::app::PATIENCE, all).await.unwrap();
        let answer: Response = first_answer(&received).unwrap();
        super::refusal::assert_openai_error(what, &answer);
        assert_eq!(answer.status, status, "{what}");
        assert!(String::from_utf8_lossy(&received).contains("git_commit"), "{what}: the next request");
    }
}
