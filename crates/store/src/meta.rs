//! Small facts of the whole installation, and the revision by which replicas notice changes.

use sqlx::{Any, Row as _, Transaction};

use crate::db::Db;
use crate::error::StoreError;
use crate::time::now_ms;

/// One change of something that replicas keep in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Grows by one with each change.
    pub revision: i64,
    /// `group`, `key`, or the kind of a resource.
    pub kind: String,
    /// The id or the name of what changed.
    pub item: String,
}

/// The most changes read at once.
const PAGE: i64 = 1000;
/// How long changes are kept: a replica that was away for longer reads everything anew.
const KEEP_MS: i64 = 24 * 3_600_000;

/// Notes a change in the transaction that makes it. Gives out revisions one after the other: the row of `meta`
/// stays locked until the transaction ends.
pub(crate) async fn record_change(
    tx: &mut Transaction<'_, Any>,
    kind: &str,
    item: &str,
    at: i64,
) -> Result<i64, StoreError> {
    let next = "UPDATE meta SET value = CAST(CAST(value AS BIGINT) + 1 AS TEXT) WHERE name = 'revision' RETURNING value";
    let revision: String = sqlx::query_scalar(next).fetch_one(&mut **tx).await?;
    let revision: i64 =
        revision.parse().map_err(|_| StoreError::Schema("meta.revision is not a number".into()))?;
    sqlx::query("INSERT INTO changes (revision, kind, item, at) VALUES ($1, $2, $3, $4)")
        .bind(revision)
        .bind(kind)
        .bind(item)
        .bind(at)
        .execute(&mut **tx)
        .await?;
    Ok(revision)
}

impl Change {
    /// The kind that stands for everything: what changed is not known one by one.
    pub const ALL: &str = "everything";
}

impl Db {
    /// The revision of the last change.
    pub async fn revision(&self) -> Result<i64, StoreError> {
        let value: String = sqlx::query_scalar("SELECT value FROM meta WHERE name = 'revision'")
            .fetch_one(self.read())
            .await?;
        value.parse().map_err(|_| StoreError::Schema("meta.revision is not a number".into()))
    }

    /// The changes after a revision, oldest first, at most a thousand. `None`: some are forgotten already, so
    /// that everything must be read anew.
    pub async fn changes_after(&self, revision: i64) -> Result<Option<Vec<Change>>, StoreError> {
        let query = "SELECT revision, kind, item FROM changes WHERE revision > $1 ORDER BY revision LIMIT $2";
        let rows = sqlx::query(query).bind(revision).bind(PAGE).fetch_all(self.read()).await?;
        let read = |row: &sqlx::any::AnyRow| {
            Ok(Change { revision: row.try_get(0)?, kind: row.try_get(1)?, item: row.try_get(2)? })
        };
        let changes = rows.iter().map(read).collect::<Result<Vec<_>, sqlx::Error>>()?;
        let gap = match changes.first() {
            Some(first) => first.revision != revision + 1,
            None => self.revision().await? != revision,
        };
        Ok((!gap).then_some(changes))
    }

    /// Forgets changes that every replica has long seen.
    pub async fn prune_changes(&self) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM changes WHERE at < $1")
            .bind(now_ms() - KEEP_MS)
            .execute(self.write())
            .await?;
        Ok(())
    }

    /// A fact by name.
    pub async fn meta(&self, name: &str) -> Result<Option<String>, StoreError> {
        let query = sqlx::query_scalar("SELECT value FROM meta WHERE name = $1").bind(name);
        Ok(query.fetch_optional(self.read()).await?)
    }

    /// Keeps a fact under a name.
    pub async fn set_meta(&self, name: &str, value: &str) -> Result<(), StoreError> {
        let query = "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        sqlx::query(query).bind(name).bind(value).execute(self.write()).await?;
        Ok(())
    }

    /// Keeps a fact in the place of what it was when it was read, and tells the replicas of a change of this kind.
    /// `false`: somebody else was faster, and nothing is changed.
    pub async fn replace_meta(
        &self,
        name: &str,
        before: &str,
        value: &str,
        kind: &str,
    ) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let update = "UPDATE meta SET value = $3 WHERE name = $1 AND value = $2";
        let done = sqlx::query(update).bind(name).bind(before).bind(value).execute(&mut *tx).await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        record_change(&mut tx, kind, name, now_ms()).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Keeps a fact unless there is one of that name, and returns the one that is kept: of replicas that start
    /// together one decides.
    pub async fn meta_or_set(&self, name: &str, value: &str) -> Result<String, StoreError> {
        let query = "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
        sqlx::query(query).bind(name).bind(value).execute(self.write()).await?;
        Ok(self.meta(name).await?.unwrap_or_else(|| value.to_owned()))
    }
}
