//! `storage.redis_storage`: the text of each vCon under `<prefix>:<uuid>`, for a time.
//!
//! The Conserver writes it to the main Redis whatever `redis_url` says. Here `redis_url` is the server that is
//! written to, the main Redis (`REDIS_URL`) without it; what the Conserver left in the main Redis is still found.

use std::time::Duration;

use async_trait::async_trait;
use base::Secret;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisError};
use serde::Deserialize;
use serde_json::Value;

use super::http::cleaned;
use crate::environment::Environment;
use crate::options::{self, OptionsError};
use crate::storage::{Storage, StorageContext, StorageError};
use crate::vcon::{Vcon, is_uuid};

pub(super) const MODULE: &str = "storage.redis_storage";
pub(super) const OPTIONS: &[&str] = &["redis_url", "prefix", "expires", "timeout"];

/// How many commands may wait for their answers at once.
const AT_ONCE: usize = 64;

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Options {
    redis_url: Option<Secret>,
    prefix: String,
    expires: Option<u64>,
    timeout: f64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            redis_url: None,
            prefix: "vcon_storage".into(),
            expires: Some(7 * 24 * 3600),
            timeout: 10.0,
        }
    }
}

struct RedisStorage {
    prefix: String,
    expires: Option<u64>,
    /// Written to and read first.
    first: Server,
    /// Where the Conserver wrote, when that is another one.
    main: Option<Server>,
}

/// One Redis, over one connection that is made when it is first needed and again when it was lost.
struct Server {
    connection: ConnectionManager,
    timeout: Duration,
    secrets: Vec<Secret>,
}

pub(super) fn make(options: Value, environment: &Environment) -> Result<Box<dyn Storage>, OptionsError> {
    let options: Options = options::read(MODULE, options, OPTIONS)?;
    let timeout = super::http::seconds("timeout", options.timeout)?;
    let given = options.redis_url.as_ref().map(Secret::expose);
    // The Conserver's own default, which its examples repeat, is no address.
    let given = given.filter(|url| !url.is_empty() && *url != "redis://:localhost:6379");
    let main = environment.variables.get("REDIS_URL");
    let open = |name: &str, url: &str| Server::open(name, url, timeout);
    let (first, main) = match (given, main.as_deref()) {
        (Some(url), Some(main)) if url != main => (open("redis_url", url)?, Some(open("REDIS_URL", main)?)),
        (Some(url), _) => (open("redis_url", url)?, None),
        (None, Some(main)) => (open("REDIS_URL", main)?, None),
        (None, None) => {
            let text = "there is no Redis: set `redis_url`, as redis://127.0.0.1:6379, or REDIS_URL";
            return Err(OptionsError::new(text));
        }
    };
    let expires = options.expires.filter(|seconds| *seconds > 0);
    Ok(Box::new(RedisStorage { prefix: options.prefix, expires, first, main }))
}

impl Server {
    fn open(name: &str, url: &str, timeout: Duration) -> Result<Self, OptionsError> {
        // A second call changes nothing.
        drop(rustls::crypto::ring::default_provider().install_default());
        // The words of the library may repeat the address, and it may hold a password.
        let wrong =
            || OptionsError::new(format!("`{name}` must be an address as redis://user:password@host:6379/0"));
        let password = url::Url::parse(url).ok().and_then(|url| url.password().map(str::to_owned));
        let client = Client::open(url).map_err(|_| wrong())?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout))
            // The pipeline tries again; here once, for a connection that was lost while idle.
            .set_number_of_retries(1)
            .set_concurrency_limit(AT_ONCE);
        let connection = ConnectionManager::new_lazy_with_config(client, config).map_err(|_| wrong())?;
        Ok(Server { connection, timeout, secrets: password.map(Secret::from).into_iter().collect() })
    }

    async fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, StorageError> {
        let mut connection = self.connection.clone();
        // Also what waits for its turn.
        match tokio::time::timeout(self.timeout * 2, command.query_async(&mut connection)).await {
            Ok(result) => result.map_err(|error| self.error(&error)),
            Err(_) => {
                Err(StorageError::temporary(format!("Redis did not answer within {:?}", self.timeout * 2)))
            }
        }
    }

    fn error(&self, error: &RedisError) -> StorageError {
        StorageError::temporary(format!("Redis: {}", cleaned(&error.to_string(), &self.secrets)))
    }
}

impl RedisStorage {
    fn key(&self, uuid: &str) -> String {
        format!("{}:{}", self.prefix, uuid.to_ascii_lowercase())
    }

    fn servers(&self) -> impl Iterator<Item = &Server> {
        std::iter::once(&self.first).chain(&self.main)
    }
}

#[async_trait]
impl Storage for RedisStorage {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn save(&self, vcon: &Vcon, _: &StorageContext) -> Result<(), StorageError> {
        let mut command = redis::cmd("SET");
        command.arg(self.key(vcon.uuid())).arg(&vcon.to_bytes()[..]);
        if let Some(expires) = self.expires {
            command.arg("EX").arg(expires);
        }
        self.first.ask(&command).await
    }

