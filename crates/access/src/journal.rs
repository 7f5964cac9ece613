//! The usage journal: what was begun and what it came to, on the disk before anybody is told.
//!
//! Each worker appends to a file of its own, so that no lock is contended: a line before a call is sent (what it
//! can cost at most), a line before its answer ends (what it cost). A line that was written is in the system's
//! hands: the process may be killed at any moment. It is forced to the disk within 100 ms. [`Ledger`] carries the
//! lines into the Store, from this very file; that is also how the file of a process that died is replayed.
//!
//! A file grows to [`SEGMENT`]; the next one begins with the calls that are still open, so that a file whose
//! lines are all in the Store is not needed any more.
//!
//! [`Ledger`]: crate::ledger::Ledger

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use store::UsageRecord;

/// How large one file grows.
const SEGMENT: u64 = 16 << 20;
/// The most bytes of a journal that are read at once.
const PIECE: usize = 256 << 10;
/// The longest line: what a caller can put into a record is bounded far below.
const LONGEST: usize = 64 << 10;

/// A line of a journal.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<R> {
    /// A call is about to be sent.
    Open { call: u64, amount: i64, record: R },
    /// A call has ended.
    Settle { call: u64, record: R },
    /// A call was not sent after all.
    Void { call: u64 },
}

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
    /// The lines of calls that are open.
    open: HashMap<u64, Vec<u8>, foldhash::fast::RandomState>,
    line: Vec<u8>,
    /// Lines that could not be written, to be written before others.
    owed: Vec<u8>,
    dirty: bool,
}

/// How far a journal has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) segment: u32,
    pub(crate) len: u64,
}

impl Journal {
    /// Begins a journal in a folder. Only its owner can read it.
    pub(crate) fn create(dir: &Path, name: String) -> io::Result<Self> {
        let file = create_segment(dir, &name, 0)?;
        let state = State {
            file,
            segment: 0,
            len: 0,
            next_call: 0,
            open: HashMap::default(),
            line: Vec::with_capacity(1024),
            owed: Vec::new(),
            dirty: false,
        };
        Ok(Journal { dir: dir.to_owned(), name, state: Mutex::new(state) })
    }

    /// Its name, `REPLICA-WORKER`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Notes a call that is about to be sent. Its number is needed to settle it.
    pub(crate) fn open(&self, amount: i64, record: &UsageRecord) -> io::Result<u64> {
        let mut state = self.lock();
        let call = state.next_call;
        state.next_call += 1;
        state.write(&Line::Open { call, amount, record })?;
        let line = state.line.clone();
        state.open.insert(call, line);
        self.rotate(&mut state)?;
        Ok(call)
    }

    /// Notes what a call came to. When it cannot be written now it will be before anything else is, and until
    /// then nothing new is opened.
    pub(crate) fn settle(&self, call: u64, record: &UsageRecord) {
        self.close(call, &Line::Settle { call, record });
    }

    /// Notes that a call was not sent.
    pub(crate) fn void(&self, call: u64) {
        self.close(call, &Line::Void { call });
    }

    fn close(&self, call: u64, line: &Line<&UsageRecord>) {
        let mut state = self.lock();
        state.open.remove(&call);
        if let Err(error) = state.write(line) {
            let line = std::mem::take(&mut state.line);
            state.owed.extend_from_slice(&line);
            state.line = line;
            tracing::error!(%error, journal = self.name, "the usage journal cannot be written; new calls are refused");
        }
    }

    /// The folder of its files.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// How far it has been written.
    pub(crate) fn mark(&self) -> Mark {
        let state = self.lock();
        Mark { segment: state.segment, len: state.len }
    }

    /// A handle for forcing to the disk what was written since the last time, if anything was.
    pub(crate) fn unsynced(&self) -> io::Result<Option<File>> {
        let mut state = self.lock();
        if !std::mem::take(&mut state.dirty) {
            return Ok(None);
        }
        state.file.try_clone().map(Some)
    }

    fn rotate(&self, state: &mut State) -> io::Result<()> {
        if state.len < SEGMENT {
            return Ok(());
        }
        let mut file = create_segment(&self.dir, &self.name, state.segment + 1)?;
        let carried: Vec<u8> = state.open.values().flatten().copied().collect();
        file.write_all(&carried)?;
        // Before the old one may go, what it had and we still need is safe.
        file.sync_data()?;
        state.file.sync_data()?;
        (state.file, state.segment, state.len) = (file, state.segment + 1, carried.len() as u64);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, line: &Line<&UsageRecord>) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, line)?;
        self.line.push(b'\n');
        if !self.owed.is_empty() {
            let owed = std::mem::take(&mut self.owed);
            if let Err(error) = self.append(&owed) {
                self.owed = owed;
                return Err(error);
            }
        }
        let line = std::mem::take(&mut self.line);
        let written = self.append(&line);
        self.line = line;
        written
    }

    /// All of it or nothing: half a line would spoil the next one.
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
    dir.join(format!("{name}-{segment:06}.jsonl"))
}

