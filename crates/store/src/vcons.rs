//! vCons in the database.
//!
//! Everything is done for many at once, in few statements: what a commit costs is shared. The words of a vCon are
//! put into the full-text index later, by [`Vcons::tidy`], so that nobody waits for it.

mod find;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use base::seams::{Backend, SeamError};
use base::vcons::{Change, Draft, Kept, MAX_VCONS, Posted, Query, Stored, Vcons};
use sqlx::{AssertSqlSafe, Row as _};

use crate::db::{Connection, Db, Engine};
use crate::error::StoreError;
use crate::queue::seam_error;
use crate::sql::placeholders;
use crate::time::now_ms;

/// Rows of small columns in one statement.
const ROWS: usize = 1_000;
/// How much is tidied at once.
const TIDY: i64 = 200;

/// vCons in the database.
#[derive(Debug)]
pub struct StoreVcons {
    db: Db,
}

impl StoreVcons {
    /// Those of this database.
    pub fn new(db: Db) -> Self {
        StoreVcons { db }
    }

    fn error(&self, error: &StoreError) -> SeamError {
        seam_error(self.db.engine(), error)
    }

    async fn put_all(&self, drafts: &[Draft]) -> Result<Vec<Kept>, StoreError> {
        let mut tx = self.db.begin().await?;
        let known = known(&mut tx, drafts).await?;
        let mut kept = Vec::with_capacity(drafts.len());
        let mut fresh = Vec::with_capacity(drafts.len());
        let mut queued = lists(&mut tx, drafts, &known).await?;
        for draft in drafts {
            let same = known.get(&draft.uuid).is_some_and(|content| *content == draft.content);
            if !same {
                fresh.push(draft);
            }
            let before = queued.remove(&draft.uuid).unwrap_or_default();
            let queued = before.into_iter().filter(|list| same && draft.lists.contains(list)).collect();
            kept.push(Kept { same, queued });
        }
        insert_bodies(&mut tx, &fresh).await?;
        let again: Vec<&str> =
            fresh.iter().filter(|draft| known.contains_key(&draft.uuid)).map(|draft| &*draft.uuid).collect();
        remove_terms(&mut tx, &again).await?;
        let terms = fresh.iter().flat_map(|draft| draft.terms.iter().map(|term| (&**term, &*draft.uuid)));
        insert_terms(&mut tx, &terms.collect::<Vec<_>>()).await?;
        let waiting = drafts.iter().zip(&kept).flat_map(|(draft, kept)| {
            let new = draft.lists.iter().filter(|list| !kept.queued.contains(list));
            new.map(|list| (&*draft.uuid, &**list))
        });
        insert_lists(&mut tx, &waiting.collect::<Vec<_>>()).await?;
        tx.commit().await?;
        Ok(kept)
    }

    async fn note_posted(&self, posted: &[Posted]) -> Result<(), StoreError> {
        for posted in posted.chunks(ROWS) {
            let sql = format!(
                "WITH posted (uuid, list, content) AS (VALUES {}) UPDATE vcon_lists SET content = posted.content \
                 FROM posted WHERE vcon_lists.uuid = posted.uuid AND vcon_lists.list = posted.list",
                placeholders(posted.len(), 3)
            );
            let mut update = sqlx::query(AssertSqlSafe(sql));
            for posted in posted {
                update = update.bind(&*posted.uuid).bind(&*posted.list).bind(&*posted.content);
            }
            update.execute(self.db.write()).await?;
        }
        Ok(())
    }

    async fn read(&self, uuids: &[String]) -> Result<Vec<Stored>, StoreError> {
        let mut found = Vec::with_capacity(uuids.len());
        for uuids in uuids.chunks(MAX_VCONS) {
            let sql =
                format!("SELECT uuid, body, trace FROM vcons WHERE uuid IN {}", placeholders(1, uuids.len()));
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for uuid in uuids {
                query = query.bind(&**uuid);
            }
            for row in query.fetch_all(self.db.read()).await? {
                let body: Vec<u8> = row.try_get("body")?;
                found.push(Stored {
                    uuid: row.try_get("uuid")?,
                    body: body.into(),
                    trace: row.try_get("trace")?,
                });
            }
        }
        Ok(found)
    }

