//! The parts together, against a fake issuer over HTTP. The keys in `tests/keys` were made for these tests and
//! are used nowhere else.

mod fake;
mod grants;
mod keys;
mod refusals;
mod rotation;
mod sections;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::refresh::Pace;
use super::verifier::Now;
use super::*;

const AUDIENCE: &str = "https://trunkline.example";

/// A key pair of the issuer.
#[derive(Clone, Copy)]
struct Pair {
    kid: &'static str,
    algorithm: Algorithm,
    pem: &'static str,
}

const RSA_ONE: Pair =
    Pair { kid: "one", algorithm: Algorithm::RS256, pem: include_str!("tests/keys/rsa_one.pem") };
const RSA_TWO: Pair =
    Pair { kid: "two", algorithm: Algorithm::RS256, pem: include_str!("tests/keys/rsa_two.pem") };
const RSA_WEAK: Pair =
    Pair { kid: "weak", algorithm: Algorithm::RS256, pem: include_str!("tests/keys/rsa_weak.pem") };
const P256: Pair =
    Pair { kid: "p256", algorithm: Algorithm::ES256, pem: include_str!("tests/keys/p256.pem") };
const P384: Pair =
    Pair { kid: "p384", algorithm: Algorithm::ES384, pem: include_str!("tests/keys/p384.pem") };
const ED25519: Pair =
    Pair { kid: "ed", algorithm: Algorithm::EdDSA, pem: include_str!("tests/keys/ed25519.pem") };

impl Pair {
    fn private(&self) -> EncodingKey {
        let pem = self.pem.as_bytes();
        match self.algorithm {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem).unwrap(),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem).unwrap(),
            _ => EncodingKey::from_rsa_pem(pem).unwrap(),
        }
    }

    /// As the issuer publishes it, without `alg`.
    fn public(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.private(), self.algorithm).unwrap();
        jwk.common.key_algorithm = None;
        jwk.common.key_id = Some(self.kid.into());
        serde_json::to_value(jwk).unwrap()
    }

    fn sign(&self, claims: &Value) -> String {
        self.sign_as(self.algorithm, claims)
    }

    fn sign_as(&self, algorithm: Algorithm, claims: &Value) -> String {
        let mut header = Header::new(algorithm);
        header.kid = Some(self.kid.into());
        jsonwebtoken::encode(&header, claims, &self.private()).unwrap()
    }
}

fn jwks(pairs: &[Pair]) -> String {
    json!({ "keys": pairs.iter().map(Pair::public).collect::<Vec<_>>() }).to_string()
}

fn seconds() -> i64 {
    jsonwebtoken::get_current_timestamp() as i64
}

/// Good claims, with these laid over; `null` takes one away.
fn claims(issuer: &str, over: Value) -> Value {
    let mut claims = json!({
        "iss": issuer, "aud": AUDIENCE, "sub": "user-1", "exp": seconds() + 600, "iat": seconds(),
    });
    let (Some(all), Value::Object(over)) = (claims.as_object_mut(), over) else { return claims };
    for (name, value) in over {
        match value {
            Value::Null => all.remove(&name),
            value => all.insert(name, value),
        };
    }
    claims
}

fn settings(issuer: &str) -> AuthSettings {
    AuthSettings {
        issuer: Some(issuer.into()),
        audience: OneOrMany(vec![AUDIENCE.into()]),
        scopes: vec!["paladin:read".into(), "paladin:write".into()],
        ..AuthSettings::default()
    }
}

/// Patient enough for a machine that builds at the same time, and without a pause between looks.
const EAGER: Pace = Pace { between: std::time::Duration::ZERO, wait: std::time::Duration::from_secs(20) };

fn verifier(settings: &AuthSettings) -> TokenVerifier {
    TokenVerifier::with_pace(settings, &Roles::built_in(), EAGER).unwrap().unwrap()
}

/// A verifier that has read these keys from a fake issuer.
async fn ready(pairs: &[Pair]) -> (TokenVerifier, fake::Issuer) {
    let issuer = fake::Issuer::start();
    issuer.publish(&jwks(pairs));
    let verifier = verifier(&settings(&issuer.url()));
    verifier.refresh().await.unwrap();
    (verifier, issuer)
}
