//! Errors in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What goes into an error body.
#[derive(Clone, Debug, Serialize)]
pub struct ErrorBody<'a> {
    /// For the person who wrote the request.
    pub message: Cow<'a, str>,
    /// The class of the error, for example `invalid_request_error`.
    #[serde(rename = "type")]
    pub class: &'a str,
    /// The field it is about.
    pub param: Option<&'a str>,
    /// What a program may act on.
    pub code: Option<&'a str>,
}

/// What we read of a provider's error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderError {
    /// Its own words.
    pub message: String,
    /// Its `code`, for example `context_length_exceeded`.
    pub code: Option<String>,
}

impl ProviderError {
    /// It is about our credential, whatever the status: Gemini says 400.
    pub fn is_about_the_credential(&self) -> bool {
        matches!(
            self.code.as_deref(),
            Some("API_KEY_INVALID" | "API_KEY_EXPIRED" | "API_KEY_SERVICE_BLOCKED")
        )
    }

    /// The request is longer than the model can take. Providers that speak OpenAI's dialect agree on the
    /// code less than on the words.
    pub fn is_context_overflow(&self) -> bool {
        let words = [
            "context length",
            "context window",
            "maximum context",
            "context limit",
            "context_length",
            // Gemini: "The input token count (…) exceeds the maximum number of tokens allowed (…)."
            "input token count",
            // Anthropic's and Bedrock's words.
            "prompt is too long",
            "input is too long",
        ];
        self.code.as_deref() == Some("context_length_exceeded")
            || words.iter().any(|words| self.message.to_ascii_lowercase().contains(words))
    }
}

#[derive(Serialize, Deserialize)]
struct Wrapped<T> {
    error: T,
}

/// The body of an error answer.
pub fn error_body(error: &ErrorBody) -> Bytes {
    serde_json::to_vec(&Wrapped { error }).unwrap_or_default().into()
}

/// The event that tells a client, within a stream, that it failed.
pub fn error_event(error: &ErrorBody) -> Bytes {
    [b"data: ", &error_body(error)[..], b"\n\n"].concat().into()
}

/// Reads a provider's error body; `None` when it is not in OpenAI's form.
pub fn read_error(body: &[u8]) -> Option<ProviderError> {
    #[derive(Deserialize)]
    struct Wire {
        message: String,
        #[serde(default)]
        code: serde_json::Value,
    }
    let wire: Wrapped<Wire> = serde_json::from_slice(body).ok()?;
    let code = match wire.error.code {
        serde_json::Value::String(code) => Some(code),
        _ => None,
    };
    Some(ProviderError { message: wire.error.message, code })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overflow_is_known_by_its_code_or_its_words() {
        for (body, overflow) in [
            (r#"{"error":{"message":"no","code":"context_length_exceeded"}}"#, true),
            (
                r#"{"error":{"message":"This model's maximum context length is 8192 tokens","code":400}}"#,
                true,
            ),
            (r#"{"error":{"message":"bad temperature","code":null}}"#, false),
        ] {
            assert_eq!(read_error(body.as_bytes()).unwrap().is_context_overflow(), overflow, "{body}");
        }
        assert_eq!(read_error(b"<html>"), None);
    }
}
