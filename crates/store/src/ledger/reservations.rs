//! The journal of replicas that keep it in the Store: a row for each call under way.

use base::Money;
use sqlx::{Any, AssertSqlSafe, Row as _, Transaction};

use super::{Applied, charge};
use crate::db::{Db, Engine};
use crate::error::StoreError;
use crate::sql::placeholders;
use crate::usage::{Calls, USAGE_FORM, UsageCall};

/// Rows in one statement: SQLite looks for each placeholder among all of a statement's.
const ROWS: usize = 32;

/// A call that a replica began and has not settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Its number at that replica.
    pub call: i64,
    /// Who pays.
    pub group_id: Option<i64>,
    /// The most it can cost.
    pub amount: Money,
    /// What was known of it when it began: bytes of [`UsageCall::encode`].
    pub record: Vec<u8>,
    /// When it began.
    pub at: i64,
}

/// A call that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its number at its replica.
    pub call: i64,
    /// What it came to: bytes of [`UsageCall::encode`]. None when it was not sent after all.
    pub record: Option<Vec<u8>>,
}

impl Db {
    /// Notes calls before they are sent, all or none. `false`: the others took this replica for dead and nothing was
    /// noted; it must register again.
    pub async fn open_calls(&self, replica: &str, calls: &[Reservation]) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        // Held until the calls are there: who takes it for dead then finds them.
        let share = if self.engine() == Engine::Postgres { " FOR SHARE" } else { "" };
        let known = format!("SELECT heartbeat_at FROM replicas WHERE id = $1{share}");
        let known = sqlx::query(AssertSqlSafe(known)).bind(replica).fetch_optional(&mut *tx).await?;
        if known.is_none() {
            return Ok(false);
        }
        for calls in calls.chunks(ROWS) {
            let head = "INSERT INTO reservations (replica, call, group_id, amount, record, at) VALUES ";
            let mut query = sqlx::query(AssertSqlSafe(format!("{head}{}", placeholders(calls.len(), 6))));
            for call in calls {
                let mut record = vec![USAGE_FORM];
                record.extend_from_slice(&call.record);
                query = query
                    .bind(replica)
                    .bind(call.call)
                    .bind(call.group_id)
                    .bind(call.amount.as_nanos())
                    .bind(record)
                    .bind(call.at);
            }
            query.persistent(calls.len() == ROWS || calls.len() == 1).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Settles calls that were opened here, each once; one that is not open (any more) is passed over. Returns what
    /// that did, and the calls that were charged.
    pub async fn settle_calls(&self, replica: &str, ended: &[Ended]) -> Result<(Applied, Calls), StoreError> {
        let mut tx = self.begin().await?;
        let numbers: Vec<i64> = ended.iter().map(|ended| ended.call).collect();
        let open = self.take_open(&mut tx, replica, &numbers).await?;
        let mut calls = Calls::default();
        for ended in ended.iter().filter(|ended| open.contains(&ended.call)) {
            if let Some(record) = &ended.record {
                calls.push_bytes(record);
            }
        }
        let applied = charge(&mut tx, self.engine(), replica, &calls).await?;
        tx.commit().await?;
        Ok((applied, calls))
    }

    /// Removes the rows of calls; the numbers of those that were there.
    async fn take_open(
        &self,
        tx: &mut Transaction<'_, Any>,
        replica: &str,
        calls: &[i64],
    ) -> Result<std::collections::HashSet<i64>, StoreError> {
        let numbers = match self.engine() {
            Engine::Sqlite => "SELECT CAST(value AS BIGINT) FROM json_each($2)",
            Engine::Postgres => {
                "SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST($2 AS json))"
            }
        };
        let query =
            format!("DELETE FROM reservations WHERE replica = $1 AND call IN ({numbers}) RETURNING call");
        let closed = sqlx::query_scalar(AssertSqlSafe(query))
            .bind(replica)
            .bind(serde_json::to_string(calls).unwrap_or_default());
        Ok(closed.fetch_all(&mut **tx).await?.into_iter().collect())
    }

    /// The calls that a replica opened here and has not settled.
    pub async fn open_reservations(&self, replica: &str) -> Result<Vec<Reservation>, StoreError> {
        let mut tx = self.begin().await?;
        reservations(&mut tx, replica).await
    }

    /// Charges the calls that a dead replica opened here and did not settle with what was set aside for them, marked
    /// estimated. Whoever else does the same at the same time charges none of them again. Returns how many.
    pub async fn charge_reservations(&self, replica: &str) -> Result<usize, StoreError> {
        let mut tx = self.begin().await?;
        let open = reservations(&mut tx, replica).await?;
        let numbers: Vec<i64> = open.iter().map(|open| open.call).collect();
        let closed = self.take_open(&mut tx, replica, &numbers).await?;
        let mut calls = Calls::default();
        for open in open.iter().filter(|open| closed.contains(&open.call)) {
            let known = UsageCall::decode(&open.record).unwrap_or_default();
            calls.push(&known.unseen(open.group_id, open.amount));
        }
        charge(&mut tx, self.engine(), replica, &calls).await?;
        tx.commit().await?;
        Ok(calls.len())
    }
}

async fn reservations(tx: &mut Transaction<'_, Any>, replica: &str) -> Result<Vec<Reservation>, StoreError> {
    let query =
        "SELECT call, group_id, amount, record, at FROM reservations WHERE replica = $1 ORDER BY call";
    let rows = sqlx::query(query).bind(replica).fetch_all(&mut **tx).await?;
    let read = |row: &sqlx::any::AnyRow| {
        let mut record: Vec<u8> = row.try_get(3)?;
        if record.first() != Some(&USAGE_FORM) {
            return Err(StoreError::Schema(
                "a reservation is of a newer form: use the version that wrote it".into(),
            ));
        }
        record.remove(0);
        Ok(Reservation {
            call: row.try_get(0)?,
            group_id: row.try_get(1)?,
            amount: Money::nanos(row.try_get(2)?),
            record,
            at: row.try_get(4)?,
        })
    };
    rows.iter().map(read).collect()
}
