//! What processes that died have left: journals to replay, leases to return.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base::Money;
use store::{Batch, Calls, Db, StoreError, UsageCall, now_ms};

use super::JournalKind;
use super::flush::FlushError;
use crate::journal::{is_old, parse_path, read_piece};

/// This process among those that share a data folder: while it lives it holds the lock of a file, unless it keeps
/// nothing there.
#[derive(Debug)]
pub(crate) struct OwnReplica {
    pub(crate) id: String,
    pub(crate) dir: PathBuf,
    lock: Option<(PathBuf, File)>,
}

impl OwnReplica {
    /// Takes a name that no process had before.
    pub(crate) fn take(dir: &Path, journal: JournalKind) -> io::Result<Self> {
        // No `-`, which ends the name in those of the files.
        let id = format!("{:x}x{:08x}", now_ms(), fastrand::u32(..));
        let lock = match journal {
            JournalKind::Store => None,
            JournalKind::File => {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
                let path = dir.join(format!("{id}.lock"));
                let lock = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
                lock.try_lock()?;
                Some((path, lock))
            }
        };
        Ok(OwnReplica { id, dir: dir.to_owned(), lock })
    }

    /// Everything of it is in the Store: its files are not needed any more.
    pub(crate) fn leave(&self) -> io::Result<()> {
        let Some((lock, _)) = &self.lock else { return Ok(()) };
        for (path, (replica, ..)) in journals(&self.dir)? {
            if replica == self.id {
                fs::remove_file(path)?;
            }
        }
        fs::remove_file(lock)
    }
}

/// Replays the journals that processes which died have left in this folder, and returns their leases. Returns
/// how many processes that were. One whose journal cannot be read does not keep the others from it.
pub(crate) async fn recover_dead(db: &Db, own: &OwnReplica) -> Result<usize, FlushError> {
    let (mut recovered, mut failed) = (0, None);
    for (replica, lock) in dead(own)? {
        match recover(db, own, &replica).await {
            Ok(records) => {
                tracing::info!(replica, records, "replayed the usage journal of a process that has died");
                recovered += 1;
            }
            Err(error) => failed = Some(error),
        }
        drop(lock);
    }
    failed.map_or(Ok(recovered), Err)
}

async fn recover(db: &Db, own: &OwnReplica, replica: &str) -> Result<usize, FlushError> {
    let records = replay(db, &own.dir, replica).await?;
    for entry in fs::read_dir(&own.dir)? {
        let path = entry?.path();
        if is_old(&path, replica) {
            return Err(FlushError::Old(path));
        }
    }
    db.release_replica(replica, false).await?;
    for (path, (owner, ..)) in journals(&own.dir)? {
        if owner == replica {
            fs::remove_file(path)?;
        }
    }
    fs::remove_file(own.dir.join(format!("{replica}.lock")))?;
    Ok(records)
}

/// Returns the leases of replicas that nobody has heard of for so long that their journals are not to be
/// expected soon. Should one come back all the same, its journal is charged then.
pub(crate) async fn sweep_silent(db: &Db, own: &str, since: i64) -> Result<(), StoreError> {
    for silent in db.silent_replicas(since).await? {
        if silent.replica != own {
            // A journal in a folder may still come; one in the Store is here.
            let in_store = silent.journal == JournalKind::Store.as_str();
            if in_store {
                let calls = db.charge_reservations(&silent.replica).await?;
                tracing::info!(
                    replica = silent.replica,
                    calls,
                    "charged what a replica that has died left open"
                );
            }
            db.release_replica(&silent.replica, !in_store).await?;
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
    let entries = match fs::read_dir(&own.dir) {
        // Nobody ever kept a journal here.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(dead),
        entries => entries?,
    };
    for entry in entries {
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
        let mut open: HashMap<u64, (i64, Vec<u8>)> = HashMap::new();
        for (segment, path) in segments {
            count += replay_segment(db, replica, &format!("{name}-{segment:06}"), &path, &mut open).await?;
        }
        let mut left = Calls::default();
        for (amount, known) in open.values() {
            let known = UsageCall::decode(known).unwrap_or_default();
            let group = known.group_id;
            left.push(&known.unseen(group, Money::nanos(*amount)));
        }
        let journal = format!("{name}-open");
        let batch = Batch { replica, journal: &journal, from: 0, to: 1, calls: &left };
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
    open: &mut HashMap<u64, (i64, Vec<u8>)>,
) -> Result<usize, FlushError> {
    let mut carried = db.applied(replica, journal).await?;
    let (mut at, mut count) = (0, 0);
    loop {
        let piece = read_piece(path, at, u64::MAX)?;
        if piece.to == at {
            return Ok(count);
        }
        at = piece.to;
        open.extend(piece.opened.into_iter().map(|(call, amount, record)| (call, (amount, record))));
        for call in piece.settled.iter().map(|(call, ..)| call).chain(&piece.voided) {
            open.remove(call);
        }
        let mut calls = Calls::default();
        let new = piece.settled.iter().filter(|(_, place, _)| *place as i64 > carried);
        new.for_each(|(_, _, call)| calls.push_bytes(call));
        if piece.to as i64 > carried && !calls.is_empty() {
            let batch = Batch { replica, journal, from: carried, to: piece.to as i64, calls: &calls };
            db.apply(&batch).await?;
            carried = piece.to as i64;
            count += calls.len();
        }
    }
}
