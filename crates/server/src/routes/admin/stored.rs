//! Fields that the Store keeps as JSON text, and editing what others may edit, too.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::admin::Change;

/// How often a change is tried again that met another's.
pub(super) const TRIES: u32 = 5;

/// A field as it was kept. What cannot be read any more is as what was never set: a list must not fail for
/// one row.
pub(super) fn read<T: DeserializeOwned>(text: Option<String>) -> Option<T> {
    serde_json::from_str(&text?)
        .inspect_err(|error| tracing::error!(%error, "a stored field cannot be read"))
        .ok()
}

/// A field as it is kept. What our own types say is always JSON.
pub(super) fn write<T: Serialize>(value: Option<&T>) -> Option<String> {
    serde_json::to_string(value?).inspect_err(|error| tracing::error!(%error, "a field cannot be kept")).ok()
}

/// A field after a change.
pub(super) fn change<T: Serialize>(change: Change<T>, before: Option<String>) -> Option<String> {
    match change {
        Change::Keep => before,
        Change::Clear => None,
        Change::Set(value) => write(Some(&value)),
    }
}
