//! Budgets: what is admitted, what is charged, what survives.

mod brokers;
mod exact;
mod killed;
mod outages;
mod store_journal;
mod told;

use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::{Client, Response, Upstream};

use crate::admin::Admin;

/// The settings of a gateway in front of one fake provider, whose calls cost a tenth of a cent each.
pub fn yaml(upstream: &Upstream, more: &str) -> String {
    let url = upstream.base_url();
    format!(
        "providers: {{lab: {{kind: openai-compatible, base_url: '{url}'}}}}\n\
         models: {{m: {{targets: [{{provider: lab, model: x}}]}}}}\n\
         resilience: {{retries: 0}}\n\
         prices: {{'lab/*': {{request: 0.001}}}}\n{more}"
    )
}

/// One chat with a key.
pub async fn chat(url: &str, key: &str, stream: bool) -> Response {
    let auth = format!("Bearer {key}");
    let body = crate::process::program::chat_body("m", stream);
    let headers = [("authorization", auth.as_str()), ("content-type", "application/json")];
    let sent = Client::new(url).try_send("POST", "/v1/chat/completions", &headers, body.as_bytes()).await;
    sent.unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// Clients that call until they are told that the budget is used up. How many calls were answered.
pub async fn spend_all(urls: &[String], key: &str, clients: usize) -> usize {
    let mut running = tokio::task::JoinSet::new();
    for client in 0..clients {
        let (url, key) = (urls[client % urls.len()].clone(), key.to_owned());
        running.spawn(async move {
            let mut answered = 0;
            loop {
                let answer = chat(&url, &key, client % 3 == 0).await;
                match answer.status {
                    200 => answered += 1,
                    402 => return answered,
                    status => panic!("{status} {}", answer.text()),
                }
            }
        });
    }
    running.join_all().await.into_iter().sum()
}

/// Waits until a field of a group is what it must be.
pub async fn group_becomes(admin: &Admin, group: i64, field: &str, expected: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let seen = admin.get(&format!("/api/groups/{group}")).await;
        if seen[field] == expected {
            return seen;
        }
        assert!(Instant::now() < deadline, "{field} is not {expected}: {seen}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
