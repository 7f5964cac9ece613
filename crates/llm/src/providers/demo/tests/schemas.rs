//! Values for JSON Schemas.

use super::super::schema::fill;
use super::super::text::Words;
use super::*;

fn filled(schema: Value) -> Result<Value, String> {
    fill(&schema, &Words::of("Please tell Ann, who lives in New York, about 7 or -2.5 apples"))
}

#[test]
fn each_type_has_its_value() {
    let cases = [
        (json!(true), json!("Ann")),
        (json!({}), json!("Ann")),
        (json!({"type": "string"}), json!("Ann")),
        (json!({"type": ["null", "integer"]}), json!(7)),
        (json!({"type": "number"}), json!(7.0)),
        (json!({"type": "boolean"}), json!(true)),
        (json!({"type": "null"}), Value::Null),
        (json!({"type": "array", "items": {"type": "number"}, "minItems": 3}), json!([7.0, -2.5, 1.0])),
        (json!({"type": "array", "maxItems": 0}), json!([])),
        (json!({"prefixItems": [{"type": "integer"}, {"type": "string"}]}), json!([7, "Ann"])),
        (json!({"type": "object"}), json!({})),
        (json!({"const": [1]}), json!([1])),
        (json!({"enum": ["b", "a"]}), json!("b")),
        (json!({"type": "string", "pattern": "^x", "default": "x"}), json!("x")),
        (json!({"anyOf": [false, {"type": "null"}]}), Value::Null),
        (json!({"oneOf": [{"type": "integer"}, {"type": "null"}]}), json!(7)),
    ];
    for (schema, value) in cases {
        assert_eq!(filled(schema.clone()), Ok(value), "{schema}");
    }
}

#[test]
fn bounds_hold() {
    let cases = [
        (json!({"type": "integer", "maximum": 5}), json!(5)),
        (json!({"type": "integer", "minimum": 10}), json!(10)),
        (json!({"type": "integer", "exclusiveMinimum": 7}), json!(8)),
        (json!({"type": "integer", "exclusiveMaximum": 7}), json!(6)),
        (json!({"type": "integer", "multipleOf": 5}), json!(10)),
        (json!({"type": "integer", "multipleOf": 5, "maximum": 9}), json!(5)),
        (json!({"type": "number", "exclusiveMinimum": 7}), json!(8.0)),
        (json!({"type": "number", "minimum": 7.25, "maximum": 7.5}), json!(7.25)),
        (json!({"type": "string", "maxLength": 2}), json!("An")),
        (json!({"type": "string", "minLength": 5}), json!("AnnAn")),
        (json!({"type": "string", "format": "date"}), json!("2026-01-31")),
        (
            json!({"type": "object", "minProperties": 1, "properties": {"a": {"type": "integer"}}}),
            json!({"a": 7}),
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "minItems": 2, "uniqueItems": true}),
            json!(["Ann", "New York"]),
        ),
    ];
    for (schema, value) in cases {
        let got = filled(schema.clone());
        assert_eq!(got, Ok(value), "{schema}");
    }
}

#[test]
fn objects_have_what_they_require_through_references() {
    let schema = json!({
        "$defs": {
            "Person": {"type": "object", "required": ["name", "home", "friend"], "properties": {
                "name": {"type": "string"}, "home": {"$ref": "#/$defs/Place"},
                "friend": {"anyOf": [{"$ref": "#/$defs/Person"}, {"type": "null"}]},
                "friends": {"type": "array", "items": {"$ref": "#/$defs/Person"}}}},
            "Place": {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}},
        },
        "allOf": [{"$ref": "#/$defs/Person"}, {"required": ["age"], "properties": {"age": {"type": "integer"}}}],
    });
    let expected = json!({"name": "Ann", "home": {"city": "New York"}, "friend":
        {"name": "apples", "home": {"city": "apples"}, "friend": null}, "age": 7});
    assert_eq!(filled(schema), Ok(expected));
}

#[test]
fn what_cannot_be_filled_says_why() {
    let cases = [
        (json!(false), "no value"),
        (json!(7), "an object or a boolean"),
        (json!({"type": "date"}), "not a type"),
        (json!({"$ref": "#"}), "leads to itself"),
        (json!({"$ref": "https://example.com/schema"}), "leads nowhere"),
        (json!({"type": "integer", "minimum": 2, "maximum": 1}), "bounds"),
        (json!({"type": "integer", "minimum": 1e300}), "too far out"),
        (json!({"type": "string", "minLength": 2, "maxLength": 1}), "minLength"),
        (json!({"type": "string", "minLength": 1_000_000_000_000_u64}), "larger than 64 KiB"),
        (json!({"type": "string", "format": "uuid", "maxLength": 3}), "`format`"),
        (json!({"type": "array", "minItems": 1_000_000_000_000_u64}), "larger than 64 KiB"),
        (json!({"type": "array", "minItems": 9, "uniqueItems": true}), "must differ"),
        (json!({"minProperties": 3, "properties": {"a": true}}), "3 properties"),
        (json!({"required": ["a"], "additionalProperties": false}), "no value"),
    ];
    for (schema, said) in cases {
        let why = filled(schema.clone()).unwrap_err();
        assert!(why.contains(said), "{schema}: {why}");
    }
}

#[test]
fn schemas_that_explode_are_cut_off() {
    let mut defs = serde_json::Map::new();
    for level in 0..30 {
        let next = json!({"$ref": format!("#/$defs/l{}", level + 1)});
        defs.insert(
            format!("l{level}"),
            json!({"required": ["a", "b"], "properties": {"a": next, "b": next}}),
        );
    }
    defs.insert("l30".into(), json!(true));
    let schema = json!({"$defs": defs, "$ref": "#/$defs/l0"});
    assert!(filled(schema).is_err());
    let mut nested = json!({"type": "string"});
    for _ in 0..40 {
        nested = json!({"type": "array", "items": nested, "minItems": 1});
    }
    assert!(filled(nested).unwrap_err().contains("deeper"));
}
