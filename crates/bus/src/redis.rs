//! The connection to a Redis: a bounded pool, made anew as the server comes and goes; or a cluster.

mod options;
mod pool;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use base::seams::SeamError;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ScriptInvocation, ServerErrorKind};

use crate::metrics::BusMetrics;
use crate::settings::{Address, RedisSettings};
pub use options::RedisOptions;
use pool::{Pool, Pooled};

/// Its name in errors.
pub(crate) const REDIS: &str = "redis";

/// A Redis server or cluster. Cheap to clone; clones share the connections.
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Arc<Pool>,
    options: RedisOptions,
    metrics: BusMetrics,
}

impl Redis {
    /// Reads the address, and connects if the settings require it; otherwise the first command does. Runs on
    /// the runtime it is called from.
    pub async fn open(
        address: &Address,
        settings: &RedisSettings,
        metrics: &BusMetrics,
    ) -> Result<Self, SeamError> {
        let options = RedisOptions::parse(address, settings)?;
        let required = options.required;
        let redis = Redis {
            inner: Arc::new(Inner { pool: Pool::new(options.clone())?, options, metrics: metrics.clone() }),
        };
        if required {
            redis.ping().await?;
        }
        Ok(redis)
    }

    /// Whether it answers.
    pub async fn ping(&self) -> Result<(), SeamError> {
        self.run::<()>("ping", &redis::cmd("PING")).await
    }

    /// Sends one command. `operation` is its name in the metrics.
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        operation: &'static str,
        command: &Cmd,
    ) -> Result<T, SeamError> {
        let result = async {
            let mut connection = self.connection().await?;
            let answer = command.query_async(connection.get()?).await;
            self.finish(connection, answer)
        }
        .await;
        self.inner.metrics.redis(operation, result.is_ok());
        result
    }

    /// Sends several commands at once; to a cluster one after the other, since each may belong to another node.
    pub(crate) async fn pipe<T: FromRedisValue>(
        &self,
        operation: &'static str,
        pipeline: &redis::Pipeline,
    ) -> Result<T, SeamError> {
        if pipeline.is_empty() {
            return T::from_redis_value(redis::Value::Array(Vec::new()))
                .map_err(|error| SeamError::Invalid(error.to_string()));
        }
        if self.is_cluster().await? {
            let mut answers = Vec::new();
            for command in pipeline.cmd_iter() {
                answers.push(self.run::<redis::Value>(operation, command).await?);
            }
            return T::from_redis_value(redis::Value::Array(answers))
                .map_err(|error| SeamError::Invalid(error.to_string()));
        }
        let result = async {
            let mut connection = self.connection().await?;
            let answer = pipeline.query_async(connection.get()?).await;
            self.finish(connection, answer)
        }
        .await;
        self.inner.metrics.redis(operation, result.is_ok());
        result
    }

    /// Runs a script, as one step for everybody else.
    pub(crate) async fn script<T: FromRedisValue>(
        &self,
        operation: &'static str,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, SeamError> {
        let result = async {
            let mut connection = self.connection().await?;
            let answer = script.invoke_async(connection.get()?).await;
            self.finish(connection, answer)
        }
        .await;
        self.inner.metrics.redis(operation, result.is_ok());
        result
    }

    /// Whether it is a cluster, as far as a connection was made.
    pub(crate) async fn is_cluster(&self) -> Result<bool, SeamError> {
        self.inner.pool.is_cluster().await
    }

    /// How long a command may block at the server without being taken for lost.
    pub(crate) fn longest_block(&self) -> Duration {
        (self.inner.options.response_timeout / 2).min(Duration::from_millis(250))
    }

    /// A key as it is at the server. A cluster has no numbered databases, so there the number is in the key.
    pub(crate) async fn key(&self, prefix: &str, key: &str) -> Result<String, SeamError> {
        let database = self.inner.options.database;
        if database != 0 && self.is_cluster().await? {
            return Ok(format!("db{database}:{prefix}{key}"));
        }
        Ok(format!("{prefix}{key}"))
    }

    /// What every key of a cache begins with.
    pub(crate) fn prefix(&self) -> &str {
        &self.inner.options.prefix
    }

    pub(crate) fn options(&self) -> &RedisOptions {
        &self.inner.options
    }

    /// A connection of its own, outside the pool, for subscriptions.
    pub(crate) async fn subscriber(&self) -> Result<redis::aio::PubSub, SeamError> {
        self.inner.pool.subscriber().await
    }

    /// Closes what is idle and refuses further commands.
    pub fn close(&self) {
        self.inner.pool.close();
    }

    /// What makes this server forget what it was given, in sentences. Nothing when it cannot be asked.
    pub(crate) async fn dangers(&self) -> Vec<String> {
        let mut found = Vec::new();
        let info = |section: &'static str| async move {
            let mut command = redis::cmd("INFO");
            command.arg(section);
            self.run::<redis::Value>("info", &command).await.ok().map(|value| texts(&value).join("\n"))
        };
        if let Some(policy) = info("memory").await.as_deref().and_then(|text| field(text, "maxmemory_policy"))
            && policy != "noeviction"
        {
            found.push(format!(
                "Redis may throw away queued work when its memory is full (maxmemory-policy is {policy}): set `maxmemory-policy noeviction`."
            ));
        }
        match info("persistence").await.as_deref().and_then(|text| field(text, "aof_enabled")).as_deref() {
            Some("0") => found.push(
                "Redis forgets queued work when it stops (no append-only file): set `appendonly yes`."
                    .to_owned(),
            ),
            Some(_) => {
                let mut command = redis::cmd("CONFIG");
                command.arg("GET").arg("appendfsync");
                let answer = self.run::<redis::Value>("config", &command).await;
                let words = answer.map(|value| texts(&value)).unwrap_or_default();
                if words.iter().any(|word| word == "everysec" || word == "no") {
                    found.push(
                        "Redis may lose the last second of queued work when its machine fails (appendfsync is not always): set `appendfsync always`."
                            .to_owned(),
                    );
                }
            }
            None => {}
        }
        if !self.inner.options.ignored.is_empty() {
            found.push(format!(
                "Of the Redis connection string these have no effect here: {}.",
                self.inner.options.ignored.join(", ")
            ));
        }
        found
    }

    async fn connection(&self) -> Result<Pooled, SeamError> {
        Arc::clone(&self.inner.pool).acquire().await
    }

    fn finish<T>(&self, connection: Pooled, answer: Result<T, RedisError>) -> Result<T, SeamError> {
        match answer {
            Ok(value) => {
                connection.give_back();
                Ok(value)
            }
            Err(error) => {
                if !is_broken(&error) {
                    connection.give_back();
                }
                Err(seam_error(&error, self.inner.options.response_timeout))
            }
        }
    }
}

