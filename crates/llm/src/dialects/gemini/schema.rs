//! Schemas.
//!
//! Gemini's own `Schema` is a subset of OpenAPI 3.0's: types in capitals, `nullable`, 64-bit numbers in quotes
//! (<https://ai.google.dev/api/caching#Schema>). Beside it the API takes JSON Schema itself, in
//! `parametersJsonSchema` and `responseJsonSchema`, and that is what is written here; the former is only read.

use serde_json::{Map, Value};

use crate::form::Losses;

/// What `responseJsonSchema` documents as supported, and annotations, which restrict nothing.
const SUPPORTED: [&str; 27] = [
    "$id",
    "$defs",
    "$ref",
    "$anchor",
    "$schema",
    "$comment",
    "type",
    "format",
    "title",
    "description",
    "enum",
    "items",
    "prefixItems",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "anyOf",
    "oneOf",
    "properties",
    "additionalProperties",
    "required",
    "propertyOrdering",
    "default",
    "examples",
    "example",
    "deprecated",
];

/// JSON Schema of one of Gemini's own.
pub(super) fn to_json_schema(schema: &Value) -> Value {
    let Value::Object(members) = schema else { return schema.clone() };
    let mut out = Map::with_capacity(members.len());
    let mut nullable = false;
    for (name, value) in members {
        match name.as_str() {
            "type" => {
                out.insert("type".into(), lower(value));
            }
            "nullable" => nullable = value == &Value::Bool(true),
            "properties" | "defs" | "$defs" => {
                let name = if name == "defs" { "$defs" } else { name };
                out.insert(name.into(), each(value));
            }
            "items" => {
                out.insert("items".into(), to_json_schema(value));
            }
            "anyOf" | "any_of" => {
                let all = value.as_array().map(|all| all.iter().map(to_json_schema).collect());
                out.insert("anyOf".into(), all.unwrap_or_default());
            }
            "additionalProperties" | "additional_properties" => {
                out.insert("additionalProperties".into(), to_json_schema(value));
            }
            "ref" => {
                out.insert("$ref".into(), value.clone());
            }
            // What is not of JSON Schema; the order is kept in `required` below.
            "propertyOrdering" | "property_ordering" => {}
            "example" => {
                out.insert("examples".into(), Value::Array(vec![value.clone()]));
            }
            "format" if value == "enum" => {}
            _ => {
                let (name, is_count) = plain_name(name);
                let value = if is_count { number(value) } else { value.clone() };
                out.insert(name.into(), value);
            }
        }
    }
    if let Some(order) = members.get("propertyOrdering").or_else(|| members.get("property_ordering")) {
        reorder(&mut out, order);
    }
    if nullable {
        allow_null(&mut out);
    }
    Value::Object(out)
}

fn each(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), to_json_schema(value))).collect()
        }
        other => other.clone(),
    }
}

fn lower(value: &Value) -> Value {
    match value {
        Value::String(text) => text.to_ascii_lowercase().into(),
        Value::Array(all) => all.iter().map(lower).collect(),
        other => other.clone(),
    }
}

/// A keyword's name in JSON Schema, and whether its value is a count that may stand in quotes.
fn plain_name(name: &str) -> (&str, bool) {
    match name {
        "minItems" | "min_items" => ("minItems", true),
        "maxItems" | "max_items" => ("maxItems", true),
        "minLength" | "min_length" => ("minLength", true),
        "maxLength" | "max_length" => ("maxLength", true),
        "minProperties" | "min_properties" => ("minProperties", true),
        "maxProperties" | "max_properties" => ("maxProperties", true),
        other => (other, false),
    }
}

fn number(value: &Value) -> Value {
    let parsed = value.as_str().and_then(|text| text.parse::<u64>().ok());
    parsed.map_or_else(|| value.clone(), Value::from)
}

