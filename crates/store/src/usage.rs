//! What was used: sums by day, key, group, model, provider and tag, and the log of requests.
//!
//! Sums come from `usage_daily`, whose size grows with the days and the keys and not with the requests. Rows without a
//! tag are the truth; rows with one repeat them, so that a request with two tags is counted under both and one
//! without is under none. Sums by tag therefore need not add up to the total.

mod pages;
mod record;
mod requests;
#[cfg(test)]
mod tests;

use base::Money;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use crate::db::Db;
use crate::error::StoreError;
use crate::sql::Conditions;

pub(crate) use pages::insert;
pub use record::{Calls, USAGE_FORM, UsageCall, UsageOf, UsageRecord};
pub use requests::{RequestFilter, RequestRow};

/// By what to sum up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dimension {
    /// The UTC day.
    Day,
    /// The key.
    Key,
    /// The group.
    Group,
    /// The model, as its provider names it.
    Model,
    /// The provider.
    Provider,
    /// The key's tags.
    Tag,
}

impl Dimension {
    /// Each of them.
    pub const ALL: [Dimension; 6] = [
        Dimension::Day,
        Dimension::Key,
        Dimension::Group,
        Dimension::Model,
        Dimension::Provider,
        Dimension::Tag,
    ];

    /// Its name, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Dimension::Day => "day",
            Dimension::Key => "key",
            Dimension::Group => "group",
            Dimension::Model => "model",
            Dimension::Provider => "provider",
            Dimension::Tag => "tag",
        }
    }

    /// The one of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Dimension::ALL.into_iter().find(|dimension| dimension.as_str() == name)
    }

    fn column(self) -> &'static str {
        match self {
            Dimension::Key => "key_id",
            Dimension::Group => "group_id",
            other => other.as_str(),
        }
    }
}

/// What to sum up.
#[derive(Clone, Debug, Default)]
pub struct UsageQuery {
    /// The first day, counted from the epoch.
    pub from_day: i64,
    /// The last day.
    pub to_day: i64,
    /// By what; nothing for the total alone.
    pub group_by: Vec<Dimension>,
    /// Of this key; 0 for what was used without one.
    pub key_id: Option<i64>,
    /// Of this group; 0 for what was used without one.
    pub group_id: Option<i64>,
    /// Of this model.
    pub model: Option<String>,
    /// Of this provider.
    pub provider: Option<String>,
    /// With this tag.
    pub tag: Option<String>,
}

/// Sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageSums {
    /// Calls.
    pub requests: i64,
    /// Of these, failed.
    pub failed: i64,
    /// Of these, without a known price.
    pub unpriced: i64,
    /// Tokens in.
    pub input: i64,
    /// Of these, read from a cache.
    pub cached_input: i64,
    /// Tokens out.
    pub output: i64,
    /// Of these, reasoning.
    pub reasoning: i64,
    /// What it cost.
    pub cost: Money,
}

/// Sums of one day, key, …; of the dimensions that were asked for each has its value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageRow {
    /// The day, counted from the epoch.
    pub day: Option<i64>,
    /// The key; 0 without one.
    pub key_id: Option<i64>,
    /// The group; 0 without one.
    pub group_id: Option<i64>,
    /// The model.
    pub model: Option<String>,
    /// The provider.
    pub provider: Option<String>,
    /// The tag.
    pub tag: Option<String>,
    /// What was used.
    pub sums: UsageSums,
}

/// Rows, days first and then the dearest first, and the total.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageSummary {
    /// The rows; none when nothing was asked to be told apart.
    pub rows: Vec<UsageRow>,
    /// There would have been more rows: the dearest of the first days are here, and the total is of all.
    pub truncated: bool,
    /// The sums of all, each request once.
    pub total: UsageSums,
}

/// The most rows of a summary.
pub const USAGE_ROWS: usize = 10_000;
/// The most days of a summary: ten years.
const MOST_DAYS: i64 = 3660;
/// What is summed up, in the order of [`UsageSums`].
const SUMMED: [&str; 8] =
    ["requests", "failed", "unpriced", "input", "cached_input", "output", "reasoning", "cost"];
/// Sums are made of two parts, so that they are exact beyond what the engines' own integers hold.
const PART: i64 = 1_000_000_000;

