//! Keys grow old: it is told in time, and nobody has to change keys at the very moment.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Client, services};

use crate::admin::Admin;
use crate::process::program::{Process, Program};

const ADMIN: &str = "an-admin-key-of-this-test-that-is-long-enough";
const DAY_MS: i64 = 86_400_000;

async fn notices(admin: &Admin) -> Vec<Value> {
    let listed = admin.get("/api/notices?unread=true").await;
    let all = listed["data"].as_array().unwrap().iter();
    all.filter(|notice| notice["kind"] == "rotation").cloned().collect()
}

/// Mutation: a notice that is told for any key, or by each replica, or only when the time is over; a rotation that
/// forgets the old key at once, or never.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_r05_a_key_of_90_days_is_told_of_7_days_before_and_both_work_in_between() {
    let Some(database) = services::postgres() else { return };
    let start = || -> Process {
        Program::serve("rotation: {every: 90d}\n")
            .env("TRUNKLINE_DATA__STORE", database.url())
            .env("TRUNKLINE_ADMIN_KEY", ADMIN)
            .env("TRUNKLINE_SERVER__THREADS", "1")
            .start()
    };
    let mut process = start();
    let admin = Admin::new(&process.url(), ADMIN);
    let group = admin.group("team", "1").await;
    let make = async |name: &str, more: Value| {
        let mut body = json!({"name": name, "group_id": group});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        admin.must("POST", "/api/keys", body).await
    };
    let (due, young) = (make("due", json!({})).await, make("young", json!({})).await);
    let (over, own) = (make("over", json!({})).await, make("own", json!({"rotate_every": "365d"})).await);
    let time = |row: &Value, field: &str| row[field].as_str().unwrap()[..10].to_owned();
    assert_ne!(time(&due, "rotate_before"), time(&due, "created_at"), "{due}");
    assert_ne!(time(&due, "rotate_before"), time(&own, "rotate_before"), "a key's own rule counts");
    process.stop();
    // 83 days and an hour go by for one, 83 days less an hour for another, 91 for the last two.
    let age = |key: &Value, days: i64, hours: i64| {
        let by = days * DAY_MS + hours * 3_600_000;
        database.execute(&format!("UPDATE keys SET rotated_at = rotated_at - {by} WHERE id = {}", key["id"]));
    };
    age(&due, 83, 1);
    age(&young, 83, -1);
    age(&over, 91, 0);
    age(&own, 91, 0);

    let (process, other) = (start(), start());
    let admin = Admin::new(&process.url(), ADMIN);
    for process in [&process, &other] {
        process.wait_for_line(&["WARN", "this key is to be rotated", "name=due"]);
        process.wait_for_line(&["WARN", "this key is to be rotated", "name=over"]);
    }
    // They are kept a moment after they are in the log.
    let deadline = Instant::now() + Duration::from_secs(10);
    while notices(&admin).await.len() < 2 {
        assert!(Instant::now() < deadline, "{:#?}", notices(&admin).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let found = notices(&admin).await;
    let of = |key: &Value| found.iter().filter(|notice| notice["key_id"] == key["id"]).collect::<Vec<_>>();
    assert_eq!(found.len(), 2, "two replicas, two keys, each told once: {found:#?}");
    assert_eq!((of(&due).len(), of(&over).len()), (1, 1), "{found:#?}");
    assert_eq!((&of(&due)[0]["severity"], &of(&over)[0]["severity"]), (&json!("warning"), &json!("error")));
    assert!(of(&due)[0]["message"].as_str().unwrap().contains("`due`"), "{found:#?}");
    let path = format!("/api/notices/{}", of(&due)[0]["id"]);
    admin.must("POST", &format!("{path}/read"), Value::Null).await;
    assert_eq!(notices(&admin).await.len(), 1);
    assert!(admin.get(&path).await["read_at"].is_string());
    let theirs = admin.get("/api/Notifications").await;
    for (key, read) in [(&due, true), (&over, false)] {
        let row = theirs.as_array().unwrap().iter().find(|row| row["virtualKeyId"] == key["id"]).unwrap();
        assert_eq!((&row["type"], &row["isRead"]), (&json!("ExpirationWarning"), &json!(read)), "{theirs}");
    }
    admin.must("POST", "/api/Notifications/mark-all-read", Value::Null).await;
    assert_eq!(admin.get("/api/Notifications/unread").await, json!([]));

    // Both work in between, on both replicas; when that is over, the new one alone.
    let rotate = format!("/api/keys/{}/rotate", due["id"]);
    let rotated = admin.must("POST", &rotate, Value::Null).await;
    let week = |row: &Value| {
        let days = |text: &str| text[..10].replace('-', "").parse::<i64>().unwrap();
        days(row["previous_valid_until"].as_str().unwrap()) - days(row["updated_at"].as_str().unwrap())
    };
    assert!(week(&rotated) >= 7, "a week of overlap, or the step over a month: {rotated}");
    let works = async |process: &Process, key: &Value| {
        let auth = format!("Bearer {}", key["key"].as_str().unwrap());
        Client::new(process.url()).get("/v1/models", &[("authorization", &auth)]).await.status
    };
    let becomes = async |process: &Process, key: &Value, status: u16| {
        let deadline = Instant::now() + Duration::from_secs(10);
        while works(process, key).await != status {
            assert!(Instant::now() < deadline, "{} does not become {status}", key["name"]);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    for process in [&process, &other] {
        becomes(process, &rotated, 200).await;
        assert_eq!(works(process, &due).await, 200, "the old one works yet");
    }
    let again = admin.must("POST", &rotate, json!({"overlap": "1s"})).await;
    for process in [&process, &other] {
        becomes(process, &again, 200).await;
        becomes(process, &rotated, 401).await;
        assert_eq!(works(process, &due).await, 401, "two rotations ago");
        assert_eq!(works(process, &again).await, 200);
    }
    assert!(admin.get(&format!("/api/keys/{}", due["id"])).await["rotate_before"].is_string());
}
