//! What people should know, and whether somebody has read it.

use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use crate::db::Db;
use crate::error::StoreError;
use crate::time::now_ms;

/// Something that people should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What it is about: `budget`, `rotation`.
    pub kind: String,
    /// `info`, `warning` or `error`.
    pub severity: String,
    /// What makes it one of its own: a second of the same subject is not kept.
    pub subject: String,
    /// For people.
    pub message: String,
    /// The group it concerns.
    pub group_id: Option<i64>,
    /// The key it concerns.
    pub key_id: Option<i64>,
}

/// One that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotificationRow {
    /// Its id.
    pub id: i64,
    /// What it says.
    pub notice: Notice,
    /// When it was said, in milliseconds since the epoch.
    pub at: i64,
    /// When somebody read it.
    pub read_at: Option<i64>,
}

const COLUMNS: &str = "id, kind, severity, subject, message, group_id, key_id, at, read_at";

impl Db {
    /// Keeps a notice. `None`: there is one of that subject.
    pub async fn notify(&self, notice: &Notice) -> Result<Option<i64>, StoreError> {
        let insert = "INSERT INTO notifications (kind, severity, subject, message, group_id, key_id, at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (subject) DO NOTHING RETURNING id";
        let id = sqlx::query_scalar(insert)
            .bind(&notice.kind)
            .bind(&notice.severity)
            .bind(&notice.subject)
            .bind(&notice.message)
            .bind(notice.group_id)
            .bind(notice.key_id)
            .bind(now_ms())
            .fetch_optional(self.write())
            .await?;
        Ok(id)
    }

    /// The newest first, from before one (0: from the newest).
    pub async fn notifications(
        &self,
        unread: bool,
        before: i64,
        limit: i64,
    ) -> Result<Vec<NotificationRow>, StoreError> {
        let query = format!(
            "SELECT {COLUMNS} FROM notifications WHERE ($1 = 0 OR id < $1) AND ($2 = 0 OR read_at IS NULL) \
             ORDER BY id DESC LIMIT $3"
        );
        let rows = sqlx::query(AssertSqlSafe(query))
            .bind(before)
            .bind(i64::from(unread))
            .bind(limit)
            .fetch_all(self.read())
            .await?;
        rows.iter().map(read_row).collect()
    }

    /// One of them.
    pub async fn notification(&self, id: i64) -> Result<NotificationRow, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM notifications WHERE id = $1");
        let row = sqlx::query(AssertSqlSafe(query)).bind(id).fetch_optional(self.read()).await?;
        row.as_ref().map(read_row).transpose()?.ok_or_else(|| missing(id))
    }

    /// Notes that somebody has read it; when it was read first stays.
    pub async fn read_notification(&self, id: i64) -> Result<NotificationRow, StoreError> {
        let update = "UPDATE notifications SET read_at = COALESCE(read_at, $2) WHERE id = $1";
        let done = sqlx::query(update).bind(id).bind(now_ms()).execute(self.write()).await?;
        match done.rows_affected() {
            0 => Err(missing(id)),
            _ => self.notification(id).await,
        }
    }

    /// Notes that somebody has read all of them. How many were not.
    pub async fn read_all_notifications(&self) -> Result<u64, StoreError> {
        let update = "UPDATE notifications SET read_at = $1 WHERE read_at IS NULL";
        Ok(sqlx::query(update).bind(now_ms()).execute(self.write()).await?.rows_affected())
    }

    /// Removes one.
    pub async fn delete_notification(&self, id: i64) -> Result<(), StoreError> {
        let done =
            sqlx::query("DELETE FROM notifications WHERE id = $1").bind(id).execute(self.write()).await?;
        if done.rows_affected() == 0 { Err(missing(id)) } else { Ok(()) }
    }

    /// Removes those of before a time.
    pub async fn prune_notifications(&self, before: i64) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM notifications WHERE at < $1").bind(before).execute(self.write()).await?;
        Ok(())
    }
}

fn missing(id: i64) -> StoreError {
    StoreError::missing(format!("notification {id}"))
}

fn read_row(row: &AnyRow) -> Result<NotificationRow, StoreError> {
    Ok(NotificationRow {
        id: row.try_get("id")?,
        notice: Notice {
            kind: row.try_get("kind")?,
            severity: row.try_get("severity")?,
            subject: row.try_get("subject")?,
            message: row.try_get("message")?,
            group_id: row.try_get("group_id")?,
            key_id: row.try_get("key_id")?,
        },
        at: row.try_get("at")?,
        read_at: row.try_get("read_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::on_each_engine;

    #[tokio::test]
    async fn a_subject_is_told_once_and_read_once() {
        on_each_engine(|db| async move {
            let notice = |subject: &str| Notice {
                kind: "budget".into(),
                severity: "warning".into(),
                subject: subject.into(),
                message: "half is spent".into(),
                group_id: Some(7),
                key_id: None,
            };
            let first = db.notify(&notice("a")).await.unwrap().unwrap();
            assert_eq!(db.notify(&notice("a")).await.unwrap(), None, "it was said");
            let second = db.notify(&notice("b")).await.unwrap().unwrap();
            let ids = |rows: Vec<NotificationRow>| rows.iter().map(|row| row.id).collect::<Vec<_>>();
            assert_eq!(ids(db.notifications(false, 0, 10).await.unwrap()), [second, first]);
            assert_eq!(ids(db.notifications(false, second, 10).await.unwrap()), [first]);
            let read = db.read_notification(first).await.unwrap();
            assert_eq!((read.notice, read.read_at.is_some()), (notice("a"), true));
            assert_eq!(db.read_notification(first).await.unwrap().read_at, read.read_at);
            assert_eq!(ids(db.notifications(true, 0, 10).await.unwrap()), [second]);
            assert_eq!(db.read_all_notifications().await.unwrap(), 1);
            db.delete_notification(second).await.unwrap();
            assert!(matches!(db.delete_notification(second).await, Err(StoreError::NotFound { .. })));
            db.prune_notifications(i64::MAX).await.unwrap();
            assert!(db.notifications(false, 0, 10).await.unwrap().is_empty());
        })
        .await;
    }
}
