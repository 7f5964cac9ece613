//! On both engines.

use std::collections::BTreeSet;

use base::seams::{Message, Queue as _};

use super::*;
use crate::testing::{on_each_engine, replica};

const LEASE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    on_each_engine(|db| async move {
        let queue = StoreQueue::new(db);
        bus::conformance::queue(&queue, "run").await.unwrap();
        bus::conformance::ledger(&queue, "run").await.unwrap();
    })
    .await;
}

/// Mutation tried: the claim without `FOR UPDATE SKIP LOCKED` hands messages out twice on PostgreSQL.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_a_queue_and_none_gets_what_another_has() {
    on_each_engine(|db| async move {
        const COUNT: usize = 400;
        let first = StoreQueue::new(db.clone());
        let messages: Vec<_> = (0..COUNT).map(|n| Message::new(n.to_string())).collect();
        first.push("q", &messages).await.unwrap();
        let mut workers = Vec::new();
        for _ in 0..4 {
            let queue = StoreQueue::new(replica(&db).await);
            workers.push(tokio::spawn(async move {
                let mut done = Vec::new();
                loop {
                    let taken = queue.pull("q", 5, LEASE, Duration::ZERO).await.unwrap();
                    if taken.is_empty() {
                        queue.db.close().await;
                        return done;
                    }
                    for delivery in &taken {
                        queue.ack(delivery).await.unwrap();
                        done.push(delivery.body.clone());
                    }
                }
            }));
        }
        let mut all = Vec::new();
        for worker in workers {
            all.extend(worker.await.unwrap());
        }
        // A worker may have found the rest locked by others and left; nothing is out and nothing is lost.
        let left = first.depth("q").await.unwrap();
        assert_eq!(all.len() as u64 + left.waiting, COUNT as u64);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "each is handed out once");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_dead_letters_move_in_lots() {
    on_each_engine(|db| async move {
        let queue = StoreQueue::new(db);
        let letter = |n: usize| DeadLetter {
            id: format!("m{n}"),
            body: n.to_string().into(),
            partition: None,
            attempts: 1,
            reason: "no".into(),
            enqueued_at: None,
            died_at: 1,
        };
        for n in 0..130 {
            queue.bury("q", &letter(n)).await.unwrap();
        }
        assert_eq!(queue.replay("q", &Which::Oldest(60)).await.unwrap(), 60);
        let ids: Vec<String> = (60..130).map(|n| format!("m{n}")).collect();
        assert_eq!(queue.replay("q", &Which::Ids(ids)).await.unwrap(), 70);
        let taken = queue.pull("q", 200, LEASE, Duration::ZERO).await.unwrap();
        let expected: Vec<String> = (0..130).map(|n| n.to_string()).collect();
        let bodies: Vec<_> =
            taken.iter().map(|delivery| String::from_utf8_lossy(&delivery.body).into_owned()).collect();
        assert_eq!(bodies, expected, "in their order");
        assert_eq!(queue.replay("q", &Which::All).await.unwrap(), 0);
    })
    .await;
}

/// The queue of a broker with its delays, failures and dead letters here.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_on_redis_conforms_with_this_as_its_ledger() {
    if std::net::TcpStream::connect(("127.0.0.1", 6379)).is_err() {
        assert!(
            std::env::var("TRUNKLINE_REQUIRE_SERVICES").as_deref() != Ok("1"),
            "no Redis at 127.0.0.1:6379"
        );
        println!("skipped: no Redis at 127.0.0.1:6379");
        return;
    }
    on_each_engine(|db| async move {
        let metrics = bus::BusMetrics::new(&telemetry::Metrics::new().unwrap()).unwrap();
        let redis =
            bus::Redis::open(&"redis://127.0.0.1:6379".into(), &Default::default(), &metrics).await.unwrap();
        let queue = bus::queue::RedisQueue::new(redis, std::sync::Arc::new(StoreQueue::new(db)), "");
        let name = format!("test-store-{:012x}", fastrand::u64(..1 << 48));
        bus::conformance::queue(&queue, &name).await.unwrap();
    })
    .await;
}
