//! Speaking to providers: the OpenAI dialect, server-sent events, `Retry-After`, and one file for each
//! kind of provider. Nothing here decides where a call goes or whether it is tried again; that is
//! `gateway`.

pub mod client;
pub mod openai;
mod provider;
pub mod providers;
pub mod retry_after;
pub mod sse;
pub mod tokens;

pub use client::Client;
pub use provider::{BodyError, Inbound, InboundBody, Kind, Operation, Outbound, Provider, SendError};
