//! Gemini's surface: `/v1beta/models/{model}:{method}` and the list of models.
//!
//! Source: <https://ai.google.dev/api>.

mod array;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use base::Kind;
use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use llm::dialects::{egress, ingress};
use llm::form::Losses;
use llm::{Dialect, Operation, tokens};
use serde_json::{Value, json};

use crate::body::read_json;
use crate::edge::Edge;
use crate::error::ApiError;
use crate::routes::call::{Asked, call};
use crate::state::App;

/// The most models on one page of the list, as the API has it.
const MAX_PAGE: usize = 1_000;
const PAGE: usize = 50;

/// `POST /v1beta/models/{model}:{method}`.
pub(crate) async fn ask(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Response {
    let Ok(Path(path)) = path else { return not_utf8() };
    let Some((model, method)) = path.rsplit_once(':') else {
        return unknown_method(&path);
    };
    match method {
        "generateContent" => generate(&app, model, false, request).await,
        "streamGenerateContent" => {
            let response = generate(&app, model, true, request).await;
            if parameter(query.as_deref(), &["alt", "$alt"]) == Some("sse") {
                response
            } else {
                as_array(response)
            }
        }
        "countTokens" => match count(&app, model, request).await {
            Ok(response) => response,
            Err(error) => error.response(Dialect::Gemini),
        },
        _ => unknown_method(&path),
    }
}

async fn generate(app: &App, model: &str, stream: bool, request: Request) -> Response {
    let path = Some((model.to_owned(), stream));
    call(app, Asked { path, ..Asked::new(Operation::Chat, Dialect::Gemini) }, request).await
}

/// A stream for a client that did not ask for server-sent events.
fn as_array(response: Response) -> Response {
    let is_stream = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
    if response.status() != StatusCode::OK || !is_stream {
        return response;
    }
    let (mut head, body) = response.into_parts();
    head.headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    Response::from_parts(head, Body::new(array::Array::new(body)))
}

/// The value of a query parameter that goes by one of these names.
fn parameter<'a>(query: Option<&'a str>, names: &[&str]) -> Option<&'a str> {
    let pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(name, _)| names.contains(name)).map(|(_, value)| value).next_back()
}

fn error(kind: Kind, code: &'static str, text: impl Into<String>) -> Response {
    ApiError::new(kind, code, text).response(Dialect::Gemini)
}

fn not_utf8() -> Response {
    let text = "The model's name in the path is not UTF-8: percent-encode its UTF-8 bytes.";
    error(Kind::Invalid, "invalid_request", text)
}

fn unknown_method(path: &str) -> Response {
    let text = format!(
        "There is no method `{path}`: use `MODEL:generateContent`, `MODEL:streamGenerateContent` or \
         `MODEL:countTokens`."
    );
    error(Kind::NotFound, "not_found", text)
}

fn unknown_model(model: &str) -> ApiError {
    let text = format!("The model `{model}` does not exist; see /v1beta/models.");
    ApiError::new(Kind::NotFound, "model_not_found", text)
}

/// `countTokens`: an estimate of ours, which costs nothing and asks nobody.
async fn count(app: &App, model: &str, request: Request) -> Result<Response, ApiError> {
    let (mut head, body) = request.into_parts();
    let caller = head.extensions.remove::<Edge>().and_then(|edge| edge.caller);
    let may_call = caller.is_some_and(|caller| caller.may_call(model));
    if !may_call || app.gateway.model_owner(model).is_none() {
        return Err(unknown_model(model));
    }
    let body = read_json(&head.headers, body, &app.shared.limits.load()).await?;
    let body = counted_part(&body)?;
    let dialects = ingress(Dialect::Gemini).zip(egress(Dialect::Chat));
    let Some((reader, writer)) = dialects else { return Err(unknown_model(model)) };
    let prompt = reader.read_prompt(&body, Some((model, false))).map_err(|refusal| {
        let error = ApiError::new(Kind::Invalid, "invalid_request", refusal.message);
        ApiError { param: refusal.param, ..error }
    })?;
    // Where a request has what only Gemini knows, its own text is what can be counted.
    let chat = writer.write_prompt(&prompt, model, &mut Losses::default()).unwrap_or(body);
    let model = model.to_owned();
    let counting = tokio::task::spawn_blocking(move || tokens::count_chat_input(&model, &chat));
    let total = counting.await.map_err(|_| {
        let text = "Something went wrong here; it is in the log.";
        ApiError::new(Kind::Internal, "internal_error", text)
    })?;
    Ok(Json(json!({"totalTokens": total})).into_response())
}

