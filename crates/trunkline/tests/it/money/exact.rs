//! A budget worth k calls of fixed cost admits exactly k.

use std::time::Duration;

use testkit::{Behaviour, Client, Upstream, services};

use super::{chat, group_becomes, spend_all, yaml};
use crate::admin::Admin;
use crate::app::TestApp;
use crate::process::program::{Process, Program};

pub const ADMIN: &str = "an-admin-key-of-this-test-that-is-long-enough";

/// Mutation: `Account::hold` that compares with `<=` against what is left without taking it away admits all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_admits_what_is_paid_for() {
    let upstream = Upstream::start();
    let app = TestApp::start(&yaml(&upstream, "")).await;
    let admin = Admin::new(&app.url, &app.admin_key);
    let group = admin.group("team", "0.057").await;
    let key = admin.key("k", group).await;
    assert_eq!(spend_all(std::slice::from_ref(&app.url), &key, 24).await, 57);
    assert_eq!(upstream.requests().len(), 57);
    let seen = admin.get(&format!("/api/groups/{group}")).await;
    assert_eq!(
        (&seen["balance"], &seen["spent"], &seen["held"]),
        (&"0".into(), &"0.057".into(), &"0".into())
    );

    admin.must("POST", &format!("/api/groups/{group}/credits"), serde_json::json!({"amount": "0.002"})).await;
    assert_eq!(spend_all(std::slice::from_ref(&app.url), &key, 3).await, 2, "and again after a credit");
}

/// Clients that go away in the middle of a stream pay for what they began, and for nothing else. Mutation: a call
/// whose client is gone that is never settled keeps its money; one that is settled twice takes it from others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_away_in_the_middle_has_paid_for_one_call() {
    let upstream = Upstream::start();
    upstream.set_default(Behaviour::slow_body(Duration::from_millis(3)));
    let mut app = TestApp::start(&yaml(&upstream, "")).await;
    let admin = Admin::new(&app.url, &app.admin_key);
    let group = admin.group("team", "0.06").await;
    let key = admin.key("k", group).await;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..6 {
        let (url, key) = (app.url.clone(), key.clone());
        clients.spawn(async move {
            let auth = format!("Bearer {key}");
            let (mut begun, body) = (0, crate::process::program::chat_body("m", true));
            loop {
                let headers = [("authorization", auth.as_str())];
                let mut answer = Client::new(&url).stream("/v1/chat/completions", &headers, &body).await;
                match answer.status {
                    200 => begun += 1,
                    402 => return begun,
                    status => panic!("{status}"),
                }
                // Two of three do not wait for the end.
                if (client + begun) % 3 == 0 {
                    let events = answer.collect(crate::app::PATIENCE).await;
                    assert!(events.last().is_some_and(|event| event.contains("[DONE]")), "{events:?}");
                }
            }
        });
    }
    let begun: usize = clients.join_all().await.into_iter().sum();
    assert_eq!(begun, 60);
    app.settle().await;
    let seen = group_becomes(&admin, group, "spent", "0.06").await;
    assert_eq!((&seen["balance"], &seen["held"]), (&"0".into(), &"0".into()));
    assert_eq!(upstream.requests().len(), 60);
    let usage = admin.get("/api/usage?group_by=group").await;
    assert_eq!(
        (&usage["total"]["requests"], &usage["total"]["cost"]),
        (&60.into(), &"0.06".into()),
        "{usage}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_is_not_paid_for() {
    let upstream = Upstream::start();
    let app = TestApp::start(&yaml(&upstream, "")).await;
    let admin = Admin::new(&app.url, &app.admin_key);
    let group = admin.group("team", "0.003").await;
    let key = admin.key("k", group).await;
    upstream.script([Behaviour::error(500, None), Behaviour::reset(), Behaviour::error(400, None)]);
    for expected in [502, 502, 400, 200, 200, 200, 402] {
        assert_eq!(chat(&app.url, &key, false).await.status, expected);
    }
    group_becomes(&admin, group, "spent", "0.003").await;
}

/// A process that shares a PostgreSQL database with others.
pub fn replica(upstream: &Upstream, store: &str) -> Program {
    Program::serve(&yaml(upstream, ""))
        .env("TRUNKLINE_DATA__STORE", store)
        .env("TRUNKLINE_ADMIN_KEY", ADMIN)
        .env("TRUNKLINE_SERVER__THREADS", "2")
        .env("TRUNKLINE_DATA__POOL__MAX_CONNECTIONS", "6")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_admit_what_is_paid_for() {
    let Some(database) = services::postgres() else { return };
    let upstream = Upstream::start();
    let mut replicas: Vec<Process> = (0..3).map(|_| replica(&upstream, &database.url()).start()).collect();
    let urls: Vec<String> = replicas.iter().map(Process::url).collect();
    let admin = Admin::new(&urls[0], ADMIN);
    let group = admin.group("team", "0.2").await;
    let key = admin.key("k", group).await;
    // Each takes a slice, and is then idle with it.
    for (index, url) in urls.iter().enumerate() {
        let began = std::time::Instant::now();
        loop {
            let answer = chat(url, &key, false).await;
            if answer.status == 200 {
                break;
            }
            assert_eq!(answer.status, 401, "{}", answer.text());
            assert!(
                began.elapsed().as_millis() < 1_000,
                "replica {index} does not know the key after a second"
            );
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
    assert_eq!(spend_all(&urls[..2], &key, 12).await, 197, "also what the idle one holds");
    assert_eq!(chat(&urls[2], &key, false).await.status, 402);
    assert_eq!(upstream.requests().len(), 200);
    group_becomes(&admin, group, "spent", "0.2").await;
    group_becomes(&admin, group, "balance", "0").await;
    for replica in &mut replicas {
        assert_eq!(replica.stop(), Some(0));
    }
}
