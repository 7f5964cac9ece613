//! The stream of one queue's messages into this process: what the server sent ahead, what is handed out, and
//! what waits for its time. Everything in it still belongs to the server, which gives it to another process as
//! soon as our channel ends.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base::seams::{Delivery, Ledger, SeamError};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, SelectAll};
use lapin::Acker;
use lapin::message::Delivery as Sent;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use tokio::sync::{Notify, watch};

use super::outgoing::{ATTEMPTS, ENQUEUED, PARTITION, declare, partition_name};
use crate::queue::new_id;
use crate::rabbitmq::{Lease, RABBITMQ, Rabbitmq, seam_error};
use crate::time::now_ms;

/// A feed from which nobody has pulled for so long ends, so that others get what it was sent.
const UNUSED: Duration = Duration::from_secs(30);
/// How often is looked whether the feed is used and its channels stand.
const TICK: Duration = Duration::from_secs(2);
/// How often is looked for partitions that another process has made, growing from the first to the second: the
/// server notes each look in its log while there are none.
const DISCOVERY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// How long is waited before connecting again, growing from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A message that the server sent us.
pub(super) struct Held {
    pub(super) id: String,
    pub(super) body: Bytes,
    pub(super) partition: Option<String>,
    pub(super) attempt: u32,
    pub(super) reason: Option<String>,
    pub(super) enqueued_at: Option<i64>,
    acker: Acker,
    /// Which channel it came over.
    epoch: u64,
}

impl Held {
    /// For its next attempt, the last one having failed.
    pub(super) fn again(self, reason: String) -> Self {
        Held { attempt: self.attempt + 1, reason: Some(reason), ..self }
    }

    /// Tells the server that it never needs to come again; whether it was still ours.
    pub(super) async fn done(&self) -> bool {
        matches!(self.acker.ack(BasicAckOptions::default()).await, Ok(true))
    }
}

/// What is handed out: a message of ours, or `None` for one of the Store, which only takes up room.
struct Lent {
    held: Option<Held>,
    until: Instant,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Held>,
    /// Those with a partition whose time has not come, in milliseconds since the epoch.
    later: Vec<(i64, Held)>,
    lent: HashMap<String, Lent>,
    /// The channel that counts; what came over another is the server's again.
    epoch: u64,
    /// Why there is no channel.
    error: Option<SeamError>,
    wanted: Option<Instant>,
    next_look: Option<Instant>,
}

/// The messages of one queue in this process.
pub(super) struct Feed {
    state: Mutex<State>,
    arrived: Notify,
    /// This process has made queues for partitions.
    partitioned: Notify,
    ended: AtomicBool,
    stop: watch::Sender<bool>,
}

impl Feed {
    pub(super) fn start(
        rabbitmq: Rabbitmq,
        ledger: Arc<dyn Ledger>,
        queue: String,
        name: String,
    ) -> Arc<Self> {
        let feed = Arc::new(Feed {
            state: Mutex::default(),
            arrived: Notify::new(),
            partitioned: Notify::new(),
            ended: AtomicBool::new(false),
            stop: watch::channel(false).0,
        });
        feed.is_wanted();
        let source = Source { rabbitmq, ledger, queue, name };
        tokio::spawn(run(source, Arc::clone(&feed), feed.stop.subscribe()));
        feed
    }

    /// There are queues for partitions now.
    pub(super) fn look_for_partitions(&self) {
        self.partitioned.notify_one();
    }

    /// Ends it.
    pub(super) fn end(&self) {
        self.stop.send_replace(true);
    }

