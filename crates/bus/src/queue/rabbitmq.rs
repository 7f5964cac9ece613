//! The queue on RabbitMQ: quorum queues, publisher confirmations, prefetch.
//!
//! Messages with a partition are spread over `partition_count` queues of their own (`<name>.partition-<n>`), each
//! with one active consumer in the whole installation and one message out at a time, so that order holds across
//! replicas. The server keeps a message until it is acknowledged; leases are kept here, by the process that has
//! it, and end with it. What must wait is parked in the Store and served from there; one with a partition keeps
//! its place at the server instead, and its failures are noted in the Store.

mod feed;
mod outgoing;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base::seams::{
    Backend, DeadLetter, Delivery, Depth, Ledger, MAX_BATCH, Message, Note, Parked, Queue, Retry, SeamError,
    Which, cut_reason,
};
use bytes::Bytes;
use lapin::options::{BasicPublishOptions, QueuePurgeOptions};
use lapin::{Channel, Confirmation};

use super::{LEASE_ENDED, STEP, check_push, check_queue, new_id};
use crate::rabbitmq::{Lease, RABBITMQ, Rabbitmq};
use crate::time::{after, now_ms};
use feed::Feed;
use outgoing::{Outgoing, declare, partition_name, properties};

/// How often the Store is asked for messages that have become due, while there are none.
const LOOK: Duration = Duration::from_millis(250);
/// What the receipt of a message served from the Store begins with.
const FROM_STORE: &str = "store/";
/// Time to move a message to the Store.
const MOVING: Duration = Duration::from_secs(30);
/// Queues on a RabbitMQ, with a Store for what waits and what died.
pub struct RabbitmqQueue {
    rabbitmq: Rabbitmq,
    ledger: Arc<dyn Ledger>,
    prefix: String,
    publisher: tokio::sync::Mutex<Option<Arc<Lease>>>,
    declared: Mutex<HashSet<String>>,
    feeds: Mutex<HashMap<String, Arc<Feed>>>,
}

impl RabbitmqQueue {
    /// The queues of this RabbitMQ. What its names begin with is usually nothing.
    pub fn new(rabbitmq: Rabbitmq, ledger: Arc<dyn Ledger>, prefix: &str) -> Self {
        RabbitmqQueue {
            rabbitmq,
            ledger,
            prefix: prefix.to_owned(),
            publisher: tokio::sync::Mutex::default(),
            declared: Mutex::default(),
            feeds: Mutex::default(),
        }
    }

    /// Stops taking messages and gives those that were not handed out back to the server.
    pub async fn close(&self) {
        let feeds: Vec<_> = self.feeds().drain().map(|(_, feed)| feed).collect();
        for feed in feeds {
            feed.stop().await;
        }
    }

    fn name(&self, queue: &str) -> String {
        format!("{}{queue}", self.prefix)
    }

    /// The queue of a partition: the same for every process and version that has as many.
    fn partition_queue(&self, queue: &str, partition: &str) -> String {
        let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = partition.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
        let count = u64::from(self.rabbitmq.settings().partition_count.max(1));
        partition_name(&self.name(queue), hash % count)
    }

    fn feeds(&self) -> MutexGuard<'_, HashMap<String, Arc<Feed>>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn declared(&self) -> MutexGuard<'_, HashSet<String>> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream of messages of a queue into this process, started when it is first pulled from.
    fn feed(&self, queue: &str) -> Arc<Feed> {
        let mut feeds = self.feeds();
        feeds.retain(|_, feed| !feed.has_ended());
        let feed = feeds.entry(queue.to_owned());
        Arc::clone(feed.or_insert_with(|| {
            Feed::start(self.rabbitmq.clone(), Arc::clone(&self.ledger), queue.to_owned(), self.name(queue))
        }))
    }

    /// The feed if there is one.
    fn running(&self, queue: &str) -> Option<Arc<Feed>> {
        self.feeds().get(queue).cloned()
    }

