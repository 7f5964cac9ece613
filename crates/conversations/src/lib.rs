//! Conversations: vCons, the chains that take them through links into storages, and the worker that does it.

pub mod config;
pub mod environment;
pub mod fetch;
mod finish;
mod followers;
mod intake;
pub mod link;
pub mod links;
pub mod meters;
mod metrics;
pub mod options;
mod pipeline;
pub mod plan;
mod run;
pub mod settings;
pub mod storage;
pub mod storages;
mod terms;
#[cfg(test)]
mod testing;
pub mod vcon;
mod worker;

pub use environment::{Environment, Variables};
pub use fetch::{Fetcher, UrlPolicy};
pub use link::{Link, LinkContext, LinkError, Next};
pub use meters::Meters;
pub use options::OptionsError;
pub use pipeline::{Configure, Conversations, Door, Event, Parts, PipelineError, Posted, Progress, Refused};
pub use settings::ConversationSettings;
pub use storage::{Storage, StorageContext, StorageError};
pub use vcon::{Analysis, List, Object, Vcon, VconError};
