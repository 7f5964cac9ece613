//! Providers, models, prices, roles, rules and limits.

use serde_json::{Value, json};
use testkit::Upstream;
use trunkline::wire::App;

use super::{add_lab, code, column, plain};
use crate::admin::Admin;
use crate::app::TestApp;
use crate::money::chat;

#[tokio::test]
async fn a_provider_and_a_model_work_as_soon_as_they_are_made() {
    let upstream = Upstream::start();
    let (app, admin) = plain().await;
    assert_eq!(chat(&app.url, &app.key, false).await.status, 404);
    add_lab(&admin, &upstream).await;
    let answer = chat(&app.url, &app.key, false).await;
    assert_eq!((answer.status, answer.header("x-trunkline-target")), (200, Some("lab/x")));
    let asked = &upstream.requests()[0];
    assert_eq!(asked.header("authorization"), Some("Bearer sk-lab-secret"));
    assert_eq!(asked.header("x-team"), Some("team-secret"));

    let shown = admin.get("/api/providers/lab").await;
    assert_eq!(
        (&shown["api_key"], &shown["headers"], &shown["source"]),
        (&json!("***"), &json!({"x-team": "***"}), &json!("api"))
    );
    let list = admin.get("/api/providers").await;
    assert_eq!(
        (column(&list, "name"), column(&list, "source")),
        (vec!["demo".into(), "lab".into()], vec!["file".into(), "api".into()])
    );

    // A change keeps what it does not mention, secrets too.
    admin.must("PATCH", "/api/providers/lab", json!({"max_concurrent_requests": 5, "headers": null})).await;
    assert_eq!(chat(&app.url, &app.key, false).await.status, 200);
    let asked = &upstream.requests()[1];
    assert_eq!((asked.header("authorization"), asked.header("x-team")), (Some("Bearer sk-lab-secret"), None));

    assert_eq!(code(&admin.send("DELETE", "/api/providers/lab", &Value::Null).await), (409, "in_use".into()));
    admin.must("DELETE", "/api/models/m", Value::Null).await;
    assert_eq!(chat(&app.url, &app.key, false).await.status, 404);
    admin.must("DELETE", "/api/providers/lab", Value::Null).await;
    assert_eq!(admin.send("GET", "/api/providers/lab", &Value::Null).await.status, 404);
}

