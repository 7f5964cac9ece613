//! What nobody should send: each is a clear 4xx, does nothing, and is in the audit where it was an attempt.

use serde_json::{Value, json};
use testkit::{Client, Response, Upstream};

use super::{add_lab, code, plain};
use crate::admin::Admin;
use crate::app::TestApp;
use crate::money::chat;

/// Any bytes as a JSON body.
async fn raw(app: &TestApp, method: &str, path: &str, body: &str) -> Response {
    let auth = format!("Bearer {}", app.admin_key);
    let headers = [("authorization", auth.as_str()), ("content-type", "application/json")];
    app.client().try_send(method, path, &headers, body.as_bytes()).await.unwrap()
}

#[tokio::test]
async fn amounts_that_are_none_change_nothing_in_either_spelling() {
    let (app, admin) = plain().await;
    let group = admin.group("team", "5").await;
    let credits = format!("/api/groups/{group}/credits");
    let adjust = format!("/api/VirtualKeyGroups/{group}/adjust-balance");
    for amount in [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e400",
        "-1e400",
        "\"1e9999\"",
        "null",
        "[]",
        "true",
        "0x10",
        "\"١\"",
    ] {
        for (path, more) in [(&credits, ""), (&adjust, ",\"description\":\"x\"")] {
            let answer = raw(&app, "POST", path, &format!("{{\"amount\":{amount}{more}}}")).await;
            assert_eq!(answer.status, 400, "{path} {amount}: {}", answer.text());
            assert!(answer.text().len() > 20, "it says what to change");
        }
    }
    let seen = admin.get(&format!("/api/groups/{group}")).await;
    assert_eq!((&seen["balance"], &seen["credited"]), (&json!("5"), &json!("5")));
    // Whoever tried is in the audit, with how it ended.
    admin.send("POST", &credits, &json!({"amount": "-1"})).await;
    let tried = admin.get(&format!("/api/audit?target=groups/{group}/credits")).await;
    assert!(tried["data"].as_array().is_some(), "{tried}");
}

#[tokio::test]
async fn text_meant_for_the_database_or_for_headers_is_text() {
    let upstream = Upstream::start();
    let (app, admin) = plain().await;
    add_lab(&admin, &upstream).await;
    let group = admin.group("team", "1").await;
    let key = admin.key("k", group).await;
    let hostile = "' OR 1=1; DROP TABLE keys; --";
    let encoded: String = hostile.bytes().map(|byte| format!("%{byte:02X}")).collect();
    for path in
        ["/api/groups?name=", "/api/keys?name=", "/api/keys?user=", "/api/audit?actor=", "/api/usage?tag="]
    {
        let answer = admin.send("GET", &format!("{path}{encoded}"), &Value::Null).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let rows = answer.json()["data"].as_array().map_or(0, Vec::len);
        assert_eq!(rows, 0, "{path}: {}", answer.text());
    }
    let path = format!("/api/models/{encoded}");
    assert_eq!(admin.send("GET", &path, &Value::Null).await.status, 404);
    // A line break in a name would end a header, or a line of the log.
    for name in ["a\r\nset-cookie: x=1", "a\nb", "a\u{0}b", "a\u{1b}[31m"] {
        for (path, body) in [
            ("/api/groups", json!({"name": name})),
            ("/api/keys", json!({"name": name, "group_id": group})),
            ("/api/models", json!({"name": name, "targets": [{"provider": "lab", "model": "x"}]})),
            ("/api/roles", json!({"name": name, "permissions": ["keys:read"]})),
        ] {
            let answer = admin.send("POST", path, &body).await;
            assert_eq!(answer.status, 400, "{path} {name:?}: {}", answer.text());
            assert!(answer.header("set-cookie").is_none());
        }
        let auth = format!("Bearer {key}");
        let body = json!({"model": name, "messages": [{"role": "user", "content": "hi"}]}).to_string();
        let headers = [("authorization", auth.as_str())];
        let answer = app.client().post_json("/v1/chat/completions", &headers, body).await;
        assert!(matches!(answer.status, 400 | 404), "{name:?}: {} {}", answer.status, answer.text());
        assert!(answer.header("set-cookie").is_none());
    }
    let repeated = [("idempotency-key", "é")];
    let answer = admin.send_with("POST", "/api/groups", &repeated, &json!({"name": "once"})).await;
    assert_eq!(code(&answer), (400, "invalid_header".into()), "{}", answer.text());
    assert_eq!(chat(&app.url, &key, false).await.status, 200, "everything is still there");
}

