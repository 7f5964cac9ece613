//! Which backend stands behind each seam, as the settings say.

use std::sync::Arc;

use base::seams::{Backend, Blobs, Cache, Events, Queue, SeamError};
use base::vcons::Vcons;
use bus::blobs::{LocalBlobs, ObjectBlobs};
use bus::cache::{MemoryCache, RedisCache};
use bus::events::{LocalEvents, RabbitmqEvents, RedisEvents};
use bus::queue::{RabbitmqQueue, RedisLedger, RedisQueue};
use bus::settings::{Address, Place};
use bus::vcons::{RedisVcons, RedisVconsOptions};
use bus::windows::{RedisWindows, RedisWindowsOptions, SharedWindows};
use bus::{BusMetrics, Rabbitmq, Redis};
use conversations::ConversationSettings;
use server::Dependency;
use store::{Db, Engine, PostgresEvents, StoreCache, StoreQueue};
use telemetry::Metrics;

use crate::settings::DataSettings;

/// What stands behind the seams.
pub struct Backends {
    /// How replicas tell each other.
    pub events: Arc<dyn Events>,
    /// Counts for all replicas together, when there is a Redis.
    pub windows: Option<Arc<dyn SharedWindows>>,
    /// Values for a time.
    pub cache: Arc<dyn Cache>,
    /// Work that waits.
    pub queue: Arc<dyn Queue>,
    /// Files by key.
    pub blobs: Arc<dyn Blobs>,
    /// What conversations keep in Redis, where it alone keeps them.
    pub redis_only: Option<RedisOnly>,
    servers: Servers,
}

/// vCons and their queues in Redis, without a database that processes share.
pub struct RedisOnly {
    /// Where vCons are kept.
    pub vcons: Arc<dyn Vcons>,
    /// The lists, their delays and dead letters.
    pub queue: Arc<dyn Queue>,
}

/// Connections, one pool for each server however many seams are on it.
struct Servers {
    metrics: BusMetrics,
    redis: Vec<(String, Redis)>,
    rabbitmq: Vec<(String, Rabbitmq)>,
}

/// Why a backend cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// It was asked, or its settings were read.
    #[error("data.{seam}: {error}")]
    Seam {
        /// For which seam.
        seam: &'static str,
        /// What is wrong.
        error: SeamError,
    },
    /// What is named is not there for this seam.
    #[error("data.{seam}: `{named}` is no backend of it: use {instead}")]
    Unknown {
        /// For which seam.
        seam: &'static str,
        /// What was named, without its password.
        named: String,
        /// What there is.
        instead: &'static str,
    },
    /// Metrics that were declared before.
    #[error(transparent)]
    Metrics(#[from] telemetry::Error),
}

impl Backends {
    /// Opens what the settings name. On the current runtime everything of it runs from then on.
    pub async fn open(
        data: &DataSettings,
        conversations: &ConversationSettings,
        db: &Db,
        metrics: &Metrics,
    ) -> Result<Self, BackendError> {
        let metrics = BusMetrics::new(metrics)?;
        let mut servers = Servers { metrics, redis: Vec::new(), rabbitmq: Vec::new() };
        let events = events(data, db, &mut servers).await?;
        let cache = cache(data, db, &mut servers).await?;
        let queue = queue(data, db, &mut servers).await?;
        let blobs = blobs(data, &servers.metrics).await?;
        let windows: Option<Arc<dyn SharedWindows>> = match data.redis.url {
            None => None,
            Some(_) => {
                let redis = servers.redis("redis", &Address::from("redis"), data).await?;
                let options = RedisWindowsOptions {
                    prefix: data.redis.prefix.clone(),
                    ..RedisWindowsOptions::default()
                };
                Some(Arc::new(RedisWindows::start(redis, options).await))
            }
        };
        let redis_only = match redis_alone(data, conversations, db) {
            false => None,
            true => Some(redis_only(data, conversations, &mut servers).await?),
        };
        Ok(Backends { events, windows, cache, queue, blobs, redis_only, servers })
    }

