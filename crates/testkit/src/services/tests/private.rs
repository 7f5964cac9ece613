//! Private servers keep their port and their data over a stop and a kill, and end with the test.

use super::*;

/// Statements that fail unless the table has `n` rows.
fn rows(postgres: &PrivatePostgres, n: usize) {
    postgres.execute(&format!("SELECT 1 / (CASE WHEN count(*) = {n} THEN 1 ELSE 0 END) FROM t"));
}

#[test]
fn a_private_redis_keeps_what_it_answered() {
    let Some(redis) = PrivateRedis::start() else { return };
    let address = redis.address();
    let mut client = redis.client();
    client.command(&["SET", "a", "1"]).unwrap();
    let first = redis.id().unwrap();
    redis.kill();
    assert!(!alive(first));
    assert!(client.command(&["PING"]).is_err());
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    redis.start_again();
    assert_eq!(redis.address(), address);
    let mut client = redis.client();
    assert_eq!(client.command(&["GET", "a"]).unwrap(), Reply::Bulk(b"1".to_vec()));
    client.command(&["SET", "b", "2"]).unwrap();
    redis.stop();
    assert!(TcpStream::connect(address).is_err());
    redis.start_again();
    assert_eq!(redis.client().command(&["GET", "b"]).unwrap(), Reply::Bulk(b"2".to_vec()));
    assert!(redis.log().contains("SIGTERM"), "it was asked to stop: {}", redis.log());
}

#[test]
fn a_private_redis_takes_configuration() {
    let Some(redis) = PrivateRedis::start_with(&["maxmemory 3mb", "maxmemory-policy noeviction"]) else {
        return;
    };
    let mut client = redis.client();
    assert_eq!(client.command(&["CONFIG", "GET", "maxmemory"]).unwrap().texts(), ["maxmemory", "3145728"]);
    assert_eq!(client.command(&["CONFIG", "GET", "appendonly"]).unwrap().texts(), ["appendonly", "no"]);
}

#[test]
fn a_private_postgres_keeps_what_it_committed() {
    let begun = Instant::now();
    let Some(postgres) = PrivatePostgres::start() else { return };
    let (took, url) = (begun.elapsed(), postgres.url());
    eprintln!("ready after {took:?}");
    postgres.execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)");
    rows(&postgres, 1);
    let first = postgres.id().unwrap();
    let sleep = |url: String| std::thread::spawn(move || execute(&url, "SELECT pg_sleep(60)"));
    let asleep = "SELECT 1 / (SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)')";
    let wait = |postgres: &PrivatePostgres| {
        while execute(&postgres.url(), asleep).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the sleeper is not there");
        }
    };
    let sleeper = sleep(url.clone());
    wait(&postgres);
    postgres.kill();
    assert!(!alive(first));
    assert!(sleeper.join().unwrap().is_err(), "the connections end with it");
    postgres.start_again();
    assert_eq!(postgres.url(), url);
    rows(&postgres, 1);
    postgres.execute("INSERT INTO t VALUES (2)");
    let sleeper = sleep(url);
    wait(&postgres);
    postgres.stop();
    assert!(sleeper.join().unwrap().is_err(), "an orderly stop does not wait for clients");
    assert!(TcpStream::connect(postgres.address()).is_err());
    postgres.start_again();
    rows(&postgres, 2);
}

#[test]
fn a_private_rabbit_keeps_its_virtual_hosts() {
    let Some(rabbit) = PrivateRabbit::start() else { return };
    let address = rabbit.address();
    rabbit.ctl(&["add_vhost", "kept"]);
    let [node, register] = rabbit.ids().map(Option::unwrap);
    rabbit.kill();
    assert!(!alive(node));
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    rabbit.start_again();
    assert!(rabbit.ctl(&["list_vhosts"]).contains("kept"));
    rabbit.stop();
    assert!(TcpStream::connect(address).is_err());
    rabbit.start_again();
    assert_eq!(rabbit.address(), address);
    let [node, _] = rabbit.ids().map(Option::unwrap);
    drop(rabbit);
    assert!(!alive(node) && !alive(register));
}

#[test]
fn a_private_server_ends_when_the_test_panics() {
    let mut id = None;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let Some(redis) = PrivateRedis::start() else { return };
        id = redis.id();
        panic!("as a test does");
    }));
    let Some(id) = id else { return };
    assert!(outcome.is_err() && !alive(id));
}

/// A shell that starts a process of its own and waits for it.
fn shell(folder: &std::path::Path, script: &str) -> Recipe {
    Recipe {
        name: "a shell".to_owned(),
        program: PathBuf::from("/bin/sh"),
        args: vec!["-c".into(), script.into()],
        env: Vec::new(),
        user: None,
        log: folder.join("log"),
        stop_signal: "TERM",
    }
}

#[test]
fn a_kill_takes_what_the_server_has_started() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(shell(folder.path(), "sleep 600 & echo $!; wait"));
    process.wait_until(Duration::from_secs(10), || match process.log().ends_with('\n') {
        true => Ok(()),
        false => Err("it has said nothing".to_owned()),
    });
    let below: u32 = process.log().trim().parse().unwrap();
    assert!(alive(below));
    process.kill();
    assert!(!alive(below) && !process.runs());
}

#[test]
fn a_server_that_ends_at_once_fails_with_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(shell(folder.path(), "echo out of luck; exit 1"));
    let wait = || process.wait_until(Duration::from_secs(60), || Err("never".to_owned()));
    let failure = catch_unwind(AssertUnwindSafe(wait)).unwrap_err();
    let said = failure.downcast_ref::<String>().unwrap();
    assert!(said.contains("a shell has ended") && said.contains("out of luck"), "{said}");
}
