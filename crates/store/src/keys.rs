//! Virtual keys and admin tokens, by their hashes.

use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row as _, Transaction};

use crate::db::Db;
use crate::error::StoreError;
use crate::meta::record_change;
use crate::time::now_ms;

/// A key as it is kept: never the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// Its id.
    pub id: i64,
    /// What the operator says about it.
    pub fields: KeyFields,
    /// SHA-256 of the key, lower-case hexadecimal.
    pub hash: String,
    /// The first and last characters, for people to recognise it by.
    pub hint: String,
    /// The hash before the last rotation.
    pub previous_hash: Option<String>,
    /// Until when that one works.
    pub previous_until: Option<i64>,
    /// When the present key was made.
    pub rotated_at: i64,
    /// When the row was made.
    pub created_at: i64,
    /// When it was last edited.
    pub updated_at: i64,
    /// When it was last used, to about a minute.
    pub last_used_at: Option<i64>,
    /// Counts edits.
    pub version: i64,
}

/// What an operator says about a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyFields {
    /// Its name, unique.
    pub name: String,
    /// For people.
    pub description: String,
    /// The group that pays; none for an admin token.
    pub group_id: Option<i64>,
    /// The name of its role.
    pub role: String,
    /// Whether it works at all.
    pub enabled: bool,
    /// Works once.
    pub single_use: bool,
    /// When it ends.
    pub expires_at: Option<i64>,
    /// How old the key may grow, in milliseconds, before it must be rotated.
    pub rotate_every: Option<i64>,
    /// Whose it is.
    pub user: Option<String>,
    /// Patterns of the models it may call, a JSON list; none for all.
    pub allowed_models: Option<String>,
    /// Limits of its own, JSON.
    pub limits: Option<String>,
    /// Labels for its spending, a JSON list.
    pub tags: Option<String>,
    /// The operator's own notes, a JSON object.
    pub metadata: Option<String>,
}

/// A new key: its hash and what people recognise it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// SHA-256, lower-case hexadecimal.
    pub hash: String,
    /// First and last characters.
    pub hint: String,
}

/// Which keys to list.
#[derive(Clone, Debug, Default)]
pub struct KeyFilter {
    /// Of this group.
    pub group_id: Option<i64>,
    /// Of this name.
    pub name: Option<String>,
    /// Of this user.
    pub user: Option<String>,
}

const COLUMNS: &str = "id, name, description, group_id, role, enabled, single_use, expires_at, rotate_every, user_id, \
    allowed_models, limits, tags, metadata, hash, hint, previous_hash, previous_until, rotated_at, created_at, \
    updated_at, last_used_at, version";

impl Db {
    /// Keeps a new key.
    pub async fn create_key(&self, fields: &KeyFields, key: &NewKey) -> Result<KeyRow, StoreError> {
        let now = now_ms();
        let mut tx = self.begin().await?;
        if let Some(group) = fields.group_id {
            self.lock_group(&mut tx, group).await?;
        }
        let insert = "INSERT INTO keys (name, description, group_id, role, enabled, single_use, expires_at, rotate_every, \
             user_id, allowed_models, limits, tags, metadata, hash, hint, rotated_at, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $16, $16) RETURNING id";
        let id: i64 = bind_fields(sqlx::query_scalar(insert), fields)
            .bind(&key.hash)
            .bind(&key.hint)
            .bind(now)
            .fetch_one(&mut *tx)
            .await
            .map_err(|error| StoreError::or_exists(error, || taken(&fields.name)))?;
        record_change(&mut tx, "key", &id.to_string(), now).await?;
        let row = get(&mut tx, id).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// A key.
    pub async fn key(&self, id: i64) -> Result<KeyRow, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM keys WHERE id = $1");
        let row = sqlx::query(AssertSqlSafe(query)).bind(id).fetch_optional(self.read()).await?;
        row.as_ref().map(read_key).transpose()?.ok_or_else(|| missing(id))
    }

