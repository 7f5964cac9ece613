//! The kinds of request bodies.

use bytes::Bytes;
use http::HeaderValue;
use schemars::{JsonSchema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::call::Nothing;
use super::decode;
use super::refusal::{Form, Refusal};

/// The largest JSON body.
const MAX_JSON: usize = 1 << 20;

/// What a route's body may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted {
    /// Media types; none: there is no body to read.
    pub(crate) media: &'static [&'static str],
    /// Bytes.
    pub(crate) max: usize,
    /// Whether it has to be there.
    pub(crate) required: bool,
}

/// A body as it came.
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    pub(crate) form: Form,
}

/// A body that a handler takes.
pub(crate) trait Input: Sized + Send + 'static {
    const ACCEPTED: Accepted;

    fn read(received: Received) -> Result<Self, Refusal>;

    /// Its schema; `None` without a body.
    fn schema(generator: &mut SchemaGenerator) -> Option<Value>;
}

impl Input for Nothing {
    const ACCEPTED: Accepted = Accepted { media: &[], max: 0, required: false };

    fn read(_: Received) -> Result<Self, Refusal> {
        Ok(Nothing {})
    }

    fn schema(_: &mut SchemaGenerator) -> Option<Value> {
        None
    }
}

const JSON: &[&str] = &["application/json"];

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned + JsonSchema + Send + 'static> Input for Body<T> {
    const ACCEPTED: Accepted = Accepted { media: JSON, max: MAX_JSON, required: true };

    fn read(received: Received) -> Result<Self, Refusal> {
        decode::json(&parse(&received.bytes)?, received.form).map(Body)
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Value> {
        Some(generator.subschema_for::<T>().to_value())
    }
}

/// A JSON body that may be left out.
pub(crate) struct Maybe<T>(pub(crate) T);

impl<T: DeserializeOwned + JsonSchema + Default + Send + 'static> Input for Maybe<T> {
    const ACCEPTED: Accepted = Accepted { media: JSON, max: MAX_JSON, required: false };

    fn read(received: Received) -> Result<Self, Refusal> {
        if received.bytes.is_empty() {
            return Ok(Maybe(T::default()));
        }
        decode::json(&parse(&received.bytes)?, received.form).map(Maybe)
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Value> {
        Some(generator.subschema_for::<T>().to_value())
    }
}

/// What the name of an entry is called in its JSON.
pub(crate) trait NameField {
    const NAME_FIELD: &'static str = "name";
}

/// A section of the settings with the name it has: `{"name": …, …the section's own keys}`.
pub(crate) struct Named<T> {
    pub(crate) name: EntryName,
    pub(crate) value: T,
}

/// The name of an entry of the settings; what each kind of entry asks beyond this it checks itself.
pub(crate) type EntryName = super::Line<1, 300>;

impl<T: DeserializeOwned + JsonSchema + NameField + Send + 'static> Input for Named<T> {
    const ACCEPTED: Accepted = Accepted { media: JSON, max: MAX_JSON, required: true };

    fn read(received: Received) -> Result<Self, Refusal> {
        let mut body = parse(&received.bytes)?;
        let Some(map) = body.as_object_mut() else {
            let text = "The body: expected an object.";
            return Err(Refusal::new(base::Kind::Invalid, "invalid_value", text));
        };
        let field = T::NAME_FIELD;
        let name = match map.remove(field) {
            Some(Value::String(name)) => EntryName::parse(name)
                .map_err(|text| Refusal::invalid(field, format!("`{field}`: {text}.")))?,
            Some(_) => return Err(Refusal::invalid(field, format!("`{field}`: expected a text."))),
            None => {
                let text = format!("The field `{field}` is missing.");
                return Err(Refusal::new(base::Kind::Invalid, "missing_field", text).at(field));
            }
        };
        Ok(Named { name, value: decode::json(&body, received.form)? })
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Value> {
        let name = EntryName::json_schema(generator).to_value();
        let mut schema = T::json_schema(generator).to_value();
        let object = schema.as_object_mut()?;
        if let Some(properties) = object.entry("properties").or_insert_with(|| json!({})).as_object_mut() {
            properties.insert(T::NAME_FIELD.into(), name);
        }
        if let Some(required) = object.entry("required").or_insert_with(|| json!([])).as_array_mut() {
            required.push(T::NAME_FIELD.into());
        }
        Some(schema)
    }
}

/// Some of the fields of a section; null clears.
pub(crate) struct Patch<T> {
    fields: serde_json::Map<String, Value>,
    form: Form,
    of: std::marker::PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Patch<T> {
    /// What a section is after the change.
    pub(crate) fn apply(self, mut before: Value) -> Result<T, Refusal> {
        if let Some(map) = before.as_object_mut() {
            for (field, value) in self.fields {
                match value {
                    Value::Null => drop(map.remove(&field)),
                    value => drop(map.insert(field, value)),
                }
            }
        }
        decode::json(&before, self.form)
    }
}

impl<T: DeserializeOwned + JsonSchema + Send + 'static> Input for Patch<T> {
    const ACCEPTED: Accepted = Accepted { media: JSON, max: MAX_JSON, required: true };

