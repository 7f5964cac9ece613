//! Redis and RabbitMQ go away under load and come back. Neither has money: nothing is charged wrongly, nobody has to
//! start anything again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::{Behaviour, Upstream, services};

use super::exact::ADMIN;
use super::{chat, group_becomes, yaml};
use crate::admin::Admin;
use crate::process::program::{Process, Program};

/// For whatever must happen; a broker takes its time to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker of the test's own.
enum Broker {
    Redis(Box<services::PrivateRedis>),
    Rabbit(Box<services::PrivateRabbit>),
}

impl Broker {
    fn stop(&self) {
        match self {
            Broker::Redis(server) => server.stop(),
            Broker::Rabbit(server) => server.stop(),
        }
    }

    fn start_again(&self) {
        match self {
            Broker::Redis(server) => server.start_again(),
            Broker::Rabbit(server) => server.start_again(),
        }
    }
}

/// Calls until told to stop. Whatever happens to the broker, there is an answer.
async fn client(url: String, key: String, stop: Arc<AtomicBool>, answered: Arc<AtomicUsize>) {
    while !stop.load(Ordering::Relaxed) {
        let answer = chat(&url, &key, false).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answered.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn until(what: &str, done: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whether every replica's readiness says so.
async fn ready(replicas: &[Process], says: impl Fn(&serde_json::Value) -> bool) -> bool {
    for replica in replicas {
        let answer = replica.get("/health/ready").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        if !says(&answer.json()) {
            return false;
        }
    }
    true
}

/// Stops and starts the broker under load. `gone` and `back` are how readiness tells.
async fn outage(
    broker: Broker,
    variables: &[(&str, String)],
    gone: impl Fn(&serde_json::Value) -> bool,
    back: impl Fn(&serde_json::Value) -> bool,
) {
    let Some(database) = services::postgres() else { return };
    let upstream = Upstream::start();
    upstream.set_default(Behaviour::delay(Duration::from_millis(2), Behaviour::ok()));
    let replica = || {
        let program = Program::serve(&yaml(&upstream, "limits: {per_key: {requests_per_minute: 1000000}}\n"))
            .env("TRUNKLINE_DATA__STORE", database.url())
            .env("TRUNKLINE_ADMIN_KEY", ADMIN)
            .env("TRUNKLINE_SERVER__THREADS", "1")
            .env("TRUNKLINE_DATA__POOL__MAX_CONNECTIONS", "6");
        variables.iter().fold(program, |program, (name, value)| program.env(name, value)).start()
    };
    let mut replicas = [replica(), replica()];
    let admin = Admin::new(&replicas[0].url(), ADMIN);
    let group = admin.group("team", "100").await;
    let (key, other) = (admin.key("k", group).await, admin.key("other", group).await);
    let knows = async |key: &str, status: u16| {
        let auth = format!("Bearer {key}");
        replicas[1].client().get("/v1/models", &[("authorization", &auth)]).await.status == status
    };
    until("the key does not arrive", async || knows(&key, 200).await && knows(&other, 200).await).await;
    until("it is not as it should be at first", async || ready(&replicas, &back).await).await;
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|index| {
            let url = replicas[index % 2].url();
            tokio::spawn(client(url, key.clone(), Arc::clone(&stop), Arc::clone(&answered)))
        })
        .collect();
    let more = async |count: usize| {
        let enough = answered.load(Ordering::Relaxed) + count;
        until("calls are not answered", async || answered.load(Ordering::Relaxed) >= enough).await;
    };
    more(20).await;
    let broker = Arc::new(broker);
    let server = Arc::clone(&broker);
    tokio::task::spawn_blocking(move || server.stop()).await.unwrap();
    until("nobody notices that it is gone", async || ready(&replicas, &gone).await).await;
    more(20).await;
    // What changes is still heard of: the Store is asked every half second.
    let id = admin.get("/api/keys?name=other").await["data"][0]["id"].clone();
    admin.must("PATCH", &format!("/api/keys/{id}"), json!({"enabled": false})).await;
    until("a revoked key works on elsewhere", async || knows(&other, 401).await).await;

    let server = Arc::clone(&broker);
    tokio::task::spawn_blocking(move || server.start_again()).await.unwrap();
    until("nobody notices that it is back", async || ready(&replicas, &back).await).await;
    more(20).await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let total = answered.load(Ordering::Relaxed);
    let spent = base::Money::nanos(1_000_000 * total as i64).to_string();
    group_becomes(&admin, group, "spent", &spent).await;
    assert_eq!(admin.get("/api/usage?group_by=group").await["total"]["requests"], total);
    assert_eq!(upstream.requests().len(), total);
    for replica in &mut replicas {
        assert_eq!(replica.stop(), Some(0));
    }
}

fn dependency(ready: &serde_json::Value, name: &str) -> bool {
    let all = ready["dependencies"].as_array().unwrap();
    all.iter().any(|one| one["name"] == name && one["ok"] == true)
}

/// Redis counts the limits, carries the events and has the cache; the limits fail open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_stopped_under_load_costs_nobody_anything() {
    let Some(redis) = tokio::task::spawn_blocking(services::PrivateRedis::start).await.unwrap() else {
        return;
    };
    let variables = [
        ("TRUNKLINE_DATA__REDIS__URL", redis.url()),
        ("TRUNKLINE_DATA__EVENTS", "redis".to_owned()),
        ("TRUNKLINE_DATA__CACHE", "redis".to_owned()),
    ];
    let gone = |ready: &serde_json::Value| ready["limits"] == "degraded" && !dependency(ready, "events");
    let back = |ready: &serde_json::Value| ready["limits"] == "shared" && dependency(ready, "events");
    outage(Broker::Redis(Box::new(redis)), &variables, gone, back).await;
}

/// RabbitMQ carries the events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rabbitmq_that_is_stopped_under_load_costs_nobody_anything() {
    let Some(rabbit) = tokio::task::spawn_blocking(services::PrivateRabbit::start).await.unwrap() else {
        return;
    };
    let variables = [("TRUNKLINE_DATA__RABBITMQ__URL", rabbit.url())];
    let gone = |ready: &serde_json::Value| ready["status"] == "degraded" && !dependency(ready, "events");
    let back = |ready: &serde_json::Value| ready["status"] == "ready" && dependency(ready, "events");
    outage(Broker::Rabbit(Box::new(rabbit)), &variables, gone, back).await;
}
