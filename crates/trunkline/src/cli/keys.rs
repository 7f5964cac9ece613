//! `trunkline keys`: who may call, and what.

mod import;

use std::path::PathBuf;

use base::Duration;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::admin_client::{
    Clear, Failure, Once, Pair, Run, Session, body, cleared, id_of, moment_ahead, named, pair, setting,
};
use super::output::{Column, flag, id, text, time};

const COLUMNS: &[Column] = &[
    id("id", "id"),
    text("name", "name"),
    id("group", "group_id"),
    text("role", "role"),
    text("key", "hint"),
    flag("enabled", "enabled"),
    time("expires (UTC)", "expires_at"),
    time("last used (UTC)", "last_used_at"),
    time("created (UTC)", "created_at"),
];

/// What to do with keys. KEY is an id or a name.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum KeysCommand {
    /// List keys.
    List {
        /// Only those of this group, by id or name.
        #[arg(long)]
        group: Option<String>,
        /// Only the key of this name.
        #[arg(long)]
        name: Option<String>,
        /// Only those of this user.
        #[arg(long)]
        user: Option<String>,
        /// At most so many. Default: all.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// Show one key, without the key itself: only its hash is kept.
    Show {
        /// Which.
        key: String,
    },
    /// Make a key and print it, once.
    Create(Create),
    /// Change a key; what is not named stays.
    Edit(Edit),
    /// Refuse a key until it is enabled again.
    Disable {
        /// Which.
        key: String,
    },
    /// Let a disabled key work again.
    Enable {
        /// Which.
        key: String,
    },
    /// Make a new key in the place of one and print it, once; the old one works for a while.
    Rotate {
        /// Which.
        key: String,
        /// How long the old one works on, as `12h`; `0s` for not at all. Default: 7 days.
        #[arg(long, value_name = "DURATION", value_parser = Duration::parse)]
        overlap: Option<Duration>,
        #[command(flatten)]
        once: Once,
    },
    /// Take over keys that exist elsewhere, by their SHA-256: CSV with a header, or JSON.
    Import {
        /// The file; `-` is stdin. Columns: name, group_id, key_sha256, and any other field of a key.
        file: PathBuf,
        /// The group, by id or name, of rows that name none.
        #[arg(long)]
        group: Option<String>,
    },
    /// Remove a key.
    Delete {
        /// Which.
        key: String,
    },
}

/// A new key.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[command(group = clap::ArgGroup::new("principal").required(true).multiple(true).args(["group", "role"]))]
pub struct Create {
    /// Its name, unique.
    name: String,
    /// The group that pays, by id or name: a virtual key.
    #[arg(long)]
    #[serde(skip)]
    group: Option<String>,
    /// What it may do, as `admin` or `viewer`: without a group, an admin token. Default with a group: `caller`.
    #[arg(long)]
    role: Option<String>,
    /// It works for one request.
    #[arg(long)]
    single_use: bool,
    /// The SHA-256 of a key that exists already, in hexadecimal; then no key is made.
    #[arg(long, value_name = "HEX")]
    key_sha256: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    common: Common,
    #[command(flatten)]
    #[serde(skip)]
    once: Once,
}

/// A change.
#[derive(Clone, Debug, clap::Args, Serialize)]
pub struct Edit {
    /// Which key.
    #[serde(skip)]
    key: String,
    /// A new name.
    #[arg(long)]
    name: Option<String>,
    /// Another group, by id or name.
    #[arg(long)]
    #[serde(skip)]
    group: Option<String>,
    /// Another role.
    #[arg(long)]
    role: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    common: Common,
    #[command(flatten)]
    #[serde(skip)]
    clear: Clear,
    /// Only if it has this version still.
    #[arg(long, value_name = "VERSION")]
    #[serde(skip)]
    if_version: Option<i64>,
}

