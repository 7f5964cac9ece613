//! The queue in the database: nothing else to run, and everything that was accepted is on the disk. It is also
//! where the queues of Redis and RabbitMQ keep delays, failures and dead letters.
//!
//! A message is taken by one statement. PostgreSQL skips rows that another is taking (`SKIP LOCKED`); SQLite has
//! one writer. Of one partition only the first is taken, whatever state it is in.

mod dead;

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use base::seams::{
    Backend, DeadLetter, Delivery, Depth, Ledger, MAX_BATCH, Message, Note, Parked, Queue, Retry, SeamError,
    Which, cut_reason,
};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};
use tokio::sync::Notify;

use crate::db::{Connection, Db, Engine};
use crate::error::StoreError;
use crate::sql::{placeholders, skip_locked};
use crate::time::now_ms;

/// How long is waited between two looks for what others have pushed.
const LOOK: Duration = Duration::from_millis(100);
/// Rows in one statement.
const ROWS: usize = 100;
/// What is kept as the reason of an attempt that ended with its lease.
const LEASE_ENDED: &str = "the lease ended before the work was done";

/// Queues in the database.
#[derive(Debug)]
pub struct StoreQueue {
    db: Db,
    changed: Notify,
}

/// A row to be added.
struct NewRow {
    message: String,
    partition: Option<String>,
    body: Vec<u8>,
    attempts: i64,
    reason: Option<String>,
    visible_at: i64,
    enqueued_at: Option<i64>,
}

impl StoreQueue {
    /// The queues of this database.
    pub fn new(db: Db) -> Self {
        StoreQueue { db, changed: Notify::new() }
    }

    async fn add(&self, connection: &mut Connection, queue: &str, rows: &[NewRow]) -> Result<(), StoreError> {
        for rows in rows.chunks(ROWS) {
            let sql = format!(
                "INSERT INTO queue_messages (queue, message, partition_key, body, attempts, reason, visible_at, enqueued_at) \
                 VALUES {} ON CONFLICT (queue, message) DO UPDATE SET body = excluded.body, attempts = excluded.attempts, \
                 reason = excluded.reason, visible_at = excluded.visible_at, leased_until = 0, receipt = NULL",
                placeholders(rows.len(), 8)
            );
            let mut insert = sqlx::query(AssertSqlSafe(sql));
            for row in rows {
                insert = insert
                    .bind(queue)
                    .bind(row.message.as_str())
                    .bind(row.partition.as_deref())
                    .bind(row.body.as_slice())
                    .bind(row.attempts)
                    .bind(row.reason.as_deref())
                    .bind(row.visible_at)
                    .bind(row.enqueued_at);
            }
            insert.execute(&mut *connection).await?;
        }
        Ok(())
    }

    async fn add_all(&self, queue: &str, rows: &[NewRow]) -> Result<(), SeamError> {
        let added = async {
            let mut tx = self.db.begin().await?;
            self.add(&mut tx, queue, rows).await?;
            Ok(tx.commit().await?)
        };
        added.await.map_err(|error| self.error(&error))?;
        self.changed.notify_waiters();
        Ok(())
    }

    /// Whether a look for messages is worth a write.
    async fn is_something_ready(&self, queue: &str) -> Result<bool, StoreError> {
        let query = "SELECT id FROM queue_messages WHERE queue = $1 AND visible_at <= $2 AND leased_until <= $2 LIMIT 1";
        let found = sqlx::query(query).bind(queue).bind(now_ms()).fetch_optional(self.db.read()).await?;
        Ok(found.is_some())
    }

    async fn take(&self, queue: &str, max: usize, lease: Duration) -> Result<Vec<Delivery>, StoreError> {
        let now = now_ms();
        let token = format!("{:016x}", fastrand::u64(..));
        // Of a partition none is taken while an earlier one is there, or any is out.
        let claim = format!(
            "WITH next AS (SELECT m.id FROM queue_messages m WHERE m.queue = $1 AND m.visible_at <= $2 AND m.leased_until <= $2 \
             AND (m.partition_key IS NULL OR NOT EXISTS (SELECT 1 FROM queue_messages e WHERE e.queue = m.queue \
             AND e.partition_key = m.partition_key AND (e.id < m.id OR e.leased_until > $2))) \
             ORDER BY m.id LIMIT $3{}) \
             UPDATE queue_messages SET attempts = attempts + 1, leased_until = $4, receipt = $5, \
             reason = CASE WHEN receipt IS NULL THEN reason ELSE $6 END \
             WHERE id IN (SELECT id FROM next) \
             RETURNING id, message, partition_key, body, attempts, reason, enqueued_at",
            self.lock()
        );
        let rows = sqlx::query(AssertSqlSafe(claim))
            .bind(queue)
            .bind(now)
            .bind(i64::try_from(max).unwrap_or(i64::MAX))
            .bind(now.saturating_add(millis(lease)))
            .bind(token.as_str())
            .bind(LEASE_ENDED)
            .fetch_all(self.db.write())
            .await?;
        let mut taken = rows.iter().map(|row| delivery(queue, &token, row)).collect::<Result<Vec<_>, _>>()?;
        taken.sort_by_key(|(id, _)| *id);
        Ok(taken.into_iter().map(|(_, delivery)| delivery).collect())
    }

