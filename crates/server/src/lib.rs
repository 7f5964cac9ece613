//! All HTTP: listeners, TLS, the router, identity, and what every surface's errors look like.
//!
//! A connection is accepted by `listen`, served by one worker of `workers`, each request passes `edge` (id,
//! identity, account) and the table of contents that is `router`, and ends in a file below `routes`.

mod admin;
mod body;
mod configuration;
mod dependencies;
mod edge;
mod error;
mod listen;
mod router;
mod routes;
mod server;
pub mod settings;
mod state;
mod tls;
mod workers;

pub use configuration::{Configuration, ConfigurationError, FileConfiguration};
pub use dependencies::Dependency;
pub use server::{Parts, Server, StartError};
pub use state::Build;
