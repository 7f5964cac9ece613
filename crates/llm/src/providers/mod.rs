//! One file for each way of reaching a provider.

mod anthropic;
mod bedrock;
pub mod demo;
mod gemini;
mod local;
mod openai;

pub use anthropic::Anthropic;
pub use bedrock::{Aws, Bedrock, Framed};
pub use gemini::Gemini;
pub use local::Local;
pub use openai::{Endpoint, OpenAi};
