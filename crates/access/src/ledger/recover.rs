//! What processes that died have left: journals to replay, leases to return.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base::Outcome;
use store::{Batch, Db, StoreError, UsageRecord, now_ms};

use super::flush::FlushError;
use crate::journal::{parse_path, read_piece};

/// This process among those that share a data folder: while it lives it holds the lock of a file.
#[derive(Debug)]
pub(crate) struct OwnReplica {
    pub(crate) id: String,
    pub(crate) dir: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl OwnReplica {
    /// Takes a name that no process had before.
    pub(crate) fn take(dir: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        // No `-`, which ends the name in those of the files.
        let id = format!("{:x}x{:08x}", now_ms(), fastrand::u32(..));
        let lock_path = dir.join(format!("{id}.lock"));
        let lock = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&lock_path)?;
        lock.try_lock()?;
        Ok(OwnReplica { id, dir: dir.to_owned(), lock_path, _lock: lock })
    }

    /// Everything of it is in the Store: its files are not needed any more.
    pub(crate) fn leave(&self) -> io::Result<()> {
        for (path, (replica, ..)) in journals(&self.dir)? {
            if replica == self.id {
                fs::remove_file(path)?;
            }
        }
        fs::remove_file(&self.lock_path)
    }
}

/// Replays the journals that processes which died have left in this folder, and returns their leases. Returns
/// how many processes that were.
pub(crate) async fn recover_dead(db: &Db, own: &OwnReplica) -> Result<usize, FlushError> {
    let mut recovered = 0;
    for (replica, lock) in dead(own)? {
        let records = replay(db, &own.dir, &replica).await?;
        db.release_replica(&replica, false).await?;
        for (path, (owner, ..)) in journals(&own.dir)? {
            if owner == replica {
                fs::remove_file(path)?;
            }
        }
        fs::remove_file(own.dir.join(format!("{replica}.lock")))?;
        drop(lock);
        tracing::info!(replica, records, "replayed the usage journal of a process that has died");
        recovered += 1;
    }
    Ok(recovered)
}

/// Returns the leases of replicas that nobody has heard of for so long that their journals are not to be
/// expected soon. Should one come back all the same, its journal is charged then.
pub(crate) async fn sweep_silent(db: &Db, own: &str, since: i64) -> Result<(), StoreError> {
    for silent in db.silent_replicas(since).await? {
        if silent.replica != own {
            db.release_replica(&silent.replica, true).await?;
            tracing::warn!(
                replica = silent.replica,
                "a replica has been silent for the whole grace: its leases are returned"
            );
        }
    }
    Ok(())
}

/// The processes that hold their lock no more, each with the lock, now ours.
fn dead(own: &OwnReplica) -> io::Result<Vec<(String, File)>> {
    let mut dead = Vec::new();
    for entry in fs::read_dir(&own.dir)? {
        let path = entry?.path();
        let Some(replica) = path.file_name().and_then(|n| n.to_str()?.strip_suffix(".lock")) else {
            continue;
        };
        if replica == own.id {
            continue;
        }
        let Ok(lock) = OpenOptions::new().write(true).open(&path) else { continue };
        if lock.try_lock().is_ok() {
            dead.push((replica.to_owned(), lock));
        }
    }
    Ok(dead)
}

type Named = (PathBuf, (String, String, u32));

fn journals(dir: &Path) -> io::Result<Vec<Named>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if let Some(parsed) = parse_path(&path) {
            found.push((path, parsed));
        }
    }
    found.sort();
    Ok(found)
}

/// Carries what a dead process wrote into the Store, and charges the calls that it did not see end with what was
/// set aside for them. Returns how many records that were.
async fn replay(db: &Db, dir: &Path, replica: &str) -> Result<usize, FlushError> {
    let mut by_journal: BTreeMap<String, Vec<(u32, PathBuf)>> = BTreeMap::new();
    for (path, (owner, name, segment)) in journals(dir)? {
        if owner == replica {
            by_journal.entry(name).or_default().push((segment, path));
        }
    }
    let mut count = 0;
    for (name, mut segments) in by_journal {
        segments.sort();
        let mut open: HashMap<u64, (i64, UsageRecord)> = HashMap::new();
        for (segment, path) in segments {
            count += replay_segment(db, replica, &format!("{name}-{segment:06}"), &path, &mut open).await?;
        }
        let left: Vec<UsageRecord> =
            open.into_values().map(|(amount, record)| unseen(amount, record)).collect();
        let journal = format!("{name}-open");
        let batch = Batch { replica, journal: &journal, from: 0, to: 1, records: &left };
        db.apply(&batch).await?;
        count += left.len();
    }
    Ok(count)
}

async fn replay_segment(
    db: &Db,
    replica: &str,
    journal: &str,
    path: &Path,
    open: &mut HashMap<u64, (i64, UsageRecord)>,
) -> Result<usize, FlushError> {
    let mut carried = db.applied(replica, journal).await?;
    let (mut at, mut count) = (0, 0);
    loop {
        let piece = read_piece(path, at)?;
        if piece.to == at {
            return Ok(count);
        }
        at = piece.to;
        open.extend(piece.opened.into_iter().map(|(call, amount, record)| (call, (amount, record))));
        for call in piece.settled.iter().map(|(call, ..)| call).chain(&piece.voided) {
            open.remove(call);
        }
        let new = piece.settled.into_iter().filter(|(_, place, _)| *place as i64 > carried);
        let records: Vec<UsageRecord> = new.map(|(_, _, record)| record).collect();
        if piece.to as i64 > carried && !records.is_empty() {
            let batch = Batch { replica, journal, from: carried, to: piece.to as i64, records: &records };
            db.apply(&batch).await?;
            carried = piece.to as i64;
            count += records.len();
        }
    }
}

/// A call of which nobody knows what it came to: it may have cost all that was set aside.
fn unseen(amount: i64, record: UsageRecord) -> UsageRecord {
    UsageRecord { cost: amount, estimated: true, outcome: Outcome::Failed.as_str().into(), ..record }
}
