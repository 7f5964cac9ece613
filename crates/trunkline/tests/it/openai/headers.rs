//! Headers: who asks, which request it is, where it stands in a trace, who answered; methods and paths.

use testkit::{Behaviour, Response, Upstream};

use super::refusal::{assert_openai_error, assert_refused};
use crate::app::{PATIENCE, TestApp, alias};

const CHAT: &str = "/v1/chat/completions";
const HELLO: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const OPEN: [&str; 6] = ["/health", "/health/live", "/health/ready", "/ready", "/version", "/metrics"];

async fn send(app: &TestApp, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    // The answer to HEAD has a length and no body: the end of the connection is what ends it.
    let headers = [&[("connection", "close")], headers].concat();
    app.client().try_send(method, path, &headers, b"").await.unwrap()
}

#[tokio::test]
async fn keys_are_taken_from_two_headers_and_nowhere_else() {
    let app = TestApp::start("").await;
    let (key, admin) = (app.key.as_str(), app.admin_key.as_str());
    let bearer = format!("Bearer {key}");
    let models = async |headers: &[(&str, &str)]| send(&app, "GET", "/v1/models", headers).await;
    for (name, value) in [
        ("authorization", bearer.as_str()),
        ("Authorization", &format!("bearer {key}")),
        ("AUTHORIZATION", &format!("BEARER   {key}  ")),
        ("authorization", &format!("Bearer {admin}")),
        ("x-api-key", key),
        ("X-API-Key", &format!("  {key} ")),
        ("x-api-key", admin),
    ] {
        assert_eq!(models(&[(name, value)]).await.status, 200, "{name}: {value}");
    }
    // A key beside one that is right is not looked at: what is said first is meant.
    assert_eq!(models(&[("x-api-key", "other"), ("authorization", &bearer)]).await.status, 200);

    let upper = key.to_uppercase();
    let long = "k".repeat(50_000);
    for (what, name, value) in [
        ("an unknown key", "authorization", "Bearer sk-tl-unknown"),
        ("no scheme", "authorization", key),
        ("another scheme", "authorization", &format!("Basic {key}")),
        ("a scheme alone", "authorization", "Bearer"),
        ("a scheme and a space", "authorization", "Bearer "),
        ("nothing", "authorization", ""),
        ("two keys", "authorization", &format!("Bearer {key} {key}")),
        ("two keys with a comma", "authorization", &format!("Bearer {key},{key}")),
        ("half of the key", "authorization", &bearer[..bearer.len() - 1]),
        ("more than the key", "authorization", &format!("{bearer}x")),
        ("another case", "authorization", &format!("Bearer {upper}")),
        ("beyond ASCII", "authorization", "Bearer schlüssel"),
        ("very long", "authorization", &format!("Bearer {long}")),
        ("unknown in the other header", "x-api-key", "sk-tl-unknown"),
        ("a scheme in the other header", "x-api-key", &bearer),
        ("beyond ASCII in the other header", "x-api-key", "schlüssel"),
        ("very long in the other header", "x-api-key", &long),
    ] {
        let answer = models(&[(name, value)]).await;
        assert_refused(what, &answer, 401, "invalid_api_key", "not known here");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{what}");
        assert_eq!(answer.json()["error"]["type"], "authentication_error", "{what}");
    }
    let answer = models(&[("authorization", "Bearer wrong"), ("x-api-key", key)]).await;
    assert_refused("wrong first, right second", &answer, 401, "invalid_api_key", "not known");
    let bearer = bearer.as_str();
    for headers in [&[][..], &[("cookie", bearer)], &[("proxy-authorization", bearer)], &[("api-key", key)]] {
        let answer = models(headers).await;
        assert_refused("no key", &answer, 401, "missing_api_key", "Authorization: Bearer KEY");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let answer = send(&app, "GET", &format!("/v1/models?api_key={key}&key={key}"), &[]).await;
    assert_refused("in the query", &answer, 401, "missing_api_key", "Authorization");
}

#[tokio::test]
async fn every_path_but_a_named_few_needs_a_key() {
    let app = TestApp::start("").await;
    for path in OPEN {
        for headers in [&[][..], &[("authorization", "Bearer wrong")]] {
            assert_eq!(send(&app, "GET", path, headers).await.status, 200, "{path}");
        }
        assert_eq!(send(&app, "HEAD", path, &[]).await.status, 200, "{path}");
    }
    for path in [
        "/",
        "/v1",
        "/v1/",
        CHAT,
        "/v1/embeddings",
        "/v1/models",
        "/v1/models/demo/chat",
        "/v1/anything",
        "/unknown",
        "/health/",
        "/healthz",
        "/HEALTH",
        "/health/live/x",
        "//health",
        "/health%2flive",
        "/health/../v1/models",
        "/metrics/x",
        "/metrics;x",
        "/version.json",
        "/admin",
        "/favicon.ico",
    ] {
        for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
            let answer = send(&app, method, path, &[]).await;
            assert_refused(&format!("{method} {path}"), &answer, 401, "missing_api_key", "API key");
        }
    }
}