    async fn channel(&self) -> Result<Arc<Lease>, SeamError> {
        let mut publisher = self.publisher.lock().await;
        if let Some(lease) = publisher.as_ref().filter(|lease| lease.channel.status().connected()) {
            return Ok(Arc::clone(lease));
        }
        // What was declared may be gone with the server.
        self.declared().clear();
        let lease = Arc::new(self.rabbitmq.publisher().await?);
        *publisher = Some(Arc::clone(&lease));
        Ok(lease)
    }

    /// Makes sure that a queue is there; with a partition, that all queues for such are.
    async fn declare(&self, channel: &Channel, message: &Outgoing, queue: &str) -> Result<(), SeamError> {
        if self.declared().contains(&message.queue) {
            return Ok(());
        }
        let names: Vec<String> = match message.partition {
            None => vec![message.queue.clone()],
            Some(_) => {
                let count = u64::from(self.rabbitmq.settings().partition_count.max(1));
                (0..count).map(|n| partition_name(&self.name(queue), n)).collect()
            }
        };
        for name in names {
            declare(&self.rabbitmq, channel, &name, message.partition.is_some()).await?;
            self.declared().insert(name);
        }
        if let Some(feed) = self.running(queue).filter(|_| message.partition.is_some()) {
            feed.look_for_partitions();
        }
        Ok(())
    }

    /// Publishes, and waits until the server has them all if the settings say so.
    async fn publish(&self, queue: &str, messages: Vec<Outgoing>) -> Result<(), SeamError> {
        let mut left = messages;
        for last in [false, true] {
            let lease = self.channel().await?;
            let mut confirms = Vec::with_capacity(left.len());
            for message in &left {
                self.declare(&lease.channel, message, queue).await?;
                let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
                let routing_key = message.queue.as_str().into();
                let published = lease.channel.basic_publish(
                    "".into(),
                    routing_key,
                    options,
                    &message.body,
                    properties(message),
                );
                confirms.push(self.rabbitmq.within(published).await?);
            }
            let mut returned = Vec::new();
            for (message, confirm) in left.into_iter().zip(confirms) {
                match self.rabbitmq.within(confirm).await? {
                    Confirmation::Ack(None) | Confirmation::NotRequested => {}
                    Confirmation::Nack(_) => {
                        let reason = format!("queue {} took no more messages", message.queue);
                        return Err(SeamError::Refused { backend: RABBITMQ, reason });
                    }
                    Confirmation::Ack(Some(_)) => returned.push(message),
                }
            }
            if returned.is_empty() {
                return Ok(());
            }
            if last {
                let reason = format!("there is no queue {}", returned[0].queue);
                return Err(SeamError::Refused { backend: RABBITMQ, reason });
            }
            // Somebody has removed the queue since it was declared.
            self.declared().clear();
            left = returned;
        }
        Ok(())
    }

    fn outgoing(&self, queue: &str, body: Bytes, partition: Option<String>, enqueued_at: i64) -> Outgoing {
        let name = match &partition {
            None => self.name(queue),
            Some(partition) => self.partition_queue(queue, partition),
        };
        Outgoing { queue: name, id: new_id(), body, partition, attempts: 0, enqueued_at }
    }

    /// What has become due in the Store.
    async fn due(
        &self,
        queue: &str,
        feed: &Feed,
        max: usize,
        lease: Duration,
    ) -> Result<Vec<Delivery>, SeamError> {
        if max == 0 || !feed.may_look(LOOK) {
            return Ok(Vec::new());
        }
        let mut due = self.ledger.pull(queue, max, lease, Duration::ZERO).await?;
        if !due.is_empty() {
            feed.look_soon();
        }
        for delivery in &mut due {
            delivery.receipt.insert_str(0, FROM_STORE);
            feed.lend(&delivery.receipt, None, lease);
        }
        Ok(due)
    }

