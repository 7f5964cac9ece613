//! The tokens are what they say: a verifier made of ring accepts the right ones, and would be fooled by no forgery.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rsa::PublicKeyComponents;
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

use super::*;
use crate::client::Client;

fn bytes(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// The header, the claims, what is signed, the signature.
fn parts(token: &str) -> (Value, Value, &str, Vec<u8>) {
    let (message, signature) = token.rsplit_once('.').unwrap();
    let (header, claims) = message.split_once('.').unwrap();
    let json = |text: &str| serde_json::from_slice(&bytes(text)).unwrap();
    (json(header), json(claims), message, bytes(signature))
}

/// Whether `key` of a key set has signed this.
fn signed_by(key: &Value, message: &str, signature: &[u8]) -> bool {
    let member = |name: &str| bytes(key[name].as_str().unwrap());
    match key["kty"].as_str().unwrap() {
        "RSA" => PublicKeyComponents { n: member("n"), e: member("e") }
            .verify(&RSA_PKCS1_2048_8192_SHA256, message.as_bytes(), signature)
            .is_ok(),
        _ => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, [vec![4], member("x"), member("y")].concat())
            .verify(message.as_bytes(), signature)
            .is_ok(),
    }
}

/// The verdict of a careful verifier: the key is that of `kid`, the algorithm is the key's, nothing is critical.
fn accepts(jwks: &Value, token: &str) -> bool {
    let (header, _, message, signature) = parts(token);
    let keys = jwks["keys"].as_array().unwrap();
    let Some(key) = keys.iter().find(|key| key["kid"] == header["kid"]) else { return false };
    key["alg"] == header["alg"] && header.get("crit").is_none() && signed_by(key, message, &signature)
}

async fn get(issuer: &Issuer, path: &str) -> (u16, Value) {
    let answer = Client::new(issuer.url()).try_send("GET", path, &[], b"").await.unwrap();
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
}

#[tokio::test]
async fn a_token_is_verified_by_what_discovery_leads_to() {
    let issuer = Issuer::start();
    let (status, document) = get(&issuer, "/.well-known/openid-configuration").await;
    assert_eq!((status, &document["issuer"]), (200, &Value::from(issuer.url())));
    let path = document["jwks_uri"].as_str().unwrap().strip_prefix(&issuer.url()).unwrap().to_owned();
    let (status, jwks) = get(&issuer, &path).await;
    assert_eq!((status, &jwks), (200, &issuer.jwks()));
    for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
        let token = issuer.token_by(algorithm, &json!({ "sub": "ana", "aud": "trunkline" }));
        assert!(accepts(&jwks, &token), "{algorithm:?}");
        let (header, claims, ..) = parts(&token);
        assert_eq!((&header["alg"], &claims["sub"]), (&algorithm.name().into(), &"ana".into()));
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), LIFETIME);
    }
    assert_eq!(get(&issuer, "/token").await.0, 404);
    assert_eq!((issuer.requests(), issuer.discovery_requests(), issuer.jwks_requests()), (3, 1, 1));
    assert_eq!(issuer.other_requests(), ["GET /token HTTP/1.1"]);
}

#[test]
fn claims_and_headers_are_the_tests_to_set() {
    let issuer = Issuer::start();
    let token = issuer.token(&json!({ "iss": "https://other", "exp": 5, "iat": null }));
    let (_, claims, ..) = parts(&token);
    assert_eq!(claims, json!({ "iss": "https://other", "exp": 5 }));
    let token =
        issuer.token_with_header(Algorithm::Es256, &json!({ "kid": null, "typ": "at+jwt" }), &json!({}));
    assert_eq!(parts(&token).0, json!({ "alg": "ES256", "typ": "at+jwt" }));
}

#[test]
fn rotation_makes_old_tokens_stale_unless_it_overlaps() {
    let issuer = Issuer::start();
    let both =
        || [Algorithm::Rs256, Algorithm::Es256].map(|algorithm| issuer.token_by(algorithm, &json!({})));
    let accepted = |tokens: &[String; 2]| tokens.each_ref().map(|token| accepts(&issuer.jwks(), token));
    let first = both();
    issuer.rotate_with_overlap();
    let second = both();
    assert_ne!(parts(&first[0]).0["kid"], parts(&second[0]).0["kid"]);
    assert_eq!((accepted(&first), accepted(&second)), ([true; 2], [true; 2]));
    issuer.retire_old_keys();
    assert_eq!((accepted(&first), accepted(&second)), ([false; 2], [true; 2]));
    issuer.rotate();
    let third = both();
    assert_eq!((accepted(&second), accepted(&third)), ([false; 2], [true; 2]));
    // Not even under another id: the keys are others.
    let keys = issuer.jwks();
    for token in first.iter().chain(&second) {
        let (_, _, message, signature) = parts(token);
        assert!(!keys["keys"].as_array().unwrap().iter().any(|key| signed_by(key, message, &signature)));
    }
}

