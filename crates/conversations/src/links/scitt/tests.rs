//! The link against a transparency service of our own: its tree, its key, its answers.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coset::cbor::value::Value as Cbor;
use coset::{CborSerializable as _, CoseSign1Builder, HeaderBuilder, Label, iana};
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::ecdsa::{Signature, SigningKey};
use testkit::{Behaviour, Reply, Upstream};

use super::*;
use crate::testing;

/// A P-256 key for tests alone (openssl ecparam -genkey, SEC1).
fn key(byte: u8) -> SigningKey {
    SigningKey::from_slice(&[byte; 32]).unwrap()
}

fn pem(key: &SigningKey) -> String {
    use p256::pkcs8::EncodePrivateKey as _;
    p256::SecretKey::from(key).to_pkcs8_pem(p256::pkcs8::LineEnding::LF).unwrap().to_string()
}

fn jwks(key: &SigningKey) -> Value {
    let point = key.verifying_key().to_encoded_point(false);
    let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    json!({"keys": [{"kty": "EC", "crv": "P-256", "x": number(point.x().unwrap()), "y": number(point.y().unwrap())}]})
}

/// A receipt for a statement that stands third in a tree of five.
fn receipt(payload: &str, key: &SigningKey) -> Vec<u8> {
    let statement = digest::digest(&digest::SHA256, payload.as_bytes());
    let mut leaves: Vec<Vec<u8>> = (0..5u8).map(|n| receipt::leaf(&[n])).collect();
    leaves[2] = receipt::leaf(statement.as_ref());
    let (root, path) = receipt::tree(&leaves, 2);
    let path = path.into_iter().map(Cbor::Bytes).collect();
    let proof = Cbor::Array(vec![Cbor::Integer(5.into()), Cbor::Integer(2.into()), Cbor::Array(path)])
        .to_vec()
        .unwrap();
    let proofs = Cbor::Map(vec![(Cbor::Integer((-1).into()), Cbor::Array(vec![Cbor::Bytes(proof)]))]);
    let message = CoseSign1Builder::new()
        .protected(HeaderBuilder::new().algorithm(iana::Algorithm::ES256).build())
        .unprotected(HeaderBuilder::new().value(396, proofs).build())
        .create_detached_signature(&root, b"", |data| {
            let signature: Signature = key.sign(data);
            signature.to_vec()
        })
        .build();
    message.to_vec().unwrap()
}

fn cose(status: u16, body: Vec<u8>, location: Option<&str>) -> Behaviour {
    let mut reply = Reply::whole(status, "application/cose", body);
    if let Some(location) = location {
        reply.set_header("location", location);
    }
    Behaviour::custom("cose", move |_| reply.clone())
}

fn text(body: &Value) -> Behaviour {
    super::super::shared::testing::reply(200, body)
}

fn configuration(upstream: &Upstream) -> Behaviour {
    let uri = format!("http://127.0.0.1:{}/keys.json", upstream.port());
    let map = Cbor::Map(vec![(Cbor::Text("jwks_uri".into()), Cbor::Text(uri))]);
    cose(200, map.to_vec().unwrap(), None)
}

fn options(upstream: &Upstream) -> Value {
    json!({"scrapi_url": format!("http://127.0.0.1:{}", upstream.port()), "signing_key_pem": STANDARD.encode(pem(&key(7))), "poll_interval": "1ms"})
}

fn payload() -> String {
    format!("{}:vcon_created:+15551234567", hash::vcon_hash(&testing::vcon()).unwrap())
}

