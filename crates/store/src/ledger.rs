//! Money between the Store and its replicas: leases of a group's balance, and what journals say was spent.
//!
//! For each group `balance + Σ leases = credited − spent + adjustments` holds after every transaction: money is
//! moved, never made. A journal is applied together with how far it was applied, so that nothing is charged
//! twice however often a journal is read.

mod reservations;

use std::collections::BTreeMap;

use base::Money;
use sqlx::{Any, AssertSqlSafe, Row as _, Transaction};

use crate::db::{Db, Engine};
use crate::error::StoreError;
use crate::time::now_ms;
use crate::usage::{self, Calls, UsageCall};

pub use reservations::{Ended, Reservation};

/// Of what is left of a balance a replica leases this part, so that slices shrink as the end comes near.
const SHARE: i64 = 16;
/// Alerts are told when so many percent of what was credited are spent.
pub(crate) const ALERT_LEVELS: [i64; 4] = [50, 80, 90, 100];
const DAY_MS: i64 = 86_400_000;
/// The most tokens that one call counts for in a sum: what a provider invents beyond must not overflow it.
const MOST_TOKENS: u64 = 1 << 40;

/// A piece of a journal.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    /// Whose journal.
    pub replica: &'a str,
    /// Its name.
    pub journal: &'a str,
    /// Where the piece begins: it is applied only if everything before it was.
    pub from: i64,
    /// Where it ends.
    pub to: i64,
    /// What it says.
    pub calls: &'a Calls,
}

/// What applying did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Groups that have crossed a threshold of what was credited.
    pub alerts: Vec<SpendAlert>,
}

/// A group has spent so much of its credit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpendAlert {
    /// Which group.
    pub group_id: i64,
    /// Its name.
    pub name: String,
    /// 50, 80, 90 or 100.
    pub percent: i64,
}

/// The answer to the wish for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What the replica may spend more; zero when the balance is too small.
    pub granted: Money,
    /// What is left in the Store.
    pub left: Money,
    /// The group spends without a balance.
    pub unlimited: bool,
}

/// A replica that has been silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silent {
    /// Its id.
    pub replica: String,
    /// Where its journal is: `file` or `store`.
    pub journal: String,
    /// When it was last heard of.
    pub heartbeat_at: i64,
}

impl Db {
    /// Makes a replica known.
    pub async fn register_replica(&self, id: &str, journal: &str, version: &str) -> Result<(), StoreError> {
        let query = "INSERT INTO replicas (id, journal, version, started_at, heartbeat_at) VALUES ($1, $2, $3, $4, $4) \
             ON CONFLICT (id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at";
        sqlx::query(query).bind(id).bind(journal).bind(version).bind(now_ms()).execute(self.write()).await?;
        Ok(())
    }

    /// Says that a replica is alive. `false`: the others took it for dead, and it must register again.
    pub async fn heartbeat(&self, id: &str) -> Result<bool, StoreError> {
        let query = "UPDATE replicas SET heartbeat_at = $2 WHERE id = $1";
        let done = sqlx::query(query).bind(id).bind(now_ms()).execute(self.write()).await?;
        Ok(done.rows_affected() > 0)
    }

    /// The replicas that are alive: heard of after a time.
    pub async fn live_replicas(&self, since: i64) -> Result<Vec<String>, StoreError> {
        let query = "SELECT id FROM replicas WHERE heartbeat_at >= $1 ORDER BY id";
        Ok(sqlx::query_scalar(query).bind(since).fetch_all(self.read()).await?)
    }

    /// The replicas that have not been heard of since a time.
    pub async fn silent_replicas(&self, since: i64) -> Result<Vec<Silent>, StoreError> {
        let query = "SELECT id, journal, heartbeat_at FROM replicas WHERE heartbeat_at < $1 ORDER BY id";
        let rows = sqlx::query(query).bind(since).fetch_all(self.read()).await?;
        let read = |row: &sqlx::any::AnyRow| {
            Ok(Silent { replica: row.try_get(0)?, journal: row.try_get(1)?, heartbeat_at: row.try_get(2)? })
        };
        rows.iter().map(read).collect()
    }

