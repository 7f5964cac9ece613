//! Which build this is.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::state::{App, Build};

/// `GET /version`.
pub(crate) async fn version(State(app): State<Arc<App>>) -> Json<Value> {
    Json(value(&app.shared.build))
}

/// Version, commit and time of the build.
pub(crate) fn value(build: &Build) -> Value {
    json!({"version": build.version, "git_commit": build.git_commit, "build_time": build.build_time})
}