    fn read(received: Received) -> Result<Self, Refusal> {
        match parse(&received.bytes)? {
            Value::Object(fields) => Ok(Patch { fields, form: received.form, of: std::marker::PhantomData }),
            _ => Err(Refusal::new(base::Kind::Invalid, "invalid_value", "The body: expected an object.")),
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Value> {
        let mut schema = T::json_schema(generator).to_value();
        schema.as_object_mut()?.remove("required");
        Some(schema)
    }
}

/// A file: bytes that the handler reads itself, as its query says.
pub(crate) struct Upload(pub(crate) Bytes);

impl Input for Upload {
    const ACCEPTED: Accepted = Accepted {
        media: &["application/octet-stream", "application/json", "text/csv", "text/plain"],
        max: 32 << 20,
        required: true,
    };

    fn read(received: Received) -> Result<Self, Refusal> {
        Ok(Upload(received.bytes))
    }

    fn schema(_: &mut SchemaGenerator) -> Option<Value> {
        Some(json!({}))
    }
}

/// Reads a value that a handler has taken apart itself.
pub(crate) fn decode_json<T: DeserializeOwned>(value: &Value) -> Result<T, Refusal> {
    decode::json(value, Form::Native)
}

fn parse(bytes: &[u8]) -> Result<Value, Refusal> {
    if bytes.is_empty() {
        let text = "The body is missing: send a JSON object.";
        return Err(Refusal::new(base::Kind::Invalid, "missing_body", text));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        // What it says of the text is about syntax and place, and repeats nothing.
        let text = format!("The body is not JSON: {error}.");
        Refusal::new(base::Kind::Invalid, "invalid_json", text)
    })
}

/// Whether a body of this `Content-Type` is taken. Without one it is, as the first kind.
pub(crate) fn takes(accepted: &Accepted, content_type: Option<&HeaderValue>) -> bool {
    let Some(value) = content_type else { return true };
    let media = value.as_bytes().split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    let json =
        accepted.media == JSON && media.len() > 5 && media[media.len() - 5..].eq_ignore_ascii_case(b"+json");
    json || accepted.media.iter().any(|taken| media.eq_ignore_ascii_case(taken.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize, JsonSchema, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Section {
        kind: String,
    }

    impl NameField for Section {}

    fn read(text: &'static str) -> Result<Named<Section>, Refusal> {
        Named::read(Received { bytes: Bytes::from_static(text.as_bytes()), form: Form::Native })
    }

    #[test]
    fn a_name_stands_beside_a_sections_own_keys() {
        let named = read(r#"{"kind": "demo", "name": "lab"}"#).unwrap();
        assert_eq!((&*named.name, named.value), ("lab", Section { kind: "demo".into() }));
        for (bad, code, field) in [
            (r#"{"kind": "demo"}"#, "missing_field", Some("name")),
            (r#"{"name": "lab"}"#, "missing_field", Some("kind")),
            (r#"{"name": "", "kind": "demo"}"#, "invalid_value", Some("name")),
            (r#"{"name": "lab", "kind": "demo", "kid": 1}"#, "unknown_field", Some("kid")),
            ("[]", "invalid_value", None),
            ("", "missing_body", None),
            ("{", "invalid_json", None),
        ] {
            let refusal = read(bad).map(|_| ()).unwrap_err();
            assert_eq!((refusal.code(), refusal.field.as_deref()), (code, field), "{bad}");
        }
    }

    #[test]
    fn a_schema_with_a_name_requires_both() {
        let mut generator = SchemaGenerator::default();
        let schema = Named::<Section>::schema(&mut generator).unwrap();
        assert_eq!(schema["required"], json!(["kind", "name"]));
        assert_eq!(schema["properties"]["name"]["maxLength"], 300);
    }

    #[test]
    fn a_patch_changes_what_it_names_and_null_clears() {
        let patch = |text: &'static str| {
            let patch = Patch::<Section>::read(Received { bytes: text.into(), form: Form::Native }).unwrap();
            patch.apply(json!({"kind": "demo"}))
        };
        assert_eq!(patch("{}").unwrap(), Section { kind: "demo".into() });
        assert_eq!(patch(r#"{"kind": "x"}"#).unwrap(), Section { kind: "x".into() });
        assert_eq!(patch(r#"{"kind": null}"#).unwrap_err().code(), "missing_field");
        assert_eq!(patch(r#"{"kid": 1}"#).unwrap_err().code(), "unknown_field");
    }

    #[test]
    fn media_types_are_compared_without_parameters() {
        let json = Body::<Section>::ACCEPTED;
        let takes = |text: &'static str| takes(&json, Some(&HeaderValue::from_static(text)));
        assert!(super::takes(&json, None));
        assert!(takes("Application/JSON; charset=utf-8") && takes("application/merge-patch+json"));
        assert!(!takes("text/plain") && !takes("") && !takes("application/jsonx"));
    }

    #[test]
    fn a_body_nested_too_deep_is_refused() {
        let deep = "[".repeat(10_000);
        assert_eq!(parse(deep.as_bytes()).unwrap_err().code(), "invalid_json");
    }
}
