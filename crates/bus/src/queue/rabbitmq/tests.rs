//! Against the RabbitMQ of the machine, each test in a virtual host of its own.

use std::collections::BTreeSet;

use super::*;
use crate::queue::MemoryQueue;
use crate::rabbitmq::tests::{Vhost, ctl};
use crate::settings::RabbitmqSettings;
use crate::testing::until;

const LEASE: Duration = Duration::from_secs(60);
const WAIT: Duration = Duration::from_secs(10);

struct Server {
    vhost: Vhost,
    ledger: Arc<MemoryQueue>,
}

impl Server {
    fn start() -> Option<Self> {
        Some(Server { vhost: Vhost::make()?, ledger: Arc::default() })
    }

    fn queue(&self, change: impl FnOnce(&mut RabbitmqSettings)) -> RabbitmqQueue {
        let mut settings = self.vhost.settings();
        change(&mut settings);
        RabbitmqQueue::new(self.vhost.open(&settings), Arc::clone(&self.ledger) as Arc<dyn Ledger>, "")
    }
}

fn bodies(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| String::from_utf8_lossy(&delivery.body).into_owned()).collect()
}

/// Takes so many, as they come.
async fn take(queue: &RabbitmqQueue, name: &str, count: usize) -> Vec<Delivery> {
    let began = Instant::now();
    let mut taken = Vec::new();
    while taken.len() < count {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{count} should come, there were {:?}",
            bodies(&taken)
        );
        taken.extend(queue.pull(name, count - taken.len(), LEASE, Duration::from_secs(1)).await.unwrap());
    }
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_c05_the_queue_conforms_on_rabbitmq() {
    let Some(server) = Server::start() else { return };
    let queue = server.queue(|_| {});
    crate::conformance::queue(&queue, "run").await.unwrap();
    let kinds = ctl(&["list_queues", "-p", server.vhost.name(), "type", "durable"]);
    assert!(kinds.lines().count() > 10 && kinds.lines().all(|line| line == "quorum\ttrue"), "{kinds}");
    queue.close().await;
}

/// PREFETCHCOUNT. Mutation tried: `basic_qos` with 0.
#[tokio::test(flavor = "multi_thread")]
async fn promise_c05_prefetch_count_is_how_many_are_sent_ahead() {
    let Some(server) = Server::start() else { return };
    let queue = server.queue(|settings| settings.prefetch_count = 3);
    let messages: Vec<_> = (0..20).map(|n| Message::new(n.to_string())).collect();
    queue.push("q", &messages).await.unwrap();
    assert_eq!(take(&queue, "q", 1).await.len(), 1);
    let unacknowledged =
        || ctl(&["list_queues", "-p", server.vhost.name(), "name", "messages_unacknowledged"]);
    until("three are sent ahead", || async { unacknowledged().contains("q\t3") }).await;
    assert!(
        !ctl(&["list_consumers", "-p", server.vhost.name(), "prefetch_count"])
            .lines()
            .any(|line| line != "3")
    );
}

/// CONCURRENTMESSAGELIMIT. Mutation tried: `room` without the limit.
#[tokio::test(flavor = "multi_thread")]
async fn promise_c05_concurrent_message_limit_is_how_many_are_worked_on() {
    let Some(server) = Server::start() else { return };
    let queue = server.queue(|settings| settings.concurrent_message_limit = 4);
    let messages: Vec<_> = (0..10).map(|n| Message::new(n.to_string())).collect();
    queue.push("q", &messages).await.unwrap();
    let first = take(&queue, "q", 4).await;
    assert!(queue.pull("q", 10, LEASE, Duration::from_millis(300)).await.unwrap().is_empty(), "four are out");
    queue.ack(&first[0]).await.unwrap();
    assert_eq!(queue.pull("q", 10, LEASE, WAIT).await.unwrap().len(), 1, "one is done, so one more");
    // One that waits for its time leaves room too.
    queue.nack(&first[1], Retry::After(LEASE), "later").await.unwrap();
    assert_eq!(queue.pull("q", 10, LEASE, WAIT).await.unwrap().len(), 1);
}

/// PARTITIONCOUNT. Mutation tried: `hash % 30` whatever the setting.
#[tokio::test(flavor = "multi_thread")]
async fn promise_c05_partition_count_is_how_many_go_side_by_side() {
    let Some(server) = Server::start() else { return };
    let message = |n: usize| Message::new(format!("{n}")).in_order(format!("key-{n}"));
    let messages: Vec<_> = (0..12).map(message).collect();
    let one = server.queue(|settings| settings.partition_count = 1);
    one.push("one", &messages).await.unwrap();
    let first = take(&one, "one", 1).await;
    assert!(
        one.pull("one", 10, LEASE, Duration::from_millis(500)).await.unwrap().is_empty(),
        "one at a time"
    );
    one.ack(&first[0]).await.unwrap();
    assert_eq!(bodies(&take(&one, "one", 1).await), ["1"], "in the order of all");

    let many = server.queue(|settings| settings.partition_count = 5);
    many.push("many", &messages).await.unwrap();
    let at_once = take(&many, "many", 4).await;
    assert!(at_once.len() >= 4, "keys go side by side");
    let names = ctl(&["list_queues", "-p", server.vhost.name(), "name"]);
    let count =
        |name: &str| names.lines().filter(|line| line.starts_with(&format!("{name}.partition-"))).count();
    assert_eq!((count("one"), count("many")), (1, 5));

    // Fewer than before: what lies in the others is not forgotten.
    drop(many);
    let fewer = server.queue(|settings| settings.partition_count = 2);
    let mut seen = BTreeSet::new();
    while seen.len() < messages.len() {
        for delivery in take(&fewer, "many", 1).await {
            fewer.ack(&delivery).await.unwrap();
            seen.insert(bodies(&[delivery])[0].clone());
        }
    }
}

