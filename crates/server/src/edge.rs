//! What happens to every request before and after its handler: an id, a place in a trace, an identity, a
//! look at the clock, one line in the log.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use access::ip::Surface;
use access::limits::Permit;
use access::{BadKey, Caller};
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use base::{Kind, RequestId, TraceContext};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body::{Body as _, Frame};
use llm::Dialect;
use tower::ServiceExt as _;

use crate::admin::{is_admin, refuse};
use crate::body::lingering;
use crate::error::{ApiError, dialect_at};
use crate::router::pattern;
use crate::routes::vcons;
use crate::state::{App, Shared};

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Where Google's clients put the key.
const X_GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");
/// Where Conduit's own client puts the master key.
const X_MASTER_KEY: HeaderName = HeaderName::from_static("x-master-key");
/// Where it puts a key for one request.
const X_EPHEMERAL_KEY: HeaderName = HeaderName::from_static("x-ephemeral-key");

const MISSING_KEY: &str = "missing_api_key";

/// The paths that need no key. Everything else does.
const OPEN: &[&str] = &[
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

/// What the edge knows of a request, for handlers.
#[derive(Clone)]
pub(crate) struct Edge {
    pub(crate) request_id: RequestId,
    pub(crate) trace: TraceContext,
    pub(crate) arrived: Instant,
    /// Who asks; on open paths only if they said so.
    pub(crate) caller: Option<Arc<Caller>>,
    /// The client's address.
    pub(crate) ip: IpAddr,
}

/// The routes whose log line is the model call's account, which the gateway writes.
const CALLS: &[&str] = &[
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/messages",
    "/v1beta/models/{model}:generateContent",
    "/v1beta/models/{model}:streamGenerateContent",
    "/v1/moderations",
    "/v1/rerank",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/images/variations",
    "/v1/audio/speech",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
];

/// Serves one request.
pub(crate) async fn serve(
    app: Arc<App>,
    router: Router,
    request: Request<hyper::body::Incoming>,
    peer: IpAddr,
) -> Response {
    let arrived = Instant::now();
    let shared = &app.shared;
    let headers = request.headers();
    let request_id = RequestId::from_header(headers.get(X_REQUEST_ID).map(HeaderValue::as_bytes));
    let mut trace = TraceContext::from_header(headers.get(TRACEPARENT).map(HeaderValue::as_bytes));
    let remote = trace.parent_span_id.is_some().then_some(trace.sampled);
    trace.sampled = shared.tracer.sample(trace.trace_id, remote);
    let client = shared.access.door().client(peer, headers);
    let method = request.method().clone();
    let mut request = lingering(request);
    if dialect_at(request.uri().path()) == Dialect::Gemini {
        take_key(&mut request);
    }
    let path = request.uri().path();
    let vcon_path = vcons::under(shared, path);
    let route = vcon_path.and_then(vcons::pattern).unwrap_or_else(|| pattern(path));
    // Kept only where an error has a form of its own.
    let admin_path = (vcon_path.is_none() && is_admin(path)).then(|| path.to_owned());
    // The vCon API looks at credentials of its own.
    let own_door = vcon_path.is_some();
    let dialect = dialect_at(path);
    let open = OPEN.contains(&route);
    let surface = if admin_path.is_some() { Surface::Admin } else { Surface::Api };
    // Probes come from where they come.
    let entered = match open {
        true => Ok(Permit::default()),
        false => shared.access.door().enter(client.ip, surface, path).await,
    };
    let (permit, found) = match entered {
        Ok(permit) => (Some(permit), authenticate(shared, request.headers())),
        Err(turned) => {
            let error = ApiError::new(turned.kind(), turned.code(), turned.to_string());
            (None, Err(ApiError { headers: turned.headers(), ..error }))
        }
    };
    let found = match found {
        Err(refusal) if refusal.code == BadKey::Unknown.code() => {
            token(shared, request.headers(), refusal).await
        }
        found => found,
    };
    let found = match found {
        Ok(caller) if caller.single_use && !open => use_up(shared, caller).await,
        found => found,
    };
    if !open && !own_door {
        note_outcome(shared, client.ip, surface, &found);
    }
    let (caller, refusal) = match found {
        Ok(caller) => (Some(caller), None),
        // On open paths a credential that is no good is as none.
        Err(refusal) if own_door && refusal.kind == Kind::Unauthenticated => (None, None),
        Err(refusal) => (None, (!open).then_some(refusal)),
    };
    let refused = refusal.is_some();
    let key_id = caller.as_ref().map(|caller| Arc::clone(&caller.label));
    let edge = Edge { request_id: request_id.clone(), trace, arrived, caller, ip: client.ip };
    let mut response = if let Some(refusal) = refusal {
        tell(admin_path.as_deref(), dialect, refusal, &request_id)
    } else {
        request.extensions_mut().insert(edge);
        match AssertUnwindSafe(router.oneshot(request)).catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => {
                tracing::error!(request_id = request_id.as_str(), "a handler panicked");
                let text = "Something went wrong here; it is in the log.";
                let error = ApiError::new(Kind::Internal, "internal_error", text);
                tell(admin_path.as_deref(), dialect, error, &request_id)
            }
        }
    };
    if let Some(permit) = permit.filter(Permit::holds)
        && response.body().size_hint().exact().is_none()
    {
        // A stream takes up its address's place until its end.
        response = response.map(|body| Body::new(Holding { body, _permit: permit }));
    }
    let accounted = !refused && CALLS.contains(&route) && method == Method::POST;
    let seen = Seen { method: &method, route, key: key_id.as_deref(), arrived, accounted };
    finish(shared, &mut response, &request_id, &trace, &seen);
    response
}

