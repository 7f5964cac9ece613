//! Whether we are alive, and whether we can serve.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use base::Kind;
use http::StatusCode;
use serde_json::json;

use super::version;
use crate::error::ApiError;
use crate::state::App;

/// `GET /health`: the process answers. Says which version, as Conserver's does.
pub(crate) async fn health(State(app): State<Arc<App>>) -> Response {
    if !app.shared.limits.load().health_enabled {
        return disabled();
    }
    Json(json!({"status": "healthy", "version": version::value(&app.shared.build)})).into_response()
}

/// `GET /health/live`: the process answers.
pub(crate) async fn live(State(app): State<Arc<App>>) -> Response {
    if !app.shared.limits.load().health_enabled {
        return disabled();
    }
    Json(json!({"status": "alive"})).into_response()
}

/// `GET /health/ready`, `GET /ready`: 503 as soon as we are shutting down. A target whose breaker is open is
/// shown and leaves us ready: turning every replica away would not bring the provider back.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    if !app.shared.limits.load().health_enabled {
        return disabled();
    }
    let states = app.gateway.target_states();
    let open = states.iter().filter(|state| state.breaker != gateway::BreakerState::Closed).count();
    let targets: Vec<_> = states
        .iter()
        .map(|state| {
            json!({"target": &*state.target, "breaker": state.breaker.as_str(), "cooling": state.cooling})
        })
        .collect();
    let (code, status) = match (app.shared.is_draining(), open) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        (false, 0) => (StatusCode::OK, "ready"),
        (false, _) => (StatusCode::OK, "degraded"),
    };
    let body = json!({"status": status, "calls_in_flight": app.gateway.in_flight(), "targets": targets});
    (code, Json(body)).into_response()
}

fn disabled() -> Response {
    ApiError::new(Kind::NotFound, "not_found", "Health checks are switched off (server.health_enabled).")
        .into_response()
}
