//! Benchmarks that run Trunkline beside something else, in one run, on one machine.
//!
//! `bench gateway` measures the path of one model call against calling the provider directly and against nginx
//! as a plain reverse proxy. The method is in `docs/benchmarks.md`.

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
    /// The provider that `gateway` measures against; it starts this itself, as a process of its own.
    #[command(hide = true)]
    Mock(gateway::mock::Options),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Gateway(options) => match gateway::run(&options) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) if options.gate => ExitCode::from(2),
            Ok(false) => ExitCode::SUCCESS,
            Err(reason) => {
                eprintln!("\n*** THE RUN IS INVALID: its figures mean nothing ***\n{reason}");
                ExitCode::FAILURE
            }
        },
        Command::Mock(options) => match gateway::mock::run(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => {
                eprintln!("mock: {reason}");
                ExitCode::FAILURE
            }
        },
    }
}
