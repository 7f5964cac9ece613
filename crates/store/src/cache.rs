//! The cache in the database, for replicas that share one and have no Redis. Bounded: what was written longest
//! ago leaves first.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use base::seams::{Backend, Cache, MAX_CACHE_KEY, MAX_CACHE_VALUE, SeamError};
use bytes::Bytes;
use sqlx::{AssertSqlSafe, Row as _};

use crate::db::Db;
use crate::error::StoreError;
use crate::queue::seam_error;
use crate::time::now_ms;

/// After so many writes what is too much is removed.
const SWEPT_AFTER: u64 = 100;
/// What an entry costs beside its key and value, roughly.
const OVERHEAD: usize = 200;

/// A cache in the database.
#[derive(Debug)]
pub struct StoreCache {
    db: Db,
    max_bytes: i64,
    max_entries: i64,
    writes: AtomicU64,
}

impl StoreCache {
    /// The cache of this database, with these bounds.
    pub fn new(db: Db, max_bytes: u64, max_entries: u64) -> Self {
        let bound = |bound: u64| i64::try_from(bound).unwrap_or(i64::MAX).max(1);
        StoreCache {
            db,
            max_bytes: bound(max_bytes),
            max_entries: bound(max_entries),
            writes: AtomicU64::new(0),
        }
    }

    fn error(&self, error: &StoreError) -> SeamError {
        seam_error(self.db.engine(), error)
    }

    /// Writes a value; where one is, only if `over` says so. Whether it did.
    async fn write(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        over: bool,
    ) -> Result<bool, StoreError> {
        // An entry that has expired is no more.
        let condition = if over { "" } else { " WHERE cache_entries.expires_at <= $4" };
        let sql = format!(
            "INSERT INTO cache_entries (name, value, size, written_at, expires_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value, size = excluded.size, \
             written_at = excluded.written_at, expires_at = excluded.expires_at{condition}"
        );
        let now = now_ms();
        let written = sqlx::query(AssertSqlSafe(sql))
            .bind(key)
            .bind(value)
            .bind(size(key, value))
            .bind(now)
            .bind(expiry(now, ttl))
            .execute(self.db.write())
            .await?
            .rows_affected();
        self.count().await?;
        Ok(written > 0)
    }

    async fn add(&self, key: &str, by: i64, ttl: Option<Duration>) -> Result<Option<i64>, StoreError> {
        let now = now_ms();
        let mut tx = self.db.begin().await?;
        sqlx::query("DELETE FROM cache_entries WHERE name = $1 AND expires_at <= $2")
            .bind(key)
            .bind(now)
            .execute(&mut *tx)
            .await?;
        let begin = "INSERT INTO cache_entries (name, value, size, written_at, expires_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (name) DO NOTHING";
        sqlx::query(begin)
            .bind(key)
            .bind(&b"0"[..])
            .bind(size(key, b"0"))
            .bind(now)
            .bind(expiry(now, ttl))
            .execute(&mut *tx)
            .await?;
        let select = format!("SELECT value FROM cache_entries WHERE name = $1{}", self.db.for_update());
        let row = sqlx::query(AssertSqlSafe(select)).bind(key).fetch_one(&mut *tx).await?;
        let value: Vec<u8> = row.try_get(0)?;
        let before = std::str::from_utf8(&value).ok().and_then(|text| text.parse::<i64>().ok());
        let Some(sum) = before.and_then(|before| before.checked_add(by)) else { return Ok(None) };
        sqlx::query("UPDATE cache_entries SET value = $2 WHERE name = $1")
            .bind(key)
            .bind(sum.to_string().as_bytes())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        self.count().await?;
        Ok(Some(sum))
    }

    /// Now and then, removes what has expired and what is too much.
    async fn count(&self) -> Result<(), StoreError> {
        if self.writes.fetch_add(1, Ordering::Relaxed) % SWEPT_AFTER != SWEPT_AFTER - 1 {
            return Ok(());
        }
        let write = self.db.write();
        sqlx::query("DELETE FROM cache_entries WHERE expires_at <= $1").bind(now_ms()).execute(write).await?;
        let sums =
            "SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM cache_entries";
        let row = sqlx::query(sums).fetch_one(write).await?;
        let (entries, bytes): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let mean = (bytes / entries.max(1)).max(1);
        let over = (entries - self.max_entries)
            .max((bytes - self.max_bytes) / mean + i64::from(bytes > self.max_bytes));
        if over > 0 {
            // A little more, so that it is not at its bound again at once.
            let count = over + entries / 20;
            let oldest = "DELETE FROM cache_entries WHERE name IN (SELECT name FROM cache_entries ORDER BY written_at LIMIT $1)";
            sqlx::query(oldest).bind(count).execute(write).await?;
        }
        Ok(())
    }
}