/// PUBLISHERCONFIRMATION. Mutation tried: `confirm_select` never called.
#[tokio::test(flavor = "multi_thread")]
async fn promise_c05_publisher_confirmation_makes_a_full_queue_an_error() {
    let Some(server) = Server::start() else { return };
    let policy = r#"{"max-length":1,"overflow":"reject-publish"}"#;
    ctl(&["set_policy", "-p", server.vhost.name(), "full", "^full$", policy, "--apply-to", "queues"]);
    for (confirmation, refused) in [(true, true), (false, false)] {
        let queue = server.queue(|settings| settings.publisher_confirmation = confirmation);
        let mut errors = 0;
        for n in 0..20 {
            errors += usize::from(queue.push("full", &[Message::new(n.to_string())]).await.is_err());
        }
        assert_eq!(
            errors > 0,
            refused,
            "with publisher_confirmation: {confirmation} there were {errors} errors"
        );
        assert_eq!(queue.warnings().await.is_empty(), confirmation);
    }
}

/// The server ends the connection; what was out comes again, everything goes on, nobody restarts.
#[tokio::test(flavor = "multi_thread")]
async fn promise_c05_a_closed_connection_loses_nothing() {
    let Some(server) = Server::start() else { return };
    let queue = server.queue(|_| {});
    queue.push("q", &["a", "b", "c"].map(Message::new)).await.unwrap();
    queue.push("q", &["p1", "p2"].map(|body| Message::new(body).in_order("p"))).await.unwrap();
    let out = take(&queue, "q", 4).await;
    ctl(&["close_all_connections", "-p", server.vhost.name(), "test"]);
    until("the leases are known to be lost", || async { queue.ack(&out[0]).await.is_err() }).await;
    let mut seen = BTreeSet::new();
    while seen.len() < 5 {
        for delivery in take(&queue, "q", 1).await {
            let body = bodies(std::slice::from_ref(&delivery)).remove(0);
            assert!(body == "p2" || delivery.attempt >= 2, "{body} is at attempt {}", delivery.attempt);
            queue.ack(&delivery).await.unwrap();
            seen.insert(body);
        }
    }
    let push = || async { queue.push("q", &[Message::new("again")]).await.is_ok() };
    until("it publishes again", push).await;
    assert_eq!(bodies(&take(&queue, "q", 1).await), ["again"]);
    queue.ping().await.unwrap();
}

/// Two replicas and one key: the second gets nothing of it while the first has some, and takes over when it goes.
#[tokio::test(flavor = "multi_thread")]
async fn order_holds_across_replicas() {
    let Some(server) = Server::start() else { return };
    let first = server.queue(|_| {});
    first.push("q", &["1", "2", "3"].map(|body| Message::new(body).in_order("key"))).await.unwrap();
    let out = take(&first, "q", 1).await;
    let second = server.queue(|_| {});
    assert!(second.pull("q", 10, LEASE, Duration::from_secs(1)).await.unwrap().is_empty());
    // The time of a failure holds also for who takes over.
    let began = Instant::now();
    first.nack(&out[0], Retry::After(Duration::from_secs(2)), "later").await.unwrap();
    first.close().await;
    let again = take(&second, "q", 1).await.remove(0);
    assert_eq!((&again.body[..], again.reason.as_deref()), (&b"1"[..], Some("later")));
    assert!(again.attempt >= 2 && began.elapsed() >= Duration::from_millis(1_950), "{again:?}");
    second.ack(&again).await.unwrap();
    assert_eq!(bodies(&take(&second, "q", 1).await), ["2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_depth_of_queues_is_a_metric() {
    let Some(vhost) = Vhost::make() else { return };
    let (registry, metrics) = crate::testing::metrics();
    let rabbitmq = Rabbitmq::open(&"rabbitmq".into(), &vhost.settings(), &metrics).unwrap();
    let queue = RabbitmqQueue::new(rabbitmq, Arc::new(MemoryQueue::default()), "p.");
    queue.push("q", &["a", "b"].map(Message::new)).await.unwrap();
    assert_eq!(queue.depth("q").await.unwrap().waiting, 2);
    let text = registry.render();
    assert!(text.contains("rabbitmq_queue_messages{queue=\"p.q\"} 2"), "{text}");
}
