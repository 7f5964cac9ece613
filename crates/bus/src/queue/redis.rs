//! The queue on Redis lists, under plain names: `LLEN incoming_calls` is what waits, `LRANGE incoming_calls 0 10`
//! shows it, and other programs may `RPUSH` bare items.
//!
//! A message that is taken moves, in one step of the server, from the list into `{name}:inflight` with a lease in
//! `{name}:leases`; when the lease of a process that died ends, the next who asks gets it. Messages with a
//! partition carry a line of ours before their body; while one of a partition is out, those after it wait in
//! `{name}:held:<partition>`. Braces keep the keys of one queue on one node of a cluster.
//!
//! What fails is parked in the Store until its time, and served from there; dead letters are in the Store and
//! their bodies also in the lists `<name>:dlq` and `DLQ:<name>`, so that `LLEN` shows their number too.

mod item;
mod scripts;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base::seams::{
    Backend, DeadLetter, Delivery, Depth, Ledger, MAX_BATCH, Message, Note, Parked, Queue, Retry, SeamError,
    Which, cut_reason,
};
use redis::{Script, ScriptInvocation};

use super::{LEASE_ENDED, STEP, check_push, check_queue, new_id};
use crate::redis::{REDIS, Redis};
use crate::time::{after, millis, now_ms};
use item::Item;

/// How often the Store is asked for messages that have become due, while there are none.
const LOOK: Duration = Duration::from_millis(250);
/// How long is waited between two looks where the server cannot be waited at.
const POLL: Duration = Duration::from_millis(50);
/// What the receipt of a message served from the Store begins with.
const FROM_STORE: &str = "store/";
/// Time to move a message to the Store.
const MOVING: Duration = Duration::from_secs(30);
/// The most queues whose next look is remembered.
const MAX_QUEUES: usize = 10_000;

/// Queues on a Redis, with a Store for what waits and what died.
pub struct RedisQueue {
    redis: Redis,
    ledger: Arc<dyn Ledger>,
    prefix: String,
    scripts: scripts::Scripts,
    /// When to look into the Store again, by queue.
    looks: Mutex<HashMap<String, Instant>>,
}

/// The keys of one queue.
struct Keys {
    list: String,
    side: String,
}

impl Keys {
    fn side(&self, what: &str) -> String {
        format!("{}:{what}", self.side)
    }
}

/// A message that the server handed out.
struct Taken {
    token: String,
    id: String,
    attempt: u32,
    item: Item,
}

impl RedisQueue {
    /// The queues of this Redis. What its names begin with is usually nothing.
    pub fn new(redis: Redis, ledger: Arc<dyn Ledger>, prefix: &str) -> Self {
        RedisQueue {
            redis,
            ledger,
            prefix: prefix.to_owned(),
            scripts: scripts::Scripts::new(),
            looks: Mutex::default(),
        }
    }

    async fn keys(&self, queue: &str) -> Result<Keys, SeamError> {
        let list = self.redis.key(&self.prefix, queue).await?;
        Ok(Keys { side: format!("{{{list}}}"), list })
    }

