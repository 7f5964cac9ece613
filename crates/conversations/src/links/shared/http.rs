//! Requests to services that the operator names: bounded in time and size, their status looked at.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{RequestBuilder, Url};
use serde_json::Value;

use crate::link::LinkError;
use crate::options::OptionsError;

/// The most of an answer that is read where nothing large is expected.
pub(in crate::links) const SMALL: usize = 1 << 20;
/// The most of an answer of a model or a transcription.
pub(in crate::links) const LARGE: usize = 32 << 20;

/// What came back.
#[derive(Debug)]
pub(in crate::links) struct Answer {
    pub(in crate::links) status: u16,
    pub(in crate::links) headers: HeaderMap,
    pub(in crate::links) body: Bytes,
}

/// Sends a request and reads the whole answer, of at most `limit` bytes, within `timeout`. `who` is for messages.
pub(in crate::links) async fn send(
    who: &str,
    request: RequestBuilder,
    timeout: Duration,
    limit: usize,
) -> Result<Answer, LinkError> {
    let exchange = async {
        let mut response = request.send().await.map_err(|error| failed(who, error))?;
        let (status, headers) = (response.status().as_u16(), std::mem::take(response.headers_mut()));
        let mut body = BytesMut::new();
        while let Some(piece) = response.chunk().await.map_err(|error| failed(who, error))? {
            if body.len() + piece.len() > limit {
                return Err(LinkError::permanent(format!("{who} answers with more than {limit} bytes")));
            }
            body.extend_from_slice(&piece);
        }
        Ok(Answer { status, headers, body: body.freeze() })
    };
    match tokio::time::timeout(timeout, exchange).await {
        Ok(answer) => answer,
        Err(_) => {
            Err(LinkError::temporary(format!("{who} did not answer within {} s", timeout.as_secs_f32())))
        }
    }
}

fn failed(who: &str, error: reqwest::Error) -> LinkError {
    match LinkError::from(error) {
        LinkError::Temporary { reason, after } => {
            LinkError::Temporary { reason: format!("{who}: {reason}"), after }
        }
        LinkError::Permanent(reason) => LinkError::Permanent(format!("{who}: {reason}")),
    }
}

impl Answer {
    /// The answer when its status is 2xx; else an error that says whether another attempt may help.
    pub(in crate::links) fn ok(self, who: &str) -> Result<Answer, LinkError> {
        match self.status {
            200..=299 => Ok(self),
            _ => Err(self.refusal(who)),
        }
    }

    /// What a status that is not 2xx means.
    pub(in crate::links) fn refusal(&self, who: &str) -> LinkError {
        let reason = match self.message() {
            Some(message) => format!("{who} answers {}: {message}", self.status),
            None => format!("{who} answers {}", self.status),
        };
        match self.status {
            408 | 409 | 425 | 429 | 500.. => LinkError::Temporary { reason, after: self.retry_after() },
            _ => LinkError::Permanent(reason),
        }
    }

    /// The body as JSON.
    pub(in crate::links) fn json(&self, who: &str) -> Result<Value, LinkError> {
        serde_json::from_slice(&self.body)
            .map_err(|_| LinkError::temporary(format!("{who} answers {} with what is not JSON", self.status)))
    }

    /// The error's text, where services put it; not the body itself, which may repeat what people said.
    fn message(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        let text =
            [&body["error"]["message"], &body["error"], &body["message"], &body["err_msg"], &body["detail"]]
                .into_iter()
                .find_map(Value::as_str)?;
        Some(text.chars().filter(|c| !c.is_control()).take(200).collect())
    }

    fn retry_after(&self) -> Option<Duration> {
        let seconds: u64 = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds.min(3_600)))
    }
}

/// An address from the options: it is the operator's, so it may be private.
pub(in crate::links) fn url(option: &str, text: &str) -> Result<Url, OptionsError> {
    let url = Url::parse(text.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.ok_or_else(|| OptionsError::new(format!("`{option}` must be an http:// or https:// address")))
}

/// Headers from the options: names and values, each value a secret.
pub(in crate::links) fn headers(
    option: &str,
    map: &serde_json::Map<String, Value>,
) -> Result<HeaderMap, OptionsError> {
    let mut headers = HeaderMap::new();
    for (name, value) in map {
        let wrong = || OptionsError::new(format!("`{option}`: `{name}` is not a header that can be sent"));
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Null => continue,
            other => other.to_string(),
        };
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        let mut value = HeaderValue::from_str(text.trim()).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}
