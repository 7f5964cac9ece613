//! The queue of one process, forgotten with it: for tests, and the model of what the others do. It is also
//! the [`Ledger`] that tests of the brokers use.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base::seams::{
    Backend, DeadLetter, Delivery, Depth, Ledger, MAX_BATCH, Message, Note, Parked, Queue, Retry, SeamError,
    Which, cut_reason,
};
use bytes::Bytes;
use tokio::sync::Notify;

use super::{LEASE_ENDED, check_push, check_queue, new_id};
use crate::time::{after, now_ms};

/// The most bytes of bodies that are kept.
const MAX_BYTES: usize = 256 << 20;
/// How long is slept at most before what has become due is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// Queues in memory.
#[derive(Default)]
pub struct MemoryQueue {
    state: Mutex<State>,
    pushed: Notify,
}

#[derive(Default)]
struct State {
    queues: HashMap<String, Messages>,
    bytes: usize,
    next: u64,
}

#[derive(Default)]
struct Messages {
    /// By their place in the order.
    waiting: BTreeMap<u64, Entry>,
    dead: BTreeMap<u64, DeadLetter>,
    notes: HashMap<String, Note>,
}

struct Entry {
    id: String,
    body: Bytes,
    partition: Option<String>,
    attempts: u32,
    reason: Option<String>,
    enqueued_at: Option<i64>,
    visible_at: i64,
    /// The lease: its receipt and its end.
    lease: Option<(String, i64)>,
}

impl MemoryQueue {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take(&self, queue: &str, max: usize, lease: Duration) -> Vec<Delivery> {
        let (now, until) = (now_ms(), after(lease));
        self.with(|state| {
            let Some(messages) = state.queues.get_mut(queue) else { return Vec::new() };
            let mut busy = HashSet::new();
            let mut taken = Vec::new();
            for (place, entry) in &mut messages.waiting {
                if taken.len() >= max {
                    break;
                }
                // Whatever state an earlier one is in, it comes first.
                let blocked =
                    entry.partition.as_ref().is_some_and(|partition| !busy.insert(partition.clone()));
                let leased = entry.lease.as_ref().is_some_and(|(_, until)| *until > now);
                if blocked || leased || entry.visible_at > now {
                    continue;
                }
                if entry.lease.is_some() {
                    entry.reason = Some(LEASE_ENDED.to_owned());
                }
                let receipt = format!("{place}:{}", new_id());
                entry.attempts += 1;
                entry.lease = Some((receipt.clone(), until));
                taken.push(Delivery {
                    queue: queue.to_owned(),
                    id: entry.id.clone(),
                    body: entry.body.clone(),
                    partition: entry.partition.clone(),
                    attempt: entry.attempts,
                    reason: entry.reason.clone(),
                    enqueued_at: entry.enqueued_at,
                    receipt,
                });
            }
            taken
        })
    }

    /// Acts on a message under lease.
    fn leased<T>(&self, delivery: &Delivery, act: impl FnOnce(&mut State, u64) -> T) -> Result<T, SeamError> {
        let lost = || SeamError::LeaseLost { queue: delivery.queue.clone(), id: delivery.id.clone() };
        let place = delivery.receipt.split(':').next().and_then(|place| place.parse::<u64>().ok());
        let place = place.ok_or_else(lost)?;
        self.with(|state| {
            let entry = state.queues.get(&delivery.queue).and_then(|messages| messages.waiting.get(&place));
            let lease = entry.and_then(|entry| entry.lease.as_ref());
            if lease.is_none_or(|(receipt, _)| *receipt != delivery.receipt) {
                return Err(lost());
            }
            Ok(act(state, place))
        })
    }
}

impl State {
    fn add(&mut self, queue: &str, entry: Entry) -> Result<(), SeamError> {
        if self.bytes + entry.body.len() > MAX_BYTES {
            let reason = format!("the queues in memory are full ({MAX_BYTES} bytes): use another backend");
            return Err(SeamError::Refused { backend: "memory", reason });
        }
        self.bytes += entry.body.len();
        self.next += 1;
        self.queues.entry(queue.to_owned()).or_default().waiting.insert(self.next, entry);
        Ok(())
    }

    fn remove(&mut self, queue: &str, place: u64) -> Option<Entry> {
        let entry = self.queues.get_mut(queue)?.waiting.remove(&place)?;
        self.bytes -= entry.body.len();
        Some(entry)
    }

    fn entry(&mut self, queue: &str, place: u64) -> Option<&mut Entry> {
        self.queues.get_mut(queue)?.waiting.get_mut(&place)
    }

