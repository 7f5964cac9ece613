//! The program `trunkline`.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;
use trunkline::settings::Env;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run(&cli::Cli::parse(), &Env::of_process())
}