#[tokio::test]
async fn metrics_may_ask_for_the_admin_key() {
    let app = TestApp::start("server: {metrics_access: key}\n").await;
    let of = async |key: &str| send(&app, "GET", "/metrics", &[("x-api-key", key)]).await;
    assert_eq!(of(&app.admin_key).await.status, 200);
    assert_refused("virtual", &of(&app.key).await, 403, "admin_key_needed", "admin key");
    assert_eq!(of("wrong").await.status, 401);
    assert_openai_error("none", &send(&app, "GET", "/metrics", &[]).await);
}

#[tokio::test]
async fn wrong_methods_and_paths_say_what_there_is() {
    let app = TestApp::start("").await;
    let (name, value) = app.auth();
    let auth = [(name, value.as_str())];
    for (path, allow) in [
        (CHAT, "POST"),
        ("/v1/embeddings", "POST"),
        ("/v1/models", "GET, HEAD"),
        ("/v1/models/x", "GET, HEAD"),
        ("/health", "GET, HEAD"),
        ("/metrics", "GET, HEAD"),
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            let answer = send(&app, method, path, &auth).await;
            if allow.split(", ").any(|allowed| allowed == method) {
                assert_ne!(answer.status, 405, "{method} {path}");
                continue;
            }
            assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{method} {path}");
            if method != "HEAD" {
                assert_refused(path, &answer, 405, "method_not_allowed", &allow.replace(", ", " or "));
            }
        }
    }
    for path in ["/", "/v1", "/v1/chat", "/v1/response", "/chat/completions", "/v1/chat/completions/x"] {
        let answer = send(&app, "POST", path, &auth).await;
        assert_refused(path, &answer, 404, "not_found", "/v1/models");
        assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
    }
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let app = TestApp::start("").await;
    let (_, value) = app.auth();
    for path in ["/v1/models", "/v1/models/demo/chat", "/v1/models/unknown", "/version"] {
        let headers = format!("HTTP/1.1\r\nhost: x\r\nauthorization: {value}\r\nconnection: close\r\n\r\n");
        let get = app.client().raw(format!("GET {path} {headers}").as_bytes()).await;
        let head = app.client().raw(format!("HEAD {path} {headers}").as_bytes()).await;
        let end = |bytes: &[u8]| bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(end(&head), head.len(), "{path}: a body");
        let lengths = [&get[..end(&get)], &head].map(|head| {
            let text = String::from_utf8_lossy(head).into_owned();
            text.lines().find(|line| line.starts_with("content-length")).unwrap().to_owned()
        });
        assert_eq!(lengths[0], lengths[1], "{path}");
    }
}

#[tokio::test]
async fn a_request_keeps_its_id_or_is_given_one() {
    let upstream = Upstream::start();
    let app = TestApp::start(&alias(&[upstream.base_url()], "{}")).await;
    let longest = "a".repeat(128);
    for id in ["mine", "A-z.0_9:/+=-", longest.as_str(), "550e8400-e29b-41d4-a716-446655440000"] {
        let answer = app.post(CHAT, id, HELLO).await;
        assert_eq!(answer.header("x-request-id"), Some(id));
        assert_eq!(upstream.requests().last().unwrap().header("x-request-id"), Some(id));
        assert_eq!(app.record(id).await["request_id"], id);
    }
    let too_long = "a".repeat(129);
    let mut seen = std::collections::HashSet::new();
    for id in ["", "two words", "a\"b", "é", "{}", "<b>", "a;b", too_long.as_str()] {
        let answer = app.post(CHAT, id, HELLO).await;
        let given = answer.header("x-request-id").unwrap().to_owned();
        assert!(given.starts_with("req_") && given.len() == 20, "{id}: {given}");
        assert_eq!(upstream.requests().last().unwrap().header("x-request-id"), Some(given.as_str()));
        app.record(&given).await;
        assert!(seen.insert(given), "ids repeat");
    }
    // Also where nothing is called.
    let answer = send(&app, "GET", "/nowhere", &[("x-request-id", "mine-too")]).await;
    assert_eq!((answer.status, answer.header("x-request-id")), (401, Some("mine-too")));
}

