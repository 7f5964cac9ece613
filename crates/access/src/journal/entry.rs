//! The entries of a journal, as bytes.
//!
//! A file begins with [`HEADER`], whose last byte is the version of the form. An entry is the length of what
//! follows and its checksum (CRC-32, both four bytes, little-endian), then its kind, the call's number, of an opening
//! the amount, and the call in the form of [`UsageCall::encode`].

use std::io;
use std::ops::Range;

use store::{USAGE_FORM, UsageCall};

/// What a file begins with: our name, then the version of the entries, then that of the calls in them.
pub(super) const HEADER: [u8; 8] = [b'T', b'L', b'J', b'R', b'N', b'L', 1, USAGE_FORM];

/// The longest entry that we write or read.
pub(super) const LONGEST: usize = 64 << 10;
/// Room for what is known of a call only when it ends.
const SPARE: usize = 4 << 10;
/// Length and checksum.
const HEAD: usize = 8;

const OPEN: u8 = 1;
const SETTLE: u8 = 2;
const VOID: u8 = 3;

/// An entry to be written.
pub(super) enum Entry<'a> {
    /// A call is about to be sent.
    Open { call: u64, amount: i64, known: &'a UsageCall<'a> },
    /// A call has ended.
    Settle { call: u64, ended: &'a UsageCall<'a> },
    /// A call was not sent after all.
    Void { call: u64 },
}

/// An entry that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    Open { call: u64, amount: i64, known: &'a [u8] },
    Settle { call: u64, ended: &'a [u8] },
    Void { call: u64 },
}

/// Writes an entry into an empty buffer. Returns where in it the call stands. Fails when it is too long.
pub(super) fn write(out: &mut Vec<u8>, entry: &Entry<'_>) -> io::Result<Range<usize>> {
    out.extend_from_slice(&[0; HEAD]);
    let (kind, call) = match entry {
        Entry::Open { call, .. } => (OPEN, call),
        Entry::Settle { call, .. } => (SETTLE, call),
        Entry::Void { call } => (VOID, call),
    };
    out.push(kind);
    out.extend_from_slice(&call.to_le_bytes());
    let mut longest = LONGEST;
    let start = match entry {
        Entry::Open { amount, known, .. } => {
            out.extend_from_slice(&amount.to_le_bytes());
            longest -= SPARE;
            let start = out.len();
            known.encode(out);
            start
        }
        Entry::Settle { ended, .. } => {
            let start = out.len();
            ended.encode(out);
            start
        }
        Entry::Void { .. } => out.len(),
    };
    if out.len() > longest {
        return Err(io::Error::other("what is known of a call is too long for an entry"));
    }
    let length = (out.len() - HEAD) as u32;
    let checksum = crc32fast::hash(&out[HEAD..]);
    out[..4].copy_from_slice(&length.to_le_bytes());
    out[4..HEAD].copy_from_slice(&checksum.to_le_bytes());
    Ok(start..out.len())
}

/// The entry that bytes begin with, and how long it is. `None` when they begin with none.
pub(super) fn read(bytes: &[u8]) -> Option<(Found<'_>, usize)> {
    let length = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
    if length > LONGEST {
        return None;
    }
    let checksum = u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?);
    let content = bytes.get(HEAD..HEAD + length)?;
    let (kind, rest) = content.split_first()?;
    let (call, rest) = rest.split_first_chunk()?;
    let call = u64::from_le_bytes(*call);
    let found = match *kind {
        OPEN => {
            let (amount, known) = rest.split_first_chunk()?;
            Found::Open { call, amount: i64::from_le_bytes(*amount), known }
        }
        SETTLE => Found::Settle { call, ended: rest },
        VOID => Found::Void { call },
        _ => return None,
    };
    (crc32fast::hash(content) == checksum).then_some((found, HEAD + length))
}