    /// Of the rows that are chosen, those that nobody else is at.
    fn lock(&self) -> &'static str {
        skip_locked(self.db.engine())
    }

    /// Changes the row of a delivery that is still ours.
    async fn change(&self, delivery: &Delivery, change: Change) -> Result<(), SeamError> {
        let (id, token) = receipt(delivery)?;
        let changed = async {
            let write = self.db.write();
            let query = match &change {
                Change::Remove => sqlx::query("DELETE FROM queue_messages WHERE id = $1 AND receipt = $2"),
                Change::Extend(_) => {
                    sqlx::query("UPDATE queue_messages SET leased_until = $3 WHERE id = $1 AND receipt = $2")
                }
                Change::Retry(..) => sqlx::query(
                    "UPDATE queue_messages SET receipt = NULL, leased_until = 0, visible_at = $3, reason = $4 \
                     WHERE id = $1 AND receipt = $2",
                ),
                Change::Release => sqlx::query(
                    "UPDATE queue_messages SET receipt = NULL, leased_until = 0, attempts = attempts - 1 \
                     WHERE id = $1 AND receipt = $2",
                ),
            };
            let query = query.bind(id).bind(token);
            let query = match change {
                Change::Remove | Change::Release => query,
                Change::Extend(until) => query.bind(until),
                Change::Retry(at, reason) => query.bind(at).bind(reason),
            };
            Ok::<_, StoreError>(query.execute(write).await?.rows_affected())
        };
        match changed.await.map_err(|error| self.error(&error))? {
            0 => Err(lost(delivery)),
            _ => {
                self.changed.notify_waiters();
                Ok(())
            }
        }
    }

    fn error(&self, error: &StoreError) -> SeamError {
        seam_error(self.db.engine(), error)
    }
}

/// What becomes of a row.
enum Change {
    Remove,
    /// The lease ends then.
    Extend(i64),
    /// Again at this time, for this reason.
    Retry(i64, String),
    Release,
}

fn delivery(queue: &str, token: &str, row: &AnyRow) -> Result<(i64, Delivery), StoreError> {
    let id: i64 = row.try_get("id")?;
    let body: Vec<u8> = row.try_get("body")?;
    let attempts: i64 = row.try_get("attempts")?;
    let delivery = Delivery {
        queue: queue.to_owned(),
        id: row.try_get("message")?,
        body: body.into(),
        partition: row.try_get("partition_key")?,
        attempt: u32::try_from(attempts).unwrap_or(u32::MAX),
        reason: row.try_get("reason")?,
        enqueued_at: row.try_get("enqueued_at")?,
        receipt: format!("{id}:{token}"),
    };
    Ok((id, delivery))
}

/// The row and the token of a receipt.
fn receipt(delivery: &Delivery) -> Result<(i64, &str), SeamError> {
    let parts = delivery.receipt.split_once(':').and_then(|(id, token)| Some((id.parse().ok()?, token)));
    parts.ok_or_else(|| lost(delivery))
}

fn lost(delivery: &Delivery) -> SeamError {
    SeamError::LeaseLost { queue: delivery.queue.clone(), id: delivery.id.clone() }
}

fn check_queue(queue: &str) -> Result<(), SeamError> {
    SeamError::check_name("the name of a queue", queue)
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

fn after(span: Duration) -> i64 {
    now_ms().saturating_add(millis(span))
}

fn new_id() -> String {
    format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..))
}

/// An error of the database as the seams know it.
pub(crate) fn seam_error(engine: Engine, error: &StoreError) -> SeamError {
    match error {
        StoreError::Invalid(what) => SeamError::Invalid(what.clone()),
        error => SeamError::Unavailable { backend: engine.as_str(), reason: error.to_string() },
    }
}

#[async_trait]
impl Backend for StoreQueue {
    fn backend(&self) -> &'static str {
        self.db.engine().as_str()
    }

    async fn ping(&self) -> Result<(), SeamError> {
        self.db.ping().await.map(drop).map_err(|error| self.error(&error))
    }
}

