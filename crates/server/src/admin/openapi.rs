//! The OpenAPI 3.1 document of the table.
//!
//! It says of each operation what its types read and write and every status it can answer with, so that a
//! program that tests us against it finds nothing we did not say.

use http::{Method, StatusCode};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::refusal::Form;
use super::route::{Description, Route};
use super::table::Table;

/// The document as one JSON value. `version` is this build's.
pub(crate) fn document(table: &Table, version: &str) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for place in table.places() {
        let mut item = Map::new();
        for route in &place.routes {
            item.insert(route.method.as_str().to_lowercase(), operation(route, &mut generator));
        }
        paths.insert(place.pattern.replace("{*", "{"), Value::Object(item));
    }
    let mut tags: Vec<_> = table.routes().map(tag).collect();
    tags.sort_unstable();
    tags.dedup();
    let tags: Vec<_> = tags.iter().map(|name| json!({"name": name})).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Trunkline admin API",
            "version": version,
            "description": "Who may do what, and how much. Every error is `{\"error\": {\"code\", \"message\", \
                \"field\"}, \"request_id\"}`. Money is a decimal string in US dollars, times are RFC 3339 in UTC.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"apiKey": []}, {"masterKey": []}],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas(&mut generator),
            "responses": responses(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "The admin key, a key whose role has \
                    the permission, or a token of your identity provider."},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "masterKey": {"type": "apiKey", "in": "header", "name": "X-Master-Key"},
            },
        },
    })
}

/// The heading an operation stands under.
fn tag(route: &Route) -> &'static str {
    match (route.form, route.permission) {
        (Form::Conduit, _) => "conduit",
        (Form::Native, Some(permission)) => permission.area,
        (Form::Native, None) => "open",
    }
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let Description { path, query, body, answer } = (route.describe)(generator);
    let mut parameters = parameters(&path, "path");
    parameters.extend(self::parameters(&query, "query"));
    parameters.extend(header_parameters(route));
    let mut responses = Map::new();
    let content: Map<_, _> = answer
        .content
        .into_iter()
        .map(|(media, schema)| (media.to_owned(), json!({"schema": schema})))
        .collect();
    let headers: Map<_, _> = answer
        .headers
        .into_iter()
        .map(|(name, says)| {
            (name.to_owned(), json!({"description": says, "required": true, "schema": {"type": "string"}}))
        })
        .collect();
    let mut done = json!({"description": reason(answer.status)});
    for (key, map) in [("content", content), ("headers", headers)] {
        if !map.is_empty() {
            done[key] = Value::Object(map);
        }
    }
    responses.insert(answer.status.as_str().to_owned(), done);
    for status in refusals(route) {
        let name = response_name(route.form, status);
        let reference = json!({"$ref": format!("#/components/responses/{name}")});
        responses.insert(status.as_str().to_owned(), reference);
    }
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.summary,
        "tags": [tag(route)],
        "responses": responses,
    });
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    if let Some(schema) = body {
        let media = route.accepted.media.iter();
        let content: Map<_, _> =
            media.map(|media| ((*media).to_owned(), json!({"schema": schema}))).collect();
        operation["requestBody"] = json!({"required": route.accepted.required, "content": content});
    }
    match route.permission {
        None => operation["security"] = json!([]),
        Some(permission) => {
            operation["description"] = json!(format!("Needs the permission `{permission}`."));
            operation["x-permission"] = json!(permission.to_string());
        }
    }
    operation
}

/// An object's properties as parameters.
fn parameters(schema: &Value, place: &str) -> Vec<Value> {
    let required = |name: &str| {
        let names = schema["required"].as_array();
        place == "path" || names.is_some_and(|names| names.iter().any(|required| required == name))
    };
    let parameter = |(name, schema): (&String, &Value)| {
        let mut schema = without_null(schema.clone());
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        let mut parameter = json!({"name": name, "in": place, "required": required(name), "schema": schema});
        if let Some(description) = description {
            parameter["description"] = description;
        }
        if parameter["schema"]["type"] == "array" {
            parameter["style"] = json!("form");
            parameter["explode"] = json!(false);
        }
        parameter
    };
    schema["properties"].as_object().into_iter().flatten().map(parameter).collect()
}

/// A parameter is left out, never null.
fn without_null(mut schema: Value) -> Value {
    if let Some(types) = schema["type"].as_array_mut() {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            schema["type"] = only.clone();
        }
    }
    if let Some(variants) = schema["anyOf"].as_array_mut() {
        variants.retain(|variant| variant["type"] != "null");
        if let [only] = variants.as_slice() {
            let mut only = only.clone();
            if let (Some(only), Some(description)) = (only.as_object_mut(), schema.get("description")) {
                only.insert("description".into(), description.clone());
            }
            return only;
        }
    }
    if let Some(schema) = schema.as_object_mut() {
        // Indexing has made these.
        schema
            .retain(|key, value| !(value.is_null() && ["type", "anyOf", "default"].contains(&key.as_str())));
    }
    schema
}

