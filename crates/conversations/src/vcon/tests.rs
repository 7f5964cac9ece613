use serde_json::json;

use super::*;

const UUID: &str = "018e3d10-0c1f-8d8c-9b1a-5f9b1c6f0a11";

fn vcon(text: &str) -> Vcon {
    Vcon::parse(text.replace("UUID", UUID)).unwrap()
}

#[test]
fn what_nobody_changes_stays_byte_for_byte() {
    let text = r#"{ "uuid":"UUID", "zeta": 1.500, "big": 123456789012345678901234567890,
        "parties": [ {"tel":"+1\u0032", "x":  1e3} ], "vcon":"0.0.1" }"#;
    let mut vcon = vcon(text);
    assert_eq!(vcon.to_bytes(), text.replace("UUID", UUID));
    vcon.add_tag("a", "b");
    let text = String::from_utf8(vcon.to_bytes().to_vec()).unwrap();
    for kept in ["\"zeta\":1.500", "\"big\":123456789012345678901234567890", r#"{"tel":"+1\u0032","x":1e3}"#]
    {
        assert!(text.contains(kept), "{text}");
    }
    let uuid = text.find("\"uuid\"").unwrap();
    assert!(uuid < text.find("\"zeta\"").unwrap() && vcon.is_changed());
}

#[test]
fn tags_are_found_in_every_form_and_not_doubled() {
    let mut old = vcon(r#"{"uuid":"UUID","attachments":[{"type":"tags","body":{"iron":"maiden"}}]}"#);
    assert_eq!(old.tag("iron").as_deref(), Some("maiden"));
    old.canonicalise();
    old.add_tag("iron", "maiden");
    old.add_tag("a", "b:c");
    assert_eq!(old.tags(), [("iron".into(), "maiden".into()), ("a".into(), "b:c".into())]);
    assert_eq!(old.attachments()[0].text("body").unwrap(), r#"["iron:maiden","a:b:c"]"#);
    assert_eq!(old.attachments()[0].text("purpose").unwrap(), "tags");
}

#[test]
fn the_canonical_form_is_reached_once() {
    let text = r#"{"vcon":"0.0.1","uuid":"UUID","appended":{"uuid":"x"},"group":[],"redacted":{},
        "dialog":[{"type":"text","mimetype":"text/plain"}],
        "analysis":[{"type":"t","schema_version":"1","body":{"a": [1]}}],
        "attachments":[{"type":"doc","body":[1, 2]}]}"#;
    let mut vcon = vcon(text);
    vcon.canonicalise();
    let expected = json!({"vcon":"0.4.0","uuid":UUID,"amended":{"uuid":"x"},
        "dialog":[{"type":"text","mediatype":"text/plain"}],
        "analysis":[{"type":"t","schema":"1","body":"{\"a\": [1]}","encoding":"json"}],
        "attachments":[{"purpose":"doc","body":"[1, 2]","encoding":"json"}]});
    assert_eq!(vcon.to_value(), expected);
    vcon.settle();
    vcon.canonicalise();
    assert!(!vcon.is_changed());
    let legacy = vcon.to_legacy().to_value();
    // Bodies are opened, and what was never there is as it always was.
    assert_eq!(
        (&legacy["analysis"][0]["body"], &legacy["analysis"][0]["encoding"]),
        (&json!({"a": [1]}), &json!("none"))
    );
    assert_eq!((&legacy["attachments"][0]["body"], &legacy["group"]), (&json!([1, 2]), &json!([])));
    assert_eq!((&legacy["redacted"], &legacy["appended"]), (&json!({}), &json!({"uuid":"x"})));
    assert_eq!(
        (legacy["vcon"].as_str(), legacy["attachments"][0]["type"].as_str()),
        (Some("0.0.1"), Some("doc"))
    );
}

#[test]
fn hostile_text_is_refused_not_followed() {
    let deep = format!("{{\"uuid\":\"{UUID}\",\"a\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    assert!(matches!(Vcon::parse(deep), Err(VconError::Depth)));
    for bad in ["", "null", "[]", "{", "{\"uuid\":1}", "{\"uuid\":\"x\"}", "\u{0}"] {
        assert!(Vcon::parse(bad.to_owned()).is_err(), "{bad:?}");
    }
    let many: String = (0..20_000).map(|i| format!("\"k{}\":{i},", i % 10_000)).collect();
    let vcon = vcon(&format!("{{{many}\"uuid\":\"UUID\"}}"));
    assert_eq!((vcon.keys().count(), vcon.value("k5")), (10_001, Some(json!(10_005))));
}
