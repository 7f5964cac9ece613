//! The table of contents: every path there is, by role.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use base::Kind;

use crate::admin::{dispatch, is_admin};
use crate::error::{ApiError, dialect_at};
use crate::routes::{
    admin, anthropic, ephemeral, gemini, health, metrics, openai, responses, vcons, version,
};
use crate::settings::Role;
use crate::state::App;

/// What a listener with these roles serves.
pub(crate) fn router(app: Arc<App>, roles: &[Role]) -> Router {
    let mut router = probes();
    if roles.contains(&Role::Gateway) {
        router = router.merge(gateway());
    }
    if roles.contains(&Role::Conversations)
        && let Some(surface) = &app.shared.conversations
    {
        router = router.merge(vcons::router(&surface.root));
    }
    if roles.contains(&Role::Admin) {
        // Conduit's clients write `/api` in any case, which only the fallback can take.
        return router.merge(admin::router()).fallback(elsewhere).with_state(app);
    }
    finish(router, app)
}

/// What the metrics address serves.
pub(crate) fn metrics_router(app: Arc<App>) -> Router {
    finish(probes(), app)
}

/// Health, version and metrics, on every listener.
fn probes() -> Router<Arc<App>> {
    Router::new()
        .route("/health", get(health::health).fallback(only_get))
        .route("/health/live", get(health::live).fallback(only_get))
        .route("/health/ready", get(health::ready).fallback(only_get))
        .route("/health/database", get(health::database).fallback(only_get))
        .route("/ready", get(health::ready).fallback(only_get))
        .route("/version", get(version::version).fallback(only_get))
        .route("/metrics", get(metrics::metrics).fallback(only_get))
}

/// Model calls, in OpenAI's dialect.
fn gateway() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/chat/completions", post(openai::chat).fallback(only_post))
        .route("/v1/completions", post(openai::completions).fallback(only_post))
        .route("/v1/responses", post(responses::create).fallback(only_post))
        .route(
            "/v1/responses/{id}",
            get(responses::get).delete(responses::delete).fallback(only_get_or_delete),
        )
        .route("/v1/responses/{id}/input_items", get(responses::input_items).fallback(only_get))
        .route("/v1/responses/{id}/cancel", post(responses::cancel).fallback(only_post))
        .route("/v1/embeddings", post(openai::embeddings).fallback(only_post))
        .route("/v1/moderations", post(openai::moderations).fallback(only_post))
        .route("/v1/rerank", post(openai::rerank).fallback(only_post))
        .route("/v1/images/generations", post(openai::image_generation).fallback(only_post))
        .route("/v1/images/edits", post(openai::image_edit).fallback(only_post))
        .route("/v1/images/variations", post(openai::image_variation).fallback(only_post))
        .route("/v1/audio/speech", post(openai::speech).fallback(only_post))
        .route("/v1/audio/transcriptions", post(openai::transcription).fallback(only_post))
        .route("/v1/audio/translations", post(openai::translation).fallback(only_post))
        .route("/v1/messages", post(anthropic::messages).fallback(only_post))
        .route("/v1/messages/count_tokens", post(anthropic::count_tokens).fallback(only_post))
        .route("/v1/auth/ephemeral-key", post(ephemeral::create).fallback(only_post))
        .route("/v1/models", get(openai::models).fallback(only_get))
        .route("/v1/models/{*id}", get(openai::model).fallback(only_get))
        .route("/v1beta/models", get(gemini::models).fallback(gemini::only_get))
        .route(
            "/v1beta/models/{*call}",
            get(gemini::model).post(gemini::ask).fallback(gemini::only_post_or_get),
        )
}

fn finish(router: Router<Arc<App>>, app: Arc<App>) -> Router {
    router.fallback(not_found).with_state(app)
}

/// The pattern a path belongs to: the name under which it is counted. A path that no route knows is its
/// caller's invention, and all of those share one name.
pub(crate) fn pattern(path: &str) -> &'static str {
    const FIXED: &[&str] = &[
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/embeddings",
        "/v1/moderations",
        "/v1/rerank",
        "/v1/images/generations",
        "/v1/images/edits",
        "/v1/images/variations",
        "/v1/audio/speech",
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/models",
        "/v1/auth/ephemeral-key",
        "/v1beta/models",
        "/health",
        "/health/live",
        "/health/ready",
        "/health/database",
        "/ready",
        "/version",
        "/metrics",
        "/openapi.json",
        "/docs",
    ];
    match FIXED.iter().find(|fixed| **fixed == path) {
        Some(fixed) => fixed,
        None if path.starts_with("/v1/models/") => "/v1/models/{id}",
        None if path.starts_with("/v1beta/models/") => match path.rsplit_once(':') {
            Some((_, "generateContent")) => "/v1beta/models/{model}:generateContent",
            Some((_, "streamGenerateContent")) => "/v1beta/models/{model}:streamGenerateContent",
            Some((_, "countTokens")) => "/v1beta/models/{model}:countTokens",
            _ => "/v1beta/models/{model}",
        },
        None if path.starts_with("/v1/responses/") => match path.rsplit('/').next() {
            Some("input_items") => "/v1/responses/{id}/input_items",
            Some("cancel") => "/v1/responses/{id}/cancel",
            _ => "/v1/responses/{id}",
        },
        None if is_admin(path) => admin::table().pattern(path),
        None => "unmatched",
    }
}

async fn elsewhere(app: State<Arc<App>>, request: Request) -> Response {
    match is_admin(request.uri().path()) {
        true => dispatch(app, request).await,
        false => not_found(request).await,
    }
}

async fn not_found(request: Request) -> Response {
    let dialect = dialect_at(request.uri().path());
    ApiError::new(
        Kind::NotFound,
        "not_found",
        "There is nothing at this path; see /v1/models for the models.",
    )
    .response(dialect)
}

async fn only_get() -> Response {
    ApiError::method_not_allowed("GET, HEAD").into_response()
}

async fn only_get_or_delete(request: Request) -> Response {
    ApiError::method_not_allowed("GET, HEAD, DELETE").response(dialect_at(request.uri().path()))
}

async fn only_post(request: Request) -> Response {
    ApiError::method_not_allowed("POST").response(dialect_at(request.uri().path()))
}