/// Whether the connection is of no more use.
fn is_broken(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_unrecoverable_error()
        || error.is_connection_dropped()
}

/// The error of the library as ours. Its words never hold the password.
pub(crate) fn seam_error(error: &RedisError, timeout: Duration) -> SeamError {
    if error.is_timeout() {
        return SeamError::TimedOut { backend: REDIS, after: timeout };
    }
    let reason = match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) => "it does not take the user and password".to_owned(),
        (_, Some(code)) => format!("{code} {}", error.detail().unwrap_or_default()).trim_end().to_owned(),
        _ => error.to_string(),
    };
    match error.kind() {
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::TryAgain,
        ) => SeamError::Unavailable { backend: REDIS, reason },
        ErrorKind::Server(_)
        | ErrorKind::Extension
        | ErrorKind::UnexpectedReturnType
        | ErrorKind::AuthenticationFailed => SeamError::Refused { backend: REDIS, reason },
        _ => SeamError::Unavailable { backend: REDIS, reason },
    }
}

/// Every text in an answer, in order, however it is nested: a cluster answers by node.
fn texts(value: &redis::Value) -> Vec<String> {
    match value {
        redis::Value::Array(values) => values.iter().flat_map(texts).collect(),
        redis::Value::Map(pairs) => {
            pairs.iter().flat_map(|(key, value)| [texts(key), texts(value)].concat()).collect()
        }
        other => String::from_redis_value_ref(other).into_iter().collect(),
    }
}

/// `name:value` of an INFO section.
fn field(info: &str, name: &str) -> Option<String> {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(|value| value.trim().to_owned()))
}
