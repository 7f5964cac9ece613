//! Secrets leave under a passphrase and come back; the key that seals them changes; settings are shown without them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Upstream, services};

use super::{add_lab, code, plain};
use crate::admin::Admin;
use crate::money::chat;
use crate::process::program::Program;

const ADMIN: &str = "an-admin-key-of-this-test-that-is-long-enough";
const SECRETS: [&str; 2] = ["sk-lab-secret", "team-secret"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_under_a_passphrase_brings_the_secrets_into_another_installation() {
    let upstream = Upstream::start();
    let (app, admin) = plain().await;
    add_lab(&admin, &upstream).await;
    let passphrase = "correct horse battery staple";
    let path = "/api/admin/export/configuration";
    let short = admin.send("POST", path, &json!({"passphrase": "short"})).await;
    assert_eq!(short.status, 400, "{}", short.text());
    let exported = admin.must("POST", path, json!({"passphrase": passphrase})).await;
    let text = exported.to_string();
    assert!(SECRETS.iter().all(|secret| !text.contains(secret)) && !text.contains(passphrase), "{text}");
    let key = admin.key("k", admin.group("other", "1").await).await;
    let reader = admin.must("POST", "/api/keys", json!({"name": "reader", "role": "viewer"})).await;
    let reader = Admin::new(&app.url, reader["key"].as_str().unwrap());
    let refused = reader.send("POST", path, &json!({"passphrase": passphrase})).await;
    assert_eq!(code(&refused), (403, "permission_needed".into()), "who may only look gets no secrets");
    assert_eq!(chat(&app.url, &key, false).await.status, 200);

    let (other, there) = plain().await;
    let import = "/api/admin/import/configuration";
    let with = |passphrase: &str| {
        let mut document = exported.clone();
        document["passphrase"] = passphrase.into();
        document
    };
    let refused = there.send("POST", import, &with("another passphrase, and wrong")).await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["field"]),
        (400, &json!("passphrase")),
        "{}",
        refused.text()
    );
    let mut moved = with(passphrase);
    moved["secrets"]["sealed"]["provider.other.api_key"] =
        moved["secrets"]["sealed"]["provider.lab.api_key"].clone();
    assert_eq!(there.send("POST", import, &moved).await.status, 400, "a secret belongs to its place");
    let done = there.must("POST", import, with(passphrase)).await;
    assert_eq!(done["secrets_missing"], json!([]), "{done}");
    let key = there.key("k", there.group("team", "1").await).await;
    assert_eq!(chat(&other.url, &key, false).await.status, 200);
    let asked = upstream.requests();
    assert_eq!(asked.last().unwrap().header("authorization"), Some("Bearer sk-lab-secret"));
    assert_eq!(asked.last().unwrap().header("x-team"), Some("team-secret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_data_key_seals_everything_anew_on_every_replica() {
    let Some(database) = services::postgres() else { return };
    let upstream = Upstream::start();
    let start = || {
        Program::serve("resilience: {retries: 0}\n")
            .env("TRUNKLINE_DATA__STORE", database.url())
            .env("TRUNKLINE_ADMIN_KEY", ADMIN)
            .env("TRUNKLINE_SERVER__THREADS", "1")
            .start()
    };
    let (one, mut two) = (start(), start());
    let admin = Admin::new(&one.url(), ADMIN);
    add_lab(&admin, &upstream).await;
    let key = admin.key("k", admin.group("team", "1").await).await;
    let sealed = |like: &str| {
        let query =
            format!("SELECT COUNT(*) FROM resources WHERE kind = 'provider' AND body LIKE '%:{like}:%'");
        database.number(&query)
    };
    let mut before = String::new();
    for _ in 0..3 {
        let rotated = admin.must("POST", "/api/admin/rotate-data-key", Value::Null).await;
        let now = rotated["key"].as_str().unwrap().to_owned();
        assert_eq!((&rotated["resealed"], sealed(&now)), (&json!(1), 1), "{rotated}");
        assert!(now != before && (before.is_empty() || sealed(&before) == 0));
        before = now;
    }
    // The other replica reads what is sealed with a key it did not have when it started, and seals with it.
    let there = Admin::new(&two.url(), ADMIN);
    let deadline = Instant::now() + Duration::from_secs(10);
    while chat(&two.url(), &key, false).await.status != 200 {
        assert!(Instant::now() < deadline, "it does not open the seal");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(upstream.requests().last().unwrap().header("authorization"), Some("Bearer sk-lab-secret"));
    there.must("PATCH", "/api/providers/lab", json!({"api_key": "sk-newer"})).await;
    assert_eq!(sealed(&before), 1);
    two.stop();
    let again = start();
    assert_eq!(chat(&again.url(), &key, false).await.status, 200, "and after a start");
    assert_eq!(upstream.requests().last().unwrap().header("authorization"), Some("Bearer sk-newer"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_are_shown_with_where_they_are_from_and_without_secrets() {
    let yaml = "providers: {lab: {kind: openai, api_key: '${LAB_KEY}'}}\nresilience: {retries: 1}\n";
    let process = Program::serve(yaml)
        .env("LAB_KEY", "sk-lab-secret")
        .env("TRUNKLINE_ADMIN_KEY", ADMIN)
        .env("MAX_RETRIES", "2")
        .start();
    let admin = Admin::new(&process.url(), ADMIN);
    let limits = json!({"per_key": {"requests_per_minute": 5}});
    admin.must("PUT", "/api/settings/limits", limits).await;
    let shown = admin.get("/api/settings").await;
    let row = |path: &str| {
        let mut rows = shown["data"].as_array().unwrap().iter();
        rows.rfind(|row| row["path"] == path).cloned().unwrap_or_else(|| panic!("{path}: {shown:#}"))
    };
    let retries = row("resilience.retries");
    assert_eq!(retries["value"], "2");
    assert!(retries["origin"].as_str().unwrap().contains("MAX_RETRIES"), "{retries}");
    assert!(row("providers.lab.kind")["origin"].as_str().unwrap().contains("trunkline.yaml"));
    assert_eq!(row("providers.lab.api_key")["value"], "***");
    assert_eq!(row("limits")["origin"], "api");
    assert!(!shown.to_string().contains("sk-lab-secret") && !shown.to_string().contains(ADMIN));
}
