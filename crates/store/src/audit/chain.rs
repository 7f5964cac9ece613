//! What is hashed, and how a row is checked.
//!
//! The hash of a row is SHA-256 over its canonical form, as lower-case hexadecimal. The canonical form is, one after
//! the other:
//!
//! 1. the bytes `trunkline audit 1`;
//! 2. `seq` and `at`, each as eight bytes, big-endian, two's complement;
//! 3. `actor`, `ip`, `action`, `target`, `outcome`, `request_id`, `detail`, `previous`, each as the byte 0 when it is
//!    NULL, and otherwise as the byte 1, its length in UTF-8 bytes as eight bytes, big-endian, and these bytes.
//!
//! As lengths stand before texts, no two rows have the same canonical form: nothing can be moved from one column to
//! the next. `previous` is the hash of the row before; the first row has 64 zeros.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::{AuditEntry, AuditRow};

/// The place of a row in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number; 0 is before the first.
    pub seq: i64,
    /// Its hash.
    pub hash: String,
}

impl Link {
    /// What the first row follows.
    pub(super) fn first() -> Self {
        Link { seq: 0, hash: "0".repeat(64) }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (seq, hash) = text.split_once(' ')?;
        let seq = seq.parse().ok().filter(|seq| *seq >= 0)?;
        (hash.len() == 64).then(|| Link { seq, hash: hash.to_owned() })
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.seq, self.hash)
    }
}

/// The first row that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    /// Its number.
    pub seq: i64,
    /// What is wrong with it.
    pub why: String,
}

impl BadRow {
    pub(super) fn new(seq: i64, why: impl Into<String>) -> Self {
        BadRow { seq, why: why.into() }
    }
}

/// The hash of a row.
pub(super) fn hash(seq: i64, entry: &AuditEntry, previous: &str) -> String {
    hex::encode(Sha256::digest(canonical(seq, entry, previous)))
}

pub(super) fn canonical(seq: i64, entry: &AuditEntry, previous: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    bytes.extend_from_slice(b"trunkline audit 1");
    bytes.extend_from_slice(&seq.to_be_bytes());
    bytes.extend_from_slice(&entry.at.to_be_bytes());
    let texts = [
        Some(&*entry.actor),
        entry.ip.as_deref(),
        Some(&*entry.action),
        Some(&*entry.target),
        Some(&*entry.outcome),
        entry.request_id.as_deref(),
        entry.detail.as_deref(),
        Some(previous),
    ];
    for text in texts {
        match text {
            None => bytes.push(0),
            Some(text) => {
                bytes.push(1);
                bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
        }
    }
    bytes
}

/// Checks that a row is what was written after another.
pub(super) fn check(after: &Link, row: &AuditRow) -> Result<Link, BadRow> {
    if row.seq != after.seq + 1 {
        return Err(BadRow::new(after.seq + 1, "is missing"));
    }
    if hash(row.seq, &row.entry, &row.previous) != row.hash {
        return Err(BadRow::new(row.seq, "was changed: its hash does not fit what it says"));
    }
    if row.previous != after.hash {
        return Err(BadRow::new(
            row.seq,
            format!("does not follow row {}: one of the two was replaced", after.seq),
        ));
    }
    Ok(Link { seq: row.seq, hash: row.hash.clone() })
}
