//! Who may do what: for now the admin key and the default virtual key, stored hashed.

mod keyring;

pub use keyring::{FirstRun, Keyring, KeyringError};