    async fn call<T: redis::FromRedisValue>(
        &self,
        operation: &'static str,
        script: &Script,
        keys: &Keys,
        fill: impl FnOnce(&mut ScriptInvocation<'_>),
    ) -> Result<T, SeamError> {
        let mut call = script.prepare_invoke();
        call.key(&keys.list);
        for side in ["incoming", "inflight", "leases", "busy", "held"] {
            call.key(keys.side(side));
        }
        fill(&mut call);
        self.redis.script(operation, &call).await
    }

    /// What has become due in the Store. It is not asked each time: most queues have nothing there.
    async fn due(&self, queue: &str, max: usize, lease: Duration) -> Result<Vec<Delivery>, SeamError> {
        let now = Instant::now();
        let look = self.with_looks(|looks| {
            let wait = looks.get(queue).is_some_and(|next| *next > now);
            if !wait {
                looks.insert(queue.to_owned(), now + LOOK);
            }
            !wait
        });
        if !look || max == 0 {
            return Ok(Vec::new());
        }
        let mut due = self.ledger.pull(queue, max, lease, Duration::ZERO).await?;
        if !due.is_empty() {
            self.look_soon(queue);
        }
        for delivery in &mut due {
            delivery.receipt.insert_str(0, FROM_STORE);
        }
        Ok(due)
    }

    fn look_soon(&self, queue: &str) {
        self.with_looks(|looks| looks.remove(queue));
    }

    fn with_looks<T>(&self, act: impl FnOnce(&mut HashMap<String, Instant>) -> T) -> T {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        if looks.len() >= MAX_QUEUES {
            looks.clear();
        }
        act(&mut looks)
    }

    /// What the server hands out now.
    async fn take(
        &self,
        queue: &str,
        keys: &Keys,
        max: usize,
        lease: Duration,
    ) -> Result<Vec<Delivery>, SeamError> {
        let answer: Vec<(String, String, u32, Vec<u8>)> = self
            .call("pull", &self.scripts.pull, keys, |call| {
                call.arg(max).arg(millis(lease)).arg(new_id());
            })
            .await?;
        let taken: Vec<Taken> = answer
            .into_iter()
            .map(|(token, id, attempt, item)| Taken { token, id, attempt, item: Item::read(item) })
            .collect();
        self.with_history(queue, keys, taken).await
    }

    /// Adds what the Store knows of earlier attempts; puts off those whose time has not come, and leaves out
    /// those that have died: their process went before it could say so here.
    async fn with_history(
        &self,
        queue: &str,
        keys: &Keys,
        taken: Vec<Taken>,
    ) -> Result<Vec<Delivery>, SeamError> {
        let again: Vec<String> = taken.iter().filter(|t| t.attempt > 1).map(|t| t.id.clone()).collect();
        let (notes, dead) = if again.is_empty() {
            (Vec::new(), Vec::new())
        } else {
            (self.ledger.notes(queue, &again).await?, self.ledger.buried(queue, &again).await?)
        };
        let mut deliveries = Vec::with_capacity(taken.len());
        for taken in taken {
            if dead.contains(&taken.id) {
                self.finish(keys, &taken.token, taken.item.partition.as_deref()).await?;
                continue;
            }
            let note = notes.iter().find(|note| note.id == taken.id);
            if let Some(note) = note
                && note.due_at > now_ms()
            {
                let wait = Duration::from_millis((note.due_at - now_ms()).max(1).unsigned_abs());
                self.set_lease(keys, &taken.token, wait, true).await?;
                continue;
            }
            let ended = (taken.attempt > 1).then(|| LEASE_ENDED.to_owned());
            deliveries.push(Delivery {
                queue: queue.to_owned(),
                id: taken.id,
                body: taken.item.body,
                partition: taken.item.partition,
                attempt: note.map_or(0, |note| note.attempts + 1).max(taken.attempt),
                // Noted for the attempt before this one; otherwise that one ended without a word.
                reason: note
                    .filter(|note| note.attempts + 1 >= taken.attempt)
                    .map_or(ended, |note| note.reason.clone()),
                enqueued_at: taken.item.enqueued_at,
                receipt: taken.token,
            });
        }
        Ok(deliveries)
    }

    /// Waits at the server for something to come. It goes to a list of its own, from where the next look takes
    /// it, so that nothing is lost should we be gone.
    async fn wait_for(&self, keys: &Keys, wait: Duration) -> Result<(), SeamError> {
        if self.redis.is_cluster().await? {
            // Its connections are shared, so nobody may block them.
            tokio::time::sleep(wait.min(POLL)).await;
            return Ok(());
        }
        let wait = wait.min(self.redis.longest_block());
        let mut command = redis::cmd("BLMOVE");
        command.arg(&keys.list).arg(keys.side("incoming")).arg("LEFT").arg("RIGHT");
        command.arg(wait.as_secs_f64().max(0.01));
        let _: Option<Vec<u8>> = self.redis.run("wait", &command).await?;
        Ok(())
    }

    /// Removes a message for good and lets the next of its partition go; whether it was still ours.
    async fn finish(&self, keys: &Keys, token: &str, partition: Option<&str>) -> Result<bool, SeamError> {
        let done: i64 = self
            .call("ack", &self.scripts.finish, keys, |call| {
                call.arg(token).arg(partition.unwrap_or_default());
            })
            .await?;
        Ok(done == 1)
    }

    /// Sets the end of a lease; whether it was still ours. `untried`: the coming attempt is none.
    async fn set_lease(
        &self,
        keys: &Keys,
        token: &str,
        lease: Duration,
        untried: bool,
    ) -> Result<bool, SeamError> {
        let done: i64 = self
            .call("extend", &self.scripts.extend, keys, |call| {
                call.arg(token).arg(millis(lease)).arg(i32::from(untried));
            })
            .await?;
        Ok(done == 1)
    }

    async fn add_dead(&self, keys: &Keys, body: &[u8]) {
        for list in dead_lists(&keys.list) {
            let mut command = redis::cmd("RPUSH");
            command.arg(list).arg(body);
            // The letter itself is safe in the Store; this is for people to look at.
            if let Err(error) = self.redis.run::<()>("dead", &command).await {
                tracing::warn!(%error, "the list that shows dead letters is not up to date");
            }
        }
    }

    async fn remove_dead(&self, keys: &Keys, letters: &[DeadLetter]) {
        for list in dead_lists(&keys.list) {
            for letter in letters {
                let mut command = redis::cmd("LREM");
                command.arg(&list).arg(1).arg(&letter.body[..]);
                if let Err(error) = self.redis.run::<()>("dead", &command).await {
                    tracing::warn!(%error, "the list that shows dead letters is not up to date");
                    return;
                }
            }
        }
    }

    /// Goes through the dead letters that are asked for, some at a time: each lot is handed to the list again if
    /// `again`, and then removed. Should we be gone in between, they come twice rather than never.
    async fn go_through(&self, queue: &str, which: &Which, again: bool) -> Result<u64, SeamError> {
        let keys = self.keys(queue).await?;
        let mut done = 0;
        let mut skip = 0;
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
            if again {
                let items = letters.iter().map(|letter| {
                    Item::write(
                        &letter.body,
                        letter.partition.as_deref(),
                        letter.enqueued_at.unwrap_or_else(now_ms),
                    )
                });
                self.append(&keys, items).await?;
            }
            let ids = letters.iter().map(|letter| letter.id.clone()).collect();
            done += self.ledger.purge_dead(queue, &Which::Ids(ids)).await?;
            self.remove_dead(&keys, &letters).await;
        }
    }