    async fn get(&self, uuid: &str) -> Result<Option<Vcon>, StorageError> {
        if !is_uuid(uuid) {
            return Ok(None);
        }
        for server in self.servers() {
            let text: Option<Vec<u8>> = server.ask(redis::cmd("GET").arg(self.key(uuid))).await?;
            if let Some(text) = text {
                let vcon = Vcon::parse(text).map_err(|error| StorageError::permanent(error.to_string()))?;
                return Ok(Some(vcon));
            }
        }
        Ok(None)
    }

    async fn delete(&self, uuid: &str) -> Result<bool, StorageError> {
        if !is_uuid(uuid) {
            return Ok(false);
        }
        let mut deleted = false;
        for server in self.servers() {
            let count: u64 = server.ask(redis::cmd("DEL").arg(self.key(uuid))).await?;
            deleted |= count > 0;
        }
        Ok(deleted)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use testkit::services::{self, PrivateRedis};

    use super::*;
    use crate::environment::Variables;
    use crate::storages::conformance::{self, Refusing, SECRET, Silent};
    use crate::testing;

    fn storage(options: Value, main: Option<String>) -> Box<dyn Storage> {
        let mut environment = testing::environment();
        environment.variables = Variables::new(move |name| main.clone().filter(|_| name == "REDIS_URL"));
        make(options, &environment).unwrap()
    }

    #[tokio::test]
    async fn conforms() {
        let Some(space) = services::redis() else { return };
        let prefix = format!("{}kept", space.prefix());
        conformance::keeps(&*storage(json!({"redis_url": space.url(), "prefix": prefix}), None)).await;
        conformance::keeps(&*storage(json!({"prefix": prefix}), Some(space.url()))).await;
    }

    #[tokio::test]
    async fn the_layout_is_the_conserver_s() {
        let Some(redis) = PrivateRedis::start_with(&[]) else { return };
        let vcon = testing::vcon();
        let key = format!("vcon_storage:{}", vcon.uuid());
        let ask = |command: &str| redis.client().command(&[command, &key]).unwrap().text().unwrap();
        let example = json!({"redis_url": "redis://:localhost:6379"});
        for (options, expected) in [
            (example, 604_700..=604_800),
            (json!({"expires": 50}), 40..=50),
            (json!({"expires": null}), -1..=-1),
            (json!({"expires": 0}), -1..=-1),
        ] {
            let storage = storage(options.clone(), Some(redis.url()));
            storage.save(&vcon, &testing::storage_context()).await.unwrap();
            let left: i64 = ask("TTL").parse().unwrap();
            assert!(expected.contains(&left), "{options}: {left}");
        }
        assert_eq!(ask("GET").as_bytes(), &vcon.to_bytes()[..]);
    }

    #[tokio::test]
    async fn what_is_left_in_the_main_redis_is_found() {
        let Some(space) = services::redis() else { return };
        let Some(other) = PrivateRedis::start_with(&[]) else { return };
        let prefix = format!("{}kept", space.prefix());
        let before = storage(json!({"prefix": prefix}), Some(space.url()));
        let vcon = testing::vcon();
        before.save(&vcon, &testing::storage_context()).await.unwrap();
        let now = storage(json!({"prefix": prefix, "redis_url": other.url()}), Some(space.url()));
        assert!(now.get(vcon.uuid()).await.unwrap().is_some());
        now.save(&vcon, &testing::storage_context()).await.unwrap();
        assert!(now.delete(vcon.uuid()).await.unwrap());
        assert!(before.get(vcon.uuid()).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn fails_for_now_and_goes_on_after_a_restart() {
        let (refusing, silent) = (Refusing::new(), Silent::new());
        for port in [refusing.port(), silent.port()] {
            let url = format!("redis://:{SECRET}@127.0.0.1:{port}");
            conformance::fails_for_now(&*storage(json!({"redis_url": url, "timeout": 0.2}), None)).await;
        }
        let Some(redis) = PrivateRedis::start() else { return };
        let storage = storage(json!({}), Some(redis.url()));
        let vcon = testing::vcon();
        storage.save(&vcon, &testing::storage_context()).await.unwrap();
        redis.kill();
        assert!(storage.save(&vcon, &testing::storage_context()).await.unwrap_err().is_temporary());
        redis.start_again();
        storage.save(&vcon, &testing::storage_context()).await.unwrap();
    }

    #[test]
    fn an_address_that_is_none_is_told_without_its_password() {
        for url in [format!("http://:{SECRET}@x"), SECRET.to_owned()] {
            let error = make(json!({"redis_url": url}), &testing::environment()).err().unwrap();
            assert!(
                error.to_string().contains("redis_url") && !error.to_string().contains(SECRET),
                "{error}"
            );
        }
        assert!(make(Value::Null, &testing::environment()).is_err());
    }
}
