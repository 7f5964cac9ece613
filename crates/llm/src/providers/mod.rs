//! One file for each way of reaching a provider.

mod anthropic;
pub mod demo;
mod local;
mod openai;

pub use anthropic::Anthropic;
pub use local::Local;
pub use openai::{Endpoint, OpenAi};