/// The replica, the journal's name and the segment of a file.
pub(crate) fn parse_path(path: &Path) -> Option<(String, String, u32)> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".jsonl")?;
    let (name, segment) = stem.rsplit_once('-')?;
    let (replica, _worker) = name.rsplit_once('-')?;
    Some((replica.to_owned(), name.to_owned(), segment.parse().ok()?))
}

fn create_segment(dir: &Path, name: &str, segment: u32) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(segment_path(dir, name, segment))
}

/// What a piece of a journal says.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    /// Where the piece ends.
    pub(crate) to: u64,
    /// Calls that were opened: number, amount, what was known of them.
    pub(crate) opened: Vec<(u64, i64, UsageRecord)>,
    /// Calls that ended, each with the place after its line.
    pub(crate) settled: Vec<(u64, u64, UsageRecord)>,
    /// Calls that were not sent.
    pub(crate) voided: Vec<u64>,
    /// Lines that say nothing we know: none, unless the disk or somebody changed the file.
    pub(crate) damaged: u64,
}

/// Reads the whole lines of a file from a place on, as many as fit a piece. A line without an end was being
/// written when its process died: it was not acted on, and is left.
pub(crate) fn read_piece(path: &Path, from: u64) -> io::Result<Piece> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take((PIECE + LONGEST) as u64).read_to_end(&mut bytes)?;
    let mut piece = Piece { to: from, ..Piece::default() };
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if line.last() != Some(&b'\n') {
            break;
        }
        piece.to += line.len() as u64;
        match serde_json::from_slice::<Line<UsageRecord>>(line) {
            Ok(Line::Open { call, amount, record }) => piece.opened.push((call, amount, record)),
            Ok(Line::Settle { call, record }) => piece.settled.push((call, piece.to, record)),
            Ok(Line::Void { call }) => piece.voided.push(call),
            Err(_) => piece.damaged += 1,
        }
        if piece.to - from >= PIECE as u64 {
            break;
        }
    }
    Ok(piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, cost: i64) -> UsageRecord {
        UsageRecord { request_id: id.into(), cost, ..UsageRecord::default() }
    }

    #[test]
    fn what_is_written_is_read_again_and_half_a_line_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::create(dir.path(), "r1-0".into()).unwrap();
        let call = journal.open(500, &record("a", 0)).unwrap();
        journal.settle(call, &record("a", 300));
        let open = journal.open(700, &record("b", 0)).unwrap();
        let path = segment_path(dir.path(), "r1-0", 0);
        let len = journal.mark().len;
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"settle\":{\"call\":1,").unwrap();

        let piece = read_piece(&path, 0).unwrap();
        assert_eq!(piece.to, len);
        assert_eq!(piece.opened, [(call, 500, record("a", 0)), (open, 700, record("b", 0))]);
        assert_eq!(piece.settled.len(), 1);
        assert_eq!((piece.settled[0].0, piece.settled[0].2.cost, piece.damaged), (call, 300, 0));
        let rest = read_piece(&path, piece.settled[0].1).unwrap();
        assert_eq!((rest.opened.len(), rest.settled.len()), (1, 0), "reading goes on where it ended");
        assert_eq!(parse_path(&path), Some(("r1".into(), "r1-0".into(), 0)));
    }

    #[test]
    fn a_full_segment_hands_its_open_calls_to_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::create(dir.path(), "r1-0".into()).unwrap();
        let open = journal.open(1, &record("kept", 0)).unwrap();
        journal.lock().len = SEGMENT;
        let next = journal.open(2, &record("last", 0)).unwrap();
        assert_eq!(journal.mark().segment, 1);
        journal.settle(next, &record("last", 2));
        let mut opened: Vec<u64> =
            read_piece(&segment_path(dir.path(), "r1-0", 1), 0).unwrap().opened.iter().map(|o| o.0).collect();
        opened.sort_unstable();
        assert_eq!(opened, [open, next]);
    }

    #[test]
    fn a_damaged_line_is_counted_and_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r-0-000000.jsonl");
        std::fs::write(&path, b"{}\nnot json\n{\"settle\":{\"call\":1,\"record\":{\"cost\":5}}}\n").unwrap();
        let piece = read_piece(&path, 0).unwrap();
        assert_eq!((piece.damaged, piece.settled.len(), piece.settled[0].2.cost), (2, 1, 5));
    }
}
