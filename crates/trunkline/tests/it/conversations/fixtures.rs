//! vCons of every version, valid, invalid and hostile, sent to the API: each gets the status it should, and what is
//! taken comes back.

use serde_json::{Value, json};

use super::{AUTH, TOKEN, uuid, vcon};
use crate::app::TestApp;

fn with(n: usize, key: &str, value: Value) -> Vec<u8> {
    let mut vcon = vcon(n);
    vcon[key] = value;
    vcon.to_string().into_bytes()
}

fn dialog(n: usize, dialog: Value) -> Vec<u8> {
    with(n, "dialog", Value::Array(vec![dialog]))
}

fn party(n: usize, party: Value) -> Vec<u8> {
    with(n, "parties", Value::Array(vec![party, json!({})]))
}

fn minimal(n: usize, version: &str) -> Vec<u8> {
    json!({"vcon": version, "uuid": uuid(n), "created_at": "2026-11-20T10:00:00+00:00"})
        .to_string()
        .into_bytes()
}

fn without(n: usize, key: &str) -> Vec<u8> {
    let mut vcon = vcon(n);
    vcon.as_object_mut().unwrap().remove(key);
    vcon.to_string().into_bytes()
}

/// Each: what it is, what is sent, what is answered.
fn cases() -> Vec<(&'static str, Vec<u8>, u16)> {
    let mut n = 0;
    let mut next = || {
        n += 1;
        n
    };
    let signed = json!({"payload": "e30", "signatures": [{"protected": "e30", "signature": "AAAA"}]});
    let encrypted =
        json!({"ciphertext": "AAAA", "recipients": [{"encrypted_key": "AAAA"}], "iv": "AA", "tag": "AA"});
    let mut upper = vcon(next());
    upper["uuid"] = json!(uuid(1).to_uppercase());
    vec![
        // Valid, of every version.
        ("0.0.1", minimal(next(), "0.0.1"), 201),
        ("0.0.2", minimal(next(), "0.0.2"), 201),
        ("0.3.0", minimal(next(), "0.3.0"), 201),
        ("0.4.0", minimal(next(), "0.4.0"), 201),
        ("an unknown version", minimal(next(), "9.9.9"), 201),
        ("with everything", vcon(next()).to_string().into_bytes(), 201),
        ("a uuid in capitals", upper.to_string().into_bytes(), 201),
        ("a time by number", with(next(), "created_at", json!(1_732_096_800)), 201),
        ("a time by fraction", with(next(), "created_at", json!(1_732_096_800.25)), 201),
        ("a day", with(next(), "created_at", json!("2026-11-20")), 201),
        ("a time with an offset", with(next(), "created_at", json!("2026-11-20T10:00:00.123+05:30")), 201),
        ("subject null", with(next(), "subject", Value::Null), 201),
        ("appended null", with(next(), "appended", Value::Null), 201),
        ("a group", with(next(), "group", json!([{"uuid": uuid(1)}])), 201),
        ("amended and critical", with(next(), "critical", json!(["x"])), 201),
        (
            "unknown members everywhere",
            party(next(), json!({"tel": "+15551234567", "deep": {"er": [null, 1.0]}})),
            201,
        ),
        ("a tel in parentheses", party(next(), json!({"tel": "(555) 123-4567 x89"})), 201),
        ("tel null", party(next(), json!({"tel": null})), 201),
        ("duration as text", dialog(next(), json!({"duration": "12.5"})), 201),
        ("duration 0", dialog(next(), json!({"duration": 0})), 201),
        ("mediatype with parameters", dialog(next(), json!({"mediatype": "audio/wav; codecs=1"})), 201),
        (
            "an s3 url",
            dialog(next(), json!({"url": "s3://b/k", "alg": "SHA-256", "content_hash": "sha512-x"})),
            201,
        ),
        ("every alg", dialog(next(), json!({"alg": "PS512"})), 201),
        ("tags as a map", with(next(), "attachments", json!([{"type": "tags", "body": {"a": "b"}}])), 201),
        ("emoji and escapes", with(next(), "subject", json!("\u{1f600}\u{0}\"\\ \u{2028}")), 201),
        (
            "signed, with its uuid beside",
            {
                let mut vcon = signed;
                vcon["uuid"] = json!(uuid(next()));
                vcon["vcon"] = json!("0.4.0");
                vcon["created_at"] = json!("2026-11-20");
                vcon.to_string().into_bytes()
            },
            201,
        ),
        (
            "encrypted, with its uuid beside",
            {
                let mut vcon = encrypted;
                vcon["uuid"] = json!(uuid(next()));
                vcon["vcon"] = json!("0.4.0");
                vcon["created_at"] = json!("2026-11-20");
                vcon.to_string().into_bytes()
            },
            201,
        ),
        (
            "a huge recording inside",
            dialog(
                next(),
                json!({"type": "recording", "body": "A".repeat(18 << 20), "encoding": "base64url"}),
            ),
            201,
        ),
        (
            "a member twice",
            format!(
                "{{\"uuid\":\"{0}\",\"vcon\":\"x\",\"vcon\":\"0.4.0\",\"created_at\":\"2026-11-20\"}}",
                uuid(next())
            )
            .into_bytes(),
            201,
        ),
        // Invalid.
        ("nothing", Vec::new(), 422),
        ("no JSON", b"{".to_vec(), 422),
        ("no UTF-8", b"{\"uuid\":\"\xff\"}".to_vec(), 422),
        ("two values", b"{} {}".to_vec(), 422),
        ("a list", b"[]".to_vec(), 422),
        ("null", b"null".to_vec(), 422),
        ("no uuid", without(next(), "uuid"), 422),
        ("no version", without(next(), "vcon"), 422),
        ("no time", without(next(), "created_at"), 422),
        ("a uuid that is none", with(next(), "uuid", json!("1234")), 422),
        ("a uuid by number", with(next(), "uuid", json!(7)), 422),
        ("a time that is none", with(next(), "created_at", json!("yesterday")), 422),
        ("a time beyond all times", with(next(), "created_at", json!(1e300)), 422),
        ("parties null", with(next(), "parties", Value::Null), 422),
        ("parties no list", with(next(), "parties", json!({})), 422),
        ("a party that is a text", with(next(), "parties", json!(["Ann"])), 422),
        ("a tel URI", party(next(), json!({"tel": "tel:+15551234567"})), 422),
        ("a short tel", party(next(), json!({"tel": "+1234"[..4].to_owned()})), 422),
        ("a tel with letters", party(next(), json!({"tel": "+1555CALLNOW"})), 422),
        ("duration below 0", dialog(next(), json!({"duration": -0.5})), 422),
        ("duration as words", dialog(next(), json!({"duration": "long"})), 422),
        ("a url without scheme", dialog(next(), json!({"url": "example.com"})), 422),
        ("a mimetype with parameters", dialog(next(), json!({"mimetype": "audio/wav; x=1"})), 422),
        ("an unknown alg", dialog(next(), json!({"alg": "MD5"})), 422),
        ("a single party", dialog(next(), json!({"parties": 0})), 422),
        ("parties in parties", dialog(next(), json!({"parties": [[0]]})), 422),
        ("a party that is not there", dialog(next(), json!({"parties": [2]})), 422),
        ("a party below 0", dialog(next(), json!({"parties": [-1]})), 422),
        // Hostile.
        (
            "nested too deeply",
            format!("{{\"uuid\":\"{}\",\"a\":{}{}}}", uuid(next()), "[".repeat(100_000), "]".repeat(100_000))
                .into_bytes(),
            422,
        ),
        ("open brackets", "[".repeat(1 << 20).into_bytes(), 422),
        (
            "too many parties to tell of",
            with(next(), "parties", json!(vec![json!({"tel": "x"}); 20_000])),
            422,
        ),
        ("too large", vec![b' '; (20 << 20) + 1], 413),
    ]
}

