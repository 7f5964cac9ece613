//! A journal that is kept in the Store, for replicas without a disk of their own.
//!
//! All workers of a replica hand their entries to one task, which writes what has come together in one transaction
//! while more comes together. A call is sent when its opening is committed, and its answer ends when what it came to
//! is. What cannot be written is kept and tried again; should this process end first, the others charge the calls
//! that are open in the Store with what was set aside for them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use base::Money;
use store::{Ended, Reservation, SpendAlert, UsageCall, now_ms};
use tokio::sync::{mpsc, oneshot};

use crate::ledger::{Settled, Treasury};

/// The most entries in one transaction.
const BATCH: usize = 256;
/// How long we wait before what the Store did not take is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// What the task is handed.
pub(crate) enum Entry {
    /// A call is about to be sent. `true`: it is written down.
    Open(Reservation, oneshot::Sender<bool>),
    /// A call ended. Said when it is written down, to whoever still wants to know.
    End(Ended, oneshot::Sender<()>),
    /// Said when everything before it is written down.
    Mark(oneshot::Sender<()>),
}

/// The journal of a replica.
#[derive(Debug)]
pub(crate) struct SharedJournal {
    queue: mpsc::UnboundedSender<Entry>,
    next_call: AtomicI64,
    /// What was charged, and not told yet.
    done: Mutex<Settled>,
}

impl SharedJournal {
    /// A journal, and what [`carry`] writes. The queue is bounded by the calls in progress: none begins unless its
    /// opening was written.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Entry>) {
        let (queue, entries) = mpsc::unbounded_channel();
        (SharedJournal { queue, next_call: AtomicI64::new(0), done: Mutex::default() }, entries)
    }

    /// Notes a call that is about to be sent: its number, and whether it is written down.
    pub(crate) fn open(&self, amount: Money, known: &UsageCall<'_>) -> (i64, oneshot::Receiver<bool>) {
        let call = self.next_call.fetch_add(1, Ordering::Relaxed);
        let record = encode(known);
        let open = Reservation { call, group_id: known.group_id, amount, record, at: now_ms() };
        let (told, written) = oneshot::channel();
        self.send(Entry::Open(open, told));
        (call, written)
    }

    /// Notes what a call came to; nothing when it was not sent.
    pub(crate) fn end(&self, call: i64, ended: Option<&UsageCall<'_>>) -> oneshot::Receiver<()> {
        let (told, written) = oneshot::channel();
        self.send(Entry::End(Ended { call, record: ended.map(encode) }, told));
        written
    }

    /// Comes back when everything that was noted until now is written down.
    pub(crate) async fn written(&self) {
        let (told, written) = oneshot::channel();
        self.send(Entry::Mark(told));
        drop(written.await);
    }

    /// What was charged since the last time.
    pub(crate) fn take_settled(&self) -> Settled {
        std::mem::take(&mut *self.done.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn send(&self, entry: Entry) {
        // The task lives as long as the journal; without it nobody is told that anything was written.
        drop(self.queue.send(entry));
    }

    fn note(&self, alerts: Vec<SpendAlert>, spent: &BTreeMap<i64, Money>) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.alerts.extend(alerts);
        for (group, cost) in spent {
            *done.spent.entry(*group).or_default() += *cost;
        }
    }
}

fn encode(call: &UsageCall<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(192);
    call.encode(&mut bytes);
    bytes
}

/// Writes the entries of a replica's journal until nobody is left to make any.
pub(crate) async fn carry(treasury: Weak<Treasury>, mut entries: mpsc::UnboundedReceiver<Entry>) {
    let mut batch = Vec::with_capacity(BATCH);
    while entries.recv_many(&mut batch, BATCH).await > 0 {
        let Some(treasury) = treasury.upgrade() else { return };
        let (mut opens, mut opened) = (Vec::new(), Vec::new());
        let (mut ends, mut ended) = (Vec::new(), Vec::new());
        for entry in batch.drain(..) {
            match entry {
                // Who has given up need not be written down.
                Entry::Open(open, told) if !told.is_closed() => {
                    opens.push(open);
                    opened.push(told);
                }
                Entry::Open(..) => {}
                Entry::End(end, told) => {
                    ends.push(end);
                    ended.push(told);
                }
                Entry::Mark(told) => ended.push(told),
            }
        }
        // First, as what ended may be one of them.
        if !opens.is_empty() {
            let written = open(&treasury, &opens).await;
            for told in opened {
                // Who has given up meanwhile closes it.
                let _ = told.send(written);
            }
        }
        if !ends.is_empty() {
            end(&treasury, &ends).await;
        }
        for told in ended {
            let _ = told.send(());
        }
    }
}

async fn open(treasury: &Treasury, calls: &[Reservation]) -> bool {
    let written = match treasury.db().open_calls(treasury.replica(), calls).await {
        // We were silent for too long. Under the same name we begin anew, without what we had leased; and these
        // calls too, which must lease anew.
        Ok(false) => treasury.rejoin().await.map(|()| false),
        written => written,
    };
    written.unwrap_or_else(|error| {
        tracing::error!(%error, "the usage journal cannot be written to the store; new calls are refused");
        false
    })
}

async fn end(treasury: &Treasury, calls: &[Ended]) {
    loop {
        match treasury.db().settle_calls(treasury.replica(), calls).await {
            Ok((applied, charged)) => {
                let mut spent: BTreeMap<i64, Money> = BTreeMap::new();
                for call in charged.iter() {
                    if let Some(group) = call.group_id {
                        *spent.entry(group).or_default() += Money::nanos(call.cost);
                    }
                }
                if let Some(journal) = treasury.shared_journal() {
                    journal.note(applied.alerts, &spent);
                }
                return;
            }
            Err(error) => {
                tracing::error!(%error, calls = calls.len(), "usage waits for the store to take it");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
