//! `trunkline vcon`: vCons in, out, found, followed.

use std::io::Read as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::admin_client::{Failure, Query, Run, Session};
use super::output::{Column, Progress, text};

/// The largest file that is sent, in bytes.
const MAX_FILE: u64 = 256 << 20;

const SENT: &[Column] = &[text("file", "file"), text("uuid", "uuid"), text("result", "result")];
const FOUND: &[Column] = &[text("uuid", "uuid")];

/// What to do with vCons.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum VconCommand {
    /// Send vCons.
    Submit {
        /// Files of JSON, one vCon each; `-` for stdin.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// A list to put them into; may be given several times.
        #[arg(long = "list", value_name = "LIST")]
        lists: Vec<String>,
    },
    /// Show a vCon.
    Get {
        /// Its uuid.
        uuid: String,
    },
    /// Find the vCons that have all of this.
    Search {
        /// A party's telephone number.
        #[arg(long)]
        tel: Vec<String>,
        /// A party's address.
        #[arg(long)]
        mailto: Vec<String>,
        /// A party's name.
        #[arg(long)]
        name: Vec<String>,
        /// A tag, `name:value`.
        #[arg(long)]
        tag: Vec<String>,
        /// Words that it says.
        #[arg(long)]
        text: Option<String>,
        /// Made then or later.
        #[arg(long)]
        since: Option<String>,
        /// Made then or earlier.
        #[arg(long)]
        until: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
        limit: u64,
    },
    /// Follow what the server does with vCons, until it is stopped.
    Tail {
        /// Only this one; may be given several times.
        #[arg(long = "uuid")]
        uuids: Vec<String>,
    },
}

impl Run for VconCommand {
    async fn run(&self, session: &Session<'_>) -> Result<(), Failure> {
        match self {
            VconCommand::Submit { files, lists } => submit(session, files, lists).await,
            VconCommand::Get { uuid } => {
                let vcon = session.client.get(&["vcon", uuid], &Query::new()).await?;
                session.out.document(&vcon)
            }
            VconCommand::Search { tel, mailto, name, tag, text, since, until, limit } => {
                let mut query = Query::new();
                for (key, values) in [("tel", tel), ("mailto", mailto), ("name", name), ("tag", tag)] {
                    query.extend(values.iter().map(|value| (key, value.clone())));
                }
                for (key, value) in [("q", text), ("since", since), ("until", until)] {
                    query.extend(value.clone().map(|value| (key, value)));
                }
                query.extend([("page", "1".to_owned()), ("size", limit.to_string())]);
                let found = session.client.get(&["vcons", "search"], &query).await?;
                let rows: Vec<Value> = match found {
                    Value::Array(uuids) => uuids.into_iter().map(|uuid| json!({"uuid": uuid})).collect(),
                    _ => Vec::new(),
                };
                session.out.rows(FOUND, &rows)
            }
            VconCommand::Tail { uuids } => tail(session, uuids).await,
        }
    }
}

async fn submit(session: &Session<'_>, files: &[PathBuf], lists: &[String]) -> Result<(), Failure> {
    let query: Query<'_> = lists.iter().map(|list| ("ingress_lists", list.clone())).collect();
    let mut progress = Progress::new();
    let (mut rows, mut failed) = (Vec::with_capacity(files.len()), 0);
    for (done, file) in files.iter().enumerate() {
        if files.len() > 1 {
            progress.show(&bar(done, files.len()));
        }
        let sent = session.client.upload(&["vcon"], &query, "application/json", read(file)?).await;
        let (uuid, result) = match sent {
            Ok(vcon) => (vcon["uuid"].clone(), "kept".to_owned()),
            // What is wrong with one leaves the others alone.
            Err(failure @ Failure::Refused { status: 400..=499, .. }) => {
                failed += 1;
                (Value::Null, failure.to_string())
            }
            Err(failure) => return Err(failure),
        };
        rows.push(json!({"file": file.display().to_string(), "uuid": uuid, "result": result}));
    }
    drop(progress);
    session.out.rows(SENT, &rows)?;
    if failed > 0 { Err(Failure::Told) } else { Ok(()) }
}

/// `[#####.....] 5 of 10`.
fn bar(done: usize, all: usize) -> String {
    const WIDTH: usize = 30;
    let filled = done * WIDTH / all.max(1);
    format!("[{}{}] {done} of {all}", "#".repeat(filled), ".".repeat(WIDTH - filled))
}

fn read(file: &PathBuf) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = match file.as_os_str() == "-" {
        true => std::io::stdin().take(MAX_FILE + 1).read_to_end(&mut bytes),
        false => std::fs::File::open(file).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes)),
    };
    match read {
        Ok(length) if length as u64 <= MAX_FILE => Ok(bytes),
        Ok(_) => Err(Failure::Setup(format!("`{}` is larger than 256 MiB", file.display()))),
        Err(error) => Err(Failure::Setup(format!("`{}` cannot be read: {error}", file.display()))),
    }
}

async fn tail(session: &Session<'_>, uuids: &[String]) -> Result<(), Failure> {
    let query: Query<'_> = uuids.iter().map(|uuid| ("uuid", uuid.clone())).collect();
    let mut events = session.client.download(&["vcons", "events"], &query).await?;
    let mut buffer = Vec::new();
    while let Some(piece) = events.piece().await? {
        buffer.extend_from_slice(&piece);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let Some(data) = line.trim_end().strip_prefix("data: ") else { continue };
            session.out.say(data)?;
            session.out.flush()?;
        }
    }
    Ok(())
}
