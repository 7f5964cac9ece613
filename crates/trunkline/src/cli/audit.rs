//! `trunkline audit`: who did what, and whether the log of it is whole.

use std::path::PathBuf;

use serde_json::Value;

use super::admin_client::{Failure, Run, Session, moment_ago};
use super::output::{Column, Progress, id, printable, text, time};

const COLUMNS: &[Column] = &[
    id("row", "seq"),
    time("at (UTC)", "at"),
    text("by", "actor"),
    text("from", "ip"),
    text("action", "action"),
    text("target", "target"),
    text("outcome", "outcome"),
    text("request", "request_id"),
];

/// What to do with the audit log.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum AuditCommand {
    /// List what was done, newest first.
    List {
        #[command(flatten)]
        which: Which,
        /// At most so many. Default: all.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// Check the chain of hashes from its beginning; the exit code is 1 when it is broken.
    Verify,
    /// Write the log out as JSON Lines, newest first.
    Export {
        #[command(flatten)]
        which: Which,
        /// Into this file. Default: stdout.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// Which rows.
#[derive(Clone, Debug, clap::Args)]
pub struct Which {
    /// From then on: a day, a time, or a duration before now, as `7d`.
    #[arg(long, value_name = "WHEN", value_parser = moment_ago)]
    from: Option<String>,
    /// Until then.
    #[arg(long, value_name = "WHEN", value_parser = moment_ago)]
    to: Option<String>,
    /// Only what was done by this: `admin`, or the id of a key.
    #[arg(long)]
    actor: Option<String>,
    /// Only this, as `keys.create`.
    #[arg(long)]
    action: Option<String>,
    /// Only what was done to this, as `keys/7`.
    #[arg(long)]
    target: Option<String>,
    /// Only what ended so: `ok`, or the code of a refusal.
    #[arg(long)]
    outcome: Option<String>,
}

impl Which {
    fn query(&self) -> Vec<(&'static str, String)> {
        let all = [
            ("from", &self.from),
            ("to", &self.to),
            ("actor", &self.actor),
            ("action", &self.action),
            ("target", &self.target),
            ("outcome", &self.outcome),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect()
    }
}

impl Run for AuditCommand {
    async fn run(&self, session: &Session<'_>) -> Result<(), Failure> {
        let Session { client, out, .. } = session;
        match self {
            AuditCommand::List { which, limit } => {
                out.list(COLUMNS, client.pages(&["audit"], which.query(), *limit)).await
            }
            AuditCommand::Verify => verify(session).await,
            AuditCommand::Export { which, output } => {
                let pages = client.pages(&["audit"], which.query(), None);
                if out.is_json() && output.is_none() {
                    return out.list(COLUMNS, pages).await;
                }
                let rows = out.lines(pages, output.as_deref()).await?;
                match output {
                    Some(file) => out.say(&format!("{rows} rows are in {}", file.display())),
                    None => Ok(()),
                }
            }
        }
    }
}

async fn verify(session: &Session<'_>) -> Result<(), Failure> {
    let Session { client, out, .. } = session;
    let mut progress = Progress::new();
    let checked =
        progress.during("checking the audit log", client.get_long(&["audit", "verify"], &vec![])).await;
    drop(progress);
    let checked = checked?;
    let rows = checked.get("rows").and_then(Value::as_u64).unwrap_or_default();
    let whole = checked.get("ok") == Some(&Value::Bool(true));
    out.document(&checked)?;
    if whole {
        out.say(&format!("the audit log is whole: {rows} rows"))?;
        return match checked.pointer("/head/hash").and_then(Value::as_str) {
            Some(hash) => out.say(&format!(
                "its last row has the hash {}: a note of it, kept elsewhere, also shows a log that was replaced as a whole",
                printable(hash)
            )),
            None => Ok(()),
        };
    }
    out.flush()?;
    if out.is_json() {
        return Err(Failure::Told);
    }
    Err(Failure::Said(broken(rows, checked.get("first_bad").unwrap_or(&Value::Null))))
}

/// What is said of the first row that is not as it was written.
fn broken(rows: u64, bad: &Value) -> String {
    let seq = bad.get("seq").unwrap_or(bad);
    let why = ["why", "reason"].iter().find_map(|name| bad.get(name)?.as_str());
    let why = why.map(|why| format!(" {}", printable(why))).unwrap_or_default();
    format!("the audit log is broken: row {seq}{why} ({rows} rows before it are as they were written)")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_bad_row_is_named() {
        let said = broken(16, &json!({"seq": 17, "why": "was changed"}));
        assert_eq!(
            said,
            "the audit log is broken: row 17 was changed (16 rows before it are as they were written)"
        );
        assert!(broken(16, &json!(17)).contains("row 17 (16"));
    }
}
