//! What a command of the admin API runs in.

use std::process::ExitCode;

use trunkline::settings::Env;

use super::{Client, Failure, ServerArgs};
use crate::cli::output::Output;

/// Commands of one area, with what all of them take.
#[derive(Clone, Debug, clap::Args)]
pub struct Admin<C: clap::Subcommand> {
    #[command(subcommand)]
    command: C,
    #[command(flatten)]
    server: ServerArgs,
}

/// What a command has.
#[derive(Debug)]
pub struct Session<'e> {
    /// The server.
    pub client: Client,
    /// Where the answer goes.
    pub out: Output,
    /// The environment.
    pub env: &'e Env,
}

/// A command of the admin API.
pub trait Run {
    /// Does it and prints what came of it.
    async fn run(&self, session: &Session<'_>) -> Result<(), Failure>;
}

/// Runs a command. The exit code is 1 when it failed, which stderr says.
pub fn run<C: clap::Subcommand + Run>(args: &Admin<C>, env: &Env) -> ExitCode {
    run_with(&args.command, &args.server, env)
}

/// The same with arguments that stand elsewhere.
pub fn run_with(command: &impl Run, server: &ServerArgs, env: &Env) -> ExitCode {
    let done = crate::cli::runtime().map_err(|error| Failure::setup(error.to_string())).and_then(|runtime| {
        let out = Output::stdout(server.json);
        runtime.block_on(work(command, server, env, out))
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(Failure::Told) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Does it and writes out all of what it printed.
async fn work(command: &impl Run, server: &ServerArgs, env: &Env, out: Output) -> Result<(), Failure> {
    let session = Session { client: server.client(env)?, out, env };
    let done = command.run(&session).await;
    // What was printed before a failure is worth reading, too.
    session.out.flush()?;
    done
}

#[cfg(test)]
impl<C: clap::Subcommand + Run> Admin<C> {
    /// Runs it with another place to print to.
    pub async fn run_into(&self, env: &Env, to: Box<dyn std::io::Write>) -> Result<(), Failure> {
        work(&self.command, &self.server, env, Output::new(self.server.json, to)).await
    }
}
