//! Against the Redis of the machine, and private ones that are stopped, full, secret or many.

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use base::seams::{Backend as _, Cache as _};
use futures_util::future::join_all;

use super::*;
use crate::cache::RedisCache;
use crate::testing::{PrivateRedis, REDIS_URL, free_port, metrics, redis, there_is, unique, until};

fn settings(prefix: &str) -> RedisSettings {
    RedisSettings { prefix: format!("{prefix}:"), ..RedisSettings::default() }
}

/// How many clients a server has, the one that asks left out.
fn clients(port: u16) -> usize {
    let list = Command::new("redis-cli").args(["-p", &port.to_string(), "CLIENT", "LIST"]).output().unwrap();
    String::from_utf8(list.stdout).unwrap().lines().filter(|line| !line.contains("cmd=client")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_conforms_on_redis_under_its_prefix() {
    if !there_is("Redis", 6379) {
        return;
    }
    let prefix = unique("cache");
    let redis = redis(&format!("{REDIS_URL}/3"), settings(&prefix)).await;
    let cache = RedisCache::new(redis.clone());
    crate::conformance::cache(&cache, "run").await.unwrap();
    cache.set("seen", "x".into(), None).await.unwrap();
    let find = |database: &str, key: &str| {
        let out = Command::new("redis-cli").args(["-n", database, "EXISTS", key]).output().unwrap();
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    // Mutation: without SELECT it is in database 0; without the prefix it is `seen`.
    assert_eq!(find("3", &format!("{prefix}:seen")), "1", "in the database of the URL, under the prefix");
    assert_eq!(find("0", &format!("{prefix}:seen")), "0");
    cache.delete("seen").await.unwrap();
}

/// P04. Mutations tried: a pool without permits (more than three clients); without the task that closes.
#[tokio::test(flavor = "multi_thread")]
async fn promise_p04_the_pool_keeps_its_size_and_closes_what_is_idle() {
    let server = PrivateRedis::start(&[]);
    let settings = RedisSettings {
        pool_size: 3,
        idle_timeout: base::Duration::from_millis(300),
        ..RedisSettings::default()
    };
    let redis = redis(&server.url(), settings).await;
    assert_eq!(clients(server.port), 0, "nothing is connected before it is needed");
    let slow = |_| {
        let redis = redis.clone();
        async move {
            let mut command = redis::cmd("BLPOP");
            command.arg("nothing").arg(0.2);
            redis.run::<()>("wait", &command).await.unwrap();
        }
    };
    let all = tokio::spawn(join_all((0..9).map(slow).collect::<Vec<_>>()));
    let began = Instant::now();
    let mut most = 0;
    while !all.is_finished() {
        most = most.max(clients(server.port));
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    all.await.unwrap();
    assert_eq!(most, 3, "the pool is used up, and not more");
    assert!(began.elapsed() >= std::time::Duration::from_millis(580), "nine took their turns, three at once");
    until("idle connections are closed", || async { clients(server.port) == 0 }).await;
    redis.ping().await.unwrap();
}

/// P04, C04: a server that takes connections and never answers costs the timeout, not for ever.
#[tokio::test(flavor = "multi_thread")]
async fn timeouts_have_their_effect() {
    // It accepts (by its backlog) and stays silent.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let began = Instant::now();
    let address = format!("127.0.0.1:{port},abortConnect=true,connectTimeout=300,syncTimeout=300");
    let opened = Redis::open(&address.as_str().into(), &RedisSettings::default(), &metrics().1).await;
    assert!(opened.is_err(), "abortConnect=true does not start without the server");
    assert!(began.elapsed() < std::time::Duration::from_secs(2), "{:?}", began.elapsed());

    // abortConnect=false starts, and says so when asked.
    let address = format!("127.0.0.1:{},abortConnect=false,connectTimeout=300", free_port());
    let redis = Redis::open(&address.as_str().into(), &RedisSettings::default(), &metrics().1).await.unwrap();
    let error = redis.ping().await.unwrap_err();
    assert!(matches!(error, SeamError::Unavailable { .. }), "{error:?}");

    // syncTimeout: a command that the server does not answer in time.
    let server = PrivateRedis::start(&[]);
    let address = format!("127.0.0.1:{},syncTimeout=200", server.port);
    let redis = Redis::open(&address.as_str().into(), &RedisSettings::default(), &metrics().1).await.unwrap();
    let mut command = redis::cmd("BLPOP");
    command.arg("nothing").arg(5);
    let began = Instant::now();
    let error = redis.run::<()>("wait", &command).await.unwrap_err();
    assert!(matches!(error, SeamError::TimedOut { .. }), "{error:?}");
    assert!(began.elapsed() < std::time::Duration::from_secs(2), "{:?}", began.elapsed());
    redis.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn auth_and_database_of_the_connection_string_have_their_effect() {
    let server = PrivateRedis::start(&["--requirepass", "pa=ss"]);
    let open = |address: String| async move {
        Redis::open(&address.as_str().into(), &RedisSettings::default(), &metrics().1).await.unwrap()
    };
    let good = open(format!("127.0.0.1:{},password=pa=ss,defaultDatabase=5", server.port)).await;
    RedisCache::new(good).set("k", "v".into(), None).await.unwrap();
    let there = Command::new("redis-cli")
        .args([
            "-p",
            &server.port.to_string(),
            "--no-auth-warning",
            "-a",
            "pa=ss",
            "-n",
            "5",
            "EXISTS",
            "trunkline:k",
        ])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&there.stdout).trim(), "1", "it is in database 5");
    let url = open(format!("redis://:pa%3Dss@127.0.0.1:{}/5", server.port)).await;
    assert!(RedisCache::new(url).get("k").await.unwrap().is_some(), "the same server and database by URL");
    for bad in [format!("127.0.0.1:{},password=hidden1", server.port), format!("127.0.0.1:{}", server.port)] {
        let error = open(bad).await.ping().await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(matches!(error, SeamError::Refused { .. }), "{text}");
        assert!(!text.contains("hidden1"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_and_the_server_checked() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).display().to_string();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &file("key.pem"), "-out", &file("cert.pem")])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let tls = free_port().to_string();
    let server = PrivateRedis::start(&[
        "--tls-port",
        &tls,
        "--tls-cert-file",
        &file("cert.pem"),
        "--tls-key-file",
        &file("key.pem"),
        "--tls-auth-clients",
        "no",
    ]);
    let trusted = RedisSettings { ca_file: Some(file("cert.pem").into()), ..RedisSettings::default() };
    for address in [format!("rediss://127.0.0.1:{tls}"), format!("localhost:{tls},ssl=true")] {
        let redis = Redis::open(&address.as_str().into(), &trusted, &metrics().1).await.unwrap();
        redis.ping().await.unwrap();
        let unknown =
            Redis::open(&address.as_str().into(), &RedisSettings::default(), &metrics().1).await.unwrap();
        assert!(unknown.ping().await.is_err(), "a certificate that nobody we know has signed");
        let events = crate::events::RedisEvents::new(redis, "tls");
        until("events come over TLS", || async { events.ping().await.is_ok() }).await;
    }
    drop(server);
}

/// Mutations tried: the pool gives broken connections back; it does not try idle ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_gone_is_used_again() {
    let mut server = PrivateRedis::start(&[]);
    let (registry, metrics) = metrics();
    let settings =
        RedisSettings { connect_timeout: base::Duration::from_millis(500), ..RedisSettings::default() };
    let redis = Redis::open(&server.url().as_str().into(), &settings, &metrics).await.unwrap();
    let cache = Arc::new(RedisCache::new(redis));
    cache.set("k", "v".into(), None).await.unwrap();
    server.stop();
    let began = Instant::now();
    assert!(cache.get("k").await.is_err());
    assert!(cache.ping().await.is_err());
    assert!(began.elapsed() < std::time::Duration::from_secs(2), "a refused connection is known at once");
    server.resume();
    until("it answers again", || async { cache.ping().await.is_ok() }).await;
    assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&b"v"[..]), "and has kept what it was told");
    let text = registry.render();
    for line in [
        "redis_operations_total{operation=\"set\",status=\"ok\"} 1",
        "redis_operations_total{operation=\"get\",status=\"error\"} 1",
        "redis_operations_total{operation=\"get\",status=\"ok\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_evicts_or_forgets_is_reported() {
    let warnings = |arguments: Vec<&'static str>| async move {
        let server = PrivateRedis::start(&arguments);
        redis(&server.url(), RedisSettings::default()).await.dangers().await
    };
    assert_eq!(warnings(vec![]).await, Vec::<String>::new(), "nothing to say of a safe one");
    // The Conserver's guide.
    let found = warnings(vec![
        "--maxmemory",
        "2gb",
        "--maxmemory-policy",
        "allkeys-lru",
        "--appendfsync",
        "everysec",
    ])
    .await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("allkeys-lru") && found[0].contains("noeviction"), "{found:?}");
    assert!(found[1].contains("appendfsync always"), "{found:?}");
    let found = warnings(vec!["--appendonly", "no"]).await;
    assert!(found.len() == 1 && found[0].contains("appendonly yes"), "{found:?}");
}

