//! Health over HTTP, and `trunkline health` as container probes run it.

use testkit::{Behaviour, Client, Upstream};

use super::{Finished, Process, Program};
use crate::app::{PATIENCE, TestApp, alias};

fn probe(args: &[&str]) -> Finished {
    Program::new(&["health"]).args(args).run()
}

async fn status(process: &Process, path: &str) -> (u16, String) {
    let answer = process.get(path).await;
    (answer.status, answer.json()["status"].as_str().unwrap().to_owned())
}

/// Fails when `/health/live` or `/health/ready` leaves `server::router::probes`, or when the default of
/// `server.listen` gets another port.
#[tokio::test]
async fn promise_p03_live_and_ready_answer_without_a_key_on_8080() {
    let shown = Program::new(&["config", "show"]).run().stdout;
    let listen = shown.lines().find(|line| line.split_whitespace().next() == Some("server.listen")).unwrap();
    assert_eq!(listen.split_whitespace().nth(1), Some("127.0.0.1:8080"), "{shown}");
    let process = Program::serve("").start();
    assert_eq!(status(&process, "/health/live").await, (200, "alive".into()));
    assert_eq!(status(&process, "/health/ready").await, (200, "ready".into()));
    // And beside the API, so that a busy API does not look dead.
    let metrics = Client::new(process.metrics_url());
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(metrics.get(path, &[]).await.status, 200, "{path}");
    }
}

/// Fails when `routes::health::ready` forgets `is_draining` or the breakers, or `/health` begins to ask
/// for them.
#[tokio::test]
async fn promise_d04_health_is_alive_and_ready_tells_dependencies_and_drain() {
    let upstream = Upstream::start();
    upstream.set_default(Behaviour::error(500, None));
    let settings = alias(&[upstream.base_url()], "{retries: 0, breaker: {failures: 1, open_for: 1h}}");
    let mut process = Program::serve(&format!("server: {{drain_delay: 30s}}\n{settings}")).start();
    let health = process.get("/health").await;
    assert_eq!((health.status, &health.json()["status"]), (200, &"healthy".into()));
    assert_eq!(health.json()["version"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status(&process, "/ready").await, (200, "ready".into()));

    // A provider that is down is told, and turns no load balancer away: the others would fare no better.
    assert_eq!(process.chat("m").await.status, 502);
    let ready = process.get("/ready").await;
    assert_eq!((ready.status, &ready.json()["status"]), (200, &"degraded".into()));
    assert_eq!(ready.json()["targets"][0]["target"], "a/up-a");
    assert_eq!(ready.json()["targets"][0]["breaker"], "open");
    assert_eq!(status(&process, "/health").await, (200, "healthy".into()));

    process.signal("TERM");
    process.wait_for_line(&["stopping"]);
    let deadline = std::time::Instant::now() + PATIENCE;
    while status(&process, "/ready").await != (503, "draining".into()) {
        assert!(std::time::Instant::now() < deadline, "it is told to stop and says that it is ready");
    }
    assert_eq!(status(&process, "/health/ready").await, (503, "draining".into()));
    assert_eq!(status(&process, "/health").await, (200, "healthy".into()), "draining is not dead");
    process.signal("TERM");
    assert_eq!(process.wait(), Some(1));
}

#[tokio::test]
async fn the_probe_says_alive_ready_draining_and_dead() {
    let mut process = Program::serve("server: {drain_delay: 30s}\n").start();
    let url = process.url();
    for args in [&["--url", &url][..], &["--url", &url, "--ready"], &["--url", &process.metrics_url()]] {
        let probed = probe(args);
        assert_eq!((probed.code(), probed.stderr.as_str()), (0, ""), "{args:?}");
    }
    process.signal("TERM");
    process.wait_for_line(&["stopping"]);
    let deadline = std::time::Instant::now() + PATIENCE;
    while probe(&["--url", &url, "--ready"]).code() == 0 {
        assert!(std::time::Instant::now() < deadline, "it is told to stop and says that it is ready");
    }
    let draining = probe(&["--url", &url, "--ready"]);
    assert_eq!(draining.code(), 1);
    assert!(draining.stderr.contains("/health/ready answered 503"), "{draining:?}");
    assert_eq!(probe(&["--url", &url]).code(), 0, "it is alive while it drains");
    process.signal("TERM");
    process.wait();
    let dead = probe(&["--url", &url, "--timeout", "2"]);
    assert_eq!(dead.code(), 1);
    assert!(dead.stderr.starts_with("unhealthy: ") && dead.stderr.contains(&url), "{dead:?}");
}

#[tokio::test]
async fn the_probe_finds_the_server_by_its_settings() {
    let process = Program::serve("").start();
    let address = process.url().replace("http://127.0.0.1", "0.0.0.0");
    let by_settings = |ready: &[&str]| {
        Program::new(&["health"]).args(ready).env("TRUNKLINE_SERVER__LISTEN", &address).run().code()
    };
    assert_eq!((by_settings(&[]), by_settings(&["--ready"])), (0, 0));
    let wrong = Program::new(&["health"]).env("TRUNKLINE_SERVER__THREADS", "0").run();
    assert_eq!(wrong.code(), 1);
    assert!(wrong.stderr.contains("TRUNKLINE_SERVER__THREADS"), "{wrong:?}");
}

#[tokio::test]
async fn half_open_is_told_too() {
    let upstream = Upstream::start();
    upstream.script([Behaviour::error(500, None)]);
    let settings = "{retries: 0, breaker: {failures: 1, successes: 2, open_for: 1ms}}";
    let app = TestApp::start(&alias(&[upstream.base_url()], settings)).await;
    let body = super::program::chat_body("m", false);
    assert_eq!(app.post("/v1/chat/completions", "half-1", &body).await.status, 502);
    let deadline = std::time::Instant::now() + PATIENCE;
    let probed = |id: &'static str| app.post("/v1/chat/completions", id, &body);
    while probed("half-2").await.status != 200 {
        assert!(std::time::Instant::now() < deadline);
    }
    let ready = app.client().get("/health/ready", &[]).await.json();
    assert_eq!(
        (&ready["status"], &ready["targets"][0]["breaker"]),
        (&"degraded".into(), &"half_open".into())
    );
    assert_eq!(probed("half-3").await.status, 200);
    assert_eq!(app.client().get("/health/ready", &[]).await.json()["status"], "ready");
}
