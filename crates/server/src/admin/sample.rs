//! A value that fits a schema, for the examples of `/docs`.

use serde_json::{Map, Value, json};

/// How deep a sample goes.
const MAX_DEPTH: usize = 8;

/// A small value of this schema: what is required, and the first of each choice.
pub(crate) fn sample(schema: &Value, document: &Value) -> Value {
    of(schema, document, 0)
}

fn of(schema: &Value, document: &Value, depth: usize) -> Value {
    if depth > MAX_DEPTH {
        return Value::Null;
    }
    if let Some(reference) = schema["$ref"].as_str() {
        return match reference.rsplit('/').next() {
            Some("Money") => json!("12.50"),
            Some("Duration") => json!("90d"),
            Some("Secret") => json!("sk-…"),
            _ => {
                let target = document.pointer(reference.trim_start_matches('#'));
                target.map_or(Value::Null, |target| of(target, document, depth + 1))
            }
        };
    }
    for given in [&schema["examples"][0], &schema["const"], &schema["default"], &schema["enum"][0]] {
        if !given.is_null() {
            return given.clone();
        }
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        if let Some(first) = schema[choice].get(0) {
            return of(first, document, depth + 1);
        }
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
    match kind {
        Some("object") => object(schema, document, depth),
        Some("array") => json!([of(&schema["items"], document, depth + 1)]),
        Some("integer" | "number") => json!(schema["minimum"].as_i64().unwrap_or(1)),
        Some("boolean") => json!(true),
        Some("string") => json!("example"),
        _ => Value::Null,
    }
}

fn object(schema: &Value, document: &Value, depth: usize) -> Value {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let part = |name: &str| (name.to_owned(), of(&schema["properties"][name], document, depth + 1));
    Value::Object(required.map(part).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_what_is_required() {
        let document = json!({"components": {"schemas": {
            "Money": {"type": "string"},
            "New": {
                "type": "object",
                "required": ["name", "balance", "way", "ids"],
                "properties": {
                    "name": {"type": "string"},
                    "balance": {"$ref": "#/components/schemas/Money"},
                    "way": {"oneOf": [{"const": "up"}, {"const": "down"}]},
                    "ids": {"type": ["array", "null"], "items": {"type": "integer", "minimum": 3}},
                    "other": {"type": "string"},
                },
            },
            "Loop": {"type": "object", "required": ["next"], "properties": {"next": {"$ref": "#/components/schemas/Loop"}}},
        }}});
        let of = |name: &str| sample(&json!({"$ref": format!("#/components/schemas/{name}")}), &document);
        assert_eq!(of("New"), json!({"name": "example", "balance": "12.50", "way": "up", "ids": [3]}));
        assert!(of("Loop").is_object());
        assert_eq!(of("Missing"), Value::Null);
    }
}
