//! Carrying the journals into the Store.
//!
//! The lines are read from the files themselves, so what is kept in memory is how far that has come, whatever
//! happens to the Store; and what a live process does is what is done for one that died.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use base::Money;
use store::{Batch, SpendAlert, StoreError, UsageRecord};

use super::treasury::Treasury;
use crate::journal::{Journal, Mark, Piece, read_piece, segment_path};

/// How far each journal of this process has been carried.
#[derive(Debug, Default)]
pub(crate) struct Progress(HashMap<String, Place>);

/// A place in a journal.
#[derive(Debug)]
struct Place {
    /// How far it was read.
    read: Mark,
    /// How far the Store says that this file was applied: as far as the last line that charged something.
    applied: i64,
}

impl Place {
    /// The beginning of a file.
    fn begin(segment: u32) -> Self {
        Place { read: Mark { segment, len: 0 }, applied: 0 }
    }
}

/// Why journals were not carried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FlushError {
    #[error("the usage journal cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
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
    let mut progress = treasury.progress.lock().await;
    let mut settled = Settled::default();
    for journal in treasury.journals() {
        let place = progress.0.entry(journal.name().to_owned()).or_insert_with(|| Place::begin(0));
        let until = journal.mark();
        while place.read < until {
            let piece = read(&journal, place.read).await?;
            if piece.damaged > 0 {
                tracing::error!(
                    journal = journal.name(),
                    lines = piece.damaged,
                    "lines of the usage journal are damaged"
                );
            }
            let records: Vec<UsageRecord> = piece.settled.into_iter().map(|(_, _, record)| record).collect();
            let (from, to) = (place.read.len, piece.to);
            if !records.is_empty() {
                let name = format!("{}-{:06}", journal.name(), place.read.segment);
                let batch = Batch {
                    replica: treasury.replica(),
                    journal: &name,
                    from: place.applied,
                    to: to as i64,
                    records: &records,
                };
                match treasury.db().apply(&batch).await? {
                    Some(applied) => {
                        place.applied = batch.to;
                        settled.alerts.extend(applied.alerts);
                        for record in &records {
                            if let Some(group) = record.group_id {
                                *settled.spent.entry(group).or_default() += Money::nanos(record.cost);
                            }
                        }
                    }
                    // The answer to an earlier try was lost: the Store knows how far that came, and from there we
                    // read on. The piece may have grown since, and what it began with is charged already.
                    None => {
                        place.applied = treasury.db().applied(treasury.replica(), &name).await?;
                        place.read.len = from.max(place.applied as u64);
                        continue;
                    }
                }
            }
            place.read.len = to;
            if place.read.segment < until.segment && to == from {
                let done = segment_path(journal.dir(), journal.name(), place.read.segment);
                *place = Place::begin(place.read.segment + 1);
                tokio::task::spawn_blocking(move || std::fs::remove_file(done))
                    .await
                    .map_err(io::Error::other)??;
            } else if to == from {
                break;
            }
        }
    }
    Ok(settled)
}

/// Forces to the disk what was written, and reads on from a place.
async fn read(journal: &Arc<Journal>, from: Mark) -> io::Result<Piece> {
    let journal = Arc::clone(journal);
    let read = tokio::task::spawn_blocking(move || {
        if let Some(file) = journal.unsynced()? {
            file.sync_data()?;
        }
        read_piece(&segment_path(journal.dir(), journal.name(), from.segment), from.len)
    });
    read.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base::Money;
    use store::settings::PoolSettings;
    use store::{Batch, Db, GroupFields, UsageRecord};

    use super::super::{Desk, Notify, Treasury};
    use super::flush;

    struct Nobody;

    impl Notify for Nobody {
        fn give_back(&self, _: i64) {}
    }

    /// Mutation: reading on from where the lost try began charges the first call twice.
    #[tokio::test]
    async fn a_try_whose_answer_was_lost_is_not_charged_again() {
        let dir = tempfile::tempdir().unwrap();
        let url = Db::sqlite_url(&dir.path().join("test.db"));
        let db = Db::open(&url, None, &PoolSettings::default()).await.unwrap();
        db.migrate().await.unwrap();
        let fields = GroupFields { name: "g".into(), ..GroupFields::default() };
        let group = db.create_group(&fields, Money::nanos(1_000), "test").await.unwrap();
        let control = tokio::runtime::Handle::current();
        let treasury = Arc::new(Treasury::new(db.clone(), "r".into(), control, Box::new(Nobody)));
        let (account, desk) = (treasury.account(&group), Desk::open(&treasury, dir.path()).unwrap());
        let call = async |cost: i64| {
            let record = UsageRecord { group_id: Some(group.id), cost, ..UsageRecord::default() };
            let charge = desk.begin(Some(&account), Money::nanos(50), record.clone()).await.unwrap();
            charge.settle(|record| record.cost = cost);
            record
        };
        // What an earlier try has done, of which we never heard.
        let first = call(30).await;
        let journal = treasury.journals().remove(0);
        let name = format!("{}-000000", journal.name());
        let to = journal.mark().len as i64;
        let batch = Batch { replica: "r", journal: &name, from: 0, to, records: &[first] };
        db.apply(&batch).await.unwrap().unwrap();
        call(12).await;
        flush(&treasury).await.unwrap();
        flush(&treasury).await.unwrap();
        let seen = db.group(group.id).await.unwrap();
        assert_eq!((seen.spent, seen.balance), (Money::nanos(42), Money::nanos(958)));
    }
}
