//! Against the Redis of the machine, and a private one that is stopped under use.

use std::collections::BTreeSet;
use std::process::Command;

use super::*;
use crate::queue::MemoryQueue;
use crate::settings::RedisSettings;
use crate::testing::{PrivateRedis, REDIS_URL, redis, there_is, unique};

const LEASE: Duration = Duration::from_secs(60);

async fn queue(url: &str, ledger: &Arc<MemoryQueue>) -> RedisQueue {
    let redis = redis(url, RedisSettings::default()).await;
    RedisQueue::new(redis, Arc::clone(ledger) as Arc<dyn Ledger>, "")
}

fn cli(port: u16, arguments: &[&str]) -> String {
    let out = Command::new("redis-cli").args(["-p", &port.to_string()]).args(arguments).output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// The keys at the server whose names hold this.
fn keys(port: u16, name: &str) -> String {
    cli(port, &["KEYS", &format!("*{name}*")])
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    if !there_is("Redis", 6379) {
        return;
    }
    let ledger = Arc::new(MemoryQueue::default());
    let name = unique("queue");
    crate::conformance::queue(&queue(REDIS_URL, &ledger).await, &name).await.unwrap();
    assert_eq!(keys(6379, &name), "", "nothing is left behind");
}

/// V05, V06: what `redis-cli` sees, and what other programs may do. Mutation: items with a line of ours always.
#[tokio::test(flavor = "multi_thread")]
async fn redis_cli_sees_what_waits() {
    let server = PrivateRedis::start(&[]);
    let ledger = Arc::new(MemoryQueue::default());
    let queue = queue(&server.url(), &ledger).await;
    let name = "incoming_calls";
    queue.push(name, &["one", "two"].map(Message::new)).await.unwrap();
    cli(server.port, &["RPUSH", name, "three"]);
    cli(server.port, &["LPUSH", name, "zero"]);
    assert_eq!(cli(server.port, &["LLEN", name]), "4");
    assert_eq!(cli(server.port, &["LRANGE", name, "0", "10"]), "zero\none\ntwo\nthree");
    assert_eq!(queue.depth(name).await.unwrap().waiting, 4);
    let taken = queue.pull(name, 10, LEASE, Duration::ZERO).await.unwrap();
    let bodies: Vec<_> = taken.iter().map(|delivery| &delivery.body[..]).collect();
    assert_eq!(bodies, [&b"zero"[..], b"one", b"two", b"three"]);
    assert_eq!(cli(server.port, &["LLEN", name]), "0");

    // Released work is in the list again.
    queue.nack(&taken[0], Retry::Release, "").await.unwrap();
    assert_eq!(cli(server.port, &["LRANGE", name, "0", "10"]), "zero");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_names_show_the_dead_letters() {
    let server = PrivateRedis::start(&[]);
    let ledger = Arc::new(MemoryQueue::default());
    let queue = queue(&server.url(), &ledger).await;
    let name = "incoming_calls";
    let shown = || {
        ["incoming_calls:dlq", "DLQ:incoming_calls"]
            .map(|list| cli(server.port, &["LRANGE", list, "0", "10"]))
    };
    queue.push(name, &["a", "b", "c"].map(Message::new)).await.unwrap();
    for delivery in queue.pull(name, 10, LEASE, Duration::ZERO).await.unwrap() {
        // One of them by way of the Store.
        if &delivery.body[..] == b"c" {
            queue.nack(&delivery, Retry::After(Duration::ZERO), "once more").await.unwrap();
            let again = queue.pull(name, 1, LEASE, Duration::from_secs(5)).await.unwrap().remove(0);
            assert_eq!(again.attempt, 2);
            queue.nack(&again, Retry::Never, "no").await.unwrap();
        } else {
            queue.nack(&delivery, Retry::Never, "no").await.unwrap();
        }
    }
    assert_eq!(shown(), ["a\nb\nc"; 2]);
    assert_eq!(queue.replay(name, &Which::Oldest(2)).await.unwrap(), 2);
    assert_eq!(shown(), ["c"; 2]);
    assert_eq!(cli(server.port, &["LRANGE", name, "0", "10"]), "a\nb", "what is replayed is in the list");
    assert_eq!(queue.purge_dead(name, &Which::All).await.unwrap(), 1);
    assert_eq!(shown(), [""; 2]);
}

/// A consumer that is gone: everything it had comes back. What it waited for at the server is not lost either.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_consumer_had_comes_back() {
    let server = PrivateRedis::start(&[]);
    let ledger = Arc::new(MemoryQueue::default());
    let name = "q";
    let gone = queue(&server.url(), &ledger).await;
    gone.push(name, &["a", "b"].map(Message::new)).await.unwrap();
    gone.push(name, &["p1", "p2"].map(|body| Message::new(body).in_order("p"))).await.unwrap();
    let had = gone.pull(name, 10, Duration::from_millis(300), Duration::ZERO).await.unwrap();
    assert_eq!(had.len(), 3);
    // It was cut off while it waited at the server: the item is on the way.
    cli(server.port, &["RPUSH", "{q}:incoming", "on the way"]);
    drop(gone);
    let queue = queue(&server.url(), &ledger).await;
    let mut came = Vec::new();
    while came.len() < 4 {
        let more = queue.pull(name, 10, LEASE, Duration::from_secs(5)).await.unwrap();
        assert!(!more.is_empty(), "only {came:?} came");
        came.extend(more);
    }
    let shown: BTreeSet<_> =
        came.iter().map(|d| (String::from_utf8_lossy(&d.body).into_owned(), d.attempt)).collect();
    let expected = [("a", 2), ("b", 2), ("p1", 2), ("on the way", 1)].map(|(body, n)| (body.to_owned(), n));
    assert_eq!(shown, BTreeSet::from(expected));
    for delivery in &came {
        queue.ack(delivery).await.unwrap();
    }
    let last = queue.pull(name, 10, LEASE, Duration::ZERO).await.unwrap();
    assert_eq!(&last[0].body[..], b"p2");
    queue.ack(&last[0]).await.unwrap();
    assert_eq!(keys(server.port, "q"), "");
}

/// The Store has it and the process died before Redis heard: it must not be served twice as two messages, nor
/// come back from the dead.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_store_and_redis_loses_and_doubles_nothing_for_good() {
    let server = PrivateRedis::start(&[]);
    let ledger = Arc::new(MemoryQueue::default());
    let queue = queue(&server.url(), &ledger).await;
    queue.push("q", &[Message::new("x")]).await.unwrap();
    let delivery = queue.pull("q", 1, Duration::from_millis(50), Duration::ZERO).await.unwrap().remove(0);
    let letter = DeadLetter {
        id: delivery.id.clone(),
        body: delivery.body.clone(),
        partition: None,
        attempts: 1,
        reason: "died".into(),
        enqueued_at: None,
        died_at: 1,
    };
    ledger.bury("q", &letter).await.unwrap();
    let came = queue.pull("q", 1, LEASE, Duration::from_millis(500)).await.unwrap();
    assert!(came.is_empty(), "it is dead: {came:?}");
    assert_eq!(queue.depth("q").await.unwrap(), Depth { dead: 1, ..Depth::default() });
}