    async fn append(&self, keys: &Keys, items: impl Iterator<Item = bytes::Bytes>) -> Result<(), SeamError> {
        let mut command = redis::cmd("RPUSH");
        command.arg(&keys.list);
        for item in items {
            command.arg(&item[..]);
        }
        self.redis.run("push", &command).await
    }
}

/// The lists that show the dead letters of a queue: the name that the Conserver's guide uses, and the one that
/// its code does.
fn dead_lists(list: &str) -> [String; 2] {
    [format!("{list}:dlq"), format!("DLQ:{list}")]
}

/// The delivery as the Store knows it, if it came from there.
fn from_store(delivery: &Delivery) -> Option<Delivery> {
    let receipt = delivery.receipt.strip_prefix(FROM_STORE)?.to_owned();
    Some(Delivery { receipt, ..delivery.clone() })
}

fn lost(delivery: &Delivery) -> SeamError {
    SeamError::LeaseLost { queue: delivery.queue.clone(), id: delivery.id.clone() }
}

#[async_trait]
impl Backend for RedisQueue {
    fn backend(&self) -> &'static str {
        REDIS
    }

    async fn ping(&self) -> Result<(), SeamError> {
        self.redis.ping().await?;
        self.ledger.ping().await
    }

    async fn warnings(&self) -> Vec<String> {
        self.redis.dangers().await
    }
}

#[async_trait]
impl Queue for RedisQueue {
    async fn push(&self, queue: &str, messages: &[Message]) -> Result<(), SeamError> {
        check_push(queue, messages)?;
        let (later, now): (Vec<_>, Vec<_>) = messages.iter().partition(|message| !message.delay.is_zero());
        let enqueued_at = now_ms();
        if !later.is_empty() {
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
            self.ledger.park(queue, &parked).await?;
        }
        if now.is_empty() {
            return Ok(());
        }
        let keys = self.keys(queue).await?;
        let items = now.into_iter().map(|m| Item::write(&m.body, m.partition.as_deref(), enqueued_at));
        self.append(&keys, items).await
    }

