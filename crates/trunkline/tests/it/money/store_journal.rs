//! `data.journal: store`: replicas that keep nothing on a disk of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Behaviour, Client, Upstream, services};

use super::exact::{ADMIN, replica};
use super::{chat, spend_all, yaml};
use crate::admin::Admin;
use crate::app::TestApp;
use crate::process::program::{Process, Program, chat_body, signal};

/// Waits until a group has spent so much and nobody holds anything of it.
async fn group_has_spent(admin: &Admin, group: i64, spent: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let seen = admin.get(&format!("/api/groups/{group}")).await;
        if seen["spent"] == spent && seen["held"] == "0" {
            return seen;
        }
        assert!(Instant::now() < deadline, "not {spent}: {seen}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Mutation: with an `end` that is not waited for, what is read right after the last answer is too little.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_in_the_store() {
    let upstream = Upstream::start();
    let app = TestApp::start(&yaml(&upstream, "data: {journal: store}\n")).await;
    let admin = Admin::new(&app.url, &app.admin_key);
    let group = admin.group("team", "0.041").await;
    let key = admin.key("k", group).await;
    assert_eq!(spend_all(std::slice::from_ref(&app.url), &key, 12).await, 41);
    let seen = admin.get(&format!("/api/groups/{group}")).await;
    assert_eq!(
        (&seen["spent"], &seen["balance"], &seen["held"]),
        (&json!("0.041"), &json!("0"), &json!("0"))
    );
    let usage = admin.get("/api/usage?group_by=group").await;
    assert_eq!(usage["total"]["requests"], json!(41));
    // What fails is given back.
    admin.must("POST", &format!("/api/groups/{group}/credits"), json!({"amount": "0.002"})).await;
    upstream.script([Behaviour::error(500, None), Behaviour::reset()]);
    for expected in [502, 502, 200, 200, 402] {
        assert_eq!(chat(&app.url, &key, false).await.status, expected);
    }
    group_has_spent(&admin, group, "0.043").await;
}

/// Clients of a process that is about to be killed: calls that were answered, and calls that were cut off.
async fn until_cut_off(url: String, key: String, answered: Arc<AtomicUsize>) -> usize {
    let auth = format!("Bearer {key}");
    let headers = [("authorization", auth.as_str()), ("content-type", "application/json")];
    let body = chat_body("m", false);
    loop {
        match Client::new(&url).try_send("POST", "/v1/chat/completions", &headers, body.as_bytes()).await {
            Ok(answer) if answer.complete && answer.status == 200 => answered.fetch_add(1, Ordering::SeqCst),
            Ok(answer) if answer.complete => panic!("{} {}", answer.status, answer.text()),
            _ => return 1,
        };
    }
}

/// Mutation: without `charge_reservations` the calls that were cut off are given back with the lease, and more are
/// admitted than was paid for; with a lease that is not returned, fewer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_admit_what_is_paid_for_though_one_is_killed() {
    let Some(database) = services::postgres() else { return };
    let upstream = Upstream::start();
    upstream.set_default(Behaviour::delay(Duration::from_millis(5), Behaviour::ok()));
    let start = || {
        let replica = replica(&upstream, &database.url());
        replica.env("TRUNKLINE_DATA__JOURNAL", "store").env("TRUNKLINE_DATA__LEASE_GRACE", "5s").start()
    };
    let mut replicas: Vec<Process> = (0..3).map(|_| start()).collect();
    let urls: Vec<String> = replicas.iter().map(Process::url).collect();
    let admin = Admin::new(&urls[0], ADMIN);
    let group = admin.group("team", "0.4").await;
    let key = admin.key("k", group).await;
    let mut before = 0;
    for url in &urls {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let answer = chat(url, &key, false).await;
            if answer.status == 200 {
                before += 1;
                break;
            }
            assert!(answer.status == 401 && Instant::now() < deadline, "{}", answer.text());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..6)
        .map(|_| tokio::spawn(until_cut_off(urls[2].clone(), key.clone(), Arc::clone(&answered))))
        .collect();
    let deadline = Instant::now() + Duration::from_secs(60);
    while answered.load(Ordering::SeqCst) < 25 {
        assert!(Instant::now() < deadline, "{answered:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let victim = replicas.pop().unwrap();
    signal(victim.id(), "KILL");
    let mut cut_off = 0;
    for client in clients {
        cut_off += client.await.unwrap();
    }
    let answered = before + answered.load(Ordering::SeqCst);
    // The others spend what there is, and what the dead one held once that is known to be free.
    let mut others = 0;
    let deadline = Instant::now() + Duration::from_secs(90);
    let seen = loop {
        others += spend_all(&urls[..2], &key, 6).await;
        let seen = admin.get(&format!("/api/groups/{group}")).await;
        if seen["balance"] == "0" && seen["held"] == "0" {
            break seen;
        }
        assert!(Instant::now() < deadline, "{others} more, {seen}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let usage = admin.get("/api/usage?group_by=group").await;
    println!("answered {answered} and {others}, cut off {cut_off}: {seen} {}", usage["total"]);
    assert_eq!(seen["spent"], "0.4", "all of it, and no more");
    assert_eq!(usage["total"]["requests"], json!(400), "each call once");
    assert!(answered + others <= 400 && answered + others + cut_off >= 400, "{answered} {others} {cut_off}");
    assert!(upstream.requests().len() <= 400, "nothing was sent that was not written down before");
    for replica in &mut replicas {
        assert_eq!(replica.stop(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_under_way_is_charged_with_what_was_set_aside() {
    let upstream = Upstream::start();
    upstream.set_default(Behaviour::delay(Duration::from_secs(50), Behaviour::ok()));
    let start = |dir| {
        let program =
            Program::serve_within(dir, &yaml(&upstream, "data: {journal: store, lease_grace: 2s}\n"));
        program.env("TRUNKLINE_ADMIN_KEY", ADMIN).start()
    };
    let mut process = start(Arc::new(tempfile::tempdir().unwrap()));
    let admin = Admin::new(&process.url(), ADMIN);
    let group = admin.group("team", "1").await;
    let key = admin.key("k", group).await;
    let calls: Vec<_> =
        (0..3).map(|_| tokio::spawn(until_cut_off(process.url(), key.clone(), Arc::default()))).collect();
    upstream.wait_for_requests(3, Duration::from_secs(60)).await;
    assert!(!process.folder().path().join("data/journal").exists(), "nothing is kept in the data folder");
    signal(process.id(), "KILL");
    for call in calls {
        call.await.unwrap();
    }
    process.wait();
    let again = start(process.folder());
    let admin = Admin::new(&again.url(), ADMIN);
    group_has_spent(&admin, group, "0.003").await;
    let calls = admin.get("/api/usage/requests").await;
    let calls = calls["data"].as_array().unwrap();
    assert_eq!(calls.len(), 3);
    assert!(calls.iter().all(|call| call["estimated"] == true && call["cost"] == "0.001"), "{calls:?}");
}
