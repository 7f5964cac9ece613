//! Groups: prepaid accounts that keys belong to, and the transactions on them.

use base::Money;
use sqlx::any::AnyRow;
use sqlx::{Any, Row as _, Transaction};

use crate::db::Db;
use crate::error::StoreError;
use crate::ledger::alert_level;
use crate::meta::record_change;
use crate::time::now_ms;

/// A group as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its id.
    pub id: i64,
    /// Its name, unique.
    pub name: String,
    /// For people.
    pub description: String,
    /// The id that another system has for it.
    pub external_id: Option<String>,
    /// Spends without a balance; what it spends is counted all the same.
    pub unlimited: bool,
    /// What is not spent: `held` is part of it.
    pub balance: Money,
    /// The part of `balance` that replicas hold for calls under way and to come.
    pub held: Money,
    /// Everything ever credited.
    pub credited: Money,
    /// Everything ever spent.
    pub spent: Money,
    /// Limits of its own, JSON.
    pub limits: Option<String>,
    /// The operator's own notes, a JSON object.
    pub metadata: Option<String>,
    /// When it was made.
    pub created_at: i64,
    /// When it was last edited (spending is no edit).
    pub updated_at: i64,
    /// Counts edits.
    pub version: i64,
}

/// What an operator says about a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupFields {
    /// See [`Group::name`].
    pub name: String,
    /// See [`Group::description`].
    pub description: String,
    /// See [`Group::external_id`].
    pub external_id: Option<String>,
    /// See [`Group::unlimited`].
    pub unlimited: bool,
    /// See [`Group::limits`].
    pub limits: Option<String>,
    /// See [`Group::metadata`].
    pub metadata: Option<String>,
}

/// Why a balance changed other than by spending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionKind {
    /// With the group.
    Initial,
    /// Paid in.
    Credit,
    /// Given back for something that was charged.
    Refund,
    /// Put right, up or down.
    Adjustment,
}

impl TransactionKind {
    /// Its name, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            TransactionKind::Initial => "initial",
            TransactionKind::Credit => "credit",
            TransactionKind::Refund => "refund",
            TransactionKind::Adjustment => "adjustment",
        }
    }
}

/// One change of a balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionRow {
    /// Its id.
    pub id: i64,
    /// Whose balance.
    pub group_id: i64,
    /// Why: see [`TransactionKind::as_str`].
    pub kind: String,
    /// By how much, signed.
    pub amount: Money,
    /// What the balance was then.
    pub balance_after: Money,
    /// For people.
    pub description: String,
    /// Who did it.
    pub actor: String,
    /// When.
    pub at: i64,
}

const COLUMNS: &str = "id, name, description, external_id, unlimited, balance, \
    (SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM leases WHERE group_id = groups.id) AS held, \
    credited, spent, limits, metadata, created_at, updated_at, version";

impl Db {
    /// Makes a group with a first balance.
    pub async fn create_group(
        &self,
        fields: &GroupFields,
        balance: Money,
        actor: &str,
    ) -> Result<Group, StoreError> {
        let now = now_ms();
        let mut tx = self.begin().await?;
        let insert = "INSERT INTO groups (name, description, external_id, unlimited, balance, credited, limits, metadata, \
             created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5, $6, $7, $8, $8) RETURNING id";
        let id: i64 = sqlx::query_scalar(insert)
            .bind(&fields.name)
            .bind(&fields.description)
            .bind(fields.external_id.as_deref())
            .bind(i64::from(fields.unlimited))
            .bind(balance.as_nanos())
            .bind(fields.limits.as_deref())
            .bind(fields.metadata.as_deref())
            .bind(now)
            .fetch_one(&mut *tx)
            .await
            .map_err(|error| StoreError::or_exists(error, || taken(&fields.name)))?;
        if balance != Money::ZERO {
            let row =
                Entry { group: id, kind: TransactionKind::Initial, amount: balance, actor, description: "" };
            insert_transaction(&mut tx, &row, balance, now).await?;
        }
        record_change(&mut tx, "group", &id.to_string(), now).await?;
        let group = get(&mut tx, id).await?;
        tx.commit().await?;
        Ok(group)
    }