    /// What readiness looks at.
    pub fn dependencies(&self) -> Vec<Dependency> {
        let cache: Arc<dyn Backend> = self.cache.clone();
        let queue: Arc<dyn Backend> = self.queue.clone();
        let events: Arc<dyn Backend> = self.events.clone();
        let blobs: Arc<dyn Backend> = self.blobs.clone();
        let all = [("events", events), ("cache", cache), ("queue", queue), ("blobs", blobs)];
        let lists = self
            .redis_only
            .as_ref()
            .map(|redis| -> (_, Arc<dyn Backend>) { ("conversations", redis.queue.clone()) });
        all.into_iter().chain(lists).map(|(name, backend)| Dependency { name, backend }).collect()
    }

    /// How many consumers this process has at RabbitMQ.
    pub fn consumers(&self) -> usize {
        self.servers.metrics.consumers()
    }

    /// Closes the connections.
    pub async fn close(&self) {
        for (_, redis) in &self.servers.redis {
            redis.close();
        }
        for (_, rabbitmq) in &self.servers.rabbitmq {
            rabbitmq.close().await;
        }
    }
}

impl Servers {
    async fn redis(
        &mut self,
        seam: &'static str,
        address: &Address,
        data: &DataSettings,
    ) -> Result<Redis, BackendError> {
        let known = self.redis.iter().find(|(of, _)| of == address.expose());
        if let Some((_, redis)) = known {
            return Ok(redis.clone());
        }
        let opened = Redis::open(address, &data.redis, &self.metrics).await;
        let redis = opened.map_err(|error| BackendError::Seam { seam, error })?;
        self.redis.push((address.expose().to_owned(), redis.clone()));
        Ok(redis)
    }

    fn rabbitmq(
        &mut self,
        seam: &'static str,
        address: &Address,
        data: &DataSettings,
    ) -> Result<Rabbitmq, BackendError> {
        let known = self.rabbitmq.iter().find(|(of, _)| of == address.expose());
        if let Some((_, rabbitmq)) = known {
            return Ok(rabbitmq.clone());
        }
        let opened = Rabbitmq::open(address, &data.rabbitmq, &self.metrics);
        let rabbitmq = opened.map_err(|error| BackendError::Seam { seam, error })?;
        self.rabbitmq.push((address.expose().to_owned(), rabbitmq.clone()));
        Ok(rabbitmq)
    }
}

/// What an address means for a seam that Redis and RabbitMQ may serve.
enum Choice<'a> {
    Named(&'a str),
    Redis,
    Rabbitmq,
    Other,
}

fn choice(address: &Address) -> Choice<'_> {
    match address.place() {
        Place::Redis => Choice::Redis,
        Place::Rabbitmq => Choice::Rabbitmq,
        Place::Named(word) if word == "redis" => Choice::Redis,
        Place::Named(word) if word == "rabbitmq" => Choice::Rabbitmq,
        Place::Named(_) => Choice::Named(address.expose()),
        Place::Bucket | Place::Unknown(_) => Choice::Other,
    }
}

fn unknown(seam: &'static str, address: &Address, instead: &'static str) -> BackendError {
    BackendError::Unknown { seam, named: address.shown(), instead }
}

async fn events(
    data: &DataSettings,
    db: &Db,
    servers: &mut Servers,
) -> Result<Arc<dyn Events>, BackendError> {
    let (address, prefix) = (&data.events.backend, data.events.prefix.as_str());
    let postgres = || {
        let made = PostgresEvents::new(db.clone(), prefix);
        made.map_err(|error| BackendError::Seam { seam: "events", error })
    };
    Ok(match choice(address) {
        Choice::Redis => Arc::new(RedisEvents::new(servers.redis("events", address, data).await?, prefix)),
        Choice::Rabbitmq => Arc::new(RabbitmqEvents::new(servers.rabbitmq("events", address, data)?, prefix)),
        Choice::Named("local") => Arc::new(LocalEvents::default()),
        Choice::Named("store") if db.engine() == Engine::Postgres => Arc::new(postgres()?),
        Choice::Named("auto") if data.rabbitmq.is_configured() => {
            let rabbitmq = servers.rabbitmq("events", &Address::from("rabbitmq"), data)?;
            Arc::new(RabbitmqEvents::new(rabbitmq, prefix))
        }
        Choice::Named("auto") if db.engine() == Engine::Postgres => Arc::new(postgres()?),
        Choice::Named("auto") if data.redis.url.is_some() => {
            let redis = servers.redis("events", &Address::from("redis"), data).await?;
            Arc::new(RedisEvents::new(redis, prefix))
        }
        Choice::Named("auto") => Arc::new(LocalEvents::default()),
        Choice::Named(_) | Choice::Other => {
            return Err(unknown(
                "events",
                address,
                "`auto`, `local`, `store` (PostgreSQL), `redis`, `rabbitmq` or a URL",
            ));
        }
    })
}

