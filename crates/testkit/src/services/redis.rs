//! A key prefix of a test's own on the shared Redis.

use std::io;

use super::missing;
use super::place::random_name;
use super::resp::{RedisClient, Reply};
use super::url;

/// Keys that begin with a random prefix on the shared Redis; they are removed when it is dropped.
#[derive(Debug)]
pub struct RedisSpace {
    url: String,
    prefix: String,
}

/// A key prefix on 127.0.0.1:6379, or on the server of `TRUNKLINE_TEST_REDIS`; `None` when it is not there.
pub fn redis() -> Option<RedisSpace> {
    let url = std::env::var("TRUNKLINE_TEST_REDIS").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    redis_at(&url, missing::required())
}

pub(super) fn redis_at(url: &str, required: bool) -> Option<RedisSpace> {
    match RedisClient::connect(url).and_then(|mut client| client.command(&["PING"])) {
        Ok(Reply::Status(pong)) if pong == "PONG" => {}
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
            return missing::skip(&format!("no Redis at {}", url::address(url, 6379)), required);
        }
        other => panic!("Redis at {} answers PING with {other:?}", url::address(url, 6379)),
    }
    Some(RedisSpace { url: url.to_owned(), prefix: format!("{}:", random_name()) })
}

impl RedisSpace {
    /// The URL of the server: `redis://127.0.0.1:6379`.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// What every key of the test begins with; it ends with `:`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A connection of its own, to look at the server. Panics when there is none any more.
    pub fn client(&self) -> RedisClient {
        RedisClient::connect(&self.url).expect("the shared Redis was there a moment ago")
    }
}

impl Drop for RedisSpace {
    fn drop(&mut self) {
        let removed = RedisClient::connect(&self.url).and_then(|mut client| client.remove_all(&self.prefix));
        if let Err(error) = removed {
            eprintln!("the keys {}* stay on the shared Redis: {error}", self.prefix);
        }
    }
}
