//! The life of one model call: which target, how often to try, when to leave one alone, how a stream is
//! relayed, and what it all used.
//!
//! [`Gateway::call`] is the one way to a model. A call is read (`llm::openai`), given its targets
//! (`snapshot`), tried (`gateway`, `attempt`, judged by `failure` and `breaker`), and handed back whole or as
//! a [`Relay`]. Its [`Meter`] goes along and is closed exactly once.

mod attempt;
mod breaker;
mod control;
mod convert;
mod count;
mod error;
mod failure;
mod gateway;
mod kept;
mod keys;
mod meter;
mod metrics;
mod reader;
mod relay;
pub mod settings;
mod snapshot;
mod spans;
mod strategy;

pub use breaker::BreakerState;
pub use control::{Control, Probe, check_provider, probe};
pub use count::Count;
pub use error::Error;
pub use gateway::{Call, CallError, Gateway, Reply, TargetState};
pub use kept::{Earlier, Kept};
pub use meter::{Facts, Meter};
pub use relay::Relay;
pub use snapshot::GatewaySettings;