#[tokio::test]
async fn a_statement_is_signed_registered_and_its_receipt_verified_and_kept() {
    let upstream = Upstream::start();
    let service = key(9);
    let receipt = receipt(&payload(), &service);
    upstream.script([
        cose(201, receipt.clone(), Some("/entries/e1")),
        configuration(&upstream),
        text(&jwks(&service)),
    ]);
    let link = make(options(&upstream), &testing::environment()).unwrap();
    let mut vcon = testing::vcon();
    let hash = hash::vcon_hash(&vcon).unwrap();
    assert_eq!(link.run(&mut vcon, &testing::context()).await.unwrap(), Next::Continue);

    let requests = upstream.requests();
    let lines: Vec<String> =
        requests.iter().map(|request| format!("{} {}", request.method, request.path)).collect();
    assert_eq!(lines, ["POST /entries", "GET /.well-known/transparency-configuration", "GET /keys.json"]);
    assert_eq!(requests[0].header("content-type"), Some("application/cose"));
    let statement = statement::read(&requests[0].body).unwrap();
    assert_eq!(statement.payload.as_deref(), Some(payload().as_bytes()));
    let header = &statement.protected.header;
    assert_eq!(header.key_id, b"conserver-key-1");
    let claims = header.rest.iter().find(|(label, _)| *label == Label::Int(statement::CWT_CLAIMS)).unwrap();
    let subject = &claims.1.as_map().unwrap()[1].1;
    assert_eq!(subject.as_text(), Some("tel:+15551234567"));
    assert!(header.rest.iter().any(|(label, value)| *label == Label::Int(statement::HASH_ALGORITHM)
        && *value == Cbor::Integer((-16).into())));
    assert!(header.rest.iter().any(|(label, _)| *label == Label::Int(statement::META)));
    let verified = statement.verify_signature(b"", |signature, data| {
        key(7).verifying_key().verify(data, &Signature::from_slice(signature).unwrap())
    });
    assert!(verified.is_ok());

    let made = super::super::shared::testing::analysis(&vcon, 0);
    assert_eq!(
        (&made["type"], &made["vendor"], &made["dialog"]),
        (&json!("scitt_receipt"), &json!("scittles"), &json!(0))
    );
    let body: Value = serde_json::from_str(made["body"].as_str().unwrap()).unwrap();
    assert_eq!(
        body,
        json!({"entry_id": "e1", "cose_receipt": STANDARD.encode(receipt), "vcon_operation": "vcon_created",
            "subject": "tel:+15551234567", "vcon_hash": hash, "scrapi_url": format!("http://127.0.0.1:{}", upstream.port())})
    );
}

#[tokio::test]
async fn a_receipt_that_proves_nothing_is_not_kept() {
    let service = key(9);
    let good = receipt(&payload(), &service);
    let mut broken = good.clone();
    let last = broken.len() - 1;
    broken[last] ^= 1;
    for (receipt, keys) in [
        (receipt("another statement", &service), jwks(&service)),
        (broken, jwks(&service)),
        (good.clone(), jwks(&key(3))),
        (b"x".to_vec(), jwks(&service)),
    ] {
        let upstream = Upstream::start();
        upstream.script([cose(201, receipt, Some("/entries/e1")), configuration(&upstream), text(&keys)]);
        let link = make(options(&upstream), &testing::environment()).unwrap();
        let mut vcon = testing::vcon();
        let error = link.run(&mut vcon, &testing::context()).await.unwrap_err();
        assert!(error.to_string().contains("does not prove") && vcon.analysis().is_empty(), "{error}");
    }
}

#[tokio::test]
async fn a_registration_that_takes_its_time_is_waited_for() {
    let upstream = Upstream::start();
    let service = key(9);
    upstream.script([
        cose(303, Vec::new(), Some("/operations/o1")),
        cose(202, Vec::new(), None),
        text(&json!({"entryID": "e2"})),
        cose(200, receipt(&payload(), &service), None),
        configuration(&upstream),
        text(&jwks(&service)),
    ]);
    let mut options = options(&upstream);
    options["store_receipt"] = json!(false);
    let link = make(options, &testing::environment()).unwrap();
    let mut vcon = testing::vcon();
    link.run(&mut vcon, &testing::context()).await.unwrap();
    assert!(vcon.analysis().is_empty());
    let paths: Vec<String> = upstream.requests().into_iter().map(|request| request.path).take(4).collect();
    assert_eq!(paths, ["/entries", "/operations/o1", "/operations/o1", "/entries/e2"]);
    upstream.set_default(cose(500, Vec::new(), None));
    assert!(matches!(link.run(&mut vcon, &testing::context()).await, Err(LinkError::Temporary { .. })));
}

#[test]
fn the_key_is_read_in_every_usual_form() {
    let sec1 = p256::SecretKey::from(&key(7)).to_sec1_pem(p256::pkcs8::LineEnding::LF).unwrap().to_string();
    let with_parameters =
        format!("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{sec1}");
    for text in [pem(&key(7)), STANDARD.encode(pem(&key(7))), sec1, with_parameters] {
        assert!(Signer::read(&text).is_ok(), "{text}");
    }
    assert!(Signer::read("hunter2").is_err_and(|error| !error.contains("hunter2")));
    assert!(make(json!({"signing_key_path": "/no/such/key.pem"}), &testing::environment()).is_err());
}
