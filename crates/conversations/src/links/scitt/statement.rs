//! A signed statement: COSE_Sign1 (RFC 9052) with the issuer's claims and key in its protected header, as
//! draft-ietf-scitt-architecture and draft-steele-cose-hash-envelope have it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coset::cbor::value::Value;
use coset::{CborSerializable as _, CoseSign1Builder, HeaderBuilder, TaggedCborSerializable as _, iana};
use p256::SecretKey;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::DecodePrivateKey as _;

use crate::link::LinkError;

/// Claims of a CWT (RFC 9597).
pub(super) const CWT_CLAIMS: i64 = 13;
/// The hash envelope: algorithm, place and type of what was hashed.
pub(super) const HASH_ALGORITHM: i64 = -6800;
const HASH_LOCATION: i64 = -6801;
const CONTENT_TYPE: i64 = -6802;
/// Names and values beside it.
pub(super) const META: i64 = -6804;
const SHA_256: i64 = -16;

/// Who signs.
pub(super) struct Signer(SigningKey);

/// What is signed.
pub(super) struct Statement<'a> {
    pub(super) issuer: &'a str,
    pub(super) key_id: &'a str,
    pub(super) subject: &'a str,
    pub(super) payload: &'a [u8],
    pub(super) meta: &'a [(&'a str, &'a str)],
}

impl Signer {
    /// Reads a P-256 key: PEM of PKCS#8 or SEC1, also in base64 once more.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let packed: String = text.split_whitespace().collect();
        let unpacked = STANDARD.decode(packed).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let pem = unpacked.as_deref().unwrap_or(text).trim();
        // OpenSSL writes the curve's parameters before the key.
        let pem = pem.find("-----BEGIN EC PRIVATE KEY-----").map_or(pem, |start| &pem[start..]);
        let key = SecretKey::from_pkcs8_pem(pem).ok().or_else(|| SecretKey::from_sec1_pem(pem).ok());
        let key = key.ok_or("the signing key is not a P-256 key in PEM")?;
        Ok(Signer(SigningKey::from(key)))
    }

    /// The statement, signed, in CBOR.
    pub(super) fn sign(&self, statement: &Statement<'_>) -> Result<Vec<u8>, LinkError> {
        let int = |n: i64| Value::Integer(n.into());
        let text = |text: &str| Value::Text(text.to_owned());
        let point = self.0.verifying_key().to_encoded_point(false);
        let (Some(x), Some(y)) = (point.x(), point.y()) else {
            return Err(LinkError::permanent("the signing key has no public part"));
        };
        let key = Value::Map(vec![
            (int(1), int(2)),
            (int(-1), int(1)),
            (int(-2), Value::Bytes(x.to_vec())),
            (int(-3), Value::Bytes(y.to_vec())),
        ]);
        let claims = Value::Map(vec![
            (int(1), text(statement.issuer)),
            (int(2), text(statement.subject)),
            (int(8), Value::Map(vec![(int(1), key)])),
        ]);
        let meta = statement.meta.iter().map(|(name, value)| (text(name), text(value))).collect();
        let header = HeaderBuilder::new()
            .algorithm(iana::Algorithm::ES256)
            .key_id(statement.key_id.as_bytes().to_vec())
            .value(CONTENT_TYPE, text("application/vcon+json"))
            .value(CWT_CLAIMS, claims)
            .value(HASH_ALGORITHM, int(SHA_256))
            .value(HASH_LOCATION, text(""))
            .value(META, Value::Map(meta))
            .build();
        let signed = CoseSign1Builder::new()
            .protected(header)
            .payload(statement.payload.to_vec())
            .create_signature(b"", |data| {
                let signature: Signature = self.0.sign(data);
                signature.to_vec()
            })
            .build();
        signed
            .to_tagged_vec()
            .map_err(|error| LinkError::permanent(format!("the statement cannot be written: {error}")))
    }
}

/// A message with its tag, or without.
pub(super) fn read(bytes: &[u8]) -> Result<coset::CoseSign1, String> {
    let message = coset::CoseSign1::from_tagged_slice(bytes).or_else(|_| coset::CoseSign1::from_slice(bytes));
    message.map_err(|_| "it is no COSE_Sign1".to_owned())
}
