//! Ids of tool calls that a dialect would refuse, written so that it takes them.

use std::borrow::Cow;

/// The longest id that Bedrock takes; Anthropic names no limit.
const MAX: usize = 64;

/// The id with only letters, digits, `_` and `-`, of 64 characters at most. The same id always becomes the same,
/// and two ids do not become one: what is changed carries a hash of what it was.
pub(in crate::dialects) fn plain(id: &str) -> Cow<'_, str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !id.is_empty() && id.len() <= MAX && id.chars().all(fits) {
        return Cow::Borrowed(id);
    }
    let kept: String = id.chars().map(|c| if fits(c) { c } else { '_' }).take(MAX - 17).collect();
    Cow::Owned(format!("{kept}_{:016x}", fnv(id.as_bytes())))
}

/// FNV-1a: stable over releases and replicas, which the standard library's hasher is not.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_stay_apart() {
        assert_eq!(plain("toolu_01-A"), "toolu_01-A");
        let long = "x".repeat(90);
        let changed = [plain("a.b"), plain("a:b"), plain(""), plain(&long), plain("ä")];
        for id in &changed {
            assert!(id.len() <= MAX && plain(id) == *id, "{id}");
        }
        let apart: std::collections::HashSet<_> = changed.iter().collect();
        assert_eq!(apart.len(), changed.len());
        assert_eq!(plain("a.b"), plain("a.b"));
    }
}
