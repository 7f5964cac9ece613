//! `data:`, the database and the servers beside it.

use base::{Duration, Secret};
use bus::RedisOptions;
use bus::settings::{Address, Place, RedisSettings};
use reqwest::Url;

use super::super::problem::Path;
use super::{Checks, check_url};

/// The longest that keys, queues and channels may be named by.
const MAX_PREFIX: usize = 200;
/// The same for a channel of PostgreSQL, of which a part is ours.
const MAX_CHANNEL: usize = 56;
/// The most connections to one server.
const MAX_CONNECTIONS: u32 = 10_000;
/// The longest heartbeat that AMQP can ask for.
const MAX_HEARTBEAT: Duration = Duration::from_secs(u16::MAX as u64);
/// The most queues that messages with an order are spread over.
const MAX_PARTITIONS: u16 = 1_000;

/// What may stand behind a seam.
struct Seam {
    name: &'static str,
    words: &'static [&'static str],
    redis: bool,
    rabbitmq: bool,
    bucket: bool,
    expected: &'static str,
}

const CACHE: Seam = Seam {
    name: "cache",
    words: &["memory", "store"],
    redis: true,
    rabbitmq: false,
    bucket: false,
    expected: "must be `memory`, `store`, `redis`, or the address of a Redis, as `redis://HOST:6379/0`",
};
const QUEUE: Seam = Seam {
    name: "queue",
    words: &["store"],
    redis: true,
    rabbitmq: true,
    bucket: false,
    expected: "must be `store`, `redis`, `rabbitmq`, or an address, as `redis://HOST` or `amqp://HOST`",
};
const EVENTS: Seam = Seam {
    name: "events",
    words: &["auto", "local", "store"],
    redis: true,
    rabbitmq: true,
    bucket: false,
    expected: "must be `auto`, `local`, `store`, `redis`, `rabbitmq`, or an address, as `redis://HOST` or `amqp://HOST`",
};
const BLOBS: Seam = Seam {
    name: "blobs",
    words: &["local"],
    redis: false,
    rabbitmq: false,
    bucket: true,
    expected: "must be `local`, or the URL of a bucket, as `s3://BUCKET/PREFIX`",
};