#[test]
fn every_forgery_is_what_it_says_and_a_careful_verifier_refuses_it() {
    let issuer = Issuer::start();
    let jwks = issuer.jwks();
    let claims = json!({ "sub": "mallory" });
    for forgery in Forgery::ALL {
        let token = issuer.forged(forgery, &claims);
        assert!(!accepts(&jwks, &token), "{forgery:?}");
        let (header, claims, message, signature) = parts(&token);
        assert_eq!(
            (&claims["sub"], &claims["iss"]),
            (&"mallory".into(), &issuer.url().into()),
            "{forgery:?}"
        );
        let hmac = |secret: &[u8]| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
            hmac::verify(&key, message.as_bytes(), &signature).is_ok() && header["alg"] == "HS256"
        };
        let keys = jwks["keys"].as_array().unwrap();
        let known = keys.iter().any(|key| key["kid"] == header["kid"]);
        let works = match forgery {
            Forgery::None | Forgery::NoneInMixedCase => {
                signature.is_empty() && header["alg"].as_str().unwrap().eq_ignore_ascii_case("none")
            }
            Forgery::NoSignature => signature.is_empty() && header["alg"] == "RS256",
            Forgery::HmacWithPem => hmac(issuer.public_pem().as_bytes()),
            Forgery::HmacWithModulus => hmac(&bytes(keys[0]["n"].as_str().unwrap())),
            Forgery::ForeignKey => known && header.get("jwk").is_none(),
            Forgery::UnknownKid => {
                !known && header["kid"] != parts(&issuer.forged(forgery, &json!({}))).0["kid"]
            }
            Forgery::KeyInHeader => signed_by(&header["jwk"], message, &signature),
            Forgery::KeySetInHeader => known && header["jku"].is_string(),
            Forgery::Altered => claims["forged"] == true && known,
            Forgery::OtherAlgorithm => {
                signed_by(&keys[0], message, &signature) && header["kid"] == keys[1]["kid"]
            }
            Forgery::Critical => signed_by(&keys[0], message, &signature) && header["crit"].is_array(),
        };
        assert!(works, "{forgery:?}: {header}");
    }
}

#[test]
fn the_public_key_is_the_pem_that_openssl_writes() {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/issuer-rsa-1.pem");
    let written = std::process::Command::new("openssl").args(["pkey", "-in", fixture, "-pubout"]).output();
    let Ok(written) = written else {
        eprintln!("skipped: no openssl on this machine");
        return;
    };
    assert_eq!(Issuer::start().public_pem(), String::from_utf8(written.stdout).unwrap());
}

#[tokio::test]
async fn it_goes_down_and_comes_up_on_the_same_port() {
    let issuer = Issuer::start();
    let client = Client::new(issuer.url());
    issuer.down();
    assert!(client.try_send("GET", JWKS, &[], b"").await.is_err());
    assert_eq!(issuer.requests(), 0);
    issuer.up();
    assert_eq!(client.try_send("GET", JWKS, &[], b"").await.unwrap().status, 200);
    assert_eq!(issuer.jwks_requests(), 1);
}

const JWKS: &str = "/jwks";

#[tokio::test]
async fn it_misbehaves_as_it_is_told() {
    let issuer = Issuer::start();
    let discovery = "/.well-known/openid-configuration";
    issuer.misbehave(Mischief::Status(503));
    assert_eq!(get(&issuer, JWKS).await, (503, Value::Null));
    issuer.misbehave(Mischief::OtherIssuer);
    assert_eq!(get(&issuer, discovery).await.1["issuer"], "http://127.0.0.1:1");
    issuer.misbehave(Mischief::NoKeys);
    assert_eq!(get(&issuer, JWKS).await.1, json!({ "keys": [] }));
    issuer.misbehave(Mischief::NotJson);
    assert_eq!(get(&issuer, JWKS).await, (200, Value::Null));
    issuer.misbehave(Mischief::Huge(3_000_000));
    let answer = Client::new(issuer.url()).try_send("GET", JWKS, &[], b"").await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 3_000_000));
    let begun = std::time::Instant::now();
    issuer.misbehave(Mischief::Slow(Duration::from_millis(200)));
    assert_eq!(get(&issuer, JWKS).await.1, issuer.jwks());
    assert!(begun.elapsed() >= Duration::from_millis(200));
    issuer.misbehave(Mischief::Silent);
    assert!(tokio::time::timeout(Duration::from_millis(200), get(&issuer, JWKS)).await.is_err());
    issuer.misbehave(Mischief::None);
    assert_eq!(get(&issuer, JWKS).await, (200, issuer.jwks()));
}
