//! A model call over HTTP, whatever the surface: from the request to the answer and the headers that tell about it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use access::Caller;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use base::{Kind, Money};
use bytes::Bytes;
use gateway::{Call, CallError, Facts, Meter, Relay, Reply};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body::Frame;
use llm::openai::reads_form;
use llm::{Dialect, Operation};

use crate::body::read_body;
use crate::edge::{Edge, add};
use crate::error::ApiError;
use crate::routes::responses::{self, Keep, Keeping};
use crate::state::App;

const X_TARGET: HeaderName = HeaderName::from_static("x-trunkline-target");
const X_ATTEMPTS: HeaderName = HeaderName::from_static("x-trunkline-attempts");
const X_OVERHEAD: HeaderName = HeaderName::from_static("x-trunkline-overhead-us");
/// In dollars; `unknown` where nobody knows the price.
const X_COST: HeaderName = HeaderName::from_static("x-trunkline-cost");
/// In dollars, as far as this replica knows.
const X_BUDGET_LEFT: HeaderName = HeaderName::from_static("x-trunkline-budget-remaining");
/// Fields of the request that the provider's dialect has no place for.
const X_DROPPED: HeaderName = HeaderName::from_static("x-trunkline-dropped");
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Room for the headers of an answer, so that the map does not grow on the way.
const HEADERS: usize = 24;

/// What a surface asks of the gateway.
pub(crate) struct Asked {
    /// What is asked.
    pub(crate) operation: Operation,
    /// What the client speaks.
    pub(crate) dialect: Dialect,
    /// The model and whether to stream, where the path says it.
    pub(crate) path: Option<(String, bool)>,
    /// The client's headers that belong to its dialect.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Asked {
    /// A call whose body says everything.
    pub(crate) fn new(operation: Operation, dialect: Dialect) -> Self {
        Asked { operation, dialect, path: None, headers: Vec::new() }
    }
}

/// Makes a model call and tells what came of it, in the client's dialect.
pub(crate) async fn call(app: &App, asked: Asked, request: Request) -> Response {
    let Asked { operation, dialect, path, mut headers } = asked;
    let (mut head, body) = request.into_parts();
    let media = head.headers.get(CONTENT_TYPE);
    let is_form = reads_form(operation, media.and_then(|value| value.to_str().ok()));
    headers.extend(media.filter(|_| is_form).map(|value| (CONTENT_TYPE, value.clone())));
    let edge = head.extensions.remove::<Edge>();
    let Some(Edge { request_id, trace, arrived, caller: Some(caller), .. }) = edge else {
        return ApiError::new(Kind::Unauthenticated, "missing_api_key", "Send your API key.")
            .response(dialect);
    };
    let call = Call { operation, dialect, path, headers, request_id, trace, arrived };
    let mut keep = None;
    let replied = match app.gateway.begin(&caller, call) {
        Err(overloaded) => Err(overloaded),
        Ok(mut meter) => match read_body(is_form, &head.headers, body, &app.shared.limits.load()).await {
            Ok(body) => match prepare(app, dialect, &caller, &mut meter, body).await {
                Ok((body, kept)) => {
                    keep = kept;
                    app.gateway.call(meter, body).await
                }
                Err(error) => return refused(meter, error, dialect),
            },
            Err(error) => return refused(meter, error, dialect),
        },
    };
    let (mut response, facts) = match replied {
        Ok(Reply::Whole { status, content_type, body, mut meter }) => {
            let facts = meter.head(status.as_u16());
            if let Some(keep) = keep.take().filter(|_| status == StatusCode::OK) {
                keep.whole(&body, &facts).await;
            }
            let mut response = Response::new(Body::from(body));
            *response.status_mut() = status;
            *response.headers_mut() = HeaderMap::with_capacity(HEADERS);
            response.headers_mut().insert(CONTENT_TYPE, content_type);
            (response, facts)
        }
        Ok(Reply::Stream(relay)) => stream(relay, keep),
        Err(CallError { error, mut meter }) => {
            let shown = ApiError::from(&error);
            let facts = meter.head(shown.status().as_u16());
            let mut response = shown.response(dialect);
            add(response.headers_mut(), &error.limit_headers());
            (response, facts)
        }
    };
    tell(response.headers_mut(), &facts);
    response
}

/// The request was refused before the gateway saw it.
fn refused(mut meter: Meter, error: ApiError, dialect: Dialect) -> Response {
    meter.refused(error.code);
    meter.head(error.status().as_u16());
    error.response(dialect)
}

/// What a surface does with a body before it is asked with.
async fn prepare(
    app: &App,
    dialect: Dialect,
    caller: &Caller,
    meter: &mut Meter,
    body: Bytes,
) -> Result<(Bytes, Option<Keep>), ApiError> {
    match dialect {
        Dialect::Responses => responses::prepare(app, caller, meter, body).await,
        _ => Ok((body, None)),
    }
}

fn stream(mut relay: Relay, keep: Option<Keep>) -> (Response, Facts) {
    let facts = relay.meter().head(200);
    let streaming = match keep {
        Some(keep) => Streaming::Kept(Box::new(Keeping::new(relay, facts.clone(), keep))),
        None => Streaming::Plain(relay),
    };
    let mut response = Response::new(Body::new(streaming));
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
    facts.limits.add_to(headers);
    if !facts.dropped.is_empty() {
        headers.extend(dropped(&facts.dropped).map(|names| (X_DROPPED, names)));
    }
}

/// The names of fields as a header: the caller chose them, so they are cut and cleaned.
fn dropped(names: &[String]) -> Option<HeaderValue> {
    const MOST: usize = 32;
    const LONGEST: usize = 64;
    let clean = |name: &String| {
        let plain = name.chars().map(|c| if c.is_ascii_graphic() && c != ',' || c == ' ' { c } else { '?' });
        plain.take(LONGEST).collect::<String>()
    };
    let mut shown: Vec<String> = names.iter().take(MOST).map(clean).collect();
    if names.len() > MOST {
        shown.push(format!("and {} more", names.len() - MOST));
    }
    HeaderValue::from_str(&shown.join(", ")).ok()
}

/// A relay as an HTTP body.
#[expect(
    clippy::large_enum_variant,
    reason = "it is boxed as a body; the usual kind needs no box of its own"
)]
enum Streaming {
    Plain(Relay),
    /// What it brings is kept as well.
    Kept(Box<Keeping>),
}

impl http_body::Body for Streaming {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = match &mut *self {
            Streaming::Plain(relay) => relay.poll_piece(cx),
            Streaming::Kept(keeping) => keeping.poll_piece(cx),
        };
        polled.map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}
