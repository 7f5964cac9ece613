//! The admin API beyond groups and keys: what it makes is in force at once, everywhere it should be.

mod bad_input;
mod conduit;
mod config;
mod replicas;
mod resources;
mod rotation;
mod sealed;

use serde_json::{Value, json};
use testkit::{Response, Upstream};

use crate::admin::Admin;
use crate::app::TestApp;

/// An installation whose file says nothing, and its administrator.
pub async fn plain() -> (TestApp, Admin) {
    let app = TestApp::start("resilience: {retries: 0}\n").await;
    let admin = Admin::new(&app.url, &app.admin_key);
    (app, admin)
}

/// Adds a provider `lab` and an alias `m` that leads there.
pub async fn add_lab(admin: &Admin, upstream: &Upstream) {
    let provider = json!({
        "name": "lab", "kind": "openai-compatible", "base_url": upstream.base_url(), "api_key": "sk-lab-secret",
        "headers": {"x-team": "team-secret"},
    });
    admin.must("POST", "/api/providers", provider).await;
    let model = json!({"name": "m", "targets": [{"provider": "lab", "model": "x"}]});
    admin.must("POST", "/api/models", model).await;
}

/// The code of a refusal.
pub fn code(answer: &Response) -> (u16, String) {
    let code = answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
    (answer.status, code)
}

/// A field of each of a list's rows.
pub fn column(list: &Value, field: &str) -> Vec<String> {
    let rows = list["data"].as_array().unwrap();
    rows.iter().map(|row| row[field].as_str().unwrap_or_default().to_owned()).collect()
}