    fn bury(&mut self, queue: &str, letter: DeadLetter) {
        self.next += 1;
        let place = self.next;
        let messages = self.queues.entry(queue.to_owned()).or_default();
        messages.notes.remove(&letter.id);
        if messages.dead.values().all(|known| known.id != letter.id) {
            self.bytes += letter.body.len();
            messages.dead.insert(place, letter);
        }
    }

    fn exhume(&mut self, queue: &str, which: &Which) -> Vec<DeadLetter> {
        let Some(messages) = self.queues.get_mut(queue) else { return Vec::new() };
        let most = match which {
            Which::Oldest(count) => usize::try_from(*count).unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        let wanted = |letter: &DeadLetter| !matches!(which, Which::Ids(ids) if !ids.contains(&letter.id));
        let places: Vec<u64> = messages
            .dead
            .iter()
            .filter(|(_, letter)| wanted(letter))
            .map(|(place, _)| *place)
            .take(most)
            .collect();
        let letters: Vec<_> = places.iter().filter_map(|place| messages.dead.remove(place)).collect();
        self.bytes -= letters.iter().map(|letter| letter.body.len()).sum::<usize>();
        letters
    }
}

#[async_trait]
impl Backend for MemoryQueue {
    fn backend(&self) -> &'static str {
        "memory"
    }

    async fn ping(&self) -> Result<(), SeamError> {
        Ok(())
    }

    async fn warnings(&self) -> Vec<String> {
        vec!["Queued work is in memory and is lost when the process ends.".to_owned()]
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn push(&self, queue: &str, messages: &[Message]) -> Result<(), SeamError> {
        check_push(queue, messages)?;
        let now = now_ms();
        self.with(|state| {
            messages.iter().try_for_each(|message| {
                state.add(
                    queue,
                    Entry {
                        id: new_id(),
                        body: message.body.clone(),
                        partition: message.partition.clone(),
                        attempts: 0,
                        reason: None,
                        enqueued_at: Some(now),
                        visible_at: if message.delay.is_zero() { now } else { after(message.delay) },
                        lease: None,
                    },
                )
            })
        })?;
        self.pushed.notify_waiters();
        Ok(())
    }

    async fn pull(
        &self,
        queue: &str,
        max: usize,
        lease: Duration,
        wait: Duration,
    ) -> Result<Vec<Delivery>, SeamError> {
        check_queue(queue)?;
        let end = Instant::now() + wait;
        loop {
            let pushed = self.pushed.notified();
            let taken = self.take(queue, max.min(MAX_BATCH), lease);
            let left = end.saturating_duration_since(Instant::now());
            if !taken.is_empty() || left.is_zero() {
                return Ok(taken);
            }
            drop(tokio::time::timeout(left.min(LOOK), pushed).await);
        }
    }

    async fn ack(&self, delivery: &Delivery) -> Result<(), SeamError> {
        self.leased(delivery, |state, place| drop(state.remove(&delivery.queue, place)))?;
        self.pushed.notify_waiters();
        Ok(())
    }

    async fn nack(&self, delivery: &Delivery, retry: Retry, reason: &str) -> Result<(), SeamError> {
        self.leased(delivery, |state, place| {
            let queue = &delivery.queue;
            if retry == Retry::Never {
                if let Some(entry) = state.remove(queue, place) {
                    let letter = DeadLetter {
                        id: entry.id,
                        body: entry.body,
                        partition: entry.partition,
                        attempts: entry.attempts,
                        reason: cut_reason(reason),
                        enqueued_at: entry.enqueued_at,
                        died_at: now_ms(),
                    };
                    state.bury(queue, letter);
                }
                return;
            }
            let Some(entry) = state.entry(queue, place) else { return };
            entry.lease = None;
            match retry {
                Retry::After(delay) => {
                    entry.visible_at = after(delay);
                    entry.reason = Some(cut_reason(reason));
                }
                _ => entry.attempts -= 1,
            }
        })?;
        self.pushed.notify_waiters();
        Ok(())
    }

    async fn extend(&self, delivery: &Delivery, lease: Duration) -> Result<(), SeamError> {
        self.leased(delivery, |state, place| {
            if let Some(entry) = state.entry(&delivery.queue, place) {
                entry.lease = Some((delivery.receipt.clone(), after(lease)));
            }
        })
    }

    async fn depth(&self, queue: &str) -> Result<Depth, SeamError> {
        check_queue(queue)?;
        let now = now_ms();
        Ok(self.with(|state| {
            let mut depth = Depth::default();
            let Some(messages) = state.queues.get(queue) else { return depth };
            depth.dead = messages.dead.len() as u64;
            for entry in messages.waiting.values() {
                let leased = entry.lease.as_ref().is_some_and(|(_, until)| *until > now);
                match (leased, entry.visible_at > now) {
                    (true, _) => depth.leased += 1,
                    (false, true) => depth.delayed += 1,
                    (false, false) => depth.waiting += 1,
                }
            }
            depth
        }))
    }

    async fn dead(&self, queue: &str, skip: u64, limit: usize) -> Result<Vec<DeadLetter>, SeamError> {
        check_queue(queue)?;
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        Ok(self.with(|state| {
            let dead = state.queues.get(queue).into_iter().flat_map(|messages| messages.dead.values());
            dead.skip(skip).take(limit).cloned().collect()
        }))
    }

    async fn replay(&self, queue: &str, which: &Which) -> Result<u64, SeamError> {
        check_queue(queue)?;
        let count = self.with(|state| {
            let letters = state.exhume(queue, which);
            let count = letters.len() as u64;
            for letter in letters {
                let entry = Entry {
                    id: letter.id,
                    body: letter.body,
                    partition: letter.partition,
                    attempts: 0,
                    reason: None,
                    enqueued_at: letter.enqueued_at,
                    visible_at: now_ms(),
                    lease: None,
                };
                state.add(queue, entry)?;
            }
            Ok::<_, SeamError>(count)
        })?;
        self.pushed.notify_waiters();
        Ok(count)
    }

    async fn purge_dead(&self, queue: &str, which: &Which) -> Result<u64, SeamError> {
        check_queue(queue)?;
        Ok(self.with(|state| state.exhume(queue, which).len() as u64))
    }

    async fn purge(&self, queue: &str) -> Result<u64, SeamError> {
        check_queue(queue)?;
        let now = now_ms();
        Ok(self.with(|state| {
            let messages = state.queues.entry(queue.to_owned()).or_default();
            let leased = |entry: &Entry| entry.lease.as_ref().is_some_and(|(_, until)| *until > now);
            let places: Vec<u64> = messages
                .waiting
                .iter()
                .filter(|(_, entry)| !leased(entry))
                .map(|(place, _)| *place)
                .collect();
            places.iter().filter(|place| state.remove(queue, **place).is_some()).count() as u64
        }))
    }
}

#[async_trait]
impl Ledger for MemoryQueue {
    async fn park(&self, queue: &str, messages: &[Parked]) -> Result<(), SeamError> {
        self.with(|state| {
            messages.iter().try_for_each(|parked| {
                let known = state.queues.get(queue).and_then(|messages| {
                    messages.waiting.iter().find(|(_, entry)| entry.id == parked.id).map(|(place, _)| *place)
                });
                if let Some(place) = known {
                    state.remove(queue, place);
                }
                let entry = Entry {
                    id: parked.id.clone(),
                    body: parked.body.clone(),
                    partition: None,
                    attempts: parked.attempts,
                    reason: parked.reason.clone(),
                    enqueued_at: parked.enqueued_at,
                    visible_at: parked.due_at,
                    lease: None,
                };
                state.add(queue, entry)
            })
        })?;
        self.pushed.notify_waiters();
        Ok(())
    }

