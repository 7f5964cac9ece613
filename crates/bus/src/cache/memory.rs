//! The cache of one process, bounded by bytes and by entries; what was used longest ago leaves first.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use base::seams::{Backend, Cache, SeamError};
use bytes::Bytes;
use moka::Expiry;
use moka::ops::compute::{CompResult, Op};
use moka::policy::EvictionPolicy;
use moka::sync::Cache as Entries;

use super::{check_key, check_ttl, check_value, not_a_number};
use crate::settings::CacheSettings;

/// What an entry costs beside its key and value, roughly.
const OVERHEAD: usize = 200;

/// A cache in memory. Cheap to clone; clones share the entries.
#[derive(Clone)]
pub struct MemoryCache {
    entries: Entries<String, Entry>,
}

#[derive(Clone)]
struct Entry {
    value: Bytes,
    expires: Option<Instant>,
}

impl Entry {
    fn new(value: Bytes, ttl: Option<Duration>) -> Self {
        Entry { value, expires: ttl.and_then(|ttl| Instant::now().checked_add(ttl)) }
    }
}

/// An entry expires when it says so, whatever was done to it since.
struct ByEntry;

impl Expiry<String, Entry> for ByEntry {
    fn expire_after_create(&self, _: &String, entry: &Entry, now: Instant) -> Option<Duration> {
        entry.expires.map(|at| at.saturating_duration_since(now))
    }

    fn expire_after_update(
        &self,
        _: &String,
        entry: &Entry,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        entry.expires.map(|at| at.saturating_duration_since(now))
    }
}

impl MemoryCache {
    /// An empty cache with these bounds.
    pub fn new(settings: &CacheSettings) -> Self {
        let bytes = settings.max_size.0.max(1);
        // One measure for both bounds: an entry weighs its bytes, and at least its share by number.
        let share = bytes.div_ceil(settings.max_entries.max(1));
        let weigh = move |key: &String, entry: &Entry| {
            let weight = (key.len() + entry.value.len() + OVERHEAD) as u64;
            u32::try_from(weight.max(share)).unwrap_or(u32::MAX)
        };
        let entries = Entries::builder()
            .max_capacity(bytes)
            .weigher(weigh)
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(ByEntry)
            .build();
        MemoryCache { entries }
    }

    /// Whether an entry has outlived itself; the library may be a moment late.
    fn alive(entry: &Entry) -> bool {
        entry.expires.is_none_or(|at| at > Instant::now())
    }
}

#[async_trait]
impl Backend for MemoryCache {
    fn backend(&self) -> &'static str {
        "memory"
    }

    async fn ping(&self) -> Result<(), SeamError> {
        Ok(())
    }
}

#[async_trait]
impl Cache for MemoryCache {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, SeamError> {
        check_key(key)?;
        Ok(self.entries.get(key).filter(Self::alive).map(|entry| entry.value))
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<(), SeamError> {
        check_value(key, &value, ttl)?;
        self.entries.insert(key.to_owned(), Entry::new(value, ttl));
        Ok(())
    }

    async fn set_if_absent(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<bool, SeamError> {
        check_value(key, &value, ttl)?;
        let result = self.entries.entry(key.to_owned()).and_compute_with(|old| match old {
            Some(old) if Self::alive(old.value()) => Op::Nop,
            _ => Op::Put(Entry::new(value, ttl)),
        });
        Ok(matches!(result, CompResult::Inserted(_) | CompResult::ReplacedWith(_)))
    }

    async fn delete(&self, key: &str) -> Result<bool, SeamError> {
        check_key(key)?;
        Ok(self.entries.remove(key).is_some_and(|entry| Self::alive(&entry)))
    }

    async fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64, SeamError> {
        check_key(key)?;
        check_ttl(ttl)?;
        let mut sum = None;
        let _ = self.entries.entry(key.to_owned()).and_compute_with(|old| {
            let old = old.map(moka::Entry::into_value).filter(Self::alive);
            let (before, expires) = match &old {
                None => (Some(0), Entry::new(Bytes::new(), ttl).expires),
                Some(entry) => {
                    let text = std::str::from_utf8(&entry.value).ok();
                    (text.and_then(|text| text.parse::<i64>().ok()), entry.expires)
                }
            };
            sum = before.and_then(|before| before.checked_add(by));
            match sum {
                Some(sum) => Op::Put(Entry { value: sum.to_string().into(), expires }),
                None => Op::Nop,
            }
        });
        sum.ok_or_else(|| not_a_number(key))
    }
}

#[cfg(test)]
mod tests {
    use base::ByteSize;

    use super::*;

    #[tokio::test]
    async fn conforms() {
        let cache = MemoryCache::new(&CacheSettings::default());
        crate::conformance::cache(&cache, "memory").await.unwrap();
    }

    /// Mutation: the weigher without `share` (entries), or always `share` (bytes).
    #[tokio::test]
    async fn stays_within_its_bounds_and_forgets_the_oldest() {
        let bounds =
            [(ByteSize(1 << 30), 100, 100), (ByteSize(100 * (1000 + OVERHEAD as u64)), 1 << 40, 100)];
        for (max_size, max_entries, at_most) in bounds {
            let cache =
                MemoryCache::new(&CacheSettings { max_size, max_entries, ..CacheSettings::default() });
            for n in 0..1_000 {
                cache.set(&format!("k{n}"), vec![0; 1_000].into(), None).await.unwrap();
                // Used all the time, so it stays.
                cache.get("k0").await.unwrap();
            }
            cache.entries.run_pending_tasks();
            let count = cache.entries.entry_count();
            assert!((at_most / 2..=at_most).contains(&count), "{count} entries");
            assert!(cache.get("k0").await.unwrap().is_some(), "what is used stays");
            assert!(cache.get("k1").await.unwrap().is_none(), "what is not used leaves");
        }
    }
}