    /// Ends the leases whose time has come: a message goes to the Store to be tried again, one with a partition
    /// back to its place here.
    async fn end_leases(&self, queue: &str, feed: &Feed) -> Result<(), SeamError> {
        for held in feed.take_ended() {
            if held.partition.is_some() {
                feed.put_back(held.again(LEASE_ENDED.to_owned()), 0);
                continue;
            }
            let parked = Parked {
                id: held.id.clone(),
                body: held.body.clone(),
                attempts: held.attempt,
                reason: Some(LEASE_ENDED.to_owned()),
                enqueued_at: held.enqueued_at,
                due_at: now_ms(),
            };
            if let Err(error) = self.ledger.park(queue, &[parked]).await {
                // It stays with the server, for whoever comes next.
                feed.put_back(held, 0);
                return Err(error);
            }
            held.done().await;
            feed.look_soon();
        }
        Ok(())
    }

    /// Goes through the dead letters that are asked for, some at a time: each lot is published again if `again`,
    /// and then removed. Should we be gone in between, they come twice rather than never.
    async fn go_through(&self, queue: &str, which: &Which, again: bool) -> Result<u64, SeamError> {
        let (mut done, mut skip) = (0, 0);
        loop {
            let lot = match which {
                Which::Oldest(most) => STEP.min(usize::try_from(most - done).unwrap_or(STEP)),
                _ => STEP,
            };
            let mut letters = if lot == 0 { Vec::new() } else { self.ledger.dead(queue, skip, lot).await? };
            if letters.is_empty() {
                return Ok(done);
            }
            if let Which::Ids(ids) = which {
                let before = letters.len();
                letters.retain(|letter| ids.contains(&letter.id));
                skip += (before - letters.len()) as u64;
                if letters.is_empty() {
                    continue;
                }
            }
            let ids = letters.iter().map(|letter| letter.id.clone()).collect();
            if again {
                let messages = letters.into_iter().map(|letter| {
                    self.outgoing(
                        queue,
                        letter.body,
                        letter.partition,
                        letter.enqueued_at.unwrap_or_else(now_ms),
                    )
                });
                self.publish(queue, messages.collect()).await?;
            }
            done += self.ledger.purge_dead(queue, &Which::Ids(ids)).await?;
        }
    }

    /// The queues of a name at the server, those for partitions as far as there are any, and how many messages
    /// each has ready.
    async fn ready(&self, queue: &str) -> Result<Vec<(String, u32)>, SeamError> {
        let name = self.name(queue);
        let mut found = Vec::new();
        if let Some(count) = self.rabbitmq.ready(&name).await? {
            found.push((name.clone(), count));
        }
        for n in 0.. {
            let name = partition_name(&name, n);
            match self.rabbitmq.ready(&name).await? {
                Some(count) => found.push((name, count)),
                None => break,
            }
        }
        for (name, count) in &found {
            self.rabbitmq.metrics().rabbitmq_messages(name, *count);
        }
        Ok(found)
    }

    /// What waits: at the server, and sent ahead to us. Asked until it holds still, for messages are in neither
    /// place while they are on their way.
    async fn waiting(&self, queue: &str) -> Result<u64, SeamError> {
        let count = || async {
            let at_server: u64 = self.ready(queue).await?.iter().map(|(_, count)| u64::from(*count)).sum();
            let here = self.running(queue).map_or(0, |feed| feed.buffered());
            Ok::<_, SeamError>(at_server + here as u64)
        };
        let mut before = count().await?;
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let now = count().await?;
            if now == before {
                break;
            }
            before = now;
        }
        Ok(before)
    }
}

impl Drop for RabbitmqQueue {
    fn drop(&mut self) {
        self.feeds().values().for_each(|feed| feed.end());
    }
}

fn lost(delivery: &Delivery) -> SeamError {
    SeamError::LeaseLost { queue: delivery.queue.clone(), id: delivery.id.clone() }
}

/// The delivery as the Store knows it, if it came from there.
fn from_store(delivery: &Delivery) -> Option<Delivery> {
    let receipt = delivery.receipt.strip_prefix(FROM_STORE)?.to_owned();
    Some(Delivery { receipt, ..delivery.clone() })
}