#[tokio::test]
async fn a_trace_goes_on_to_the_provider_and_back_to_the_caller() {
    let upstream = Upstream::start();
    let app = TestApp::start(&alias(&[upstream.base_url()], "{}")).await;
    let (name, value) = app.auth();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let ours = |text: &str| {
        let parts: Vec<String> = text.split('-').map(str::to_owned).collect();
        assert_eq!(
            (parts.len(), parts[0].as_str(), parts[1].len(), parts[2].len()),
            (4, "00", 32, 16),
            "{text}"
        );
        (parts[1].clone(), parts[2].clone())
    };
    let answer = app.client().post_json(CHAT, &[(name, &value), ("traceparent", &parent)], HELLO).await;
    let (answered, span) = ours(answer.header("traceparent").unwrap());
    let (sent, child) = ours(upstream.requests()[0].header("traceparent").unwrap());
    assert_eq!((answered.as_str(), sent.as_str()), (trace, trace));
    assert!(
        span != "00f067aa0ba902b7" && child != span && child != "00f067aa0ba902b7",
        "each span is its own"
    );
    for malformed in [
        "",
        "00",
        "garbage",
        &parent.to_uppercase(),
        &parent.replacen("00", "ff", 1),
        &parent.replace(trace, &"0".repeat(32)),
        "é",
    ] {
        let answer = app.client().post_json(CHAT, &[(name, &value), ("traceparent", malformed)], HELLO).await;
        assert_eq!(answer.status, 200, "{malformed}: ignored, as the specification says");
        let (fresh, _) = ours(answer.header("traceparent").unwrap());
        assert_ne!(fresh, trace, "{malformed}");
        assert_eq!(ours(upstream.requests().last().unwrap().header("traceparent").unwrap()).0, fresh);
    }
}

#[tokio::test]
async fn an_answer_says_who_gave_it_and_what_it_cost() {
    let upstreams = [Upstream::start(), Upstream::start()];
    let urls = upstreams.each_ref().map(Upstream::base_url);
    let app = TestApp::start(&alias(&urls, "{retries: 1, backoff: 1ms}")).await;
    let facts = |headers: &[(String, String)]| {
        let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        let overhead = header("x-trunkline-overhead-us").map(|text| text.parse::<u64>().unwrap());
        assert!(overhead.is_some_and(|us| us < 60_000_000), "{headers:?}");
        (header("x-trunkline-target").unwrap_or_default(), header("x-trunkline-attempts").unwrap())
    };
    let says = |target: &str, attempts: &str| (target.to_owned(), attempts.to_owned());
    let answer = app.post(CHAT, "facts-1", HELLO).await;
    assert_eq!(facts(&answer.headers), says("a/up-a", "1"));

    let streamed = HELLO.replace("{\"model", "{\"stream\":true,\"model");
    upstreams[0].script([Behaviour::error(500, None), Behaviour::error(500, None)]);
    let mut stream = app.stream(CHAT, "facts-2", &streamed).await;
    assert_eq!(facts(&stream.headers), says("b/up-b", "3"));
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    assert_eq!(
        (stream.header("cache-control"), stream.header("x-accel-buffering")),
        (Some("no-cache"), Some("no"))
    );
    stream.collect(PATIENCE).await;

    for upstream in &upstreams {
        upstream.script(vec![Behaviour::error(503, None); 2]);
    }
    let answer = app.post(CHAT, "facts-3", HELLO).await;
    assert_eq!((answer.status, facts(&answer.headers)), (502, says("b/up-b", "4")));
    // Refused before anybody was asked.
    let answer = app.post(CHAT, "facts-4", "{}").await;
    assert_eq!((answer.status, facts(&answer.headers)), (400, says("", "0")));
    // None of the provider's own headers comes through.
    assert_eq!(answer.header("server"), None);
}
