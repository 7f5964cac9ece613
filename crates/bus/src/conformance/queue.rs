//! What every queue does.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use base::seams::{Delivery, Depth, MAX_MESSAGE, Message, Queue, Retry, SeamError, Which};
use futures_util::future::{join_all, try_join_all};

/// Long enough for a lease never to end within a test.
const LEASE: Duration = Duration::from_secs(60);
/// How long what must come is waited for.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long it is watched that something does not come.
const WATCH: Duration = Duration::from_millis(250);

type Result<T = ()> = std::result::Result<T, SeamError>;

/// Runs all of it, in queues whose names begin with `name`; they are empty afterwards.
pub async fn queue(queue: &dyn Queue, name: &str) -> Result {
    queue.ping().await?;
    let named = |what: &str| format!("{name}.{what}");
    order(queue, &named("order")).await?;
    attempts(queue, &named("attempts")).await?;
    delays(queue, &named("delays")).await?;
    dead_letters(queue, &named("dead")).await?;
    replays(queue, &named("replay")).await?;
    leases(queue, &named("leases")).await?;
    release(queue, &named("release")).await?;
    partitions(queue, &named("partitions")).await?;
    partitions_and_failures(queue, &named("failures")).await?;
    many_at_once(queue, &named("many")).await?;
    bodies(queue, &named("bodies")).await?;
    purge(queue, &named("purge")).await
}

/// Takes exactly `count`, as they come.
async fn take(queue: &dyn Queue, name: &str, count: usize, lease: Duration) -> Result<Vec<Delivery>> {
    let began = Instant::now();
    let mut taken = Vec::new();
    while taken.len() < count {
        assert!(began.elapsed() < PATIENCE, "{name}: {count} should come, there were {}", taken.len());
        taken.extend(queue.pull(name, count - taken.len(), lease, Duration::from_secs(1)).await?);
    }
    assert_eq!(taken.len(), count, "{name}: more came than asked for");
    Ok(taken)
}

async fn take_one(queue: &dyn Queue, name: &str, lease: Duration) -> Result<Delivery> {
    Ok(take(queue, name, 1, lease).await?.remove(0))
}

/// Takes one, which must be this.
async fn take_this(queue: &dyn Queue, name: &str, body: &str) -> Result<Delivery> {
    let delivery = take_one(queue, name, LEASE).await?;
    assert_eq!(String::from_utf8_lossy(&delivery.body), body, "{name}");
    Ok(delivery)
}

async fn nothing(queue: &dyn Queue, name: &str, why: &str) -> Result {
    let came = queue.pull(name, 10, LEASE, WATCH).await?;
    assert!(came.is_empty(), "{name}: {why}, but there came {came:?}");
    Ok(())
}

async fn empty(queue: &dyn Queue, name: &str) -> Result {
    let depth = queue.depth(name).await?;
    assert_eq!(depth, Depth::default(), "{name} must be empty");
    Ok(())
}

fn bodies_of(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| String::from_utf8_lossy(&delivery.body).into_owned()).collect()
}

async fn order(queue: &dyn Queue, name: &str) -> Result {
    nothing(queue, name, "a new queue is empty").await?;
    empty(queue, name).await?;
    queue.push(name, &["a", "b", "c"].map(Message::new)).await?;
    assert_eq!(queue.depth(name).await?.waiting, 3);
    let first = take(queue, name, 2, LEASE).await?;
    assert_eq!(bodies_of(&first), ["a", "b"], "the oldest come first");
    assert_eq!(queue.depth(name).await?, Depth { waiting: 1, leased: 2, ..Depth::default() });
    let last = take_one(queue, name, LEASE).await?;
    assert_eq!((&last.body[..], last.attempt, last.reason.as_deref()), (&b"c"[..], 1, None));
    nothing(queue, name, "all are taken").await?;
    for delivery in first.iter().chain([&last]) {
        queue.ack(delivery).await?;
    }
    empty(queue, name).await?;
    assert!(matches!(queue.ack(&last).await, Err(SeamError::LeaseLost { .. })), "it is done already");

    // Who waits is served when something comes.
    let began = Instant::now();
    let (pulled, pushed) = tokio::join!(queue.pull(name, 1, LEASE, PATIENCE), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        queue.push(name, &[Message::new("late")]).await
    });
    pushed?;
    let pulled = pulled?;
    assert_eq!(bodies_of(&pulled), ["late"]);
    assert!(began.elapsed() < Duration::from_secs(3), "it waited on, for {:?}", began.elapsed());
    queue.ack(&pulled[0]).await?;
    empty(queue, name).await
}