/// Stopped and started under use, the server has lost nothing, and nobody has to be restarted. Mutation:
/// `appendonly no` in the private server makes it fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_stopped_under_use_loses_nothing() {
    const COUNT: usize = 300;
    let mut server = PrivateRedis::start(&[]);
    let ledger = Arc::new(MemoryQueue::default());
    let queue = Arc::new(queue(&server.url(), &ledger).await);
    let pusher = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move {
            for n in 0..COUNT {
                // What was refused may be there all the same: at least once.
                while queue.push("q", &[Message::new(n.to_string())]).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    });
    let puller = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move {
            let mut done = BTreeSet::new();
            while done.len() < COUNT {
                match queue.pull("q", 10, Duration::from_secs(2), Duration::from_millis(500)).await {
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    Ok(deliveries) => {
                        for delivery in deliveries {
                            done.insert(String::from_utf8(delivery.body.to_vec()).unwrap());
                            // Refused, it may be done all the same, or come again: at least once.
                            drop(queue.ack(&delivery).await);
                        }
                    }
                }
            }
        }
    });
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        server.stop();
        tokio::time::sleep(Duration::from_millis(150)).await;
        server.resume();
    }
    pusher.await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), puller)
        .await
        .expect("everything that was pushed comes")
        .unwrap();
}
