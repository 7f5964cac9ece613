//! `Retry-After`, in all its forms: waited for, or handed to the client; and the time that a call has in all.

use std::time::{Duration, Instant, SystemTime};

use testkit::Behaviour;

use super::{CHAT, STREAMED, WHOLE, code, gap, retry_after, upstream};
use crate::app::{TestApp, alias};

fn limited(header: &str, value: &str) -> Behaviour {
    Behaviour::error(429, None).with_header(header, value)
}

fn date(from_now: Duration) -> String {
    httpdate::fmt_http_date(SystemTime::now() + from_now)
}

#[tokio::test]
async fn a_wait_within_bounds_is_waited_for() {
    for (header, value, at_least) in [
        ("retry-after", "1", 1000),
        ("retry-after", "0.2", 200),
        // Dates have whole seconds: three from now is more than two, less what the request takes.
        ("retry-after", "date", 1000),
        ("retry-after-ms", "150", 150),
        ("x-ms-retry-after-ms", "150", 150),
        ("x-ms-retry-after", "0.15", 150),
    ] {
        let a = upstream(Behaviour::ok());
        let app = TestApp::start(&alias(&[a.base_url()], "{backoff: 1ms}")).await;
        let value = if value == "date" { date(Duration::from_secs(3)) } else { value.to_owned() };
        a.script([limited(header, &value)]);
        let answer = app.post(CHAT, &format!("wait-{header}-{value}"), WHOLE).await;
        assert_eq!((answer.status, a.requests().len()), (200, 2), "{header}: {value}");
        assert!(gap(&a) >= Duration::from_millis(at_least), "{header}: {value}, {:?}", gap(&a));
        assert!(gap(&a) < Duration::from_secs(10), "{header}: {value}, {:?}", gap(&a));
    }
}

#[tokio::test]
async fn the_finer_header_wins() {
    let a = upstream(Behaviour::ok());
    a.script([limited("retry-after", "20").with_header("retry-after-ms", "20")]);
    let app = TestApp::start(&alias(&[a.base_url()], "{}")).await;
    assert_eq!(app.post(CHAT, "finer", WHOLE).await.status, 200);
    assert!(gap(&a) < Duration::from_secs(10), "{:?}", gap(&a));
}

