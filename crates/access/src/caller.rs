//! Who calls: what a key or a token was found to stand for.

use std::sync::Arc;

use crate::identity::Permissions;
use crate::ledger::Account;
use crate::limits::Limits;
use crate::models::ModelPatterns;

/// The identity that a request runs under, after its credential was checked. The same for a virtual key, an admin
/// token, the master key and a token of an identity provider.
#[derive(Debug)]
pub struct Caller {
    /// The key's id as text, `admin` for the master key, `token:SUBJECT` for a token: safe to log, never the
    /// credential itself.
    pub label: Arc<str>,
    /// The row of the key, where there is one.
    pub key_id: Option<i64>,
    /// What it may do.
    pub permissions: Permissions,
    /// Who pays for its model calls; none for who spends nothing.
    pub account: Option<Arc<Account>>,
    /// Whose it is.
    pub user: Option<Arc<str>>,
    /// The models it may call; none for all.
    pub models: Option<ModelPatterns>,
    /// Limits of its own, over the defaults of `limits.per_key`.
    pub limits: Option<Limits>,
    /// Limits of its group, over the defaults of `limits.per_group`.
    pub group_limits: Option<Limits>,
    /// Labels of its spending.
    pub tags: Vec<String>,
    /// When it ends, in milliseconds since the epoch.
    pub expires_at: Option<i64>,
    /// Works once: its row must be used up before anything is done for it.
    pub single_use: bool,
}

impl Caller {
    /// The permission that a model call needs.
    pub const CALL_MODELS: &'static str = "models:call";

    /// Whether it may do this, as `keys:write`.
    pub fn may(&self, permission: &str) -> bool {
        self.permissions.allows(permission)
    }

    /// Whether it may call this model, by the name the caller uses for it.
    pub fn may_call(&self, model: &str) -> bool {
        self.models.as_ref().is_none_or(|models| models.matches(model))
    }
}