#[tokio::test]
async fn keys_that_are_not_good_say_what_is_wrong_with_them() {
    let upstream = Upstream::start();
    let (app, admin) = plain().await;
    add_lab(&admin, &upstream).await;
    let group = admin.group("team", "1").await;
    let make = async |body: Value| {
        let made = admin.must("POST", "/api/keys", body).await;
        (made["id"].clone(), made["key"].as_str().unwrap().to_owned())
    };
    let ask = async |key: &str| {
        let answer = chat(&app.url, key, false).await;
        (answer.status, answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    // A clock that jumps: a key that was good until a moment long ago is not good now, whenever it was made.
    let (_, expired) =
        make(json!({"name": "old", "group_id": group, "expires_at": "2001-01-01T00:00:00Z"})).await;
    assert_eq!(ask(&expired).await, (401, "api_key_expired".into()));
    let (_, far) =
        make(json!({"name": "far", "group_id": group, "expires_at": "2099-12-31T23:59:59Z"})).await;
    assert_eq!(ask(&far).await.0, 200);
    let (id, disabled) = make(json!({"name": "off", "group_id": group})).await;
    admin.must("PATCH", &format!("/api/keys/{id}"), json!({"enabled": false})).await;
    assert_eq!(ask(&disabled).await, (401, "api_key_disabled".into()));
    admin.must("DELETE", &format!("/api/keys/{id}"), Value::Null).await;
    assert_eq!(ask(&disabled).await, (401, "invalid_api_key".into()));
    let (id, once) = make(json!({"name": "turned", "group_id": group})).await;
    admin.must("POST", &format!("/api/keys/{id}/rotate"), json!({"overlap": "0s"})).await;
    assert_eq!(ask(&once).await.0, 401);
    for foreign in ["sk-proj-somebody-elses", "", "x".repeat(10_000).as_str(), "sk-tl-\u{e9}"] {
        assert_eq!(ask(foreign).await.0, 401, "{foreign:.20}");
    }
    for time in ["yesterday", "2026-13-01T00:00:00Z", "-1", "99999-01-01T00:00:00Z"] {
        let body = json!({"name": "t", "group_id": group, "expires_at": time});
        assert_eq!(admin.send("POST", "/api/keys", &body).await.status, 400, "{time}");
    }
    let again = admin.send("POST", "/api/keys", &json!({"name": "far", "group_id": group})).await;
    assert_eq!(code(&again), (409, "already_exists".into()));
}

#[tokio::test]
async fn an_attempt_without_the_right_is_refused_and_in_the_audit() {
    let (app, admin) = plain().await;
    let group = admin.group("team", "1").await;
    let key = admin.key("k", group).await;
    let caller = Admin::new(&app.url, &key);
    let path = format!("/api/groups/{group}/credits");
    let refused = caller.send("POST", &path, &json!({"amount": "1000"})).await;
    assert_eq!(code(&refused), (403, "permission_needed".into()));
    // The refusal does not wait for its record.
    let deadline = std::time::Instant::now() + crate::app::PATIENCE;
    let tried = format!("groups/{group}/credits");
    while admin.get("/api/audit?outcome=permission_needed").await["data"][0]["target"] != tried {
        assert!(std::time::Instant::now() < deadline, "the attempt is not in the audit");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(admin.get(&format!("/api/groups/{group}")).await["balance"], "1");
    // Reading is an attempt at nothing, and a wrong key is nobody.
    assert_eq!(caller.send("GET", "/api/groups", &Value::Null).await.status, 403);
    assert_eq!(admin.get("/api/audit/verify").await["ok"], true);
}

#[tokio::test]
async fn a_ban_is_in_the_audit_told_of_and_lifted() {
    let app = TestApp::start("ip: {trusted_proxies: ['127.0.0.0/8'], bans: {failures: 2}}\n").await;
    let admin = Admin::new(&app.url, &app.admin_key);
    let from = |key: &'static str| {
        let client = Client::new(&app.url);
        async move {
            let headers = [("authorization", key), ("x-forwarded-for", "198.51.100.7")];
            client.get("/v1/models", &headers).await.status
        }
    };
    for _ in 0..2 {
        assert_eq!(from("Bearer sk-guess").await, 401);
    }
    assert_eq!(from("Bearer sk-guess").await, 403);
    let blocks = admin.get("/api/ip-blocks").await;
    assert_eq!(
        (&blocks["data"][0]["ip"], blocks["data"].as_array().unwrap().len()),
        (&json!("198.51.100.7"), 1)
    );
    let deadline = std::time::Instant::now() + crate::app::PATIENCE;
    while admin.get("/api/audit?action=ip.ban").await["data"][0]["target"] != "ip-blocks/198.51.100.7" {
        assert!(std::time::Instant::now() < deadline, "the ban is not in the audit");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    admin.must("DELETE", "/api/ip-blocks/198.51.100.7", Value::Null).await;
    assert_eq!(from("Bearer sk-guess").await, 401, "it may try again");
    assert_eq!(admin.send("DELETE", "/api/ip-blocks/198.51.100.9", &Value::Null).await.status, 404);
    let made = admin
        .must("POST", "/api/ip-blocks", json!({"ip": "2001:db8::7", "for": "1h", "reason": "abuse"}))
        .await;
    assert_eq!((&made["ip"], &made["reason"]), (&json!("2001:db8::"), &json!("abuse")), "its /64");
    for bad in
        [json!({"ip": "x", "for": "1h"}), json!({"ip": "192.0.2.1", "for": "0s"}), json!({"ip": "192.0.2.1"})]
    {
        assert_eq!(admin.send("POST", "/api/ip-blocks", &bad).await.status, 400, "{bad}");
    }
}
