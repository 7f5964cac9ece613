//! Which published keys are taken.

use std::time::Instant;

use super::*;
use crate::identity::keys::KeySet;

fn read(keys: &Value) -> Result<KeySet, String> {
    let body = json!({ "keys": keys }).to_string();
    KeySet::read(body.as_bytes(), &TokenAlgorithm::ALL, None, Instant::now())
}

fn with(pair: Pair, name: &str, value: &str) -> Value {
    let mut key = pair.public();
    key[name] = json!(value);
    key
}

#[test]
fn keys_that_are_not_for_signatures_are_passed_over() {
    let encryption = with(RSA_ONE, "use", "enc");
    let oaep = with(RSA_TWO, "alg", "RSA-OAEP");
    let secret = json!({"kty": "oct", "k": "c2VjcmV0", "kid": "s"});
    let strange = json!({"kty": "PQ", "kid": "q"});
    let nothing = json!("x");
    for keys in [
        json!([]),
        json!([encryption]),
        json!([oaep]),
        json!([secret]),
        json!([strange]),
        json!([nothing]),
        json!([RSA_WEAK.public()]),
    ] {
        let error = read(&keys).err().unwrap();
        assert!(error.contains("publishes no key"), "{keys}: {error}");
    }
    let mixed = json!([encryption, oaep, secret, strange, nothing, with(P256, "use", "sig")]);
    assert_eq!(read(&mixed).unwrap().len(), 1);
}

#[test]
fn a_key_verifies_what_it_was_made_for() {
    let keys = read(&json!([with(RSA_ONE, "alg", "RS512"), P256.public()])).unwrap();
    assert!(keys.find(Some("one"), TokenAlgorithm::RS512).is_some());
    assert!(keys.find(Some("one"), TokenAlgorithm::RS256).is_none(), "it says RS512");
    assert!(keys.find(Some("p256"), TokenAlgorithm::RS512).is_none());
    assert!(keys.find(Some("p256"), TokenAlgorithm::ES384).is_none());
}

#[test]
fn a_token_without_a_key_id_is_checked_only_where_there_is_no_choice() {
    let one = read(&json!([RSA_ONE.public(), P256.public()])).unwrap();
    assert!(
        one.find(None, TokenAlgorithm::RS256).is_some() && one.find(None, TokenAlgorithm::ES256).is_some()
    );
    let two = read(&json!([RSA_ONE.public(), RSA_TWO.public()])).unwrap();
    assert!(two.find(None, TokenAlgorithm::RS256).is_none());
    assert!(two.find(Some(""), TokenAlgorithm::RS256).is_none());
}

#[test]
fn what_is_no_key_set_is_refused() {
    for body in ["", "[]", "{}", "{\"keys\": 1}", "<html>"] {
        assert!(KeySet::read(body.as_bytes(), &TokenAlgorithm::ALL, None, Instant::now()).is_err(), "{body}");
    }
    let many: Vec<Value> = (0..101).map(|_| P256.public()).collect();
    assert!(read(&json!(many)).err().unwrap().contains("more than 100"));
}
