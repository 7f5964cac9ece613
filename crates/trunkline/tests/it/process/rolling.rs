//! A rolling update: one more replica at a time, none fewer, under load.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use testkit::{Behaviour, Client, Upstream, chat};

use super::program::chat_body;
use super::{Process, Program};
use crate::app::{PATIENCE, alias};

const KEY: &str = "an-admin-key-of-every-replica";
/// How many callers there are.
const CALLERS: usize = 6;
/// How often readiness is asked for, and how much longer a replica drains than that.
const PROBE: Duration = Duration::from_millis(20);
const DRAIN: &str = "server: {drain_delay: 500ms, threads: 1}\n";

/// A load balancer: replicas in turn, as long as they say that they are ready.
#[derive(Default)]
struct Balancer {
    replicas: Mutex<Vec<(String, bool)>>,
    turn: AtomicUsize,
    over: AtomicBool,
    /// Calls that were answered whole, and what became of the others.
    good: AtomicUsize,
    bad: Mutex<Vec<String>>,
}

impl Balancer {
    fn add(&self, process: &Process) {
        self.replicas.lock().unwrap().push((process.url(), true));
    }

    fn pick(&self) -> String {
        let replicas = self.replicas.lock().unwrap();
        let ready: Vec<&String> = replicas.iter().filter(|(_, ready)| *ready).map(|(url, _)| url).collect();
        ready[self.turn.fetch_add(1, Ordering::Relaxed) % ready.len()].clone()
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn good(&self) -> usize {
        self.good.load(Ordering::Relaxed)
    }

    /// Asks each replica for its readiness, again and again, as the kubelet does.
    async fn probe(&self) {
        while !self.is_over() {
            let urls: Vec<String> =
                self.replicas.lock().unwrap().iter().map(|(url, _)| url.clone()).collect();
            for url in urls {
                let answer = Client::new(&url).try_send("GET", "/health/ready", &[], b"").await;
                let ready = answer.is_ok_and(|answer| answer.status == 200);
                let mut replicas = self.replicas.lock().unwrap();
                replicas.iter_mut().filter(|(u, _)| *u == url).for_each(|(_, r)| *r = ready);
            }
            tokio::time::sleep(PROBE).await;
        }
    }

    /// Calls without a pause: streams and whole answers in turn.
    async fn call(&self) {
        let authorization = format!("Bearer {KEY}");
        for turn in 0.. {
            if self.is_over() {
                return;
            }
            let (url, stream) = (self.pick(), turn % 2 == 0);
            let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
            let body = chat_body("m", stream);
            let sent =
                Client::new(&url).try_send("POST", "/v1/chat/completions", &headers, body.as_bytes()).await;
            let whole = |answer: &testkit::Response| {
                let end = if stream { chat::DONE } else { "}" };
                answer.status == 200 && answer.complete && answer.text().trim_end().ends_with(end)
            };
            match sent {
                Ok(answer) if whole(&answer) => _ = self.good.fetch_add(1, Ordering::Relaxed),
                other => self.bad.lock().unwrap().push(format!("{url}: {other:?}")),
            }
        }
    }
}

fn on_a_thread(work: impl AsyncFnOnce() + Send + 'static) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work());
    })
}

/// Fails when the drain delay is left out of `Server::shutdown`, or `/health/ready` says ready while
/// draining, or calls in flight are not waited for.
#[test]
fn promise_p10_a_rolling_update_fails_no_request() {
    let upstream = Upstream::start();
    // Long enough that every replica that stops has calls in flight.
    upstream.set_default(Behaviour::slow_body(Duration::from_millis(10)));
    let settings = format!("{DRAIN}{}", alias(&[upstream.base_url()], "{retries: 0}"));
    let replica = || Program::serve(&settings).env("TRUNKLINE_ADMIN_KEY", KEY).start();
    let balancer = Arc::new(Balancer::default());
    let mut running: Vec<Process> = (0..2).map(|_| replica()).collect();
    running.iter().for_each(|process| balancer.add(process));

    let mut threads = Vec::new();
    let prober = Arc::clone(&balancer);
    threads.push(on_a_thread(async move || prober.probe().await));
    for _ in 0..CALLERS {
        let caller = Arc::clone(&balancer);
        threads.push(on_a_thread(async move || caller.call().await));
    }
    for _ in 0..2 {
        wait_for_more(&balancer, 30);
        // Surge 1: the new one first. Unavailable 0: the old one goes when the new one is ready.
        let new = replica();
        balancer.add(&new);
        wait_for_more(&balancer, 30);
        let mut old = running.remove(0);
        assert_eq!(old.stop(), Some(0));
        running.push(new);
    }
    wait_for_more(&balancer, 30);
    balancer.over.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let bad = balancer.bad.lock().unwrap();
    assert!(bad.is_empty(), "{} of {} failed: {:#?}", bad.len(), balancer.good() + bad.len(), &bad[..1]);
    assert!(running.iter_mut().all(Process::runs));
    assert!(upstream.requests().len() >= balancer.good());
}

fn wait_for_more(balancer: &Balancer, count: usize) {
    let (goal, deadline) = (balancer.good() + count, Instant::now() + PATIENCE);
    while balancer.good() < goal {
        let bad = balancer.bad.lock().unwrap().first().cloned();
        assert!(Instant::now() < deadline && bad.is_none(), "calls do not get through: {bad:?}");
        thread::sleep(Duration::from_millis(5));
    }
}