    async fn pull(
        &self,
        queue: &str,
        max: usize,
        lease: Duration,
        wait: Duration,
    ) -> Result<Vec<Delivery>, SeamError> {
        check_queue(queue)?;
        let keys = self.keys(queue).await?;
        let max = max.min(MAX_BATCH);
        let end = Instant::now() + wait;
        loop {
            let mut taken = self.due(queue, max, lease).await?;
            if taken.len() < max {
                // What was leased from the Store must reach the caller, or wait out its lease.
                match self.take(queue, &keys, max - taken.len(), lease).await {
                    Ok(more) => taken.extend(more),
                    Err(error) if taken.is_empty() => return Err(error),
                    Err(error) => tracing::warn!(%error, queue, "only messages of the Store can be served"),
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            if !taken.is_empty() || left.is_zero() || max == 0 {
                return Ok(taken);
            }
            self.wait_for(&keys, left).await?;
        }
    }

    async fn ack(&self, delivery: &Delivery) -> Result<(), SeamError> {
        if let Some(inner) = from_store(delivery) {
            return self.ledger.ack(&inner).await;
        }
        let keys = self.keys(&delivery.queue).await?;
        if !self.finish(&keys, &delivery.receipt, delivery.partition.as_deref()).await? {
            return Err(lost(delivery));
        }
        if delivery.partition.is_some() && delivery.attempt > 1 {
            self.ledger.forget(&delivery.queue, &delivery.id).await?;
        }
        Ok(())
    }

    async fn nack(&self, delivery: &Delivery, retry: Retry, reason: &str) -> Result<(), SeamError> {
        let queue = &delivery.queue;
        let keys = self.keys(queue).await?;
        if let Some(inner) = from_store(delivery) {
            self.ledger.nack(&inner, retry, reason).await?;
            self.look_soon(queue);
            if retry == Retry::Never {
                self.add_dead(&keys, &delivery.body).await;
            }
            return Ok(());
        }
        let partition = delivery.partition.as_deref();
        if retry == Retry::Release {
            let done: i64 = self
                .call("release", &self.scripts.release, &keys, |call| {
                    call.arg(&delivery.receipt).arg(partition.unwrap_or_default());
                })
                .await?;
            return if done == 1 { Ok(()) } else { Err(lost(delivery)) };
        }
        // It must stay ours until the Store has it.
        if !self.set_lease(&keys, &delivery.receipt, MOVING, false).await? {
            return Err(lost(delivery));
        }
        let reason = cut_reason(reason);
        match (retry, partition) {
            (Retry::After(delay), None) => {
                let parked = Parked {
                    id: delivery.id.clone(),
                    body: delivery.body.clone(),
                    attempts: delivery.attempt,
                    reason: Some(reason),
                    enqueued_at: delivery.enqueued_at,
                    due_at: after(delay),
                };
                self.ledger.park(queue, &[parked]).await?;
                self.look_soon(queue);
                self.finish(&keys, &delivery.receipt, None).await?;
            }
            (Retry::After(delay), Some(_)) => {
                let note = Note {
                    id: delivery.id.clone(),
                    attempts: delivery.attempt,
                    reason: Some(reason),
                    due_at: after(delay),
                };
                self.ledger.note(queue, &note).await?;
                self.set_lease(&keys, &delivery.receipt, delay, false).await?;
            }
            _ => {
                let letter = DeadLetter {
                    id: delivery.id.clone(),
                    body: delivery.body.clone(),
                    partition: delivery.partition.clone(),
                    attempts: delivery.attempt,
                    reason,
                    enqueued_at: delivery.enqueued_at,
                    died_at: now_ms(),
                };
                self.ledger.bury(queue, &letter).await?;
                self.finish(&keys, &delivery.receipt, partition).await?;
                self.add_dead(&keys, &delivery.body).await;
            }
        }
        Ok(())
    }

    async fn extend(&self, delivery: &Delivery, lease: Duration) -> Result<(), SeamError> {
        if let Some(inner) = from_store(delivery) {
            return self.ledger.extend(&inner, lease).await;
        }
        let keys = self.keys(&delivery.queue).await?;
        if self.set_lease(&keys, &delivery.receipt, lease, false).await? {
            return Ok(());
        }
        Err(lost(delivery))
    }

    async fn depth(&self, queue: &str) -> Result<Depth, SeamError> {
        check_queue(queue)?;
        let keys = self.keys(queue).await?;
        let (waiting, leased): (u64, u64) = self.call("depth", &self.scripts.depth, &keys, |_| {}).await?;
        let stored = self.ledger.depth(queue).await?;
        Ok(Depth { waiting: waiting + stored.waiting, leased: leased + stored.leased, ..stored })
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
        let keys = self.keys(queue).await?;
        let removed: u64 = self.call("purge", &self.scripts.purge, &keys, |_| {}).await?;
        Ok(removed + self.ledger.purge(queue).await?)
    }
}