    /// The key of a hash, be it the present one or the one before the last rotation.
    pub async fn key_by_hash(&self, hash: &str) -> Result<Option<KeyRow>, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM keys WHERE hash = $1 OR previous_hash = $1");
        let row = sqlx::query(AssertSqlSafe(query)).bind(hash).fetch_optional(self.read()).await?;
        row.as_ref().map(read_key).transpose()
    }

    /// Keys in the order of their ids, from after one.
    pub async fn keys(&self, filter: &KeyFilter, after: i64, limit: i64) -> Result<Vec<KeyRow>, StoreError> {
        let query = format!(
            "SELECT {COLUMNS} FROM keys WHERE id > $1 AND ($2 = 0 OR group_id = $2) AND ($3 = '' OR name = $3) \
             AND ($4 = '' OR user_id = $4) ORDER BY id LIMIT $5"
        );
        let rows = sqlx::query(AssertSqlSafe(query))
            .bind(after)
            .bind(filter.group_id.unwrap_or_default())
            .bind(filter.name.as_deref().unwrap_or_default())
            .bind(filter.user.as_deref().unwrap_or_default())
            .bind(limit)
            .fetch_all(self.read())
            .await?;
        rows.iter().map(read_key).collect()
    }

    /// Edits a key, if it still is at the version the caller has read.
    pub async fn update_key(
        &self,
        id: i64,
        fields: &KeyFields,
        version: Option<i64>,
    ) -> Result<KeyRow, StoreError> {
        let now = now_ms();
        let mut tx = self.begin().await?;
        if let Some(group) = fields.group_id {
            self.lock_group(&mut tx, group).await?;
        }
        let update = "UPDATE keys SET name = $1, description = $2, group_id = $3, role = $4, enabled = $5, \
             single_use = $6, expires_at = $7, rotate_every = $8, user_id = $9, allowed_models = $10, limits = $11, \
             tags = $12, metadata = $13, updated_at = $14, version = version + 1 \
             WHERE id = $15 AND ($16 = 0 OR version = $16) RETURNING id";
        let done: Option<i64> = bind_fields(sqlx::query_scalar(update), fields)
            .bind(now)
            .bind(id)
            .bind(version.unwrap_or_default())
            .fetch_optional(&mut *tx)
            .await
            .map_err(|error| StoreError::or_exists(error, || taken(&fields.name)))?;
        if done.is_none() {
            get(&mut tx, id).await?;
            return Err(StoreError::Changed { what: format!("key {id}") });
        }
        self.changed_key(tx, id, now).await
    }

    /// Gives a key a new value. The old one works until `previous_until`.
    pub async fn rotate_key(
        &self,
        id: i64,
        key: &NewKey,
        previous_until: i64,
        version: Option<i64>,
    ) -> Result<KeyRow, StoreError> {
        let now = now_ms();
        let mut tx = self.begin().await?;
        let update = "UPDATE keys SET previous_hash = hash, previous_until = $2, hash = $3, hint = $4, rotated_at = $5, \
             updated_at = $5, version = version + 1 WHERE id = $1 AND ($6 = 0 OR version = $6)";
        let done = sqlx::query(update)
            .bind(id)
            .bind(previous_until)
            .bind(&key.hash)
            .bind(&key.hint)
            .bind(now)
            .bind(version.unwrap_or_default())
            .execute(&mut *tx)
            .await?;
        if done.rows_affected() == 0 {
            get(&mut tx, id).await?;
            return Err(StoreError::Changed { what: format!("key {id}") });
        }
        self.changed_key(tx, id, now).await
    }

    /// Removes a key. What it used stays in the usage.
    pub async fn delete_key(&self, id: i64, version: Option<i64>) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let row = get(&mut tx, id).await?;
        if version.is_some_and(|version| version != row.version) {
            return Err(StoreError::Changed { what: format!("key {id}") });
        }
        sqlx::query("DELETE FROM keys WHERE id = $1").bind(id).execute(&mut *tx).await?;
        record_change(&mut tx, "key", &id.to_string(), now_ms()).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Takes the one use of a single-use key. Of all who try at once, on any replica, one gets `true`.
    pub async fn use_up_key(&self, id: i64) -> Result<bool, StoreError> {
        let now = now_ms();
        let mut tx = self.begin().await?;
        let used = sqlx::query("DELETE FROM keys WHERE id = $1 AND single_use = 1")
            .bind(id)
            .execute(&mut *tx)
            .await?;
        if used.rows_affected() == 0 {
            return Ok(false);
        }
        record_change(&mut tx, "key", &id.to_string(), now).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Removes keys that ended before a time and were made to be used once.
    pub async fn prune_single_use_keys(&self, before: i64) -> Result<(), StoreError> {
        let query = "DELETE FROM keys WHERE single_use = 1 AND expires_at < $1";
        sqlx::query(query).bind(before).execute(self.write()).await?;
        Ok(())
    }

    async fn changed_key(
        &self,
        mut tx: Transaction<'static, Any>,
        id: i64,
        now: i64,
    ) -> Result<KeyRow, StoreError> {
        record_change(&mut tx, "key", &id.to_string(), now).await?;
        let row = get(&mut tx, id).await?;
        tx.commit().await?;
        Ok(row)
    }
}

