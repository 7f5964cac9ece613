//! What was used and what it cost, summed up; and the log of requests.

use base::Money;
use bytes::Bytes;
use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{Dimension, UsageQuery, UsageRow, UsageSums, now_ms};

use crate::admin::{Call, Id, Line, List, Nothing, Refusal, Report, Route, Time};

mod csv;
mod requests;

const DAY_MS: i64 = 86_400_000;
/// How far back a summary goes when nothing is said.
const DAYS: i64 = 30;

pub(super) fn routes() -> Vec<Route> {
    let summary = "Sums up requests, tokens and cost.";
    let mut all = vec![Route::new(Method::GET, "/api/usage", "usage.summarize", summary, summarize)];
    all.extend(requests::routes());
    all
}

/// By what to sum up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum By {
    Day,
    Key,
    Group,
    Model,
    Provider,
    Tag,
}

impl From<By> for Dimension {
    fn from(by: By) -> Self {
        match by {
            By::Day => Dimension::Day,
            By::Key => Dimension::Key,
            By::Group => Dimension::Group,
            By::Model => Dimension::Model,
            By::Provider => Dimension::Provider,
            By::Tag => Dimension::Tag,
        }
    }
}

/// How to answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
    Csv,
}

/// What to sum up.
#[derive(Debug, Deserialize, JsonSchema)]
struct Query {
    /// The first day, in UTC; 30 days ago.
    from: Option<Time>,
    /// The last day; today.
    to: Option<Time>,
    /// By what, several with commas; left out: the total alone.
    group_by: Option<List<By, 6>>,
    key_id: Option<Id>,
    group_id: Option<Id>,
    /// As its provider names it.
    model: Option<Line<1, 256>>,
    provider: Option<Line<1, 256>>,
    tag: Option<Line<1, 64>>,
    /// `json` or `csv`.
    #[serde(default)]
    format: Format,
}

/// Sums, and of what.
#[derive(Debug, Serialize, JsonSchema)]
struct UsedBy {
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<String>,
    /// 0 for what was used without a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<i64>,
    /// 0 for what was used without a group.
    #[serde(skip_serializing_if = "Option::is_none")]
    group_id: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    #[serde(flatten)]
    sums: UsageTotals,
}

/// Sums.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
struct UsageTotals {
    requests: i64,
    /// Of these, failed.
    failed: i64,
    input_tokens: i64,
    /// Of these, read from a cache.
    cached_input_tokens: i64,
    output_tokens: i64,
    /// Of these, reasoning.
    reasoning_tokens: i64,
    cost: Money,
    /// Requests without a known price: their cost is not in `cost`.
    unpriced_requests: i64,
}

impl From<UsageSums> for UsageTotals {
    fn from(sums: UsageSums) -> Self {
        UsageTotals {
            requests: sums.requests,
            failed: sums.failed,
            input_tokens: sums.input,
            cached_input_tokens: sums.cached_input,
            output_tokens: sums.output,
            reasoning_tokens: sums.reasoning,
            cost: sums.cost,
            unpriced_requests: sums.unpriced,
        }
    }
}

impl From<UsageRow> for UsedBy {
    fn from(row: UsageRow) -> Self {
        let date = |day: i64| Time(day.saturating_mul(DAY_MS)).to_string().chars().take(10).collect();
        UsedBy {
            day: row.day.map(date),
            key_id: row.key_id,
            group_id: row.group_id,
            model: row.model,
            provider: row.provider,
            tag: row.tag,
            sums: row.sums.into(),
        }
    }
}

/// What was used.
#[derive(Debug, Serialize, JsonSchema)]
struct Usage {
    /// Days first, then the dearest first.
    data: Vec<UsedBy>,
    /// Each request once, whatever the rows are.
    total: UsageTotals,
    /// There would have been more rows.
    truncated: bool,
}

async fn summarize(call: Call<Nothing, Query>) -> Result<Report<Usage>, Refusal> {
    let query = call.query;
    let today = now_ms().div_euclid(DAY_MS);
    let to_day = query.to.map_or(today, |time| time.0.div_euclid(DAY_MS));
    let from_day = query.from.map_or(to_day - DAYS, |time| time.0.div_euclid(DAY_MS));
    let asked = UsageQuery {
        from_day,
        to_day,
        group_by: query
            .group_by
            .map(|List(by)| by.into_iter().map(Dimension::from).collect())
            .unwrap_or_default(),
        key_id: query.key_id.map(|id| id.0),
        group_id: query.group_id.map(|id| id.0),
        model: query.model.map(Line::into_inner),
        provider: query.provider.map(Line::into_inner),
        tag: query.tag.map(Line::into_inner),
    };
    call.shared.access.settle_up().await;
    let found = call.shared.access.db().summarize_usage(&asked).await?;
    let usage = Usage {
        data: found.rows.into_iter().map(UsedBy::from).collect(),
        total: found.total.into(),
        truncated: found.truncated,
    };
    Ok(match query.format {
        Format::Json => Report::Json(usage),
        Format::Csv => Report::Csv(table(&usage)),
    })
}

/// The rows as CSV; without rows, the total.
fn table(usage: &Usage) -> Bytes {
    let mut out = csv::Table::new(&[
        "day",
        "key_id",
        "group_id",
        "model",
        "provider",
        "tag",
        "requests",
        "failed",
        "input_tokens",
        "cached_input_tokens",
        "output_tokens",
        "reasoning_tokens",
        "cost",
        "unpriced_requests",
    ]);
    let numbers = |sums: &UsageTotals| {
        [
            sums.requests.to_string(),
            sums.failed.to_string(),
            sums.input_tokens.to_string(),
            sums.cached_input_tokens.to_string(),
            sums.output_tokens.to_string(),
            sums.reasoning_tokens.to_string(),
            sums.cost.to_string(),
            sums.unpriced_requests.to_string(),
        ]
    };
    for row in &usage.data {
        let id = |id: Option<i64>| id.map(|id| id.to_string()).unwrap_or_default();
        let text = |text: &Option<String>| csv::plain(text.as_deref().unwrap_or_default());
        let names = [
            text(&row.day),
            id(row.key_id),
            id(row.group_id),
            text(&row.model),
            text(&row.provider),
            text(&row.tag),
        ];
        out.row(names.into_iter().chain(numbers(&row.sums)));
    }
    if usage.data.is_empty() {
        out.row(std::iter::repeat_n(String::new(), 6).chain(numbers(&usage.total)));
    }
    out.finish()
}
