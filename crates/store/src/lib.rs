//! The database: SQLite by default, PostgreSQL by URL. One schema, one set of queries.

mod audit;
mod cache;
mod db;
mod error;
mod events;
mod groups;
mod idempotency;
mod keys;
mod ledger;
mod meta;
mod migrate;
mod notifications;
mod queue;
mod resources;
mod responses;
pub mod settings;
mod sql;
#[cfg(test)]
mod testing;
mod time;
mod usage;
mod vcons;

pub use audit::{AuditEntry, AuditFilter, AuditRow, BadRow, Link, Verified};
pub use cache::StoreCache;
pub use db::{Db, Engine, PoolState};
pub use error::StoreError;
pub use events::PostgresEvents;
pub use groups::{Group, GroupFields, TransactionKind, TransactionRow};
pub use idempotency::{Claim, IDEMPOTENCY_KEEP_MS, Idempotency};
pub use keys::{KeyFields, KeyFilter, KeyRow, NewKey};
pub use ledger::{Applied, Batch, Ended, Grant, Reservation, Silent, SpendAlert};
pub use meta::Change;
pub use migrate::{MIGRATIONS, Migration};
pub use notifications::{Notice, NotificationRow};
pub use queue::StoreQueue;
pub use resources::{Imported, MANY, Resource, ResourceDraft};
pub use responses::{Place, StoredResponse};
pub use time::now_ms;
pub use usage::{
    Calls, Dimension, RequestFilter, RequestRow, USAGE_FORM, USAGE_ROWS, UsageCall, UsageOf, UsageQuery,
    UsageRecord, UsageRow, UsageSummary, UsageSums,
};
pub use vcons::StoreVcons;
