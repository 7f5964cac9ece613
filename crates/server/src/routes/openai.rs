//! OpenAI's surface: `/v1/chat/completions`, `/v1/embeddings`, `/v1/models`.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use base::{Kind, Money};
use bytes::Bytes;
use gateway::{Call, CallError, Facts, Relay, Reply};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use llm::{Dialect, Operation};
use serde_json::json;

use crate::body::read_json;
use crate::edge::{Edge, add};
use crate::error::ApiError;
use crate::state::App;

const X_TARGET: HeaderName = HeaderName::from_static("x-trunkline-target");
const X_ATTEMPTS: HeaderName = HeaderName::from_static("x-trunkline-attempts");
const X_OVERHEAD: HeaderName = HeaderName::from_static("x-trunkline-overhead-us");
/// In dollars; `unknown` where nobody knows the price.
const X_COST: HeaderName = HeaderName::from_static("x-trunkline-cost");
/// In dollars, as far as this replica knows.
const X_BUDGET_LEFT: HeaderName = HeaderName::from_static("x-trunkline-budget-remaining");
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Room for the headers of an answer, so that the map does not grow on the way.
const HEADERS: usize = 16;

/// `POST /v1/chat/completions`.
pub(crate) async fn chat(State(app): State<Arc<App>>, request: Request) -> Response {
    call(&app, Operation::Chat, request).await
}

/// `POST /v1/embeddings`.
pub(crate) async fn embeddings(State(app): State<Arc<App>>, request: Request) -> Response {
    call(&app, Operation::Embeddings, request).await
}

async fn call(app: &App, operation: Operation, request: Request) -> Response {
    let (mut head, body) = request.into_parts();
    let edge = head.extensions.remove::<Edge>();
    let Some(Edge { request_id, trace, arrived, caller: Some(caller), .. }) = edge else {
        return ApiError::new(Kind::Unauthenticated, "missing_api_key", "Send your API key.").into_response();
    };
    let dialect = Dialect::Chat;
    let call = Call { operation, dialect, path: None, headers: Vec::new(), request_id, trace, arrived };
    let replied = match app.gateway.begin(&caller, call) {
        Err(overloaded) => Err(overloaded),
        Ok(mut meter) => match read_json(&head.headers, body, &app.shared.limits.load()).await {
            Ok(body) => app.gateway.call(meter, body).await,
            Err(error) => {
                meter.refused(error.code);
                meter.head(error.status().as_u16());
                return error.into_response();
            }
        },
    };
    let (mut response, facts) = match replied {
        Ok(Reply::Whole { status, content_type, body, mut meter }) => {
            let facts = meter.head(status.as_u16());
            let mut response = Response::new(Body::from(body));
            *response.status_mut() = status;
            *response.headers_mut() = HeaderMap::with_capacity(HEADERS);
            response.headers_mut().insert(CONTENT_TYPE, content_type);
            (response, facts)
        }
        Ok(Reply::Stream(relay)) => stream(relay),
        Err(CallError { error, mut meter }) => {
            let shown = ApiError::from(&error);
            let facts = meter.head(shown.status().as_u16());
            let mut response = shown.into_response();
            add(response.headers_mut(), &error.limit_headers());
            (response, facts)
        }
    };
    tell(response.headers_mut(), &facts);
    response
}

fn stream(mut relay: Relay) -> (Response, Facts) {
    let facts = relay.meter().head(200);
    let mut response = Response::new(Body::new(Streaming(relay)));
    *response.headers_mut() = HeaderMap::with_capacity(HEADERS);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx would otherwise gather the stream before it sends anything.
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    (response, facts)
}

/// Who answered, after how many attempts, and what of the time was ours.
fn tell(headers: &mut HeaderMap, facts: &Facts) {
    // A caller chose the model's name, which may have characters that a header cannot carry.
    if let Some(target) = facts.target.as_ref().and_then(|t| HeaderValue::from_str(t).ok()) {
        headers.insert(X_TARGET, target);
    }
    headers.insert(X_ATTEMPTS, HeaderValue::from(facts.attempts));
    let micros = u64::try_from(facts.overhead.as_micros()).unwrap_or(u64::MAX);
    headers.insert(X_OVERHEAD, HeaderValue::from(micros));
    let dollars = |money: Money| HeaderValue::from_str(&money.to_string()).ok();
    match facts.cost {
        _ if facts.unpriced => drop(headers.insert(X_COST, HeaderValue::from_static("unknown"))),
        Some(cost) => headers.extend(dollars(cost).map(|cost| (X_COST, cost))),
        None => {}
    }
    headers.extend(facts.left.and_then(dollars).map(|left| (X_BUDGET_LEFT, left)));
    add(headers, &facts.limits);
}

/// A relay as an HTTP body.
struct Streaming(Relay);

impl http_body::Body for Streaming {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_piece(cx).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
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
