//! Whether we are alive, and whether we can serve.

use std::sync::Arc;
use std::time::{Duration, Instant};

use access::limits::LimitsHealth;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use base::Kind;
use http::StatusCode;
use serde_json::json;

use super::version;
use crate::error::ApiError;
use crate::state::App;

/// How long the answer about the database holds.
const PROBE_HOLDS: Duration = Duration::from_millis(500);
/// How long the database may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

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
    let dependencies = app.shared.dependencies.states();
    let all_answer = dependencies.iter().all(|dependency| dependency.ok);
    let limits = app.shared.access.door().limiter().health();
    let counting = !matches!(limits, LimitsHealth::Degraded { .. });
    let (code, status) = match app.shared.is_draining() {
        true => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        false if open == 0 && all_answer && counting => (StatusCode::OK, "ready"),
        // We serve on: keys are in memory, and what is leased of budgets may be spent. Turning every replica away
        // would not bring back what is missing.
        false => (StatusCode::OK, "degraded"),
    };
    let limits = match limits {
        LimitsHealth::Local => "local",
        LimitsHealth::Shared => "shared",
        LimitsHealth::Degraded { .. } => "degraded",
    };
    let body = json!({
        "status": status,
        "calls_in_flight": app.gateway.in_flight(),
        "targets": targets,
        "dependencies": *dependencies,
        "limits": limits,
    });
    (code, Json(body)).into_response()
}

/// `GET /health/database`: whether the database answers, and how its connections stand.
pub(crate) async fn database(State(app): State<Arc<App>>) -> Response {
    let shared = &app.shared;
    if !shared.limits.load().health_enabled {
        return disabled();
    }
    // Anyone may ask: one question at a time goes to the database, and its answer holds for a moment.
    let mut probe = shared.database.lock().await;
    let latency = match *probe {
        Some((at, latency)) if at.elapsed() < PROBE_HOLDS => latency,
        _ => {
            let access = Arc::clone(&shared.access);
            let ping = async move { tokio::time::timeout(PROBE_TIMEOUT, access.db().ping()).await };
            let latency = match shared.control.spawn(ping).await {
                Ok(Ok(Ok(latency))) => Some(latency),
                failed => {
                    tracing::warn!(?failed, "the database did not answer a probe");
                    None
                }
            };
            *probe = Some((Instant::now(), latency));
            latency
        }
    };
    drop(probe);
    let (db, up) = (shared.access.db(), latency.is_some());
    let pool = db.pool();
    let millis = |latency: Duration| (latency.as_secs_f64() * 1e6).round() / 1e3;
    let body = json!({
        "status": if up { "healthy" } else { "unhealthy" },
        "engine": db.engine().as_str(),
        "latency_ms": latency.map(millis),
        "pool": {"open": pool.open, "idle": pool.idle, "max": pool.max},
    });
    let status = if up { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

fn disabled() -> Response {
    ApiError::new(Kind::NotFound, "not_found", "Health checks are switched off (server.health_enabled).")
        .into_response()
}
