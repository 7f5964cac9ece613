//! Carrying the journals into the Store.
//!
//! Calls that ended come from memory, where the journal keeps them beside its file; and from the file when they were
//! too many for that, or it is not known how far an earlier try came. How far the Store has come is kept with what it
//! was told, in one transaction: so it does not matter how often it is told.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use base::Money;
use store::{Batch, Calls, SpendAlert, StoreError};

use super::treasury::Treasury;
use crate::journal::{Chunk, Journal, Mark, read_piece, segment_path};

/// How long we wait until what was noted is in the Store, where that is the journal.
const PATIENCE: Duration = Duration::from_secs(10);

/// How far each journal of this process has been carried.
#[derive(Debug, Default)]
pub(crate) struct Progress(HashMap<String, Place>);

/// A place in a journal.
#[derive(Debug, Default)]
struct Place {
    /// How far it was read.
    read: Mark,
    /// How far the Store says that this file was applied: as far as the last piece that charged something.
    applied: i64,
    /// What was taken from the journal's memory and is still to be carried.
    chunks: VecDeque<Chunk>,
}

/// Why journals were not carried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FlushError {
    #[error("the usage journal cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the store has not taken what was used")]
    Behind,
    #[error(
        "{0} is a usage journal of an earlier version of Trunkline: start that version in this data folder once, so that \
         it carries what is in there to the store"
    )]
    Old(std::path::PathBuf),
}

/// What was carried.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// Groups that have crossed a threshold of their credit.
    pub(crate) alerts: Vec<SpendAlert>,
    /// What each group has spent.
    pub(crate) spent: BTreeMap<i64, Money>,
}

/// Carries everything that was written until now.
pub(crate) async fn flush(treasury: &Arc<Treasury>) -> Result<Settled, FlushError> {
    if let Some(journal) = treasury.shared_journal() {
        let written = tokio::time::timeout(PATIENCE, journal.written()).await;
        return written.map(|()| journal.take_settled()).map_err(|_| FlushError::Behind);
    }
    let mut progress = treasury.progress.lock().await;
    let mut settled = Settled::default();
    for journal in treasury.journals() {
        let place = progress.0.entry(journal.name().to_owned()).or_default();
        // Once: what is written from now on has its turn next time.
        if place.chunks.is_empty() {
            place.chunks.extend(journal.take());
        }
        sync(&journal).await?;
        while let Some(chunk) = place.chunks.front() {
            if place.read >= chunk.to {
                place.chunks.pop_front();
            } else if place.read == chunk.from {
                let (to, calls) = (chunk.to, chunk.calls.clone());
                carry(treasury, &journal, place, to.len, &calls, &mut settled).await?;
            } else {
                // Before it, or within.
                let until = if place.read < chunk.from { chunk.from } else { chunk.to };
                catch_up(treasury, &journal, place, until, &mut settled).await?;
            }
        }
    }
    Ok(settled)
}

/// Carries the next piece from the file, at most until a mark.
async fn catch_up(
    treasury: &Arc<Treasury>,
    journal: &Arc<Journal>,
    place: &mut Place,
    until: Mark,
    settled: &mut Settled,
) -> Result<(), FlushError> {
    let from = place.read;
    let end = if from.segment == until.segment { until.len } else { u64::MAX };
    let reading = Arc::clone(journal);
    let read = tokio::task::spawn_blocking(move || {
        read_piece(&segment_path(reading.dir(), reading.name(), from.segment), from.len, end)
    });
    let piece = read.await.map_err(io::Error::other)??;
    if piece.damaged > 0 {
        tracing::error!(journal = journal.name(), places = piece.damaged, "the usage journal is damaged");
    }
    if piece.to > from.len {
        let mut calls = Calls::default();
        piece.settled.iter().for_each(|(_, _, call)| calls.push_bytes(call));
        return carry(treasury, journal, place, piece.to, &calls, settled).await;
    }
    if from.segment == until.segment {
        // What was written is whole: somebody has cut the file.
        tracing::error!(journal = journal.name(), "the usage journal ends before its time");
        place.read = until;
        return Ok(());
    }
    // All of this file is in the Store, and what the next one took over from it is on the disk.
    let done = segment_path(journal.dir(), journal.name(), from.segment);
    (place.read, place.applied) = (Mark { segment: from.segment + 1, len: 0 }, 0);
    tokio::task::spawn_blocking(move || std::fs::remove_file(done)).await.map_err(io::Error::other)??;
    Ok(())
}

