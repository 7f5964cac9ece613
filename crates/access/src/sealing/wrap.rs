//! Data keys under the master key.
//!
//! Our own master keys are 256 random bits, from which HKDF derives a key at once. A master key that somebody
//! chose (`TRUNKLINE_ADMIN_KEY` takes eight characters) could be guessed against a stolen Store, so short ones
//! go through PBKDF2 first, which makes each guess a million times dearer.

use std::collections::HashMap;
use std::num::NonZeroU32;

use base::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{hkdf, pbkdf2};
use serde::{Deserialize, Serialize};

use super::keys::{DataKey, KEY, open, random, seal};
use super::{MAX_KEYS, SealingError};

/// Shorter master keys are stretched.
const LONG_ENOUGH: usize = 32;
/// OWASP's figure for PBKDF2 with SHA-256.
const ROUNDS: u32 = 600_000;
/// More than this in a stored row is an attempt to keep us busy.
const MAX_ROUNDS: u32 = 10_000_000;
const VERSION: u32 = 1;
const SALT: usize = 32;

/// Wrapped data keys, to be stored as they are (JSON). Nobody without the master key can use them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrappedKeys {
    /// The version of this form.
    pub version: u32,
    /// How the wrapping key comes from the master key.
    pub derivation: Derivation,
    /// Random, of this wrapping; base64url.
    pub salt: String,
    /// The id of the key that seals.
    pub current: String,
    /// All keys, the current one among them.
    pub keys: Vec<WrappedKey>,
}

/// How the wrapping key comes from the master key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Derivation {
    /// HKDF with SHA-256.
    HkdfSha256,
    /// PBKDF2 with HMAC-SHA-256 so often, then HKDF.
    Pbkdf2Sha256 {
        /// How often.
        rounds: u32,
    },
}

/// One data key, encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrappedKey {
    /// Its id, as in sealed texts.
    pub id: String,
    /// Nonce, ciphertext and tag; base64url.
    pub wrapped: String,
}

/// What is authenticated with a wrapped key.
fn bound(id: &str) -> Vec<u8> {
    format!("trunkline data key v{VERSION}:{id}").into_bytes()
}

pub(super) fn wrap(
    master: &Secret,
    keys: &HashMap<String, DataKey>,
    current: &str,
) -> Result<WrappedKeys, SealingError> {
    match master.expose().len() {
        length if length >= LONG_ENOUGH => wrap_by(master, keys, current, Derivation::HkdfSha256),
        _ => wrap_stretched(master, keys, current),
    }
}

/// The same for what people have chosen, whatever its length.
pub(super) fn wrap_stretched(
    master: &Secret,
    keys: &HashMap<String, DataKey>,
    current: &str,
) -> Result<WrappedKeys, SealingError> {
    wrap_by(master, keys, current, Derivation::Pbkdf2Sha256 { rounds: ROUNDS })
}

fn wrap_by(
    master: &Secret,
    keys: &HashMap<String, DataKey>,
    current: &str,
    derivation: Derivation,
) -> Result<WrappedKeys, SealingError> {
    if master.expose().is_empty() {
        return Err(SealingError::NoMaster);
    }
    let salt = random::<SALT>()?;
    let wrapping = derive(master, derivation, &salt)?;
    let mut wrapped = Vec::with_capacity(keys.len());
    for key in keys.values() {
        let bytes = seal(&wrapping, &bound(&key.id), &key.bytes()?)?;
        wrapped.push(WrappedKey { id: key.id.clone(), wrapped: URL_SAFE_NO_PAD.encode(bytes) });
    }
    wrapped.sort_by(|a, b| a.id.cmp(&b.id));
    let salt = URL_SAFE_NO_PAD.encode(salt);
    Ok(WrappedKeys { version: VERSION, derivation, salt, current: current.to_owned(), keys: wrapped })
}

pub(super) fn unwrap(
    master: &Secret,
    wrapped: &WrappedKeys,
) -> Result<HashMap<String, DataKey>, SealingError> {
    if wrapped.version != VERSION {
        return Err(SealingError::Damaged("a version that is not ours"));
    }
    if wrapped.keys.is_empty() || wrapped.keys.len() > MAX_KEYS {
        return Err(SealingError::Damaged("no keys, or too many"));
    }
    if master.expose().is_empty() {
        return Err(SealingError::NoMaster);
    }
    let decode =
        |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| SealingError::Damaged("not base64url"));
    let wrapping = derive(master, wrapped.derivation, &decode(&wrapped.salt)?)?;
    let mut keys = HashMap::new();
    for key in &wrapped.keys {
        let bytes = open(&wrapping, &bound(&key.id), decode(&key.wrapped)?).map_err(|error| match error {
            SealingError::Tampered => SealingError::WrongMaster,
            _ => SealingError::Damaged("a key that is cut off"),
        })?;
        let opened =
            DataKey::from_bytes(&key.id, &bytes).ok_or(SealingError::Damaged("a key that is none"))?;
        keys.insert(key.id.clone(), opened);
    }
    Ok(keys)
}

fn derive(master: &Secret, derivation: Derivation, salt: &[u8]) -> Result<[u8; KEY], SealingError> {
    if salt.len() != SALT {
        return Err(SealingError::Damaged("a salt that is none"));
    }
    let master = master.expose().as_bytes();
    let material = match derivation {
        Derivation::HkdfSha256 => master.to_vec(),
        Derivation::Pbkdf2Sha256 { rounds } => {
            let rounds = NonZeroU32::new(rounds)
                .filter(|rounds| rounds.get() <= MAX_ROUNDS)
                .ok_or(SealingError::Damaged("its rounds"))?;
            let mut stretched = vec![0; KEY];
            pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, master, &mut stretched);
            stretched
        }
    };
    let pseudo_random = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&material);
    let mut key = [0; KEY];
    pseudo_random
        .expand(&[b"trunkline wrapping key v1"], hkdf::HKDF_SHA256)
        .and_then(|output| output.fill(&mut key))
        .map_err(|_| SealingError::Damaged("its derivation"))?;
    Ok(key)
}
