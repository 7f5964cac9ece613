//! Limits of several replicas together, as clients see them, and what is done when they cannot be counted.

use std::time::{Duration, Instant};

use testkit::{Response, Upstream, services};

use crate::admin::Admin;
use crate::money::{chat, yaml};
use crate::process::program::{Process, Program};

const ADMIN: &str = "an-admin-key-of-this-test-that-is-long-enough";
const LIMIT: usize = 10;

/// Two replicas that count in this Redis, and a key that both know.
async fn replicas(
    upstream: &Upstream,
    database: &services::Database,
    redis: &services::PrivateRedis,
    on_failure: &str,
) -> ([Process; 2], String) {
    let limits = format!("limits: {{on_failure: {on_failure}, per_key: {{requests_per_hour: {LIMIT}}}}}\n");
    let start = || {
        Program::serve(&yaml(upstream, &limits))
            .env("TRUNKLINE_DATA__STORE", database.url())
            .env("TRUNKLINE_DATA__REDIS__URL", redis.url())
            .env("TRUNKLINE_ADMIN_KEY", ADMIN)
            .env("TRUNKLINE_SERVER__THREADS", "1")
            .start()
    };
    let both = [start(), start()];
    let admin = Admin::new(&both[0].url(), ADMIN);
    let group = admin.group("team", "1").await;
    let key = admin.key("k", group).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    let auth = format!("Bearer {key}");
    while both[1].client().get("/v1/models", &[("authorization", &auth)]).await.status != 200 {
        assert!(Instant::now() < deadline, "the key does not arrive");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (both, key)
}

/// Calls of both at once, in turn.
async fn calls(replicas: &[Process; 2], key: &str, count: usize) -> Vec<Response> {
    let mut running = tokio::task::JoinSet::new();
    for index in 0..count {
        let (url, key) = (replicas[index % 2].url(), key.to_owned());
        running.spawn(async move { chat(&url, &key, false).await });
    }
    running.join_all().await
}

fn passed(answers: &[Response]) -> usize {
    answers.iter().filter(|answer| answer.status == 200).count()
}

async fn until_limits_are(replicas: &[Process; 2], state: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    for replica in replicas {
        loop {
            let ready = replica.get("/health/ready").await.json();
            if ready["limits"] == state {
                break;
            }
            assert!(Instant::now() < deadline, "not {state}: {ready}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Mutation: replicas that each count by themselves admit twice as many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_admit_what_one_may_and_without_redis_each_counts_by_itself() {
    let Some(redis) = tokio::task::spawn_blocking(services::PrivateRedis::start).await.unwrap() else {
        return;
    };
    let Some(database) = services::postgres() else { return };
    let upstream = Upstream::start();
    let (both, key) = replicas(&upstream, &database, &redis, "open").await;
    let answers = calls(&both, &key, 3 * LIMIT).await;
    assert_eq!(passed(&answers), LIMIT, "both together");
    let refused = answers.iter().find(|answer| answer.status != 200).unwrap();
    assert_eq!((refused.status, refused.header("x-ratelimit-limit-requests")), (429, Some("10")));
    assert!(refused.header("retry-after").is_some());

    redis.stop();
    // Who finds that Redis does not answer is served: an hour is not over, but here nobody has counted yet.
    let answers = calls(&both, &key, 6 * LIMIT).await;
    assert_eq!(passed(&answers), 2 * LIMIT, "each by itself");
    assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 429)));
    until_limits_are(&both, "degraded").await;
    for replica in &both {
        replica.wait_for_line(&["limits", "each replica counts by itself"]);
    }
    redis.start_again();
    until_limits_are(&both, "shared").await;
    assert_eq!(passed(&calls(&both, &key, LIMIT).await), 0, "what Redis knows it has kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_without_redis_means_try_again() {
    let Some(redis) = tokio::task::spawn_blocking(services::PrivateRedis::start).await.unwrap() else {
        return;
    };
    let Some(database) = services::postgres() else { return };
    let upstream = Upstream::start();
    let (both, key) = replicas(&upstream, &database, &redis, "closed").await;
    assert_eq!(passed(&calls(&both, &key, 2).await), 2);
    redis.stop();
    let reached = upstream.requests().len();
    for answer in calls(&both, &key, 6).await {
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{}", answer.text());
        assert_eq!(answer.json()["error"]["code"], "limits_unavailable");
    }
    assert_eq!(upstream.requests().len(), reached, "nobody is asked");
    until_limits_are(&both, "degraded").await;
    redis.start_again();
    until_limits_are(&both, "shared").await;
    assert_eq!(passed(&calls(&both, &key, LIMIT).await), LIMIT - 2, "what was refused does not count");
}
