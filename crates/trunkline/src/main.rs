//! The program `trunkline`.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;
use trunkline::settings::Env;

// Without huge pages (`no_thp` in Cargo.toml): they are quicker by little, and a thousand open streams took
// 83 MB with them and 60 MB without.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run(&cli::Cli::parse(), &Env::of_process())
}
