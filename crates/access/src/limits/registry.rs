//! Who was seen lately, in bounded memory: keys, users and groups, and above all addresses, of which an
//! attacker has any number.
//!
//! A map in shards. A shard that has grown is swept on the next insertion: what is idle leaves, and if that
//! does not suffice, an eighth of the rest, the longest unseen first. So an insertion costs little on
//! average, and nothing runs in the background. What somebody holds (a request in progress) never leaves.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;

const SHARDS: usize = 64;
/// Below this a shard is not worth sweeping.
const SMALL: usize = 32;

/// What a registry must know of its values without locking them.
#[derive(Debug, Default)]
pub(crate) struct Age {
    /// When it was last asked for.
    last_used_ms: AtomicU64,
    /// From when on it says nothing any more.
    idle_from_ms: AtomicU64,
}

impl Age {
    /// It was changed, and says something until `idle_from_ms`.
    pub(crate) fn keep_until(&self, idle_from_ms: u64) {
        self.idle_from_ms.store(idle_from_ms, Ordering::Relaxed);
    }
}

/// A value of a registry.
pub(crate) trait Aged {
    fn age(&self) -> &Age;
}

#[derive(Debug)]
struct Shard<K, V> {
    map: HashMap<K, Arc<V>, RandomState>,
    /// Sweep when it has so many.
    sweep_at: usize,
}

/// The map.
#[derive(Debug)]
pub(crate) struct Registry<K, V> {
    shards: Box<[Mutex<Shard<K, V>>]>,
    hasher: RandomState,
    /// The most entries of one shard.
    cap: AtomicUsize,
}

impl<K: Hash + Eq + Copy, V: Aged> Registry<K, V> {
    /// For at most about `max` values.
    pub(crate) fn new(max: usize) -> Self {
        let shard = || Mutex::new(Shard { map: HashMap::default(), sweep_at: SMALL });
        let registry = Registry {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hasher: RandomState::default(),
            cap: AtomicUsize::new(0),
        };
        registry.set_max(max);
        registry
    }

    /// Takes effect as values come in.
    pub(crate) fn set_max(&self, max: usize) {
        self.cap.store(max.div_ceil(SHARDS).max(1), Ordering::Relaxed);
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, Shard<K, V>> {
        #[expect(clippy::cast_possible_truncation, reason = "the remainder is small")]
        let index = (self.hasher.hash_one(key) % SHARDS as u64) as usize;
        lock(&self.shards[index])
    }

    /// The value, if it is there.
    pub(crate) fn get(&self, key: &K, now_ms: u64) -> Option<Arc<V>> {
        let value = self.shard(key).map.get(key).cloned()?;
        value.age().last_used_ms.store(now_ms, Ordering::Relaxed);
        Some(value)
    }

    /// The value; made if it is not there.
    pub(crate) fn get_or(&self, key: K, now_ms: u64, make: impl FnOnce() -> V) -> Arc<V> {
        let mut shard = self.shard(&key);
        if let Some(value) = shard.map.get(&key) {
            value.age().last_used_ms.store(now_ms, Ordering::Relaxed);
            return Arc::clone(value);
        }
        let cap = self.cap.load(Ordering::Relaxed);
        if shard.map.len() >= shard.sweep_at.min(cap) {
            shard.sweep(cap, now_ms);
        }
        let value = Arc::new(make());
        value.age().last_used_ms.store(now_ms, Ordering::Relaxed);
        shard.map.insert(key, Arc::clone(&value));
        value
    }

    /// Takes it out.
    pub(crate) fn remove(&self, key: &K) -> Option<Arc<V>> {
        self.shard(key).map.remove(key)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).map.len()).sum()
    }

    /// Looks at every value, a shard at a time.
    pub(crate) fn for_each(&self, mut see: impl FnMut(&K, &V)) {
        for shard in &self.shards {
            for (key, value) in &lock(shard).map {
                see(key, value);
            }
        }
    }
}

impl<K: Hash + Eq + Copy, V: Aged> Shard<K, V> {
    fn sweep(&mut self, cap: usize, now_ms: u64) {
        let held = |value: &Arc<V>| Arc::strong_count(value) > 1;
        self.map.retain(|_, value| held(value) || value.age().idle_from_ms.load(Ordering::Relaxed) > now_ms);
        if self.map.len() >= cap {
            let seen = |value: &Arc<V>| value.age().last_used_ms.load(Ordering::Relaxed);
            let mut ages: Vec<u64> = self.map.values().filter(|value| !held(value)).map(&seen).collect();
            let mut surplus = (self.map.len() - cap + 1).max(cap / 8).min(ages.len());
            if surplus > 0 {
                let (_, newest_out, _) = ages.select_nth_unstable(surplus - 1);
                let newest_out = *newest_out;
                self.map.retain(|_, value| {
                    let out = surplus > 0 && !held(value) && seen(value) <= newest_out;
                    surplus -= usize::from(out);
                    !out
                });
            }
        }
        if self.map.is_empty() {
            self.map.shrink_to(SMALL);
        }
        self.sweep_at = (self.map.len() * 2).clamp(SMALL, cap.max(SMALL));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Value(Age);

    impl Aged for Value {
        fn age(&self) -> &Age {
            &self.0
        }
    }

    fn see(registry: &Registry<u64, Value>, key: u64, now_ms: u64, idle_from_ms: u64) {
        registry.get_or(key, now_ms, Value::default).0.keep_until(idle_from_ms);
    }

    #[test]
    fn a_flood_of_subjects_takes_bounded_memory_and_pushes_out_the_oldest() {
        let registry = Registry::new(6_400);
        let held = registry.get_or(u64::MAX, 0, Value::default);
        for key in 0..200_000 {
            see(&registry, key, key, u64::MAX);
            if key % 100 == 0 {
                see(&registry, u64::MAX - 1, key, u64::MAX);
            }
        }
        assert!(registry.len() <= 6_400, "{}", registry.len());
        assert!(registry.len() > 4_000, "no more is thrown away than must be: {}", registry.len());
        assert!(registry.get(&199_999, 0).is_some() && registry.get(&0, 0).is_none());
        assert!(registry.get(&(u64::MAX - 1), 0).is_some(), "who comes again stays");
        assert!(Arc::ptr_eq(&held, &registry.get(&u64::MAX, 0).unwrap()), "what is held stays");
    }

    #[test]
    fn the_idle_leave_by_themselves() {
        let registry = Registry::new(1_000_000);
        for round in 0..50 {
            for key in 0..5_000 {
                see(&registry, round * 5_000 + key, round * 1_000, round * 1_000 + 500);
            }
        }
        assert!(registry.len() < 25_000, "{}", registry.len());
    }
}