    /// A group.
    pub async fn group(&self, id: i64) -> Result<Group, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM groups WHERE id = $1");
        let row = sqlx::query(sqlx::AssertSqlSafe(query)).bind(id).fetch_optional(self.read()).await?;
        row.as_ref().map(read_group).transpose()?.ok_or_else(|| missing(id))
    }

    /// Groups in the order of their ids, from after one, perhaps only the one of a name.
    pub async fn groups(&self, name: Option<&str>, after: i64, limit: i64) -> Result<Vec<Group>, StoreError> {
        let query = format!(
            "SELECT {COLUMNS} FROM groups WHERE id > $1 AND ($2 = '' OR name = $2) ORDER BY id LIMIT $3"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(after)
            .bind(name.unwrap_or_default())
            .bind(limit)
            .fetch_all(self.read())
            .await?;
        rows.iter().map(read_group).collect()
    }

    /// Edits a group, if it still is at the version the caller has read.
    pub async fn update_group(
        &self,
        id: i64,
        fields: &GroupFields,
        version: Option<i64>,
    ) -> Result<Group, StoreError> {
        let now = now_ms();
        let mut tx = self.begin().await?;
        let update = "UPDATE groups SET name = $2, description = $3, external_id = $4, unlimited = $5, limits = $6, \
             metadata = $7, updated_at = $8, version = version + 1 WHERE id = $1 AND ($9 = 0 OR version = $9)";
        let done = sqlx::query(update)
            .bind(id)
            .bind(&fields.name)
            .bind(&fields.description)
            .bind(fields.external_id.as_deref())
            .bind(i64::from(fields.unlimited))
            .bind(fields.limits.as_deref())
            .bind(fields.metadata.as_deref())
            .bind(now)
            .bind(version.unwrap_or_default())
            .execute(&mut *tx)
            .await
            .map_err(|error| StoreError::or_exists(error, || taken(&fields.name)))?;
        if done.rows_affected() == 0 {
            // Missing, or at another version.
            get(&mut tx, id).await?;
            return Err(StoreError::Changed { what: format!("group {id}") });
        }
        record_change(&mut tx, "group", &id.to_string(), now).await?;
        let group = get(&mut tx, id).await?;
        tx.commit().await?;
        Ok(group)
    }

    /// Removes a group that no key belongs to.
    pub async fn delete_group(&self, id: i64, version: Option<i64>) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let group = get(&mut tx, id).await?;
        if version.is_some_and(|version| version != group.version) {
            return Err(StoreError::Changed { what: format!("group {id}") });
        }
        let keys: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM keys WHERE group_id = $1")
            .bind(id)
            .fetch_one(&mut *tx)
            .await?;
        if keys > 0 {
            return Err(StoreError::InUse {
                what: format!("group {id}"),
                by: format!("{keys} keys: delete them or move them to another group first"),
            });
        }
        for statement in [
            "DELETE FROM transactions WHERE group_id = $1",
            "DELETE FROM leases WHERE group_id = $1",
            "DELETE FROM groups WHERE id = $1",
        ] {
            sqlx::query(statement).bind(id).execute(&mut *tx).await?;
        }
        record_change(&mut tx, "group", &id.to_string(), now_ms()).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Changes a balance for a reason. Balances stay within what [`Money`] reads.
    pub async fn transact(
        &self,
        group: i64,
        kind: TransactionKind,
        amount: Money,
        description: &str,
        actor: &str,
    ) -> Result<TransactionRow, StoreError> {
        let now = now_ms();
        let mut tx = self.begin().await?;
        self.lock_group(&mut tx, group).await?;
        let before = get(&mut tx, group).await?;
        let after = i128::from(before.balance.as_nanos()) + i128::from(amount.as_nanos());
        let credited = if amount > Money::ZERO { amount } else { Money::ZERO };
        let credited_after = i128::from(before.credited.as_nanos()) + i128::from(credited.as_nanos());
        let most = i128::from(Money::MAX.as_nanos());
        if after.abs() > most || credited_after > most {
            return Err(StoreError::Invalid(format!(
                "the balance of group {group} would pass {} dollars: use a smaller amount",
                Money::MAX
            )));
        }
        // With more credit the thresholds lie further away, and are told again when they are reached.
        let level = alert_level(Money::from_wide(credited_after).as_nanos(), before.spent.as_nanos());
        let update =
            "UPDATE groups SET balance = balance + $2, credited = credited + $3, alerted = $4 WHERE id = $1";
        sqlx::query(update)
            .bind(group)
            .bind(amount.as_nanos())
            .bind(credited.as_nanos())
            .bind(level)
            .execute(&mut *tx)
            .await?;
        let entry = Entry { group, kind, amount, actor, description };
        let row = insert_transaction(&mut tx, &entry, Money::from_wide(after), now).await?;
        record_change(&mut tx, "group", &group.to_string(), now).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// The transactions of a group, newest first, from before one (0: from the newest).
    pub async fn transactions(
        &self,
        group: i64,
        before: i64,
        limit: i64,
    ) -> Result<Vec<TransactionRow>, StoreError> {
        let query = "SELECT id, group_id, kind, amount, balance_after, description, actor, at FROM transactions \
             WHERE group_id = $1 AND ($2 = 0 OR id < $2) ORDER BY id DESC LIMIT $3";
        let rows = sqlx::query(query).bind(group).bind(before).bind(limit).fetch_all(self.read()).await?;
        rows.iter().map(read_transaction).collect()
    }

    /// Takes the lock of a group's row for the rest of the transaction.
    pub(crate) async fn lock_group(&self, tx: &mut Transaction<'_, Any>, id: i64) -> Result<(), StoreError> {
        let query = format!("SELECT id FROM groups WHERE id = $1{}", self.for_update());
        let row = sqlx::query(sqlx::AssertSqlSafe(query)).bind(id).fetch_optional(&mut **tx).await?;
        row.map(drop).ok_or_else(|| missing(id))
    }
}

struct Entry<'a> {
    group: i64,
    kind: TransactionKind,
    amount: Money,
    actor: &'a str,
    description: &'a str,
}

