//! The vCon API, as the Conserver has it (`/vcon`, `/vcons`, `/dlq`, `/config`), at the root and under a prefix.
//!
//! It has a door of its own: the Conserver's token opens it, or a key of ours with the permission
//! `conversations:read` or `conversations:write`. Errors have FastAPI's form, `{"detail": …}`.

mod lists;
mod query;
mod settings;
mod stream;
mod vcon;

use std::sync::{Arc, Mutex, PoisonError};

use access::ip::Surface;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post};
use base::seams::SeamError;
use base::{Kind, TraceContext};
use bytes::Bytes;
use conversations::{Conversations, Door};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW,
    CONTENT_TYPE,
};
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

use self::query::Query;
use crate::body;
use crate::edge::Edge;
use crate::error::{ApiError, status};
use crate::state::{App, Shared};

const SERVER_VERSION: HeaderName = HeaderName::from_static("x-vcon-server-version");
const SERVER_COMMIT: HeaderName = HeaderName::from_static("x-vcon-server-commit");

/// Every path, beside the one with a uuid in it.
const PATHS: &[&str] = &[
    "/vcon",
    "/vcon/ingress",
    "/vcon/egress",
    "/vcon/egress/settle",
    "/vcon/count",
    "/vcon/external-ingress",
    "/vcons",
    "/vcons/search",
    "/vcons/bulk",
    "/vcons/events",
    "/dlq",
    "/dlq/reprocess",
    "/dlq/purge",
    "/config",
    "/index_vcons",
    "/stats/queue",
];

/// The pattern of a path of ours, the prefix gone.
pub(crate) fn pattern(path: &str) -> Option<&'static str> {
    if let Some(known) = PATHS.iter().find(|known| **known == path) {
        return Some(known);
    }
    let id = path.strip_prefix("/vcon/")?;
    (!id.is_empty() && !id.contains('/')).then_some("/vcon/{uuid}")
}

/// The same, for a path that may have the prefix.
pub(crate) fn under<'p>(shared: &Shared, path: &'p str) -> Option<&'p str> {
    let root = &shared.conversations.as_ref()?.root;
    let inner = match root.is_empty() {
        true => path,
        false => path.strip_prefix(root.as_str()).filter(|rest| rest.starts_with('/')).unwrap_or(path),
    };
    pattern(inner).map(|_| inner)
}

/// Every route, under each of these prefixes.
pub(crate) fn router(root: &str) -> Router<Arc<App>> {
    let mut router = Router::new();
    let prefixes = if root.is_empty() { vec![""] } else { vec!["", root] };
    for prefix in prefixes {
        let mut route = |path: &str, methods: MethodRouter<Arc<App>>, allow: &'static str| {
            let methods = methods.options(preflight).fallback(move || not_allowed(allow));
            router = std::mem::take(&mut router).route(&format!("{prefix}{path}"), methods);
        };
        route("/vcon", get(vcon::list).post(vcon::create), "GET, POST");
        route("/vcon/ingress", post(lists::ingress), "POST");
        route("/vcon/egress", get(lists::egress), "GET");
        route("/vcon/egress/settle", post(lists::settle), "POST");
        route("/vcon/count", get(lists::count), "GET");
        route("/vcon/external-ingress", post(vcon::external), "POST");
        route("/vcon/{uuid}", get(vcon::show).delete(vcon::remove), "GET, DELETE");
        route("/vcons", get(vcon::several), "GET");
        route("/vcons/search", get(vcon::search), "GET");
        route("/vcons/bulk", post(stream::bulk), "POST");
        route("/vcons/events", get(stream::events), "GET");
        route("/dlq", get(lists::dead), "GET");
        route("/dlq/reprocess", post(lists::reprocess), "POST");
        route("/dlq/purge", post(lists::purge).merge(delete(lists::purge)), "POST, DELETE");
        route("/config", get(settings::show).post(settings::replace), "GET, POST");
        route("/index_vcons", get(vcon::index), "GET");
        route("/stats/queue", get(lists::stats), "GET");
    }
    router
}

/// What a refusal looks like: a status, and what is said as `detail`.
pub(super) struct Refusal(StatusCode, Value);

impl Refusal {
    fn new(status: StatusCode, text: impl Into<Value>) -> Self {
        Refusal(status, text.into())
    }

    /// What is wrong with an input, as FastAPI tells it.
    fn input(errors: Vec<Value>) -> Self {
        Refusal(StatusCode::UNPROCESSABLE_ENTITY, Value::Array(errors))
    }

    /// What a backend said; `otherwise` is what the client reads when it is ours.
    fn seam(error: &SeamError, otherwise: &'static str) -> Self {
        match error.kind() {
            Kind::Invalid | Kind::TooLarge | Kind::NotFound => {
                Refusal::new(status(error.kind()), error.to_string())
            }
            Kind::Internal => Refusal::new(StatusCode::CONFLICT, error.to_string()),
            kind => {
                tracing::error!(%error, "{otherwise}");
                // What can be tried again is told as such: 503, or 504.
                Refusal::new(status(kind), otherwise)
            }
        }
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Refusal(error.status(), error.message.into())
    }
}

type Answer = Result<Response, Refusal>;

/// A request that has passed the door.
pub(super) struct Asked {
    shared: Arc<Shared>,
    conversations: Arc<Conversations>,
    head: Parts,
    /// Behind a lock only because a body cannot be shared, and what has one could not be waited with.
    body: Mutex<Body>,
    query: Query,
    trace: Option<TraceContext>,
}

