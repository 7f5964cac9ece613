//! Request ids.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The longest request id we take from a caller.
const MAX_LEN: usize = 128;

/// The id of one request: in the log line, the `x-request-id` header, the usage record and the trace.
///
/// A caller's own `x-request-id` is kept when it is 1–128 characters of `A-Z a-z 0-9 . _ : / + = -`;
/// anything else is replaced, so that an id can be printed and grepped without escaping.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// A new id, unique for this process and, by its random start, between processes.
    pub fn generate() -> Self {
        // One random 64-bit start per process and a counter: unique without a system call a request.
        static START: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let start = *START.get_or_init(random_u64);
        let count = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut text = [0u8; 20];
        text[..4].copy_from_slice(b"req_");
        // An odd multiplier is a bijection on 64 bits: ids do not repeat and do not look sequential.
        let value = start.wrapping_add(count).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for (i, byte) in text[4..].iter_mut().enumerate() {
            let nibble = (value >> (60 - 4 * i)) & 0xF;
            *byte = b"0123456789abcdef"[nibble as usize];
        }
        RequestId(String::from_utf8_lossy(&text).into())
    }

    /// The caller's id when it is well formed, else a new one.
    pub fn from_header(value: Option<&[u8]>) -> Self {
        let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"._:/+=-".contains(b);
        match value {
            Some(v) if !v.is_empty() && v.len() <= MAX_LEN && v.iter().all(allowed) => {
                RequestId(String::from_utf8_lossy(v).into())
            }
            _ => Self::generate(),
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// 64 random bits, without a system call. These are names, not secrets: they need to differ, not to be
/// unguessable.
pub(crate) fn random_u64() -> u64 {
    fastrand::u64(..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_differ() {
        assert_ne!(RequestId::generate(), RequestId::generate());
        assert_eq!(RequestId::generate().as_str().len(), 20);
    }

    #[test]
    fn a_sane_id_is_kept_and_a_hostile_one_replaced() {
        assert_eq!(RequestId::from_header(Some(b"abc-1")).as_str(), "abc-1");
        for bad in [&b""[..], b"a b", b"a\nb", b"\"", "é".as_bytes(), &[b'a'; 129]] {
            assert!(RequestId::from_header(Some(bad)).as_str().starts_with("req_"));
        }
    }
}