#[async_trait]
impl Backend for RabbitmqQueue {
    fn backend(&self) -> &'static str {
        RABBITMQ
    }

    async fn ping(&self) -> Result<(), SeamError> {
        self.rabbitmq.ping().await?;
        self.ledger.ping().await
    }

    async fn warnings(&self) -> Vec<String> {
        if self.rabbitmq.settings().publisher_confirmation {
            return Vec::new();
        }
        vec!["RabbitMQ may lose queued work without a word (publisher confirmation is off): set `publisher_confirmation: true`.".to_owned()]
    }
}

#[async_trait]
impl Queue for RabbitmqQueue {
    async fn push(&self, queue: &str, messages: &[Message]) -> Result<(), SeamError> {
        check_push(queue, messages)?;
        let (later, now): (Vec<_>, Vec<_>) = messages.iter().partition(|message| !message.delay.is_zero());
        let enqueued_at = now_ms();
        let parked: Vec<_> = later
            .into_iter()
            .map(|message| Parked {
                id: new_id(),
                body: message.body.clone(),
                attempts: 0,
                reason: None,
                enqueued_at: Some(enqueued_at),
                due_at: after(message.delay),
            })
            .collect();
        if !parked.is_empty() {
            self.ledger.park(queue, &parked).await?;
        }
        let outgoing: Vec<_> = now
            .into_iter()
            .map(|message| self.outgoing(queue, message.body.clone(), message.partition.clone(), enqueued_at))
            .collect();
        if outgoing.is_empty() {
            return Ok(());
        }
        self.publish(queue, outgoing).await
    }

    async fn pull(
        &self,
        queue: &str,
        max: usize,
        lease: Duration,
        wait: Duration,
    ) -> Result<Vec<Delivery>, SeamError> {
        check_queue(queue)?;
        let limit = usize::from(self.rabbitmq.settings().concurrent_message_limit.max(1));
        let end = Instant::now() + wait;
        loop {
            let feed = self.feed(queue);
            feed.is_wanted();
            self.end_leases(queue, &feed).await?;
            let room = limit.saturating_sub(feed.lent()).min(max).min(MAX_BATCH);
            let mut taken = self.due(queue, &feed, room, lease).await?;
            taken.extend(feed.take(queue, room - taken.len(), lease));
            if !taken.is_empty() || max == 0 {
                return Ok(taken);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return feed.check().map(|()| Vec::new());
            }
            feed.wait(left.min(LOOK)).await;
        }
    }

    async fn ack(&self, delivery: &Delivery) -> Result<(), SeamError> {
        let feed = self.running(&delivery.queue);
        let lent = feed.as_ref().and_then(|feed| feed.give_back(&delivery.receipt));
        if let Some(inner) = from_store(delivery) {
            return self.ledger.ack(&inner).await;
        }
        let held = lent.flatten().ok_or_else(|| lost(delivery))?;
        if !held.done().await {
            return Err(lost(delivery));
        }
        if delivery.partition.is_some() && delivery.attempt > 1 {
            self.ledger.forget(&delivery.queue, &delivery.id).await?;
        }
        Ok(())
    }

