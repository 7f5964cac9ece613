//! Dead letters: given up, kept, replayed or forgotten.

use base::seams::{DeadLetter, Which};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::{NewRow, ROWS, StoreQueue};
use crate::db::Connection;
use crate::error::StoreError;
use crate::time::now_ms;

/// Letters moved in one transaction; their bodies pass through our memory.
const LOT: u64 = 50;
/// Letters forgotten in one statement.
const FORGOTTEN: u64 = 1_000;
/// The most letters in one page.
const PAGE: usize = 1_000;

const COLUMNS: &str = "message, partition_key, body, attempts, reason, enqueued_at, died_at";

impl StoreQueue {
    /// Moves a message under lease to the dead letters; whether it was still leased so.
    pub(super) async fn die(&self, id: i64, token: &str, reason: &str) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        let query = "DELETE FROM queue_messages WHERE id = $1 AND receipt = $2 \
             RETURNING queue, message, partition_key, body, attempts, CAST($3 AS TEXT) AS reason, enqueued_at, \
             CAST($4 AS BIGINT) AS died_at";
        let row = sqlx::query(query).bind(id).bind(token).bind(reason).bind(now_ms());
        let Some(row) = row.fetch_optional(&mut *tx).await? else { return Ok(false) };
        let queue: String = row.try_get("queue")?;
        insert(&mut tx, &queue, &letter(&row)?).await?;
        tx.commit().await?;
        Ok(true)
    }

    pub(super) async fn list_dead(
        &self,
        queue: &str,
        skip: u64,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM queue_dead WHERE queue = $1 ORDER BY id LIMIT $2 OFFSET $3");
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(queue)
            .bind(i64::try_from(limit.min(PAGE)).unwrap_or(0))
            .bind(i64::try_from(skip).unwrap_or(i64::MAX))
            .fetch_all(self.db.read())
            .await?;
        rows.iter().map(letter).collect()
    }

    pub(super) async fn replay_dead(&self, queue: &str, which: &Which) -> Result<u64, StoreError> {
        let mut done = 0;
        for lot in Lots::of(which, LOT) {
            let mut tx = self.db.begin().await?;
            let letters = self.exhume(&mut tx, queue, &lot).await?;
            let now = now_ms();
            let row = |letter: &DeadLetter| NewRow {
                message: letter.id.clone(),
                partition: letter.partition.clone(),
                body: letter.body.to_vec(),
                attempts: 0,
                reason: None,
                visible_at: now,
                enqueued_at: letter.enqueued_at,
            };
            self.add(&mut tx, queue, &letters.iter().map(row).collect::<Vec<_>>()).await?;
            tx.commit().await?;
            done += letters.len() as u64;
            if lot.is_last(letters.len()) {
                break;
            }
        }
        Ok(done)
    }

    pub(super) async fn forget_dead(&self, queue: &str, which: &Which) -> Result<u64, StoreError> {
        let mut done = 0;
        for lot in Lots::of(which, FORGOTTEN) {
            let removed = match &lot {
                Lot::Oldest(count) => {
                    let sql = format!("DELETE FROM queue_dead WHERE id IN ({})", self.oldest());
                    let query = sqlx::query(AssertSqlSafe(sql)).bind(queue).bind(*count);
                    query.execute(self.db.write()).await?.rows_affected()
                }
                Lot::Ids(ids) => {
                    let sql = format!("DELETE FROM queue_dead WHERE {}", named(ids));
                    let mut query = sqlx::query(AssertSqlSafe(sql)).bind(queue);
                    for id in ids {
                        query = query.bind(id.as_str());
                    }
                    query.execute(self.db.write()).await?.rows_affected()
                }
            };
            done += removed;
            if lot.is_last(usize::try_from(removed).unwrap_or(usize::MAX)) {
                break;
            }
        }
        Ok(done)
    }

    /// The oldest letters of queue $1, $2 of them, that nobody else is moving.
    fn oldest(&self) -> String {
        format!("SELECT id FROM queue_dead WHERE queue = $1 ORDER BY id LIMIT $2{}", self.lock())
    }

    /// Takes a lot out, in order.
    async fn exhume(
        &self,
        connection: &mut Connection,
        queue: &str,
        lot: &Lot,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let chosen = match lot {
            Lot::Oldest(_) => format!("id IN ({})", self.oldest()),
            Lot::Ids(ids) => named(ids),
        };
        let sql = format!("DELETE FROM queue_dead WHERE {chosen} RETURNING id, {COLUMNS}");
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(queue);
        match lot {
            Lot::Oldest(count) => query = query.bind(*count),
            Lot::Ids(ids) => {
                for id in ids {
                    query = query.bind(id.as_str());
                }
            }
        }
        let rows = query.fetch_all(connection).await?;
        let mut letters = Vec::with_capacity(rows.len());
        for row in &rows {
            letters.push((row.try_get::<i64, _>("id")?, letter(row)?));
        }
        letters.sort_by_key(|(id, _)| *id);
        Ok(letters.into_iter().map(|(_, letter)| letter).collect())
    }
}

