//! The audit log: who did what, from where, with what outcome. Rows are only ever added, and each is chained to the
//! one before it, so that a change, a removal or an insertion made behind the program's back shows.
//!
//! - `audit/chain.rs`: what is hashed, and how a row is checked.
//! - `audit/verify.rs`: the check of the whole log.
//! - `audit/prune.rs`: retention, which leaves the rest verifiable.
//!
//! Two rows of `meta` belong to the log: `audit_head`, the last row, whose lock puts appenders in order, and
//! `audit_anchor`, the last row that retention removed. Both hold `seq hash`.
//!
//! A hash chain is evidence, not a wall: who may write the whole database can compute a whole new chain. Whoever
//! wants to see that too keeps the head somewhere else ([`Verified::head`]) and looks whether the log still holds it.

mod chain;
mod prune;
#[cfg(test)]
mod tests;
mod verify;

use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row as _, Transaction};

use crate::db::Db;
use crate::error::StoreError;
use crate::sql::Conditions;

pub use chain::{BadRow, Link};
pub use verify::Verified;

/// What is noted about an action.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub at: i64,
    /// Who: the id of a key, `admin` for the master key, a user, `system`.
    pub actor: String,
    /// From where.
    pub ip: Option<String>,
    /// What, as `keys.create`.
    pub action: String,
    /// To what, as `key 7`.
    pub target: String,
    /// How it ended, as `ok` or the code of an error.
    pub outcome: String,
    /// The request that asked for it.
    pub request_id: Option<String>,
    /// What else is worth knowing, perhaps JSON. Never a body, never a secret.
    pub detail: Option<String>,
}

/// A row of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// Counts from 1, without gaps.
    pub seq: i64,
    /// What is noted.
    pub entry: AuditEntry,
    /// The hash of the row before it.
    pub previous: String,
    /// SHA-256 over all of the above, lower-case hexadecimal.
    pub hash: String,
}

/// Which rows to list.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Not before this time.
    pub from: Option<i64>,
    /// Before this time.
    pub to: Option<i64>,
    /// Of this actor.
    pub actor: Option<String>,
    /// Of this action.
    pub action: Option<String>,
    /// On this target.
    pub target: Option<String>,
    /// With this outcome.
    pub outcome: Option<String>,
}

const HEAD: &str = "audit_head";
const ANCHOR: &str = "audit_anchor";
/// The most bytes kept of a detail.
const LONGEST_DETAIL: usize = 16 * 1024;
/// The most bytes kept of any other text.
const LONGEST: usize = 1024;
/// The most rows listed at once.
const PAGE: i64 = 1000;

const COLUMNS: &str = "seq, at, actor, ip, action, target, outcome, request_id, detail, previous, hash";

impl Db {
    /// Adds a row. Returns its number.
    pub async fn append_audit(&self, entry: &AuditEntry) -> Result<i64, StoreError> {
        self.append_audits(std::slice::from_ref(entry)).await
    }

    /// Adds rows, in this order and in one transaction. Returns the number of the last.
    pub async fn append_audits(&self, entries: &[AuditEntry]) -> Result<i64, StoreError> {
        let mut tx = self.begin().await?;
        let mut head = self.lock_head(&mut tx).await?;
        for entry in entries {
            head = insert(&mut tx, &head, entry).await?;
        }
        keep_link(&mut tx, HEAD, &head).await?;
        tx.commit().await?;
        Ok(head.seq)
    }

    /// Adds a row in the transaction of what it is about: either both are there afterwards or neither. Call it as
    /// the last thing before the commit: it takes the lock that every appender waits for, and who took it before
    /// others could wait for whoever waits for it.
    pub(crate) async fn append_audit_in(
        &self,
        tx: &mut Transaction<'_, Any>,
        entry: &AuditEntry,
    ) -> Result<i64, StoreError> {
        let head = self.lock_head(tx).await?;
        let head = insert(tx, &head, entry).await?;
        keep_link(tx, HEAD, &head).await?;
        Ok(head.seq)
    }

    /// Rows, newest first, below the number `after` (0: from the newest); at most a thousand.
    pub async fn audit_log(
        &self,
        filter: &AuditFilter,
        after: i64,
        limit: i64,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let mut conditions = Conditions::default();
        conditions.integer("seq < {}", (after > 0).then_some(after));
        conditions.integer("at >= {}", filter.from);
        conditions.integer("at < {}", filter.to);
        conditions.text("actor = {}", filter.actor.as_deref());
        conditions.text("action = {}", filter.action.as_deref());
        conditions.text("target = {}", filter.target.as_deref());
        conditions.text("outcome = {}", filter.outcome.as_deref());
        let query = format!(
            "SELECT {COLUMNS} FROM audit{} ORDER BY seq DESC LIMIT ${}",
            conditions.as_sql(),
            conditions.next()
        );
        let query = conditions.bind(sqlx::query(AssertSqlSafe(query))).bind(limit.clamp(1, PAGE));
        Ok(query.fetch_all(self.read()).await?.iter().map(read_row).collect::<Result<_, _>>()?)
    }

