//! The vocabulary every other crate shares: ids, trace context, money, error kinds, units and
//! usage. Nothing here does I/O, spawns or locks, and it stays small: a type belongs here only when two
//! crates that may not know each other both need it.

mod error;
mod ids;
mod models;
mod money;
pub mod seams;
mod secret;
pub mod sigv4;
mod trace;
mod units;
mod usage;
pub mod vcons;

pub use error::Kind;
pub use ids::RequestId;
pub use models::{ModelCaller, ModelError, Models, Transcription};
pub use money::{Money, MoneyError};
pub use secret::Secret;
pub use trace::TraceContext;
pub use units::{ByteSize, Duration};
pub use usage::{Outcome, Usage};
