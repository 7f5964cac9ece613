//! The background thread that writes the log.
//!
//! A line costs its caller a lock and a copy, no system call: the thread sleeps while there is nothing, is
//! woken by the first line, gathers for a few milliseconds and then writes all it has at once. While it
//! gathers or writes nobody wakes it. The buffer is bounded; a line that does not fit is dropped and
//! counted, and the next write that succeeds says how many were.

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::line::Formatter;
use crate::Error;

/// The most that waits to be written, in bytes. As much again may be on its way out.
pub(super) const CAPACITY: usize = 8 << 20;
/// How long lines are gathered before they are written.
const GATHER: Duration = Duration::from_millis(5);
/// A buffer that grew over this many bytes in a burst is given back.
const KEEP: usize = 256 << 10;
/// How long `flush` waits for a sink that takes nothing.
const FLUSH: Duration = Duration::from_secs(5);

/// What callers and the thread share.
pub(super) struct Writer {
    state: Mutex<State>,
    /// Wakes the thread.
    work: Condvar,
    /// Wakes those who wait in `flush`.
    written: Condvar,
    dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    buffer: Vec<u8>,
    /// Bytes taken over since the start, and of those, bytes the thread has dealt with.
    accepted: u64,
    finished: u64,
    /// The thread sleeps without a limit, so somebody must wake it.
    asleep: bool,
    /// Write without gathering: an error was logged, or somebody waits.
    urgent: bool,
    /// The reader is gone for good.
    broken: bool,
    closed: bool,
}

impl Writer {
    /// Starts the thread. It lives until [`Writer::close`] or the end of the process.
    pub(super) fn start(sink: Box<dyn Write + Send>, formatter: Formatter) -> Result<Arc<Self>, Error> {
        let writer = Arc::new(Writer {
            state: Mutex::default(),
            work: Condvar::new(),
            written: Condvar::new(),
            dropped: AtomicU64::new(0),
        });
        let thread = Thread { writer: Arc::clone(&writer), sink, formatter, reported: 0, torn: false };
        let builder = std::thread::Builder::new().name("log".into());
        builder.spawn(move || thread.run()).map_err(Error::Thread)?;
        Ok(writer)
    }

    /// Takes over one line, which ends with a newline. Never waits for the sink.
    pub(super) fn push(&self, line: &[u8], urgent: bool) {
        let mut state = self.lock();
        if state.broken || state.closed || state.buffer.len() + line.len() > CAPACITY {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.buffer.extend_from_slice(line);
        state.accepted += line.len() as u64;
        let wake = state.asleep || (urgent && !state.urgent);
        state.asleep = false;
        state.urgent |= urgent;
        drop(state);
        if wake {
            self.work.notify_one();
        }
    }

    /// Waits until what was taken over so far is written or lost, at most five seconds.
    pub(super) fn flush(&self) {
        let deadline = Instant::now() + FLUSH;
        let mut state = self.lock();
        let goal = state.accepted;
        while state.finished < goal {
            state.urgent = true;
            state.asleep = false;
            self.work.notify_one();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.written.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Lines lost since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Ends the thread once it has written what it has; later lines are dropped.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_one();
    }

    /// A panic elsewhere must not silence the log: the state is valid after every statement.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until there is something, gathers, and swaps the buffers. `None` once closed and empty.
    fn next_batch(&self, spare: &mut Vec<u8>) -> Option<()> {
        let mut state = self.lock();
        while state.buffer.is_empty() {
            if state.closed {
                return None;
            }
            state.asleep = true;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.asleep = false;
        if !state.urgent && !state.closed {
            let calm = |state: &mut State| !state.urgent && !state.closed;
            let waited = self.work.wait_timeout_while(state, GATHER, calm);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.urgent = false;
        std::mem::swap(&mut state.buffer, spare);
        Some(())
    }
}

/// What the thread alone owns.
struct Thread {
    writer: Arc<Writer>,
    sink: Box<dyn Write + Send>,
    formatter: Formatter,
    /// How many of the dropped lines the log has told about.
    reported: u64,
    /// The last write stopped within a line.
    torn: bool,
}

impl Thread {
    fn run(mut self) {
        let mut batch = Vec::new();
        while self.writer.next_batch(&mut batch).is_some() {
            let taken = batch.len() as u64;
            let broken = self.write(&mut batch);
            batch.clear();
            batch.shrink_to(KEEP);
            let mut state = self.writer.lock();
            state.finished += taken;
            state.broken |= broken;
            drop(state);
            self.writer.written.notify_all();
        }
    }

    /// Writes the batch and, after a loss, how much was lost. `true` when nobody will ever read it.
    fn write(&mut self, batch: &mut Vec<u8>) -> bool {
        let lines = batch.len();
        let dropped = self.writer.dropped();
        if dropped > self.reported {
            self.formatter.dropped(batch, SystemTime::now(), dropped - self.reported);
        }
        if self.torn {
            // Best effort: a sink that still refuses is found out by the write below.
            self.torn = self.sink.write_all(b"\n").is_err();
        }
        match write_all(self.sink.as_mut(), batch) {
            Ok(()) => {
                self.reported = dropped;
                false
            }
            Err((written, kind)) => {
                let (before, after) = batch.split_at(written);
                self.torn = before.last().is_some_and(|&byte| byte != b'\n');
                let lost =
                    after[..lines.saturating_sub(written)].iter().filter(|&&byte| byte == b'\n').count();
                self.writer.dropped.fetch_add(lost as u64, Ordering::Relaxed);
                kind == ErrorKind::BrokenPipe
            }
        }
    }
}

/// Writes and flushes; on failure says how much was written. A pipe that does not block (it may share its
/// flags with another process) is given a second to drain.
fn write_all(sink: &mut dyn Write, bytes: &[u8]) -> Result<(), (usize, ErrorKind)> {
    let mut written = 0;
    let deadline = Instant::now() + Duration::from_secs(1);
    while written < bytes.len() {
        match sink.write(&bytes[written..]) {
            Ok(0) => return Err((written, ErrorKind::WriteZero)),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                std::thread::sleep(GATHER);
            }
            Err(error) => return Err((written, error.kind())),
        }
    }
    sink.flush().map_err(|error| (written, error.kind()))
}
