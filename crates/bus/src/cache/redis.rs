//! The cache on Redis, shared by replicas. Every key has our prefix, so that the server can be shared too.

use std::time::Duration;

use async_trait::async_trait;
use base::seams::{Backend, Cache, SeamError};
use bytes::Bytes;
use redis::{Cmd, Script};

use super::{check_key, check_ttl, check_value, not_a_number};
use crate::redis::{REDIS, Redis};

/// Adds, and sets the time to live of a counter that was not there.
const INCREMENT: &str = r"
local there = redis.call('EXISTS', KEYS[1])
redis.call('INCRBY', KEYS[1], ARGV[1])
if there == 0 and ARGV[2] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
-- As text: Lua's own numbers are exact to 53 bits only.
return redis.call('GET', KEYS[1])";

/// A cache on a Redis. Cheap to clone.
#[derive(Clone)]
pub struct RedisCache {
    redis: Redis,
}

impl RedisCache {
    /// The cache of this Redis.
    pub fn new(redis: Redis) -> Self {
        RedisCache { redis }
    }

    async fn key(&self, key: &str) -> Result<String, SeamError> {
        self.redis.key(self.redis.prefix(), key).await
    }
}

fn set(key: &str, value: &Bytes, ttl: Option<Duration>) -> Cmd {
    let mut command = redis::cmd("SET");
    command.arg(key).arg(&value[..]);
    if let Some(ttl) = ttl {
        command.arg("PX").arg(crate::time::millis(ttl));
    }
    command
}

#[async_trait]
impl Backend for RedisCache {
    fn backend(&self) -> &'static str {
        REDIS
    }

    async fn ping(&self) -> Result<(), SeamError> {
        self.redis.ping().await
    }
}

#[async_trait]
impl Cache for RedisCache {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, SeamError> {
        check_key(key)?;
        let mut command = redis::cmd("GET");
        command.arg(self.key(key).await?);
        let value: Option<Vec<u8>> = self.redis.run("get", &command).await?;
        Ok(value.map(Bytes::from))
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<(), SeamError> {
        check_value(key, &value, ttl)?;
        self.redis.run("set", &set(&self.key(key).await?, &value, ttl)).await
    }

    async fn set_if_absent(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<bool, SeamError> {
        check_value(key, &value, ttl)?;
        let mut command = set(&self.key(key).await?, &value, ttl);
        command.arg("NX");
        let answer: Option<String> = self.redis.run("set_if_absent", &command).await?;
        Ok(answer.is_some())
    }

    async fn delete(&self, key: &str) -> Result<bool, SeamError> {
        check_key(key)?;
        let mut command = redis::cmd("DEL");
        command.arg(self.key(key).await?);
        let removed: i64 = self.redis.run("delete", &command).await?;
        Ok(removed > 0)
    }

    async fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64, SeamError> {
        check_key(key)?;
        check_ttl(ttl)?;
        let script = Script::new(INCREMENT);
        let mut call = script.prepare_invoke();
        call.key(self.key(key).await?).arg(by).arg(ttl.map_or(0, crate::time::millis));
        self.redis.script("increment", &call).await.map_err(|error| match error {
            SeamError::Refused { reason, .. }
                if reason.contains("not an integer") || reason.contains("overflow") =>
            {
                not_a_number(key)
            }
            other => other,
        })
    }
}