    async fn nack(&self, delivery: &Delivery, retry: Retry, reason: &str) -> Result<(), SeamError> {
        let queue = &delivery.queue;
        let feed = self.running(queue);
        let lent = feed.as_ref().and_then(|feed| feed.give_back(&delivery.receipt));
        if let Some(inner) = from_store(delivery) {
            self.ledger.nack(&inner, retry, reason).await?;
            if let Some(feed) = feed {
                feed.look_soon();
            }
            return Ok(());
        }
        let (Some(feed), Some(Some(held))) = (feed, lent) else { return Err(lost(delivery)) };
        let reason = cut_reason(reason);
        // Until the Store has it, it is still ours: should that fail, the caller may try again.
        let stored = match (retry, &held.partition) {
            (Retry::After(delay), None) => {
                let parked = Parked {
                    id: held.id.clone(),
                    body: held.body.clone(),
                    attempts: held.attempt,
                    reason: Some(reason),
                    enqueued_at: held.enqueued_at,
                    due_at: after(delay),
                };
                self.ledger.park(queue, &[parked]).await
            }
            (Retry::After(delay), Some(_)) => {
                let due_at = after(delay);
                let note = Note {
                    id: held.id.clone(),
                    attempts: held.attempt,
                    reason: Some(reason.clone()),
                    due_at,
                };
                match self.ledger.note(queue, &note).await {
                    Ok(()) => {
                        feed.put_back(held.again(reason), due_at);
                        return Ok(());
                    }
                    Err(error) => Err(error),
                }
            }
            (Retry::Never, _) => {
                let letter = DeadLetter {
                    id: held.id.clone(),
                    body: held.body.clone(),
                    partition: held.partition.clone(),
                    attempts: held.attempt,
                    reason,
                    enqueued_at: held.enqueued_at,
                    died_at: now_ms(),
                };
                self.ledger.bury(queue, &letter).await
            }
            (Retry::Release, Some(_)) => {
                // Its place in the order is here until we are gone.
                feed.put_back(held, 0);
                return Ok(());
            }
            (Retry::Release, None) => {
                let enqueued_at = held.enqueued_at.unwrap_or_else(now_ms);
                let copy = self.outgoing(queue, held.body.clone(), None, enqueued_at);
                let copy = Outgoing { id: held.id.clone(), attempts: held.attempt - 1, ..copy };
                self.publish(queue, vec![copy]).await
            }
        };
        if let Err(error) = stored {
            feed.lend(&delivery.receipt, Some(held), MOVING);
            return Err(error);
        }
        feed.look_soon();
        held.done().await;
        Ok(())
    }

    async fn extend(&self, delivery: &Delivery, lease: Duration) -> Result<(), SeamError> {
        let feed = self.running(&delivery.queue);
        let ours = feed.is_some_and(|feed| feed.extend(&delivery.receipt, lease));
        match from_store(delivery) {
            Some(inner) => self.ledger.extend(&inner, lease).await,
            None if ours => Ok(()),
            None => Err(lost(delivery)),
        }
    }

    async fn depth(&self, queue: &str) -> Result<Depth, SeamError> {
        check_queue(queue)?;
        let stored = self.ledger.depth(queue).await?;
        let waiting = self.waiting(queue).await?;
        let (leased, delayed) = self.running(queue).map_or((0, 0), |feed| feed.counts());
        Ok(Depth {
            waiting: waiting + stored.waiting,
            delayed: delayed + stored.delayed,
            leased: leased + stored.leased,
            dead: stored.dead,
        })
    }

    async fn dead(&self, queue: &str, skip: u64, limit: usize) -> Result<Vec<DeadLetter>, SeamError> {
        self.ledger.dead(queue, skip, limit).await
    }

    async fn replay(&self, queue: &str, which: &Which) -> Result<u64, SeamError> {
        check_queue(queue)?;
        self.go_through(queue, which, true).await
    }

    async fn purge_dead(&self, queue: &str, which: &Which) -> Result<u64, SeamError> {
        check_queue(queue)?;
        self.go_through(queue, which, false).await
    }

    async fn purge(&self, queue: &str) -> Result<u64, SeamError> {
        check_queue(queue)?;
        let mut removed = self.ledger.purge(queue).await?;
        // Room at the server is filled from there as we make it here, so it takes turns.
        for _ in 0..100 {
            for (name, _) in self.ready(queue).await? {
                let lease = self.rabbitmq.channel().await?;
                let purged = lease.channel.queue_purge(name.as_str().into(), QueuePurgeOptions::default());
                removed += u64::from(self.rabbitmq.within(purged).await?);
            }
            if let Some(feed) = self.running(queue) {
                removed += feed.drain().await;
            }
            if self.waiting(queue).await? == 0 {
                break;
            }
        }
        Ok(removed)
    }
}
