//! A storage: where vCons go at the end of a chain, and where they are looked for when we do not have them.

use async_trait::async_trait;
use base::TraceContext;
use base::seams::SeamError;

use crate::vcon::Vcon;

/// Where vCons are kept for good. It is made once, and used for many vCons at once.
#[async_trait]
pub trait Storage: Send + Sync {
    /// The module it is, as `storage.file`.
    fn module(&self) -> &'static str;

    /// Keeps a vCon, over what it had of the same uuid. When this returns it is safe there. May be called again
    /// for the same vCon.
    async fn save(&self, vcon: &Vcon, context: &StorageContext) -> Result<(), StorageError>;

    /// The vCon, if it is there. A storage that only takes has none.
    async fn get(&self, uuid: &str) -> Result<Option<Vcon>, StorageError> {
        let _ = uuid;
        Ok(None)
    }

    /// Forgets a vCon; whether it was there. A storage that only takes forgets nothing.
    async fn delete(&self, uuid: &str) -> Result<bool, StorageError> {
        let _ = uuid;
        Ok(false)
    }
}

/// What a save knows of where it is.
#[derive(Clone, Debug)]
pub struct StorageContext {
    /// The span of this storage, for calls that it makes (`traceparent`).
    pub trace: TraceContext,
    /// The name of the storage in the configuration.
    pub name: std::sync::Arc<str>,
}

/// Why a storage did not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// It may work later: it is tried again, and dead-lettered after the last attempt.
    #[error("{0}")]
    Temporary(String),
    /// It will never work for this vCon: it is dead-lettered at once.
    #[error("{0}")]
    Permanent(String),
}

impl StorageError {
    /// It may work later.
    pub fn temporary(reason: impl Into<String>) -> Self {
        StorageError::Temporary(reason.into())
    }

    /// It will never work.
    pub fn permanent(reason: impl Into<String>) -> Self {
        StorageError::Permanent(reason.into())
    }

    /// Whether it may work later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, StorageError::Temporary(_))
    }
}

impl From<SeamError> for StorageError {
    fn from(error: SeamError) -> Self {
        match error.is_temporary() {
            true => StorageError::Temporary(error.to_string()),
            false => StorageError::Permanent(error.to_string()),
        }
    }
}

impl From<reqwest::Error> for StorageError {
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let reason = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        match error.is_builder() {
            true => StorageError::Permanent(reason),
            false => StorageError::Temporary(reason),
        }
    }
}

impl From<std::io::Error> for StorageError {
    fn from(error: std::io::Error) -> Self {
        StorageError::Temporary(error.to_string())
    }
}
