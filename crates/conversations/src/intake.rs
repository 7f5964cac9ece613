//! Taking vCons in: many callers, few commits.
//!
//! One task gathers what has come meanwhile, keeps it with one commit, puts it into its lists, and only then says so
//! to each caller. What arrives while a commit is under way goes with the next one.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use base::seams::{Message, Queue, SeamError};
use base::vcons::{Draft, Kept, Posted, Vcons};
use tokio::sync::{Notify, mpsc, oneshot};

/// The most vCons of one commit.
const BATCH: usize = 100;
/// The most that wait.
const WAITING: usize = 4_096;

/// A vCon on its way in.
pub(crate) struct Submission {
    pub(crate) draft: Draft,
    pub(crate) answer: oneshot::Sender<Result<Kept, SeamError>>,
}

/// Where vCons are handed in. Cheap to clone; usable from any runtime.
#[derive(Clone)]
pub(crate) struct Intake(mpsc::Sender<Submission>);

impl Intake {
    /// Starts the task on the current runtime. `pushed` is told when something was put into a list.
    pub(crate) fn start(vcons: Arc<dyn Vcons>, queue: Arc<dyn Queue>, pushed: Arc<Notify>) -> Self {
        let (sender, inbox) = mpsc::channel(WAITING);
        drop(tokio::spawn(run(inbox, vcons, queue, pushed)));
        Intake(sender)
    }

    /// Keeps a vCon and puts it into its lists; durable when this returns.
    pub(crate) async fn submit(&self, draft: Draft) -> Result<Kept, SeamError> {
        let (answer, answered) = oneshot::channel();
        let gone = || SeamError::Unavailable { backend: "conversations", reason: "shutting down".into() };
        self.0.send(Submission { draft, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

async fn run(
    mut inbox: mpsc::Receiver<Submission>,
    vcons: Arc<dyn Vcons>,
    queue: Arc<dyn Queue>,
    pushed: Arc<Notify>,
) {
    let mut waiting: Vec<Submission> = Vec::new();
    let mut sure: Vec<Posted> = Vec::new();
    loop {
        if waiting.is_empty() {
            if !sure.is_empty() && inbox.is_empty() {
                // Nobody waits: time for what need not be durable.
                note(&*vcons, &mut sure).await;
                continue;
            }
            if inbox.recv_many(&mut waiting, BATCH).await == 0 {
                note(&*vcons, &mut sure).await;
                return;
            }
        }
        // Of one vCon only the first: the next one must find what this one has left.
        let mut uuids = HashSet::new();
        let (batch, later): (Vec<_>, Vec<_>) =
            waiting.drain(..).partition(|submission| uuids.insert(submission.draft.uuid.clone()));
        waiting = later;
        if sure.iter().any(|posted| uuids.contains(&posted.uuid)) || sure.len() >= 10 * BATCH {
            note(&*vcons, &mut sure).await;
        }
        take(batch, &*vcons, &*queue, &mut sure).await;
        pushed.notify_one();
    }
}

async fn note(vcons: &dyn Vcons, sure: &mut Vec<Posted>) {
    if sure.is_empty() {
        return;
    }
    if let Err(error) = vcons.posted(sure).await {
        tracing::warn!(%error, "a vCon that is sent again may be processed again");
    }
    sure.clear();
}

async fn take(batch: Vec<Submission>, vcons: &dyn Vcons, queue: &dyn Queue, sure: &mut Vec<Posted>) {
    let (drafts, answers): (Vec<Draft>, Vec<_>) =
        batch.into_iter().map(|submission| (submission.draft, submission.answer)).unzip();
    let kept = match vcons.put(&drafts).await {
        Ok(kept) => kept,
        Err(error) => {
            for answer in answers {
                drop(answer.send(Err(error.clone())));
            }
            return;
        }
    };
    let mut lists: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, (draft, kept)) in drafts.iter().zip(&kept).enumerate() {
        for list in draft.lists.iter().filter(|list| !kept.queued.contains(list)) {
            lists.entry(list).or_default().push(index);
        }
    }
    let mut failed: Vec<Option<SeamError>> = vec![None; drafts.len()];
    for (list, indices) in &lists {
        let messages: Vec<Message> =
            indices.iter().map(|index| Message::new(drafts[*index].uuid.clone())).collect();
        match queue.push(list, &messages).await {
            Ok(()) => sure.extend(indices.iter().map(|index| Posted {
                uuid: drafts[*index].uuid.clone(),
                list: (*list).to_owned(),
                content: drafts[*index].content.clone(),
            })),
            Err(error) => indices.iter().for_each(|index| failed[*index] = Some(error.clone())),
        }
    }
    for ((answer, kept), failed) in answers.into_iter().zip(kept).zip(failed) {
        // Who has gone away does not hear of it; what was taken in stays.
        drop(answer.send(failed.map_or(Ok(kept), Err)));
    }
}
