//! `trunkline dlq`: dead letters of vCons.

use serde_json::Value;

use super::admin_client::{Failure, Query, Run, Session};
use super::output::{Column, text};

const COLUMNS: &[Column] = &[text("uuid", "uuid"), text("attempts", "attempts"), text("reason", "reason")];

/// What to do with dead letters.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum DlqCommand {
    /// List them, the oldest first, each with its reason.
    List {
        /// The list whose chain gave them up.
        list: String,
        /// At most so many.
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
        limit: u64,
    },
    /// Put them back into their list.
    Replay {
        /// The list.
        list: String,
        /// Only these vCons. Default: the oldest.
        uuids: Vec<String>,
        /// At most so many of the oldest.
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
        count: u64,
    },
    /// Forget them for good. The vCons themselves stay.
    Purge {
        /// The list.
        list: String,
        /// Only these vCons.
        uuids: Vec<String>,
        /// All of them.
        #[arg(long, conflicts_with = "uuids", required_unless_present = "uuids")]
        all: bool,
    },
}

impl Run for DlqCommand {
    async fn run(&self, session: &Session<'_>) -> Result<(), Failure> {
        let Session { client, out, .. } = session;
        let of = |list: &String, uuids: &[String]| -> Query<'_> {
            let mut query = vec![("ingress_list", list.clone())];
            query.extend(uuids.iter().map(|uuid| ("uuid", uuid.clone())));
            query
        };
        match self {
            DlqCommand::List { list, limit } => {
                let mut query = of(list, &[]);
                query.extend([("detail", "true".to_owned()), ("limit", limit.to_string())]);
                match client.get(&["dlq"], &query).await? {
                    Value::Array(letters) => out.rows(COLUMNS, &letters),
                    other => out.document(&other),
                }
            }
            DlqCommand::Replay { list, uuids, count } => {
                let mut query = of(list, uuids);
                query.push(("count", count.to_string()));
                let moved = client.post(&["dlq", "reprocess"], &query, &Value::Null).await?;
                out.say(&format!("{moved} replayed"))
            }
            DlqCommand::Purge { list, uuids, .. } => {
                let gone = client.post(&["dlq", "purge"], &of(list, uuids), &Value::Null).await?;
                out.say(&format!("{gone} forgotten"))
            }
        }
    }
}
