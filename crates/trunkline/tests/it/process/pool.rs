//! The settings of the connections to PostgreSQL, by the variables of the guides: each is seen at the server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::services::{self, Database};

use super::{Process, Program};
use crate::admin::Admin;
use crate::app::PATIENCE;

const ADMIN: &str = "an-admin-key-of-this-test-that-is-long-enough";
/// Connections of the pool; that which listens for events is none of them.
const OURS: &str =
    "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'trunkline'";

/// The names of one guide for the settings that both have.
struct Names {
    max: &'static str,
    min: &'static str,
    connect: &'static str,
}

const CONDUIT: Names = Names {
    max: "CONDUITLLM__DATABASE__MAXPOOLSIZE",
    min: "CONDUITLLM__DATABASE__MINPOOLSIZE",
    connect: "CONDUITLLM__DATABASE__CONNECTIONTIMEOUT",
};
const DASHFLOW: Names = Names {
    max: "DATABASE_MAX_CONNECTIONS",
    min: "DATABASE_MIN_CONNECTIONS",
    connect: "DATABASE_CONNECT_TIMEOUT",
};

fn start(database: &Database, variables: &[(&str, &str)]) -> Process {
    let program = Program::serve("").env("DATABASE_URL", database.url()).env("TRUNKLINE_ADMIN_KEY", ADMIN);
    variables.iter().fold(program, |program, (name, value)| program.env(name, value)).start()
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Somebody keeps the groups to himself, so that whoever asks for them waits in the database. Ends when told, or
/// with the test.
struct Locked(Arc<Database>);

impl Locked {
    async fn start(database: &Arc<Database>, seconds: u32) -> Locked {
        let of_thread = Arc::clone(database);
        let sql =
            format!("BEGIN; LOCK TABLE groups IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep({seconds}); COMMIT");
        // Canceled, it fails: as it should.
        std::thread::spawn(move || std::panic::catch_unwind(|| of_thread.execute(&sql)));
        until("the lock is not held", || database.number(&format!("SELECT COUNT(*) {}", Locked::HELD)) == 1)
            .await;
        Locked(Arc::clone(database))
    }

    const HELD: &'static str = "FROM pg_stat_activity WHERE datname = current_database() \
        AND query LIKE 'BEGIN; LOCK TABLE%' AND wait_event = 'PgSleep'";

    fn release(&self) {
        self.0.number(&format!("SELECT COUNT(pg_cancel_backend(pid)) {}", Locked::HELD));
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.release();
    }
}

async fn ask(url: String) -> u16 {
    Admin::new(&url, ADMIN).send("GET", "/api/groups", &Value::Null).await.status
}

async fn bounds(names: &Names) {
    let Some(database) = services::postgres().map(Arc::new) else { return };
    let process = start(&database, &[(names.max, "4"), (names.min, "3")]);
    let open = || database.number(&format!("SELECT COUNT(*) {OURS}"));
    until("the fewest are not kept open", || open() >= 3).await;
    let shown = process.get("/health/database").await.json();
    assert_eq!(shown["pool"]["max"], 4, "{shown}");
    let locked = Locked::start(&database, 60).await;
    let asking: Vec<_> = (0..12).map(|_| tokio::spawn(ask(process.url()))).collect();
    let waiting = format!("SELECT COUNT(*) {OURS} AND wait_event_type = 'Lock'");
    until("not all are used", || database.number(&waiting) >= 3).await;
    assert!(open() <= 4, "{} connections", open());
    locked.release();
    for answer in asking {
        assert_eq!(answer.await.unwrap(), 200);
    }
    assert!(open() <= 4, "{} connections", open());

    // One connection, in use: who cannot have it in time is told so, and who may wait longer has it later.
    for (seconds, status) in [("1", 503), ("25", 200)] {
        let process = start(&database, &[(names.max, "1"), (names.connect, seconds)]);
        let locked = Locked::start(&database, 8).await;
        let first = tokio::spawn(ask(process.url()));
        until("nobody waits for the lock", || database.number(&waiting) == 1).await;
        let second = ask(process.url()).await;
        assert_eq!(second, status, "{} {seconds}", names.connect);
        drop(locked);
        assert_eq!(first.await.unwrap(), 200);
    }
}

/// Mutation: a row of `settings::legacy` that is gone, or a field of `PoolSettings` that `Db::open` does not use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_c06_pool_size_and_connection_timeout_of_the_guide() {
    bounds(&CONDUIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dashflows_names_of_pool_size_and_connection_timeout() {
    bounds(&DASHFLOW).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_c06_a_command_takes_no_longer_than_its_timeout() {
    let Some(database) = services::postgres().map(Arc::new) else { return };
    for (seconds, status) in [("1", 503), ("25", 200)] {
        let process = start(&database, &[("CONDUITLLM__DATABASE__COMMANDTIMEOUT", seconds)]);
        let locked = Locked::start(&database, 6).await;
        assert_eq!(ask(process.url()).await, status, "COMMANDTIMEOUT={seconds}");
        drop(locked);
        assert_eq!(ask(process.url()).await, 200, "and the connection serves on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_c06_connections_are_replaced_when_their_lifetime_is_over() {
    let Some(database) = services::postgres().map(Arc::new) else { return };
    let names = [("CONDUITLLM__DATABASE__CONNECTIONLIFETIME", "1"), (CONDUIT.max, "2")];
    let process = start(&database, &names);
    let now = database.number("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)");
    let began = "CAST(EXTRACT(EPOCH FROM backend_start) * 1000000 AS BIGINT)";
    let old = format!("SELECT COUNT(*) {OURS} AND {began} <= {now}");
    let new = format!("SELECT COUNT(*) {OURS} AND {began} > {now}");
    assert!(database.number(&old) >= 1);
    until("the first connections live on", || database.number(&old) == 0 && database.number(&new) >= 1).await;
    assert_eq!(ask(process.url()).await, 200);
}
