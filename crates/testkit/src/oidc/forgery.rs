//! Tokens that a verifier must refuse, each by a known attack.

use ring::hmac;
use serde_json::{Value, json};

use super::Algorithm;
use super::keys::{Keys, ec_jwk, encode, fresh, message};

/// How a token is forged. Its claims are right in all of them, and so is `kid` where nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgery {
    /// `alg` is `none`, and there is no signature.
    None,
    /// `alg` is `NoNe`: a check for `none` alone lets it pass.
    NoneInMixedCase,
    /// RS256 without a signature.
    NoSignature,
    /// HS256 with the PEM of the RSA public key as the secret.
    HmacWithPem,
    /// HS256 with the modulus of the RSA public key as the secret.
    HmacWithModulus,
    /// Signed by a key of the attacker, under the id of the issuer's.
    ForeignKey,
    /// Signed by a key of the attacker, under an id that is new each time: it must not make the verifier ask for the
    /// key set each time.
    UnknownKid,
    /// Signed by a key of the attacker, which the header brings along as `jwk`.
    KeyInHeader,
    /// Signed by a key of the attacker, which the header names as `jku` at an address where nothing listens.
    KeySetInHeader,
    /// Signed by the issuer; then a claim was added.
    Altered,
    /// Signed by the issuer with RS256, under the id of its ES256 key and saying ES256.
    OtherAlgorithm,
    /// Signed by the issuer, with a critical extension (`crit`) that nobody knows: RFC 7515 has it refused.
    Critical,
}

impl Forgery {
    /// All of them.
    pub const ALL: [Forgery; 12] = [
        Forgery::None,
        Forgery::NoneInMixedCase,
        Forgery::NoSignature,
        Forgery::HmacWithPem,
        Forgery::HmacWithModulus,
        Forgery::ForeignKey,
        Forgery::UnknownKid,
        Forgery::KeyInHeader,
        Forgery::KeySetInHeader,
        Forgery::Altered,
        Forgery::OtherAlgorithm,
        Forgery::Critical,
    ];
}

pub(super) fn forge(forgery: Forgery, keys: &Keys, claims: &Value) -> String {
    let (rs256, es256) = (keys.kid(Algorithm::Rs256), keys.kid(Algorithm::Es256));
    let header = |alg: &str, kid: &str| json!({ "alg": alg, "typ": "JWT", "kid": kid });
    let unsigned = |alg: &str| format!("{}.", message(&header(alg, &rs256), claims));
    let hmac = |secret: &[u8]| {
        let message = message(&header("HS256", &rs256), claims);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
        format!("{message}.{}", encode(tag.as_ref()))
    };
    match forgery {
        Forgery::None => unsigned("none"),
        Forgery::NoneInMixedCase => unsigned("NoNe"),
        Forgery::NoSignature => unsigned("RS256"),
        Forgery::HmacWithPem => hmac(keys.public_pem().as_bytes()),
        Forgery::HmacWithModulus => hmac(&keys.modulus()),
        Forgery::ForeignKey => by_attacker(header("ES256", &es256), claims, |_, _| {}),
        Forgery::UnknownKid => {
            by_attacker(header("ES256", &format!("unknown-{:016x}", fastrand::u64(..))), claims, |_, _| {})
        }
        Forgery::KeyInHeader => {
            by_attacker(header("ES256", &es256), claims, |header, jwk| header["jwk"] = jwk)
        }
        Forgery::KeySetInHeader => by_attacker(header("ES256", &es256), claims, |header, _| {
            header["jku"] = "http://127.0.0.1:1/jwks".into();
        }),
        Forgery::Altered => {
            let signed = keys.sign(Algorithm::Rs256, &header("RS256", &rs256), claims);
            let mut altered = claims.clone();
            altered["forged"] = true.into();
            let (_, signature) = signed.rsplit_once('.').expect("a token has dots");
            format!("{}.{signature}", message(&header("RS256", &rs256), &altered))
        }
        Forgery::OtherAlgorithm => keys.sign(Algorithm::Rs256, &header("ES256", &es256), claims),
        Forgery::Critical => {
            let mut header = header("RS256", &rs256);
            header["crit"] = json!(["urn:unknown"]);
            header["urn:unknown"] = true.into();
            keys.sign(Algorithm::Rs256, &header, claims)
        }
    }
}

/// Signed with a key that nobody else has; `dress` sees its public half.
fn by_attacker(mut header: Value, claims: &Value, dress: impl FnOnce(&mut Value, Value)) -> String {
    let key = fresh();
    dress(&mut header, ec_jwk(&key));
    let message = message(&header, claims);
    let signed = key.sign(&ring::rand::SystemRandom::new(), message.as_bytes());
    format!("{message}.{}", encode(signed.expect("sign with ECDSA").as_ref()))
}