/// What is to be counted: the request itself, or the one it holds as `generateContentRequest`.
fn counted_part(body: &Bytes) -> Result<Bytes, ApiError> {
    let value: Value = serde_json::from_slice(body).map_err(|e| {
        let text = format!("The request body is not valid JSON: {e}.");
        ApiError::new(Kind::Invalid, "invalid_request", text)
    })?;
    let held = ["generateContentRequest", "generate_content_request"];
    Ok(match held.iter().find_map(|name| value.get(*name)) {
        Some(request) => request.to_string().into(),
        None => body.clone(),
    })
}

/// `GET /v1beta/models`: the names that can be used without knowing more, page by page.
pub(crate) async fn models(
    State(app): State<Arc<App>>,
    Extension(edge): Extension<Edge>,
    RawQuery(query): RawQuery,
) -> Response {
    let number = |names: &[&str]| parameter(query.as_deref(), names).map(str::parse::<usize>);
    let (Ok(size), Ok(from)) =
        (number(&["pageSize", "page_size"]).transpose(), number(&["pageToken", "page_token"]).transpose())
    else {
        let text = "`pageSize` must be a whole number, and `pageToken` what the page before gave.";
        return error(Kind::Invalid, "invalid_request", text);
    };
    let size = size.filter(|size| *size > 0).unwrap_or(PAGE).min(MAX_PAGE);
    let from = from.unwrap_or_default();
    let may_call = |model: &str| edge.caller.as_ref().is_some_and(|caller| caller.may_call(model));
    let known: Vec<_> = app.gateway.models().into_iter().filter(|(id, _)| may_call(id)).collect();
    let page: Vec<_> =
        known.iter().skip(from).take(size).map(|(id, owner)| model_object(id, owner)).collect();
    let mut answer = json!({"models": page});
    if from.saturating_add(size) < known.len() {
        answer["nextPageToken"] = (from + size).to_string().into();
    }
    Json(answer).into_response()
}

/// `GET /v1beta/models/{model}`: also for `provider/model` names that no list has.
pub(crate) async fn model(
    State(app): State<Arc<App>>,
    Extension(edge): Extension<Edge>,
    id: Result<Path<String>, PathRejection>,
) -> Response {
    let Ok(Path(id)) = id else { return not_utf8() };
    // A model that the key may not call is as one that is not there.
    let may_call = edge.caller.is_some_and(|caller| caller.may_call(&id));
    match app.gateway.model_owner(&id).filter(|_| may_call) {
        Some(owner) => Json(model_object(&id, &owner)).into_response(),
        None => unknown_model(&id).response(Dialect::Gemini),
    }
}

fn model_object(id: &str, owner: &str) -> Value {
    json!({
        "name": format!("models/{id}"),
        "displayName": id,
        "description": format!("Served by {owner}."),
        "supportedGenerationMethods": ["generateContent", "streamGenerateContent", "countTokens"],
    })
}

pub(crate) async fn only_post_or_get() -> Response {
    ApiError::method_not_allowed("GET, HEAD, POST").response(Dialect::Gemini)
}

pub(crate) async fn only_get() -> Response {
    ApiError::method_not_allowed("GET, HEAD").response(Dialect::Gemini)
}
