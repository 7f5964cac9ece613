//! The breaker and the waits as the guide of the agents promises them, with no setting written.

use std::time::{Duration, Instant};

use testkit::{Behaviour, Upstream};

use super::{Process, Program};
use crate::app::{PATIENCE, alias};

/// With a provider of its own and the defaults, but for waits too short to notice.
fn with_openai(upstream: &Upstream) -> Program {
    Program::serve("")
        .env("OPENAI_API_KEY", "sk-upstream")
        .env("OPENAI_BASE_URL", upstream.base_url())
        .env("RETRY_BACKOFF_MS", "1")
}

/// The value of a setting that nobody wrote.
fn default(path: &str) -> Duration {
    let shown = Program::new(&["config", "show"]).run().stdout;
    let line = shown.lines().find(|line| line.split_whitespace().next() == Some(path)).unwrap();
    assert!(line.trim_end().ends_with("default"), "{line}");
    base::Duration::parse(line.split_whitespace().nth(1).unwrap()).unwrap().0
}

async fn breaker(process: &Process) -> String {
    let ready = process.get("/health/ready").await.json();
    ready["targets"][0]["breaker"].as_str().unwrap().to_owned()
}

/// Fails when `BreakerSettings::default` changes any of its three, and when `Health` counts otherwise.
#[tokio::test]
async fn promise_p07_five_failures_open_the_breaker_for_a_minute_and_two_successes_close_it() {
    let upstream = Upstream::start();
    upstream.set_default(Behaviour::error(500, None));
    let process = with_openai(&upstream).start();
    // Four attempts of the first call, and one of the second: then it is open.
    assert_eq!(process.chat("openai/m").await.header("x-trunkline-attempts"), Some("4"));
    assert_eq!(process.chat("openai/m").await.header("x-trunkline-attempts"), Some("1"));
    assert_eq!(upstream.requests().len(), 5);
    let refused = process.chat("openai/m").await;
    assert_eq!((refused.status, upstream.requests().len()), (503, 5), "an open breaker asks nobody");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((50..=60).contains(&wait), "{wait} s");

    // A minute is too long for a test: from here on the same with a shorter one.
    let settings = alias(&[upstream.base_url()], "{retries: 0, breaker: {open_for: 300ms}}");
    let short = Program::serve(&settings).start();
    for failures in 1..=5 {
        assert_eq!(breaker(&short).await, "closed", "after {} failures", failures - 1);
        assert_eq!(short.chat("m").await.status, 502);
    }
    assert_eq!(breaker(&short).await, "open");
    upstream.set_default(Behaviour::ok());
    let deadline = Instant::now() + PATIENCE;
    while short.chat("m").await.status != 200 {
        assert!(Instant::now() < deadline, "no probe is let through");
    }
    assert_eq!(breaker(&short).await, "half_open", "one success does not close it");
    assert_eq!(short.chat("m").await.status, 200);
    assert_eq!(breaker(&short).await, "closed", "the second one does");
}

/// Fails when a wait is not bounded by `max_backoff`, or a call not by `request_timeout`, or when their
/// defaults grow beyond what is promised.
#[tokio::test]
async fn promise_p07_no_wait_is_longer_than_30_s_and_no_call_than_60_s() {
    assert!(default("resilience.max_backoff") == Duration::from_secs(30));
    assert!(default("resilience.request_timeout") <= Duration::from_secs(60));

    // A provider that asks for more than we may wait: the client is told at once.
    let upstream = Upstream::start();
    upstream.set_default(Behaviour::rate_limited("31"));
    let process = with_openai(&upstream).start();
    let began = Instant::now();
    let limited = process.chat("openai/m").await;
    assert_eq!((limited.status, limited.header("retry-after")), (429, Some("31")));
    assert_eq!(upstream.requests().len(), 1);
    assert!(began.elapsed() < Duration::from_secs(10));

    // Unbounded, eight waits from 10 ms on would be 2.5 s, and half of that at least.
    let upstream = Upstream::start();
    upstream.set_default(Behaviour::error(500, None));
    let bounded = "{retries: 8, backoff: 10ms, max_backoff: 20ms, breaker: {failures: 100}}";
    let process = Program::serve(&alias(&[upstream.base_url()], bounded)).start();
    assert_eq!(process.chat("m").await.header("x-trunkline-attempts"), Some("9"));
    let at: Vec<Instant> = upstream.requests().iter().map(|request| request.at).collect();
    let waits: Vec<Duration> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.iter().all(|wait| *wait >= Duration::from_millis(5)), "{waits:?}");
    assert!(waits.iter().sum::<Duration>() < Duration::from_millis(1200), "{waits:?}");

    // However many attempts and waits there could be, the whole is bounded.
    let upstream = Upstream::start();
    upstream.set_default(Behaviour::no_response());
    let bounded = "{retries: 20, backoff: 100ms, request_timeout: 500ms}";
    let process = Program::serve(&alias(&[upstream.base_url()], bounded)).start();
    let began = Instant::now();
    assert_eq!(process.chat("m").await.status, 504);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(500) && took < Duration::from_secs(5), "{took:?}");
}