    /// The last row, locked until the transaction ends.
    async fn lock_head(&self, tx: &mut Transaction<'_, Any>) -> Result<Link, StoreError> {
        let query = format!("SELECT value FROM meta WHERE name = $1{}", self.for_update());
        let head: Option<String> =
            sqlx::query_scalar(AssertSqlSafe(query.clone())).bind(HEAD).fetch_optional(&mut **tx).await?;
        if let Some(head) = head {
            return parse_link(HEAD, &head);
        }
        // Of two first appenders the second waits here for the first.
        let first = "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
        sqlx::query(first).bind(HEAD).bind(Link::first().to_string()).execute(&mut **tx).await?;
        let head: String = sqlx::query_scalar(AssertSqlSafe(query)).bind(HEAD).fetch_one(&mut **tx).await?;
        parse_link(HEAD, &head)
    }

    /// The end of the log, or of what retention removed; nothing yet is the beginning of the chain.
    async fn audit_link(&self, name: &'static str) -> Result<Link, StoreError> {
        match self.meta(name).await? {
            Some(value) => parse_link(name, &value),
            None => Ok(Link::first()),
        }
    }
}

/// Adds a row after the head. Returns the new head, which is still to be kept.
async fn insert(tx: &mut Transaction<'_, Any>, head: &Link, entry: &AuditEntry) -> Result<Link, StoreError> {
    let entry = storable(entry);
    let link = Link { seq: head.seq + 1, hash: chain::hash(head.seq + 1, &entry, &head.hash) };
    let insert =
        format!("INSERT INTO audit ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)");
    sqlx::query(AssertSqlSafe(insert))
        .bind(link.seq)
        .bind(entry.at)
        .bind(&entry.actor)
        .bind(entry.ip.as_deref())
        .bind(&entry.action)
        .bind(&entry.target)
        .bind(&entry.outcome)
        .bind(entry.request_id.as_deref())
        .bind(entry.detail.as_deref())
        .bind(&head.hash)
        .bind(&link.hash)
        .execute(&mut **tx)
        .await?;
    Ok(link)
}

async fn keep_link(tx: &mut Transaction<'_, Any>, name: &str, link: &Link) -> Result<(), StoreError> {
    let query = "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    sqlx::query(query).bind(name).bind(link.to_string()).execute(&mut **tx).await?;
    Ok(())
}

fn parse_link(name: &str, value: &str) -> Result<Link, StoreError> {
    Link::parse(value).ok_or_else(|| {
        StoreError::Schema(format!(
            "the row `{name}` of `meta` is damaged, so that the audit log cannot be continued: restore it from a backup"
        ))
    })
}

/// An entry as both engines keep it: texts of bounded length without NUL, which PostgreSQL refuses. What somebody
/// sends must not keep what they did out of the log.
fn storable(entry: &AuditEntry) -> AuditEntry {
    let short = |text: &str| bounded(text, LONGEST);
    AuditEntry {
        at: entry.at,
        actor: short(&entry.actor),
        ip: entry.ip.as_deref().map(short),
        action: short(&entry.action),
        target: short(&entry.target),
        outcome: short(&entry.outcome),
        request_id: entry.request_id.as_deref().map(short),
        detail: entry.detail.as_deref().map(|text| bounded(text, LONGEST_DETAIL)),
    }
}

fn bounded(text: &str, longest: usize) -> String {
    // A NUL grows to three bytes, so it is replaced before the text is cut.
    let text = text.replace('\0', "\u{fffd}");
    if text.len() <= longest {
        return text;
    }
    let mut end = longest - '…'.len_utf8();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

fn read_row(row: &AnyRow) -> Result<AuditRow, sqlx::Error> {
    Ok(AuditRow {
        seq: row.try_get("seq")?,
        entry: AuditEntry {
            at: row.try_get("at")?,
            actor: row.try_get("actor")?,
            ip: row.try_get("ip")?,
            action: row.try_get("action")?,
            target: row.try_get("target")?,
            outcome: row.try_get("outcome")?,
            request_id: row.try_get("request_id")?,
            detail: row.try_get("detail")?,
        },
        previous: row.try_get("previous")?,
        hash: row.try_get("hash")?,
    })
}
