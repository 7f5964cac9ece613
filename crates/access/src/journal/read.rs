//! Reading a journal's files.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::entry::{Found, HEADER, LONGEST, read};

/// The most bytes of a journal that are read at once.
const PIECE: usize = 256 << 10;

/// What a piece of a journal says. Calls are bytes of [`store::UsageCall::encode`].
#[derive(Debug, Default)]
pub(crate) struct Piece {
    /// Where the piece ends.
    pub(crate) to: u64,
    /// Calls that were opened: number, amount, what was known of them.
    pub(crate) opened: Vec<(u64, i64, Vec<u8>)>,
    /// Calls that ended, each with the place after its entry.
    pub(crate) settled: Vec<(u64, u64, Vec<u8>)>,
    /// Calls that were not sent.
    pub(crate) voided: Vec<u64>,
    /// Places that say nothing we know: none, unless the disk or somebody changed the file.
    pub(crate) damaged: u64,
}

impl Piece {
    fn add(&mut self, found: &Found<'_>) {
        match *found {
            Found::Open { call, amount, known } => self.opened.push((call, amount, known.to_vec())),
            Found::Settle { call, ended } => self.settled.push((call, self.to, ended.to_vec())),
            Found::Void { call } => self.voided.push(call),
        }
    }
}

/// Reads the whole entries of a file from a place on, as many as fit a piece, and none that begins at `until` or
/// later. An entry without an end was being written when its process died: it was not acted on, and is left. Fails
/// on files in a form that this version does not know.
pub(crate) fn read_piece(path: &Path, from: u64, until: u64) -> io::Result<Piece> {
    let mut file = File::open(path)?;
    let mut from = from;
    if from < HEADER.len() as u64 {
        let mut head = Vec::new();
        (&mut file).take(HEADER.len() as u64).read_to_end(&mut head)?;
        if head.len() < HEADER.len() {
            // It was being made when its process died.
            return Ok(Piece { to: from, ..Piece::default() });
        }
        if head != HEADER {
            let path = path.display();
            return Err(io::Error::other(format!(
                "{path} is a usage journal of another version of Trunkline: start that version in this data folder once, \
                 so that it carries what is in there to the store"
            )));
        }
        from = HEADER.len() as u64;
    }
    file.seek(SeekFrom::Start(from))?;
    let longest = PIECE + LONGEST;
    let mut bytes = Vec::new();
    file.take((longest as u64).min(until.saturating_sub(from))).read_to_end(&mut bytes)?;
    let mut piece = Piece { to: from, ..Piece::default() };
    let mut at = 0;
    while at < bytes.len().min(PIECE) {
        if let Some((found, length)) = read(&bytes[at..]) {
            at += length;
            piece.to = from + at as u64;
            piece.add(&found);
            continue;
        }
        match (at + 1..bytes.len()).find(|at| read(&bytes[*at..]).is_some()) {
            Some(next) => at = next,
            // Nothing whole comes any more: the end of what was written.
            None if bytes.len() < longest => break,
            None => at = PIECE,
        }
        piece.damaged += 1;
        piece.to = from + at as u64;
    }
    Ok(piece)
}