async fn attempts(queue: &dyn Queue, name: &str) -> Result {
    queue.push(name, &[Message::new("x")]).await?;
    let mut ids = BTreeSet::new();
    for attempt in 1..=4 {
        let delivery = take_one(queue, name, LEASE).await?;
        assert_eq!(delivery.attempt, attempt);
        let reason = (attempt > 1).then(|| format!("failed {}", attempt - 1));
        assert_eq!(delivery.reason, reason);
        assert_eq!(&delivery.body[..], b"x");
        ids.insert(delivery.id.clone());
        if attempt == 4 {
            queue.ack(&delivery).await?;
        } else {
            queue.nack(&delivery, Retry::After(Duration::ZERO), &format!("failed {attempt}")).await?;
        }
    }
    assert_eq!(ids.len(), 1, "a message keeps its name: {ids:?}");
    empty(queue, name).await
}

async fn delays(queue: &dyn Queue, name: &str) -> Result {
    let delay = Duration::from_millis(700);
    let began = Instant::now();
    queue.push(name, &[Message::new("later").after(delay)]).await?;
    assert_eq!(queue.depth(name).await?, Depth { delayed: 1, ..Depth::default() });
    nothing(queue, name, "its time has not come").await?;
    let delivery = take_one(queue, name, LEASE).await?;
    assert!(began.elapsed() >= delay - Duration::from_millis(10), "it came after {:?}", began.elapsed());
    assert_eq!((delivery.attempt, delivery.reason.as_deref()), (1, None));

    let began = Instant::now();
    queue.nack(&delivery, Retry::After(delay), "not now").await?;
    nothing(queue, name, "its time has not come").await?;
    let delivery = take_one(queue, name, LEASE).await?;
    assert!(began.elapsed() >= delay - Duration::from_millis(10), "it came after {:?}", began.elapsed());
    assert_eq!((delivery.attempt, delivery.reason.as_deref()), (2, Some("not now")));
    queue.ack(&delivery).await?;
    empty(queue, name).await
}

async fn dead_letters(queue: &dyn Queue, name: &str) -> Result {
    queue.push(name, &["a", "b", "c", "d"].map(Message::new)).await?;
    for delivery in take(queue, name, 4, LEASE).await? {
        let reason = format!("no use: {}", bodies_of(std::slice::from_ref(&delivery))[0]);
        queue.nack(&delivery, Retry::Never, &reason).await?;
    }
    nothing(queue, name, "all are dead").await?;
    assert_eq!(queue.depth(name).await?, Depth { dead: 4, ..Depth::default() });
    let dead = queue.dead(name, 0, 10).await?;
    let shown: Vec<_> =
        dead.iter().map(|letter| (&letter.body[..], letter.reason.as_str(), letter.attempts)).collect();
    let expected =
        [(b"a", "no use: a", 1), (b"b", "no use: b", 1), (b"c", "no use: c", 1), (b"d", "no use: d", 1)];
    assert_eq!(shown, expected.map(|(body, reason, attempts)| (&body[..], reason, attempts)));
    assert!(dead.iter().all(|letter| letter.died_at > 1_700_000_000_000), "{dead:?}");
    assert_eq!(queue.dead(name, 1, 2).await?, dead[1..3], "it can be read by pages");

    assert_eq!(queue.purge_dead(name, &Which::Ids(vec![dead[0].id.clone(), "no such".into()])).await?, 1);
    assert_eq!(queue.purge_dead(name, &Which::Oldest(1)).await?, 1);
    assert_eq!(queue.dead(name, 0, 10).await?, dead[2..], "the oldest went");
    assert_eq!(queue.purge_dead(name, &Which::All).await?, 2);
    empty(queue, name).await
}

/// One, then the oldest, then all.
async fn replays(queue: &dyn Queue, name: &str) -> Result {
    queue.push(name, &["a", "b", "c", "d"].map(Message::new)).await?;
    for delivery in take(queue, name, 4, LEASE).await? {
        queue.nack(&delivery, Retry::Never, "no use").await?;
    }
    let dead = queue.dead(name, 0, 10).await?;
    assert_eq!(queue.replay(name, &Which::Ids(vec![dead[2].id.clone(), "no such".into()])).await?, 1);
    let delivery = take_this(queue, name, "c").await?;
    assert_eq!((delivery.attempt, delivery.reason.as_deref()), (1, None));
    queue.nack(&delivery, Retry::Never, "again").await?;
    assert_eq!(queue.replay(name, &Which::Oldest(1)).await?, 1);
    let delivery = take_this(queue, name, "a").await?;
    queue.ack(&delivery).await?;
    assert_eq!(queue.depth(name).await?, Depth { dead: 3, ..Depth::default() });
    assert_eq!(queue.replay(name, &Which::All).await?, 3);
    let back = take(queue, name, 3, LEASE).await?;
    assert_eq!(bodies_of(&back).into_iter().collect::<BTreeSet<_>>().len(), 3);
    for delivery in &back {
        queue.ack(delivery).await?;
    }
    empty(queue, name).await
}

