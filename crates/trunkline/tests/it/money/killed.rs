//! `kill -9` loses nothing and charges nothing twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::{Behaviour, Client, Upstream, services};

use super::exact::{ADMIN, replica};
use super::{chat, group_becomes, spend_all, yaml};
use crate::admin::Admin;
use crate::process::program::{Process, Program, chat_body, signal};

const ROUNDS: usize = 20;

/// What the clients of one process have seen.
#[derive(Default)]
struct Seen {
    answered: AtomicUsize,
    /// Sent, and no whole answer: the process was killed, and what the call came to nobody told the client.
    unknown: AtomicUsize,
    stop: AtomicBool,
}

/// Calls until told to stop, or until nothing answers any more.
async fn client(url: String, key: String, seen: Arc<Seen>) {
    let auth = format!("Bearer {key}");
    let headers = [("authorization", auth.as_str()), ("content-type", "application/json")];
    let body = chat_body("m", false);
    while !seen.stop.load(Ordering::Relaxed) {
        match Client::new(&url).try_send("POST", "/v1/chat/completions", &headers, body.as_bytes()).await {
            Ok(answer) if answer.complete && answer.status == 200 => {
                seen.answered.fetch_add(1, Ordering::Relaxed)
            }
            Ok(answer) if answer.complete => panic!("{} {}", answer.status, answer.text()),
            _ => seen.unknown.fetch_add(1, Ordering::Relaxed),
        };
        if seen.unknown.load(Ordering::Relaxed) > 0 {
            return;
        }
    }
}

/// Mutation: a journal whose `open` line is not written makes the Store know fewer calls than were answered;
/// one applied without its mark makes it know more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_under_load_lose_nothing() {
    let upstream = Upstream::start();
    upstream.set_default(Behaviour::delay(Duration::from_millis(2), Behaviour::ok()));
    let start =
        |dir| Program::serve_within(dir, &yaml(&upstream, "")).env("TRUNKLINE_ADMIN_KEY", ADMIN).start();
    let mut process = start(Arc::new(tempfile::tempdir().unwrap()));
    let admin = Admin::new(&process.url(), ADMIN);
    let group = admin.group("team", "1000").await;
    let key = admin.key("k", group).await;
    let (mut answered, mut unknown) = (0, 0);
    for round in 0..ROUNDS {
        let seen = Arc::new(Seen::default());
        let clients: Vec<_> =
            (0..8).map(|_| tokio::spawn(client(process.url(), key.clone(), Arc::clone(&seen)))).collect();
        // In the midst of the load, each time a little later.
        let deadline = Instant::now() + Duration::from_secs(60);
        while seen.answered.load(Ordering::Relaxed) < 6 + 7 * round % 30 {
            assert!(Instant::now() < deadline, "{:?} answered in a minute", seen.answered);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        signal(process.id(), "KILL");
        for client in clients {
            client.await.unwrap();
        }
        assert_eq!(process.wait(), None);
        answered += seen.answered.load(Ordering::Relaxed);
        unknown += seen.unknown.load(Ordering::Relaxed);
        process = start(process.folder());
    }
    let admin = Admin::new(&process.url(), ADMIN);
    let seen = admin.get(&format!("/api/groups/{group}")).await;
    let dollars: f64 = seen["spent"].as_str().unwrap().parse().unwrap();
    let calls = (dollars * 1_000.0).round() as usize;
    println!(
        "answered {answered}, cut off {unknown}, charged {calls}, reached the provider {}",
        upstream.requests().len()
    );
    // What was answered is charged; what was cut off is charged if it had begun; nothing else, nothing twice.
    assert!(calls >= answered && calls <= answered + unknown, "{calls} of {answered} + {unknown}");
    assert!(calls >= upstream.requests().len(), "whatever reached the provider is charged");
    let usage = admin.get("/api/usage?group_by=group").await;
    assert_eq!(usage["total"]["requests"], json!(calls), "each call once: {usage}");
    assert_eq!(usage["total"]["cost"], seen["spent"]);
    assert_eq!(seen["held"], "0", "the leases of the dead are returned");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_replica_gives_back_when_it_comes_again() {
    let Some(database) = services::postgres() else { return };
    let upstream = Upstream::start();
    let mut replicas: Vec<Process> = (0..3).map(|_| replica(&upstream, &database.url()).start()).collect();
    let urls: Vec<String> = replicas.iter().map(Process::url).collect();
    let admin = Admin::new(&urls[0], ADMIN);
    let group = admin.group("team", "0.1").await;
    let key = admin.key("k", group).await;
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    for url in &urls {
        assert_eq!(chat(url, &key, false).await.status, 200);
    }
    let victim = replicas.pop().unwrap();
    signal(victim.id(), "KILL");
    let before = spend_all(&urls[..2], &key, 6).await;
    assert!(before < 97, "a slice is held for the dead one until its journal is replayed: {before}");
    let again = Program::serve_within(victim.folder(), &yaml(&upstream, ""))
        .env("TRUNKLINE_DATA__STORE", database.url())
        .env("TRUNKLINE_ADMIN_KEY", ADMIN)
        .start();
    let after = spend_all(&[again.url()], &key, 4).await;
    assert_eq!(before + after, 97, "exactly what was paid for, with the three of before");
    group_becomes(&admin, group, "spent", "0.1").await;
    group_becomes(&admin, group, "balance", "0").await;
}