/// An error in the form of its path.
fn tell(admin: Option<&str>, dialect: Dialect, error: ApiError, request_id: &RequestId) -> Response {
    match admin {
        Some(path) => refuse(Some(path), error, request_id),
        None => error.response(dialect),
    }
}

/// A body that keeps what its request was let in with, until it is over or the client is gone.
struct Holding {
    body: Body,
    _permit: Permit,
}

impl http_body::Body for Holding {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
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

/// Adds headers by their names.
pub(crate) fn add(headers: &mut HeaderMap, more: &[(&'static str, String)]) {
    for (name, text) in more {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(*name, value);
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

/// Too many wrong keys, and their address is banned.
fn note_outcome(shared: &Shared, ip: IpAddr, surface: Surface, found: &Result<Arc<Caller>, ApiError>) {
    match found {
        Ok(_) => shared.access.door().succeeded(ip, surface),
        // No key at all is a mistake; a wrong one may be a guess.
        Err(error) if error.kind == Kind::Unauthenticated && error.code != MISSING_KEY => {
            if let Some(ban) = shared.access.door().failed(ip, surface) {
                tracing::warn!(ip = %ip, reason = ban.reason, "an address is banned");
                let access = Arc::clone(&shared.access);
                drop(shared.control.spawn(async move { access.banned(&ban).await }));
            }
        }
        Err(_) => {}
    }
}

/// What is no key may be a token of the identity provider.
async fn token(shared: &Shared, headers: &HeaderMap, refusal: ApiError) -> Result<Arc<Caller>, ApiError> {
    let Some(presented) = presented(headers) else { return Err(refusal) };
    match shared.access.authenticate_token(presented).await {
        None => Err(refusal),
        Some(Ok(caller)) => Ok(caller),
        Some(Err(error)) => Err(ApiError::new(error.kind(), error.as_str(), error.to_string())),
    }
}

/// A key that works once: of all requests that bring it, on any replica, one is served.
async fn use_up(shared: &Shared, caller: Arc<Caller>) -> Result<Arc<Caller>, ApiError> {
    let (access, key) = (Arc::clone(&shared.access), caller.key_id.unwrap_or_default());
    match shared.control.spawn(async move { access.use_up(key).await }).await {
        Ok(Ok(true)) => Ok(caller),
        Ok(Ok(false)) => {
            let text = "That key was for one request and has been used: ask for a new one.";
            Err(ApiError::new(Kind::Unauthenticated, "api_key_used", text))
        }
        Ok(Err(_)) | Err(_) => {
            let text = "That key cannot be looked up for now; try again shortly.";
            let error = ApiError::new(Kind::Unavailable, "store_unavailable", text);
            Err(ApiError { retry_after: Some(Duration::from_secs(1)), ..error })
        }
    }
}

/// The key from `Authorization: Bearer`, `X-API-Key`, Google's header or one of Conduit's.
fn presented(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then_some(key.trim());
    }
    let names = [X_API_KEY, X_GOOG_API_KEY, X_MASTER_KEY, X_EPHEMERAL_KEY];
    let value = names.iter().find_map(|name| headers.get(name))?;
    value.to_str().ok().map(str::trim)
}

/// Moves a key from the query (`?key=`), where Google's API takes it too, into its header: a query is what others
/// write into their logs.
fn take_key<B>(request: &mut Request<B>) {
    let Some(query) = request.uri().query() else { return };
    let (mut keys, rest): (Vec<&str>, Vec<&str>) =
        query.split('&').partition(|pair| pair.strip_prefix("key").is_some_and(|rest| rest.starts_with('=')));
    let Some(key) = keys.pop() else { return };
    let key = key.trim_start_matches("key=").to_owned();
    let path = request.uri().path();
    let bare = if rest.is_empty() { path.to_owned() } else { format!("{path}?{}", rest.join("&")) };
    let mut parts = request.uri().clone().into_parts();
    // A path that was one stays one.
    parts.path_and_query = bare.parse().ok();
    *request.uri_mut() = http::Uri::from_parts(parts).unwrap_or_default();
    if let Ok(mut value) = HeaderValue::from_str(&key) {
        value.set_sensitive(true);
        request.headers_mut().entry(X_GOOG_API_KEY).or_insert(value);
    }
}

fn authenticate(shared: &Shared, headers: &HeaderMap) -> Result<Arc<Caller>, ApiError> {
    let bad = |bad: BadKey| ApiError::new(Kind::Unauthenticated, bad.code(), bad.to_string());
    match presented(headers) {
        Some(key) => shared.access.authenticate(key).map_err(bad),
        None if [AUTHORIZATION, X_API_KEY, X_GOOG_API_KEY].iter().any(|name| headers.contains_key(name)) => {
            Err(bad(BadKey::Unknown))
        }
        None => Err(ApiError::new(
            Kind::Unauthenticated,
            MISSING_KEY,
            "Send your API key as `Authorization: Bearer KEY` or `X-API-Key: KEY`.",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_leaves_the_query() {
        for (uri, left, key) in [
            ("/v1beta/models/m:x?key=tl-1&alt=sse", "/v1beta/models/m:x?alt=sse", Some("tl-1")),
            ("/v1beta/models?key=tl-1", "/v1beta/models", Some("tl-1")),
            ("/v1beta/models?keys=a&monkey=b", "/v1beta/models?keys=a&monkey=b", None),
            ("/v1beta/models?key=a&key=tl-2", "/v1beta/models", Some("tl-2")),
            ("/v1beta/models", "/v1beta/models", None),
        ] {
            let mut request = Request::builder().uri(uri).body(()).unwrap();
            take_key(&mut request);
            assert_eq!(request.uri(), left);
            assert_eq!(presented(request.headers()), key, "{uri}");
        }
    }
}
