//! What an orchestrator's signals do.

use std::time::{Duration, Instant};

use testkit::{Behaviour, Upstream, chat};

use super::{Process, Program};
use crate::app::{PATIENCE, alias};

/// Between two events of a stream that is in flight while the program stops.
const PAUSE: Duration = Duration::from_millis(250);

/// Readiness, as a load balancer asks for it; 0 when nobody answers.
async fn readiness(process: &Process) -> (u16, String) {
    match process.client().try_send("GET", "/health/ready", &[], b"").await {
        Ok(answer) => (answer.status, answer.json()["status"].as_str().unwrap_or_default().to_owned()),
        Err(_) => (0, String::new()),
    }
}

/// The whole way from the signal to exit code 0.
async fn stops_gracefully_on(signal: &str) {
    let upstream = Upstream::start();
    upstream.script([Behaviour::slow_body(PAUSE)]);
    let settings = alias(&[upstream.base_url()], "{}");
    let mut process = Program::serve(&format!("server: {{drain_delay: 500ms}}\n{settings}")).start();
    let mut stream = process.stream("m").await;
    let mut events = vec![stream.next_event(PATIENCE).await.unwrap()];

    process.signal(signal);
    process.wait_for_line(&["stopping", "calls_in_flight=1"]);
    let told = Instant::now();
    while readiness(&process).await.0 == 200 {
        assert!(told.elapsed() < PATIENCE, "readiness does not turn");
    }
    // Load balancers take a while to see it: until then whoever comes is served.
    assert_eq!(readiness(&process).await, (503, "draining".into()));
    assert_eq!(process.chat("m").await.status, 200);
    // Then nothing new is accepted, while what is in flight goes on.
    while process.client().connect().await.is_ok() {
        assert!(told.elapsed() < PATIENCE, "it still accepts connections");
    }
    assert!(process.runs(), "it ended with a call in flight");
    let rest = stream.collect(PATIENCE).await;
    assert!(rest.len() >= 2, "the stream was over before the listener closed");
    events.extend(rest);
    assert_eq!((events, stream.ended_cleanly()), (chat::events(false), true));
    assert_eq!(process.wait(), Some(0));
    let log = process.stderr();
    assert!(
        log.last().unwrap().contains("stopped") && !log.iter().any(|line| line.contains("cut off")),
        "{log:#?}"
    );
    assert!(log.iter().any(|line| line.contains("outcome=ok") && line.contains("stream=true")), "{log:#?}");
}

/// Fails when `Server::shutdown` does not wait for `drain_delay`, or does not wait for calls in flight, or
/// `Signals` forgets SIGINT; and when the defaults no longer fit into the time.
#[tokio::test]
async fn promise_p10_sigterm_and_sigint_finish_what_is_in_flight() {
    stops_gracefully_on("TERM").await;
    stops_gracefully_on("INT").await;
    // 30 s are given in all, and a `sleep 15` before SIGTERM takes half of them. What is left is for the
    // drain, the grace, and the last exports.
    let shown = Program::new(&["config", "show"]).run().stdout;
    let value = |path: &str| {
        let line = shown.lines().find(|line| line.split_whitespace().next() == Some(path)).unwrap();
        base::Duration::parse(line.split_whitespace().nth(1).unwrap()).unwrap().0
    };
    let ours = value("server.drain_delay") + value("server.shutdown_grace") + trunkline::wire::EXPORT_GRACE;
    assert!(ours <= Duration::from_millis(14_500), "{ours:?} of 15 s");
}

#[tokio::test]
async fn when_the_grace_is_over_calls_are_cut_off_and_it_says_so() {
    let upstream = Upstream::start();
    upstream.set_default(Behaviour::stall_after_events(3));
    let settings = alias(&[upstream.base_url()], "{}");
    let mut process = Program::serve(&format!("server: {{shutdown_grace: 300ms}}\n{settings}")).start();
    let mut stream = process.stream("m").await;
    stream.next_event(PATIENCE).await.unwrap();
    let asked = Instant::now();
    process.signal("TERM");
    let rest = stream.collect(PATIENCE).await;
    assert!(!rest.iter().any(|event| event == chat::DONE), "a stream that is cut off has no proper end");
    assert!(stream.broken(), "the body ends as if it were whole");
    assert_eq!(process.wait(), Some(0));
    assert!(asked.elapsed() >= Duration::from_millis(300), "{:?}", asked.elapsed());
    process.wait_for_line(&["WARN", "cut off", "calls=1"]);
    upstream.wait_for_cancelled(1, PATIENCE).await;
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT"), ("TERM", "INT")] {
        let upstream = Upstream::start();
        upstream.set_default(Behaviour::no_response());
        let settings = alias(&[upstream.base_url()], "{}");
        let yaml = format!("server: {{drain_delay: 60s, shutdown_grace: 60s}}\n{settings}");
        let mut process = Program::serve(&yaml).start();
        let call = process.chat("m");
        let signals = async {
            upstream.wait_for_requests(1, PATIENCE).await;
            process.signal(first);
            process.wait_for_line(&["stopping"]);
            process.signal(second);
        };
        // Whatever becomes of the call: nobody waits for it.
        tokio::select! {
            () = signals => {}
            _ = call => panic!("the provider does not answer"),
        }
        assert_eq!(process.wait(), Some(1));
        process.wait_for_line(&["stopped at once by a second signal"]);
    }
}

#[tokio::test]
async fn idle_connections_do_not_hold_it_up() {
    let mut process = Program::serve("server: {shutdown_grace: 60s}\n").start();
    // One that was used and kept, one on which nothing was ever sent.
    let kept = reqwest_client();
    assert_eq!(kept.get(format!("{}/health", process.url())).send().await.unwrap().status(), 200);
    let silent = process.client().connect().await.unwrap();
    let asked = Instant::now();
    assert_eq!(process.stop(), Some(0));
    assert!(asked.elapsed() < PATIENCE, "{:?}", asked.elapsed());
    drop(silent);
}

fn reqwest_client() -> reqwest::Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().no_proxy().build().unwrap()
}
