//! Retention: the oldest rows go, and the rest can still be verified.
//!
//! The anchor takes the place of the last row removed. So that nobody can remove a beginning by moving the anchor,
//! retention says in the log itself up to which row it removes, in the transaction that removes the first of them.

use super::chain::{Link, check};
use super::verify::Page;
use super::{ANCHOR, AuditEntry, HEAD, insert, keep_link, parse_link};
use crate::db::Db;
use crate::error::StoreError;
use crate::time::now_ms;

/// The action of the records that say what was removed.
const ACTION: &str = "audit.prune";

impl Db {
    /// Removes the rows from before a time, oldest first, and notes that this actor did. Returns how many. A part of
    /// the log that is damaged is not removed: nobody hides a change behind retention.
    pub async fn prune_audit(&self, before: i64, actor: &str) -> Result<u64, StoreError> {
        let through = self.prunable_through(before).await?;
        let mut noted = false;
        let mut pruned = 0;
        loop {
            let anchor = self.audit_link(ANCHOR).await?;
            if anchor.seq >= through {
                return Ok(pruned);
            }
            let last = self.checked(&anchor, through).await?;
            let mut tx = self.begin().await?;
            let mut head = self.lock_head(&mut tx).await?;
            // Under the head's lock nobody else moves the anchor; another replica may have, just before.
            let now: Option<String> = sqlx::query_scalar("SELECT value FROM meta WHERE name = $1")
                .bind(ANCHOR)
                .fetch_optional(&mut *tx)
                .await?;
            let now = now.map_or_else(|| Ok(Link::first()), |now| parse_link(ANCHOR, &now))?;
            if now != anchor {
                continue;
            }
            if !noted {
                head = insert(&mut tx, &head, &record(through, actor)).await?;
                keep_link(&mut tx, HEAD, &head).await?;
                noted = true;
            }
            let query = "DELETE FROM audit WHERE seq > $1 AND seq <= $2";
            let deleted = sqlx::query(query).bind(anchor.seq).bind(last.seq).execute(&mut *tx).await?;
            keep_link(&mut tx, ANCHOR, &last).await?;
            tx.commit().await?;
            pruned += deleted.rows_affected();
        }
    }

    /// The last of the rows after the anchor that are removed next, all of which are as they were written.
    async fn checked(&self, anchor: &Link, through: i64) -> Result<Link, StoreError> {
        let rows = match self.audit_page(anchor.seq).await? {
            Page::Rows(rows) => rows,
            Page::Unreadable(seq) => return Err(damaged(seq, "cannot be read")),
        };
        let mut last = anchor.clone();
        for row in rows.iter().take_while(|row| row.seq <= through) {
            last = check(&last, row).map_err(|bad| damaged(bad.seq, &bad.why))?;
        }
        match last.seq > anchor.seq {
            true => Ok(last),
            // Another replica has removed them meanwhile, or somebody else has.
            false if self.audit_link(ANCHOR).await? != *anchor => Ok(last),
            false => Err(damaged(anchor.seq + 1, "is missing")),
        }
    }

    /// The last row that is from before a time, as are those before it. A clock that was wrong for a while neither
    /// keeps everything after it for ever nor lets go of what is young.
    async fn prunable_through(&self, before: i64) -> Result<i64, StoreError> {
        let old = "SELECT CAST(COALESCE(MAX(seq), 0) AS BIGINT) FROM audit WHERE at < $1";
        let old: i64 = sqlx::query_scalar(old).bind(before).fetch_one(self.read()).await?;
        let young = "SELECT MIN(seq) FROM audit WHERE at >= $1 AND at <= $2";
        let young: Option<i64> =
            sqlx::query_scalar(young).bind(before).bind(now_ms()).fetch_one(self.read()).await?;
        Ok(young.map_or(old, |young| old.min(young - 1)))
    }
}

fn record(through: i64, actor: &str) -> AuditEntry {
    AuditEntry {
        at: now_ms(),
        actor: actor.to_owned(),
        action: ACTION.into(),
        target: through.to_string(),
        outcome: "ok".into(),
        ..AuditEntry::default()
    }
}

/// Up to which row an entry says that retention removed rows; 0 when it says something else.
pub(super) fn removed_through(entry: &AuditEntry) -> i64 {
    match entry.action == ACTION {
        true => entry.target.parse().unwrap_or_default(),
        false => 0,
    }
}

fn damaged(seq: i64, why: &str) -> StoreError {
    StoreError::Invalid(format!(
        "row {seq} of the audit log {why}: older rows are not removed while the log is damaged"
    ))
}