#[async_trait]
impl Queue for StoreQueue {
    async fn push(&self, queue: &str, messages: &[Message]) -> Result<(), SeamError> {
        check_queue(queue)?;
        if messages.len() > MAX_BATCH {
            return Err(SeamError::Invalid(format!("at most {MAX_BATCH} messages are pushed at once")));
        }
        messages.iter().try_for_each(Message::check)?;
        let now = now_ms();
        let row = |message: &Message| NewRow {
            message: new_id(),
            partition: message.partition.clone(),
            body: message.body.to_vec(),
            attempts: 0,
            reason: None,
            visible_at: now.saturating_add(millis(message.delay)),
            enqueued_at: Some(now),
        };
        self.add_all(queue, &messages.iter().map(row).collect::<Vec<_>>()).await
    }

    async fn pull(
        &self,
        queue: &str,
        max: usize,
        lease: Duration,
        wait: Duration,
    ) -> Result<Vec<Delivery>, SeamError> {
        check_queue(queue)?;
        let end = Instant::now() + wait;
        let max = max.min(MAX_BATCH);
        loop {
            // Registered before the look, so that what is pushed after it is not missed.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let taken = async {
                if max == 0 || !self.is_something_ready(queue).await? {
                    return Ok(Vec::new());
                }
                self.take(queue, max, lease).await
            };
            let taken = taken.await.map_err(|error: StoreError| self.error(&error))?;
            let left = end.saturating_duration_since(Instant::now());
            if !taken.is_empty() || left.is_zero() || max == 0 {
                return Ok(taken);
            }
            drop(tokio::time::timeout(left.min(LOOK), changed).await);
        }
    }

    async fn ack(&self, delivery: &Delivery) -> Result<(), SeamError> {
        self.change(delivery, Change::Remove).await
    }

    async fn ack_all(&self, deliveries: &[Delivery]) -> Result<(), SeamError> {
        for deliveries in deliveries.chunks(ROWS) {
            let receipts = deliveries.iter().map(receipt).collect::<Result<Vec<_>, _>>()?;
            let sql = format!(
                "DELETE FROM queue_messages WHERE (id, receipt) IN (VALUES {})",
                placeholders(receipts.len(), 2)
            );
            let mut delete = sqlx::query(AssertSqlSafe(sql));
            for (id, token) in receipts {
                delete = delete.bind(id).bind(token);
            }
            delete.execute(self.db.write()).await.map_err(|error| self.error(&error.into()))?;
        }
        self.changed.notify_waiters();
        Ok(())
    }

    async fn nack(&self, delivery: &Delivery, retry: Retry, reason: &str) -> Result<(), SeamError> {
        match retry {
            Retry::After(delay) => {
                self.change(delivery, Change::Retry(after(delay), cut_reason(reason))).await
            }
            Retry::Release => self.change(delivery, Change::Release).await,
            Retry::Never => {
                let (id, token) = receipt(delivery)?;
                let died =
                    self.die(id, token, &cut_reason(reason)).await.map_err(|error| self.error(&error))?;
                self.changed.notify_waiters();
                if died { Ok(()) } else { Err(lost(delivery)) }
            }
        }
    }

    async fn extend(&self, delivery: &Delivery, lease: Duration) -> Result<(), SeamError> {
        self.change(delivery, Change::Extend(after(lease))).await
    }

    async fn depth(&self, queue: &str) -> Result<Depth, SeamError> {
        check_queue(queue)?;
        let counts = async {
            let query = "SELECT CAST(COUNT(*) AS BIGINT), \
                 CAST(COALESCE(SUM(CASE WHEN leased_until > $2 THEN 1 ELSE 0 END), 0) AS BIGINT), \
                 CAST(COALESCE(SUM(CASE WHEN leased_until <= $2 AND visible_at > $2 THEN 1 ELSE 0 END), 0) AS BIGINT), \
                 (SELECT CAST(COUNT(*) AS BIGINT) FROM queue_dead WHERE queue = $1) \
                 FROM queue_messages WHERE queue = $1";
            let row = sqlx::query(query).bind(queue).bind(now_ms()).fetch_one(self.db.read()).await?;
            let count = |index: usize| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(index)?.unsigned_abs());
            let (all, leased, delayed, dead) = (count(0)?, count(1)?, count(2)?, count(3)?);
            Ok(Depth { waiting: all - leased - delayed, delayed, leased, dead })
        };
        counts.await.map_err(|error: StoreError| self.error(&error))
    }

    async fn dead(&self, queue: &str, skip: u64, limit: usize) -> Result<Vec<DeadLetter>, SeamError> {
        check_queue(queue)?;
        self.list_dead(queue, skip, limit).await.map_err(|error| self.error(&error))
    }

    async fn replay(&self, queue: &str, which: &Which) -> Result<u64, SeamError> {
        check_queue(queue)?;
        let replayed = self.replay_dead(queue, which).await.map_err(|error| self.error(&error))?;
        self.changed.notify_waiters();
        Ok(replayed)
    }

    async fn purge_dead(&self, queue: &str, which: &Which) -> Result<u64, SeamError> {
        check_queue(queue)?;
        self.forget_dead(queue, which).await.map_err(|error| self.error(&error))
    }

    async fn purge(&self, queue: &str) -> Result<u64, SeamError> {
        check_queue(queue)?;
        let query = "DELETE FROM queue_messages WHERE queue = $1 AND leased_until <= $2";
        let purged = sqlx::query(query).bind(queue).bind(now_ms()).execute(self.db.write()).await;
        purged.map(|done| done.rows_affected()).map_err(|error| self.error(&error.into()))
    }
}