/// Adds a letter; one that is there already stays as it is.
pub(super) async fn insert(
    connection: &mut Connection,
    queue: &str,
    letter: &DeadLetter,
) -> Result<(), StoreError> {
    let query = "INSERT INTO queue_dead (queue, message, partition_key, body, attempts, reason, enqueued_at, died_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (queue, message) DO NOTHING";
    sqlx::query(query)
        .bind(queue)
        .bind(letter.id.as_str())
        .bind(letter.partition.as_deref())
        .bind(letter.body.as_ref())
        .bind(i64::from(letter.attempts))
        .bind(letter.reason.as_str())
        .bind(letter.enqueued_at)
        .bind(letter.died_at)
        .execute(connection)
        .await?;
    Ok(())
}

/// The condition on queue $1 and these messages.
fn named(ids: &[String]) -> String {
    let names: Vec<String> = (2..ids.len() + 2).map(|n| format!("${n}")).collect();
    format!("queue = $1 AND message IN ({})", names.join(", "))
}

fn letter(row: &AnyRow) -> Result<DeadLetter, StoreError> {
    let body: Vec<u8> = row.try_get("body")?;
    let attempts: i64 = row.try_get("attempts")?;
    Ok(DeadLetter {
        id: row.try_get("message")?,
        body: body.into(),
        partition: row.try_get("partition_key")?,
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        reason: row.try_get("reason")?,
        enqueued_at: row.try_get("enqueued_at")?,
        died_at: row.try_get("died_at")?,
    })
}

/// Some of the letters that are asked for.
enum Lot {
    Oldest(i64),
    Ids(Vec<String>),
}

impl Lot {
    /// Whether nothing can be left after so many were found.
    fn is_last(&self, found: usize) -> bool {
        matches!(self, Lot::Oldest(asked) if i64::try_from(found).is_ok_and(|found| found < *asked))
    }
}

/// The letters that are asked for, lot by lot.
enum Lots<'a> {
    Oldest { left: u64, size: u64 },
    Ids(std::slice::Chunks<'a, String>),
}

impl<'a> Lots<'a> {
    fn of(which: &'a Which, size: u64) -> Self {
        match which {
            Which::All => Lots::Oldest { left: u64::MAX, size },
            Which::Oldest(count) => Lots::Oldest { left: *count, size },
            Which::Ids(ids) => Lots::Ids(ids.chunks(ROWS)),
        }
    }
}

impl Iterator for Lots<'_> {
    type Item = Lot;

    fn next(&mut self) -> Option<Lot> {
        match self {
            Lots::Oldest { left: 0, .. } => None,
            Lots::Oldest { left, size } => {
                let count = (*left).min(*size);
                *left -= count;
                Some(Lot::Oldest(i64::try_from(count).unwrap_or(i64::MAX)))
            }
            Lots::Ids(chunks) => chunks.next().map(|ids| Lot::Ids(ids.to_vec())),
        }
    }
}
