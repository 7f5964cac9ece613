//! What can go wrong with the Store.

use base::Kind;

/// Why the Store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database said no, or did not answer. For the log, not for callers.
    #[error("the database: {0}")]
    Database(#[source] sqlx::Error),
    /// There is no such row.
    #[error("there is no {what}")]
    NotFound {
        /// What was looked for, as `group 7`.
        what: String,
    },
    /// The name is taken.
    #[error("{what} exists already")]
    Exists {
        /// What, as ``a group named `team-a` ``.
        what: String,
    },
    /// Somebody else changed it since it was read.
    #[error("{what} was changed meanwhile: read it again and repeat the change")]
    Changed {
        /// What, as `group 7`.
        what: String,
    },
    /// Something else needs it.
    #[error("{what} is used by {by}")]
    InUse {
        /// What, as `group 7`.
        what: String,
        /// By what, and what to do first.
        by: String,
    },
    /// What is asked cannot be.
    #[error("{0}")]
    Invalid(String),
    /// The schema does not fit this program.
    #[error("{0}")]
    Schema(String),
}

impl StoreError {
    /// Its kind, the bridge to a status.
    pub fn kind(&self) -> Kind {
        match self {
            StoreError::Database(_) => Kind::Unavailable,
            StoreError::NotFound { .. } => Kind::NotFound,
            StoreError::Exists { .. } | StoreError::InUse { .. } => Kind::Conflict,
            StoreError::Changed { .. } => Kind::Changed,
            StoreError::Invalid(_) => Kind::Invalid,
            StoreError::Schema(_) => Kind::Internal,
        }
    }

    /// No statement reached the database: what was to be done certainly was not.
    pub fn was_not_tried(&self) -> bool {
        matches!(self, StoreError::Database(sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed))
    }

    /// A row was not there.
    pub(crate) fn missing(what: impl Into<String>) -> Self {
        StoreError::NotFound { what: what.into() }
    }

    /// An insert or a rename that met a name that is taken; other errors stay what they are.
    pub(crate) fn or_exists(error: sqlx::Error, what: impl FnOnce() -> String) -> Self {
        match &error {
            sqlx::Error::Database(db) if db.is_unique_violation() => StoreError::Exists { what: what() },
            _ => StoreError::Database(error),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        StoreError::Database(error)
    }
}
