//! OpenAI's surface: `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`, `/v1/models`.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use base::Kind;
use llm::{Dialect, Operation};
use serde_json::json;

use crate::edge::Edge;
use crate::error::ApiError;
use crate::routes::call::{Asked, call};
use crate::state::App;

/// `POST /v1/chat/completions`.
pub(crate) async fn chat(State(app): State<Arc<App>>, request: Request) -> Response {
    call(&app, Asked::new(Operation::Chat, Dialect::Chat), request).await
}

/// `POST /v1/completions`.
pub(crate) async fn completions(State(app): State<Arc<App>>, request: Request) -> Response {
    call(&app, Asked::new(Operation::Chat, Dialect::Completions), request).await
}

/// `POST /v1/embeddings`.
pub(crate) async fn embeddings(State(app): State<Arc<App>>, request: Request) -> Response {
    call(&app, Asked::new(Operation::Embeddings, Dialect::Chat), request).await
}

/// `POST /v1/moderations`.
pub(crate) async fn moderations(State(app): State<Arc<App>>, request: Request) -> Response {
    call(&app, Asked::new(Operation::Moderations, Dialect::Chat), request).await
}

/// `POST /v1/rerank`.
pub(crate) async fn rerank(State(app): State<Arc<App>>, request: Request) -> Response {
    call(&app, Asked::new(Operation::Rerank, Dialect::Chat), request).await
}

/// `POST /v1/images/generations`.
pub(crate) async fn image_generation(State(app): State<Arc<App>>, request: Request) -> Response {
    call(&app, Asked::new(Operation::ImageGeneration, Dialect::Chat), request).await
}

/// `POST /v1/images/edits`.
pub(crate) async fn image_edit(State(app): State<Arc<App>>, request: Request) -> Response {
    call(&app, Asked::new(Operation::ImageEdit, Dialect::Chat), request).await
}

/// `POST /v1/images/variations`.
pub(crate) async fn image_variation(State(app): State<Arc<App>>, request: Request) -> Response {
    call(&app, Asked::new(Operation::ImageVariation, Dialect::Chat), request).await
}

/// `POST /v1/audio/speech`.
pub(crate) async fn speech(State(app): State<Arc<App>>, request: Request) -> Response {
    call(&app, Asked::new(Operation::Speech, Dialect::Chat), request).await
}

/// `POST /v1/audio/transcriptions`.
pub(crate) async fn transcription(State(app): State<Arc<App>>, request: Request) -> Response {
    call(&app, Asked::new(Operation::Transcription, Dialect::Chat), request).await
}

/// `POST /v1/audio/translations`.
pub(crate) async fn translation(State(app): State<Arc<App>>, request: Request) -> Response {
    call(&app, Asked::new(Operation::Translation, Dialect::Chat), request).await
}

/// `GET /v1/models`: the names that can be used without knowing more.
pub(crate) async fn models(State(app): State<Arc<App>>, Extension(edge): Extension<Edge>) -> Response {
    let may_call = |model: &str| edge.caller.as_ref().is_some_and(|caller| caller.may_call(model));
    let known = app.gateway.models().into_iter().filter(|(id, _)| may_call(id));
    let data: Vec<_> = known.map(|(id, owner)| model_object(&id, &owner)).collect();
    Json(json!({"object": "list", "data": data})).into_response()
}

/// `GET /v1/models/{id}`: also for `provider/model` names that no list has.
pub(crate) async fn model(
    State(app): State<Arc<App>>,
    Extension(edge): Extension<Edge>,
    id: Result<Path<String>, PathRejection>,
) -> Response {
    let Ok(Path(id)) = id else {
        let text = "The model's name in the path is not UTF-8: percent-encode its UTF-8 bytes.";
        let error = ApiError::new(Kind::Invalid, "invalid_request", text);
        return ApiError { param: Some("model"), ..error }.into_response();
    };
    // A model that the key may not call is as one that is not there.
    let may_call = edge.caller.is_some_and(|caller| caller.may_call(&id));
    match app.gateway.model_owner(&id).filter(|_| may_call) {
        Some(owner) => Json(model_object(&id, &owner)).into_response(),
        None => {
            let text = format!("The model `{id}` does not exist; see /v1/models.");
            let error = ApiError::new(Kind::NotFound, "model_not_found", text);
            ApiError { param: Some("model"), ..error }.into_response()
        }
    }
}

fn model_object(id: &str, owner: &str) -> serde_json::Value {
    // `created` is required by clients and known to nobody: aliases have no date of birth.
    json!({"id": id, "object": "model", "created": 0, "owned_by": owner})
}