    /// Lets a replica spend `need` of a group without asking, or more while there is plenty, up to `most`.
    pub async fn lease(
        &self,
        replica: &str,
        group: i64,
        need: Money,
        most: Money,
    ) -> Result<Grant, StoreError> {
        let mut tx = self.begin().await?;
        let query = format!("SELECT balance, unlimited FROM groups WHERE id = $1{}", self.for_update());
        let row = sqlx::query(AssertSqlSafe(query)).bind(group).fetch_optional(&mut *tx).await?;
        let row = row.ok_or_else(|| StoreError::missing(format!("group {group}")))?;
        let balance: i64 = row.try_get(0)?;
        let unlimited = row.try_get::<i64, _>(1)? != 0;
        if unlimited || balance < need.as_nanos() {
            return Ok(Grant { granted: Money::ZERO, left: Money::nanos(balance), unlimited });
        }
        let granted = (balance / SHARE).min(most.as_nanos()).max(need.as_nanos());
        sqlx::query("UPDATE groups SET balance = balance - $2 WHERE id = $1")
            .bind(group)
            .bind(granted)
            .execute(&mut *tx)
            .await?;
        let add = "INSERT INTO leases (replica, group_id, amount) VALUES ($1, $2, $3) \
             ON CONFLICT (replica, group_id) DO UPDATE SET amount = leases.amount + excluded.amount";
        sqlx::query(add).bind(replica).bind(group).bind(granted).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(Grant { granted: Money::nanos(granted), left: Money::nanos(balance - granted), unlimited })
    }

