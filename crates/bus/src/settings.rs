//! The sections of `data:` that say where caches, queues, events and blobs live, and how Redis and RabbitMQ
//! are spoken to.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::path::PathBuf;

use base::{ByteSize, Duration, Secret};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A name as `memory`, or the address of a server, which may hold a password: that is never printed.
#[derive(Clone, PartialEq)]
pub struct Address(Secret);

impl Address {
    /// The text itself, for the one place that connects.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// The text without its password.
    pub fn shown(&self) -> String {
        let text = self.expose();
        if let Some((scheme, rest)) = text.split_once("://") {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            // An unescaped `/` in a password would end the authority too early: then all of it is hidden.
            let hidden = || format!("{scheme}://{}", Secret::HIDDEN);
            return match (rest[..end].rsplit_once('@'), rest[end..].contains('@')) {
                (_, true) => hidden(),
                (None, _) => text.to_owned(),
                (Some((user, host)), _) => {
                    let user = user.split(':').next().unwrap_or_default();
                    format!("{scheme}://{user}:{}@{host}{}", Secret::HIDDEN, &rest[end..])
                }
            };
        }
        let hide = |option: &str| match option.split_once('=') {
            Some((name, _)) if name.trim().eq_ignore_ascii_case("password") => {
                format!("{name}={}", Secret::HIDDEN)
            }
            _ => option.to_owned(),
        };
        text.split(',').map(hide).collect::<Vec<_>>().join(",")
    }
}

/// What kind of thing an address names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A word, as `memory`, `store`, `redis`, `rabbitmq`, `local`, `auto`.
    Named(String),
    /// The URL of a Redis, or Conduit's connection string for one.
    Redis,
    /// The URL of a RabbitMQ.
    Rabbitmq,
    /// The URL of a bucket.
    Bucket,
    /// A URL of something else; its scheme.
    Unknown(String),
}

impl Address {
    /// What it names.
    pub fn place(&self) -> Place {
        let text = self.expose();
        match text.split_once("://").map(|(scheme, _)| scheme) {
            Some("redis" | "rediss") => Place::Redis,
            Some("amqp" | "amqps") => Place::Rabbitmq,
            Some("s3" | "s3a" | "gs" | "az" | "azure" | "abfs" | "abfss") => Place::Bucket,
            Some(scheme) => Place::Unknown(scheme.to_owned()),
            None if text.contains([':', ',', '=', '.']) => Place::Redis,
            None => Place::Named(text.to_lowercase()),
        }
    }
}

impl From<&str> for Address {
    fn from(text: &str) -> Self {
        Address(Secret::from(text.trim().to_owned()))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.shown())
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Address::from(text.as_str()))
    }
}

impl JsonSchema for Address {
    fn schema_name() -> Cow<'static, str> {
        "Address".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A name as `memory`, or the URL of a server. Write `${NAME}` to take it from the environment."
        })
    }
}

/// A section that is mostly one word: `cache: memory` is short for `cache: {backend: memory}`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Short<T>(pub T);

impl<T> Deref for Short<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A section that can be made of its address alone.
pub trait FromAddress: Default {
    /// The section with this backend and all else as by default.
    fn from_address(address: Address) -> Self;
}

impl<T: Serialize> Serialize for Short<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: FromAddress + Deserialize<'de>> Deserialize<'de> for Short<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: FromAddress + Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name, a URL or a map")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
                if text.trim().is_empty() {
                    return Err(E::custom("is empty: name a backend or leave the key out"));
                }
                Ok(T::from_address(Address::from(text)))
            }

            fn visit_unit<E: serde::de::Error>(self) -> Result<T, E> {
                Ok(T::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_any(Either(PhantomData)).map(Short)
    }
}

impl<T: JsonSchema> JsonSchema for Short<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Short{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let long = generator.subschema_for::<T>();
        let short = generator.subschema_for::<Address>();
        json_schema!({ "anyOf": [long, short] })
    }
}

macro_rules! from_address {
    ($($section:ident)*) => {$(
        impl FromAddress for $section {
            fn from_address(backend: Address) -> Self {
                $section { backend, ..Self::default() }
            }
        }
    )*};
}
from_address!(CacheSettings QueueSettings EventsSettings BlobsSettings);

/// `data.cache`: values kept for a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheSettings {
    /// `memory` (of this process), `store` (the database), `redis` (the server of `data.redis`), or the
    /// address of a Redis: `redis://…`, `rediss://…` (TLS), or Conduit's `host:port,option=value`.
    pub backend: Address,
    /// The most bytes that `memory` and `store` keep. What was used longest ago leaves first; of `store` what was
    /// written longest ago.
    pub max_size: ByteSize,
    /// The most entries that `memory` and `store` keep.
    pub max_entries: u64,
}