/// C04: a cluster is recognised, gets no SELECT, and has the number of the database in its keys.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_recognised_and_conforms() {
    let nodes: Vec<_> = (0..3).map(|_| PrivateRedis::start(&["--cluster-enabled", "yes"])).collect();
    let addresses: Vec<_> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
    let created = Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(&addresses)
        .args(["--cluster-replicas", "0", "--cluster-yes"])
        .output()
        .unwrap();
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
    until("the cluster stands", || async {
        nodes.iter().all(|node| {
            let info = Command::new("redis-cli")
                .args(["-p", &node.port.to_string(), "CLUSTER", "INFO"])
                .output()
                .unwrap();
            String::from_utf8_lossy(&info.stdout).contains("cluster_state:ok")
        })
    })
    .await;
    let redis = redis(&format!("{}/2", nodes[0].url()), RedisSettings::default()).await;
    let cache = RedisCache::new(redis.clone());
    crate::conformance::cache(&cache, "run").await.unwrap();
    cache.set("seen", "x".into(), None).await.unwrap();
    let found = Command::new("redis-cli")
        .args(["-c", "-p", &nodes[0].port.to_string(), "EXISTS", "db2:trunkline:seen"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout).trim(), "1");

    let ledger = Arc::new(crate::queue::MemoryQueue::default());
    let queue = crate::queue::RedisQueue::new(redis.clone(), ledger, "");
    crate::conformance::queue(&queue, "cluster").await.unwrap();
    assert_eq!(queue.warnings().await, Vec::<String>::new());

    let (here, there) = (
        crate::events::RedisEvents::new(redis.clone(), "cluster"),
        crate::events::RedisEvents::new(redis, "cluster"),
    );
    crate::conformance::events(&here, &there, "cluster").await.unwrap();
}