async fn leases(queue: &dyn Queue, name: &str) -> Result {
    queue.push(name, &[Message::new("x")]).await?;
    let lease = Duration::from_millis(400);
    let began = Instant::now();
    let first = take_one(queue, name, lease).await?;
    let second = take_one(queue, name, LEASE).await?;
    assert!(
        began.elapsed() >= lease - Duration::from_millis(10),
        "the lease ended after {:?}",
        began.elapsed()
    );
    assert_eq!((second.id.as_str(), second.attempt), (first.id.as_str(), 2));
    assert!(second.reason.as_deref().is_some_and(|reason| reason.contains("lease")), "{:?}", second.reason);
    assert!(matches!(queue.ack(&first).await, Err(SeamError::LeaseLost { .. })), "another has it");
    let late = queue.nack(&first, Retry::Never, "late").await;
    assert!(matches!(late, Err(SeamError::LeaseLost { .. })), "another has it");
    assert!(matches!(queue.extend(&first, LEASE).await, Err(SeamError::LeaseLost { .. })), "another has it");
    queue.ack(&second).await?;
    empty(queue, name).await?;

    queue.push(name, &[Message::new("y")]).await?;
    let lease = Duration::from_secs(1);
    let delivery = take_one(queue, name, lease).await?;
    queue.extend(&delivery, LEASE).await?;
    let came = queue.pull(name, 10, LEASE, lease + WATCH).await?;
    assert!(came.is_empty(), "the lease was extended, but there came {came:?}");
    queue.ack(&delivery).await?;
    empty(queue, name).await
}

async fn release(queue: &dyn Queue, name: &str) -> Result {
    queue.push(name, &[Message::new("x")]).await?;
    let delivery = take_one(queue, name, LEASE).await?;
    queue.nack(&delivery, Retry::Release, "shutting down").await?;
    assert_eq!(queue.depth(name).await?, Depth { waiting: 1, ..Depth::default() });
    let delivery = take_one(queue, name, LEASE).await?;
    assert_eq!((delivery.attempt, delivery.reason.as_deref()), (1, None), "it was not tried");
    queue.nack(&delivery, Retry::After(Duration::ZERO), "failed").await?;
    let delivery = take_one(queue, name, LEASE).await?;
    queue.nack(&delivery, Retry::Release, "shutting down").await?;
    let delivery = take_one(queue, name, LEASE).await?;
    assert_eq!((delivery.attempt, delivery.reason.as_deref()), (2, Some("failed")));
    queue.ack(&delivery).await?;
    empty(queue, name).await
}

fn ordered(body: &'static str) -> Message {
    Message::new(body).in_order(format!("key-{}", &body[..1]))
}

async fn partitions(queue: &dyn Queue, name: &str) -> Result {
    queue.push(name, &["a1", "a2", "b1", "a3", "b2"].map(ordered)).await?;
    let mut first = take(queue, name, 2, LEASE).await?;
    first.sort_by(|x, y| x.body.cmp(&y.body));
    assert_eq!(bodies_of(&first), ["a1", "b1"], "the first of each key");
    assert_eq!(first[0].partition.as_deref(), Some("key-a"));
    nothing(queue, name, "the others wait for the first of their key").await?;
    queue.ack(&first[0]).await?;
    let second = take_this(queue, name, "a2").await?;
    nothing(queue, name, "the others wait").await?;

    // The dead hold nobody up.
    queue.nack(&second, Retry::Never, "no").await?;
    let third = take_this(queue, name, "a3").await?;
    queue.ack(&third).await?;
    queue.ack(&first[1]).await?;
    let fourth = take_this(queue, name, "b2").await?;
    queue.ack(&fourth).await?;
    let dead = queue.dead(name, 0, 10).await?;
    assert_eq!((dead.len(), dead[0].partition.as_deref()), (1, Some("key-a")));
    assert_eq!(queue.replay(name, &Which::All).await?, 1);
    let back = take_this(queue, name, "a2").await?;
    assert_eq!(back.partition.as_deref(), Some("key-a"));
    queue.ack(&back).await?;
    empty(queue, name).await
}

