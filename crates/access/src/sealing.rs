//! Secrets at rest.
//!
//! What the API stores and must send again (a provider's key, a webhook's secret) cannot be a hash. It is
//! sealed: encrypted with AES-256-GCM under a random *data key*, which itself stands in the Store wrapped under
//! a key derived from the master key. So a copy of the Store alone opens nothing, the master key can change
//! without touching what is sealed, and the data key can change without touching the master key.
//!
//! Sealed text is `sealed:v1:<key id>:<base64url of nonce, ciphertext, tag>`. The [`Binding`] says where it
//! belongs and is authenticated with it: a sealed text that somebody with write access to the Store moves to
//! another row or field does not open there.
//!
//! What this protects from is a stolen Store, backup or disk. It does not protect from somebody who has the
//! master key, or the memory of the process.

mod keys;
mod wrap;

use std::collections::HashMap;
use std::sync::Arc;

use base::{Kind, Secret};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use keys::{DataKey, NONCE};
pub use wrap::{Derivation, WrappedKey, WrappedKeys};

/// What every sealed text begins with.
const PREFIX: &str = "sealed:v1:";
/// The longest secret.
const MAX_PLAIN: usize = 64 << 10;
/// The most data keys that are kept; each rotation adds one.
pub const MAX_KEYS: usize = 64;

/// Why something cannot be sealed or opened. No text holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealingError {
    /// Not a sealed text.
    #[error(
        "this is no sealed text, or only a part of one: restore it from a backup, or set the secret anew"
    )]
    Malformed,
    /// The key is not among ours.
    #[error(
        "the secret is sealed with the data key `{0}`, which is not here: restore the data keys from a backup"
    )]
    UnknownKey(String),
    /// Changed, or moved.
    #[error(
        "the sealed secret was changed, or belongs to another row or field: restore it from a backup, or set it anew"
    )]
    Tampered,
    /// Another master key.
    #[error(
        "the data keys do not open under this master key: start with the one they were wrapped under, or rewrap them"
    )]
    WrongMaster,
    /// The wrapped keys are not what we wrote.
    #[error("the wrapped data keys are damaged ({0}): restore them from a backup")]
    Damaged(&'static str),
    /// A secret beyond all reason.
    #[error("a secret may have at most 64 KiB")]
    TooLong,
    /// Rotated too often.
    #[error("there are {MAX_KEYS} data keys: re-seal everything and retire old ones before another rotation")]
    TooManyKeys,
    /// An empty master key.
    #[error("the master key is empty")]
    NoMaster,
    /// No random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

impl SealingError {
    /// Seen from a caller's side: all but a secret that is too long is our own fault.
    pub fn kind(&self) -> Kind {
        match self {
            SealingError::TooLong => Kind::Invalid,
            _ => Kind::Internal,
        }
    }
}

/// Where a secret belongs. A row that is renamed must be sealed anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding<'a> {
    /// What it is part of, as `provider`.
    pub kind: &'a str,
    /// Which one, as `openai`.
    pub name: &'a str,
    /// Which part, as `api_key`.
    pub field: &'a str,
}

