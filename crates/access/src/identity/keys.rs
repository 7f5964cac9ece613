//! The issuer's public keys, as its JWKS publishes them.

use std::time::Instant;

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::settings::TokenAlgorithm;

/// The most keys of one issuer; the largest publish about ten.
const MAX_KEYS: usize = 100;
/// The longest key id.
const MAX_KID: usize = 512;
/// The shortest RSA modulus, as base64url text: 2048 bits. RFC 7518 §3.3 forbids shorter ones.
const MIN_MODULUS: usize = 342;

/// One key and what it may verify.
struct Key {
    kid: Option<String>,
    algorithms: Vec<TokenAlgorithm>,
    key: DecodingKey,
}

/// Every key of an issuer that we can use.
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// Of the answer's bytes: the same answer again changes nothing.
    digest: [u8; 32],
    /// When the issuer last said that these are its keys.
    pub(super) confirmed: Instant,
    /// Counts sets with different content, so that what was checked with older keys is checked again.
    pub(super) generation: u64,
}

#[derive(Deserialize)]
struct Published {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    /// Reads a JWKS. Keys that we cannot use (for encryption, of other kinds, too weak, or shared secrets, which
    /// have no business there) are passed over; a set without any other is an error.
    pub(super) fn read(
        body: &[u8],
        accepted: &[TokenAlgorithm],
        before: Option<&KeySet>,
        now: Instant,
    ) -> Result<KeySet, String> {
        let published: Published =
            serde_json::from_slice(body).map_err(|_| "its answer is no JWKS (`{\"keys\": […]}`)")?;
        if published.keys.len() > MAX_KEYS {
            return Err(format!("it publishes more than {MAX_KEYS} keys"));
        }
        let keys: Vec<Key> = published.keys.into_iter().filter_map(|key| usable(key, accepted)).collect();
        if keys.is_empty() {
            return Err("it publishes no key for the algorithms of `auth.algorithms`".into());
        }
        let digest: [u8; 32] = Sha256::digest(body).into();
        let generation = match before {
            Some(before) if before.digest == digest => before.generation,
            Some(before) => before.generation + 1,
            None => 1,
        };
        Ok(KeySet { keys, digest, confirmed: now, generation })
    }

    /// The keys that can have made a signature with this algorithm and key id. A token without a key id is
    /// checked only where there is no choice.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: TokenAlgorithm) -> Option<&DecodingKey> {
        let mut fitting = self.keys.iter().filter(|key| key.algorithms.contains(&algorithm));
        match kid {
            Some(kid) => fitting.find(|key| key.kid.as_deref() == Some(kid)).map(|key| &key.key),
            None => {
                let only = fitting.next()?;
                fitting.next().is_none().then_some(&only.key)
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

fn usable(published: serde_json::Value, accepted: &[TokenAlgorithm]) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(published).ok()?;
    let common = &jwk.common;
    if common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
        return None;
    }
    if common.key_operations.as_ref().is_some_and(|all| !all.contains(&KeyOperations::Verify)) {
        return None;
    }
    if common.key_id.as_ref().is_some_and(|kid| kid.len() > MAX_KID) {
        return None;
    }
    let mut algorithms = able(&jwk.algorithm);
    algorithms.retain(|algorithm| accepted.contains(algorithm));
    // A key that says its algorithm is for that one alone.
    if let Some(stated) = common.key_algorithm {
        algorithms.retain(|algorithm| KeyAlgorithm::from(algorithm.jwt()) == stated);
    }
    if algorithms.is_empty() {
        return None;
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    Some(Key { kid: common.key_id.clone(), algorithms, key })
}

/// What a key of this kind can verify. What keeps an attacker from having a public key used as a shared
/// secret is that no answer here is an HS algorithm.
fn able(key: &AlgorithmParameters) -> Vec<TokenAlgorithm> {
    use TokenAlgorithm as A;
    match key {
        AlgorithmParameters::RSA(rsa) if rsa.n.trim_end_matches('=').len() >= MIN_MODULUS => {
            vec![A::RS256, A::RS384, A::RS512, A::PS256, A::PS384, A::PS512]
        }
        AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
            EllipticCurve::P256 => vec![A::ES256],
            EllipticCurve::P384 => vec![A::ES384],
            _ => Vec::new(),
        },
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => vec![A::EdDSA],
        _ => Vec::new(),
    }
}
