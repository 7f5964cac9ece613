//! The usage journal: what was begun and what it came to, on the disk before anybody is told.
//!
//! Each worker appends to a file of its own, so that no lock is contended: an entry before a call is sent (what it
//! can cost at most), one before its answer ends (what it cost). An entry that was written is in the system's hands:
//! the process may be killed at any moment. It is forced to the disk within 100 ms. [`Ledger`] carries the calls that
//! ended into the Store: from memory, where they are kept beside the file until then; from the file itself when they
//! were too many for that, or when the process that wrote it has died.
//!
//! A file grows to [`SEGMENT`]; the next one begins with the calls that are still open, so that a file whose entries
//! are all in the Store is not needed any more.
//!
//! [`Ledger`]: crate::ledger::Ledger

mod entry;
mod memory;
mod read;
mod shared;

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use store::UsageCall;

use entry::{Entry, HEADER};
use memory::Memory;
pub(crate) use memory::{Chunk, Mark};
pub(crate) use read::read_piece;
pub(crate) use shared::{SharedJournal, carry};

/// How large one file grows.
const SEGMENT: u64 = 16 << 20;
/// What the files' names end with.
const ENDING: &str = ".journal";
/// What those of before had: lines of JSON.
const OLD_ENDING: &str = ".jsonl";

/// One worker's journal.
#[derive(Debug)]
pub(crate) struct Journal {
    dir: PathBuf,
    /// `REPLICA-WORKER`.
    name: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    segment: u32,
    len: u64,
    next_call: u64,
    /// Where in the file the entries of calls stand that are open.
    open: HashMap<u64, (u64, usize), foldhash::fast::RandomState>,
    /// The entry that is being written.
    entry: Vec<u8>,
    /// Entries that could not be written, to be written before others.
    owed: Vec<u8>,
    dirty: bool,
    /// Files that are full, and not on the disk yet.
    full: Vec<File>,
    memory: Memory,
}

impl Journal {
    /// Begins a journal in a folder. Only its owner can read it.
    pub(crate) fn create(dir: &Path, name: String) -> io::Result<Self> {
        let mut file = create_segment(dir, &name, 0)?;
        file.write_all(&HEADER)?;
        let state = State {
            file,
            segment: 0,
            len: HEADER.len() as u64,
            next_call: 0,
            open: HashMap::default(),
            entry: Vec::with_capacity(512),
            owed: Vec::new(),
            dirty: true,
            full: Vec::new(),
            memory: Memory::default(),
        };
        Ok(Journal { dir: dir.to_owned(), name, state: Mutex::new(state) })
    }

    /// Its name, `REPLICA-WORKER`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Notes a call that is about to be sent. Its number is needed to settle it.
    pub(crate) fn open(&self, amount: i64, known: &UsageCall<'_>) -> io::Result<u64> {
        let mut state = self.lock();
        if state.len >= SEGMENT
            && let Err(error) = self.rotate(&mut state)
        {
            // The file at hand takes this call as well.
            tracing::error!(%error, journal = self.name, "the usage journal cannot begin a new file");
        }
        let call = state.next_call;
        state.entry.clear();
        entry::write(&mut state.entry, &Entry::Open { call, amount, known })?;
        state.write_owed()?;
        let at = state.len;
        state.write_entry()?;
        state.next_call += 1;
        let length = state.entry.len();
        state.open.insert(call, (at, length));
        let mark = state.mark();
        state.memory.pass(mark);
        Ok(call)
    }

    /// Notes what a call came to. When it cannot be written now it will be before anything else is, and until
    /// then nothing new is opened.
    pub(crate) fn settle(&self, call: u64, ended: &UsageCall<'_>) {
        self.close(call, &Entry::Settle { call, ended });
    }

    /// Notes that a call was not sent.
    pub(crate) fn void(&self, call: u64) {
        self.close(call, &Entry::Void { call });
    }

    fn close(&self, call: u64, closing: &Entry<'_>) {
        let mut state = self.lock();
        let state = &mut *state;
        state.open.remove(&call);
        state.entry.clear();
        let written = entry::write(&mut state.entry, closing)
            .and_then(|record| state.write_owed().and_then(|()| state.write_entry()).map(|()| record));
        match written {
            Ok(record) if matches!(closing, Entry::Settle { .. }) => {
                state.memory.keep(state.mark(), &state.entry[record]);
            }
            Ok(_) => state.memory.pass(state.mark()),
            Err(error) => {
                state.owed.extend_from_slice(&state.entry);
                tracing::error!(%error, journal = self.name, "the usage journal cannot be written; new calls are refused");
            }
        }
    }