async fn cache(data: &DataSettings, db: &Db, servers: &mut Servers) -> Result<Arc<dyn Cache>, BackendError> {
    let address = &data.cache.backend;
    Ok(match choice(address) {
        Choice::Redis => Arc::new(RedisCache::new(servers.redis("cache", address, data).await?)),
        Choice::Named("memory") => Arc::new(MemoryCache::new(&data.cache)),
        Choice::Named("store") => {
            Arc::new(StoreCache::new(db.clone(), data.cache.max_size.0, data.cache.max_entries))
        }
        _ => return Err(unknown("cache", address, "`memory`, `store`, `redis` or a URL")),
    })
}

async fn queue(data: &DataSettings, db: &Db, servers: &mut Servers) -> Result<Arc<dyn Queue>, BackendError> {
    let (address, prefix) = (&data.queue.backend, data.queue.prefix.as_str());
    let ledger = Arc::new(StoreQueue::new(db.clone()));
    let choice = choice(address);
    if matches!(choice, Choice::Redis | Choice::Rabbitmq) && db.engine() == Engine::Sqlite {
        let why = "a queue that processes share needs a database that they share: set data.store to a PostgreSQL URL";
        return Err(BackendError::Seam { seam: "queue", error: SeamError::Invalid(why.into()) });
    }
    Ok(match choice {
        Choice::Redis => {
            Arc::new(RedisQueue::new(servers.redis("queue", address, data).await?, ledger, prefix))
        }
        Choice::Rabbitmq => {
            Arc::new(RabbitmqQueue::new(servers.rabbitmq("queue", address, data)?, ledger, prefix))
        }
        Choice::Named("store") => ledger,
        _ => return Err(unknown("queue", address, "`store`, `redis`, `rabbitmq` or a URL")),
    })
}

/// Whether Redis alone keeps conversations: where it is said, or where all there is is the Conserver's own
/// environment, a file and a Redis.
fn redis_alone(data: &DataSettings, conversations: &ConversationSettings, db: &Db) -> bool {
    let like_conserver = conversations.config_file.is_some()
        && data.redis.url.is_some()
        && db.engine() == Engine::Sqlite
        && matches!(choice(&data.queue.backend), Choice::Named("store"));
    conversations.redis_only.unwrap_or(like_conserver)
}

async fn redis_only(
    data: &DataSettings,
    conversations: &ConversationSettings,
    servers: &mut Servers,
) -> Result<RedisOnly, BackendError> {
    let redis = servers.redis("conversations", &Address::from("redis"), data).await?;
    let prefix = data.queue.prefix.as_str();
    let ledger = Arc::new(RedisLedger::new(redis.clone(), prefix));
    let options = RedisVconsOptions {
        sorted_set: conversations.sorted_set.clone(),
        index_keep: conversations.index_keep.0,
    };
    let queue = RedisQueue::new(redis.clone(), ledger, prefix);
    Ok(RedisOnly { vcons: Arc::new(RedisVcons::new(redis, options)), queue: Arc::new(queue) })
}

async fn blobs(data: &DataSettings, metrics: &BusMetrics) -> Result<Arc<dyn Blobs>, BackendError> {
    let (address, blobs) = (&data.blobs.backend, &data.blobs);
    let seam = |error| BackendError::Seam { seam: "blobs", error };
    Ok(match address.place() {
        Place::Bucket => Arc::new(ObjectBlobs::open(blobs, metrics).map_err(seam)?),
        Place::Named(word) if word == "local" => {
            let dir = blobs.dir.clone().unwrap_or_else(|| data.dir.join("blobs"));
            Arc::new(LocalBlobs::open(&dir, blobs.max_size.0).await.map_err(seam)?)
        }
        _ => {
            return Err(unknown("blobs", address, "`local` or the URL of a bucket, as `s3://bucket/prefix`"));
        }
    })
}