    async fn note(&self, queue: &str, note: &Note) -> Result<(), SeamError> {
        self.with(|state| {
            let messages = state.queues.entry(queue.to_owned()).or_default();
            messages.notes.insert(note.id.clone(), note.clone());
        });
        Ok(())
    }

    async fn notes(&self, queue: &str, ids: &[String]) -> Result<Vec<Note>, SeamError> {
        Ok(self.with(|state| {
            let Some(messages) = state.queues.get(queue) else { return Vec::new() };
            ids.iter().filter_map(|id| messages.notes.get(id).cloned()).collect()
        }))
    }

    async fn forget(&self, queue: &str, id: &str) -> Result<(), SeamError> {
        self.with(|state| {
            if let Some(messages) = state.queues.get_mut(queue) {
                messages.notes.remove(id);
            }
        });
        Ok(())
    }

    async fn bury(&self, queue: &str, letter: &DeadLetter) -> Result<(), SeamError> {
        self.with(|state| state.bury(queue, letter.clone()));
        Ok(())
    }

    async fn buried(&self, queue: &str, ids: &[String]) -> Result<Vec<String>, SeamError> {
        Ok(self.with(|state| {
            let Some(messages) = state.queues.get(queue) else { return Vec::new() };
            let dead: HashSet<&String> = messages.dead.values().map(|letter| &letter.id).collect();
            ids.iter().filter(|id| dead.contains(id)).cloned().collect()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn conforms() {
        let queue = MemoryQueue::default();
        crate::conformance::queue(&queue, "memory").await.unwrap();
        crate::conformance::ledger(&queue, "memory").await.unwrap();
        assert_eq!(queue.with(|state| state.bytes), 0, "what is gone is not counted");
    }
}