/// What both take.
#[derive(Clone, Debug, clap::Args, Serialize)]
pub struct Common {
    /// For people.
    #[arg(long)]
    description: Option<String>,
    /// Whose it is.
    #[arg(long)]
    user: Option<String>,
    /// A model it may call, as `gpt-4*` or `openai/*`; several with commas. Default: all.
    #[arg(long = "model", value_name = "PATTERN", value_delimiter = ',')]
    allowed_models: Vec<String>,
    /// Limits, as `requests_per_minute=60,tokens_per_day=1000000`; `unlimited` lifts one.
    #[arg(long, value_name = "NAME=N", value_delimiter = ',', value_parser = setting)]
    #[serde(serialize_with = "named")]
    limits: Vec<Pair>,
    /// A label for its spending; several with commas.
    #[arg(long = "tag", value_name = "TAG", value_delimiter = ',')]
    tags: Vec<String>,
    /// Your own notes; they replace those that are there. May be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    #[serde(serialize_with = "named")]
    metadata: Vec<Pair>,
    /// When it ends: a day, a time, or a duration from now, as `90d`.
    #[arg(long = "expires", value_name = "WHEN", value_parser = moment_ahead)]
    expires_at: Option<String>,
    /// How old it may grow before it must be rotated, as `90d`.
    #[arg(long, value_name = "DURATION", value_parser = Duration::parse)]
    rotate_every: Option<Duration>,
}

impl Run for KeysCommand {
    async fn run(&self, session: &Session<'_>) -> Result<(), Failure> {
        let Session { client, out, .. } = session;
        match self {
            KeysCommand::List { group, name, user, limit } => {
                let mut query = Vec::new();
                if let Some(group) = group {
                    query.push(("group_id", id_of(client, "groups", group).await?));
                }
                query.extend(name.iter().map(|name| ("name", name.clone())));
                query.extend(user.iter().map(|user| ("user", user.clone())));
                out.list(COLUMNS, client.pages(&["keys"], query, *limit)).await
            }
            KeysCommand::Show { key } => {
                let id = id_of(client, "keys", key).await?;
                out.item(COLUMNS, &client.get(&["keys", &id], &vec![]).await?)
            }
            KeysCommand::Create(create) => {
                let mut body = body(create)?;
                in_group(session, create.group.as_deref(), &mut body).await?;
                secret(session, client.create(&["keys"], &Value::Object(body), &create.once).await?)
            }
            KeysCommand::Edit(edit) => {
                let mut body = body(edit)?;
                in_group(session, edit.group.as_deref(), &mut body).await?;
                patch(session, &edit.key, &cleared(body, &edit.clear)?, edit.if_version).await
            }
            KeysCommand::Disable { key } => patch(session, key, &json!({"enabled": false}), None).await,
            KeysCommand::Enable { key } => patch(session, key, &json!({"enabled": true}), None).await,
            KeysCommand::Rotate { key, overlap, once } => {
                let id = id_of(client, "keys", key).await?;
                let body = overlap.map_or_else(|| json!({}), |overlap| json!({"overlap": overlap}));
                secret(session, client.create(&["keys", &id, "rotate"], &body, once).await?)
            }
            KeysCommand::Import { file, group } => import::run(session, file, group.as_deref()).await,
            KeysCommand::Delete { key } => {
                let id = id_of(client, "keys", key).await?;
                client.delete(&["keys", &id]).await?;
                out.say(&format!("key {id} is deleted"))
            }
        }
    }
}

/// Puts the id of the group into a body.
async fn in_group(
    session: &Session<'_>,
    group: Option<&str>,
    body: &mut Map<String, Value>,
) -> Result<(), Failure> {
    if let Some(group) = group {
        let id = id_of(&session.client, "groups", group).await?;
        body.insert("group_id".into(), number(&id)?);
    }
    Ok(())
}

async fn patch(session: &Session<'_>, key: &str, body: &Value, version: Option<i64>) -> Result<(), Failure> {
    let id = id_of(&session.client, "keys", key).await?;
    session.out.item(COLUMNS, &session.client.patch(&["keys", &id], body, version).await?)
}

/// Prints a key that was made now. People find it apart from the rest, and read that it does not come again.
fn secret(session: &Session<'_>, mut made: Value) -> Result<(), Failure> {
    let out = &session.out;
    if out.is_json() {
        return out.document(&made);
    }
    let key = made.as_object_mut().and_then(|fields| fields.remove("key"));
    out.item(COLUMNS, &made)?;
    match key.as_ref().and_then(Value::as_str) {
        Some(key) => out.say(&format!("\n{key}\n\nThis key is not shown again: only its hash is kept.")),
        None => Ok(()),
    }
}

fn number(id: &str) -> Result<Value, Failure> {
    id.parse::<i64>().map(Value::from).map_err(|_| Failure::Said(format!("there is no group {id}")))
}
