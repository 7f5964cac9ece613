//! Fakes for tests: a provider with scripted faults, a client that sees every byte, an OTLP collector.
//!
//! [`Upstream`] is a fake provider of OpenAI's API over raw TCP. A test gives it a script of
//! [`Behaviour`]s, one for each request, and reads afterwards what it received. [`Client`] stands on the
//! other side of the gateway and reports the exact bytes and how the body ended. [`Collector`] takes
//! the traces and metrics that the gateway exports. [`Web`] is any other service over HTTP, played by a closure. [`Fault`] names the faults that a gateway must survive.
//! [`oidc::Issuer`] signs tokens, good and forged. [`services`] lends real PostgreSQL, Redis and RabbitMQ.
//!
//! Every fake runs on a thread and runtime of its own, listens on a free port of 127.0.0.1, and stops
//! when it is dropped. So it works under any test runtime, also when the test blocks.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "development only: a fake that cannot do its work must fail the test loudly"
)]

mod ask;
mod behaviour;
pub mod chat;
mod client;
mod collector;
pub mod completions;
mod faults;
pub mod native;
pub mod oidc;
mod reply;
pub mod responses;
mod server;
pub mod services;
mod upstream;
mod web;
mod wire;

pub use ask::{Ask, Surface};
pub use behaviour::{Behaviour, Cut};
pub use client::{Client, Response, StreamResponse};
pub use collector::{Collector, attribute};
pub use faults::Fault;
pub use reply::{Ending, Framing, Piece, Reply};
pub use upstream::{Received, Upstream};
pub use web::Web;
