//! Core and admin as processes of their own, several of each, behind `least_conn`, with nothing sticky.

use std::time::{Duration, Instant};

use reqwest::Version;
use serde_json::{Value, json};
use testkit::Upstream;
use testkit::services::{self, PrivateNginx};

use super::{Certificate, guide};
use crate::admin::Admin;
use crate::money::group_becomes;
use crate::process::program::{Process, Program, chat_body};

const ADMIN: &str = "an-admin-key-of-this-test-that-is-long-enough";

/// One process of a tier.
fn tier(role: &str, upstream: &Upstream, store: &str) -> Process {
    Program::serve(&crate::money::yaml(upstream, "ip: {trusted_proxies: ['127.0.0.0/8']}\n"))
        .args(&["--role", role])
        .env("TRUNKLINE_DATA__STORE", store)
        .env("TRUNKLINE_ADMIN_KEY", ADMIN)
        .env("TRUNKLINE_SERVER__THREADS", "1")
        .env("TRUNKLINE_DATA__POOL__MAX_CONNECTIONS", "5")
        .start()
}

/// How many model calls a replica has served.
async fn served(process: &Process) -> f64 {
    let text = testkit::Client::new(process.metrics_url()).get("/metrics", &[]).await.text().to_owned();
    let lines = text.lines().filter(|line| {
        line.starts_with("http_requests_total{")
            && line.contains("/v1/chat/completions")
            && line.contains("200")
    });
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Mutation: a tier that serves the other's paths as well, or a replica that keeps keys, answers to repeated
/// requests or budgets to itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_c02_tiers_of_any_number_of_replicas_behind_least_conn_without_sticky_state() {
    let Some(database) = services::postgres() else { return };
    let upstream = Upstream::start();
    let mut core: Vec<Process> = (0..3).map(|_| tier("gateway", &upstream, &database.url())).collect();
    let mut admin: Vec<Process> = (0..2).map(|_| tier("admin", &upstream, &database.url())).collect();
    let urls = |tier: &[Process]| tier.iter().map(Process::url).collect::<Vec<_>>();
    let (core_urls, admin_urls) = (urls(&core), urls(&admin));
    let certificate = Certificate::new();
    let started =
        PrivateNginx::start(&certificate.files(), |ports| guide(ports, &core_urls, &admin_urls, "60s"));
    let Some(nginx) = started else { return };
    let (api, operators) =
        (format!("https://127.0.0.1:{}", nginx.port(0)), format!("https://127.0.0.1:{}", nginx.port(1)));
    let client = &certificate.client;

    // A tier has its own paths and no others.
    for (url, path, status) in [
        (&core_urls[0], "/api/groups", 404),
        (&core_urls[0], "/v1/models", 200),
        (&admin_urls[0], "/api/groups", 200),
        (&admin_urls[0], "/v1/models", 404),
        (&core_urls[1], "/health", 200),
        (&admin_urls[1], "/health", 200),
    ] {
        let asked = testkit::Client::new(url).get(path, &[("x-api-key", ADMIN)]).await;
        assert_eq!(asked.status, status, "{url}{path}: {}", asked.text());
    }

    let post = async |path: &str, body: Value, repeat: Option<&str>| {
        let request = client.post(format!("{operators}{path}")).bearer_auth(ADMIN);
        let request = request.header("content-type", "application/json").body(body.to_string());
        let request = repeat.iter().fold(request, |request, key| request.header("idempotency-key", *key));
        let answer = request.send().await.unwrap();
        let (status, version) = (answer.status().as_u16(), answer.version());
        assert_eq!((status, version), (201, Version::HTTP_2), "{path}");
        serde_json::from_str::<Value>(&answer.text().await.unwrap()).unwrap()
    };
    let group = post("/api/groups", json!({"name": "team", "balance": "0.04"}), None).await["id"].clone();
    // Sent again, it comes to whichever replica: all of them know that it was done.
    let body = json!({"name": "k", "group_id": group});
    let mut made = Vec::new();
    for _ in 0..4 {
        made.push(post("/api/keys", body.clone(), Some("once")).await);
    }
    assert!(made.iter().all(|key| *key == made[0]), "{made:#?}");
    let key = made[0]["key"].as_str().unwrap();
    let chat = async || {
        let request = client.post(format!("{api}/v1/chat/completions")).bearer_auth(key);
        let request = request.header("content-type", "application/json").body(chat_body("m", false));
        request.send().await.unwrap().status().as_u16()
    };
    // Every replica knows the key within a second.
    let deadline = Instant::now() + Duration::from_secs(1);
    for process in &core {
        let auth = format!("Bearer {key}");
        let models = async || {
            testkit::Client::new(process.url()).get("/v1/models", &[("authorization", &auth)]).await.status
        };
        while models().await != 200 {
            assert!(Instant::now() < deadline, "a replica does not know the key");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let mut statuses = Vec::new();
    for _ in 0..20 {
        statuses.push(chat().await);
    }
    assert_eq!(statuses, [200; 20]);
    let mut working = 0;
    for process in &core {
        working += usize::from(served(process).await > 0.0);
    }
    assert_eq!(working, 3, "all of them are asked");

    // A replica that is stopped in order is missed by nobody, one of either tier.
    assert_eq!((core.pop().unwrap().stop(), admin.pop().unwrap().stop()), (Some(0), Some(0)));
    let mut paid = 20;
    let refused = loop {
        match chat().await {
            200 => paid += 1,
            status => break status,
        }
    };
    assert_eq!((paid, refused), (40, 402), "exactly what the group can pay, whoever is asked");
    let operator = Admin::new(&admin_urls[0], ADMIN);
    group_becomes(&operator, group.as_i64().unwrap(), "balance", "0").await;
}
