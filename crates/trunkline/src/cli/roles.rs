//! `trunkline roles`: names for permissions.

use serde_json::{Map, Value, json};

use super::admin_client::{Failure, Run, Session};
use super::output::{Column, text};

const COLUMNS: &[Column] =
    &[text("name", "name"), text("permissions", "permissions"), text("set in", "source")];

/// What to do with roles.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum RolesCommand {
    /// List roles with what they may do.
    List {
        /// At most so many. Default: all.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// Say what a role may do, and make it when it is not there.
    Set {
        /// Its name.
        name: String,
        /// What it may do, as `keys:read`, `usage:*` or `*:read`; these replace what it could do before.
        #[arg(required = true, value_name = "PERMISSION")]
        permissions: Vec<String>,
    },
    /// Remove a role that was made here.
    Remove {
        /// Its name.
        name: String,
    },
}

impl Run for RolesCommand {
    async fn run(&self, session: &Session<'_>) -> Result<(), Failure> {
        let Session { client, out, .. } = session;
        match self {
            RolesCommand::List { limit } => out.list(COLUMNS, client.pages(&["roles"], vec![], *limit)).await,
            RolesCommand::Set { name, permissions } => {
                let fields = Map::from_iter([("permissions".to_owned(), json!(permissions))]);
                let role: Value = client.set("roles", ("name", name), fields).await?;
                out.item(COLUMNS, &role)
            }
            RolesCommand::Remove { name } => {
                client.delete(&["roles", name]).await?;
                out.say(&format!("role {name} is removed"))
            }
        }
    }
}
