//! A data key: 256 random bits, and AES-256-GCM with them.

use std::fmt;

use base::Secret;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::SealingError;

/// The length of a nonce.
pub(super) const NONCE: usize = 12;
/// The length of a key.
pub(super) const KEY: usize = 32;
const TAG: usize = 16;

/// One key and its id. The bytes are kept as hexadecimal text, because [`Secret`] wipes texts.
#[derive(Clone)]
pub(super) struct DataKey {
    pub(super) id: String,
    hex: Secret,
}

impl DataKey {
    /// A new key. Its id is random too and says nothing about it.
    pub(super) fn random() -> Result<DataKey, SealingError> {
        let (id, key) = (random::<8>()?, random::<KEY>()?);
        Ok(DataKey { id: hex::encode(id), hex: Secret::from(hex::encode(key)) })
    }

    pub(super) fn from_bytes(id: &str, bytes: &[u8]) -> Option<DataKey> {
        let good = bytes.len() == KEY && id.len() == 16 && id.bytes().all(|c| c.is_ascii_hexdigit());
        good.then(|| DataKey { id: id.to_owned(), hex: Secret::from(hex::encode(bytes)) })
    }

    pub(super) fn bytes(&self) -> Result<[u8; KEY], SealingError> {
        let mut bytes = [0; KEY];
        hex::decode_to_slice(self.hex.expose(), &mut bytes)
            .map_err(|_| SealingError::Damaged("a key that is none"))?;
        Ok(bytes)
    }

    pub(super) fn seal(&self, bound: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealingError> {
        seal(&self.bytes()?, bound, plain)
    }

    pub(super) fn open(&self, bound: &[u8], sealed: Vec<u8>) -> Result<Vec<u8>, SealingError> {
        open(&self.bytes()?, bound, sealed)
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Nonce, ciphertext and tag in a row. The nonce is random: with 96 bits one key seals 2³² secrets before a
/// repetition is worth a thought.
pub(super) fn seal(key: &[u8; KEY], bound: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealingError> {
    let nonce = random::<NONCE>()?;
    let mut sealed = Vec::with_capacity(NONCE + plain.len() + TAG);
    sealed.extend_from_slice(plain);
    cipher(key)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound), &mut sealed)
        .map_err(|_| SealingError::TooLong)?;
    sealed.splice(0..0, nonce);
    Ok(sealed)
}

pub(super) fn open(key: &[u8; KEY], bound: &[u8], mut sealed: Vec<u8>) -> Result<Vec<u8>, SealingError> {
    let nonce: [u8; NONCE] =
        sealed.get(..NONCE).and_then(|nonce| nonce.try_into().ok()).ok_or(SealingError::Malformed)?;
    if sealed.len() < NONCE + TAG {
        return Err(SealingError::Malformed);
    }
    let plain = cipher(key)?
        .open_within(Nonce::assume_unique_for_key(nonce), Aad::from(bound), &mut sealed, NONCE..)
        .map_err(|_| SealingError::Tampered)?
        .len();
    sealed.truncate(plain);
    Ok(sealed)
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], SealingError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| SealingError::Random)?;
    Ok(bytes)
}

fn cipher(key: &[u8; KEY]) -> Result<LessSafeKey, SealingError> {
    let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| SealingError::Damaged("a key that is none"))?;
    Ok(LessSafeKey::new(key))
}