#[tokio::test]
async fn a_503_that_says_when_is_waited_for_too() {
    let a = upstream(Behaviour::ok());
    a.script([Behaviour::error(503, None).with_header("retry-after-ms", "300")]);
    let app = TestApp::start(&alias(&[a.base_url()], "{backoff: 1ms}")).await;
    assert_eq!(app.post(CHAT, "503-wait", WHOLE).await.status, 200);
    assert!(gap(&a) >= Duration::from_millis(300), "{:?}", gap(&a));
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_the_clients_to_make() {
    for (header, value, told) in [
        ("retry-after", "30".to_owned(), 30..=30),
        // Whole seconds, rounded up.
        ("retry-after-ms", "1500".to_owned(), 2..=2),
        ("x-ms-retry-after", "1.001".to_owned(), 2..=2),
        ("retry-after", date(Duration::from_secs(90)), 60..=90),
    ] {
        let a = upstream(limited(header, &value));
        let app = TestApp::start(&alias(&[a.base_url()], "{max_backoff: 1s, backoff: 1ms}")).await;
        for (stream, body) in [("whole", WHOLE), ("stream", STREAMED)] {
            let id = format!("handed-{header}-{value}-{stream}");
            let answer = app.post(CHAT, &id, body).await;
            assert_eq!((answer.status, code(&answer)), (429, "upstream_rate_limited".into()), "{value}");
            let seconds = retry_after(&answer).unwrap();
            assert!(told.contains(&seconds), "{header}: {value} became {seconds}");
        }
        assert_eq!(a.requests().len(), 2, "asked once for each call");
    }
}

#[tokio::test]
async fn a_client_is_never_told_to_come_back_at_once() {
    for value in ["0", "-5", "soon", "Sun, 06 Nov 1994 08:49:37 GMT"] {
        let a = upstream(limited("retry-after", value));
        let app = TestApp::start(&alias(&[a.base_url()], "{retries: 1, backoff: 1ms}")).await;
        let answer = app.post(CHAT, &format!("zero-{value}"), WHOLE).await;
        assert_eq!((answer.status, retry_after(&answer)), (429, Some(1)), "{value}");
        assert_eq!(a.requests().len(), 2, "{value}: tried again after a moment");
    }
}

#[tokio::test]
async fn without_a_wait_the_backoff_doubles_up_to_its_bound() {
    let a = upstream(Behaviour::error(500, None));
    let settings = "{retries: 4, backoff: 40ms, max_backoff: 100ms, breaker: {failures: 100}}";
    let app = TestApp::start(&alias(&[a.base_url()], settings)).await;
    assert_eq!(app.post(CHAT, "doubling", WHOLE).await.status, 502);
    let requests = a.requests();
    let gaps: Vec<Duration> = requests.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    // With jitter between a half and one: 20–40, 40–80, 50–100, 50–100.
    for (gap, least) in gaps.iter().zip([20, 40, 50, 50]) {
        assert!(*gap >= Duration::from_millis(least), "{gaps:?}");
    }
    assert_eq!(gaps.len(), 4);
}

#[tokio::test]
async fn a_wait_that_there_is_no_time_for_is_not_begun() {
    let a = upstream(limited("retry-after", "5"));
    let app = TestApp::start(&alias(&[a.base_url()], "{request_timeout: 2s}")).await;
    let began = Instant::now();
    let answer = app.post(CHAT, "no-time-to-wait", WHOLE).await;
    assert_eq!((answer.status, retry_after(&answer), a.requests().len()), (429, Some(5), 1));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn request_timeout_bounds_all_retries_together() {
    let a = upstream(Behaviour::error(500, None));
    let settings = "{retries: 20, backoff: 200ms, max_backoff: 200ms, request_timeout: 600ms, \
                    breaker: {failures: 1000}}";
    let app = TestApp::start(&alias(&[a.base_url()], settings)).await;
    for (id, body) in [("budget-whole", WHOLE), ("budget-stream", STREAMED)] {
        let began = Instant::now();
        let answer = app.post(CHAT, id, body).await;
        // The last attempt is cut short when the time ends within it.
        assert!([502, 504].contains(&answer.status), "{}", answer.status);
        // Twenty retries with waits of 100 to 200 ms would take two seconds at least.
        assert!(began.elapsed() < Duration::from_millis(1900), "{:?}", began.elapsed());
        let attempts = app.record(id).await["attempts"].as_u64().unwrap();
        assert!((2..=7).contains(&attempts), "{attempts} attempts in 600 ms");
    }
}

#[tokio::test]
async fn request_timeout_bounds_slow_targets_together() {
    let (a, b) = (upstream(Behaviour::no_response()), upstream(Behaviour::no_response()));
    let settings = "{first_token_timeout: 300ms, request_timeout: 500ms}";
    let app = TestApp::start(&alias(&[a.base_url(), b.base_url()], settings)).await;
    for (id, body) in [("slow-two-whole", WHOLE), ("slow-two-stream", STREAMED)] {
        let began = Instant::now();
        let answer = app.post(CHAT, id, body).await;
        assert_eq!((answer.status, code(&answer)), (504, "upstream_timeout".into()), "{id}");
        let took = began.elapsed();
        assert!((Duration::from_millis(500)..Duration::from_secs(5)).contains(&took), "{took:?}");
        let record = app.record(id).await;
        assert_eq!((&record["attempts"], &record["routed_to"]), (&2.into(), &"b/up-b".into()));
    }
}

#[tokio::test]
async fn a_target_that_there_is_no_time_for_is_neither_asked_nor_blamed() {
    let (a, b) = (upstream(Behaviour::no_response()), upstream(Behaviour::ok()));
    let settings = "{request_timeout: 200ms, breaker: {failures: 1}}";
    let app = TestApp::start(&alias(&[a.base_url(), b.base_url()], settings)).await;
    let answer = app.post(CHAT, "no-time-left", STREAMED).await;
    assert_eq!((answer.status, code(&answer)), (504, "upstream_timeout".into()));
    assert_eq!(answer.header("x-trunkline-target"), Some("a/up-a"));
    assert_eq!(app.record("no-time-left").await["attempts"], 1);
    assert_eq!(super::breaker(&app, "a/up-a").await, "open");
    assert_eq!(super::breaker(&app, "b/up-b").await, "closed");
}

#[tokio::test]
async fn who_asks_to_be_left_alone_comes_last_for_that_long() {
    let (a, b) = (upstream(limited("retry-after", "100")), upstream(Behaviour::ok()));
    let app = TestApp::start(&alias(&[a.base_url(), b.base_url()], "{max_backoff: 1s}")).await;
    assert_eq!(app.post(CHAT, "cooling-1", WHOLE).await.status, 200);
    assert_eq!((a.requests().len(), b.requests().len()), (1, 1));
    assert_eq!(app.post(CHAT, "cooling-2", WHOLE).await.status, 200);
    assert_eq!((a.requests().len(), b.requests().len()), (1, 2), "not asked while it cools");
    let ready = app.client().get("/health/ready", &[]).await.json();
    assert_eq!(
        (&ready["targets"][0]["cooling"], &ready["targets"][1]["cooling"]),
        (&true.into(), &false.into())
    );

    // Nobody else answers: it is asked all the same.
    b.set_default(Behaviour::error(404, None));
    a.set_default(Behaviour::ok());
    assert_eq!(app.post(CHAT, "cooling-3", WHOLE).await.status, 200);
    assert_eq!((a.requests().len(), b.requests().len()), (2, 3));
}

#[tokio::test]
async fn who_limits_us_is_asked_once_for_each_call() {
    let (a, b) = (upstream(limited("retry-after", "100")), upstream(Behaviour::error(404, None)));
    let app = TestApp::start(&alias(&[a.base_url(), b.base_url()], "{}")).await;
    assert_eq!(app.post(CHAT, "limited-once", WHOLE).await.status, 404);
    // Moved to the end of the line by its own answer, it is not met there again.
    assert_eq!((a.requests().len(), b.requests().len()), (1, 1));
}

#[tokio::test]
async fn it_comes_first_again_when_that_time_is_over() {
    let (a, b) = (upstream(Behaviour::ok()), upstream(Behaviour::ok()));
    a.script([limited("retry-after-ms", "200")]);
    let app = TestApp::start(&alias(&[a.base_url(), b.base_url()], "{}")).await;
    assert_eq!(app.post(CHAT, "cooled-0", WHOLE).await.status, 200);
    let (began, mut call) = (Instant::now(), 0);
    while a.requests().len() < 2 {
        call += 1;
        assert!(began.elapsed() < crate::app::PATIENCE);
        assert_eq!(app.post(CHAT, &format!("cooled-{call}"), WHOLE).await.status, 200);
    }
    // It is kept in whole milliseconds, rounded down at both ends.
    assert!(gap(&a) >= Duration::from_millis(198), "{:?}", gap(&a));
}

#[tokio::test]
async fn a_target_may_have_another_request_timeout() {
    let (a, b) = (
        upstream(Behaviour::no_response()),
        upstream(Behaviour::delay(Duration::from_millis(600), Behaviour::ok())),
    );
    let yaml = format!(
        "providers:\n  a: {{kind: openai-compatible, base_url: \"{}\"}}\n  b: {{kind: openai-compatible, base_url: \"{}\"}}\n\
         models:\n  m: {{targets: [{{provider: a, model: up-a}}, {{provider: b, model: up-b, resilience: {{request_timeout: 20s}}}}]}}\n\
         resilience: {{request_timeout: 300ms}}\n",
        a.base_url(),
        b.base_url()
    );
    let app = TestApp::start(&yaml).await;
    let answer = app.post(CHAT, "own-request-timeout", WHOLE).await;
    assert_eq!((answer.status, answer.header("x-trunkline-target")), (200, Some("b/up-b")));
}
