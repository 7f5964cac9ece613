//! A database of a test's own on the shared PostgreSQL.

use std::io::ErrorKind;
use std::thread;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use tokio::time::timeout;

use super::missing;
use super::place::random_name;
use super::url;

/// How long connecting and one statement may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// An empty database on the shared PostgreSQL; it is dropped with the value, whoever is still connected.
#[derive(Debug)]
pub struct Database {
    server: String,
    url: String,
    name: String,
}

/// An empty database on 127.0.0.1:5432 (user `postgres`), or on the server of `TRUNKLINE_TEST_POSTGRES`; `None` when
/// it is not there.
pub fn postgres() -> Option<Database> {
    let usual = "postgres://postgres@127.0.0.1:5432/postgres";
    let server = std::env::var("TRUNKLINE_TEST_POSTGRES").unwrap_or_else(|_| usual.to_owned());
    postgres_at(&server, missing::required())
}

pub(super) fn postgres_at(server: &str, required: bool) -> Option<Database> {
    let name = random_name();
    match execute(server, &format!("CREATE DATABASE {name} TEMPLATE template0")) {
        Ok(()) => {}
        Err(sqlx::Error::Io(error)) if error.kind() == ErrorKind::ConnectionRefused => {
            return missing::skip(&format!("no PostgreSQL at {}", url::address(server, 5432)), required);
        }
        Err(error) => panic!("PostgreSQL at {} makes no database: {error}", url::address(server, 5432)),
    }
    Some(Database { server: server.to_owned(), url: url::with_path(server, &name), name })
}

impl Database {
    /// The URL of the database: `postgres://postgres@127.0.0.1:5432/trunkline_test_…`.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number that a query answers with. Panics when it does not.
    pub fn number(&self, sql: &str) -> i64 {
        number(&self.url, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Runs statements in the database. Panics when one fails.
    pub fn execute(&self, sql: &str) {
        execute(&self.url, sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Err(error) = execute(&self.server, &format!("DROP DATABASE {} WITH (FORCE)", self.name)) {
            eprintln!("the database {} stays on the shared PostgreSQL: {error}", self.name);
        }
    }
}

/// Runs statements on a connection of their own, from a thread of their own: the caller may be within a runtime.
pub(super) fn execute(url: &str, sql: &str) -> Result<(), sqlx::Error> {
    connected(url, async |connection| {
        connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
        Ok(())
    })
}

fn number(url: &str, sql: &str) -> Result<i64, sqlx::Error> {
    connected(url, async |connection| sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await)
}

fn connected<T: Send>(
    url: &str,
    ask: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error> + Send,
) -> Result<T, sqlx::Error> {
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = async {
            let mut connection = PgConnection::connect(url).await?;
            let answer = ask(&mut connection).await?;
            connection.close().await?;
            Ok(answer)
        };
        let slow = |_| sqlx::Error::Io(ErrorKind::TimedOut.into());
        runtime.block_on(async { timeout(PATIENCE, run).await.map_err(slow)? })
    };
    thread::scope(|scope| scope.spawn(work).join()).expect("the thread of the statement does not panic")
}