    async fn change_all(&self, changes: &[Change]) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let changed: Vec<&Change> = changes.iter().filter(|change| change.body.is_some()).collect();
        if !changed.is_empty() {
            let sql = format!(
                "WITH changed (uuid, body) AS (VALUES {}) UPDATE vcons SET body = changed.body, updated_at = $1, words = 0 \
                 FROM changed WHERE vcons.uuid = changed.uuid",
                numbered(changed.len(), 2, 2)
            );
            let mut update = sqlx::query(AssertSqlSafe(sql)).bind(now_ms());
            for change in &changed {
                update = update.bind(&*change.uuid).bind(change.body.as_deref().unwrap_or_default());
            }
            update.execute(&mut *tx).await?;
            let uuids: Vec<&str> = changed.iter().map(|change| &*change.uuid).collect();
            remove_terms(&mut tx, &uuids).await?;
            let terms = changed.iter().flat_map(|c| c.terms.iter().map(|term| (&**term, &*c.uuid)));
            insert_terms(&mut tx, &terms.collect::<Vec<_>>()).await?;
        }
        let done: Vec<(&str, &str)> =
            changes.iter().filter_map(|c| Some((&*c.uuid, c.done.as_deref()?))).collect();
        if !done.is_empty() {
            let sql = format!(
                "UPDATE vcon_lists SET waiting = 0 WHERE (uuid, list) IN (VALUES {})",
                placeholders(done.len(), 2)
            );
            let mut update = sqlx::query(AssertSqlSafe(sql));
            for (uuid, list) in done {
                update = update.bind(uuid).bind(list);
            }
            update.execute(&mut *tx).await?;
        }
        let expiring: Vec<(&str, i64)> =
            changes.iter().filter_map(|c| Some((&*c.uuid, c.expires_at?))).collect();
        if !expiring.is_empty() {
            let sql = format!(
                "WITH expiring (uuid, at) AS (VALUES {}) UPDATE vcons SET expires_at = expiring.at \
                 FROM expiring WHERE vcons.uuid = expiring.uuid",
                placeholders(expiring.len(), 2)
            );
            let mut update = sqlx::query(AssertSqlSafe(sql));
            for (uuid, at) in expiring {
                update = update.bind(uuid).bind(at);
            }
            update.execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    async fn remove(&self, tx: &mut Connection, uuids: &[&str]) -> Result<u64, StoreError> {
        if uuids.is_empty() {
            return Ok(0);
        }
        let which = placeholders(1, uuids.len());
        let mut removed = 0;
        for sql in [
            format!(
                "DELETE FROM vcon_words WHERE {} IN (SELECT id FROM vcons WHERE uuid IN {which})",
                self.words_id()
            ),
            format!("DELETE FROM vcon_terms WHERE uuid IN {which}"),
            format!("DELETE FROM vcon_lists WHERE uuid IN {which}"),
            format!("DELETE FROM vcons WHERE uuid IN {which}"),
        ] {
            let mut delete = sqlx::query(AssertSqlSafe(sql));
            for uuid in uuids {
                delete = delete.bind(*uuid);
            }
            removed = delete.execute(&mut *tx).await?.rows_affected();
        }
        Ok(removed)
    }

    fn words_id(&self) -> &'static str {
        match self.db.engine() {
            Engine::Sqlite => "rowid",
            Engine::Postgres => "id",
        }
    }

    /// Forgets some of what has expired; how many. What a list still waits for, or what lies in dead letters,
    /// stays.
    async fn expire(&self) -> Result<usize, StoreError> {
        let query = "SELECT uuid FROM vcons v WHERE expires_at > 0 AND expires_at <= $1 \
             AND NOT EXISTS (SELECT 1 FROM vcon_lists l WHERE l.uuid = v.uuid AND l.waiting = 1) LIMIT $2";
        let expired: Vec<String> =
            sqlx::query_scalar(query).bind(now_ms()).bind(TIDY).fetch_all(self.db.read()).await?;
        if expired.is_empty() {
            return Ok(0);
        }
        let mut tx = self.db.begin().await?;
        let uuids: Vec<&str> = expired.iter().map(String::as_str).collect();
        self.remove(&mut tx, &uuids).await?;
        tx.commit().await?;
        Ok(expired.len())
    }

