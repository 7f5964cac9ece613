//! What callers and operators are told about money.

use serde_json::json;
use testkit::Upstream;

use super::{chat, yaml};
use crate::admin::Admin;
use crate::app::TestApp;

#[tokio::test]
async fn answers_carry_what_they_cost_and_what_is_left() {
    let upstream = Upstream::start();
    let app = TestApp::start(&yaml(&upstream, "")).await;
    let admin = Admin::new(&app.url, &app.admin_key);
    let group = admin.group("team", "0.0025").await;
    let key = admin.key("k", group).await;
    let first = chat(&app.url, &key, false).await;
    assert_eq!((first.status, first.header("x-trunkline-cost")), (200, Some("0.001")));
    assert_eq!(first.header("x-trunkline-budget-remaining"), Some("0.0015"));
    assert_eq!(chat(&app.url, &key, false).await.status, 200);
    let refused = chat(&app.url, &key, false).await;
    assert_eq!(refused.status, 402);
    let error = &refused.json()["error"];
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("insufficient_quota"), &json!("insufficient_quota"))
    );
    assert!(error["message"].as_str().unwrap().contains("0.0005 dollars are left"), "{error}");
}

#[tokio::test]
async fn an_unknown_price_is_an_alarm() {
    let upstream = Upstream::start();
    let yaml = yaml(&upstream, "").replace("lab/*", "other/*");
    let app = TestApp::start(&yaml).await;
    let answer =
        app.post("/v1/chat/completions", "r-1", crate::process::program::chat_body("m", false)).await;
    assert_eq!((answer.status, answer.header("x-trunkline-cost")), (200, Some("unknown")));
    let labels = [("provider", "lab"), ("model", "x")];
    assert_eq!(app.metric("trunkline_unpriced_calls_total", &labels).await, 1.0);
    let record = app.record("r-1").await;
    assert!(record.get("cost_usd").is_none_or(serde_json::Value::is_null), "{record}");
    let usage = Admin::new(&app.url, &app.admin_key).get("/api/usage?group_by=model").await;
    assert_eq!((&usage["total"]["unpriced_requests"], &usage["total"]["cost"]), (&json!(1), &json!("0")));
}

#[tokio::test]
async fn a_key_calls_the_models_it_is_for() {
    let upstream = Upstream::start();
    let app = TestApp::start(&yaml(&upstream, "")).await;
    let admin = Admin::new(&app.url, &app.admin_key);
    let group = admin.group("team", "1").await;
    let body = json!({"name": "k", "group_id": group, "allowed_models": ["other", "LAB/*"]});
    let key = admin.must("POST", "/api/keys", body).await["key"].as_str().unwrap().to_owned();
    let refused = chat(&app.url, &key, false).await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (403, &json!("model_not_allowed")));
    assert!(upstream.requests().is_empty());
    let auth = format!("Bearer {key}");
    let headers = [("authorization", auth.as_str())];
    let models = app.client().get("/v1/models", &headers).await.json();
    assert_eq!(models["data"], json!([]), "nor does it see them");
    assert_eq!(app.client().get("/v1/models/m", &headers).await.status, 404);
    assert_eq!(app.client().get("/v1/models/lab/x", &headers).await.status, 200);
}
