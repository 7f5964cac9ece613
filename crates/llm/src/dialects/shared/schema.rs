//! JSON Schemas as the constrained decoding of Claude's models takes them.
//!
//! Source: <https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations>.

use serde_json::{Map, Value, json};

use crate::form::Losses;

/// What may stand in a schema.
const KEPT: &[&str] = &[
    "$defs",
    "$ref",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "default",
    "definitions",
    "description",
    "enum",
    "format",
    "items",
    "minItems",
    "properties",
    "required",
    "title",
    "type",
];

/// The formats of strings that are enforced.
const FORMATS: &[&str] =
    &["date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"];

/// Leaves out what would be refused, each told once as `schema.minimum`, and closes objects, which the provider
/// wants closed.
pub(in crate::dialects) fn enforceable(schema: &Value, losses: &mut Losses) -> Value {
    let Value::Object(members) = schema else { return schema.clone() };
    let mut out = Map::new();
    for (name, value) in members {
        match (name.as_str(), value) {
            ("properties" | "$defs" | "definitions", Value::Object(inner)) => {
                let inner = inner.iter().map(|(key, value)| (key.clone(), enforceable(value, losses)));
                out.insert(name.clone(), Value::Object(inner.collect()));
            }
            ("anyOf" | "oneOf" | "allOf", Value::Array(inner)) => {
                let inner: Vec<Value> = inner.iter().map(|value| enforceable(value, losses)).collect();
                let name = if name == "oneOf" { "anyOf" } else { name };
                out.insert(name.to_owned(), inner.into());
            }
            ("items", value) => {
                out.insert(name.clone(), enforceable(value, losses));
            }
            ("format", Value::String(format)) if !FORMATS.contains(&format.as_str()) => {
                losses.note("schema.format");
            }
            ("minItems", value) if value.as_u64().is_none_or(|n| n > 1) => losses.note("schema.minItems"),
            ("additionalProperties", Value::Bool(false)) => {
                out.insert(name.clone(), Value::Bool(false));
            }
            ("additionalProperties", _) => losses.note("schema.additionalProperties"),
            // It only names the dialect of JSON Schema.
            ("$schema", _) => {}
            (kept, value) if KEPT.contains(&kept) => {
                out.insert(name.clone(), value.clone());
            }
            (other, _) => losses.note(format!("schema.{other}")),
        }
    }
    if out.get("type") == Some(&json!("object")) || out.contains_key("properties") {
        out.insert("additionalProperties".into(), Value::Bool(false));
    }
    Value::Object(out)
}

/// The parameters of a tool, which must be an object's schema; without any, a schema of no arguments.
pub(in crate::dialects) fn parameters(schema: Option<&Value>) -> Value {
    match schema {
        Some(Value::Object(members)) if members.get("type").is_none_or(Value::is_null) => {
            let mut members = members.clone();
            members.insert("type".into(), "object".into());
            Value::Object(members)
        }
        Some(schema @ Value::Object(_)) => schema.clone(),
        _ => json!({"type": "object", "properties": {}}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_enforced_is_told() {
        let schema = json!({"$schema": "x", "type": "object", "required": ["n"], "properties": {
            "n": {"type": "integer", "minimum": 1}, "minimum": {"type": "string", "format": "email"},
            "l": {"type": "array", "minItems": 2, "items": {"oneOf": [{"type": "string", "pattern": "a"}]}},
            "o": {"type": "object", "additionalProperties": {"type": "string"}}}});
        let mut losses = Losses::default();
        let out = enforceable(&schema, &mut losses);
        assert_eq!(
            out,
            json!({"type": "object", "required": ["n"], "additionalProperties": false, "properties": {
                "n": {"type": "integer"}, "minimum": {"type": "string", "format": "email"},
                "l": {"type": "array", "items": {"anyOf": [{"type": "string"}]}},
                "o": {"type": "object", "additionalProperties": false}}})
        );
        let told = ["schema.pattern", "schema.minItems", "schema.minimum", "schema.additionalProperties"];
        for name in told {
            assert!(losses.names().iter().any(|told| told == name), "{name}: {losses:?}");
        }
        assert_eq!(losses.names().len(), told.len());
    }
}
