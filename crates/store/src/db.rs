//! Connections to the database, the same to SQLite and PostgreSQL.
//!
//! One SQL text serves both engines: `$1` placeholders, integers, text and bytes, `RETURNING`, `ON CONFLICT`.
//! SQLite takes one writer at a time, so its writes share one connection and wait for it in order, instead of
//! meeting a busy database; its readers have their own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, ConnectOptions as _, Executor as _, Transaction};

use crate::error::StoreError;
use crate::settings::PoolSettings;

/// The most connections that read a SQLite file.
const SQLITE_READERS: u32 = 4;

/// Which database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A file on this machine.
    Sqlite,
    /// A server, shared by replicas.
    Postgres,
}

impl Engine {
    /// Its name, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Engine::Sqlite => "sqlite",
            Engine::Postgres => "postgresql",
        }
    }
}

/// The connections. Cheap to clone.
#[derive(Clone)]
pub struct Db(Arc<Inner>);

impl std::fmt::Debug for Db {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Db").field(&self.0.engine).finish()
    }
}

struct Inner {
    engine: Engine,
    url: String,
    max_connections: u32,
    readers: AnyPool,
    writers: AnyPool,
    replica: Option<AnyPool>,
}

/// How the pool stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolState {
    /// Connections that are open.
    pub open: u32,
    /// Of these, without work.
    pub idle: u32,
    /// The most there may be.
    pub max: u32,
}

impl Db {
    /// Opens the database of a URL: `sqlite:PATH`, `postgresql://…`. A read replica takes queries that may be a
    /// moment old. Errors do not hold the URL, which may hold a password.
    pub async fn open(url: &str, replica: Option<&str>, settings: &PoolSettings) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let engine = if url.starts_with("sqlite:") { Engine::Sqlite } else { Engine::Postgres };
        // Each connection to SQLite is a thread with a cache of its own, and there is one file to read.
        let readers = settings.max_connections.min(SQLITE_READERS);
        let (readers, writers) = match engine {
            Engine::Sqlite => {
                (connect(engine, url, settings, readers).await?, connect(engine, url, settings, 1).await?)
            }
            Engine::Postgres => {
                let pool = connect(engine, url, settings, settings.max_connections).await?;
                (pool.clone(), pool)
            }
        };
        let replica = match replica {
            Some(url) => Some(connect(Engine::Postgres, url, settings, settings.max_connections).await?),
            None => None,
        };
        let max_connections = match engine {
            Engine::Sqlite => settings.max_connections.min(SQLITE_READERS),
            Engine::Postgres => settings.max_connections,
        };
        Ok(Db(Arc::new(Inner { engine, url: url.to_owned(), max_connections, readers, writers, replica })))
    }

    /// The URL of a SQLite file.
    pub fn sqlite_url(path: &Path) -> String {
        // A path may hold what a URL would take for its own.
        let escaped: String = path.display().to_string().chars().fold(String::new(), |mut url, c| {
            match c {
                '%' | '?' | '#' => url.push_str(&format!("%{:02X}", c as u32)),
                c => url.push(c),
            }
            url
        });
        format!("sqlite:{escaped}?mode=rwc")
    }

    /// Which database it is.
    pub fn engine(&self) -> Engine {
        self.0.engine
    }

    /// Its URL, with the password if it has one: not for printing.
    pub(crate) fn url(&self) -> &str {
        &self.0.url
    }

    /// For queries that must see what was written before.
    pub(crate) fn read(&self) -> &AnyPool {
        &self.0.readers
    }

    /// For queries that may be a moment old: the read replica, where there is one.
    pub(crate) fn read_any(&self) -> &AnyPool {
        self.0.replica.as_ref().unwrap_or(&self.0.readers)
    }

    /// For single statements that write.
    pub(crate) fn write(&self) -> &AnyPool {
        &self.0.writers
    }

    /// A transaction that writes.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, sqlx::Any>, StoreError> {
        let begin = match self.0.engine {
            // Deferred, it could find at its first write that it has read what is old, and fail.
            Engine::Sqlite => "BEGIN IMMEDIATE",
            Engine::Postgres => "BEGIN",
        };
        Ok(self.0.writers.begin_with(begin).await?)
    }

    /// `FOR UPDATE` where rows are locked one by one.
    pub(crate) fn for_update(&self) -> &'static str {
        match self.0.engine {
            Engine::Sqlite => "",
            Engine::Postgres => " FOR UPDATE",
        }
    }

    /// How the pool stands.
    pub fn pool(&self) -> PoolState {
        let (readers, writers) = (&self.0.readers, &self.0.writers);
        let idle = |pool: &AnyPool| u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
        match self.0.engine {
            Engine::Sqlite => PoolState {
                open: readers.size() + writers.size(),
                idle: idle(readers) + idle(writers),
                max: self.0.max_connections + 1,
            },
            Engine::Postgres => {
                PoolState { open: readers.size(), idle: idle(readers), max: self.0.max_connections }
            }
        }
    }

    /// Whether the database answers, and how fast.
    pub async fn ping(&self) -> Result<Duration, StoreError> {
        let began = std::time::Instant::now();
        let one: i64 = sqlx::query_scalar("SELECT CAST(1 AS BIGINT)").fetch_one(self.read()).await?;
        debug_assert_eq!(one, 1);
        Ok(began.elapsed())
    }

    /// Closes every connection.
    pub async fn close(&self) {
        self.0.readers.close().await;
        self.0.writers.close().await;
        if let Some(replica) = &self.0.replica {
            replica.close().await;
        }
    }
}

