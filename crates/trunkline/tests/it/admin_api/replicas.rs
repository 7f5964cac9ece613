//! What one replica is told, the others do.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Client, Upstream, services};

use super::{add_lab, code, plain};
use crate::admin::Admin;
use crate::money::chat;
use crate::process::program::Program;

const ADMIN: &str = "an-admin-key-of-this-test-that-is-long-enough";

/// How soon a change must be in force elsewhere.
const SOON: Duration = Duration::from_secs(1);

/// Mutation: a `follow` that ignores the kind `model` never answers 200 on the second replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_c15_a_change_of_key_or_configuration_reaches_the_other_replica_within_a_second() {
    let Some(database) = services::postgres() else { return };
    let upstream = Upstream::start();
    let replica = || {
        Program::serve("resilience: {retries: 0}\n")
            .env("TRUNKLINE_DATA__STORE", database.url())
            .env("TRUNKLINE_ADMIN_KEY", ADMIN)
            .env("TRUNKLINE_SERVER__THREADS", "1")
            .env("TRUNKLINE_DATA__POOL__MAX_CONNECTIONS", "6")
    };
    let (one, two) = (replica().start(), replica().start());
    let admin = Admin::new(&one.url(), ADMIN);
    let group = admin.group("team", "1").await;
    let key = admin.key("k", group).await;
    add_lab(&admin, &upstream).await;
    assert_eq!(chat(&one.url(), &key, false).await.status, 200, "where it was made: at once");
    let becomes = async |status: u16| {
        let deadline = Instant::now() + SOON;
        while chat(&two.url(), &key, false).await.status != status {
            assert!(Instant::now() < deadline, "the other replica does not answer {status}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    becomes(200).await;
    let asked = upstream.requests();
    assert_eq!(
        asked.last().unwrap().header("authorization"),
        Some("Bearer sk-lab-secret"),
        "it opens the seal"
    );
    let keys = admin.get("/api/keys").await;
    let of_ours = keys["data"].as_array().unwrap().iter().find(|row| row["group_id"] == group).unwrap();
    let path = format!("/api/keys/{}", of_ours["id"]);
    admin.must("PATCH", &path, json!({"enabled": false})).await;
    assert_eq!(chat(&one.url(), &key, false).await.status, 401, "where it was revoked: at once");
    becomes(401).await;
    admin.must("PATCH", &path, json!({"enabled": true})).await;
    becomes(200).await;
    Admin::new(&two.url(), ADMIN).must("DELETE", "/api/models/m", Value::Null).await;
    becomes(404).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_master_key_for_all_replicas_no_secret_is_taken() {
    let Some(database) = services::postgres() else { return };
    let (mut app, _) = plain().await;
    let dir = tempfile::tempdir().unwrap();
    let mut settings = app.app().settings().clone();
    settings.data.dir = dir.path().join("data");
    settings.data.store = base::Secret::from(database.url());
    let alone = trunkline::wire::App::start(settings, None).await.unwrap();
    let keys = alone.first_run.as_ref().unwrap();
    let admin = Admin::new(&alone.server.url(), keys.admin_key.expose());
    let provider = json!({"name": "x", "kind": "openai", "api_key": "sk-secret"});
    let refused = admin.send("POST", "/api/providers", &provider).await;
    assert_eq!(code(&refused), (503, "no_master_key".into()));
    assert!(refused.text().contains("TRUNKLINE_ADMIN_KEY"), "{}", refused.text());
    admin.must("POST", "/api/providers", json!({"name": "x", "kind": "demo"})).await;
    alone.shutdown().await;
}

#[tokio::test]
async fn the_document_of_the_api_names_every_operation_once() {
    let (app, _) = plain().await;
    let document = Client::new(&app.url).get("/openapi.json", &[]).await.json();
    let mut seen = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for operation in operations.as_object().unwrap().values() {
            if let Some(id) = operation["operationId"].as_str() {
                assert!(seen.insert(id.to_owned()), "{path}: {id} is there twice");
            }
        }
    }
    assert!(seen.len() > 90, "{}", seen.len());
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer} leads nowhere");
    }
}