    /// The folder of its files.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// How far it has been written.
    #[cfg(test)]
    pub(crate) fn mark(&self) -> Mark {
        self.lock().mark()
    }

    /// As if what is in memory were too much for it.
    #[cfg(test)]
    pub(crate) fn lose(&self) {
        self.lock().memory.lose();
    }

    /// The next call begins a new file.
    #[cfg(test)]
    pub(crate) fn fill(&self) {
        let mut state = self.lock();
        let rest = vec![0; usize::try_from(SEGMENT - state.len).unwrap_or_default()];
        state.append(&rest).unwrap();
        let mark = state.mark();
        state.memory.pass(mark);
    }

    /// What was written since the last time: each piece with the calls that ended in it, as far as they are in
    /// memory. What lies before the first piece, or between two of them, is in the file only.
    pub(crate) fn take(&self) -> Vec<Chunk> {
        let mut state = self.lock();
        let mark = state.mark();
        state.memory.take(mark)
    }

    /// Handles for forcing to the disk what was written since the last time, if anything was.
    pub(crate) fn unsynced(&self) -> io::Result<Vec<File>> {
        let mut state = self.lock();
        let mut files = std::mem::take(&mut state.full);
        if std::mem::take(&mut state.dirty) {
            files.push(state.file.try_clone()?);
        }
        Ok(files)
    }

    /// Begins a new file with the calls that are open.
    fn rotate(&self, state: &mut State) -> io::Result<()> {
        let next = state.segment + 1;
        let mut carried = HEADER.to_vec();
        let mut open = HashMap::default();
        for (call, (at, length)) in &state.open {
            let start = carried.len();
            carried.resize(start + length, 0);
            state.file.read_exact_at(&mut carried[start..], *at)?;
            open.insert(*call, (start as u64, *length));
        }
        let mut file = create_segment(&self.dir, &self.name, next)?;
        if let Err(error) = file.write_all(&carried) {
            std::fs::remove_file(segment_path(&self.dir, &self.name, next))?;
            return Err(error);
        }
        // The old one goes when all of it is in the Store, and the new one on the disk.
        state.full.push(std::mem::replace(&mut state.file, file));
        state.memory.turn(state.mark());
        (state.segment, state.len, state.open, state.dirty) = (next, carried.len() as u64, open, true);
        state.memory.pass(state.mark());
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn mark(&self) -> Mark {
        Mark { segment: self.segment, len: self.len }
    }

    fn write_owed(&mut self) -> io::Result<()> {
        if self.owed.is_empty() {
            return Ok(());
        }
        let owed = std::mem::take(&mut self.owed);
        if let Err(error) = self.append(&owed) {
            self.owed = owed;
            return Err(error);
        }
        // What ended in them is in the file alone.
        self.memory.lose();
        Ok(())
    }

    fn write_entry(&mut self) -> io::Result<()> {
        let entry = std::mem::take(&mut self.entry);
        let written = self.append(&entry);
        self.entry = entry;
        written
    }

    /// All of it or nothing: half an entry would spoil the next one.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            self.file.set_len(self.len)?;
            self.file.seek(SeekFrom::Start(self.len))?;
            return Err(error);
        }
        self.len += bytes.len() as u64;
        self.dirty = true;
        Ok(())
    }
}

/// The file of a segment.
pub(crate) fn segment_path(dir: &Path, name: &str, segment: u32) -> PathBuf {
    dir.join(format!("{name}-{segment:06}{ENDING}"))
}

/// The replica, the journal's name and the segment of a file.
pub(crate) fn parse_path(path: &Path) -> Option<(String, String, u32)> {
    let stem = path.file_name()?.to_str()?.strip_suffix(ENDING)?;
    let (name, segment) = stem.rsplit_once('-')?;
    let (replica, _worker) = name.rsplit_once('-')?;
    Some((replica.to_owned(), name.to_owned(), segment.parse().ok()?))
}

/// Whether a file is a journal of a replica in the form of before, which this version does not read.
pub(crate) fn is_old(path: &Path, replica: &str) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.ends_with(OLD_ENDING) && name.strip_prefix(replica).is_some_and(|rest| rest.starts_with('-'))
}

fn create_segment(dir: &Path, name: &str, segment: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600).open(segment_path(dir, name, segment))
}

#[cfg(test)]
mod tests;