#[async_trait]
impl Ledger for StoreQueue {
    async fn park(&self, queue: &str, messages: &[Parked]) -> Result<(), SeamError> {
        check_queue(queue)?;
        let row = |parked: &Parked| NewRow {
            message: parked.id.clone(),
            partition: None,
            body: parked.body.to_vec(),
            attempts: parked.attempts.into(),
            reason: parked.reason.as_deref().map(cut_reason),
            visible_at: parked.due_at,
            enqueued_at: parked.enqueued_at,
        };
        self.add_all(queue, &messages.iter().map(row).collect::<Vec<_>>()).await
    }

    async fn note(&self, queue: &str, note: &Note) -> Result<(), SeamError> {
        check_queue(queue)?;
        let query = "INSERT INTO queue_notes (queue, message, attempts, reason, due_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (queue, message) DO UPDATE SET attempts = excluded.attempts, reason = excluded.reason, \
             due_at = excluded.due_at";
        let noted = sqlx::query(query)
            .bind(queue)
            .bind(note.id.as_str())
            .bind(i64::from(note.attempts))
            .bind(note.reason.as_deref().map(cut_reason))
            .bind(note.due_at)
            .execute(self.db.write())
            .await;
        noted.map(drop).map_err(|error| self.error(&error.into()))
    }

    async fn notes(&self, queue: &str, ids: &[String]) -> Result<Vec<Note>, SeamError> {
        check_queue(queue)?;
        let found =
            self.chosen("SELECT message, attempts, reason, due_at FROM queue_notes", queue, ids).await;
        let note = |row: &AnyRow| {
            Ok::<_, sqlx::Error>(Note {
                id: row.try_get(0)?,
                attempts: u32::try_from(row.try_get::<i64, _>(1)?).unwrap_or(u32::MAX),
                reason: row.try_get(2)?,
                due_at: row.try_get(3)?,
            })
        };
        let notes = found.and_then(|rows| Ok(rows.iter().map(note).collect::<Result<_, _>>()?));
        notes.map_err(|error| self.error(&error))
    }

    async fn forget(&self, queue: &str, id: &str) -> Result<(), SeamError> {
        let query = sqlx::query("DELETE FROM queue_notes WHERE queue = $1 AND message = $2");
        let forgotten = query.bind(queue).bind(id).execute(self.db.write()).await;
        forgotten.map(drop).map_err(|error| self.error(&error.into()))
    }

    async fn bury(&self, queue: &str, letter: &DeadLetter) -> Result<(), SeamError> {
        check_queue(queue)?;
        let buried = async {
            let mut tx = self.db.begin().await?;
            dead::insert(&mut tx, queue, letter).await?;
            let forget = sqlx::query("DELETE FROM queue_notes WHERE queue = $1 AND message = $2");
            forget.bind(queue).bind(letter.id.as_str()).execute(&mut *tx).await?;
            Ok(tx.commit().await?)
        };
        buried.await.map_err(|error: StoreError| self.error(&error))
    }

    async fn buried(&self, queue: &str, ids: &[String]) -> Result<Vec<String>, SeamError> {
        check_queue(queue)?;
        let found = self.chosen("SELECT message FROM queue_dead", queue, ids).await;
        let names =
            found.and_then(|rows| Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?));
        names.map_err(|error| self.error(&error))
    }
}

impl StoreQueue {
    /// The rows of these messages.
    async fn chosen(
        &self,
        select: &'static str,
        queue: &str,
        ids: &[String],
    ) -> Result<Vec<AnyRow>, StoreError> {
        let mut rows = Vec::new();
        for ids in ids.chunks(ROWS) {
            let names: Vec<String> = (2..ids.len() + 2).map(|n| format!("${n}")).collect();
            let sql = format!("{select} WHERE queue = $1 AND message IN ({})", names.join(", "));
            let mut query = sqlx::query(AssertSqlSafe(sql)).bind(queue);
            for id in ids {
                query = query.bind(id.as_str());
            }
            rows.extend(query.fetch_all(self.db.read()).await?);
        }
        Ok(rows)
    }
}
