//! One file for each way of reaching a provider.

pub mod demo;
mod local;
mod openai;

pub use local::Local;
pub use openai::{Endpoint, OpenAi};
