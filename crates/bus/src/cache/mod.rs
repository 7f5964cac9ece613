//! [`Cache`](base::seams::Cache) in memory and on Redis.

mod memory;
mod redis;

use std::time::Duration;

use base::seams::{MAX_CACHE_KEY, MAX_CACHE_VALUE, SeamError};

pub use self::memory::MemoryCache;
pub use self::redis::RedisCache;

fn check_key(key: &str) -> Result<(), SeamError> {
    if key.is_empty() {
        return Err(SeamError::Invalid("the key of a cache entry must not be empty".into()));
    }
    SeamError::check_size("the key of a cache entry", key.len(), MAX_CACHE_KEY)
}

fn check_value(key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), SeamError> {
    check_key(key)?;
    SeamError::check_size("a cache entry", value.len(), MAX_CACHE_VALUE)?;
    check_ttl(ttl)
}

/// A cache entry lives from a millisecond to ten years; Redis takes no other, and would lose its temper.
fn check_ttl(ttl: Option<Duration>) -> Result<(), SeamError> {
    const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
    match ttl {
        Some(ttl) if ttl < Duration::from_millis(1) || ttl > LONGEST => {
            Err(SeamError::Invalid("a cache entry lives from 1 ms to ten years".into()))
        }
        _ => Ok(()),
    }
}

fn not_a_number(key: &str) -> SeamError {
    SeamError::Invalid(format!(
        "the cache entry {key} is not a whole number of 64 bits, so nothing can be added to it"
    ))
}