fn size(key: &str, value: &[u8]) -> i64 {
    i64::try_from(key.len() + value.len() + OVERHEAD).unwrap_or(i64::MAX)
}

fn expiry(now: i64, ttl: Option<Duration>) -> Option<i64> {
    ttl.map(|ttl| now.saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)))
}

fn check(key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), SeamError> {
    const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
    if key.is_empty() || key.contains('\0') {
        return Err(SeamError::Invalid(
            "the key of a cache entry must not be empty, nor hold the character NUL".into(),
        ));
    }
    SeamError::check_size("the key of a cache entry", key.len(), MAX_CACHE_KEY)?;
    SeamError::check_size("a cache entry", value.len(), MAX_CACHE_VALUE)?;
    match ttl {
        Some(ttl) if ttl < Duration::from_millis(1) || ttl > LONGEST => {
            Err(SeamError::Invalid("a cache entry lives from 1 ms to ten years".into()))
        }
        _ => Ok(()),
    }
}

#[async_trait]
impl Backend for StoreCache {
    fn backend(&self) -> &'static str {
        self.db.engine().as_str()
    }

    async fn ping(&self) -> Result<(), SeamError> {
        self.db.ping().await.map(drop).map_err(|error| self.error(&error))
    }
}

#[async_trait]
impl Cache for StoreCache {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, SeamError> {
        check(key, &[], None)?;
        let read = async {
            let query =
                "SELECT value FROM cache_entries WHERE name = $1 AND (expires_at IS NULL OR expires_at > $2)";
            let row = sqlx::query(query).bind(key).bind(now_ms()).fetch_optional(self.db.read()).await?;
            Ok(row.map(|row| row.try_get::<Vec<u8>, _>(0)).transpose()?.map(Bytes::from))
        };
        read.await.map_err(|error: StoreError| self.error(&error))
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<(), SeamError> {
        check(key, &value, ttl)?;
        self.write(key, &value, ttl, true).await.map(drop).map_err(|error| self.error(&error))
    }

    async fn set_if_absent(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<bool, SeamError> {
        check(key, &value, ttl)?;
        self.write(key, &value, ttl, false).await.map_err(|error| self.error(&error))
    }

    async fn delete(&self, key: &str) -> Result<bool, SeamError> {
        check(key, &[], None)?;
        let query = "DELETE FROM cache_entries WHERE name = $1 RETURNING expires_at";
        let removed = sqlx::query(query).bind(key).fetch_optional(self.db.write()).await;
        let removed = removed.and_then(|row| row.map(|row| row.try_get::<Option<i64>, _>(0)).transpose());
        let removed = removed.map_err(|error| self.error(&error.into()))?;
        Ok(removed.is_some_and(|expires_at| expires_at.is_none_or(|at| at > now_ms())))
    }

    async fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64, SeamError> {
        check(key, &[], ttl)?;
        let sum = self.add(key, by, ttl).await.map_err(|error| self.error(&error))?;
        sum.ok_or_else(|| {
            SeamError::Invalid(format!(
                "the cache entry {key} is not a whole number of 64 bits, so nothing can be added to it"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::on_each_engine;

    #[tokio::test(flavor = "multi_thread")]
    async fn conforms() {
        on_each_engine(|db| async move {
            let cache = StoreCache::new(db, 64 << 20, 1_000);
            bus::conformance::cache(&cache, "run").await.unwrap();
        })
        .await;
    }

    /// Mutations tried: without the sweep; with a sweep that ignores one of the bounds.
    #[tokio::test(flavor = "multi_thread")]
    async fn stays_within_its_bounds_and_forgets_the_oldest() {
        on_each_engine(|db| async move {
            for (bytes, entries) in [(1 << 30, 50), (50 * 1_200, 1 << 30)] {
                let cache = StoreCache::new(db.clone(), bytes, entries);
                for n in 0..300 {
                    cache.set(&format!("{entries}-{n:03}"), vec![0; 993].into(), None).await.unwrap();
                }
                let row = sqlx::query("SELECT CAST(COUNT(*) AS BIGINT) FROM cache_entries")
                    .fetch_one(db.read())
                    .await
                    .unwrap();
                let count: i64 = row.try_get(0).unwrap();
                assert!((30..=50).contains(&count), "{count} entries");
                assert!(cache.get(&format!("{entries}-299")).await.unwrap().is_some());
                assert!(cache.get(&format!("{entries}-000")).await.unwrap().is_none());
            }
        })
        .await;
    }
}
