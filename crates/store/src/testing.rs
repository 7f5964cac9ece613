//! One test, both engines: SQLite in a folder of its own, PostgreSQL in a database of its own.
//!
//! ```ignore
//! #[tokio::test]
//! async fn a_name_is_taken_once() {
//!     on_each_engine(|db| async move { … }).await;
//! }
//! ```
//!
//! A second replica is [`replica`]: pools of its own to the same database.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::panic::resume_unwind;
use std::time::Duration;

use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _};
use tokio::task::JoinError;
use tokio::time::timeout;

use crate::db::Db;
use crate::settings::PoolSettings;

const POSTGRES: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5432);
/// No test waits for ever.
const LONGEST: Duration = Duration::from_secs(120);

/// Runs a test on a new, migrated SQLite database and then on a new, migrated PostgreSQL database, and removes
/// each, also when the test fails.
pub(crate) async fn on_each_engine<F, T>(test: F)
where
    F: Fn(Db) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    on_sqlite(&test).await;
    on_postgres(&test).await;
}

/// The same on databases that nobody has migrated yet.
pub(crate) async fn on_each_empty_engine<F, T>(test: F)
where
    F: Fn(Db) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    sqlite(&test, false).await;
    postgres(&test, false).await;
}

/// Only on SQLite.
pub(crate) async fn on_sqlite<F, T>(test: F)
where
    F: Fn(Db) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    sqlite(test, true).await;
}

async fn sqlite<F, T>(test: F, migrated: bool)
where
    F: Fn(Db) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(&Db::sqlite_url(&folder.path().join("test.db")), None, &pool()).await.unwrap();
    let outcome = run(&db, migrated, test(db.clone())).await;
    report("SQLite", outcome);
}

/// Only on PostgreSQL. Without a server the test is skipped, unless `TRUNKLINE_REQUIRE_SERVICES=1`.
pub(crate) async fn on_postgres<F, T>(test: F)
where
    F: Fn(Db) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    postgres(test, true).await;
}

async fn postgres<F, T>(test: F, migrated: bool)
where
    F: Fn(Db) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    if let Err(error) = TcpStream::connect_timeout(&POSTGRES, Duration::from_secs(2)) {
        let required = std::env::var("TRUNKLINE_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
        assert!(!required, "no PostgreSQL at {POSTGRES}: {error}");
        println!("skipped: no PostgreSQL at {POSTGRES}");
        return;
    }
    let name = format!("trunkline_test_{:016x}", fastrand::u64(..));
    administer(format!("CREATE DATABASE {name}")).await;
    let opened = Db::open(&format!("postgresql://postgres@{POSTGRES}/{name}"), None, &pool()).await;
    let outcome = match &opened {
        Ok(db) => run(db, migrated, test(db.clone())).await,
        Err(_) => Ok(()),
    };
    administer(format!("DROP DATABASE {name} WITH (FORCE)")).await;
    opened.unwrap();
    report("PostgreSQL", outcome);
}

/// The same database, as another replica sees it.
pub(crate) async fn replica(db: &Db) -> Db {
    Db::open(db.url(), None, &pool()).await.unwrap()
}

/// The server takes a hundred connections, from all tests that run at once.
fn pool() -> PoolSettings {
    PoolSettings {
        max_connections: 6,
        connect_timeout: base::Duration::from_secs(20),
        ..PoolSettings::default()
    }
}

async fn run<T>(db: &Db, migrated: bool, test: T) -> Result<(), JoinError>
where
    T: Future<Output = ()> + Send + 'static,
{
    let to_migrate = migrated.then(|| db.clone());
    // A task of its own, so that a panic comes back as a value and the database can be removed before it goes on.
    let outcome = tokio::spawn(async move {
        if let Some(db) = to_migrate {
            db.migrate().await.unwrap();
        }
        timeout(LONGEST, test).await.unwrap();
    })
    .await;
    // A connection that the test has left in use would be waited for.
    let _ = timeout(Duration::from_secs(2), db.close()).await;
    outcome
}

fn report(engine: &str, outcome: Result<(), JoinError>) {
    if let Err(error) = outcome {
        eprintln!("on {engine}");
        resume_unwind(error.into_panic());
    }
}

async fn administer(statement: String) {
    sqlx::any::install_default_drivers();
    let mut connection =
        AnyConnection::connect(&format!("postgresql://postgres@{POSTGRES}/postgres")).await.unwrap();
    connection.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await.unwrap();
    connection.close().await.unwrap();
}

mod tests {
    use super::*;
    use crate::db::Engine;

    #[tokio::test]
    async fn each_engine_runs_the_test_and_a_replica_sees_the_same_database() {
        on_each_engine(|db| async move {
            let other = replica(&db).await;
            db.set_meta("seen", db.engine().as_str()).await.unwrap();
            assert_eq!(other.meta("seen").await.unwrap().as_deref(), Some(db.engine().as_str()));
            other.close().await;
        })
        .await;
    }

    #[tokio::test]
    #[should_panic(expected = "the test fails")]
    async fn a_failure_comes_through() {
        on_sqlite(|db| async move {
            assert_eq!(db.engine(), Engine::Postgres, "the test fails");
        })
        .await;
    }
}
