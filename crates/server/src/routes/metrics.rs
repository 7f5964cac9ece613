//! Metrics for Prometheus.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use base::Kind;
use http::header::CONTENT_TYPE;

use crate::edge::Edge;
use crate::error::ApiError;
use crate::settings::MetricsAccess;
use crate::state::App;

/// `GET /metrics`, text format 0.0.4, open or for the admin key.
pub(crate) async fn metrics(State(app): State<Arc<App>>, Extension(edge): Extension<Edge>) -> Response {
    let limits = app.shared.limits.load();
    if !limits.metrics_enabled {
        let text = "Metrics are switched off (server.metrics_enabled).";
        return ApiError::new(Kind::NotFound, "not_found", text).into_response();
    }
    if limits.metrics_access == MetricsAccess::Key {
        match edge.caller.map(|caller| caller.may("metrics:read")) {
            Some(true) => {}
            Some(false) => {
                let text = "Metrics need the admin key; a virtual key does not open them.";
                return ApiError::new(Kind::Forbidden, "admin_key_needed", text).into_response();
            }
            None => {
                let text = "Metrics need the admin key: send it as `Authorization: Bearer KEY`.";
                return ApiError::new(Kind::Unauthenticated, "missing_api_key", text).into_response();
            }
        }
    }
    // Breakers have no event to be counted at: they are read when somebody looks.
    app.gateway.target_states();
    if let Some(pool) = &app.shared.pool {
        pool.observe(app.shared.access.db().pool());
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.shared.metrics.render())
        .into_response()
}
