//! `trunkline groups`: who pays, and how much is left.

use serde::Serialize;
use serde_json::{Value, json};

use super::admin_client::{
    Clear, Failure, Once, Pair, Run, Session, amount, body, cleared, id_of, named, pair, setting,
};
use super::output::{Column, id, money, text, time};

const COLUMNS: &[Column] = &[
    id("id", "id"),
    text("name", "name"),
    money("balance ($)", "balance"),
    money("held ($)", "held"),
    money("spent ($)", "spent"),
    text("description", "description"),
    time("created (UTC)", "created_at"),
];
const DETAILS: &[Column] = &[
    id("id", "id"),
    text("name", "name"),
    money("balance ($)", "balance"),
    money("held ($)", "held"),
    money("credited ($)", "credited"),
    money("spent ($)", "spent"),
    text("description", "description"),
];
const TRANSACTION: &[Column] = &[
    id("id", "id"),
    time("at (UTC)", "at"),
    text("kind", "kind"),
    money("amount ($)", "amount"),
    money("balance after ($)", "balance_after"),
    text("by", "actor"),
    text("description", "description"),
];

/// What to do with groups. GROUP is an id or a name.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum GroupsCommand {
    /// List groups with their balances.
    List {
        /// Only the group of this name.
        #[arg(long)]
        name: Option<String>,
        /// At most so many. Default: all.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// Show one group.
    Show {
        /// Which.
        group: String,
    },
    /// Make a group.
    Create(Create),
    /// Change a group; what is not named stays.
    Edit(Edit),
    /// Add to a group's balance.
    Credit(Amount),
    /// Give back what was paid for.
    Refund(Amount),
    /// Put a balance right, up or down.
    Adjust(Amount),
    /// List what changed a group's balance apart from calls.
    Transactions {
        /// Of which group.
        group: String,
        /// At most so many. Default: all.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// Remove a group that has no keys.
    Delete {
        /// Which.
        group: String,
    },
}

/// A new group.
#[derive(Clone, Debug, clap::Args, Serialize)]
pub struct Create {
    /// Its name, unique.
    name: String,
    /// For people.
    #[arg(long)]
    description: Option<String>,
    /// What it begins with, in dollars, as `12.50`.
    #[arg(long, value_name = "DOLLARS", value_parser = amount)]
    balance: Option<String>,
    /// It spends without a balance.
    #[arg(long)]
    unlimited: bool,
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
    /// Which group.
    #[serde(skip)]
    group: String,
    /// A new name.
    #[arg(long)]
    name: Option<String>,
    /// For people.
    #[arg(long)]
    description: Option<String>,
    /// Whether it spends without a balance.
    #[arg(long, value_name = "BOOL")]
    unlimited: Option<bool>,
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
    /// Your own id for it.
    #[arg(long, value_name = "ID")]
    external_id: Option<String>,
    /// Limits, as `requests_per_minute=60,tokens_per_day=1000000`; `unlimited` lifts one.
    #[arg(long, value_name = "NAME=N", value_delimiter = ',', value_parser = setting)]
    #[serde(serialize_with = "named")]
    limits: Vec<Pair>,
    /// Your own notes; they replace those that are there. May be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    #[serde(serialize_with = "named")]
    metadata: Vec<Pair>,
}

/// Money for a group.
#[derive(Clone, Debug, clap::Args)]
pub struct Amount {
    /// Which group.
    group: String,
    /// Dollars, as `12.50`; an adjustment may be negative.
    #[arg(value_name = "DOLLARS", value_parser = amount, allow_negative_numbers = true)]
    amount: String,
    /// Why.
    #[arg(long)]
    description: Option<String>,
    #[command(flatten)]
    once: Once,
}

impl Run for GroupsCommand {
    async fn run(&self, session: &Session<'_>) -> Result<(), Failure> {
        let Session { client, out, .. } = session;
        match self {
            GroupsCommand::List { name, limit } => {
                let query = name.iter().map(|name| ("name", name.clone())).collect();
                out.list_as(COLUMNS, client.pages(&["groups"], query, *limit), unlimited).await
            }
            GroupsCommand::Show { group } => {
                let id = id_of(client, "groups", group).await?;
                show(session, client.get(&["groups", &id], &vec![]).await?)
            }
            GroupsCommand::Create(create) => {
                let body = Value::Object(body(create)?);
                show(session, client.create(&["groups"], &body, &create.once).await?)
            }
            GroupsCommand::Edit(edit) => {
                let body = cleared(body(edit)?, &edit.clear)?;
                let id = id_of(client, "groups", &edit.group).await?;
                show(session, client.patch(&["groups", &id], &body, edit.if_version).await?)
            }
            GroupsCommand::Credit(amount) => pay(session, "credits", amount).await,
            GroupsCommand::Refund(amount) => pay(session, "refunds", amount).await,
            GroupsCommand::Adjust(amount) => pay(session, "adjustments", amount).await,
            GroupsCommand::Transactions { group, limit } => {
                let id = id_of(client, "groups", group).await?;
                let path = ["groups", &id, "transactions"];
                out.list(TRANSACTION, client.pages(&path, vec![], *limit)).await
            }
            GroupsCommand::Delete { group } => {
                let id = id_of(client, "groups", group).await?;
                client.delete(&["groups", &id]).await?;
                out.say(&format!("group {id} is deleted"))
            }
        }
    }
}

fn show(session: &Session<'_>, mut group: Value) -> Result<(), Failure> {
    if !session.out.is_json() {
        unlimited(&mut group);
    }
    session.out.item(DETAILS, &group)
}

/// For people, a group without a balance says why it has none.
fn unlimited(group: &mut Value) {
    if group.get("unlimited") == Some(&Value::Bool(true)) && group.get("balance") == Some(&Value::Null) {
        group["balance"] = "unlimited".into();
    }
}

async fn pay(session: &Session<'_>, what: &str, pay: &Amount) -> Result<(), Failure> {
    let id = id_of(&session.client, "groups", &pay.group).await?;
    let mut body = json!({"amount": pay.amount});
    if let Some(description) = &pay.description {
        body["description"] = description.as_str().into();
    }
    let done = session.client.create(&["groups", &id, what], &body, &pay.once).await?;
    session.out.item(TRANSACTION, &done)
}
