//! The end of a chain: what it changed is kept, then the vCon goes out, then it is taken off its list; for many at
//! once. In this order a crash in between repeats a step and never leaves one out.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use base::seams::{Delivery, MAX_BATCH, Message, Queue, SeamError};
use base::vcons::{Change, Vcons};
use tokio::sync::{Notify, mpsc, oneshot};

/// The most vCons of one commit.
const BATCH: usize = 64;
/// How long is waited before what could not be written is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// A vCon that a chain is done with.
pub(crate) struct Finished {
    pub(crate) change: Change,
    pub(crate) egress: Vec<String>,
    pub(crate) delivery: Delivery,
    /// Told when all of it is done.
    pub(crate) done: oneshot::Sender<()>,
}

/// Where finished vCons are handed in.
#[derive(Clone)]
pub(crate) struct Finisher(mpsc::Sender<Finished>);

impl Finisher {
    /// Starts the task on the current runtime.
    pub(crate) fn start(vcons: Arc<dyn Vcons>, queue: Arc<dyn Queue>, pushed: Arc<Notify>) -> Self {
        let (sender, inbox) = mpsc::channel(BATCH * 4);
        drop(tokio::spawn(run(inbox, vcons, queue, pushed)));
        Finisher(sender)
    }

    /// Brings a vCon to its end. Returns when that is durable, or the process goes down.
    pub(crate) async fn finish(
        &self,
        change: Change,
        egress: Vec<String>,
        delivery: Delivery,
    ) -> Result<(), SeamError> {
        let (done, told) = oneshot::channel();
        let gone = || SeamError::Unavailable { backend: "conversations", reason: "shutting down".into() };
        self.0.send(Finished { change, egress, delivery, done }).await.map_err(|_| gone())?;
        told.await.map_err(|_| gone())
    }
}

async fn run(
    mut inbox: mpsc::Receiver<Finished>,
    vcons: Arc<dyn Vcons>,
    queue: Arc<dyn Queue>,
    pushed: Arc<Notify>,
) {
    let mut waiting: Vec<Finished> = Vec::new();
    loop {
        if waiting.is_empty() && inbox.recv_many(&mut waiting, BATCH).await == 0 {
            return;
        }
        let mut uuids = HashSet::new();
        let (batch, later): (Vec<_>, Vec<_>) =
            waiting.drain(..).partition(|finished| uuids.insert(finished.change.uuid.clone()));
        waiting = later;
        write(batch, &*vcons, &*queue).await;
        pushed.notify_one();
    }
}

async fn write(batch: Vec<Finished>, vcons: &dyn Vcons, queue: &dyn Queue) {
    let changes: Vec<Change> = batch.iter().map(|finished| finished.change.clone()).collect();
    until_it_works("kept", || vcons.change(&changes)).await;
    let mut lists: BTreeMap<&str, Vec<Message>> = BTreeMap::new();
    for finished in &batch {
        for list in &finished.egress {
            lists.entry(list).or_default().push(Message::new(finished.change.uuid.clone()));
        }
    }
    for (list, messages) in &lists {
        for messages in messages.chunks(MAX_BATCH) {
            until_it_works("put into its egress list", || queue.push(list, messages)).await;
        }
    }
    let (deliveries, done): (Vec<Delivery>, Vec<_>) =
        batch.into_iter().map(|finished| (finished.delivery, finished.done)).unzip();
    until_it_works("taken off its list", || queue.ack_all(&deliveries)).await;
    for done in done {
        // Who was stopped does not hear of it.
        let _ = done.send(());
    }
}

/// Repeats what fails for now. There is nothing better to do: the work is done, and has to be written. Should it
/// last, the leases end and others do it again.
async fn until_it_works<F>(what: &str, act: impl Fn() -> F)
where
    F: Future<Output = Result<(), SeamError>>,
{
    loop {
        match act().await {
            Ok(()) => return,
            Err(error) if error.is_temporary() => {
                tracing::error!(%error, "a vCon cannot be {what} for now; trying again");
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => {
                tracing::error!(%error, "a vCon cannot be {what}");
                return;
            }
        }
    }
}
