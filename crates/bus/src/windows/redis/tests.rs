//! Against the Redis of the machine, and private ones that are stopped or are a cluster.

use std::process::Command;

use futures_util::future::join_all;

use super::*;
use crate::settings::RedisSettings;
use crate::testing::{PrivateRedis, REDIS_URL, redis, there_is, unique, until};
use crate::windows::{SharedBlock, SharedPlaces};

const MINUTE: u32 = 60_000;

async fn windows(url: &str, prefix: &str) -> RedisWindows {
    leasing(url, prefix, Duration::from_secs(60)).await
}

async fn leasing(url: &str, prefix: &str, lease: Duration) -> RedisWindows {
    let options = RedisWindowsOptions {
        prefix: prefix.to_owned(),
        // The machine that runs the tests is busy with others.
        timeout: Duration::from_secs(5),
        lease,
    };
    RedisWindows::start(redis(url, RedisSettings::default()).await, options).await
}

/// As `access` cuts a minute for a limit of more than 64.
fn window(key: &str, max: u64) -> SharedWindow {
    SharedWindow {
        key: key.into(),
        slot_ms: 1_000,
        slots: 61,
        max,
        amount: 1,
        estimate: false,
        blocks: false,
    }
}

/// As `access` cuts a minute for small limits.
fn exact(key: &str, max: u64) -> SharedWindow {
    SharedWindow { slot_ms: 1, slots: MINUTE + 1, ..window(key, max) }
}

fn tokens(key: &str, max: u64, amount: u64) -> SharedWindow {
    SharedWindow { amount, estimate: true, ..window(key, max) }
}

fn asking(windows: &[SharedWindow]) -> SharedRequest {
    SharedRequest { windows: windows.to_vec(), ..SharedRequest::default() }
}

fn places(key: &str, max: u64) -> SharedRequest {
    SharedRequest { places: vec![SharedPlaces { key: key.into(), max }], ..SharedRequest::default() }
}

async fn admits(windows: &RedisWindows, request: &SharedRequest) -> bool {
    matches!(windows.admit(request.clone()).await.unwrap(), SharedOutcome::Admitted { .. })
}

/// The readings of a request, with what it was charged taken back.
async fn look(windows: &RedisWindows, request: &SharedRequest) -> Vec<SharedReading> {
    match windows.admit(request.clone()).await.unwrap() {
        SharedOutcome::Admitted { readings, permit } => {
            permit.cancel();
            readings
        }
        SharedOutcome::Refused { readings, .. } => readings,
        SharedOutcome::Blocked { .. } => Vec::new(),
    }
}

/// Lets time pass for a window: everything in it becomes older by so many slots.
async fn age(windows: &RedisWindows, key: &str, slots: i64) {
    const AGE: &str = "local w = cmsgpack.unpack(redis.call('GET', KEYS[1]))
        for k = 3, #w - 1, 2 do w[k] = w[k] - tonumber(ARGV[1]) end
        redis.call('SET', KEYS[1], cmsgpack.pack(w), 'PX', 100000) return #w";
    let script = Script::new(AGE);
    let mut call = script.prepare_invoke();
    call.key(windows.inner.key(key)).arg(slots);
    windows.inner.redis.script::<i64>("age", &call).await.unwrap();
}

