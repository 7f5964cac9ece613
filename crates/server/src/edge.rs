//! What happens to every request before and after its handler: an id, a place in a trace, an identity, a
//! look at the clock, one line in the log.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use base::{Kind, Principal, RequestId, TraceContext};
use futures_util::FutureExt as _;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use tower::ServiceExt as _;

use crate::body::lingering;
use crate::error::ApiError;
use crate::router::pattern;
use crate::state::{App, Shared};

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The paths that need no key. Everything else does.
const OPEN: &[&str] = &["/health", "/health/live", "/health/ready", "/ready", "/version", "/metrics"];

/// What the edge knows of a request, for handlers.
#[derive(Clone)]
pub(crate) struct Edge {
    pub(crate) request_id: RequestId,
    pub(crate) trace: TraceContext,
    pub(crate) arrived: Instant,
    /// Who asks; on open paths only if they said so.
    pub(crate) principal: Option<Principal>,
}

/// The routes whose log line is the model call's account, which the gateway writes.
const CALLS: &[&str] = &["/v1/chat/completions", "/v1/embeddings"];

/// Serves one request.
pub(crate) async fn serve(
    app: Arc<App>,
    router: Router,
    request: Request<hyper::body::Incoming>,
) -> Response {
    let arrived = Instant::now();
    let shared = &app.shared;
    let headers = request.headers();
    let request_id = RequestId::from_header(headers.get(X_REQUEST_ID).map(HeaderValue::as_bytes));
    let mut trace = TraceContext::from_header(headers.get(TRACEPARENT).map(HeaderValue::as_bytes));
    let remote = trace.parent_span_id.is_some().then_some(trace.sampled);
    trace.sampled = shared.tracer.sample(trace.trace_id, remote);
    let principal = authenticate(shared, headers);
    let method = request.method().clone();
    let mut request = lingering(request);
    let route = pattern(request.uri().path());
    let refused = principal.is_none() && !OPEN.contains(&route);
    let key_id = principal.as_ref().map(|p| Arc::clone(&p.key_id));
    let edge = Edge { request_id: request_id.clone(), trace, arrived, principal };
    let mut response = if refused {
        unauthenticated(request.headers()).into_response()
    } else {
        request.extensions_mut().insert(edge);
        match AssertUnwindSafe(router.oneshot(request)).catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => {
                tracing::error!(request_id = request_id.as_str(), "a handler panicked");
                ApiError::new(
                    Kind::Internal,
                    "internal_error",
                    "Something went wrong here; it is in the log.",
                )
                .into_response()
            }
        }
    };
    let accounted = !refused && CALLS.contains(&route) && method == Method::POST;
    let seen = Seen { method: &method, route, key: key_id.as_deref(), arrived, accounted };
    finish(shared, &mut response, &request_id, &trace, &seen);
    response
}

/// What the log tells of a request beside its answer.
struct Seen<'a> {
    method: &'a Method,
    route: &'static str,
    key: Option<&'a str>,
    arrived: Instant,
    /// Its log line is written by the gateway.
    accounted: bool,
}

fn finish(
    shared: &Shared,
    response: &mut Response,
    request_id: &RequestId,
    trace: &TraceContext,
    seen: &Seen<'_>,
) {
    let Seen { method, route, key, arrived, accounted } = *seen;
    let status = response.status().as_u16();
    let duration = arrived.elapsed();
    shared.http.observe(method_name(method), route, status, duration);
    if !accounted {
        let duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let request_id = request_id.as_str();
        // Probes and scrapes come every few seconds and say nothing.
        if OPEN.contains(&route) && status < 500 {
            tracing::debug!(target: "access", request_id, method = %method, route, status, duration_us, "request");
        } else {
            tracing::info!(target: "access", request_id, method = %method, route, status, key, duration_us, "request");
        }
    }
    let headers = response.headers_mut();
    for (name, text) in [(X_REQUEST_ID, request_id.as_str().as_bytes()), (TRACEPARENT, &trace.to_header())] {
        if let Ok(value) = HeaderValue::from_bytes(text) {
            headers.insert(name, value);
        }
    }
}

/// The method as a metric label: a caller can send any word for it.
fn method_name(method: &Method) -> &str {
    match method.as_str() {
        known @ ("GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "HEAD" | "OPTIONS") => known,
        _ => "other",
    }
}

/// The key from `Authorization: Bearer` or `X-API-Key`.
fn presented(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then_some(key.trim());
    }
    headers.get(X_API_KEY)?.to_str().ok().map(str::trim)
}

fn authenticate(shared: &Shared, headers: &HeaderMap) -> Option<Principal> {
    shared.keyring.authenticate(presented(headers)?)
}

fn unauthenticated(headers: &HeaderMap) -> ApiError {
    let given = headers.contains_key(AUTHORIZATION) || headers.contains_key(X_API_KEY);
    let (code, text) = if given {
        ("invalid_api_key", "That API key is not known here: check it, or ask for a new one.")
    } else {
        ("missing_api_key", "Send your API key as `Authorization: Bearer KEY` or `X-API-Key: KEY`.")
    };
    ApiError::new(Kind::Unauthenticated, code, text)
}