#[tokio::test]
async fn a_provider_is_tested_by_asking_it() {
    let upstream = Upstream::start();
    let (app, admin) = plain().await;
    add_lab(&admin, &upstream).await;
    let tested = admin.must("POST", "/api/providers/lab/test", Value::Null).await;
    assert_eq!(tested["ok"], true, "{tested}");
    assert!(tested["models"].as_u64().unwrap() > 0 && tested["latency_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(upstream.requests()[0].header("authorization"), Some("Bearer sk-lab-secret"));
    upstream.stop_listening();
    let tested = admin.must("POST", "/api/providers/lab/test", Value::Null).await;
    assert_eq!(tested["ok"], false);
    assert!(tested["error"].as_str().unwrap().contains("connect"), "{tested}");
    drop(app);
}

#[tokio::test]
async fn mistakes_are_told_with_their_fields() {
    let (app, admin) = plain().await;
    for (path, body, expected) in [
        ("/api/providers", json!({"name": "X Y", "kind": "demo"}), (400, "invalid_value", "name")),
        ("/api/providers", json!({"name": "x", "kind": "openai"}), (400, "invalid_value", "api_key")),
        ("/api/providers", json!({"name": "x", "kid": "openai"}), (400, "unknown_field", "kid")),
        ("/api/providers", json!({"name": "demo", "kind": "demo"}), (409, "set_in_file", "name")),
        (
            "/api/models",
            json!({"name": "m", "targets": [{"provider": "no", "model": "x"}]}),
            (400, "invalid_value", "targets[0].provider"),
        ),
        ("/api/prices", json!({"pattern": "x", "input": "1"}), (400, "invalid_value", "pattern")),
        ("/api/prices", json!({"pattern": "x/y"}), (400, "invalid_value", "")),
        (
            "/api/roles",
            json!({"name": "admin", "permissions": ["keys:read"]}),
            (400, "invalid_value", "permissions"),
        ),
        (
            "/api/roles",
            json!({"name": "ops", "permissions": ["keys:wirte"]}),
            (400, "invalid_value", "permissions[0]"),
        ),
        ("/api/ip-rules", json!({"action": "deny", "cidr": "10.0.0.0/99"}), (400, "invalid_value", "cidr")),
    ] {
        let answer = admin.send("POST", path, &body).await;
        let error = &answer.json()["error"];
        let found =
            (answer.status, error["code"].as_str().unwrap(), error["field"].as_str().unwrap_or_default());
        assert_eq!(found, expected, "{path} {body}: {}", answer.text());
    }
    assert_eq!(
        code(&admin.send("DELETE", "/api/providers/demo", &Value::Null).await),
        (409, "set_in_file".into())
    );
    drop(app);
}

#[tokio::test]
async fn prices_are_in_force_at_once_and_lists_come_and_go() {
    let upstream = Upstream::start();
    let (app, admin) = plain().await;
    add_lab(&admin, &upstream).await;
    assert_eq!(chat(&app.url, &app.key, false).await.header("x-trunkline-cost"), Some("unknown"));
    admin.must("POST", "/api/prices", json!({"pattern": "lab/*", "request": "0.25"})).await;
    assert_eq!(chat(&app.url, &app.key, false).await.header("x-trunkline-cost"), Some("0.25"));
    admin.must("PUT", "/api/prices/lab/x", json!({"request": "0.5"})).await;
    assert_eq!(chat(&app.url, &app.key, false).await.header("x-trunkline-cost"), Some("0.5"));
    let made = admin.get("/api/prices?source=api").await;
    assert_eq!(column(&made, "pattern"), ["lab/*", "lab/x"]);
    let built_in = admin.get("/api/prices?source=built-in&q=gpt-4.1&limit=2").await;
    assert_eq!(built_in["data"].as_array().unwrap().len(), 2);
    assert_eq!(built_in["data"][0]["origin"], "built-in");

    let exported = admin.send("GET", "/api/prices/export?format=csv", &Value::Null).await.text().to_owned();
    for pattern in ["lab/*", "lab/x"] {
        admin.must("DELETE", &format!("/api/prices/{pattern}"), Value::Null).await;
    }
    assert_eq!(chat(&app.url, &app.key, false).await.header("x-trunkline-cost"), Some("unknown"));
    let auth = format!("Bearer {}", app.admin_key);
    let headers = [("authorization", auth.as_str()), ("content-type", "text/csv")];
    let list = format!("{exported}bad row\n");
    let sent =
        app.client().try_send("POST", "/api/prices/import?format=csv", &headers, list.as_bytes()).await;
    let answer = sent.unwrap().json();
    assert_eq!(answer["imported"], 2, "{answer}");
    assert_eq!(answer["skipped"].as_array().unwrap().len(), 1, "{answer}");
    assert_eq!(chat(&app.url, &app.key, false).await.header("x-trunkline-cost"), Some("0.5"));
}

/// Mutation: without `may_give` in `entries::draft` the key makes itself an administrator.
#[tokio::test]
async fn a_role_is_in_force_at_once_and_nobody_makes_one_beyond_their_own() {
    let (app, admin) = plain().await;
    admin.must("POST", "/api/roles", json!({"name": "ops", "permissions": ["roles:*", "keys:*"]})).await;
    let key = admin.must("POST", "/api/keys", json!({"name": "o", "role": "ops"})).await;
    let ops = Admin::new(&app.url, key["key"].as_str().unwrap());
    assert_eq!(ops.send("GET", "/api/groups", &Value::Null).await.status, 403);
    let more = json!({"permissions": ["*"]});
    let refused = ops.send("PATCH", "/api/roles/ops", &more).await;
    assert_eq!(code(&refused), (403, "role_exceeds_yours".into()));
    let refused = ops.send("POST", "/api/roles", &json!({"name": "x", "permissions": ["groups:read"]})).await;
    assert_eq!(code(&refused), (403, "role_exceeds_yours".into()));
    ops.must("POST", "/api/roles", json!({"name": "less", "permissions": ["keys:read"]})).await;
    admin.must("PATCH", "/api/roles/ops", json!({"permissions": ["roles:*", "groups:read"]})).await;
    assert_eq!(ops.send("GET", "/api/groups", &Value::Null).await.status, 200);
    assert_eq!(ops.send("GET", "/api/keys", &Value::Null).await.status, 403);
    assert_eq!(column(&admin.get("/api/roles").await, "name"), ["admin", "caller", "less", "ops", "viewer"]);
}

#[tokio::test]
async fn rules_and_limits_are_kept_with_their_versions() {
    let (app, admin) = plain().await;
    let rule = json!({"action": "deny", "cidr": "203.0.113.0/24", "description": "abuse"});
    let made = admin.must("POST", "/api/ip-rules", rule.clone()).await;
    assert_eq!(code(&admin.send("POST", "/api/ip-rules", &rule).await), (409, "already_exists".into()));
    let path = format!("/api/ip-rules/{}", made["id"]);
    let changed = admin.must("PATCH", &path, json!({"enabled": false, "cidr": "203.0.113.0/25"})).await;
    assert_eq!((&changed["enabled"], &changed["description"]), (&json!(false), &json!("abuse")));
    let old = admin.send_with("PATCH", &path, &[("if-match", "\"1\"")], &json!({"enabled": true})).await;
    assert_eq!(code(&old), (412, "changed_meanwhile".into()));
    admin.must("DELETE", &path, Value::Null).await;
    assert_eq!(admin.get("/api/ip-rules").await["data"], json!([]));

    assert_eq!(admin.get("/api/settings/limits").await["source"], "built-in");
    admin.must("PUT", "/api/settings/limits", json!({"per_key": {"rpm": 100}})).await;
    let limits = admin.get("/api/settings/limits").await;
    assert_eq!(
        (&limits["source"], &limits["limits"]["per_key"]["requests_per_minute"]),
        (&json!("api"), &json!(100))
    );
    admin.must("DELETE", "/api/settings/limits", Value::Null).await;
    assert_eq!(admin.get("/api/settings/limits").await["source"], "built-in");
    drop(app);
}

#[tokio::test]
async fn limits_of_the_file_are_changed_there() {
    let app = TestApp::start("limits: {per_key: {requests_per_minute: 9000}}\n").await;
    let admin = Admin::new(&app.url, &app.admin_key);
    let limits = admin.get("/api/settings/limits").await;
    assert_eq!(
        (&limits["source"], &limits["limits"]["per_key"]["requests_per_minute"]),
        (&json!("file"), &json!(9000))
    );
    let refused = admin.send("PUT", "/api/settings/limits", &json!({})).await;
    assert_eq!(code(&refused), (409, "set_in_file".into()));
}

/// Mutation: without its path in `edge::OPEN` it asks for a key.
#[tokio::test]
async fn promise_c07_the_database_has_its_own_health() {
    let (app, admin) = plain().await;
    let answer = app.client().get("/health/database", &[]).await;
    let body = answer.json();
    assert_eq!((answer.status, &body["status"], &body["engine"]), (200, &json!("healthy"), &json!("sqlite")));
    assert!(body["latency_ms"].as_f64().is_some() && body["pool"]["max"].as_u64().unwrap() > 0, "{body}");
    let health = admin.get("/api/health").await;
    assert_eq!((&health["status"], &health["warnings"]), (&json!("ok"), &json!([])));
    assert_eq!(health["replicas"].as_array().unwrap().len(), 1, "{health}");
}

#[tokio::test]
async fn an_ephemeral_key_is_good_for_one_call() {
    let upstream = Upstream::start();
    let (app, admin) = plain().await;
    add_lab(&admin, &upstream).await;
    let auth = app.auth();
    let headers = [(auth.0, auth.1.as_str())];
    let body = json!({"metadata": {"purpose": "chat"}}).to_string();
    let made = app.client().post_json("/v1/auth/ephemeral-key", &headers, body).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let made = made.json();
    let key = made["ephemeralKey"].as_str().unwrap();
    assert!(key.starts_with("ek_") && made["expiresInSeconds"].as_i64().unwrap() > 290, "{made}");
    assert_eq!(chat(&app.url, key, false).await.status, 200);
    assert_eq!(chat(&app.url, key, false).await.status, 401);
    let again = app.client().post_json("/v1/auth/ephemeral-key", &[], "{}").await;
    assert_eq!(again.status, 401);
}

#[tokio::test]
async fn the_file_may_not_say_what_the_api_has_made() {
    let upstream = Upstream::start();
    let (mut app, admin) = plain().await;
    add_lab(&admin, &upstream).await;
    let mut settings = app.app().settings().clone();
    let demo = settings.providers["demo"].clone();
    settings.providers.insert("lab".into(), demo);
    let refused = app.app().reload(settings.clone()).unwrap_err();
    assert!(refused.contains("provider `lab`"), "{refused}");
    settings.providers.remove("lab");
    assert_eq!(app.app().reload(settings), Ok(Vec::new()));
    assert_eq!(chat(&app.url, &app.key, false).await.status, 200);
}

#[tokio::test]
async fn what_the_api_made_is_there_after_a_restart() {
    let upstream = Upstream::start();
    let (mut app, _) = plain().await;
    let dir = tempfile::tempdir().unwrap();
    let mut settings = app.app().settings().clone();
    settings.data.dir = dir.path().join("data");
    let first = App::start(settings.clone(), None).await.unwrap();
    let keys = first.first_run.as_ref().unwrap();
    let key = keys.key.expose().to_owned();
    add_lab(&Admin::new(&first.server.url(), keys.admin_key.expose()), &upstream).await;
    first.shutdown().await;

    let again = App::start(settings.clone(), None).await.unwrap();
    assert_eq!(chat(&again.server.url(), &key, false).await.status, 200);
    again.shutdown().await;

    let demo = settings.providers["demo"].clone();
    settings.providers.insert("lab".into(), demo);
    let refused = App::start(settings, None).await.err().unwrap().to_string();
    assert!(refused.contains("provider `lab`"), "{refused}");
}