impl Db {
    /// Sums up what was used. May be a moment old: it asks the read replica, where there is one.
    pub async fn summarize_usage(&self, query: &UsageQuery) -> Result<UsageSummary, StoreError> {
        if query.from_day > query.to_day {
            return Err(StoreError::Invalid("`from` is after `to`: exchange them".into()));
        }
        if query.to_day.saturating_sub(query.from_day) >= MOST_DAYS {
            return Err(StoreError::Invalid(format!(
                "a summary covers {MOST_DAYS} days at most: bring `from` and `to` nearer together"
            )));
        }
        let total = self.usage_total(query).await?;
        let mut dimensions = query.group_by.clone();
        dimensions.sort_unstable();
        dimensions.dedup();
        if dimensions.is_empty() {
            return Ok(UsageSummary { total, ..UsageSummary::default() });
        }
        let by_tag = dimensions.contains(&Dimension::Tag);
        let conditions = conditions(query, by_tag);
        let columns = dimensions.iter().map(|dimension| dimension.column()).collect::<Vec<_>>().join(", ");
        let day = if dimensions.contains(&Dimension::Day) { "day, " } else { "" };
        let text = format!(
            "SELECT {}, {columns} FROM usage_daily{} GROUP BY {columns} \
             ORDER BY {day}SUM(cost / {PART}) + SUM(cost % {PART}) / {PART} DESC, SUM(cost % {PART}) % {PART} DESC, \
             {columns} LIMIT ${}",
            sums(),
            conditions.as_sql(),
            conditions.next()
        );
        let most = i64::try_from(USAGE_ROWS).unwrap_or(i64::MAX);
        let rows = conditions.bind(sqlx::query(AssertSqlSafe(text)).persistent(false)).bind(most + 1);
        let rows = rows.fetch_all(self.read_any()).await?;
        let truncated = rows.len() > USAGE_ROWS;
        let rows = rows.iter().take(USAGE_ROWS).map(|row| read_row(row, &dimensions));
        let mut rows = rows.collect::<Result<Vec<_>, StoreError>>()?;
        // Text is sorted by the engine's own rules; the order that is shown is the same everywhere.
        rows.sort_by(|a, b| {
            a.day.cmp(&b.day).then(b.sums.cost.cmp(&a.sums.cost)).then_with(|| names(a).cmp(&names(b)))
        });
        Ok(UsageSummary { rows, truncated, total })
    }

    async fn usage_total(&self, query: &UsageQuery) -> Result<UsageSums, StoreError> {
        let conditions = conditions(query, false);
        let text = format!("SELECT {} FROM usage_daily{}", sums(), conditions.as_sql());
        let row = conditions.bind(sqlx::query(AssertSqlSafe(text)).persistent(false));
        read_sums(&row.fetch_one(self.read_any()).await?)
    }

    /// Removes the sums of the days before one. Returns how many rows.
    pub async fn prune_usage_daily(&self, before_day: i64) -> Result<u64, StoreError> {
        let mut pruned = 0;
        loop {
            // The day is the front of the table's key: a day at a time is a piece that is easily found.
            let query = "DELETE FROM usage_daily WHERE day = (SELECT MIN(day) FROM usage_daily) AND day < $1";
            let deleted = sqlx::query(query).bind(before_day).execute(self.write()).await?.rows_affected();
            pruned += deleted;
            if deleted == 0 {
                return Ok(pruned);
            }
        }
    }
}

fn conditions(query: &UsageQuery, by_tag: bool) -> Conditions {
    let mut conditions = Conditions::default();
    conditions.integer("day >= {}", Some(query.from_day));
    conditions.integer("day <= {}", Some(query.to_day));
    conditions.integer("key_id = {}", query.key_id);
    conditions.integer("group_id = {}", query.group_id);
    conditions.text("model = {}", query.model.as_deref());
    conditions.text("provider = {}", query.provider.as_deref());
    match query.tag.as_deref() {
        Some(tag) => conditions.text("tag = {}", Some(tag)),
        None if by_tag => conditions.plain("tag <> ''"),
        None => conditions.plain("tag = ''"),
    }
    conditions
}

fn sums() -> String {
    let sum = |column| {
        format!(
            "CAST(COALESCE(SUM({column} / {PART}), 0) AS BIGINT), CAST(COALESCE(SUM({column} % {PART}), 0) AS BIGINT)"
        )
    };
    SUMMED.map(sum).join(", ")
}

fn read_sums(row: &AnyRow) -> Result<UsageSums, StoreError> {
    let mut sums = [0_i128; SUMMED.len()];
    for (index, sum) in sums.iter_mut().enumerate() {
        let (high, low): (i64, i64) = (row.try_get(2 * index)?, row.try_get(2 * index + 1)?);
        *sum = i128::from(high) * i128::from(PART) + i128::from(low);
    }
    let [requests, failed, unpriced, input, cached_input, output, reasoning] =
        std::array::from_fn(|index| narrow(sums[index]));
    let cost = Money::from_wide(sums[SUMMED.len() - 1]);
    Ok(UsageSums { requests, failed, unpriced, input, cached_input, output, reasoning, cost })
}

fn narrow(wide: i128) -> i64 {
    i64::try_from(wide).unwrap_or(if wide < 0 { i64::MIN } else { i64::MAX })
}

fn read_row(row: &AnyRow, dimensions: &[Dimension]) -> Result<UsageRow, StoreError> {
    let mut usage = UsageRow { sums: read_sums(row)?, ..UsageRow::default() };
    for (index, dimension) in dimensions.iter().enumerate() {
        let index = 2 * SUMMED.len() + index;
        match dimension {
            Dimension::Day => usage.day = Some(row.try_get(index)?),
            Dimension::Key => usage.key_id = Some(row.try_get(index)?),
            Dimension::Group => usage.group_id = Some(row.try_get(index)?),
            Dimension::Model => usage.model = Some(row.try_get(index)?),
            Dimension::Provider => usage.provider = Some(row.try_get(index)?),
            Dimension::Tag => usage.tag = Some(row.try_get(index)?),
        }
    }
    Ok(usage)
}

type Names<'a> = (Option<i64>, Option<i64>, Option<&'a str>, Option<&'a str>, Option<&'a str>);

fn names(row: &UsageRow) -> Names<'_> {
    (row.group_id, row.key_id, row.provider.as_deref(), row.model.as_deref(), row.tag.as_deref())
}
