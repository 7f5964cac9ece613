//! Configuration documents: what the API makes of providers, models, prices, roles, rules and settings.
//!
//! The Store knows a document's kind and name, and that its body is JSON; what the JSON says is for whoever reads
//! it. Every write takes its revision first. That is a lock which all writers of documents wait for, so that what
//! is read after it is not changed by another before the transaction ends, and two imports never wait for each
//! other's rows.

use std::collections::BTreeSet;

use serde::de::IgnoredAny;
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row as _, Transaction};

use crate::audit::AuditEntry;
use crate::db::Db;
use crate::error::StoreError;
use crate::meta::record_change;
use crate::sql::placeholders;
use crate::time::now_ms;

/// A configuration document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its id.
    pub id: i64,
    /// What it describes, as `provider`.
    pub kind: String,
    /// Its name, unique in its kind.
    pub name: String,
    /// What it says, JSON.
    pub body: String,
    /// When it was made.
    pub created_at: i64,
    /// When it was last edited.
    pub updated_at: i64,
    /// Counts edits, from 1.
    pub version: i64,
}

/// A document to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceDraft {
    /// What it describes, as `provider`.
    pub kind: String,
    /// Its name, unique in its kind.
    pub name: String,
    /// What it says, JSON.
    pub body: String,
}

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Documents that are new.
    pub created: u64,
    /// Documents that say something else now.
    pub updated: u64,
    /// Documents that said the same before.
    pub unchanged: u64,
}

/// The item of a [`Change`](crate::Change) that stands for many documents of a kind: an import notes one change
/// for each kind, not one for each document.
pub const MANY: &str = "";

/// The most documents of one kind: every replica keeps them all in memory.
const MOST: i64 = 50_000;
/// The longest name, in bytes: PostgreSQL's index takes no more than about 2,700 for kind and name.
const LONGEST_NAME: usize = 512;
/// The longest body, in bytes.
const LONGEST_BODY: usize = 1024 * 1024;
/// The most documents that are read as a page.
const PAGE: i64 = 1000;
/// Documents in one statement of an import.
const ROWS: usize = 200;

const COLUMNS: &str = "id, kind, name, body, created_at, updated_at, version";

impl Db {
    /// Documents of a kind in the order of their ids, from after one; at most a thousand.
    pub async fn resources(&self, kind: &str, after: i64, limit: i64) -> Result<Vec<Resource>, StoreError> {
        let query =
            format!("SELECT {COLUMNS} FROM resources WHERE kind = $1 AND id > $2 ORDER BY id LIMIT $3");
        let query = sqlx::query(AssertSqlSafe(query)).bind(kind).bind(after).bind(limit.clamp(1, PAGE));
        query.fetch_all(self.read()).await?.iter().map(read_resource).collect()
    }