async fn insert_transaction(
    tx: &mut Transaction<'_, Any>,
    entry: &Entry<'_>,
    balance_after: Money,
    at: i64,
) -> Result<TransactionRow, StoreError> {
    let insert = "INSERT INTO transactions (group_id, kind, amount, balance_after, description, actor, at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) \
         RETURNING id, group_id, kind, amount, balance_after, description, actor, at";
    let row = sqlx::query(insert)
        .bind(entry.group)
        .bind(entry.kind.as_str())
        .bind(entry.amount.as_nanos())
        .bind(balance_after.as_nanos())
        .bind(entry.description)
        .bind(entry.actor)
        .bind(at)
        .fetch_one(&mut **tx)
        .await?;
    read_transaction(&row)
}

async fn get(tx: &mut Transaction<'_, Any>, id: i64) -> Result<Group, StoreError> {
    let query = format!("SELECT {COLUMNS} FROM groups WHERE id = $1");
    let row = sqlx::query(sqlx::AssertSqlSafe(query)).bind(id).fetch_optional(&mut **tx).await?;
    row.as_ref().map(read_group).transpose()?.ok_or_else(|| missing(id))
}

fn missing(id: i64) -> StoreError {
    StoreError::missing(format!("group {id}"))
}

fn taken(name: &str) -> String {
    format!("a group named `{name}`")
}

fn read_group(row: &AnyRow) -> Result<Group, StoreError> {
    let money = |name: &str| row.try_get::<i64, _>(name).map(Money::nanos);
    let held = money("held")?;
    Ok(Group {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        external_id: row.try_get("external_id")?,
        unlimited: row.try_get::<i64, _>("unlimited")? != 0,
        balance: money("balance")? + held,
        held,
        credited: money("credited")?,
        spent: money("spent")?,
        limits: row.try_get("limits")?,
        metadata: row.try_get("metadata")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        version: row.try_get("version")?,
    })
}

fn read_transaction(row: &AnyRow) -> Result<TransactionRow, StoreError> {
    Ok(TransactionRow {
        id: row.try_get("id")?,
        group_id: row.try_get("group_id")?,
        kind: row.try_get("kind")?,
        amount: Money::nanos(row.try_get("amount")?),
        balance_after: Money::nanos(row.try_get("balance_after")?),
        description: row.try_get("description")?,
        actor: row.try_get("actor")?,
        at: row.try_get("at")?,
    })
}