    /// Ends it, and waits until the server has everything back.
    pub(super) async fn stop(&self) {
        self.stop.send_replace(true);
        self.stop.closed().await;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Somebody pulls.
    pub(super) fn is_wanted(&self) {
        self.state().wanted = Some(Instant::now());
    }

    /// Waits until something comes, at most so long.
    pub(super) async fn wait(&self, most: Duration) {
        let arrived = self.arrived.notified();
        let due = self.state().later.iter().map(|(due, _)| *due).min();
        let until_due = due.map_or(most, |due| Duration::from_millis((due - now_ms()).max(1).unsigned_abs()));
        drop(tokio::time::timeout(most.min(until_due), arrived).await);
    }

    /// Hands out up to `max`.
    pub(super) fn take(&self, queue: &str, max: usize, lease: Duration) -> Vec<Delivery> {
        let mut state = self.state();
        let now = now_ms();
        let (due, later) = state.later.drain(..).partition(|(due, _)| *due <= now);
        state.later = later;
        for (_, held) in due {
            state.ready.push_front(held);
        }
        let mut taken = Vec::new();
        while taken.len() < max {
            let Some(held) = state.ready.pop_front() else { break };
            let delivery = Delivery {
                queue: queue.to_owned(),
                id: held.id.clone(),
                body: held.body.clone(),
                partition: held.partition.clone(),
                attempt: held.attempt,
                reason: held.reason.clone(),
                enqueued_at: held.enqueued_at,
                receipt: new_id(),
            };
            let lent = Lent { held: Some(held), until: Instant::now() + lease };
            state.lent.insert(delivery.receipt.clone(), lent);
            taken.push(delivery);
        }
        taken
    }

    /// Notes that something is handed out.
    pub(super) fn lend(&self, receipt: &str, held: Option<Held>, lease: Duration) {
        let mut state = self.state();
        if held.as_ref().is_none_or(|held| held.epoch == state.epoch) {
            state.lent.insert(receipt.to_owned(), Lent { held, until: Instant::now() + lease });
        }
    }

    /// How many are handed out.
    pub(super) fn lent(&self) -> usize {
        self.state().lent.len()
    }

    /// What was handed out under this receipt.
    pub(super) fn give_back(&self, receipt: &str) -> Option<Option<Held>> {
        let lent = self.state().lent.remove(receipt)?;
        self.arrived.notify_waiters();
        Some(lent.held)
    }

    pub(super) fn extend(&self, receipt: &str, lease: Duration) -> bool {
        let mut state = self.state();
        let Some(lent) = state.lent.get_mut(receipt) else { return false };
        lent.until = Instant::now() + lease;
        true
    }

    /// Puts one back where it was, to be handed out at `due` (milliseconds since the epoch).
    pub(super) fn put_back(&self, held: Held, due: i64) {
        let mut state = self.state();
        if held.epoch == state.epoch {
            if due > now_ms() { state.later.push((due, held)) } else { state.ready.push_front(held) }
        }
        drop(state);
        self.arrived.notify_waiters();
    }

    /// What was handed out and whose lease has ended. The Store ends its own.
    pub(super) fn take_ended(&self) -> Vec<Held> {
        let mut state = self.state();
        let now = Instant::now();
        let ended: Vec<String> = state
            .lent
            .iter()
            .filter(|(_, lent)| lent.until <= now)
            .map(|(receipt, _)| receipt.clone())
            .collect();
        ended.iter().filter_map(|receipt| state.lent.remove(receipt)?.held).collect()
    }

    /// How many wait here.
    pub(super) fn buffered(&self) -> usize {
        self.state().ready.len()
    }

    /// How many are handed out, and how many wait for their time.
    pub(super) fn counts(&self) -> (u64, u64) {
        let state = self.state();
        let ours = state.lent.values().filter(|lent| lent.held.is_some()).count();
        (ours as u64, state.later.len() as u64)
    }

    /// Forgets what waits here, at the server too; how many.
    pub(super) async fn drain(&self) -> u64 {
        let all: Vec<Held> = {
            let mut state = self.state();
            let later: Vec<_> = state.later.drain(..).map(|(_, held)| held).collect();
            state.ready.drain(..).chain(later).collect()
        };
        let mut done = 0;
        for held in all {
            done += u64::from(held.done().await);
        }
        done
    }

    /// Whether messages can come.
    pub(super) fn check(&self) -> Result<(), SeamError> {
        self.state().error.clone().map_or(Ok(()), Err)
    }

    /// Whether it is time to look into the Store again.
    pub(super) fn may_look(&self, every: Duration) -> bool {
        let mut state = self.state();
        let now = Instant::now();
        let may = state.next_look.is_none_or(|next| next <= now);
        if may {
            state.next_look = Some(now + every);
        }
        may
    }

    pub(super) fn look_soon(&self) {
        self.state().next_look = None;
        self.arrived.notify_waiters();
    }

    fn arrive(&self, held: Held, due: i64) {
        let mut state = self.state();
        if held.epoch == state.epoch {
            if due > now_ms() { state.later.push((due, held)) } else { state.ready.push_back(held) }
        }
        drop(state);
        self.arrived.notify_waiters();
    }

    /// A new channel: all that came over the one before is the server's again.
    fn begin(&self) -> u64 {
        let mut state = self.state();
        state.epoch += 1;
        state.ready.clear();
        state.later.clear();
        state.lent.retain(|_, lent| lent.held.is_none());
        let epoch = state.epoch;
        drop(state);
        self.arrived.notify_waiters();
        epoch
    }

    /// Whether nobody has pulled for long, and nothing is handed out.
    fn is_unused(&self) -> bool {
        let state = self.state();
        state.lent.is_empty() && state.wanted.is_none_or(|at| at.elapsed() > UNUSED)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a feed comes from.
struct Source {
    rabbitmq: Rabbitmq,
    ledger: Arc<dyn Ledger>,
    queue: String,
    /// Its name at the server.
    name: String,
}

type Stream = SelectAll<BoxStream<'static, lapin::Result<Sent>>>;

async fn run(source: Source, feed: Arc<Feed>, mut stop: watch::Receiver<bool>) {
    let mut wait = BACKOFF.0;
    loop {
        let began = Instant::now();
        let epoch = feed.begin();
        match source.consume(&feed, epoch, &mut stop).await {
            // Nobody needs it.
            Ok(()) => break,
            Err(error) => {
                if feed.check().is_ok() {
                    tracing::warn!(%error, queue = source.queue, "RabbitMQ: cannot consume, trying again");
                }
                wait = if began.elapsed() > BACKOFF.1 { BACKOFF.0 } else { (wait * 2).min(BACKOFF.1) };
                feed.begin();
                feed.state().error = Some(error);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)) => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
        if feed.is_unused() {
            break;
        }
    }
    feed.begin();
    feed.ended.store(true, Ordering::Release);
    feed.arrived.notify_waiters();
}

impl Source {
    /// Consumes until nobody pulls any more, it is told to stop, or a channel ends.
    async fn consume(
        &self,
        feed: &Feed,
        epoch: u64,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), SeamError> {
        // With a partition only one is out at a time, or the order would not survive a failure.
        let (prefetch, one) = (self.rabbitmq.settings().prefetch_count.max(1), 1);
        let (main, ordered) = (self.channel(prefetch).await?, self.channel(one).await?);
        let mut stream = Stream::new();
        let ended = tokio::select! {
            ended = self.follow(feed, epoch, &main, &ordered, &mut stream) => ended,
            _ = stop.wait_for(|stop| *stop) => Ok(()),
        };
        // The channels go first. A consumer that went before its channel would leave what it has with the
        // channel, and the next consumer of a partition would be sent what comes after that.
        for lease in [&ordered, &main] {
            drop(self.rabbitmq.within(lease.channel.close(200, "".into())).await);
        }
        drop(stream);
        ended
    }

    async fn follow(
        &self,
        feed: &Feed,
        epoch: u64,
        main: &Lease,
        ordered: &Lease,
        stream: &mut Stream,
    ) -> Result<(), SeamError> {
        declare(&self.rabbitmq, &main.channel, &self.name, false).await?;
        stream.push(self.consumer(main, &self.name).await?);
        let (mut partitions, mut rest, mut next) = (0, DISCOVERY.0, Instant::now() + DISCOVERY.0);
        self.add_partitions(ordered, stream, &mut partitions).await?;
        feed.state().error = None;
        let mut tick = tokio::time::interval(TICK);
        tick.reset();
        loop {
            tokio::select! {
                sent = stream.next() => match sent {
                    Some(Ok(sent)) => self.receive(feed, epoch, sent).await?,
                    Some(Err(error)) => return Err(seam_error(&error)),
                    None => return Err(gone()),
                },
                () = feed.partitioned.notified() => self.add_partitions(ordered, stream, &mut partitions).await?,
                _ = tick.tick() => {
                    if feed.is_unused() {
                        return Ok(());
                    }
                    if !main.channel.status().connected() || !ordered.channel.status().connected() {
                        return Err(gone());
                    }
                    if next <= Instant::now() {
                        rest = (rest * 2).min(DISCOVERY.1);
                        next = Instant::now() + rest;
                        self.add_partitions(ordered, stream, &mut partitions).await?;
                    }
                    if let Some(count) = self.rabbitmq.ready(&self.name).await? {
                        self.rabbitmq.metrics().rabbitmq_messages(&self.name, count);
                    }
                }
            }
        }
    }

    async fn channel(&self, prefetch: u16) -> Result<Lease, SeamError> {
        let lease = self.rabbitmq.channel().await?;
        self.rabbitmq.within(lease.channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
        Ok(lease)
    }

    async fn consumer(
        &self,
        lease: &Lease,
        name: &str,
    ) -> Result<BoxStream<'static, lapin::Result<Sent>>, SeamError> {
        let options = BasicConsumeOptions::default();
        let consumer = lease.channel.basic_consume(name.into(), "".into(), options, FieldTable::default());
        let consumer = self.rabbitmq.within(consumer).await?;
        // Its end is the end of the channel, or of the queue: both are looked into.
        let counted = self.rabbitmq.metrics().consumer();
        let ended = futures_util::stream::once(async move {
            drop(counted);
            Err(lapin::ErrorKind::FutureCompleted.into())
        });
        Ok(consumer.chain(ended).boxed())
    }

    /// Consumes from partitions that have come into being, also those of a setting that was larger once.
    async fn add_partitions(
        &self,
        lease: &Lease,
        stream: &mut Stream,
        known: &mut u64,
    ) -> Result<(), SeamError> {
        loop {
            let name = partition_name(&self.name, *known);
            if self.rabbitmq.ready(&name).await?.is_none() {
                return Ok(());
            }
            stream.push(self.consumer(lease, &name).await?);
            *known += 1;
        }
    }

    async fn receive(&self, feed: &Feed, epoch: u64, sent: Sent) -> Result<(), SeamError> {
        let headers = sent.properties.headers().clone().unwrap_or_default();
        let number = |name: &str| headers.inner().get(name).and_then(integer);
        let text = |name: &str| {
            headers.inner().get(name).and_then(|value| Some(value.as_long_string()?.to_string()))
        };
        // How often the server has sent it before.
        let before = number("x-delivery-count").unwrap_or(0).max(number(ATTEMPTS).unwrap_or(0));
        let mut held = Held {
            id: sent.properties.message_id().as_ref().map_or_else(new_id, ToString::to_string),
            body: sent.data.into(),
            partition: text(PARTITION),
            attempt: u32::try_from(before).unwrap_or(u32::MAX - 1) + 1,
            reason: None,
            enqueued_at: number(ENQUEUED),
            acker: sent.acker,
            epoch,
        };
        let mut due = 0;
        if sent.redelivered {
            let ids = [held.id.clone()];
            if !self.ledger.buried(&self.queue, &ids).await?.is_empty() {
                held.done().await;
                return Ok(());
            }
            if let Some(note) = self.ledger.notes(&self.queue, &ids).await?.pop() {
                held.attempt = held.attempt.max(note.attempts + 1);
                held.reason = note.reason;
                due = note.due_at;
            }
        }
        feed.arrive(held, due);
        Ok(())
    }
}

fn integer(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::ShortShortInt(n) => Some((*n).into()),
        AMQPValue::ShortShortUInt(n) => Some((*n).into()),
        AMQPValue::ShortInt(n) => Some((*n).into()),
        AMQPValue::ShortUInt(n) => Some((*n).into()),
        AMQPValue::LongInt(n) => Some((*n).into()),
        AMQPValue::LongUInt(n) => Some((*n).into()),
        AMQPValue::LongLongInt(n) => Some(*n),
        AMQPValue::Timestamp(n) => i64::try_from(*n).ok(),
        _ => None,
    }
}

fn gone() -> SeamError {
    SeamError::Unavailable { backend: RABBITMQ, reason: "the connection was closed".into() }
}