    /// Gives back a part of a lease that is not needed, and answers whoever asked for it.
    pub async fn give_back(&self, replica: &str, group: i64, amount: Money) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        // The group's row first: in the order in which everybody else takes these locks.
        let query = format!("SELECT id FROM groups WHERE id = $1{}", self.for_update());
        sqlx::query(AssertSqlSafe(query)).bind(group).fetch_optional(&mut *tx).await?;
        let lease =
            "UPDATE leases SET amount = amount - $3, reclaim = 0 WHERE replica = $1 AND group_id = $2";
        let done =
            sqlx::query(lease).bind(replica).bind(group).bind(amount.as_nanos()).execute(&mut *tx).await?;
        if done.rows_affected() > 0 {
            sqlx::query("UPDATE groups SET balance = balance + $2 WHERE id = $1")
                .bind(group)
                .bind(amount.as_nanos())
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Asks the other replicas that are alive for what they hold of a group. Returns how many hold something.
    pub async fn ask_back(&self, replica: &str, group: i64, alive_since: i64) -> Result<u64, StoreError> {
        let query = "UPDATE leases SET reclaim = $3 WHERE group_id = $2 AND replica <> $1 AND amount > 0 \
             AND replica IN (SELECT id FROM replicas WHERE heartbeat_at >= $4)";
        let asked = sqlx::query(query)
            .bind(replica)
            .bind(group)
            .bind(now_ms())
            .bind(alive_since)
            .execute(self.write())
            .await?;
        Ok(asked.rows_affected())
    }

    /// How many of those asked have not answered.
    pub async fn unanswered(&self, replica: &str, group: i64, alive_since: i64) -> Result<i64, StoreError> {
        let query = "SELECT COUNT(*) FROM leases WHERE group_id = $2 AND replica <> $1 AND reclaim > 0 AND amount > 0 \
             AND replica IN (SELECT id FROM replicas WHERE heartbeat_at >= $3)";
        let count = sqlx::query_scalar(query).bind(replica).bind(group).bind(alive_since);
        Ok(count.fetch_one(self.read()).await?)
    }

    /// The groups that others ask a replica to give back.
    pub async fn asked_of(&self, replica: &str) -> Result<Vec<i64>, StoreError> {
        let query = "SELECT group_id FROM leases WHERE replica = $1 AND reclaim > 0";
        Ok(sqlx::query_scalar(query).bind(replica).fetch_all(self.read()).await?)
    }

    /// Ends a replica: what it still holds goes back to the groups. Its journal must have been applied, or its
    /// grace be over; in the second case `keep_marks`, so that the journal is not applied twice should it come
    /// after all.
    pub async fn release_replica(&self, replica: &str, keep_marks: bool) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let query = "SELECT group_id, amount FROM leases WHERE replica = $1 ORDER BY group_id";
        let held = sqlx::query(query).bind(replica).fetch_all(&mut *tx).await?;
        for row in &held {
            sqlx::query("UPDATE groups SET balance = balance + $2 WHERE id = $1")
                .bind(row.try_get::<i64, _>(0)?)
                .bind(row.try_get::<i64, _>(1)?)
                .execute(&mut *tx)
                .await?;
        }
        for statement in [
            "DELETE FROM leases WHERE replica = $1",
            "DELETE FROM reservations WHERE replica = $1",
            "DELETE FROM replicas WHERE id = $1",
        ] {
            sqlx::query(statement).bind(replica).execute(&mut *tx).await?;
        }
        if !keep_marks {
            sqlx::query("DELETE FROM journals WHERE replica = $1").bind(replica).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// How far a journal was applied.
    pub async fn applied(&self, replica: &str, journal: &str) -> Result<i64, StoreError> {
        let query = "SELECT applied FROM journals WHERE replica = $1 AND name = $2";
        let applied =
            sqlx::query_scalar(query).bind(replica).bind(journal).fetch_optional(self.read()).await?;
        Ok(applied.unwrap_or_default())
    }

    /// Applies a piece of a journal, once: `None` when something else has applied it, or a part before it is
    /// missing.
    pub async fn apply(&self, batch: &Batch<'_>) -> Result<Option<Applied>, StoreError> {
        let mut tx = self.begin().await?;
        let first = "INSERT INTO journals (replica, name, applied) VALUES ($1, $2, 0) ON CONFLICT (replica, name) DO NOTHING";
        sqlx::query(first).bind(batch.replica).bind(batch.journal).execute(&mut *tx).await?;
        let mark = "UPDATE journals SET applied = $4 WHERE replica = $1 AND name = $2 AND applied = $3";
        let marked = sqlx::query(mark)
            .bind(batch.replica)
            .bind(batch.journal)
            .bind(batch.from)
            .bind(batch.to)
            .execute(&mut *tx)
            .await?;
        if marked.rows_affected() == 0 {
            return Ok(None);
        }
        let applied = charge(&mut tx, self.engine(), batch.replica, batch.calls).await?;
        tx.commit().await?;
        Ok(Some(applied))
    }
}

/// Charges groups, keeps the usage, adds it up.
async fn charge(
    tx: &mut Transaction<'_, Any>,
    engine: Engine,
    replica: &str,
    calls: &Calls,
) -> Result<Applied, StoreError> {
    let mut by_group: BTreeMap<i64, i128> = BTreeMap::new();
    for record in calls.iter() {
        if let Some(group) = record.group_id {
            *by_group.entry(group).or_default() += i128::from(record.cost);
        }
    }
    let mut applied = Applied::default();
    for (group, cost) in by_group {
        let alert = charge_group(tx, replica, group, Money::from_wide(cost).as_nanos()).await?;
        applied.alerts.extend(alert);
    }
    usage::insert(tx, engine, calls).await?;
    add_up(tx, calls).await?;
    touch_keys(tx, calls).await?;
    Ok(applied)
}

async fn charge_group(
    tx: &mut Transaction<'_, Any>,
    replica: &str,
    group: i64,
    cost: i64,
) -> Result<Option<SpendAlert>, StoreError> {
    let spend = "UPDATE groups SET spent = spent + $2 WHERE id = $1 RETURNING name, unlimited, credited, spent, alerted";
    let Some(row) = sqlx::query(spend).bind(group).bind(cost).fetch_optional(&mut **tx).await? else {
        // The group was removed while its last calls were under way.
        return Ok(None);
    };
    let lease = "UPDATE leases SET amount = amount - $3 WHERE replica = $1 AND group_id = $2";
    let leased = sqlx::query(lease).bind(replica).bind(group).bind(cost).execute(&mut **tx).await?;
    if leased.rows_affected() == 0 {
        let balance = "UPDATE groups SET balance = balance - $2 WHERE id = $1 AND unlimited = 0";
        sqlx::query(balance).bind(group).bind(cost).execute(&mut **tx).await?;
    }
    let (unlimited, credited, spent): (i64, i64, i64) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    let (reached, alerted) = (alert_level(credited, spent), row.try_get::<i64, _>(4)?);
    if unlimited != 0 || reached <= alerted {
        return Ok(None);
    }
    let query = "UPDATE groups SET alerted = $2 WHERE id = $1";
    sqlx::query(query).bind(group).bind(reached).execute(&mut **tx).await?;
    Ok(Some(SpendAlert { group_id: group, name: row.try_get(0)?, percent: reached }))
}

/// The highest threshold that spending has reached; 0 for none.
pub(crate) fn alert_level(credited: i64, spent: i64) -> i64 {
    if credited <= 0 {
        return 0;
    }
    let percent = i128::from(spent) * 100 / i128::from(credited);
    ALERT_LEVELS.into_iter().rev().find(|level| percent >= i128::from(*level)).unwrap_or_default()
}

/// What one row of `usage_daily` counts.
#[derive(Clone, Copy, Default)]
struct Sums {
    requests: i64,
    failed: i64,
    unpriced: i64,
    input: i64,
    cached_input: i64,
    output: i64,
    reasoning: i64,
    cost: i128,
}

impl Sums {
    fn add(&mut self, record: &UsageCall<'_>) {
        let wide = |count: u64| count.min(MOST_TOKENS) as i64;
        self.requests += 1;
        self.failed += i64::from(record.outcome != base::Outcome::Ok.as_str());
        self.unpriced += i64::from(!record.priced);
        self.input = self.input.saturating_add(wide(record.input));
        self.cached_input = self.cached_input.saturating_add(wide(record.cached_input));
        self.output = self.output.saturating_add(wide(record.output));
        self.reasoning = self.reasoning.saturating_add(wide(record.reasoning));
        self.cost += i128::from(record.cost);
    }
}

async fn add_up(tx: &mut Transaction<'_, Any>, calls: &Calls) -> Result<(), StoreError> {
    // In one order for everybody, so that two replicas do not wait for each other's rows.
    let mut rows: BTreeMap<(i64, i64, i64, &str, &str, &str), Sums> = BTreeMap::new();
    for call in calls.iter() {
        let (group, key) = (call.group_id.unwrap_or_default(), call.key_id.unwrap_or_default());
        let row = |tag| (call.at / DAY_MS, group, key, call.provider, call.provider_model, tag);
        rows.entry(row("")).or_default().add(&call);
        // Each tag once, and none that is the name of the row without one.
        for (index, tag) in call.tags.iter().enumerate() {
            if !tag.is_empty() && !call.tags[..index].contains(tag) {
                rows.entry(row(tag)).or_default().add(&call);
            }
        }
    }
    let upsert = "INSERT INTO usage_daily (day, group_id, key_id, provider, model, tag, requests, failed, unpriced, input, \
         cached_input, output, reasoning, cost) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) \
         ON CONFLICT (day, group_id, key_id, provider, model, tag) DO UPDATE SET \
         requests = usage_daily.requests + excluded.requests, failed = usage_daily.failed + excluded.failed, \
         unpriced = usage_daily.unpriced + excluded.unpriced, input = usage_daily.input + excluded.input, \
         cached_input = usage_daily.cached_input + excluded.cached_input, \
         output = usage_daily.output + excluded.output, reasoning = usage_daily.reasoning + excluded.reasoning, \
         cost = usage_daily.cost + excluded.cost";
    for ((day, group, key, provider, model, tag), sums) in rows {
        sqlx::query(upsert)
            .bind(day)
            .bind(group)
            .bind(key)
            .bind(provider)
            .bind(model)
            .bind(tag)
            .bind(sums.requests)
            .bind(sums.failed)
            .bind(sums.unpriced)
            .bind(sums.input)
            .bind(sums.cached_input)
            .bind(sums.output)
            .bind(sums.reasoning)
            .bind(Money::from_wide(sums.cost).as_nanos())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Notes when keys were last used, to the minute: a key in steady use is not written with every batch.
async fn touch_keys(tx: &mut Transaction<'_, Any>, calls: &Calls) -> Result<(), StoreError> {
    let mut last: BTreeMap<i64, i64> = BTreeMap::new();
    for record in calls.iter() {
        if let Some(key) = record.key_id {
            let at = last.entry(key).or_default();
            *at = record.at.max(*at);
        }
    }
    for (key, at) in last {
        let query =
            "UPDATE keys SET last_used_at = $2 WHERE id = $1 AND COALESCE(last_used_at, 0) < $2 - 60000";
        sqlx::query(query).bind(key).bind(at).execute(&mut **tx).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
