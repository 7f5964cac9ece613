use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::{
    Body, Call, Change, Created, Done, Given, Id, IdPath, Item, Limit, Name, Nothing, Page, Refusal, Resource,
};
use super::*;

#[derive(Serialize, JsonSchema)]
struct Group {
    id: Id,
    name: String,
}

impl Resource for Group {
    fn path(&self) -> String {
        "groups/1".into()
    }

    fn version(&self) -> Option<i64> {
        Some(1)
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewGroup {
    #[expect(dead_code, reason = "only its schema is looked at")]
    name: Name,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is looked at")]
struct EditGroup {
    #[serde(default)]
    name: Given<Name>,
    #[serde(default)]
    external_id: Change<Name>,
}

#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "only its schema is looked at")]
struct Query {
    /// How many.
    #[serde(default)]
    limit: Limit,
    /// After which.
    after: Option<Id>,
    by: Option<Vec<Way>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Way {
    Day,
    Key,
}

async fn create(_: Call<Nothing, Nothing, Body<NewGroup>>) -> Result<Created<Group>, Refusal> {
    Err(Refusal::not_found(""))
}

async fn edit(_: Call<IdPath, Nothing, Body<EditGroup>>) -> Result<Item<Group>, Refusal> {
    Err(Refusal::not_found(""))
}

async fn list(_: Call<Nothing, Query>) -> Result<Page<Group>, Refusal> {
    Err(Refusal::not_found(""))
}

async fn delete(_: Call<IdPath>) -> Result<Done, Refusal> {
    Ok(Done)
}

fn made() -> Value {
    document(
        &Table::new(vec![
            Route::new(Method::POST, "/api/groups", "groups.create", "Makes a group.", create).idempotent(),
            Route::new(Method::GET, "/api/groups", "groups.list", "Lists groups.", list),
            Route::new(Method::PATCH, "/api/groups/{id}", "groups.update", "Edits one.", edit).conditional(),
            Route::conduit(
                Method::DELETE,
                "/api/VirtualKeyGroups/{id}",
                "groups.delete.conduit",
                "Ends it.",
                delete,
            ),
        ]),
        "1.2.3",
    )
}

fn statuses(operation: &Value) -> Vec<&str> {
    operation["responses"].as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn an_operation_says_what_its_types_say() {
    let document = made();
    let create = &document["paths"]["/api/groups"]["post"];
    assert_eq!(create["operationId"], "groups.create");
    assert_eq!(create["x-permission"], "groups:write");
    assert_eq!(create["requestBody"]["required"], true);
    let body = &create["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(body["$ref"], "#/components/schemas/NewGroup");
    assert_eq!(document["components"]["schemas"]["NewGroup"]["properties"]["name"]["maxLength"], 100);
    assert_eq!(document["components"]["schemas"]["NewGroup"]["additionalProperties"], false);
    assert_eq!(statuses(create), ["201", "400", "401", "403", "408", "409", "413", "415", "429", "503"]);
    assert_eq!(create["responses"]["201"]["headers"]["ETag"]["required"], true);
    assert_eq!(create["parameters"][0]["name"], "Idempotency-Key");

    let edit = &document["paths"]["/api/groups/{id}"]["patch"];
    assert_eq!(
        statuses(edit),
        ["200", "400", "401", "403", "404", "408", "409", "412", "413", "415", "429", "503"]
    );
    let fields = &document["components"]["schemas"]["EditGroup"];
    assert_eq!(fields.get("required"), None);
    assert_eq!(fields["properties"]["name"]["type"], "string");
    assert_eq!(fields["properties"]["external_id"]["type"], json!(["string", "null"]));
}

#[test]
fn a_parameter_is_never_null() {
    let list = &made()["paths"]["/api/groups"]["get"];
    let parameter = |name: &str| {
        list["parameters"].as_array().unwrap().iter().find(|p| p["name"] == name).unwrap().clone()
    };
    assert_eq!(
        parameter("limit"),
        json!({"name": "limit", "in": "query", "required": false, "description": "How many.",
            "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}})
    );
    assert_eq!(parameter("after")["schema"]["type"], "integer");
    assert_eq!(
        (&parameter("by")["schema"]["type"], &parameter("by")["explode"]),
        (&json!("array"), &json!(false))
    );
}

#[test]
fn conduits_errors_are_conduits() {
    let document = made();
    let delete = &document["paths"]["/api/VirtualKeyGroups/{id}"]["delete"];
    assert_eq!(delete["tags"], json!(["conduit"]));
    assert_eq!(delete["responses"]["404"]["$ref"], "#/components/responses/ConduitNotFound");
    let responses = &document["components"]["responses"];
    assert_eq!(responses["ConduitUnauthorized"].get("content"), None);
    assert!(responses["ConduitBadRequest"]["content"]["application/problem+json"].is_object());
}

/// Every reference of a document, wherever it stands.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere() {
    for document in [made(), document(crate::routes::admin::table(), "1.2.3")] {
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}

/// The real table: what is in a path is what its handler takes, names are unique, what creates may be repeated.
#[test]
fn every_route_is_consistent() {
    let table = crate::routes::admin::table();
    let document = document(table, "1.2.3");
    let mut ids = BTreeSet::new();
    for route in table.routes() {
        assert!(ids.insert(route.id), "{} is there twice", route.id);
        assert!(route.id.contains('.') && route.summary.ends_with('.'), "{}", route.id);
        let path = route.path.replace("{*", "{");
        let operation = &document["paths"][&path][route.method.as_str().to_lowercase()];
        let mut named: Vec<_> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let mut taken: Vec<_> =
            parameters.iter().filter(|p| p["in"] == "path").filter_map(|p| p["name"].as_str()).collect();
        named.sort_unstable();
        taken.sort_unstable();
        assert_eq!(named, taken, "{}", route.id);
        let creates = route.method == Method::POST && operation["responses"].get("201").is_some();
        assert!(!creates || route.form == Form::Conduit || route.idempotent, "{} creates", route.id);
        let conduit = route.form == Form::Conduit;
        assert_eq!(conduit, route.id.ends_with(".conduit"), "{}", route.id);
    }
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        // schemars numbers types that share a name: give them names of their own.
        assert!(!name.ends_with(|c: char| c.is_ascii_digit()), "{name}");
    }
}