impl Default for CacheSettings {
    fn default() -> Self {
        CacheSettings { backend: "memory".into(), max_size: ByteSize(64 << 20), max_entries: 100_000 }
    }
}

/// `data.queue`: work that waits, durably.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueueSettings {
    /// `store` (the database), `redis` (the server of `data.redis`), `rabbitmq` (the server of
    /// `data.rabbitmq`), or an address: `redis://…`, `amqp://…`. Delays, failures and dead letters are in the
    /// database whatever is chosen.
    pub backend: Address,
    /// What the name of each queue begins with at Redis and RabbitMQ. None by default, so that other programs
    /// find `incoming_calls` under that name.
    pub prefix: String,
}

impl Default for QueueSettings {
    fn default() -> Self {
        QueueSettings { backend: "store".into(), prefix: String::new() }
    }
}

/// `data.events`: how replicas tell each other that something changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EventsSettings {
    /// `auto` (RabbitMQ when configured, else PostgreSQL when that is the database, else Redis when configured,
    /// else within the process), `local`, `store` (PostgreSQL), `redis`, `rabbitmq`, or an address.
    pub backend: Address,
    /// What channels and exchanges are named by, so that two installations can share a server.
    pub prefix: String,
}

impl Default for EventsSettings {
    fn default() -> Self {
        EventsSettings { backend: "auto".into(), prefix: "trunkline".into() }
    }
}

/// `data.blobs`: files by key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BlobsSettings {
    /// `local` (below the data directory), or a bucket: `s3://bucket/prefix`, `gs://bucket/prefix`,
    /// `az://container/prefix`. Credentials come from the environment, by the names of each cloud.
    pub backend: Address,
    /// The folder of `local`. Default: `blobs` in the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// The largest blob that is taken.
    pub max_size: ByteSize,
    /// Where the bucket is, when it is not at the cloud itself: `http://minio:9000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The region of an S3 bucket. Default: `AWS_REGION`, else `us-east-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The most connections to the bucket in use at once.
    #[schemars(range(min = 1))]
    pub max_connections: u32,
    /// How long making a connection may take.
    pub connect_timeout: Duration,
    /// How long a request may stay without progress.
    pub timeout: Duration,
}

impl Default for BlobsSettings {
    fn default() -> Self {
        BlobsSettings {
            backend: "local".into(),
            dir: None,
            max_size: ByteSize(1 << 30),
            endpoint: None,
            region: None,
            max_connections: 100,
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
        }
    }
}

/// `data.redis`: the Redis server, and how each Redis is spoken to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedisSettings {
    /// What `redis` means elsewhere: `redis://[user:password@]host[:port][/database]`, `rediss://…` for TLS, or
    /// Conduit's `host:port,option=value`. A cluster is recognised by itself; there the number of a database
    /// becomes part of each key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Address>,
    /// The most connections.
    #[schemars(range(min = 1))]
    pub pool_size: u32,
    /// How long making a connection may take, or waiting for one of the pool.
    pub connect_timeout: Duration,
    /// How long a command may take.
    pub response_timeout: Duration,
    /// A connection without work for this long is closed.
    pub idle_timeout: Duration,
    /// Do not start while the server cannot be reached. Otherwise we start, say so in readiness, and connect
    /// when it is there.
    pub required: bool,
    /// What every key of a cache begins with.
    pub prefix: String,
    /// The authority that signed the server's certificate, in PEM. Default: those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

impl Default for RedisSettings {
    fn default() -> Self {
        RedisSettings {
            url: None,
            pool_size: 20,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            required: false,
            prefix: "trunkline:".into(),
            ca_file: None,
        }
    }
}

/// `data.rabbitmq`: the RabbitMQ server. `host` alone is enough.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RabbitmqSettings {
    /// `amqp://user:password@host:port/vhost`, or `amqps://…` for TLS, in place of the fields below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Address>,
    /// The host. RabbitMQ is used when this or `url` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The port.
    pub port: u16,
    /// The user.
    pub username: String,
    /// The password.
    pub password: Secret,
    /// The virtual host.
    pub vhost: String,
    /// How many messages of a queue the server sends ahead to a process.
    #[schemars(range(min = 1))]
    pub prefetch_count: u16,
    /// Over how many queues messages that have an order are spread; each hands out one at a time. The same for
    /// all processes of an installation.
    #[schemars(range(min = 1, max = 1000))]
    pub partition_count: u16,
    /// How many messages of a queue a process works on at once.
    #[schemars(range(min = 1))]
    pub concurrent_message_limit: u16,
    /// The most connections. One more is opened when each carries a few channels.
    #[schemars(range(min = 1))]
    pub max_connections: u16,
    /// How many connections are open from the start.
    #[schemars(range(min = 1))]
    pub min_connections: u16,
    /// How often both sides make sure that the other is there; `0s` for never.
    pub requested_heartbeat: Duration,
    /// Wait until the server has a message safe before saying that it is in the queue. Without this a crash of
    /// the server, or a full queue, loses messages silently.
    pub publisher_confirmation: bool,
    /// How long making a connection, and any one answer of the server, may take.
    pub timeout: Duration,
    /// The authority that signed the server's certificate, in PEM. Default: those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