    /// Puts the words of some vCons into the index; how many.
    async fn index(
        &self,
        words: &(dyn for<'a> Fn(&'a [u8]) -> String + Send + Sync),
    ) -> Result<usize, StoreError> {
        let query = "SELECT id, updated_at, body FROM vcons WHERE words = 0 ORDER BY id LIMIT $1";
        let rows = sqlx::query(query).bind(TIDY).fetch_all(self.db.read()).await?;
        let mut found: Vec<(i64, i64, String)> = Vec::with_capacity(rows.len());
        for row in &rows {
            let body: Vec<u8> = row.try_get("body")?;
            found.push((row.try_get("id")?, row.try_get("updated_at")?, words(&body)));
        }
        if found.is_empty() {
            return Ok(0);
        }
        let mut tx = self.db.begin().await?;
        let ids = placeholders(1, found.len());
        let mut delete =
            sqlx::query(AssertSqlSafe(format!("DELETE FROM vcon_words WHERE {} IN {ids}", self.words_id())));
        for (id, ..) in &found {
            delete = delete.bind(*id);
        }
        delete.execute(&mut *tx).await?;
        let values: Vec<String> = (0..found.len())
            .map(|row| match self.db.engine() {
                Engine::Sqlite => format!("(${}, ${})", 2 * row + 1, 2 * row + 2),
                Engine::Postgres => format!("(${}, to_tsvector('simple', ${}))", 2 * row + 1, 2 * row + 2),
            })
            .collect();
        let sql = format!("INSERT INTO vcon_words ({}, words) VALUES {}", self.words_id(), values.join(", "));
        let mut insert = sqlx::query(AssertSqlSafe(sql));
        for (id, _, text) in &found {
            insert = insert.bind(*id).bind(&**text);
        }
        insert.execute(&mut *tx).await?;
        // One that was changed meanwhile is done again.
        let sql = format!(
            "UPDATE vcons SET words = 1 WHERE (id, updated_at) IN (VALUES {})",
            placeholders(found.len(), 2)
        );
        let mut update = sqlx::query(AssertSqlSafe(sql));
        for (id, updated_at, _) in &found {
            update = update.bind(*id).bind(*updated_at);
        }
        update.execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(found.len())
    }
}

