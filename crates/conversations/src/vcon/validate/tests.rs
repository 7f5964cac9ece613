use bytes::Bytes;
use serde_json::{Value, json};

use super::*;

const UUID: &str = "018e3d10-0c1f-8d8c-9b1a-5f9b1c6f0a11";

fn with(part: Value) -> Bytes {
    let mut vcon = json!({"vcon": "0.0.1", "uuid": UUID, "created_at": "2026-11-20T10:00:00Z",
        "parties": [{"tel": "+15551234567"}, {}]});
    let Value::Object(part) = part else { panic!() };
    for (key, value) in part {
        vcon[key] = value;
    }
    vcon.to_string().into()
}

/// The eleven rejections of the Conserver, and the place each names.
#[test]
fn what_the_conserver_refuses_is_refused() {
    let dialog = |dialog: Value| with(json!({"dialog": [dialog]}));
    let cases: Vec<(Bytes, &str, Value)> = vec![
        (Bytes::from_static(b"{"), "json_invalid", json!(["body", 0])),
        (Bytes::from_static(b"[]"), "model_attributes_type", json!(["body"])),
        (
            Bytes::from_static(b"{\"vcon\":\"x\",\"created_at\":\"2026-11-20\"}"),
            "missing",
            json!(["body", "uuid"]),
        ),
        (with(json!({"uuid": "x"})), "uuid_parsing", json!(["body", "uuid"])),
        (with(json!({"created_at": "tomorrow"})), "datetime_parsing", json!(["body", "created_at"])),
        (with(json!({"vcon": 4})), "string_type", json!(["body", "vcon"])),
        (with(json!({"parties": null})), "list_type", json!(["body", "parties"])),
        (
            with(json!({"parties": [{"tel": "tel:+15551234567"}]})),
            "value_error",
            json!(["body", "parties", 0, "tel"]),
        ),
        (with(json!({"parties": [{"tel": "+123"}]})), "value_error", json!(["body", "parties", 0, "tel"])),
        (dialog(json!({"duration": -1})), "value_error", json!(["body", "dialog", 0, "duration"])),
        (dialog(json!({"duration": "long"})), "float_parsing", json!(["body", "dialog", 0, "duration"])),
        (dialog(json!({"url": "example.com/a"})), "value_error", json!(["body", "dialog", 0, "url"])),
        (
            dialog(json!({"mimetype": "audio/wav; rate=8"})),
            "value_error",
            json!(["body", "dialog", 0, "mimetype"]),
        ),
        (dialog(json!({"alg": "MD5"})), "value_error", json!(["body", "dialog", 0, "alg"])),
        (dialog(json!({"parties": 0})), "list_type", json!(["body", "dialog", 0, "parties"])),
        (dialog(json!({"parties": [[0]]})), "int_type", json!(["body", "dialog", 0, "parties", 0])),
        (dialog(json!({"parties": [0, 2]})), "value_error", json!(["body", "dialog", 0, "parties", 1])),
        (with(json!({"dialog": ["x"]})), "dict_type", json!(["body", "dialog", 0])),
        (with(json!({"group": null})), "list_type", json!(["body", "group"])),
    ];
    for (body, kind, loc) in cases {
        let errors = read(&body).unwrap_err();
        assert_eq!(
            (errors[0]["type"].as_str(), &errors[0]["loc"]),
            (Some(kind), &loc),
            "{body:?}: {errors:?}"
        );
        assert!(errors[0]["msg"].is_string() && errors[0].get("input").is_some());
    }
}

#[test]
fn what_the_conserver_takes_is_taken_and_stored_as_it_does() {
    let dialog = json!([{"duration": "1.5", "parties": [0, 1], "mimetype": "audio/x-wav", "mediatype": "anything; at all",
        "url": "s3://bucket/a", "alg": "SHA-512", "more": {"x": 1}}]);
    let mut vcon = read(&with(json!({"dialog": dialog, "mine": [1, 2]}))).unwrap();
    vcon.materialise();
    let value = vcon.to_value();
    assert_eq!(value["created_at"], "2026-11-20T10:00:00+00:00");
    assert_eq!((&value["dialog"][0]["duration"], &value["dialog"][0]["start"]), (&json!(1.5), &Value::Null));
    assert_eq!((&value["parties"][1], &value["mine"]), (&json!({"tel": null}), &json!([1, 2])));
    let (empty, null) = (json!([]), Value::Null);
    assert_eq!((&value["subject"], &value["group"], &value["attachments"]), (&null, &empty, &empty));
    vcon.settle();
    vcon.materialise();
    assert!(!vcon.is_changed());
    for (given, stored) in [
        (json!(1_732_096_800), "2024-11-20T10:00:00+00:00"),
        (json!("2024-11-20"), "2024-11-20"),
        (json!("2024-11-20T10:00:00.5+01:00"), "2024-11-20T10:00:00.5+01:00"),
    ] {
        let vcon = read(&with(json!({"created_at": given})));
        assert_eq!(vcon.unwrap().created_at().as_deref(), Some(stored));
    }
}
