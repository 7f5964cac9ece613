//! The log of requests in pages: what a journal brings at once is one row with many calls in it.
//!
//! A row for each call would cost more than all the rest of the call: three indices and twenty columns. A page
//! costs its bytes. Two small tables of numbers say which keys and groups a page is about, so that theirs are
//! found among millions; everything else that is asked for is looked for within pages.
//!
//! A call's id is its page's, times [`STRIDE`], plus its place there.

use std::collections::BTreeSet;

use sqlx::{Any, AssertSqlSafe, Row as _, Transaction};

use super::record::{Calls, USAGE_FORM, UsageCall};
use crate::db::{Db, Engine};
use crate::error::StoreError;
use crate::sql::skip_locked;

/// The most calls of a page.
pub(super) const PAGE_CALLS: usize = 512;
/// A page with so many bytes takes no more calls.
const PAGE_BYTES: usize = 128 << 10;
/// More than the most calls of a page.
pub(super) const STRIDE: i64 = 1024;
/// Pages removed or read at once, so that nobody waits long for the one writer of SQLite.
const BATCH: i64 = 64;

/// What a page can be found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Key = 1,
    Group = 2,
}

/// What a page is found by.
struct Seen {
    first_at: i64,
    last_at: i64,
    subjects: [BTreeSet<i64>; 2],
}

impl Default for Seen {
    fn default() -> Self {
        Seen { first_at: i64::MAX, last_at: i64::MIN, subjects: Default::default() }
    }
}

impl Seen {
    fn add(&mut self, call: &UsageCall<'_>) {
        self.first_at = self.first_at.min(call.at);
        self.last_at = self.last_at.max(call.at);
        let [keys, groups] = &mut self.subjects;
        keys.extend(call.key_id);
        groups.extend(call.group_id);
    }
}

/// Keeps calls, in as many pages as it takes.
pub(crate) async fn insert(
    tx: &mut Transaction<'_, Any>,
    engine: Engine,
    calls: &Calls,
) -> Result<(), StoreError> {
    let mut page = Page::default();
    for bytes in Calls::places(calls.as_bytes()) {
        let Some(call) = UsageCall::decode(bytes) else { continue };
        if page.calls.len() == PAGE_CALLS || page.calls.as_bytes().len() >= PAGE_BYTES {
            std::mem::take(&mut page).insert(tx, engine).await?;
        }
        page.seen.add(&call);
        page.calls.push_bytes(bytes);
    }
    if !page.calls.is_empty() {
        page.insert(tx, engine).await?;
    }
    Ok(())
}

#[derive(Default)]
struct Page {
    calls: Calls,
    seen: Seen,
}

impl Page {
    async fn insert(self, tx: &mut Transaction<'_, Any>, engine: Engine) -> Result<(), StoreError> {
        let query =
            "INSERT INTO usage_pages (first_at, last_at, calls, body) VALUES ($1, $2, $3, $4) RETURNING id";
        let id: i64 = sqlx::query_scalar(query)
            .bind(self.seen.first_at)
            .bind(self.seen.last_at)
            .bind(i64::try_from(self.calls.len()).unwrap_or(i64::MAX))
            .bind(body(&self.calls))
            .fetch_one(&mut **tx)
            .await?;
        for (kind, subjects) in [Subject::Key, Subject::Group].into_iter().zip(&self.seen.subjects) {
            if subjects.is_empty() {
                continue;
            }
            let rows = match engine {
                Engine::Sqlite => "CAST(value AS BIGINT) FROM json_each($3)",
                Engine::Postgres => "CAST(value AS BIGINT) FROM json_array_elements_text(CAST($3 AS json))",
            };
            let query = format!(
                "INSERT INTO usage_subjects (kind, page, subject) SELECT CAST($1 AS BIGINT), CAST($2 AS BIGINT), {rows}"
            );
            sqlx::query(AssertSqlSafe(query))
                .bind(kind as i64)
                .bind(id)
                .bind(serde_json::to_string(subjects).unwrap_or_default())
                .execute(&mut **tx)
                .await?;
        }
        Ok(())
    }
}

/// The bytes of a page: the version of their form, and the calls.
fn body(calls: &Calls) -> Vec<u8> {
    let mut body = Vec::with_capacity(1 + calls.as_bytes().len());
    body.push(USAGE_FORM);
    body.extend_from_slice(calls.as_bytes());
    body
}

/// The calls in the bytes of a page.
pub(super) fn calls_of(page: i64, body: &[u8]) -> Result<&[u8], StoreError> {
    match body.split_first() {
        Some((&USAGE_FORM, calls)) => Ok(calls),
        _ => Err(StoreError::Schema(format!(
            "usage_pages {page} is of a newer form: use the version that wrote it"
        ))),
    }
}

impl Db {
    /// Removes requests from before a time, some pages at once. Sums by day stay. Returns how many requests.
    pub async fn prune_requests(&self, before: i64) -> Result<u64, StoreError> {
        let whole = format!(
            "DELETE FROM usage_pages WHERE id IN (SELECT id FROM usage_pages WHERE last_at < $1 ORDER BY last_at LIMIT $2{}) \
             RETURNING calls",
            skip_locked(self.engine())
        );
        let mut pruned = 0;
        loop {
            let query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(whole.clone())).bind(before).bind(BATCH);
            let removed = query.fetch_all(self.write()).await?;
            pruned += removed.iter().map(|calls| calls.cast_unsigned()).sum::<u64>();
            if removed.is_empty() {
                break;
            }
        }
        while let Some(removed) = self.prune_within(before).await? {
            pruned += removed;
        }
        Ok(pruned)
    }

    /// Takes the old ones out of pages that have younger ones, too. `None` when there are no such pages (any more).
    async fn prune_within(&self, before: i64) -> Result<Option<u64>, StoreError> {
        let mut tx = self.begin().await?;
        let query = format!(
            "SELECT id, body, calls FROM usage_pages WHERE first_at < $1 AND last_at >= $1 ORDER BY id LIMIT $2{}",
            skip_locked(self.engine())
        );
        let pages = sqlx::query(AssertSqlSafe(query)).bind(before).bind(BATCH).fetch_all(&mut *tx).await?;
        if pages.is_empty() {
            return Ok(None);
        }
        let mut removed = 0;
        for row in &pages {
            let (id, body_before): (i64, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
            let (mut kept, mut seen, mut left) = (Calls::default(), Seen::default(), 0_i64);
            for bytes in Calls::places(calls_of(id, &body_before)?) {
                match UsageCall::decode(bytes).filter(|call| call.at >= before) {
                    None => kept.push_hole(),
                    Some(call) => {
                        seen.add(&call);
                        kept.push_bytes(bytes);
                        left += 1;
                    }
                }
            }
            removed += (row.try_get::<i64, _>(2)? - left).max(0).cast_unsigned();
            let update = "UPDATE usage_pages SET first_at = $2, calls = $3, body = $4 WHERE id = $1";
            sqlx::query(update)
                .bind(id)
                .bind(seen.first_at.max(before))
                .bind(left)
                .bind(body(&kept))
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(Some(removed))
    }
}
