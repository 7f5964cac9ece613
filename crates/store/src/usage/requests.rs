//! The log of requests: one row for each model call, newest first.

use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use crate::db::Db;
use crate::error::StoreError;
use crate::ledger::UsageRecord;
use crate::sql::{Conditions, skip_locked};

/// A row of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRow {
    /// Its id.
    pub id: i64,
    /// What was called, by whom, and what it used.
    pub record: UsageRecord,
}

/// Which requests to list.
#[derive(Clone, Debug, Default)]
pub struct RequestFilter {
    /// Not before this time.
    pub from: Option<i64>,
    /// Before this time.
    pub to: Option<i64>,
    /// Of this key.
    pub key_id: Option<i64>,
    /// Of this group.
    pub group_id: Option<i64>,
    /// Of this user.
    pub user: Option<String>,
    /// Of this model, as the caller or as the provider names it.
    pub model: Option<String>,
    /// Of this provider.
    pub provider: Option<String>,
    /// With this HTTP status.
    pub status: Option<i64>,
    /// With this outcome.
    pub outcome: Option<String>,
    /// With this request id.
    pub request_id: Option<String>,
}

/// The most rows listed at once.
const PAGE: i64 = 1000;
/// Rows removed in one statement, so that nobody waits long for the one writer of SQLite.
const BATCH: i64 = 1000;

const COLUMNS: &str = "id, at, request_id, key_id, group_id, user_id, operation, model, provider, provider_model, status, \
    outcome, stream, attempts, duration_us, first_token_us, input, cached_input, output, reasoning, estimated, priced, \
    cost, tags";

impl Db {
    /// Requests, newest first, below the id `after` (0: from the newest); at most a thousand. May be a moment old: it
    /// asks the read replica, where there is one.
    pub async fn requests(
        &self,
        filter: &RequestFilter,
        after: i64,
        limit: i64,
    ) -> Result<Vec<RequestRow>, StoreError> {
        let mut conditions = Conditions::default();
        conditions.integer("id < {}", (after > 0).then_some(after));
        conditions.integer("at >= {}", filter.from);
        conditions.integer("at < {}", filter.to);
        conditions.integer("key_id = {}", filter.key_id);
        conditions.integer("group_id = {}", filter.group_id);
        conditions.text("user_id = {}", filter.user.as_deref());
        conditions.text("(model = {} OR provider_model = {})", filter.model.as_deref());
        conditions.text("provider = {}", filter.provider.as_deref());
        conditions.integer("status = {}", filter.status);
        conditions.text("outcome = {}", filter.outcome.as_deref());
        conditions.text("request_id = {}", filter.request_id.as_deref());
        let query = format!(
            "SELECT {COLUMNS} FROM usage{} ORDER BY id DESC LIMIT ${}",
            conditions.as_sql(),
            conditions.next()
        );
        let query = conditions.bind(sqlx::query(AssertSqlSafe(query)).persistent(false));
        let rows = query.bind(limit.clamp(1, PAGE)).fetch_all(self.read_any()).await?;
        rows.iter().map(read_request).collect()
    }

    /// Removes requests from before a time, a thousand at once. Sums by day stay. Returns how many.
    pub async fn prune_requests(&self, before: i64) -> Result<u64, StoreError> {
        let query = format!(
            "DELETE FROM usage WHERE id IN (SELECT id FROM usage WHERE at < $1 ORDER BY at LIMIT $2{})",
            skip_locked(self.engine())
        );
        let mut pruned = 0;
        loop {
            let batch = sqlx::query(AssertSqlSafe(query.clone())).bind(before).bind(BATCH);
            let deleted = batch.execute(self.write()).await?.rows_affected();
            pruned += deleted;
            if deleted == 0 {
                return Ok(pruned);
            }
        }
    }
}

fn read_request(row: &AnyRow) -> Result<RequestRow, StoreError> {
    let flag = |name: &str| row.try_get::<i64, _>(name).map(|flag| flag != 0);
    let count =
        |name: &str| row.try_get::<i64, _>(name).map(|count| u64::try_from(count).unwrap_or_default());
    let first_token_us: Option<i64> = row.try_get("first_token_us")?;
    let tags: Option<String> = row.try_get("tags")?;
    Ok(RequestRow {
        id: row.try_get("id")?,
        record: UsageRecord {
            at: row.try_get("at")?,
            request_id: row.try_get("request_id")?,
            key_id: row.try_get("key_id")?,
            group_id: row.try_get("group_id")?,
            user: row.try_get("user_id")?,
            operation: row.try_get("operation")?,
            model: row.try_get("model")?,
            provider: row.try_get("provider")?,
            provider_model: row.try_get("provider_model")?,
            status: u16::try_from(row.try_get::<i64, _>("status")?).unwrap_or_default(),
            outcome: row.try_get("outcome")?,
            stream: flag("stream")?,
            attempts: u32::try_from(row.try_get::<i64, _>("attempts")?).unwrap_or_default(),
            duration_us: count("duration_us")?,
            first_token_us: first_token_us.map(|us| u64::try_from(us).unwrap_or_default()),
            input: count("input")?,
            cached_input: count("cached_input")?,
            output: count("output")?,
            reasoning: count("reasoning")?,
            estimated: flag("estimated")?,
            priced: flag("priced")?,
            cost: row.try_get("cost")?,
            tags: tags.and_then(|tags| serde_json::from_str(&tags).ok()).unwrap_or_default(),
        },
    })
}