impl Default for RabbitmqSettings {
    fn default() -> Self {
        RabbitmqSettings {
            url: None,
            host: None,
            port: 5672,
            username: "guest".into(),
            password: Secret::from("guest".to_owned()),
            vhost: "/".into(),
            prefetch_count: 25,
            partition_count: 30,
            concurrent_message_limit: 50,
            max_connections: 5,
            min_connections: 1,
            requested_heartbeat: Duration::from_secs(30),
            publisher_confirmation: true,
            timeout: Duration::from_secs(10),
            ca_file: None,
        }
    }
}

impl RabbitmqSettings {
    /// Whether there is a server to speak to.
    pub fn is_configured(&self) -> bool {
        self.url.is_some() || self.host.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_a_word_or_a_map() {
        let read = |text: &str| serde_json::from_str::<Short<CacheSettings>>(text);
        assert_eq!(read("\"memory\"").unwrap(), Short::default());
        assert_eq!(read("\"redis://h/1\"").unwrap().backend.expose(), "redis://h/1");
        let long = read(r#"{"backend": "store", "max_entries": 5}"#).unwrap();
        assert_eq!((long.backend.expose(), long.max_entries), ("store", 5));
        assert!(read(r#"{"backen": "store"}"#).unwrap_err().to_string().contains("backen"));
        assert!(read("\"\"").is_err());
        assert!(read("7").is_err());
    }

    #[test]
    fn an_address_says_what_it_names() {
        for (text, place) in [
            ("memory", Place::Named("memory".into())),
            ("Redis", Place::Named("redis".into())),
            ("rediss://h", Place::Redis),
            ("redis-cluster:6379,abortConnect=false", Place::Redis),
            ("amqps://h", Place::Rabbitmq),
            ("gs://bucket/p", Place::Bucket),
            ("nats://h", Place::Unknown("nats".into())),
        ] {
            assert_eq!(Address::from(text).place(), place);
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        for (text, shown) in [
            ("memory", "memory"),
            ("redis://h:1/0", "redis://h:1/0"),
            ("redis://u:s3cret@h:1/0", "redis://u:***@h:1/0"),
            ("redis://:s3cret@h", "redis://:***@h"),
            ("amqp://u:s3@cret@h/v", "amqp://u:***@h/v"),
            ("redis://:s3/cret@h", "redis://***"),
            ("h:1,password=s3cret,ssl=true", "h:1,password=***,ssl=true"),
            ("h:1, Password = s3cret", "h:1, Password =***"),
        ] {
            let address = Address::from(text);
            assert_eq!(address.shown(), shown);
            assert_eq!(format!("{address:?}"), shown);
            assert_eq!(serde_json::to_string(&address).unwrap(), format!("\"{shown}\""));
        }
    }

    /// C05: the names and defaults of the guide. Mutation: any default changed.
    #[test]
    fn promise_c05_defaults_are_those_of_the_guide() {
        let rabbit = RabbitmqSettings::default();
        assert_eq!((rabbit.port, rabbit.vhost.as_str(), rabbit.username.as_str()), (5672, "/", "guest"));
        assert_eq!((rabbit.prefetch_count, rabbit.partition_count), (25, 30));
        assert_eq!((rabbit.concurrent_message_limit, rabbit.max_connections), (50, 5));
        assert_eq!(
            (rabbit.requested_heartbeat, rabbit.publisher_confirmation),
            (Duration::from_secs(30), true)
        );
    }

    /// P04: the defaults of the guide. Mutation: any default changed.
    #[test]
    fn promise_p04_defaults_are_those_of_the_guide() {
        let redis = RedisSettings::default();
        assert_eq!((redis.pool_size, redis.connect_timeout), (20, Duration::from_secs(5)));
        assert_eq!(redis.idle_timeout, Duration::from_secs(60));
        let blobs = BlobsSettings::default();
        assert_eq!((blobs.max_connections, blobs.connect_timeout), (100, Duration::from_secs(10)));
    }
}
