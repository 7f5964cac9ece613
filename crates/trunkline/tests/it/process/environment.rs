//! Variables of the guides: each has an effect that shows from outside.

use std::time::{Duration, Instant};

use testkit::{Behaviour, Client, Upstream};

use super::{Process, Program};
use crate::app::PATIENCE;

/// With a provider of its own, as the guide's variables make it.
fn with_openai(upstream: &Upstream) -> Program {
    Program::serve("").env("OPENAI_API_KEY", "sk-upstream").env("OPENAI_BASE_URL", upstream.base_url())
}

/// How many of its threads have a name that begins so.
fn threads(process: &Process, prefix: &str) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.id())).unwrap();
    let names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap());
    names.filter(|name| name.starts_with(prefix)).count()
}

#[test]
fn tokio_worker_threads_is_how_many_serve() {
    for count in [1, 3] {
        let process = Program::serve("").env("TOKIO_WORKER_THREADS", count.to_string()).start();
        // The metrics address has one of its own. A thread takes its name when it first runs.
        let began = Instant::now();
        while threads(&process, "worker-") != count + 1 {
            assert!(began.elapsed() < PATIENCE, "{} threads", threads(&process, "worker-"));
        }
    }
}

#[tokio::test]
async fn max_concurrent_requests_sheds_what_is_more() {
    let upstream = Upstream::start();
    upstream.set_default(Behaviour::no_response());
    let process = with_openai(&upstream).env("MAX_CONCURRENT_REQUESTS", "1").start();
    let first = process.chat("openai/m");
    let second = async {
        upstream.wait_for_requests(1, PATIENCE).await;
        process.chat("openai/m").await
    };
    tokio::select! {
        _ = first => panic!("the provider does not answer"),
        shed = second => {
            assert_eq!((shed.status, shed.header("retry-after")), (503, Some("1")), "{}", shed.text());
            assert_eq!(upstream.requests().len(), 1);
        }
    }
}

#[tokio::test]
async fn request_timeout_bounds_the_whole_call() {
    let upstream = Upstream::start();
    upstream.set_default(Behaviour::no_response());
    let process = with_openai(&upstream).env("REQUEST_TIMEOUT", "1").start();
    let began = Instant::now();
    let answer = process.chat("openai/m").await;
    assert_eq!((answer.status, answer.json()["error"]["code"].is_string()), (504, true));
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn llm_timeout_bounds_the_wait_for_the_first_token() {
    let upstream = Upstream::start();
    upstream.set_default(Behaviour::stall_after_events(1));
    let process = with_openai(&upstream).env("LLM_TIMEOUT", "1").env("MAX_RETRIES", "0").start();
    let began = Instant::now();
    assert_eq!(process.stream("openai/m").await.status, 504);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn max_retries_and_retry_backoff_ms_are_how_often_and_how_long() {
    let upstream = Upstream::start();
    upstream.set_default(Behaviour::error(500, None));
    let retried = with_openai(&upstream).env("MAX_RETRIES", "2").env("RETRY_BACKOFF_MS", "200").start();
    let answer = retried.chat("openai/m").await;
    assert_eq!((answer.status, answer.header("x-trunkline-attempts")), (502, Some("3")));
    let at: Vec<Instant> = upstream.requests().iter().map(|request| request.at).collect();
    // The jitter takes at most half; and each wait is twice the one before.
    assert!(
        at[1] - at[0] >= Duration::from_millis(100) && at[2] - at[1] >= Duration::from_millis(200),
        "{at:?}"
    );

    let never = with_openai(&upstream).env("MAX_RETRIES", "0").start();
    assert_eq!(never.chat("openai/m").await.header("x-trunkline-attempts"), Some("1"));
}

#[tokio::test]
async fn enable_metrics_and_enable_health_checks_switch_them_off() {
    let process = Program::serve("").env("ENABLE_METRICS", "false").start();
    for url in [process.url(), process.metrics_url()] {
        let client = Client::new(url);
        assert_eq!(client.get("/metrics", &[]).await.status, 404);
        assert_eq!(client.get("/health", &[]).await.status, 200);
    }
    let process = Program::serve("").env("ENABLE_HEALTH_CHECKS", "false").start();
    for url in [process.url(), process.metrics_url()] {
        let client = Client::new(url);
        for path in ["/health", "/health/live", "/health/ready", "/ready"] {
            assert_eq!(client.get(path, &[]).await.status, 404, "{path}");
        }
        assert_eq!(client.get("/metrics", &[]).await.status, 200);
    }
}

#[tokio::test]
async fn rust_log_takes_the_guides_modules_and_says_what_they_said() {
    let log = |level: &str| Program::serve("").env("RUST_LOG", level).start();
    // The guide's own line: every request at debug, the calls and the start at info.
    let process = log("dashflow_langserve=debug,dashflow_core=info");
    process.wait_for_line(&["listening"]);
    process.get("/health").await;
    process.wait_for_line(&["DEBUG", "access", "/health"]);
    process.chat("demo/chat").await;
    process.wait_for_line(&["INFO", "access", "demo/chat"]);

    let quiet = log("error");
    quiet.chat("demo/chat").await;
    let mut quiet = quiet;
    quiet.stop();
    assert_eq!(quiet.stderr(), Vec::<String>::new());
}

#[test]
fn the_guides_ports_and_environment_are_read() {
    let shown = Program::new(&["config", "show"])
        .env("LANGCHAIN_PORT", "8081")
        .env("LANGCHAIN_METRICS_PORT", "9091")
        .env("LANGCHAIN_ENV", "production")
        .run();
    for (path, value) in [
        ("server.listen", "127.0.0.1:8081"),
        ("server.metrics", "127.0.0.1:9091"),
        ("telemetry.environment", "production"),
    ] {
        let has = |line: &str| line.split_whitespace().take(2).eq([path, value]);
        assert!(shown.stdout.lines().any(has), "{path} {value} in {}", shown.stdout);
    }
}
