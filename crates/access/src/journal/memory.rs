//! What a journal keeps in memory of what it wrote, so that nobody has to read it again.

use store::Calls;

/// The most bytes of calls that wait in memory; when the Store takes none for long, the rest wait in the file.
const MOST: usize = 8 << 20;

/// A place in a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) segment: u32,
    pub(crate) len: u64,
}

/// A piece of one file of a journal, and the calls that ended in it.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    pub(crate) from: Mark,
    pub(crate) to: Mark,
    pub(crate) calls: Calls,
}

/// What waits to be taken.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Pieces of files that are full.
    full: Vec<Chunk>,
    current: Chunk,
    /// Calls ended that are not in `current`: from there on they are in the file only.
    lost: bool,
    bytes: usize,
}

impl Memory {
    /// The file was written up to `mark`, and no call ended.
    pub(super) fn pass(&mut self, mark: Mark) {
        if !self.lost {
            self.current.to = mark;
        }
    }

    /// A call ended; its entry ends at `mark`.
    pub(super) fn keep(&mut self, mark: Mark, call: &[u8]) {
        if self.bytes + call.len() > MOST {
            self.lost = true;
        }
        if !self.lost {
            self.current.calls.push_bytes(call);
            self.current.to = mark;
            self.bytes += call.len();
        }
    }

    /// Calls ended that were not kept.
    pub(super) fn lose(&mut self) {
        self.lost = true;
    }

    /// A file is full, and ends at `mark`; the next one begins.
    pub(super) fn turn(&mut self, mark: Mark) {
        self.pass(mark);
        let next = Mark { segment: mark.segment + 1, len: 0 };
        if self.lost {
            return;
        }
        let full = std::mem::replace(&mut self.current, Chunk { from: next, to: next, ..Chunk::default() });
        self.full.push(full);
    }

    /// Everything until `mark`, which is how far the file was written.
    pub(super) fn take(&mut self, mark: Mark) -> Vec<Chunk> {
        if self.full.is_empty() && self.current.from == mark {
            return Vec::new();
        }
        let next = Chunk { from: mark, to: mark, ..Chunk::default() };
        let mut taken = std::mem::take(&mut self.full);
        taken.push(std::mem::replace(&mut self.current, next));
        if self.lost {
            // Tells that the file goes on until here.
            taken.push(Chunk { from: mark, to: mark, ..Chunk::default() });
        }
        (self.lost, self.bytes) = (false, 0);
        taken
    }
}
