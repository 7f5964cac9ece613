//! The admin API: its table of contents, and the pages that show it.

use std::sync::{Arc, LazyLock, OnceLock};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use bytes::Bytes;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};

use crate::admin::{Route, Table, dispatch, docs_page, openapi_document};
use crate::error::ApiError;
use crate::state::App;

mod audit;
mod conduit;
mod config;
mod entries;
mod events;
mod groups;
mod health;
mod ip_blocks;
mod ip_rules;
mod keys;
mod models;
mod notices;
mod prices;
mod providers;
mod roles;
mod settings;
mod stored;
mod usage;

/// Every operation, each resource in its file.
fn routes() -> Vec<Route> {
    let mut all = Vec::new();
    all.extend(groups::routes());
    all.extend(keys::routes());
    all.extend(providers::routes());
    all.extend(models::routes());
    all.extend(prices::routes());
    all.extend(roles::routes());
    all.extend(ip_rules::routes());
    all.extend(ip_blocks::routes());
    all.extend(settings::routes());
    all.extend(config::routes());
    all.extend(conduit::routes());
    all.extend(usage::routes());
    all.extend(audit::routes());
    all.extend(events::routes());
    all.extend(notices::routes());
    all.extend(health::routes());
    all
}

/// The operations, found by path.
pub(crate) fn table() -> &'static Table {
    static TABLE: LazyLock<Table> = LazyLock::new(|| Table::new(routes()));
    &TABLE
}

/// Everything below `/api`, and what is said about it.
pub(crate) fn router() -> Router<Arc<App>> {
    let only_get = || async { ApiError::method_not_allowed("GET, HEAD").into_response() };
    Router::new()
        .route("/api", any(dispatch))
        .route("/api/{*path}", any(dispatch))
        .route("/openapi.json", get(openapi).fallback(only_get))
        .route("/docs", get(docs).fallback(only_get))
}

/// `GET /openapi.json`. Made once: anyone may ask for it.
async fn openapi(State(app): State<Arc<App>>) -> Response {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    let make = || openapi_document(table(), app.shared.build.version).to_string().into();
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.get_or_init(make).clone()).into_response()
}

/// `GET /docs`.
async fn docs(State(app): State<Arc<App>>) -> Response {
    static PAGE: OnceLock<Bytes> = OnceLock::new();
    let make = || docs_page(&openapi_document(table(), app.shared.build.version)).into();
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
    ];
    (headers, PAGE.get_or_init(make).clone()).into_response()
}
