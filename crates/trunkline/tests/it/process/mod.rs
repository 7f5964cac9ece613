//! The real program: started as an operator starts it, told by files, variables and signals, judged by what
//! it answers, prints and exits with.

mod cli;
mod commands;
mod environment;
mod first_run;
mod health;
mod listening;
mod logs;
mod pool;
pub mod program;
mod reload;
mod resilience;
mod rolling;
mod secrets;
mod shutdown;
mod tls;

pub use program::{Finished, Process, Program};