    /// Every document of a kind as of one moment, in the order of their names' bytes: engines sort text by rules
    /// of their own.
    pub async fn all_resources(&self, kind: &str) -> Result<Vec<Resource>, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM resources WHERE kind = $1");
        let rows = sqlx::query(AssertSqlSafe(query)).bind(kind).fetch_all(self.read()).await?;
        let mut resources = rows.iter().map(read_resource).collect::<Result<Vec<_>, _>>()?;
        resources.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(resources)
    }

    /// A document by its name.
    pub async fn resource(&self, kind: &str, name: &str) -> Result<Resource, StoreError> {
        check_askable(kind, name)?;
        let query = format!("SELECT {COLUMNS} FROM resources WHERE kind = $1 AND name = $2");
        let query = sqlx::query(AssertSqlSafe(query)).bind(kind).bind(name);
        let row = query.fetch_optional(self.read()).await?;
        row.as_ref().map(read_resource).transpose()?.ok_or_else(|| missing(kind, name))
    }

    /// A document by its id. The kind is asked for too, so that a route of one area never shows another's.
    pub async fn resource_by_id(&self, kind: &str, id: i64) -> Result<Resource, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM resources WHERE kind = $1 AND id = $2");
        let query = sqlx::query(AssertSqlSafe(query)).bind(kind).bind(id);
        let row = query.fetch_optional(self.read()).await?;
        row.as_ref()
            .map(read_resource)
            .transpose()?
            .ok_or_else(|| StoreError::missing(format!("{kind} {id}")))
    }

    /// Keeps a new document, and the audit record of it, if any, in the same transaction.
    pub async fn create_resource(
        &self,
        draft: &ResourceDraft,
        audit: Option<&AuditEntry>,
    ) -> Result<Resource, StoreError> {
        let (kind, name) = (&*draft.kind, &*draft.name);
        check(draft)?;
        let now = now_ms();
        let mut tx = self.begin().await?;
        record_change(&mut tx, kind, name, now).await?;
        check_room(&mut tx, kind, 1).await?;
        let insert = format!(
            "INSERT INTO resources (kind, name, body, created_at, updated_at) VALUES ($1, $2, $3, $4, $4) \
             RETURNING {COLUMNS}"
        );
        let row = sqlx::query(AssertSqlSafe(insert))
            .bind(kind)
            .bind(name)
            .bind(&*draft.body)
            .bind(now)
            .fetch_one(&mut *tx)
            .await
            .map_err(|error| StoreError::or_exists(error, || taken(kind, name)))?;
        self.done(tx, &row, audit).await
    }

    /// Replaces the body of a document, if it still is at the version the caller has read.
    pub async fn update_resource(
        &self,
        draft: &ResourceDraft,
        version: Option<i64>,
        audit: Option<&AuditEntry>,
    ) -> Result<Resource, StoreError> {
        let (kind, name) = (&*draft.kind, &*draft.name);
        check(draft)?;
        let now = now_ms();
        let mut tx = self.begin().await?;
        record_change(&mut tx, kind, name, now).await?;
        let id = find(&mut tx, kind, name, version).await?;
        let update = format!(
            "UPDATE resources SET body = $2, updated_at = $3, version = version + 1 WHERE id = $1 \
             RETURNING {COLUMNS}"
        );
        let query = sqlx::query(AssertSqlSafe(update)).bind(id).bind(&*draft.body).bind(now);
        let row = query.fetch_one(&mut *tx).await?;
        self.done(tx, &row, audit).await
    }

    /// Gives a document another name, if it still is at the version the caller has read. Replicas hear of a change
    /// of both names.
    pub async fn rename_resource(
        &self,
        kind: &str,
        name: &str,
        to: &str,
        version: Option<i64>,
        audit: Option<&AuditEntry>,
    ) -> Result<Resource, StoreError> {
        check_askable(kind, name)?;
        check_name(kind, to)?;
        let now = now_ms();
        let mut tx = self.begin().await?;
        record_change(&mut tx, kind, name, now).await?;
        record_change(&mut tx, kind, to, now).await?;
        let id = find(&mut tx, kind, name, version).await?;
        let update = format!(
            "UPDATE resources SET name = $2, updated_at = $3, version = version + 1 WHERE id = $1 \
             RETURNING {COLUMNS}"
        );
        let row = sqlx::query(AssertSqlSafe(update))
            .bind(id)
            .bind(to)
            .bind(now)
            .fetch_one(&mut *tx)
            .await
            .map_err(|error| StoreError::or_exists(error, || taken(kind, to)))?;
        self.done(tx, &row, audit).await
    }

    /// Removes a document, if it still is at the version the caller has read.
    pub async fn delete_resource(
        &self,
        kind: &str,
        name: &str,
        version: Option<i64>,
        audit: Option<&AuditEntry>,
    ) -> Result<Resource, StoreError> {
        check_askable(kind, name)?;
        let mut tx = self.begin().await?;
        record_change(&mut tx, kind, name, now_ms()).await?;
        let id = find(&mut tx, kind, name, version).await?;
        let delete = format!("DELETE FROM resources WHERE id = $1 RETURNING {COLUMNS}");
        let row = sqlx::query(AssertSqlSafe(delete)).bind(id).fetch_one(&mut *tx).await?;
        self.done(tx, &row, audit).await
    }

    /// Keeps all of these documents or none: new ones are made, others say what the draft says. One change is
    /// noted for each kind in which something changed, with the item [`MANY`].
    pub async fn put_resources(
        &self,
        drafts: &[ResourceDraft],
        audit: Option<&AuditEntry>,
    ) -> Result<Imported, StoreError> {
        let mut seen = BTreeSet::new();
        for draft in drafts {
            check(draft)?;
            if !seen.insert((&*draft.kind, &*draft.name)) {
                return Err(StoreError::Invalid(format!(
                    "{} is there twice: leave one out",
                    taken(&draft.kind, &draft.name)
                )));
            }
        }
        let now = now_ms();
        let mut tx = self.begin().await?;
        let mut imported = Imported::default();
        let kinds: BTreeSet<&str> = drafts.iter().map(|draft| &*draft.kind).collect();
        for kind in kinds {
            let drafts: Vec<&ResourceDraft> = drafts.iter().filter(|draft| draft.kind == kind).collect();
            put_kind(&mut tx, kind, &drafts, &mut imported, now).await?;
        }
        if let Some(entry) = audit {
            self.append_audit_in(&mut tx, entry).await?;
        }
        tx.commit().await?;
        Ok(imported)
    }

    /// The end of every write.
    async fn done(
        &self,
        mut tx: Transaction<'static, Any>,
        row: &AnyRow,
        audit: Option<&AuditEntry>,
    ) -> Result<Resource, StoreError> {
        let resource = read_resource(row)?;
        if let Some(entry) = audit {
            self.append_audit_in(&mut tx, entry).await?;
        }
        tx.commit().await?;
        Ok(resource)
    }
}

