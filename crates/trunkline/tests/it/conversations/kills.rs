//! Processes are killed while vCons flow; every vCon that was accepted ends in its storage. The ledger is printed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use testkit::Client;
use testkit::services::PrivateRedis;

use super::guide::{config, process};
use super::{AUTH, TOKEN, uuid, vcon};
use crate::app::PATIENCE;
use crate::process::program::{Process, Program};

/// How many vCons flow.
const COUNT: usize = 400;

/// Sends one until it is accepted, wherever the API is just now. How often it had to be sent.
async fn send(url: &std::sync::Mutex<String>, n: usize) -> usize {
    let deadline = Instant::now() + PATIENCE;
    let body = vcon(n).to_string();
    for sent in 1.. {
        let client = Client::new(url.lock().unwrap().clone());
        let path = "/vcon?ingress_lists=incoming_calls";
        let headers = [AUTH[0], ("content-type", "application/json")];
        match client.try_send("POST", path, &headers, body.as_bytes()).await {
            Ok(answer) if answer.status == 201 => return sent,
            Ok(answer) if answer.status < 500 => panic!("{}: {}", answer.status, answer.text()),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
        assert!(Instant::now() < deadline, "{n} is not accepted");
    }
    unreachable!()
}

fn saved(folder: &Path) -> usize {
    (0..COUNT).filter(|n| folder.join(format!("out/2026/11/20/{}.json", uuid(*n))).is_file()).count()
}

/// Sends all of them while `trouble` is made, then waits until all are saved, and prints the ledger.
fn flow(name: &str, folder: &Path, url: &Arc<std::sync::Mutex<String>>, mut trouble: impl FnMut(usize)) {
    let accepted = Arc::new(AtomicUsize::new(0));
    let sends = Arc::new(AtomicUsize::new(0));
    let sender = {
        let (accepted, sends, url) = (Arc::clone(&accepted), Arc::clone(&sends), Arc::clone(url));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                for start in (0..COUNT).step_by(8) {
                    let some = (start..(start + 8).min(COUNT)).map(|n| send(&url, n));
                    for sent in futures_util::future::join_all(some).await {
                        sends.fetch_add(sent, Ordering::SeqCst);
                        accepted.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        })
    };
    let mut kills = 0;
    for at in [COUNT / 5, COUNT / 2, 4 * COUNT / 5] {
        while accepted.load(Ordering::SeqCst) < at && !sender.is_finished() {
            std::thread::sleep(Duration::from_millis(2));
        }
        trouble(kills);
        kills += 1;
    }
    sender.join().unwrap();
    let deadline = Instant::now() + 2 * PATIENCE;
    while saved(folder) < COUNT {
        assert!(Instant::now() < deadline, "{name}: of {COUNT} accepted only {} are saved", saved(folder));
        std::thread::sleep(Duration::from_millis(20));
    }
    println!(
        "{name}: kills {kills}, sent {}, accepted {}, saved {}, lost 0",
        sends.load(Ordering::SeqCst),
        accepted.load(Ordering::SeqCst),
        saved(folder)
    );
}

fn address(process: &Process) -> Arc<std::sync::Mutex<String>> {
    Arc::new(std::sync::Mutex::new(process.url()))
}

/// V15: `kill -9` of a worker. Mutation: acknowledged before the links ran.
#[test]
fn promise_v15_a_killed_worker_loses_nothing() {
    let Some(redis) = PrivateRedis::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = config(folder.path());
    let api = process(&redis, &file, "conversations");
    let mut worker = process(&redis, &file, "worker");
    flow("worker killed", folder.path(), &address(&api), |_| {
        worker.signal("KILL");
        worker.wait();
        worker = process(&redis, &file, "worker");
    });
}

/// V15: `kill -9` of the API. Mutation: 201 before the push.
#[test]
fn promise_v15_a_killed_api_loses_nothing() {
    let Some(redis) = PrivateRedis::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = config(folder.path());
    let mut api = process(&redis, &file, "conversations");
    let _worker = process(&redis, &file, "worker");
    let url = address(&api);
    flow("API killed", folder.path(), &url, |_| {
        api.signal("KILL");
        api.wait();
        api = process(&redis, &file, "conversations");
        *url.lock().unwrap() = api.url();
    });
}

/// V15: `kill -9` of the queue's server, which syncs what it is told. Mutation: none of ours; Redis without AOF.
#[test]
fn promise_v15_a_killed_redis_loses_nothing() {
    let Some(redis) = PrivateRedis::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = config(folder.path());
    let api = process(&redis, &file, "conversations");
    let _worker = process(&redis, &file, "worker");
    flow("Redis killed", folder.path(), &address(&api), |_| {
        redis.kill();
        redis.start_again();
    });
}

/// V15, V01: all in one process on SQLite. Mutation: SQLite without sync.
#[test]
fn promise_v15_a_killed_single_process_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = config(folder.path());
    let home = Arc::new(tempfile::tempdir().unwrap());
    let start = || {
        Program::serve_within(Arc::clone(&home), "conversations: {attempts: 20, backoff: 100ms, lease: 2s}\n")
            .env("CONSERVER_CONFIG_FILE", &file)
            .env("CONSERVER_API_TOKEN", TOKEN)
            .start()
    };
    let mut one = start();
    let url = address(&one);
    flow("single process killed", folder.path(), &url, |_| {
        one.signal("KILL");
        one.wait();
        one = start();
        *url.lock().unwrap() = one.url();
    });
}

/// V08: told to stop, a worker finishes what it has and gives back the rest; another goes on. Mutation: in-flight work
/// not given back.
#[test]
fn promise_v08_a_worker_told_to_stop_finishes_and_gives_back() {
    let Some(redis) = PrivateRedis::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = config(folder.path());
    let api = process(&redis, &file, "conversations");
    let mut worker = process(&redis, &file, "worker");
    flow("worker told to stop", folder.path(), &address(&api), |_| {
        assert_eq!(worker.stop(), Some(0));
        worker = process(&redis, &file, "worker");
    });
    assert_eq!(worker.stop(), Some(0));
    let mut seen = redis.client();
    let left = seen.command(&["HLEN", "{incoming_calls}:inflight"]).unwrap().text();
    assert_eq!(left.as_deref(), Some("0"), "nothing waits out a lease");
}