/// Mutations: the charges of `admit.lua` left out; `>` for `>=` in its comparison with the limit.
#[tokio::test(flavor = "multi_thread")]
async fn exactly_n_are_admitted_by_several_replicas() {
    if !there_is("Redis", 6379) {
        return;
    }
    let prefix = unique("windows");
    let replicas = [
        windows(REDIS_URL, &prefix).await,
        windows(REDIS_URL, &prefix).await,
        windows(REDIS_URL, &prefix).await,
    ];
    let group = window("group", 150);
    let request = |key: u64| asking(&[exact(&format!("key{key}"), 60), group.clone()]);
    let tries = (0..600u64).map(|number| {
        let (replica, request) = (&replicas[number as usize % 3], request(number % 4));
        async move { admits(replica, &request).await }
    });
    let admitted = join_all(tries).await.into_iter().filter(|admitted| *admitted).count();
    assert_eq!(admitted, 150, "four keys with 60 each, and 150 for their group");
    let mut used = 0;
    for key in 0..4 {
        used += look(&replicas[0], &asking(&[exact(&format!("key{key}"), 600)])).await[0].used;
    }
    assert_eq!(used, 150, "what the group refused cost the keys nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_slide_and_tell_how_long_to_wait() {
    if !there_is("Redis", 6379) {
        return;
    }
    let windows = windows(REDIS_URL, &unique("windows")).await;
    for (request, slot_ms) in [(asking(&[exact("a", 3)]), 1), (asking(&[window("b", 3)]), 1_000)] {
        let key = request.windows[0].key.as_str();
        let slots = i64::from(MINUTE) / slot_ms;
        for _ in 0..3 {
            assert!(admits(&windows, &request).await);
            age(&windows, key, slots / 3 + 1).await;
        }
        assert!(admits(&windows, &request).await, "the first is a minute and more old");
        let reading = look(&windows, &request).await[0];
        let wait = reading.wait_ms.unwrap();
        assert_eq!(reading.used, 3);
        assert!(wait > 15_000 && wait <= 21_000, "{wait}");
        assert_eq!(wait, reading.frees_ms);
        assert!(reading.full_ms > 58_000 && reading.full_ms <= 61_000, "{}", reading.full_ms);
        age(&windows, key, (wait as i64 / slot_ms) + 1).await;
        assert!(admits(&windows, &request).await, "the wait that was told suffices");
        assert!(!admits(&windows, &request).await);
    }
    assert_eq!(look(&windows, &asking(&[tokens("c", 10, 11)])).await[0].wait_ms, None, "no waiting helps");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_corrected_and_requests_cancelled() {
    if !there_is("Redis", 6379) {
        return;
    }
    let windows = windows(REDIS_URL, &unique("windows")).await;
    let request = asking(&[tokens("t", 1_000, 600), exact("r", 50)]);
    let admit = || async {
        match windows.admit(request.clone()).await.unwrap() {
            SharedOutcome::Admitted { permit, .. } => permit,
            other => panic!("{other:?}"),
        }
    };
    let used = || async {
        let readings = look(&windows, &asking(&[tokens("t", 1_000_000, 1), exact("r", 50)])).await;
        (readings[0].used, readings[1].used)
    };
    let becomes = |expected: (u64, u64)| async move {
        until("the correction is counted", || async { used().await == expected }).await;
    };
    let mut permit = admit().await;
    permit.correct(100);
    drop(permit);
    becomes((100, 1)).await;
    admit().await.cancel();
    becomes((100, 1)).await;
    let mut permit = admit().await;
    permit.correct(5_000);
    drop(permit);
    becomes((5_100, 2)).await;
    assert!(!admits(&windows, &request).await, "it went over, and the next ones wait");
    assert!(admits(&windows, &asking(&[exact("r", 50)])).await);
    // Without a correction the charge stays.
    becomes((5_100, 3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_limit_and_a_clock_that_jumps_keep_what_was_counted() {
    if !there_is("Redis", 6379) {
        return;
    }
    let windows = windows(REDIS_URL, &unique("windows")).await;
    for _ in 0..5 {
        assert!(admits(&windows, &asking(&[exact("a", 50)])).await);
    }
    // A look is taken back in its own time: the one before it may still be counted.
    let counts = |request: SharedRequest, expected: u64| {
        let windows = &windows;
        async move {
            until("what was counted is kept", || async { look(windows, &request).await[0].used == expected })
                .await;
        }
    };
    counts(asking(&[window("a", 500)]), 5).await;
    assert!(admits(&windows, &asking(&[window("a", 500)])).await);
    counts(asking(&[exact("a", 50)]), 6).await;

    let request = asking(&[window("b", 2)]);
    assert!(admits(&windows, &request).await && admits(&windows, &request).await);
    age(&windows, "b", -30).await;
    assert!(!admits(&windows, &request).await, "half a minute back: nothing is free");
    age(&windows, "b", -1_000).await;
    assert!(admits(&windows, &request).await, "far back: it begins anew instead of waiting for hours");
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_begin_hold_and_end() {
    if !there_is("Redis", 6379) {
        return;
    }
    let prefix = unique("windows");
    let (one, two) = (windows(REDIS_URL, &prefix).await, windows(REDIS_URL, &prefix).await);
    let request = SharedRequest {
        windows: vec![SharedWindow { blocks: true, ..exact("ip", 2) }, exact("key", 3)],
        block: Some(SharedBlock { key: "b".into(), millis: 3_600_000 }),
        ..SharedRequest::default()
    };
    let mut key_only = request.clone();
    key_only.windows[1].max = 0;
    assert!(!admits(&one, &key_only).await);
    assert!(admits(&one, &request).await && admits(&two, &request).await, "another's limit does not block");
    assert!(matches!(one.admit(request.clone()).await.unwrap(), SharedOutcome::Refused { .. }));
    match two.admit(request.clone()).await.unwrap() {
        SharedOutcome::Blocked { millis } => assert!(millis > 3_500_000 && millis <= 3_600_000, "{millis}"),
        other => panic!("{other:?}"),
    }
    assert!(two.unblock("b").await.unwrap() && !two.unblock("b").await.unwrap());
    assert!(matches!(one.admit(request).await.unwrap(), SharedOutcome::Refused { .. }));
}

/// Mutation: without `renew` the place of a request that still runs is given away.
#[test]
fn places_are_held_as_long_as_their_replica_lives() {
    if !there_is("Redis", 6379) {
        return;
    }
    let prefix = unique("windows");
    const LEASE: Duration = Duration::from_secs(2);
    let request = places("p", 2);
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (here, there) = (runtime(), runtime());
    let dying = there.block_on(leasing(REDIS_URL, &prefix, LEASE));
    let held = there.block_on(dying.admit(request.clone())).unwrap();
    assert!(matches!(held, SharedOutcome::Admitted { .. }));
    here.block_on(async {
        let living = leasing(REDIS_URL, &prefix, LEASE).await;
        let own = living.admit(request.clone()).await.unwrap();
        assert!(matches!(own, SharedOutcome::Admitted { .. }));
        let began = Instant::now();
        // Longer than a lease.
        while began.elapsed() < Duration::from_secs(3) {
            match living.admit(request.clone()).await.unwrap() {
                SharedOutcome::Refused { in_use, .. } => assert_eq!(in_use, [2]),
                other => panic!("{other:?} after {:?}", began.elapsed()),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        drop(own);
        until("a place is given back at the end of its request", || admits(&living, &request)).await;
    });
    there.shutdown_background();
    here.block_on(async {
        let living = leasing(REDIS_URL, &prefix, LEASE).await;
        let own = living.admit(request.clone()).await.unwrap();
        until("the dead replica's place comes back", || admits(&living, &request)).await;
        drop(own);
    });
    drop(held);
}

/// Mutation: without `ZREM` in `settle.lua` the places stay taken for their lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_holds_nothing() {
    if !there_is("Redis", 6379) {
        return;
    }
    let windows = windows(REDIS_URL, &unique("windows")).await;
    let request = places("p", 1);
    for _ in 0..20 {
        let mut asking = windows.admit(request.clone());
        // Asked once, so that it is on its way, and never again.
        let waker = std::task::Waker::noop();
        drop(asking.as_mut().poll(&mut std::task::Context::from_waker(waker)));
        drop(asking);
    }
    until("all places come back", || admits(&windows, &request)).await;
    until("nothing is remembered", || async { lock(&windows.inner.held).is_empty() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_and_comes_back_needs_no_restart() {
    let mut server = PrivateRedis::start(&[]);
    let windows = windows(&server.url(), "gone").await;
    let request = asking(&[window("a", 100)]);
    assert!(admits(&windows, &request).await);
    assert_eq!(windows.health(), WindowsHealth::Up);
    server.stop();
    assert!(windows.admit(request.clone()).await.is_err());
    let began = Instant::now();
    for _ in 0..100 {
        assert!(windows.admit(request.clone()).await.is_err());
    }
    assert!(began.elapsed() < Duration::from_secs(1), "while it is known to be gone nobody waits");
    assert!(matches!(windows.health(), WindowsHealth::Down { .. }));
    server.resume();
    until("it counts again", || async { windows.health() == WindowsHealth::Up }).await;
    assert!(admits(&windows, &request).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_costs_the_timeout_once() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://127.0.0.1:{}", silent.local_addr().unwrap().port());
    let options =
        RedisWindowsOptions { timeout: Duration::from_millis(100), ..RedisWindowsOptions::default() };
    let began = Instant::now();
    let windows = RedisWindows::start(redis(&url, RedisSettings::default()).await, options).await;
    assert!(windows.admit(asking(&[window("a", 1)])).await.is_err());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(matches!(windows.health(), WindowsHealth::Down { .. }));
}

/// Mutation: without the braces in `Inner::key` a cluster refuses the script.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_takes_all_keys_of_a_request() {
    let server = PrivateRedis::start(&["--cluster-enabled", "yes"]);
    let port = server.port.to_string();
    let cli = |words: &[&str]| {
        let out = Command::new("redis-cli").args(["-p", &port]).args(words).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    cli(&["cluster", "addslotsrange", "0", "16383"]);
    until("the cluster is up", || async { cli(&["cluster", "info"]).contains("cluster_state:ok") }).await;
    let windows = windows(&server.url(), "many:").await;
    let request = SharedRequest {
        windows: vec![exact("a", 2), window("b", 100), tokens("c", 1_000, 10)],
        places: vec![SharedPlaces { key: "d".into(), max: 9 }, SharedPlaces { key: "e".into(), max: 9 }],
        block: Some(SharedBlock { key: "f".into(), millis: 1_000 }),
    };
    assert!(admits(&windows, &request).await && admits(&windows, &request).await);
    assert!(!admits(&windows, &request).await);
}
