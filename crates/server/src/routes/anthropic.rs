//! Anthropic's surface: `/v1/messages` and `/v1/messages/count_tokens`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use base::Kind;
use gateway::Count;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use llm::{Dialect, Operation};

use crate::body::read_json;
use crate::edge::{Edge, add};
use crate::error::ApiError;
use crate::routes::call::{Asked, call};
use crate::state::App;

/// What a client says of the dialect itself, which a provider that speaks it must hear: how the body is written, and
/// which features that are not in every version it uses.
const FORWARDED: [HeaderName; 2] =
    [HeaderName::from_static("anthropic-version"), HeaderName::from_static("anthropic-beta")];

/// Under which name Anthropic's clients look for the id of a request.
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// `POST /v1/messages`.
pub(crate) async fn messages(State(app): State<Arc<App>>, request: Request) -> Response {
    let headers = forwarded(request.headers());
    let id = request.extensions().get::<Edge>().map(|edge| edge.request_id.clone());
    let asked = Asked { headers, ..Asked::new(Operation::Chat, Dialect::Messages) };
    let mut response = call(&app, asked, request).await;
    let id = id.and_then(|id| HeaderValue::from_str(id.as_str()).ok());
    response.headers_mut().extend(id.map(|id| (REQUEST_ID, id)));
    response
}

/// `POST /v1/messages/count_tokens`.
pub(crate) async fn count_tokens(State(app): State<Arc<App>>, request: Request) -> Response {
    let headers = forwarded(request.headers());
    let (mut head, body) = request.into_parts();
    let edge = head.extensions.remove::<Edge>();
    let Some(Edge { request_id, trace, caller: Some(caller), .. }) = edge else {
        return ApiError::new(Kind::Unauthenticated, "missing_api_key", "Send your API key.")
            .response(Dialect::Messages);
    };
    let body = match read_json(&head.headers, body, &app.shared.limits.load()).await {
        Ok(body) => body,
        Err(error) => return error.response(Dialect::Messages),
    };
    let count = Count { body, headers, request_id: request_id.clone(), trace };
    let mut response = match app.gateway.count_tokens(&caller, count).await {
        Ok((status, body)) => {
            let mut response = Response::new(Body::from(body));
            *response.status_mut() = status;
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => {
            let mut response = ApiError::from(&error).response(Dialect::Messages);
            add(response.headers_mut(), &error.limit_headers());
            response
        }
    };
    let id = HeaderValue::from_str(request_id.as_str()).ok();
    response.headers_mut().extend(id.map(|id| (REQUEST_ID, id)));
    response
}

fn forwarded(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let all = |name: &HeaderName| {
        // One that is said several times is one list.
        let said: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        HeaderValue::from_str(&said.join(",")).ok().filter(|value| !value.is_empty())
    };
    FORWARDED.iter().filter_map(|name| Some((name.clone(), all(name)?))).collect()
}