/// `required` in the order that the properties are to have: models write them so.
fn reorder(schema: &mut Map<String, Value>, order: &Value) {
    let Some(Value::Array(required)) = schema.get_mut("required") else { return };
    let names = order.as_array().into_iter().flatten().filter_map(Value::as_str);
    let places: std::collections::HashMap<&str, usize> = names.zip(0..).collect();
    required
        .sort_by_key(|name| name.as_str().and_then(|name| places.get(name)).copied().unwrap_or(usize::MAX));
}

fn allow_null(schema: &mut Map<String, Value>) {
    if let Some(kind) = schema.get_mut("type") {
        match kind {
            Value::Array(all) if !all.contains(&"null".into()) => all.push("null".into()),
            Value::String(one) => *kind = Value::Array(vec![one.as_str().into(), "null".into()]),
            _ => {}
        }
    } else if let Some(Value::Array(any)) = schema.get_mut("anyOf") {
        any.push(serde_json::json!({"type": "null"}));
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.push(Value::Null);
    }
}

/// The schema of an answer as `responseJsonSchema` takes it: `const` as an `enum` of one. Keywords that the API
/// does not enforce are kept, since the model reads them, and told as lost.
pub(super) fn for_answer(schema: &Value, losses: &mut Losses) -> Value {
    let Value::Object(members) = schema else { return schema.clone() };
    let mut out = Map::with_capacity(members.len());
    for (name, value) in members {
        let value = match name.as_str() {
            "const" => {
                out.insert("enum".into(), Value::Array(vec![value.clone()]));
                continue;
            }
            "properties" | "$defs" => match value {
                Value::Object(all) => {
                    all.iter().map(|(name, value)| (name.clone(), for_answer(value, losses))).collect()
                }
                other => other.clone(),
            },
            "items" | "additionalProperties" => for_answer(value, losses),
            "anyOf" | "oneOf" | "prefixItems" => match value {
                Value::Array(all) => all.iter().map(|one| for_answer(one, losses)).collect(),
                other => other.clone(),
            },
            other => {
                if !SUPPORTED.contains(&other) {
                    losses.note(format!("schema.{other}"));
                }
                value.clone()
            }
        };
        out.insert(name.clone(), value);
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn geminis_own_schema_becomes_json_schema() {
        let own = json!({
            "type": "OBJECT",
            "properties": {
                "name": {"type": "STRING", "nullable": true, "minLength": "2"},
                "type": {"type": "STRING", "format": "enum", "enum": ["a", "b"], "nullable": true},
                "list": {"type": "ARRAY", "items": {"type": "INTEGER", "format": "int32"}, "max_items": "3"},
                "any": {"any_of": [{"type": "NUMBER"}, {"type": "BOOLEAN"}], "nullable": true},
            },
            "required": ["any", "name", "other"],
            "propertyOrdering": ["name", "type", "list", "any"],
            "example": {"name": "x"},
        });
        let expected = json!({
            "type": "object",
            "properties": {
                "name": {"type": ["string", "null"], "minLength": 2},
                "type": {"type": ["string", "null"], "enum": ["a", "b", null]},
                "list": {"type": "array", "items": {"type": "integer", "format": "int32"}, "maxItems": 3},
                "any": {"anyOf": [{"type": "number"}, {"type": "boolean"}, {"type": "null"}]},
            },
            "required": ["name", "any", "other"],
            "examples": [{"name": "x"}],
        });
        assert_eq!(to_json_schema(&own), expected);
    }

    #[test]
    fn what_is_not_enforced_is_told() {
        let mut losses = Losses::default();
        let schema = json!({
            "type": "object",
            "properties": {
                "pattern": {"type": "string", "pattern": "^a", "minLength": 1},
                "kind": {"const": "x"},
            },
        });
        let expected = json!({
            "type": "object",
            "properties": {
                "pattern": {"type": "string", "pattern": "^a", "minLength": 1},
                "kind": {"enum": ["x"]},
            },
        });
        assert_eq!(for_answer(&schema, &mut losses), expected);
        assert_eq!(losses.names(), ["schema.minLength", "schema.pattern"]);
    }
}
