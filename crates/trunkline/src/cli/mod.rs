//! The command line: one file for each command.

mod config;
mod demo;
mod health;
mod serve;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use trunkline::settings::Env;

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
}

/// Runs the command.
pub fn run(cli: &Cli, env: &Env) -> ExitCode {
    match &cli.command {
        Command::Serve(args) => serve::run(args, env),
        Command::Demo => demo::run(),
        Command::Health(args) => health::run(args, env),
        Command::Config(command) => config::run(command, env),
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