async fn connect(
    engine: Engine,
    url: &str,
    settings: &PoolSettings,
    max_connections: u32,
) -> Result<AnyPool, StoreError> {
    let options: AnyConnectOptions = url.parse().map_err(|error: sqlx::Error| {
        // What it says of a URL may quote it.
        StoreError::Invalid(match error {
            sqlx::Error::Configuration(_) => "the URL of the database cannot be read".to_owned(),
            other => other.to_string(),
        })
    })?;
    let timeout = settings.statement_timeout.0.as_millis();
    let setup: Vec<String> = match engine {
        Engine::Sqlite => vec![
            "PRAGMA journal_mode = WAL".into(),
            // A row that we told somebody about is on the disk.
            "PRAGMA synchronous = FULL".into(),
            "PRAGMA foreign_keys = ON".into(),
            format!("PRAGMA busy_timeout = {timeout}"),
            "PRAGMA cache_size = -4096".into(),
            "PRAGMA temp_store = MEMORY".into(),
        ],
        Engine::Postgres => vec![
            format!("SET statement_timeout = {timeout}"),
            "SET application_name = 'trunkline'".into(),
            // A transaction whose client is gone must not hold its locks.
            format!("SET idle_in_transaction_session_timeout = {timeout}"),
        ],
    };
    let setup: Arc<[String]> = setup.into();
    let lifetime = Some(settings.max_lifetime.0).filter(|lifetime| !lifetime.is_zero());
    let pool = AnyPoolOptions::new()
        .max_connections(max_connections)
        .min_connections(settings.min_connections.min(max_connections))
        .acquire_timeout(settings.connect_timeout.0)
        .max_lifetime(lifetime)
        .idle_timeout(Some(settings.idle_timeout.0))
        .after_connect(move |connection, _| {
            let setup = Arc::clone(&setup);
            Box::pin(async move {
                for statement in setup.iter() {
                    connection.execute(sqlx::raw_sql(AssertSqlSafe(statement.clone()))).await?;
                }
                Ok(())
            })
        });
    Ok(pool.connect_with(options.disable_statement_logging()).await?)
}

/// The connection of a transaction, for helpers that take any connection.
pub(crate) type Connection = AnyConnection;
