//! Answers to creations that carried an `Idempotency-Key`, so that a request sent twice acts once, on whichever
//! replicas its copies arrive.
//!
//! The row is inserted before the work and completed after it. When a process dies between the two nobody knows
//! whether the work was done, and a repeated credit is money: the key stays in progress until it expires, and the
//! caller is told since when.

use sqlx::{AssertSqlSafe, Row as _};

use crate::db::Db;
use crate::error::StoreError;
use crate::sql::skip_locked;
use crate::time::now_ms;

/// How long answers are kept.
pub const IDEMPOTENCY_KEEP_MS: i64 = 24 * 3_600_000;
/// The longest key, in characters.
const LONGEST_KEY: usize = 255;
/// The longest actor or fingerprint, in bytes.
const LONGEST: usize = 1024;
/// The longest answer, sealed, in bytes.
const LONGEST_ANSWER: usize = 4 * 1024 * 1024;
/// How often a row that vanishes between two looks is looked for again.
const TRIES: usize = 10;
/// Rows removed in one statement.
const BATCH: i64 = 1000;

/// What to do with a request that carries a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Idempotency {
    /// The first of its kind: do it, then call [`Db::finish_idempotent`], or [`Db::forget_idempotent`] when it was not
    /// done.
    Fresh(Claim),
    /// It was done: answer the same again.
    Replay {
        /// The HTTP status of the answer.
        status: u16,
        /// The answer, as sealed as it was given.
        answer: String,
    },
    /// The key was used for another request.
    Conflict,
    /// The same request is being worked on, or was when a process died.
    InProgress {
        /// When it began.
        since: i64,
    },
}

/// The right to do a request that carries a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    actor: String,
    key: String,
    at: i64,
}

impl Db {
    /// Says what to do with a request: `actor` sent it under `key`, and `fingerprint` stands for its route and body.
    /// Of copies that arrive at once, on any replicas, one is [`Idempotency::Fresh`].
    pub async fn begin_idempotent(
        &self,
        actor: &str,
        key: &str,
        fingerprint: &str,
    ) -> Result<Idempotency, StoreError> {
        check(actor, key, fingerprint)?;
        let now = now_ms();
        let claim = || Idempotency::Fresh(Claim { actor: actor.into(), key: key.into(), at: now });
        for _ in 0..TRIES {
            // Of copies that see the row expired, one finds it still as it was.
            let claimed = "INSERT INTO idempotency (actor, key, fingerprint, at) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (actor, key) DO UPDATE SET fingerprint = excluded.fingerprint, status = NULL, answer = NULL, \
                 at = excluded.at WHERE idempotency.at <= $5";
            let claimed = sqlx::query(claimed)
                .bind(actor)
                .bind(key)
                .bind(fingerprint)
                .bind(now)
                .bind(now - IDEMPOTENCY_KEEP_MS)
                .execute(self.write())
                .await?;
            if claimed.rows_affected() > 0 {
                return Ok(claim());
            }
            let query =
                "SELECT fingerprint, status, answer, at FROM idempotency WHERE actor = $1 AND key = $2";
            let row = sqlx::query(query).bind(actor).bind(key).fetch_optional(self.read()).await?;
            // Gone since: whoever had it did not do it.
            let Some(row) = row else { continue };
            if row.try_get::<String, _>(0)? != fingerprint {
                return Ok(Idempotency::Conflict);
            }
            let status: Option<i64> = row.try_get(1)?;
            return Ok(match status.and_then(|status| u16::try_from(status).ok()) {
                Some(status) => {
                    let answer: Option<String> = row.try_get(2)?;
                    Idempotency::Replay { status, answer: answer.unwrap_or_default() }
                }
                None => Idempotency::InProgress { since: row.try_get(3)? },
            });
        }
        Ok(Idempotency::InProgress { since: now })
    }

    /// Keeps the answer to a request that was done. It may hold a new key: seal it.
    pub async fn finish_idempotent(
        &self,
        claim: &Claim,
        status: u16,
        sealed: &str,
    ) -> Result<(), StoreError> {
        if sealed.len() > LONGEST_ANSWER || sealed.contains('\0') {
            return Err(StoreError::Invalid(format!(
                "an answer of {} bytes cannot be kept for its Idempotency-Key",
                sealed.len()
            )));
        }
        // A claim that has expired may be somebody else's by now.
        let query = "UPDATE idempotency SET status = $4, answer = $5 \
             WHERE actor = $1 AND key = $2 AND at = $3 AND status IS NULL";
        sqlx::query(query)
            .bind(&claim.actor)
            .bind(&claim.key)
            .bind(claim.at)
            .bind(i64::from(status))
            .bind(sealed)
            .execute(self.write())
            .await?;
        Ok(())
    }

    /// Lets go of a request that was not done, so that it may be sent again.
    pub async fn forget_idempotent(&self, claim: &Claim) -> Result<(), StoreError> {
        let query = "DELETE FROM idempotency WHERE actor = $1 AND key = $2 AND at = $3 AND status IS NULL";
        let query = sqlx::query(query).bind(&claim.actor).bind(&claim.key).bind(claim.at);
        query.execute(self.write()).await?;
        Ok(())
    }

    /// Removes what has expired. Returns how many.
    pub async fn prune_idempotency(&self) -> Result<u64, StoreError> {
        let query = format!(
            "DELETE FROM idempotency WHERE (actor, key) IN \
             (SELECT actor, key FROM idempotency WHERE at <= $1 LIMIT $2{})",
            skip_locked(self.engine())
        );
        let mut pruned = 0;
        loop {
            let query =
                sqlx::query(AssertSqlSafe(query.clone())).bind(now_ms() - IDEMPOTENCY_KEEP_MS).bind(BATCH);
            let deleted = query.execute(self.write()).await?.rows_affected();
            pruned += deleted;
            if deleted == 0 {
                return Ok(pruned);
            }
        }
    }
}

fn check(actor: &str, key: &str, fingerprint: &str) -> Result<(), StoreError> {
    if key.is_empty() || key.chars().count() > LONGEST_KEY || key.chars().any(char::is_control) {
        return Err(StoreError::Invalid(format!(
            "an Idempotency-Key has 1 to {LONGEST_KEY} characters, none of them control characters"
        )));
    }
    let fits = |text: &str| text.len() <= LONGEST && !text.contains('\0');
    if !fits(actor) || !fits(fingerprint) {
        return Err(StoreError::Invalid(
            "the caller's name is too long to keep an Idempotency-Key for".into(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
