//! Configuration out of one installation and into another.

use serde_json::{Value, json};
use testkit::Upstream;

use super::{add_lab, code, plain};
use crate::money::chat;

const EXPORT: &str = "/api/admin/export/configuration";
const IMPORT: &str = "/api/admin/import/configuration";

/// Mutation: an export that leaves the hint of a key out is not the same after an import; an import that keeps the
/// first run's key is not either.
#[tokio::test]
async fn promise_c10_an_import_into_an_empty_installation_does_the_same_and_exports_the_same() {
    let upstream = Upstream::start();
    let (one, admin) = plain().await;
    add_lab(&admin, &upstream).await;
    admin.must("POST", "/api/prices", json!({"pattern": "lab/*", "request": "0.25"})).await;
    admin.must("POST", "/api/roles", json!({"name": "ops", "permissions": ["keys:*"]})).await;
    admin.must("POST", "/api/ip-rules", json!({"action": "deny", "cidr": "203.0.113.0/24"})).await;
    admin.must("PUT", "/api/settings/limits", json!({"per_key": {"rpm": 1000}})).await;
    let group = admin.group("team", "10").await;
    let key = admin.key("alice", group).await;
    assert_eq!(chat(&one.url, &key, false).await.status, 200);
    let exported = admin.get(EXPORT).await;
    let text = exported.to_string();
    for secret in ["sk-lab-secret", "team-secret", "sealed:", key.as_str()] {
        assert!(!text.contains(secret), "{secret} is in the export");
    }
    assert_eq!(exported["secrets_missing"], json!(["provider.lab.api_key", "provider.lab.headers.x-team"]));

    let (two, other) = plain().await;
    let done = other.must("POST", IMPORT, exported.clone()).await;
    assert_eq!(
        (&done["groups"], &done["keys"], &done["documents"]),
        (&json!(2), &json!(2), &json!(6)),
        "{done}"
    );
    assert_eq!(other.get(EXPORT).await, exported);
    // The provider waits for its secrets, and says so.
    assert_eq!(chat(&two.url, &key, false).await.status, 404);
    let warnings = other.get("/api/health").await["warnings"].to_string();
    assert!(warnings.contains("`lab` is not in force"), "{warnings}");
    let secrets = json!({"api_key": "sk-lab-secret", "headers": {"x-team": "team-secret"}});
    other.must("PATCH", "/api/providers/lab", secrets).await;
    let answer = chat(&two.url, &key, false).await;
    assert_eq!((answer.status, answer.header("x-trunkline-cost")), (200, Some("0.25")));
    assert_eq!(chat(&two.url, &one.key, false).await.status, 200, "the old installation's keys work");
    assert_eq!(chat(&two.url, &two.key, false).await.status, 401, "the first run's key was replaced");

    assert_eq!(code(&other.send("POST", IMPORT, &exported).await), (409, "not_empty".into()));
    let merged = other.must("POST", &format!("{IMPORT}?mode=merge"), exported).await;
    assert_eq!((&merged["groups"], &merged["keys"]), (&json!(0), &json!(0)), "{merged}");
}

#[tokio::test]
async fn an_import_is_for_administrators_and_takes_only_what_can_be_read() {
    let (app, admin) = plain().await;
    let exported = admin.get(EXPORT).await;
    let mut wrong = exported.clone();
    wrong["documents"] = json!({"provider": {"x": {"kind": "invented"}}});
    let refused = admin.send("POST", IMPORT, &wrong).await;
    assert_eq!(refused.json()["error"]["field"], "documents.provider.x", "{}", refused.text());
    let mut wrong = exported.clone();
    wrong["documents"] = json!({"provider": {"demo": {"kind": "demo"}}});
    assert_eq!(code(&admin.send("POST", IMPORT, &wrong).await), (409, "set_in_file".into()));
    assert_eq!(admin.get(EXPORT).await, exported, "nothing was taken");
    admin.must("POST", "/api/roles", json!({"name": "mover", "permissions": ["config:*"]})).await;
    let key = admin.must("POST", "/api/keys", json!({"name": "mover", "role": "mover"})).await;
    let mover = crate::admin::Admin::new(&app.url, key["key"].as_str().unwrap());
    assert_eq!(mover.send("GET", EXPORT, &Value::Null).await.status, 200);
    assert_eq!(code(&mover.send("POST", IMPORT, &exported).await), (403, "role_exceeds_yours".into()));
}
