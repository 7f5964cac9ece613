//! The servers that tests run against: those of the machine, and a private Redis that can be stopped.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use telemetry::Metrics;

use crate::metrics::BusMetrics;
use crate::redis::Redis;
use crate::settings::RedisSettings;

/// The Redis of the machine.
pub(crate) const REDIS_URL: &str = "redis://127.0.0.1:6379";

/// Whether a server answers at a port here; a test without it is skipped, unless the environment forbids that.
pub(crate) fn there_is(name: &str, port: u16) -> bool {
    if TcpStream::connect(("127.0.0.1", port)).is_ok() {
        return true;
    }
    let message = format!("no {name} at 127.0.0.1:{port}");
    assert!(std::env::var("TRUNKLINE_REQUIRE_SERVICES").as_deref() != Ok("1"), "{message}");
    println!("skipped: {message}");
    false
}

/// A name that no other run has.
pub(crate) fn unique(what: &str) -> String {
    format!("test-{what}-{:012x}", fastrand::u64(..1 << 48))
}

/// Metrics of their own, and the registry that shows them.
pub(crate) fn metrics() -> (Metrics, BusMetrics) {
    let registry = Metrics::new().unwrap();
    let metrics = BusMetrics::new(&registry).unwrap();
    (registry, metrics)
}

/// A Redis, its keys under a prefix of their own.
pub(crate) async fn redis(url: &str, settings: RedisSettings) -> Redis {
    Redis::open(&url.into(), &settings, &metrics().1).await.unwrap()
}

/// A port that nobody listens at.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A Redis server of the test's own.
pub(crate) struct PrivateRedis {
    pub(crate) port: u16,
    dir: tempfile::TempDir,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl PrivateRedis {
    /// Starts one with these further arguments; it keeps what it is told, unless they say otherwise.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut server = PrivateRedis {
            port: free_port(),
            dir: tempfile::tempdir().unwrap(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            child: None,
        };
        server.resume();
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it again where it was.
    pub(crate) fn resume(&mut self) {
        let child = Command::new("redis-server")
            .args([
                "--bind",
                "127.0.0.1",
                "--port",
                &self.port.to_string(),
                "--save",
                "",
                "--appendonly",
                "yes",
            ])
            .args(["--appendfsync", "always", "--dir"])
            .arg(self.dir.path())
            .args(&self.arguments)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server");
        self.child = Some(child);
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "the private Redis does not come up");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills it.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for PrivateRedis {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Asks again until it is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut so: impl FnMut() -> F) {
    let began = Instant::now();
    while !so().await {
        assert!(began.elapsed() < Duration::from_secs(20), "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
