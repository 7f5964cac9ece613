//! Benchmarks that run Trunkline beside something else, in one run, on one machine.
//!
//! `bench gateway` measures the path of one model call against calling the provider directly and against nginx
//! as a plain reverse proxy. `bench conversations` measures the pipeline of vCons. The method is in
//! `docs/benchmarks.md`.

mod conversations;
mod gateway;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What a step of a benchmark gives back; the error is the sentence that makes the run invalid.
type Outcome<T> = Result<T, String>;

/// Side-by-side benchmarks of Trunkline.
#[derive(Parser)]
#[command(name = "bench", max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The gateway beside a direct call and beside nginx: latency, throughput, CPU, memory, start-up.
    Gateway(gateway::Options),
    /// The pipeline of vCons: posts, the way through a chain into files; CPU, memory, latency.
    Conversations(conversations::Options),
    /// The provider that `gateway` measures against; it starts this itself, as a process of its own.
    #[command(hide = true)]
    Mock(gateway::mock::Options),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Gateway(options) => ended(gateway::run(&options), options.gate),
        Command::Conversations(options) => ended(conversations::run(&options), options.gate),
        Command::Mock(options) => match gateway::mock::run(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => {
                eprintln!("mock: {reason}");
                ExitCode::FAILURE
            }
        },
    }
}

/// How a benchmark ended: whether all targets were met, or why its figures mean nothing.
fn ended(run: Outcome<bool>, gate: bool) -> ExitCode {
    match run {
        Ok(false) if gate => ExitCode::from(2),
        Ok(_) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("\n*** THE RUN IS INVALID: its figures mean nothing ***\n{reason}");
            ExitCode::FAILURE
        }
    }
}
