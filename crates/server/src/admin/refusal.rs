//! What an error under `/api` looks like.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use base::{Kind, RequestId};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use store::StoreError;

use crate::error::ApiError;

/// Whose spelling a route answers in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Ours: snake_case, one error envelope, unknown fields refused.
    Native,
    /// Conduit's: camelCase in any case, paths in any case, its own error bodies.
    Conduit,
}

/// Why a request is not done.
#[derive(Debug)]
pub(crate) struct Refusal {
    // Boxed: every answer would else have room for it.
    pub(crate) error: Box<ApiError>,
    /// The field or parameter that is wrong, as `targets[0].provider`.
    pub(crate) field: Option<String>,
}

impl Refusal {
    pub(crate) fn new(kind: Kind, code: &'static str, message: impl Into<String>) -> Self {
        Refusal { error: Box::new(ApiError::new(kind, code, message)), field: None }
    }

    /// The request itself is wrong, at this field.
    pub(crate) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Refusal::new(Kind::Invalid, "invalid_value", message).at(field)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Refusal::new(Kind::NotFound, "not_found", message)
    }

    pub(crate) fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Refusal::new(Kind::Conflict, code, message)
    }

    /// Our own fault. What happened goes to the log, the caller reads that it does.
    pub(crate) fn internal(request_id: &RequestId, why: &dyn std::fmt::Display) -> Self {
        tracing::error!(request_id = request_id.as_str(), error = %why, "an admin request failed");
        Refusal::new(Kind::Internal, "internal_error", "Something went wrong here; it is in the log.")
    }

    #[must_use]
    pub(crate) fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// What audit and log call it.
    pub(crate) fn code(&self) -> &'static str {
        self.error.code
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.error.status()
    }

    pub(crate) fn into_response(self, form: Form, request_id: &RequestId) -> Response {
        let status = self.status();
        let body = match form {
            Form::Native => Some(("application/json", self.envelope(request_id))),
            Form::Conduit => self.conduit(status, request_id),
        };
        let mut response = (*self.error).into_response();
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match body {
            Some((media, body)) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
                *response.body_mut() = Body::from(body.to_string());
            }
            None => {
                headers.remove(CONTENT_TYPE);
                *response.body_mut() = Body::empty();
            }
        }
        response
    }

    fn envelope(&self, request_id: &RequestId) -> Value {
        json!({
            "error": {"code": self.error.code, "message": self.error.message, "field": self.field},
            "request_id": request_id.as_str(),
        })
    }

    /// The bodies that Conduit's clients know: none for 401, ASP.NET's problem for a field, else a text.
    fn conduit(&self, status: StatusCode, request_id: &RequestId) -> Option<(&'static str, Value)> {
        let message = &self.error.message;
        let body = match (status, &self.field) {
            (StatusCode::UNAUTHORIZED, _) => return None,
            (StatusCode::BAD_REQUEST, Some(field)) => {
                let problem = json!({
                    "type": "https://tools.ietf.org/html/rfc9110#section-15.5.1",
                    "title": "One or more validation errors occurred.",
                    "status": 400,
                    "errors": {field: [message]},
                    "traceId": request_id.as_str(),
                });
                return Some(("application/problem+json", problem));
            }
            (StatusCode::PAYMENT_REQUIRED, _) => {
                json!({"error": "Insufficient balance", "message": message, "statusCode": 402})
            }
            (StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS, _) => {
                json!({"error": message, "code": self.error.code})
            }
            _ => json!({"error": message}),
        };
        Some(("application/json", body))
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::Database(_) | StoreError::Schema(_) => {
                tracing::error!(%error, "the store did not do what an admin request needs");
                let text = "The store does not answer as it should; the log says why. Try again in a while.";
                return Refusal::new(Kind::Unavailable, "store_unavailable", text);
            }
            StoreError::NotFound { .. } => "not_found",
            StoreError::Exists { .. } => "already_exists",
            StoreError::Changed { .. } => "changed_meanwhile",
            StoreError::InUse { .. } => "in_use",
            StoreError::Invalid(_) => "invalid_value",
        };
        Refusal::new(error.kind(), code, sentence(&error.to_string()))
    }
}

/// With a capital letter and a full stop.
pub(crate) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    let stop = if text.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{first}{}{stop}", chars.as_str())
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        let field = error.param.map(str::to_owned);
        Refusal { error: Box::new(error), field }
    }
}