fn header_parameters(route: &Route) -> Vec<Value> {
    let mut parameters = Vec::new();
    if route.idempotent {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "Sent again with the same key within 24 hours, the request is done once and answered as \
                the first time.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        }));
    }
    if route.conditional {
        parameters.push(json!({
            "name": "If-Match", "in": "header", "required": false,
            "description": "The `ETag` that was read: the change is refused with 412 when it is another by now.",
            "schema": {"type": "string", "maxLength": 64, "pattern": "^(\\*|\"[1-9][0-9]{0,17}\")$"},
        }));
    }
    parameters
}

/// Every status beside success.
fn refusals(route: &Route) -> Vec<StatusCode> {
    let mut all =
        vec![StatusCode::BAD_REQUEST, StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
    if route.permission.is_some() {
        all.extend([StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN]);
    }
    // What is asked for by a version may not be there at all, whatever the path.
    if route.path.contains('{') || route.conditional {
        all.push(StatusCode::NOT_FOUND);
    }
    if !route.accepted.media.is_empty() {
        all.extend([
            StatusCode::REQUEST_TIMEOUT,
            StatusCode::PAYLOAD_TOO_LARGE,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ]);
    }
    all.extend(&route.refusals);
    if route.idempotent && route.method == Method::POST {
        all.push(StatusCode::CONFLICT);
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// What a refusal means, for people.
const REFUSALS: &[(StatusCode, &str)] = &[
    (StatusCode::BAD_REQUEST, "The request is wrong; the message says what to change, `field` where."),
    (StatusCode::UNAUTHORIZED, "No key, or one that is not known, not enabled or expired."),
    (StatusCode::PAYMENT_REQUIRED, "The balance does not cover it."),
    (StatusCode::FORBIDDEN, "The key's role does not have the permission, or the address is not let in."),
    (StatusCode::NOT_FOUND, "There is no such thing."),
    (StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time."),
    (
        StatusCode::CONFLICT,
        "It cannot be as things stand: the name is taken, something needs it, or the settings file fixes it.",
    ),
    (StatusCode::PRECONDITION_FAILED, "Somebody else changed it since it was read."),
    (StatusCode::PAYLOAD_TOO_LARGE, "The body is too large."),
    (StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body is of another type."),
    (StatusCode::TOO_MANY_REQUESTS, "Too many requests; `Retry-After` says when to come back."),
    (StatusCode::BAD_GATEWAY, "A provider did not answer as it should."),
    (StatusCode::SERVICE_UNAVAILABLE, "The Store does not answer, or too much is in progress."),
];

fn reason(status: StatusCode) -> &'static str {
    match status {
        StatusCode::CREATED => "It was made.",
        StatusCode::NO_CONTENT => "It is done.",
        _ => "Here it is.",
    }
}

fn response_name(form: Form, status: StatusCode) -> String {
    let prefix = if form == Form::Conduit { "Conduit" } else { "" };
    format!("{prefix}{}", status.canonical_reason().unwrap_or("Other").replace(' ', ""))
}

/// The shared responses, in both forms.
fn responses() -> Value {
    let mut all = Map::new();
    for (status, says) in REFUSALS {
        let native = json!({"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}});
        all.insert(response_name(Form::Native, *status), json!({"description": says, "content": native}));
        let mut conduit = json!({"description": says});
        if *status != StatusCode::UNAUTHORIZED {
            conduit["content"] =
                json!({"application/json": {"schema": {"$ref": "#/components/schemas/ConduitError"}}});
        }
        if *status == StatusCode::BAD_REQUEST {
            conduit["content"]["application/problem+json"] =
                json!({"schema": {"$ref": "#/components/schemas/ConduitProblem"}});
        }
        all.insert(response_name(Form::Conduit, *status), conduit);
    }
    Value::Object(all)
}

fn schemas(generator: &mut SchemaGenerator) -> Value {
    let mut all = generator.take_definitions(true);
    let fixed = [
        (
            "Error",
            json!({
                "type": "object",
                "required": ["error", "request_id"],
                "properties": {
                    "error": {
                        "type": "object",
                        "required": ["code", "message", "field"],
                        "properties": {
                            "code": {"type": "string", "description": "Stable, for programs."},
                            "message": {"type": "string", "description": "What to change, for people."},
                            "field": {"type": ["string", "null"], "description": "Where, as `targets[0].provider`."},
                        },
                    },
                    "request_id": {"type": "string"},
                },
            }),
        ),
        (
            "ConduitError",
            json!({
                "type": "object",
                "required": ["error"],
                "properties": {"error": {"type": "string"}, "code": {"type": "string"}, "message": {"type": "string"},
                    "statusCode": {"type": "integer"}},
            }),
        ),
        (
            "ConduitProblem",
            json!({
                "type": "object",
                "required": ["title", "status"],
                "properties": {
                    "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"},
                    "traceId": {"type": "string"},
                    "errors": {
                        "type": "object",
                        "additionalProperties": {"type": "array", "items": {"type": "string"}},
                    },
                },
            }),
        ),
    ];
    all.extend(fixed.map(|(name, schema)| (name.to_owned(), schema)));
    Value::Object(all)
}

#[cfg(test)]
mod tests;
