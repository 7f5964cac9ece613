//! The error body of OpenAI's API: <https://platform.openai.com/docs/guides/error-codes>.

use serde::{Deserialize, Serialize};

use crate::Extra;

/// `{"error": {…}}`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// A sentence for people.
    pub message: String,
    /// The class: `invalid_request_error`, `rate_limit_error` …
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    /// The field at fault, as a path: `messages[0].role`.
    #[serde(default)]
    pub param: Option<String>,
    /// The cause, for programs. A few servers write a number here, which `serde_json::Value` keeps.
    #[serde(default)]
    pub code: Option<serde_json::Value>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}
