//! What every backend of a seam must do, whatever stands behind it. Each is run against the real server.
//!
//! The functions fail by `assert!`, and by `Err` when a call fails that must not. `name` keeps runs apart that
//! share a server.

mod blobs;
mod cache;
mod events;
mod ledger;
mod queue;

pub use blobs::blobs;
pub use cache::cache;
pub use events::events;
pub use ledger::ledger;
pub use queue::queue;