/// Keeps documents of one kind. A savepoint takes the change back when nothing has changed.
async fn put_kind(
    tx: &mut Transaction<'_, Any>,
    kind: &str,
    drafts: &[&ResourceDraft],
    imported: &mut Imported,
    now: i64,
) -> Result<(), StoreError> {
    use sqlx::Acquire as _;
    let mut tx = tx.begin().await?;
    record_change(&mut tx, kind, MANY, now).await?;
    let (mut created, mut updated) = (0, 0);
    for drafts in drafts.chunks(ROWS) {
        let upsert = format!(
            "INSERT INTO resources (kind, name, body, created_at, updated_at) VALUES {} \
             ON CONFLICT (kind, name) DO UPDATE SET body = excluded.body, updated_at = excluded.updated_at, \
             version = resources.version + 1 WHERE resources.body <> excluded.body RETURNING version",
            placeholders(drafts.len(), 5)
        );
        let mut query = sqlx::query_scalar(AssertSqlSafe(upsert)).persistent(false);
        for draft in drafts {
            query = query.bind(kind).bind(&*draft.name).bind(&*draft.body).bind(now).bind(now);
        }
        let versions: Vec<i64> = query.fetch_all(&mut *tx).await?;
        for version in versions {
            match version {
                1 => created += 1,
                _ => updated += 1,
            }
        }
    }
    check_room(&mut tx, kind, 0).await?;
    imported.created += created;
    imported.updated += updated;
    imported.unchanged += drafts.len() as u64 - created - updated;
    match created + updated {
        0 => tx.rollback().await?,
        _ => tx.commit().await?,
    }
    Ok(())
}

/// The id of a document, if it is at this version.
async fn find(
    tx: &mut Transaction<'_, Any>,
    kind: &str,
    name: &str,
    version: Option<i64>,
) -> Result<i64, StoreError> {
    let query = "SELECT id, version FROM resources WHERE kind = $1 AND name = $2";
    let row = sqlx::query(query).bind(kind).bind(name).fetch_optional(&mut **tx).await?;
    let row = row.ok_or_else(|| missing(kind, name))?;
    let found: i64 = row.try_get(1)?;
    match version {
        Some(version) if version != found => Err(StoreError::Changed { what: format!("{kind} `{name}`") }),
        _ => Ok(row.try_get(0)?),
    }
}

async fn check_room(tx: &mut Transaction<'_, Any>, kind: &str, more: i64) -> Result<(), StoreError> {
    let query = sqlx::query_scalar("SELECT COUNT(*) FROM resources WHERE kind = $1").bind(kind);
    let count: i64 = query.fetch_one(&mut **tx).await?;
    if count + more > MOST {
        return Err(StoreError::Invalid(format!(
            "there would be more than {MOST} documents of the kind `{kind}`: delete some first"
        )));
    }
    Ok(())
}

fn check(draft: &ResourceDraft) -> Result<(), StoreError> {
    check_name(&draft.kind, &draft.name)?;
    if draft.body.len() > LONGEST_BODY {
        return Err(StoreError::Invalid(format!(
            "{} `{}` is larger than {LONGEST_BODY} bytes: make it smaller",
            draft.kind, draft.name
        )));
    }
    // Every replica would stumble over it.
    serde_json::from_str::<IgnoredAny>(&draft.body)
        .map(drop)
        .map_err(|error| StoreError::Invalid(format!("{} `{}` is not JSON: {error}", draft.kind, draft.name)))
}

fn check_name(kind: &str, name: &str) -> Result<(), StoreError> {
    let problem = if name.is_empty() {
        "is empty: give one".to_owned()
    } else if name.len() > LONGEST_NAME {
        format!("is longer than {LONGEST_NAME} bytes: choose a shorter one")
    } else if name.chars().any(char::is_control) {
        "holds control characters: leave them out".to_owned()
    } else {
        return Ok(());
    };
    Err(StoreError::Invalid(format!("the name of a {kind} {problem}")))
}

/// PostgreSQL takes no NUL, not even in a question; SQLite takes it for the end of the text.
fn check_askable(kind: &str, name: &str) -> Result<(), StoreError> {
    match name.contains('\0') {
        true => Err(missing(kind, name)),
        false => Ok(()),
    }
}

fn missing(kind: &str, name: &str) -> StoreError {
    StoreError::missing(format!("{kind} `{name}`"))
}

fn taken(kind: &str, name: &str) -> String {
    format!("a {kind} named `{name}`")
}

fn read_resource(row: &AnyRow) -> Result<Resource, StoreError> {
    Ok(Resource {
        id: row.try_get("id")?,
        kind: row.try_get("kind")?,
        name: row.try_get("name")?,
        body: row.try_get("body")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        version: row.try_get("version")?,
    })
}

#[cfg(test)]
mod tests;