/// `($3, $4), ($5, $6)`: placeholders that begin at a number.
fn numbered(rows: usize, columns: usize, first: usize) -> String {
    let row = |row: usize| {
        let places: Vec<String> =
            (0..columns).map(|column| format!("${}", first + row * columns + column)).collect();
        format!("({})", places.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// Of these, the content of those that are kept.
async fn known(tx: &mut Connection, drafts: &[Draft]) -> Result<HashMap<String, String>, StoreError> {
    if drafts.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = format!("SELECT uuid, content FROM vcons WHERE uuid IN {}", placeholders(1, drafts.len()));
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for draft in drafts {
        query = query.bind(&*draft.uuid);
    }
    let rows = query.fetch_all(&mut *tx).await?;
    rows.iter().map(|row| Ok((row.try_get("uuid")?, row.try_get("content")?))).collect()
}

/// Of those that were kept with the same content, the lists that it was put into for sure.
async fn lists(
    tx: &mut Connection,
    drafts: &[Draft],
    known: &HashMap<String, String>,
) -> Result<HashMap<String, Vec<String>>, StoreError> {
    let again: Vec<&Draft> = drafts.iter().filter(|draft| known.contains_key(&draft.uuid)).collect();
    let mut found: HashMap<String, Vec<String>> = HashMap::new();
    if again.is_empty() {
        return Ok(found);
    }
    let sql = format!(
        "SELECT uuid, list FROM vcon_lists WHERE (uuid, content) IN (VALUES {})",
        placeholders(again.len(), 2)
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for draft in again {
        query = query.bind(&*draft.uuid).bind(&*draft.content);
    }
    for row in query.fetch_all(&mut *tx).await? {
        found.entry(row.try_get("uuid")?).or_default().push(row.try_get("list")?);
    }
    Ok(found)
}

async fn insert_bodies(tx: &mut Connection, drafts: &[&Draft]) -> Result<(), StoreError> {
    if drafts.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "INSERT INTO vcons (uuid, created_at, updated_at, body, content, trace, expires_at) VALUES {} \
         ON CONFLICT (uuid) DO UPDATE SET created_at = excluded.created_at, updated_at = excluded.updated_at, \
         body = excluded.body, content = excluded.content, trace = excluded.trace, expires_at = excluded.expires_at, \
         words = 0",
        placeholders(drafts.len(), 7)
    );
    let now = now_ms();
    let mut insert = sqlx::query(AssertSqlSafe(sql));
    for draft in drafts {
        insert = insert
            .bind(&*draft.uuid)
            .bind(draft.created_at)
            .bind(now)
            .bind(&draft.body[..])
            .bind(&*draft.content)
            .bind(draft.trace.as_deref())
            .bind(draft.expires_at.unwrap_or(0));
    }
    insert.execute(&mut *tx).await?;
    Ok(())
}

async fn remove_terms(tx: &mut Connection, uuids: &[&str]) -> Result<(), StoreError> {
    if uuids.is_empty() {
        return Ok(());
    }
    let sql = format!("DELETE FROM vcon_terms WHERE uuid IN {}", placeholders(1, uuids.len()));
    let mut delete = sqlx::query(AssertSqlSafe(sql));
    for uuid in uuids {
        delete = delete.bind(*uuid);
    }
    delete.execute(&mut *tx).await?;
    Ok(())
}

async fn insert_terms(tx: &mut Connection, terms: &[(&str, &str)]) -> Result<(), StoreError> {
    let mut seen = HashSet::with_capacity(terms.len());
    let terms: Vec<_> = terms.iter().filter(|term| seen.insert(**term)).collect();
    for terms in terms.chunks(ROWS) {
        let sql = format!(
            "INSERT INTO vcon_terms (term, uuid) VALUES {} ON CONFLICT (term, uuid) DO NOTHING",
            placeholders(terms.len(), 2)
        );
        let mut insert = sqlx::query(AssertSqlSafe(sql));
        for (term, uuid) in terms {
            insert = insert.bind(*term).bind(*uuid);
        }
        insert.execute(&mut *tx).await?;
    }
    Ok(())
}

async fn insert_lists(tx: &mut Connection, waiting: &[(&str, &str)]) -> Result<(), StoreError> {
    for waiting in waiting.chunks(ROWS) {
        let sql = format!(
            "INSERT INTO vcon_lists (uuid, list, waiting) VALUES {} \
             ON CONFLICT (uuid, list) DO UPDATE SET waiting = 1, content = NULL",
            waiting_rows(waiting.len())
        );
        let mut insert = sqlx::query(AssertSqlSafe(sql));
        for (uuid, list) in waiting {
            insert = insert.bind(*uuid).bind(*list);
        }
        insert.execute(&mut *tx).await?;
    }
    Ok(())
}

fn waiting_rows(rows: usize) -> String {
    (0..rows).map(|row| format!("(${}, ${}, 1)", 2 * row + 1, 2 * row + 2)).collect::<Vec<_>>().join(", ")
}

fn check(count: usize) -> Result<(), SeamError> {
    match count <= MAX_VCONS {
        true => Ok(()),
        false => Err(SeamError::Invalid(format!("at most {MAX_VCONS} vCons at once"))),
    }
}

#[async_trait]
impl Backend for StoreVcons {
    fn backend(&self) -> &'static str {
        self.db.engine().as_str()
    }

    async fn ping(&self) -> Result<(), SeamError> {
        self.db.ping().await.map(drop).map_err(|error| self.error(&error))
    }
}

#[async_trait]
impl Vcons for StoreVcons {
    async fn put(&self, drafts: &[Draft]) -> Result<Vec<Kept>, SeamError> {
        check(drafts.len())?;
        self.put_all(drafts).await.map_err(|error| self.error(&error))
    }

    async fn posted(&self, posted: &[Posted]) -> Result<(), SeamError> {
        self.note_posted(posted).await.map_err(|error| self.error(&error))
    }

    async fn get(&self, uuids: &[String]) -> Result<Vec<Stored>, SeamError> {
        self.read(uuids).await.map_err(|error| self.error(&error))
    }

    async fn change(&self, changes: &[Change]) -> Result<(), SeamError> {
        check(changes.len())?;
        self.change_all(changes).await.map_err(|error| self.error(&error))
    }

    async fn delete(&self, uuid: &str) -> Result<bool, SeamError> {
        let deleted = async {
            let mut tx = self.db.begin().await?;
            let removed = self.remove(&mut tx, &[uuid]).await?;
            tx.commit().await?;
            Ok::<_, StoreError>(removed > 0)
        };
        deleted.await.map_err(|error| self.error(&error))
    }

    async fn find(&self, query: &Query) -> Result<Vec<String>, SeamError> {
        self.look(query).await.map_err(|error| self.error(&error))
    }

    async fn tidy(
        &self,
        words: &(dyn for<'a> Fn(&'a [u8]) -> String + Send + Sync),
    ) -> Result<bool, SeamError> {
        let tidied = async {
            let expired = self.expire().await?;
            let indexed = self.index(words).await?;
            Ok::<_, StoreError>(expired.max(indexed) as i64 >= TIDY)
        };
        tidied.await.map_err(|error| self.error(&error))
    }

    fn has_full_text(&self) -> bool {
        true
    }
}
