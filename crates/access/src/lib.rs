//! Who may do what, and how much: keys, roles and tokens, prices and money, limits, IP rules, audit.

mod access;
mod caller;
mod directory;
mod door;
pub mod identity;
pub mod ip;
mod journal;
mod ledger;
pub mod limits;
mod models;
pub mod prices;
mod rotation;
pub mod sealing;

pub use access::{Access, AccessError, FirstRun, Parts, SPEND, kept_of, new_key};
pub use caller::Caller;
pub use directory::BadKey;
pub use door::{Block, Door, Turned};
pub use ledger::{Account, Charge, Desk, JournalKind, Settling, Unpaid};
pub use models::ModelPatterns;
pub use rotation::RotationSettings;
pub use store::{UsageCall, now_ms};