/// Tells the Store what a piece of a file says, from where we are until `to`.
async fn carry(
    treasury: &Treasury,
    journal: &Journal,
    place: &mut Place,
    to: u64,
    calls: &Calls,
    settled: &mut Settled,
) -> Result<(), FlushError> {
    if !calls.is_empty() {
        let name = format!("{}-{:06}", journal.name(), place.read.segment);
        let batch =
            Batch { replica: treasury.replica(), journal: &name, from: place.applied, to: to as i64, calls };
        match treasury.db().apply(&batch).await? {
            Some(applied) => {
                place.applied = batch.to;
                settled.alerts.extend(applied.alerts);
                for call in calls.iter() {
                    if let Some(group) = call.group_id {
                        *settled.spent.entry(group).or_default() += Money::nanos(call.cost);
                    }
                }
            }
            // The answer to an earlier try was lost: the Store knows how far that came, and from there we read on.
            // There may be more since, and what it began with is charged already.
            None => {
                place.applied = treasury.db().applied(treasury.replica(), &name).await?;
                place.read.len = place.read.len.max(place.applied as u64);
                return Ok(());
            }
        }
    }
    place.read.len = to;
    Ok(())
}

/// Forces to the disk what was written.
async fn sync(journal: &Arc<Journal>) -> io::Result<()> {
    let files = journal.unsynced()?;
    if files.is_empty() {
        return Ok(());
    }
    let synced =
        tokio::task::spawn_blocking(move || files.iter().try_for_each(std::fs::File::sync_data)).await;
    synced.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base::Money;
    use store::settings::PoolSettings;
    use store::{Batch, Calls, Db, GroupFields, UsageCall};

    use super::super::{Account, Desk, JournalKind, Notify, Treasury};
    use super::flush;

    struct Nobody;

    impl Notify for Nobody {
        fn give_back(&self, _: i64) {}
    }

    struct Setup {
        db: Db,
        treasury: Arc<Treasury>,
        group: i64,
        desk: Desk,
        account: Arc<Account>,
        dir: tempfile::TempDir,
    }

    async fn setup() -> Setup {
        let dir = tempfile::tempdir().unwrap();
        let url = Db::sqlite_url(&dir.path().join("test.db"));
        let db = Db::open(&url, None, &PoolSettings::default()).await.unwrap();
        db.migrate().await.unwrap();
        let fields = GroupFields { name: "g".into(), ..GroupFields::default() };
        let group = db.create_group(&fields, Money::nanos(1_000), "test").await.unwrap();
        let treasury = Treasury::begin(db.clone(), "r".into(), JournalKind::File, "1", Box::new(Nobody));
        let (account, desk) = (treasury.account(&group), Desk::open(&treasury, dir.path()).unwrap());
        Setup { db, treasury, group: group.id, desk, account, dir }
    }

    impl Setup {
        async fn call(&self, cost: i64) -> Calls {
            let ended = UsageCall { group_id: Some(self.group), cost, ..UsageCall::default() };
            let charge = self.desk.begin(Some(&self.account), Money::nanos(50), &ended).await.unwrap();
            assert!(charge.settle(&ended).is_none(), "a file is written at once");
            let mut calls = Calls::default();
            calls.push(&ended);
            calls
        }

        async fn spent(&self) -> i64 {
            for _ in 0..2 {
                flush(&self.treasury).await.unwrap();
            }
            let seen = self.db.group(self.group).await.unwrap();
            assert_eq!(seen.balance, Money::nanos(1_000) - seen.spent);
            seen.spent.as_nanos()
        }
    }

    /// Mutation: reading on from where the lost try began charges the first call twice.
    #[tokio::test]
    async fn a_try_whose_answer_was_lost_is_not_charged_again() {
        let setup = setup().await;
        // What an earlier try has done, of which we never heard.
        let first = setup.call(30).await;
        let journal = setup.treasury.journals().remove(0);
        let name = format!("{}-000000", journal.name());
        let to = journal.mark().len as i64;
        let batch = Batch { replica: "r", journal: &name, from: 0, to, calls: &first };
        setup.db.apply(&batch).await.unwrap().unwrap();
        setup.call(12).await;
        assert_eq!(setup.spent().await, 42);
        setup.call(5).await;
        assert_eq!(setup.spent().await, 47);
    }

    /// Mutation: without the gap that the journal tells of, what memory lost is not charged.
    #[tokio::test]
    async fn what_is_not_in_memory_is_read_from_the_files() {
        let setup = setup().await;
        let journal = setup.treasury.journals().remove(0);
        let (mut expected, mut cost) = (0, 1);
        for lose in [true, false, true, true] {
            for turn in [false, true, false] {
                if turn {
                    journal.fill();
                }
                for _ in 0..2 {
                    setup.call(cost).await;
                    expected += cost;
                    cost += 1;
                }
                if lose {
                    journal.lose();
                }
            }
            assert_eq!(setup.spent().await, expected);
        }
        let files = std::fs::read_dir(setup.dir.path()).unwrap().filter(|file| {
            file.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "journal")
        });
        assert_eq!(files.count(), 1, "files that are in the store are gone");
    }
}
