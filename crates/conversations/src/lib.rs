//! Conversations: vCons, the chains that take them through links into storages, and the worker that does it.

pub mod environment;
pub mod link;
pub mod links;
pub mod meters;
pub mod options;
pub mod storage;
pub mod storages;
#[cfg(test)]
mod testing;
pub mod vcon;

pub use environment::{Environment, Variables};
pub use link::{Link, LinkContext, LinkError, Next};
pub use meters::Meters;
pub use options::OptionsError;
pub use storage::{Storage, StorageContext, StorageError};
pub use vcon::{Analysis, List, Object, Vcon, VconError};
