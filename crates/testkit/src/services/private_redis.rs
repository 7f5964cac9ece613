//! A Redis of a test's own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tempfile::TempDir;

use super::missing;
use super::place::{self, free_port, program};
use super::process::{Process, Recipe};
use super::resp::{RedisClient, Reply};

/// How long it may take to load its data.
const READY: Duration = Duration::from_secs(20);

/// A Redis server on a port and with data of its own. It is killed when it is dropped.
#[derive(Debug)]
pub struct PrivateRedis {
    // Before its folder, so that it is gone when the folder is removed.
    process: Process,
    port: u16,
    _folder: TempDir,
}

impl PrivateRedis {
    /// Starts one that writes every command to its append-only file before it answers, so that nothing that was
    /// answered is lost by [`PrivateRedis::kill`]. `None` when there is no `redis-server`.
    pub fn start() -> Option<PrivateRedis> {
        PrivateRedis::start_with(&["appendonly yes", "appendfsync always"])
    }

    /// Starts one with these lines of configuration and otherwise without persistence.
    pub fn start_with(config: &[&str]) -> Option<PrivateRedis> {
        let Some(server) = program("redis-server", &[]) else {
            return missing::skip("no redis-server on this machine", missing::required());
        };
        let folder = place::folder("redis");
        let port = free_port();
        let mut text = format!("bind 127.0.0.1\nport {port}\ndir {}\nsave \"\"\n", folder.path().display());
        text.extend(config.iter().flat_map(|line| [*line, "\n"]));
        let file = folder.path().join("redis.conf");
        fs::write(&file, text).expect("write the configuration of Redis");
        let process = Process::start(Recipe {
            name: format!("redis-server on {port}"),
            program: server,
            args: vec![file.into()],
            env: Vec::new(),
            user: None,
            log: folder.path().join("server.log"),
            stop_signal: "TERM",
        });
        let redis = PrivateRedis { process, port, _folder: folder };
        redis.wait_ready();
        Some(redis)
    }

    /// Its URL, the same after every start.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// A connection to look at it. Panics when it does not run.
    pub fn client(&self) -> RedisClient {
        RedisClient::connect_to(self.address()).expect("the private Redis runs")
    }

    /// Stops it in order (SIGTERM) and waits until it has.
    pub fn stop(&self) {
        self.process.stop();
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Starts it again on the same port and data, and waits until it is ready.
    pub fn start_again(&self) {
        self.process.start_again();
        self.wait_ready();
    }

    /// Waits until it answers `PING`. Panics with its log when it ends, or does not within 20 seconds.
    pub fn wait_ready(&self) {
        self.process.wait_until(READY, || {
            let answer =
                RedisClient::connect_to(self.address()).and_then(|mut client| client.command(&["PING"]));
            match answer {
                Ok(Reply::Status(pong)) if pong == "PONG" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        self.process.log()
    }

    #[cfg(test)]
    pub(super) fn id(&self) -> Option<u32> {
        self.process.id()
    }
}