impl Binding<'_> {
    /// The bytes that are authenticated. Each part has its length before it, so that no two bindings are the
    /// same bytes.
    fn bytes(&self, key_id: &str) -> Vec<u8> {
        let mut bytes = Vec::from(PREFIX);
        for part in [key_id, self.kind, self.name, self.field] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

/// Seals and opens. Cheap to clone; rotation makes a new one.
#[derive(Clone, Debug)]
pub struct Sealer {
    keys: Arc<HashMap<String, DataKey>>,
    current: String,
}

impl Sealer {
    /// The first data key, and what to store. Two replicas that start at once both make one: store it only where
    /// there is none, and open ([`Sealer::new`]) what is then stored.
    pub fn create(master: &Secret) -> Result<(Sealer, WrappedKeys), SealingError> {
        let key = DataKey::random()?;
        let current = key.id.clone();
        let sealer = Sealer { keys: Arc::new(HashMap::from([(current.clone(), key)])), current };
        let wrapped = sealer.wrap(master)?;
        Ok((sealer, wrapped))
    }

    /// A data key of its own for what leaves this installation, wrapped under a passphrase that people remember:
    /// however long it is, each guess at it is made dear.
    pub fn for_passphrase(passphrase: &Secret) -> Result<(Sealer, WrappedKeys), SealingError> {
        let key = DataKey::random()?;
        let current = key.id.clone();
        let sealer = Sealer { keys: Arc::new(HashMap::from([(current.clone(), key)])), current };
        let wrapped = wrap::wrap_stretched(passphrase, &sealer.keys, &sealer.current)?;
        Ok((sealer, wrapped))
    }

    /// Opens stored data keys with the master key.
    pub fn new(master: &Secret, wrapped: &WrappedKeys) -> Result<Sealer, SealingError> {
        let keys = wrap::unwrap(master, wrapped)?;
        if !keys.contains_key(&wrapped.current) {
            return Err(SealingError::Damaged("the current key is not among them"));
        }
        Ok(Sealer { keys: Arc::new(keys), current: wrapped.current.clone() })
    }

    /// The data keys wrapped under a master key: under a new one, that is its rotation. What is sealed stays as
    /// it is.
    pub fn wrap(&self, master: &Secret) -> Result<WrappedKeys, SealingError> {
        wrap::wrap(master, &self.keys, &self.current)
    }

    /// A sealer with a new data key, which seals from now on; the old ones still open. Store what it returns
    /// before anything is sealed with it, then [`reseal`](Self::reseal) at leisure.
    pub fn rotate(&self, master: &Secret) -> Result<(Sealer, WrappedKeys), SealingError> {
        if self.keys.len() >= MAX_KEYS {
            return Err(SealingError::TooManyKeys);
        }
        let mut keys = HashMap::clone(&self.keys);
        let key = DataKey::random()?;
        let current = key.id.clone();
        keys.insert(current.clone(), key);
        let sealer = Sealer { keys: Arc::new(keys), current };
        let wrapped = sealer.wrap(master)?;
        Ok((sealer, wrapped))
    }

    /// A sealer without the old data keys, once nothing is sealed with them any more.
    pub fn retire_old(&self, master: &Secret) -> Result<(Sealer, WrappedKeys), SealingError> {
        let current = self.keys.get(&self.current).ok_or(SealingError::Damaged("no current key"))?;
        let keys = HashMap::from([(self.current.clone(), current.clone())]);
        let sealer = Sealer { keys: Arc::new(keys), current: self.current.clone() };
        let wrapped = sealer.wrap(master)?;
        Ok((sealer, wrapped))
    }

    /// The id of the data key that seals.
    pub fn current_key(&self) -> &str {
        &self.current
    }

    /// Seals a secret for one place.
    pub fn seal(&self, binding: &Binding<'_>, secret: &Secret) -> Result<String, SealingError> {
        if secret.expose().len() > MAX_PLAIN {
            return Err(SealingError::TooLong);
        }
        let key = self.keys.get(&self.current).ok_or(SealingError::Damaged("no current key"))?;
        let sealed = key.seal(&binding.bytes(&self.current), secret.expose().as_bytes())?;
        Ok(format!("{PREFIX}{}:{}", self.current, URL_SAFE_NO_PAD.encode(sealed)))
    }

    /// Opens what was sealed for this place.
    pub fn open(&self, binding: &Binding<'_>, sealed: &str) -> Result<Secret, SealingError> {
        let (key_id, text) = split(sealed)?;
        let key = self.keys.get(key_id).ok_or_else(|| SealingError::UnknownKey(printable(key_id)))?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| SealingError::Malformed)?;
        let plain = key.open(&binding.bytes(key_id), bytes)?;
        String::from_utf8(plain).map(Secret::from).map_err(|_| SealingError::Malformed)
    }

    /// The same secret under the current data key; `None` when it is sealed with that one already.
    pub fn reseal(&self, binding: &Binding<'_>, sealed: &str) -> Result<Option<String>, SealingError> {
        let (key_id, _) = split(sealed)?;
        if key_id == self.current {
            return Ok(None);
        }
        let secret = self.open(binding, sealed)?;
        self.seal(binding, &secret).map(Some)
    }
}

/// Whether a stored text says that it is sealed.
pub fn is_sealed(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// Compares two secrets in a time that tells nothing about them, not even how long they are.
pub fn same_secret(a: &str, b: &str) -> bool {
    let (a, b) = (Sha256::digest(a.as_bytes()), Sha256::digest(b.as_bytes()));
    bool::from(a.as_slice().ct_eq(b.as_slice()))
}

/// Key id and base64 of a sealed text.
fn split(sealed: &str) -> Result<(&str, &str), SealingError> {
    // The largest sealed secret, and no more is decoded.
    if sealed.len() > (MAX_PLAIN + NONCE + 16) * 4 / 3 + 128 {
        return Err(SealingError::Malformed);
    }
    let rest = sealed.strip_prefix(PREFIX).ok_or(SealingError::Malformed)?;
    rest.split_once(':').ok_or(SealingError::Malformed)
}

/// A key id from a damaged text, fit for a log.
fn printable(id: &str) -> String {
    id.chars().filter(char::is_ascii_alphanumeric).take(32).collect()
}

#[cfg(test)]
mod tests;
