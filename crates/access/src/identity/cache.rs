//! Tokens that were checked, so that a caller who sends the same one with every request costs one hash.
//!
//! The key is the token's SHA-256: the tokens themselves are not kept, and nobody can aim at one place of the
//! table. An answer is valid while the token is, and while the issuer's keys
//! and our roles are those it was checked with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::fast::RandomState;

use super::claims::TokenPrincipal;

/// Each with a lock of its own; a power of two.
const SHARDS: usize = 16;

type Hash = [u8; 32];
/// Counts the issuer's keys, and our roles.
type Generation = (u64, u64);
type Shard = HashMap<Hash, Entry, RandomState>;

struct Entry {
    principal: Arc<TokenPrincipal>,
    /// Milliseconds since the epoch, leeway included.
    until: i64,
    generation: Generation,
}

/// A bounded table of checked tokens.
pub(super) struct Verified {
    shards: Vec<Mutex<Shard>>,
    per_shard: usize,
}

impl Verified {
    /// For about so many tokens.
    pub(super) fn new(capacity: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Verified { shards, per_shard: capacity.div_ceil(SHARDS).max(1) }
    }

    pub(super) fn get(&self, token: &Hash, generation: Generation, now: i64) -> Option<Arc<TokenPrincipal>> {
        let shard = self.shard(token)?.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = shard.get(token)?;
        (entry.generation == generation && now < entry.until).then(|| Arc::clone(&entry.principal))
    }

    pub(super) fn put(
        &self,
        token: Hash,
        generation: Generation,
        until: i64,
        now: i64,
        principal: Arc<TokenPrincipal>,
    ) {
        let Some(shard) = self.shard(&token) else { return };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if shard.len() >= self.per_shard && !shard.contains_key(&token) {
            shard.retain(|_, entry| entry.generation == generation && now < entry.until);
            // Still full of good ones: any may go, it costs one more check.
            if shard.len() >= self.per_shard
                && let Some(any) = shard.keys().next().copied()
            {
                shard.remove(&any);
            }
        }
        shard.insert(token, Entry { principal, until, generation });
    }

    fn shard(&self, token: &Hash) -> Option<&Mutex<Shard>> {
        self.shards.get(usize::from(token[0]) % SHARDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Permissions;

    fn principal() -> Arc<TokenPrincipal> {
        Arc::new(TokenPrincipal {
            subject: "s".into(),
            user: "u".into(),
            group: None,
            permissions: Permissions::none(),
            expires_at: 1_000,
        })
    }

    #[test]
    fn an_answer_ends_with_its_time_its_keys_or_our_roles() {
        let cache = Verified::new(16);
        cache.put([1; 32], (7, 0), 1_000, 0, principal());
        assert!(cache.get(&[1; 32], (7, 0), 999).is_some());
        assert!(cache.get(&[1; 32], (7, 0), 1_000).is_none(), "over");
        assert!(cache.get(&[1; 32], (8, 0), 999).is_none(), "other keys");
        assert!(cache.get(&[1; 32], (7, 1), 999).is_none(), "other roles");
        assert!(cache.get(&[2; 32], (7, 0), 999).is_none(), "another token");
    }

    #[test]
    fn it_stays_as_small_as_it_was_made() {
        let cache = Verified::new(32);
        for i in 0..200u8 {
            let mut hash = [0; 32];
            (hash[0], hash[1]) = (i % 16, i);
            cache.put(hash, (1, 0), 1_000, 0, principal());
        }
        let held: usize = cache.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert_eq!(held, 32);
    }
}