#[tokio::test]
async fn every_vcon_gets_the_status_it_should_and_what_is_taken_comes_back() {
    let app = TestApp::start(&format!("conversations: {{api_token: {TOKEN}}}\n")).await;
    let cases = cases();
    assert!(cases.len() >= 55, "{}", cases.len());
    for (what, body, status) in cases {
        let answer = app.client().post_json("/vcon", &AUTH, &body).await;
        assert_eq!(answer.status, status, "{what}: {}", &answer.text()[..answer.text().len().min(500)]);
        if status != 201 {
            let detail = &answer.json()["detail"];
            let shaped =
                detail[0]["loc"].is_array() && detail[0]["msg"].is_string() && detail[0]["type"].is_string();
            assert!(shaped || status == 413, "{what}: {detail}");
            assert!(answer.body.len() < 100_000, "{what}: an error of {} bytes", answer.body.len());
            continue;
        }
        let sent: Value = serde_json::from_slice(&body).unwrap();
        let uuid = sent["uuid"].as_str().unwrap().to_lowercase();
        let shown = app.client().get(&format!("/vcon/{uuid}"), &AUTH).await;
        assert_eq!((shown.status, shown.body == answer.body), (200, true), "{what}");
        let shown = shown.json();
        for (key, value) in sent.as_object().unwrap() {
            let kept = &shown[key];
            let same = match key.as_str() {
                "created_at" | "parties" | "dialog" => !kept.is_null(),
                _ => kept == value,
            };
            assert!(same, "{what}: {key} is {kept}, not {value}");
        }
    }
}
