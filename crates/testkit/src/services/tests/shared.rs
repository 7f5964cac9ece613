//! What is lent of the shared servers is the test's own and is given back, also by a test that panics.

use super::*;

/// What `SELECT` says about a database is told by the success of a division: no rows need to be read.
fn database_exists(server: &Database, name: &str) -> bool {
    let sql = format!("SELECT 1 / (SELECT count(*) FROM pg_database WHERE datname = '{name}')");
    execute(&server.url(), &sql).is_ok()
}

#[test]
fn a_database_is_dropped_when_the_test_panics_with_a_connection_open() {
    let (Some(database), Some(other)) = (postgres(), postgres()) else { return };
    let (name, url) = (database.name().to_owned(), database.url());
    assert_ne!(name, other.name());
    assert!(database_exists(&other, &name));
    // A client that would keep a plain DROP DATABASE from working.
    let sleeper = std::thread::spawn(move || execute(&url, "SELECT pg_sleep(20)"));
    let waits = "SELECT 1 / (SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(20)' \
                 AND datname = current_database())";
    let begun = Instant::now();
    while execute(&database.url(), waits).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the sleeper is not there");
    }
    let outcome = catch_unwind(AssertUnwindSafe(move || {
        database.execute("CREATE TABLE t (n int)");
        panic!("as a test does");
    }));
    assert_eq!(outcome.unwrap_err().downcast_ref::<&str>(), Some(&"as a test does"));
    assert!(!database_exists(&other, &name));
    assert!(sleeper.join().unwrap().is_err(), "its connection was closed");
}

#[test]
fn keys_are_removed_and_those_of_others_stay() {
    let (Some(space), Some(other)) = (redis(), redis()) else { return };
    let mut client = other.client();
    let prefix = space.prefix().to_owned();
    for n in 0..2500 {
        client.command(&["SET", &format!("{prefix}{n}"), "x", "EX", "60"]).unwrap();
    }
    let kept = format!("{}kept", other.prefix());
    client.command(&["SET", &kept, "x", "EX", "60"]).unwrap();
    drop(space);
    let left = client.command(&["KEYS", &format!("{prefix}*")]).unwrap();
    assert_eq!(left, Reply::Array(Vec::new()));
    assert_eq!(client.command(&["GET", &kept]).unwrap(), Reply::Bulk(b"x".to_vec()));
}

#[test]
fn a_virtual_host_is_removed() {
    let (Some(vhost), Some(other)) = (rabbitmq(), rabbitmq()) else { return };
    assert_ne!(vhost.name("q"), other.name("q"));
    if !vhost.is_own() {
        return;
    }
    let names = || rabbit::ctl(&["list_vhosts", "name"]).unwrap();
    let name = vhost.url().rsplit_once('/').unwrap().1.to_owned();
    assert!(vhost.name("q").starts_with(&name));
    assert!(names().lines().any(|line| line == name));
    drop(vhost);
    assert!(!names().lines().any(|line| line == name));
    assert!(names().lines().any(|line| other.url().ends_with(line)), "that of another test stays");
}

#[test]
fn a_service_that_is_not_there_is_skipped_or_fails() {
    let address = nowhere();
    let redis_at = |required| redis::redis_at(&format!("redis://{address}"), required).is_none();
    let postgres_at = |required| postgres_at(&format!("postgres://u@{address}/d"), required).is_none();
    let rabbitmq_at = |required| rabbit::rabbitmq_at(&format!("amqp://{address}"), required).is_none();
    let cases: [(&str, &dyn Fn(bool) -> bool); 3] =
        [("Redis", &redis_at), ("PostgreSQL", &postgres_at), ("RabbitMQ", &rabbitmq_at)];
    for (service, at) in cases {
        assert!(at(false), "{service} is skipped");
        let failure = catch_unwind(AssertUnwindSafe(|| at(true))).unwrap_err();
        let said = failure.downcast_ref::<String>().unwrap();
        assert!(said.starts_with(&format!("skipped: no {service} at {address};")), "{said}");
    }
}