impl Checks<'_> {
    pub(super) fn data(&mut self) {
        if self.settings.data.dir.as_os_str().is_empty() {
            self.report(&Path::of("data.dir"), "must name a directory");
        }
        let data = &self.settings.data;
        let shared = is_postgres(&data.store);
        if !shared && data.store.expose() != "sqlite" {
            let message = "must be `sqlite`, or the URL of a PostgreSQL server: `postgresql://USER:PASSWORD@HOST:5432/DATABASE`";
            self.report(&Path::of("data.store"), message);
        }
        if let Some(replica) = &data.store_replica {
            let path = Path::of("data.store_replica");
            if !is_postgres(replica) {
                self.report(
                    &path,
                    "must be the URL of a PostgreSQL server: `postgresql://USER:PASSWORD@HOST:5432/DATABASE`",
                );
            } else if !shared {
                self.report(&path, "is a replica of a PostgreSQL server, but `data.store` is not one");
            }
        }
        let pool = &data.pool;
        let path = Path::of("data.pool");
        if !(1..=1000).contains(&pool.max_connections) {
            self.report(&path.key("max_connections"), "must be from 1 to 1000");
        } else if pool.min_connections > pool.max_connections {
            self.report(&path.key("min_connections"), "must not be more than `max_connections`");
        }
        self.wait(&path.key("connect_timeout"), pool.connect_timeout);
        self.wait(&path.key("statement_timeout"), pool.statement_timeout);
        self.bounded(&path.key("max_lifetime"), pool.max_lifetime);
        self.bounded(&path.key("idle_timeout"), pool.idle_timeout);
        self.wait(&Path::of("data.lease_grace"), data.lease_grace);
        self.wait(&Path::of("data.audit_retention"), data.audit_retention);
        self.wait(&Path::of("data.usage_retention"), data.usage_retention);
        self.backends(shared);
        self.redis();
        self.rabbitmq();
    }

    /// `cache`, `queue`, `events`, `blobs`. `shared`: the database is one that processes share.
    fn backends(&mut self, shared: bool) {
        let data = &self.settings.data;
        let root = Path::of("data");
        self.backend(&CACHE, &data.cache.backend);
        self.backend(&QUEUE, &data.queue.backend);
        self.backend(&EVENTS, &data.events.backend);
        self.backend(&BLOBS, &data.blobs.backend);

        let cache = root.key("cache");
        if data.cache.max_size.0 == 0 {
            self.report(&cache.key("max_size"), "must be more than 0");
        }
        if data.cache.max_entries == 0 {
            self.report(&cache.key("max_entries"), "must be at least 1");
        }
        let queue = root.key("queue");
        let elsewhere = match data.queue.backend.place() {
            Place::Redis | Place::Rabbitmq => true,
            Place::Named(word) => matches!(word.as_str(), "redis" | "rabbitmq"),
            Place::Bucket | Place::Unknown(_) => false,
        };
        if !shared && elsewhere && !self.is_bad(&root.key("store")) {
            let message = "is a queue that processes share, which needs a database that they share: set `data.store` to a PostgreSQL URL";
            self.report(&queue.key("backend"), message);
        }
        self.prefix(&queue.key("prefix"), &data.queue.prefix, MAX_PREFIX);
        let events = root.key("events");
        if !shared && data.events.backend.expose() == "store" && !self.is_bad(&root.key("store")) {
            let message = "`store` needs a PostgreSQL server in `data.store`; with SQLite there is one process, and `local` is enough";
            self.report(&events.key("backend"), message);
        }
        if data.events.prefix.is_empty() {
            self.report(&events.key("prefix"), "must not be empty");
        }
        self.prefix(&events.key("prefix"), &data.events.prefix, MAX_CHANNEL);

        let (blobs, path) = (&data.blobs, root.key("blobs"));
        if blobs.dir.as_ref().is_some_and(|dir| dir.as_os_str().is_empty()) {
            self.report(&path.key("dir"), "must name a directory");
        }
        if blobs.max_size.0 == 0 {
            self.report(&path.key("max_size"), "must be more than 0");
        }
        if let Some(Err(message)) = blobs.endpoint.as_deref().map(|url| check_url(url, false)) {
            self.report(&path.key("endpoint"), message);
        }
        self.connections(&path.key("max_connections"), blobs.max_connections);
        self.wait(&path.key("connect_timeout"), blobs.connect_timeout);
        self.wait(&path.key("timeout"), blobs.timeout);
    }

    fn backend(&mut self, seam: &Seam, address: &Address) {
        let data = &self.settings.data;
        let path = Path::of("data").key(seam.name).key("backend");
        match address.place() {
            Place::Redis if seam.redis => self.redis_address(&path, address),
            Place::Rabbitmq if seam.rabbitmq => self.rabbitmq_address(&path, address),
            Place::Bucket if seam.bucket => {}
            Place::Named(word) if word == "redis" && seam.redis => {
                if data.redis.url.is_none() && !self.is_bad(&Path::of("data.redis.url")) {
                    self.report(&path, "`redis` needs `data.redis.url`");
                }
            }
            Place::Named(word) if word == "rabbitmq" && seam.rabbitmq => {
                let bad =
                    ["data.rabbitmq.host", "data.rabbitmq.url"].map(|path| self.is_bad(&Path::of(path)));
                if !data.rabbitmq.is_configured() && bad == [false, false] {
                    self.report(&path, "`rabbitmq` needs `data.rabbitmq.host` or `data.rabbitmq.url`");
                }
            }
            Place::Named(_) if seam.words.contains(&address.expose()) => {}
            _ => self.report(&path, seam.expected),
        }
    }

    fn redis(&mut self) {
        let (redis, path) = (&self.settings.data.redis, Path::of("data.redis"));
        if redis.url.is_some() {
            // By its name, so that a host may be called `redis`.
            self.redis_address(&path.key("url"), &Address::from("redis"));
        }
        self.connections(&path.key("pool_size"), redis.pool_size);
        self.wait(&path.key("connect_timeout"), redis.connect_timeout);
        self.wait(&path.key("response_timeout"), redis.response_timeout);
        self.bounded(&path.key("idle_timeout"), redis.idle_timeout);
        self.prefix(&path.key("prefix"), &redis.prefix, MAX_PREFIX);
    }

    /// The same reader as at the start, but for files: they may not be on the machine that checks.
    fn redis_address(&mut self, path: &Path, address: &Address) {
        let settings =
            RedisSettings { url: self.settings.data.redis.url.clone(), ..RedisSettings::default() };
        if let Err(error) = RedisOptions::parse(address, &settings) {
            self.report(path, error.to_string());
        }
    }

    fn rabbitmq(&mut self) {
        let (rabbitmq, path) = (&self.settings.data.rabbitmq, Path::of("data.rabbitmq"));
        if let Some(url) = &rabbitmq.url {
            self.rabbitmq_address(&path.key("url"), url);
        }
        let is_host = |host: &str| {
            !host.is_empty()
                && !host.contains(|c: char| c.is_whitespace() || c.is_control() || "/@?#,".contains(c))
        };
        if rabbitmq.host.as_deref().is_some_and(|host| !is_host(host)) {
            self.report(&path.key("host"), "must be the name of a host alone; a URL belongs into `url`");
        }
        for (key, text) in [("username", &rabbitmq.username), ("vhost", &rabbitmq.vhost)] {
            if text.is_empty() {
                self.report(&path.key(key), "must not be empty");
            }
        }
        let counts = [
            ("port", rabbitmq.port),
            ("prefetch_count", rabbitmq.prefetch_count),
            ("concurrent_message_limit", rabbitmq.concurrent_message_limit),
            ("max_connections", rabbitmq.max_connections),
            ("min_connections", rabbitmq.min_connections),
        ];
        for (key, _) in counts.into_iter().filter(|(_, count)| *count == 0) {
            self.report(&path.key(key), "must be at least 1");
        }
        if !(1..=MAX_PARTITIONS).contains(&rabbitmq.partition_count) {
            self.report(&path.key("partition_count"), format!("must be from 1 to {MAX_PARTITIONS}"));
        }
        if rabbitmq.max_connections > 0 && rabbitmq.min_connections > rabbitmq.max_connections {
            self.report(&path.key("min_connections"), "must not be more than `max_connections`");
        }
        if rabbitmq.requested_heartbeat > MAX_HEARTBEAT {
            self.report(&path.key("requested_heartbeat"), format!("must be at most {MAX_HEARTBEAT}"));
        }
        self.wait(&path.key("timeout"), rabbitmq.timeout);
    }

    /// The message never repeats the URL, which may carry a password.
    fn rabbitmq_address(&mut self, path: &Path, address: &Address) {
        let url = Url::parse(address.expose());
        if !url.is_ok_and(|url| {
            matches!(url.scheme(), "amqp" | "amqps") && url.host_str().is_some_and(|host| !host.is_empty())
        }) {
            let message = "must be the URL of a RabbitMQ: `amqp://USER:PASSWORD@HOST:5672/VHOST`, or `amqps://…` for TLS, special characters as `%XX`";
            self.report(path, message);
        }
    }

    fn connections(&mut self, path: &Path, count: u32) {
        if !(1..=MAX_CONNECTIONS).contains(&count) {
            self.report(path, format!("must be from 1 to {MAX_CONNECTIONS}"));
        }
    }

    fn prefix(&mut self, path: &Path, prefix: &str, most: usize) {
        if prefix.len() > most {
            self.report(path, format!("must be at most {most} bytes long"));
        }
        if prefix.contains(|c: char| c.is_whitespace() || c.is_control()) {
            self.report(path, "must not contain spaces or control characters");
        }
    }
}

fn is_postgres(url: &Secret) -> bool {
    let url = Url::parse(url.expose());
    url.is_ok_and(|url| matches!(url.scheme(), "postgresql" | "postgres") && url.has_host())
}
