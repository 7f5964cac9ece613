//! Speaking to providers: the dialects, server-sent events, `Retry-After`, and one file for each kind of
//! provider. Nothing here decides where a call goes or whether it is tried again; that is
//! `gateway`.

pub mod client;
mod dialect;
pub mod dialects;
pub mod eventstream;
pub mod form;
mod kind;
pub mod openai;
mod operation;
mod provider;
pub mod providers;
pub mod retry_after;
pub mod sse;
pub mod tokens;

pub use client::Client;
pub use dialect::{Dialect, Egress, Ingress, StreamReader, StreamWriter};
pub use kind::{Kind, Protocol};
pub use operation::Operation;
pub use provider::{AskKept, BodyError, Inbound, InboundBody, Outbound, Provider, SendError};
