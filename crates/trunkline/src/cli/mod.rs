//! The command line: one file for each command.

mod admin_client;
mod audit;
mod config;
mod demo;
mod dlq;
mod groups;
mod health;
mod keys;
mod migrate;
mod models;
mod output;
mod prices;
mod providers;
mod roles;
mod serve;
mod usage;
mod vcon;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use trunkline::settings::Env;

use admin_client::Admin;

/// One binary that puts AI into production.
#[derive(Debug, clap::Parser)]
#[command(name = "trunkline", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Serve until SIGTERM or Ctrl-C.
    Serve(serve::ServeArgs),
    /// Start on a free port with a folder of its own, make real calls to every part, show them, and stop.
    Demo,
    /// Ask a running server whether it is healthy: exit code 0 if so, for container probes.
    Health(health::HealthArgs),
    /// Look at the settings.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Bring the database to the schema of this program, or show what that would do.
    Migrate(migrate::MigrateArgs),
    /// Groups of keys, with their balances and limits.
    Groups(Admin<groups::GroupsCommand>),
    /// Keys: who may call, and what.
    Keys(Box<Admin<keys::KeysCommand>>),
    /// Providers: who answers model calls.
    Providers(Admin<providers::ProvidersCommand>),
    /// Aliases of models, and where they lead.
    Models(Admin<models::ModelsCommand>),
    /// What models cost.
    Prices(Admin<prices::PricesCommand>),
    /// Roles, and what they may do.
    Roles(Admin<roles::RolesCommand>),
    /// What was used, by whom, and what it cost.
    Usage(Admin<usage::UsageCommand>),
    /// vCons: send, show, find, follow.
    Vcon(Admin<vcon::VconCommand>),
    /// Dead letters of vCons.
    Dlq(Admin<dlq::DlqCommand>),
    /// Who did what, and whether the log of it is whole.
    Audit(Admin<audit::AuditCommand>),
}

/// Runs the command.
pub fn run(cli: &Cli, env: &Env) -> ExitCode {
    match &cli.command {
        Command::Serve(args) => serve::run(args, env),
        Command::Demo => demo::run(),
        Command::Health(args) => health::run(args, env),
        Command::Config(command) => config::run(command, env),
        Command::Migrate(args) => migrate::run(args, env),
        Command::Groups(args) => admin_client::run(args, env),
        Command::Keys(args) => admin_client::run(args, env),
        Command::Providers(args) => admin_client::run(args, env),
        Command::Models(args) => admin_client::run(args, env),
        Command::Prices(args) => admin_client::run(args, env),
        Command::Roles(args) => admin_client::run(args, env),
        Command::Usage(args) => admin_client::run(args, env),
        Command::Vcon(args) => admin_client::run(args, env),
        Command::Dlq(args) => admin_client::run(args, env),
        Command::Audit(args) => admin_client::run(args, env),
    }
}

/// A runtime for what the command itself does. Requests are served by threads of their own.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// A client for a server on this machine. Its certificate, if it has one, names the public host and not the
/// loopback address that we ask at; what matters here is that it answers.
fn loopback_client(timeout: Duration) -> reqwest::Result<reqwest::Client> {
    // Who installed one before us chose a provider as good as ours.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().timeout(timeout).no_proxy().tls_danger_accept_invalid_certs(true).build()
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    fn reads(line: &str) -> Result<(), i32> {
        let words = std::iter::once("trunkline").chain(line.split_whitespace());
        Cli::try_parse_from(words).map(drop).map_err(|error| error.exit_code())
    }

    #[test]
    fn good_lines_are_read() {
        for line in [
            "groups list --json --url https://a.example --cacert ca.pem --timeout 5s",
            "groups --json create team-a --balance 12.50 --limits requests_per_minute=60,burst=unlimited",
            "groups adjust team-a -0.5 --description typo",
            "groups edit 7 --unlimited false --clear external_id,limits --if-version 3",
            "groups transactions 7 --limit 5",
            "keys create app --group 7 --model gpt-4*,openai/* --tag a --tag b --expires 90d --rotate-every 90d",
            "keys create root --role admin --key-file /run/key",
            "keys create app --group 7 --role caller",
            "keys rotate app --overlap 0s --idempotency-key x",
            "keys import - --group 7",
            "providers add lab --kind openai-compatible --base-url http://lab/v1 --api-key-env LAB_KEY",
            "providers add lab --file lab.json",
            "providers keys add lab --api-key-file -",
            "models set smart --target openai/gpt-4.1 --target lab/org/model",
            "prices set lab/* --request 0.001 --as-of 2026-11-20",
            "prices import prices.json --format litellm",
            "prices list --source built-in --search gpt",
            "roles set support keys:read usage:*",
            "usage summary --by day,model --from 7d --to 2026-11-20",
            "usage export --by key --format json -o usage.json",
            "audit list --actor admin --from 2026-11-20T22:00:00Z",
            "audit verify",
            "vcon submit a.json - --list incoming_calls --list other",
            "vcon search --tel +15551234567 --text hello --limit 5",
            "vcon tail --uuid 018e3d10-0c1f-8d8c-9b1a-5f9b1c6f0a11",
            "dlq replay incoming_calls --count 5",
            "dlq purge incoming_calls --all",
            "config export -o all.json",
            "config import all.json --merge --key-file key",
            "migrate --plan --config trunkline.yaml",
        ] {
            assert_eq!(reads(line), Ok(()), "{line}");
        }
    }

    #[test]
    fn bad_lines_end_with_2() {
        for line in [
            "groups",
            "groups create",
            "groups credit team-a",
            "groups credit team-a NaN",
            "groups credit team-a 1e3",
            "groups adjust team-a --5",
            "groups create a --limits requests_per_minute",
            "keys create app",
            "keys create app --group 7 --expires tomorrow",
            "keys create app --group 7 --key tl-admin-1",
            "keys rotate app --overlap 7",
            "providers add lab",
            "providers add lab --kind demo --api-key sk-1",
            "providers add lab --kind demo --api-key-env A --api-key-file b",
            "models set smart --target gpt-4.1",
            "prices import prices.json",
            "roles set support",
            "usage summary --by week",
            "audit verify --url nowhere",
            "vcon submit",
            "dlq purge incoming_calls",
            "migrate --plan=maybe",
        ] {
            assert_eq!(reads(line), Err(2), "{line}");
        }
    }
}
