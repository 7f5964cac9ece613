//! A pair of keys, one for each algorithm: how it signs and how it is published.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair as RsaKeyPair, PublicKeyComponents};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256};
use serde_json::{Value, json};

use super::Algorithm;

/// RSA keys take long to make, and ring makes none. They are used in turn; none of them guards anything.
const RSA: [&str; 3] = [
    include_str!("../../fixtures/issuer-rsa-1.pem"),
    include_str!("../../fixtures/issuer-rsa-2.pem"),
    include_str!("../../fixtures/issuer-rsa-3.pem"),
];

/// The algorithm identifier of an RSA key in a SubjectPublicKeyInfo: rsaEncryption with NULL parameters, in DER.
const RSA_ENCRYPTION: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// The keys of the issuer between two rotations.
#[derive(Debug)]
pub(super) struct Keys {
    number: usize,
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
}

impl Keys {
    /// The keys after this many rotations. The RSA key comes back after three, under another id.
    pub(super) fn new(number: usize) -> Keys {
        let text: String = RSA[number % RSA.len()].lines().filter(|line| !line.starts_with('-')).collect();
        let der = STANDARD.decode(text).expect("the fixture is PEM");
        Keys {
            number,
            rsa: RsaKeyPair::from_pkcs8(&der).expect("the fixture is an RSA key in PKCS#8"),
            ec: fresh(),
        }
    }

    pub(super) fn kid(&self, algorithm: Algorithm) -> String {
        format!("{}-{}", algorithm.name().to_ascii_lowercase(), self.number)
    }

    /// Header, claims and signature. What the header says is not looked at.
    pub(super) fn sign(&self, algorithm: Algorithm, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let random = SystemRandom::new();
        let signature = match algorithm {
            Algorithm::Rs256 => {
                let mut signature = vec![0; self.rsa.public().modulus_len()];
                let signed = self.rsa.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature);
                signed.expect("sign with RSA");
                signature
            }
            Algorithm::Es256 => {
                self.ec.sign(&random, message.as_bytes()).expect("sign with ECDSA").as_ref().to_vec()
            }
        };
        format!("{message}.{}", encode(&signature))
    }

    /// Both keys as members of a key set.
    pub(super) fn jwks(&self) -> [Value; 2] {
        let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        let mut ec = ec_jwk(&self.ec);
        ec["kid"] = self.kid(Algorithm::Es256).into();
        [
            json!({
                "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid(Algorithm::Rs256),
                "n": encode(&n), "e": encode(&e),
            }),
            ec,
        ]
    }

    /// The modulus of the RSA key, big-endian.
    pub(super) fn modulus(&self) -> Vec<u8> {
        PublicKeyComponents::<Vec<u8>>::from(self.rsa.public()).n
    }

    /// The RSA key as PEM of a SubjectPublicKeyInfo, as `openssl rsa -pubout` writes it.
    pub(super) fn public_pem(&self) -> String {
        let mut key = vec![0]; // no unused bits
        key.extend_from_slice(self.rsa.public().as_ref());
        let der = tagged(0x30, &[RSA_ENCRYPTION, &tagged(0x03, &key)].concat());
        let text = STANDARD.encode(der);
        let lines: Vec<&str> =
            (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }
}

/// A new P-256 key.
pub(super) fn fresh() -> EcdsaKeyPair {
    let (random, kind) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
    let document = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("make a P-256 key");
    EcdsaKeyPair::from_pkcs8(kind, document.as_ref(), &random).expect("the key just made")
}

/// The public half of a P-256 key, without an id.
pub(super) fn ec_jwk(key: &EcdsaKeyPair) -> Value {
    // 4 (uncompressed), then x and y of 32 bytes each.
    let (x, y) = key.public_key().as_ref()[1..].split_at(32);
    json!({ "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "x": encode(x), "y": encode(y) })
}

/// What is signed: header and claims.
pub(super) fn message(header: &Value, claims: &Value) -> String {
    format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()))
}

pub(super) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An element of DER, of up to 65,535 bytes.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a short element").to_be_bytes();
    let mut element = match length {
        [0, short @ 0..0x80] => vec![tag, short],
        [0, byte] => vec![tag, 0x81, byte],
        [high, low] => vec![tag, 0x82, high, low],
    };
    element.extend_from_slice(content);
    element
}