/// What a request needs to pass.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    Read,
    Write,
    /// Nothing here: it is open, or has a key of its own.
    Nothing,
}

/// Takes a request through the door, to its handler, and gives the answer what all answers have.
pub(super) async fn serve<F>(
    app: Arc<App>,
    request: Request,
    needs: Needs,
    handle: impl FnOnce(Asked) -> F,
) -> Response
where
    F: Future<Output = Answer>,
{
    let build = app.shared.build;
    let answer = match enter(&app, request, needs) {
        Ok(asked) => handle(asked).await,
        Err(refusal) => Err(refusal),
    };
    let mut response = match answer {
        Ok(response) => response,
        Err(Refusal(status, detail)) => json_response(status, &json!({"detail": detail})),
    };
    let headers = response.headers_mut();
    for (name, text) in [(SERVER_VERSION, build.version), (SERVER_COMMIT, build.git_commit)] {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    }
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

fn enter(app: &App, request: Request, needs: Needs) -> Result<Asked, Refusal> {
    let (mut head, body) = request.into_parts();
    let edge = head.extensions.remove::<Edge>();
    let shared = Arc::clone(&app.shared);
    let Some(surface) = &shared.conversations else {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "Not Found"));
    };
    let conversations = Arc::clone(&surface.pipeline);
    if needs != Needs::Nothing {
        let settings = conversations.settings();
        let token = head.headers.get(&settings.header_name).map(HeaderValue::as_bytes);
        let token = token.and_then(|token| std::str::from_utf8(token).ok());
        let permission = if needs == Needs::Read { "conversations:read" } else { "conversations:write" };
        let caller = edge.as_ref().and_then(|edge| edge.caller.as_ref());
        let by_key = caller.is_some_and(|caller| caller.may(permission));
        match conversations.opens(token) {
            Door::Open => {}
            _ if by_key => {}
            Door::Token => {
                if let (Some(_), Some(edge)) = (token, &edge) {
                    // A wrong one may be a guess.
                    drop(shared.access.door().failed(edge.ip, Surface::Api));
                }
                return Err(Refusal::new(StatusCode::FORBIDDEN, "Invalid API Key"));
            }
            Door::Key if caller.is_some() => {
                let text =
                    format!("This needs the permission `{permission}`, which your key's role does not have.");
                return Err(Refusal::new(StatusCode::FORBIDDEN, text));
            }
            Door::Key => {
                let text = format!(
                    "Send a key with the permission `{permission}` as `Authorization: Bearer KEY`, or set \
                     conversations.api_token and send that in `{}`.",
                    settings.header_name
                );
                return Err(Refusal::new(StatusCode::UNAUTHORIZED, text));
            }
        }
    }
    let query = Query::read(head.uri.query())?;
    let trace = edge.map(|edge| edge.trace).filter(|trace| shared.tracer.enabled() && trace.sampled);
    Ok(Asked { shared, conversations, head, body: Mutex::new(body), query, trace })
}

impl Asked {
    /// Reads the body.
    async fn body(&mut self) -> Result<Bytes, Refusal> {
        body::check_encoding(&self.head.headers)?;
        let limits = self.shared.limits.load();
        let max = usize::try_from(self.conversations.settings().max_body.0).unwrap_or(usize::MAX);
        let body = self.take_body();
        Ok(body::read(&self.head.headers, body, max, limits.body_timeout).await?)
    }

    fn take_body(&mut self) -> Body {
        std::mem::take(self.body.get_mut().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does something on the runtime where the connections to the database and the queue live.
    async fn there<T: Send + 'static, F>(
        &self,
        act: impl FnOnce(Arc<Conversations>) -> F + Send + 'static,
    ) -> Result<T, Refusal>
    where
        F: Future<Output = T> + Send,
    {
        let conversations = Arc::clone(&self.conversations);
        let done = self.shared.control.spawn(async move { act(conversations).await }).await;
        done.map_err(|error| {
            tracing::error!(%error, "a vCon request was cut off");
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
        })
    }

    /// The trace to go on with, as text.
    fn traceparent(&self) -> Option<String> {
        self.trace.map(|trace| String::from_utf8_lossy(&trace.to_header()).into_owned())
    }
}

/// An answer of JSON.
pub(super) fn json_response(status: StatusCode, value: &Value) -> Response {
    text_response(status, value.to_string())
}

/// An answer of text that is JSON.
pub(super) fn text_response(status: StatusCode, text: impl Into<Body>) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer without a body.
pub(super) fn no_content() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Browsers ask before they send a header of their own.
async fn preflight() -> Response {
    let mut response = no_content();
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE, OPTIONS"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*, authorization"));
    response
}

async fn not_allowed(allow: &'static str) -> Response {
    let mut response =
        json_response(StatusCode::METHOD_NOT_ALLOWED, &json!({"detail": "Method Not Allowed"}));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

/// The state as handlers take it.
pub(super) type Shares = State<Arc<App>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_pattern() {
        assert_eq!(pattern("/vcon/count"), Some("/vcon/count"));
        assert_eq!(pattern("/vcon/018e"), Some("/vcon/{uuid}"));
        for other in ["/vcon/", "/vcon/a/b", "/vconx", "/", "/v1/vcon"] {
            assert_eq!(pattern(other), None, "{other}");
        }
    }
}