/// What fails keeps its place.
async fn partitions_and_failures(queue: &dyn Queue, name: &str) -> Result {
    queue.push(name, &["a1", "a2"].map(ordered)).await?;
    let first = take_one(queue, name, LEASE).await?;
    queue.nack(&first, Retry::After(Duration::ZERO), "once more").await?;
    let again = take_one(queue, name, LEASE).await?;
    assert_eq!((&again.body[..], again.attempt, again.reason.as_deref()), (&b"a1"[..], 2, Some("once more")));
    assert_eq!(again.id, first.id);

    let began = Instant::now();
    let delay = Duration::from_millis(600);
    queue.nack(&again, Retry::After(delay), "later").await?;
    nothing(queue, name, "the others wait for the one that waits").await?;
    let again = take_one(queue, name, Duration::from_millis(300)).await?;
    assert_eq!((&again.body[..], again.attempt, again.reason.as_deref()), (&b"a1"[..], 3, Some("later")));
    assert!(began.elapsed() >= delay - Duration::from_millis(10), "it came after {:?}", began.elapsed());

    // So does one whose lease ends.
    let again = take_one(queue, name, LEASE).await?;
    assert_eq!((&again.body[..], again.attempt), (&b"a1"[..], 4));
    queue.nack(&again, Retry::Release, "shutting down").await?;
    let again = take_one(queue, name, LEASE).await?;
    assert_eq!(&again.body[..], b"a1", "and one that is released");
    queue.ack(&again).await?;
    let next = take_one(queue, name, LEASE).await?;
    assert_eq!((&next.body[..], next.attempt), (&b"a2"[..], 1));
    queue.ack(&next).await?;
    empty(queue, name).await
}

async fn many_at_once(queue: &dyn Queue, name: &str) -> Result {
    const COUNT: usize = 200;
    let pushers = (0..4).map(|pusher| async move {
        let messages: Vec<_> = (0..COUNT / 4).map(|n| Message::new(format!("{pusher}-{n}"))).collect();
        queue.push(name, &messages).await
    });
    try_join_all(pushers).await?;
    let pullers = (0..4).map(|_| async move {
        let mut done = Vec::new();
        loop {
            let taken = queue.pull(name, 7, LEASE, Duration::from_secs(1)).await?;
            if taken.is_empty() {
                return Ok::<_, SeamError>(done);
            }
            for delivery in &taken {
                queue.ack(delivery).await?;
            }
            done.extend(bodies_of(&taken));
        }
    });
    let done: Vec<String> =
        join_all(pullers).await.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    assert_eq!(done.len(), COUNT, "each is handed out once");
    assert_eq!(done.iter().collect::<BTreeSet<_>>().len(), COUNT, "and none is lost");
    empty(queue, name).await
}

async fn bodies(queue: &dyn Queue, name: &str) -> Result {
    let bodies: [Vec<u8>; 5] = [
        (0..=255).collect(),
        Vec::new(),
        // What we write into Redis ourselves.
        b"trunkline:1 {\"id\":\"x\",\"p\":\"y\"}\nbody".to_vec(),
        b"trunkline:1 broken".to_vec(),
        vec![b'x'; 1 << 20],
    ];
    let messages: Vec<_> = bodies.iter().cloned().map(Message::new).collect();
    queue.push(name, &messages).await?;
    for (delivery, body) in take(queue, name, bodies.len(), LEASE).await?.iter().zip(&bodies) {
        assert!(delivery.body == body[..], "a body of {} bytes is as it was", body.len());
        assert_eq!(delivery.partition, None);
        queue.ack(delivery).await?;
    }
    queue.push(name, &[]).await?;
    empty(queue, name).await?;

    let large = Message::new(vec![0; MAX_MESSAGE + 1]);
    assert!(matches!(queue.push(name, &[large]).await, Err(SeamError::TooLarge { .. })));
    let both = Message::new("x").in_order("p").after(Duration::from_secs(1));
    assert!(matches!(queue.push(name, &[both]).await, Err(SeamError::Invalid(_))));
    for bad in ["", "a b", "a\nb"] {
        assert!(matches!(queue.push(bad, &[Message::new("x")]).await, Err(SeamError::Invalid(_))), "{bad:?}");
        assert!(matches!(queue.depth(bad).await, Err(SeamError::Invalid(_))), "{bad:?}");
    }
    empty(queue, name).await
}

async fn purge(queue: &dyn Queue, name: &str) -> Result {
    queue.push(name, &["a", "b", "c"].map(Message::new)).await?;
    queue.push(name, &[Message::new("later").after(LEASE)]).await?;
    let kept = take_one(queue, name, LEASE).await?;
    assert_eq!(queue.purge(name).await?, 3);
    assert_eq!(queue.depth(name).await?, Depth { leased: 1, ..Depth::default() }, "what is handed out stays");
    nothing(queue, name, "the rest is gone").await?;
    queue.ack(&kept).await?;
    empty(queue, name).await
}
