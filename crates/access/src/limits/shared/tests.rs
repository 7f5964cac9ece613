//! Counted in Redis and counted here: the same answers.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use bus::settings::RedisSettings;
use bus::windows::{RedisWindows, RedisWindowsOptions};
use bus::{BusMetrics, Redis};
use telemetry::Metrics;

use super::super::{
    Exceeded, Limit, LimitSettings, Limiter, Limits, LimitsHealth, ManualClock, Refusal, Subjects,
};

const SETTINGS: &str = r#"{
    "global": {"rpm": 150},
    "per_key": {"rpm": 40, "tpm": 5000},
    "per_user": {"rpm": 25},
    "per_group": {"tpm": 15000, "concurrent_requests": 40},
    "per_ip": {"requests_per_window": {"requests": 20, "window": "50s"}, "block": "45s"}
}"#;

async fn counted_in_redis() -> Option<Limiter> {
    if TcpStream::connect(("127.0.0.1", 6379)).is_err() {
        let message = "no Redis at 127.0.0.1:6379";
        assert!(std::env::var("TRUNKLINE_REQUIRE_SERVICES").as_deref() != Ok("1"), "{message}");
        println!("skipped: {message}");
        return None;
    }
    let metrics = BusMetrics::new(&Metrics::new().unwrap()).unwrap();
    let redis =
        Redis::open(&"redis://127.0.0.1:6379".into(), &RedisSettings::default(), &metrics).await.unwrap();
    let options = RedisWindowsOptions {
        prefix: format!("test-limits-{:012x}", fastrand::u64(..1 << 48)),
        // The machine that runs the tests is busy with others.
        timeout: Duration::from_secs(5),
        ..RedisWindowsOptions::default()
    };
    let windows = RedisWindows::start(redis, options).await;
    Some(Limiter::new(serde_json::from_str(SETTINGS).unwrap(), Some(Arc::new(windows))).unwrap())
}

/// Mutation (a mistake that was made): the places taken read for a scope that has no limit of them.
#[test]
fn limits_counted_together_are_those_counted_here() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let settings: LimitSettings = serde_json::from_str(SETTINGS).unwrap();
    let here = Limiter::with_clock(settings, None, Arc::new(ManualClock::at(5_000_000))).unwrap();
    let Some(together) = runtime.block_on(counted_in_redis()) else { return };
    assert_eq!(together.health(), LimitsHealth::Shared);
    let own = Limits { requests_per_minute: Some(Limit::AtMost(10)), ..Limits::default() };
    let mut random = fastrand::Rng::with_seed(7);
    let users = ["anna", "bert", "carl"];
    let mut held = Vec::new();
    let mut refused = BTreeSet::new();
    for step in 0..400 {
        let key = random.i64(0..6);
        let subjects = Subjects {
            key: Some(key),
            key_limits: (key == 5).then_some(&own),
            user: Some(users[random.usize(0..3)]),
            group: Some(key % 2),
            ip: Some([192, 0, 2, random.u8(0..4) * random.u8(0..60)].into()),
            global: true,
            ..Subjects::default()
        };
        let tokens = random.u64(0..600);
        let ours = here.admit_local(&subjects, tokens);
        // On another thread than Redis' runtime, as requests are.
        let theirs = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(together.admit(&subjects, tokens));
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => {
                let left = |quota: &super::Quota| {
                    (quota.requests.map(|at| at.remaining), quota.tokens.map(|at| at.remaining))
                };
                assert_eq!(left(ours.quota()), left(theirs.quota()), "step {step}");
                held.push((ours, theirs));
            }
            (Err(ours), Err(theirs)) => {
                // Which of several limits takes longest depends on the clocks.
                let blocked = |refusal: &Refusal| refusal.exceeded == Exceeded::Blocked;
                assert_eq!(blocked(&ours), blocked(&theirs), "step {step}");
                refused.insert(ours.code());
                refused.insert(theirs.code());
            }
            (ours, theirs) => panic!("step {step}: {ours:?} and {theirs:?}"),
        }
    }
    let all = ["address_blocked", "concurrency_exceeded", "requests_exceeded", "tokens_exceeded"];
    assert_eq!(refused.into_iter().collect::<Vec<_>>(), all, "the run has met everything");
}
