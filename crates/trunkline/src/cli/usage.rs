//! `trunkline usage`: what was used, by whom, and what it cost.

use std::path::PathBuf;

use serde_json::Value;

use super::admin_client::{Failure, Run, Session, id_of, moment_ago};
use super::output::{Column, count, id, money, text, time};

const SUMS: &[Column] = &[
    count("requests", "requests"),
    count("failed", "failed"),
    count("input", "input_tokens"),
    count("cached", "cached_input_tokens"),
    count("output", "output_tokens"),
    count("reasoning", "reasoning_tokens"),
    money("cost ($)", "cost"),
    count("unpriced", "unpriced_requests"),
];
const REQUESTS: &[Column] = &[
    time("at (UTC)", "at"),
    text("request", "request_id"),
    id("key", "key_id"),
    text("model", "model"),
    text("provider", "provider"),
    id("status", "status"),
    text("outcome", "outcome"),
    count("input", "input_tokens"),
    count("output", "output_tokens"),
    money("cost ($)", "cost"),
];

/// What usage is told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// The UTC day.
    Day,
    /// The key.
    Key,
    /// The group.
    Group,
    /// The model.
    Model,
    /// The provider.
    Provider,
    /// The key's tags.
    Tag,
}

impl By {
    /// What the API calls it, and the column it makes.
    fn names(self) -> (&'static str, Column) {
        match self {
            By::Day => ("day", text("day", "day")),
            By::Key => ("key", id("key", "key_id")),
            By::Group => ("group", id("group", "group_id")),
            By::Model => ("model", text("model", "model")),
            By::Provider => ("provider", text("provider", "provider")),
            By::Tag => ("tag", text("tag", "tag")),
        }
    }
}

/// How usage is written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// For spreadsheets.
    Csv,
    /// One document.
    Json,
}

/// What to see of usage.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum UsageCommand {
    /// Sums, told apart by day, key, group, model, provider or tag.
    Summary {
        /// By what; several with commas.
        #[arg(long, value_delimiter = ',', default_value = "day")]
        by: Vec<By>,
        #[command(flatten)]
        which: Which,
        /// Only what has this tag.
        #[arg(long)]
        tag: Option<String>,
    },
    /// Single requests, newest first.
    Requests {
        #[command(flatten)]
        which: Which,
        /// Only those with this HTTP status.
        #[arg(long)]
        status: Option<u16>,
        /// Only those that ended so: `ok`, `refused`, `failed` or `cancelled`.
        #[arg(long)]
        outcome: Option<String>,
        /// Only those of this user.
        #[arg(long)]
        user: Option<String>,
        /// Only the one with this request id.
        #[arg(long, value_name = "ID")]
        request: Option<String>,
        /// At most so many. Default: all.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// Sums as CSV or JSON.
    Export {
        /// By what; several with commas.
        #[arg(long, value_delimiter = ',', default_value = "day")]
        by: Vec<By>,
        #[command(flatten)]
        which: Which,
        /// Only what has this tag.
        #[arg(long)]
        tag: Option<String>,
        /// How.
        #[arg(long, default_value = "csv")]
        format: Form,
        /// Into this file. Default: stdout.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// Of what.
#[derive(Clone, Debug, clap::Args)]
pub struct Which {
    /// From then on: a day, a time, or a duration before now, as `7d`.
    #[arg(long, value_name = "WHEN", value_parser = moment_ago)]
    from: Option<String>,
    /// Until then.
    #[arg(long, value_name = "WHEN", value_parser = moment_ago)]
    to: Option<String>,
    /// Only this key, by id or name.
    #[arg(long)]
    key: Option<String>,
    /// Only this group, by id or name.
    #[arg(long)]
    group: Option<String>,
    /// Only this model.
    #[arg(long)]
    model: Option<String>,
    /// Only this provider.
    #[arg(long)]
    provider: Option<String>,
}

impl Which {
    async fn query(&self, session: &Session<'_>) -> Result<Vec<(&'static str, String)>, Failure> {
        let mut query = Vec::new();
        if let Some(key) = &self.key {
            query.push(("key_id", id_of(&session.client, "keys", key).await?));
        }
        if let Some(group) = &self.group {
            query.push(("group_id", id_of(&session.client, "groups", group).await?));
        }
        let plain =
            [("from", &self.from), ("to", &self.to), ("model", &self.model), ("provider", &self.provider)];
        query.extend(plain.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
        Ok(query)
    }
}

impl Run for UsageCommand {
    async fn run(&self, session: &Session<'_>) -> Result<(), Failure> {
        let Session { client, out, .. } = session;
        match self {
            UsageCommand::Summary { by, which, tag } => {
                let query = summed(session, by, which, tag.as_ref()).await?;
                let summary = client.get(&["usage"], &query).await?;
                if out.is_json() { out.document(&summary) } else { show(session, by, &summary) }
            }
            UsageCommand::Requests { which, status, outcome, user, request, limit } => {
                let mut query = which.query(session).await?;
                query.extend(status.map(|status| ("status", status.to_string())));
                let plain = [("outcome", outcome), ("user", user), ("request_id", request)];
                query.extend(plain.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
                out.list(REQUESTS, client.pages(&["usage", "requests"], query, *limit)).await
            }
            UsageCommand::Export { by, which, tag, format, output } => {
                let mut query = summed(session, by, which, tag.as_ref()).await?;
                let json = *format == Form::Json || out.is_json();
                query.push(("format", (if json { "json" } else { "csv" }).to_owned()));
                out.save(client.download(&["usage"], &query).await?, output.as_deref()).await
            }
        }
    }
}

async fn summed(
    session: &Session<'_>,
    by: &[By],
    which: &Which,
    tag: Option<&String>,
) -> Result<Vec<(&'static str, String)>, Failure> {
    let mut query = which.query(session).await?;
    query.extend(tag.map(|tag| ("tag", tag.clone())));
    let names: Vec<&str> = by.iter().map(|by| by.names().0).collect();
    query.push(("group_by", names.join(",")));
    Ok(query)
}

/// The rows and, as the last of them, the total.
fn show(session: &Session<'_>, by: &[By], summary: &Value) -> Result<(), Failure> {
    let mut rows = summary.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
    if rows.is_empty() {
        return session.out.say("nothing was used");
    }
    let columns: Vec<Column> = by.iter().map(|by| by.names().1).chain(SUMS.iter().copied()).collect();
    if let (Some(total), Some(first)) = (summary.get("total"), columns.first()) {
        let mut total = total.clone();
        total[first.field()] = "total".into();
        rows.push(total);
    }
    session.out.rows(&columns, &rows)?;
    if summary.get("truncated") == Some(&Value::Bool(true)) {
        session.out.say("There are more rows: ask for fewer days, or for one key, group or model.")?;
    }
    Ok(())
}
