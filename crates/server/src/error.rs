//! The one place where a kind of failure becomes a status and a body.
//!
//! What a client reads is written for it: our own internals and a provider's words go to the log.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use base::Kind;

use crate::edge::add;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use llm::dialects::{self, ingress};
use llm::form::ErrorClass;
use llm::{Dialect, Ingress as _};

/// An error on its way to a client.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    pub(crate) code: &'static str,
    pub(crate) param: Option<&'static str>,
    pub(crate) retry_after: Option<Duration>,
    /// The methods there are, when the method was wrong.
    pub(crate) allow: Option<&'static str>,
    /// More headers, by their names.
    pub(crate) headers: Vec<(&'static str, String)>,
}

/// The status of each kind.
pub(crate) fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Changed => StatusCode::PRECONDITION_FAILED,
        Kind::Unpaid => StatusCode::PAYMENT_REQUIRED,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Kind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Kind::BadGateway => StatusCode::BAD_GATEWAY,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The class that the dialects have words for.
fn class(kind: Kind) -> ErrorClass {
    match kind {
        Kind::Unpaid => ErrorClass::Unpaid,
        Kind::Invalid | Kind::Conflict | Kind::Changed | Kind::UnsupportedMedia => ErrorClass::Invalid,
        Kind::NotFound => ErrorClass::NotFound,
        Kind::TooLarge => ErrorClass::TooLarge,
        Kind::Unauthenticated => ErrorClass::Authentication,
        Kind::Forbidden => ErrorClass::Permission,
        Kind::RateLimited => ErrorClass::RateLimited,
        Kind::Unavailable => ErrorClass::Overloaded,
        Kind::Timeout => ErrorClass::Timeout,
        Kind::BadGateway | Kind::Internal => ErrorClass::Server,
    }
}

/// What is spoken at a path: an error is told in it even when no handler saw the request.
pub(crate) fn dialect_at(path: &str) -> Dialect {
    let below =
        |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match path {
        _ if below("/v1/messages") => Dialect::Messages,
        _ if below("/v1beta") => Dialect::Gemini,
        _ if below("/v1/responses") => Dialect::Responses,
        _ if below("/v1/completions") => Dialect::Completions,
        _ => Dialect::Chat,
    }
}

impl ApiError {
    pub(crate) fn new(kind: Kind, code: &'static str, message: impl Into<String>) -> Self {
        ApiError {
            kind,
            message: message.into(),
            code,
            param: None,
            retry_after: None,
            allow: None,
            headers: Vec::new(),
        }
    }

    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        let text = format!("This path does not take that method: use {}.", allow.replace(", ", " or "));
        ApiError { allow: Some(allow), ..ApiError::new(Kind::Invalid, "method_not_allowed", text) }
    }

    /// The status to send.
    pub(crate) fn status(&self) -> StatusCode {
        match (self.allow, self.code) {
            (Some(_), _) => StatusCode::METHOD_NOT_ALLOWED,
            // The one timeout that is the client's: its body did not come.
            (None, "request_timeout") => StatusCode::REQUEST_TIMEOUT,
            _ => status(self.kind),
        }
    }

    fn class(&self) -> ErrorClass {
        match self.status() {
            StatusCode::REQUEST_TIMEOUT => class(Kind::Invalid),
            _ => class(self.kind),
        }
    }
}

impl From<&gateway::Error> for ApiError {
    fn from(error: &gateway::Error) -> Self {
        ApiError {
            param: error.param(),
            retry_after: error.retry_after(),
            ..ApiError::new(error.kind(), error.code(), error.to_string())
        }
    }
}

impl ApiError {
    /// The answer, in the form of this dialect.
    pub(crate) fn response(self, dialect: Dialect) -> Response {
        let (class, message) = (self.class(), self.message.as_str());
        let body = match ingress(dialect) {
            Some(dialect) => dialect.error_body(class, message, self.param, self.code),
            None => dialects::chat::Chat.error_body(class, message, self.param, self.code),
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        add(headers, &self.headers);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(wait) = self.retry_after {
            // Whole seconds, rounded up, and never 0: a client must not come back at once.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.kind == Kind::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// In OpenAI's form, which is that of every path without a dialect of its own.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.response(Dialect::Chat)
    }
}
