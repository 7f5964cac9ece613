//! Who is asking.

use std::sync::Arc;

/// What a principal may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The master key: everything.
    Admin,
    /// A virtual key: model calls.
    Caller,
}

/// The identity a request runs under, after its credential was checked. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The id of the key, safe to log (never the key itself).
    pub key_id: Arc<str>,
    /// What it may reach.
    pub role: Role,
}