type Scalar<'q> = sqlx::query::QueryScalar<'q, Any, i64, sqlx::any::AnyArguments>;

fn bind_fields<'q>(query: Scalar<'q>, fields: &'q KeyFields) -> Scalar<'q> {
    query
        .bind(&fields.name)
        .bind(&fields.description)
        .bind(fields.group_id)
        .bind(&fields.role)
        .bind(i64::from(fields.enabled))
        .bind(i64::from(fields.single_use))
        .bind(fields.expires_at)
        .bind(fields.rotate_every)
        .bind(fields.user.as_deref())
        .bind(fields.allowed_models.as_deref())
        .bind(fields.limits.as_deref())
        .bind(fields.tags.as_deref())
        .bind(fields.metadata.as_deref())
}

async fn get(tx: &mut Transaction<'_, Any>, id: i64) -> Result<KeyRow, StoreError> {
    let query = format!("SELECT {COLUMNS} FROM keys WHERE id = $1");
    let row = sqlx::query(AssertSqlSafe(query)).bind(id).fetch_optional(&mut **tx).await?;
    row.as_ref().map(read_key).transpose()?.ok_or_else(|| missing(id))
}

fn missing(id: i64) -> StoreError {
    StoreError::missing(format!("key {id}"))
}

fn taken(name: &str) -> String {
    format!("a key named `{name}`, or the same key under another name,")
}

fn read_key(row: &AnyRow) -> Result<KeyRow, StoreError> {
    let flag = |name: &str| row.try_get::<i64, _>(name).map(|flag| flag != 0);
    Ok(KeyRow {
        id: row.try_get("id")?,
        fields: KeyFields {
            name: row.try_get("name")?,
            description: row.try_get("description")?,
            group_id: row.try_get("group_id")?,
            role: row.try_get("role")?,
            enabled: flag("enabled")?,
            single_use: flag("single_use")?,
            expires_at: row.try_get("expires_at")?,
            rotate_every: row.try_get("rotate_every")?,
            user: row.try_get("user_id")?,
            allowed_models: row.try_get("allowed_models")?,
            limits: row.try_get("limits")?,
            tags: row.try_get("tags")?,
            metadata: row.try_get("metadata")?,
        },
        hash: row.try_get("hash")?,
        hint: row.try_get("hint")?,
        previous_hash: row.try_get("previous_hash")?,
        previous_until: row.try_get("previous_until")?,
        rotated_at: row.try_get("rotated_at")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        last_used_at: row.try_get("last_used_at")?,
        version: row.try_get("version")?,
    })
}
