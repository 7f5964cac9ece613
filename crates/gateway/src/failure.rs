//! How one attempt can fail, and what to do next.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use llm::dialects::egress;
use llm::openai::{ProviderError, Refusal, read_error};
use llm::{Dialect, SendError};

use crate::error::Error;
use crate::snapshot::ProviderEntry;

/// The default wait told to a client when a provider limits us without saying for how long.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why an attempt brought no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection, or it broke before the head of an answer.
    Send(SendError),
    /// An answer with an error status.
    Status(ErrorAnswer),
    /// No head, or no first token, in time.
    Slow,
    /// An answer that is none: cut off, malformed, an error with status 200.
    Protocol(String),
    /// The provider speaks another dialect, which the request cannot be said in. It was not asked.
    Unfit(Refusal),
}

/// A provider's answer with an error status.
#[derive(Debug)]
pub(crate) struct ErrorAnswer {
    pub status: StatusCode,
    /// What the provider speaks.
    pub dialect: Dialect,
    pub content_type: Option<HeaderValue>,
    pub retry_after: Option<Duration>,
    pub body: Bytes,
}

/// What a failure means for the rest of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The request itself was refused: every target would say the same. Handed to the client as it is.
    Final,
    /// Too long for this model; a larger one may take it.
    Overflow,
    /// This target will not serve it, another one may: leave at once.
    Leave,
    /// This target asks to wait.
    Limited(Option<Duration>),
    /// A mishap: worth trying again here.
    Again(Option<Duration>),
}

impl Failure {
    /// Without our own credentials, which some providers quote.
    pub(crate) fn redacted(self, provider: &ProviderEntry) -> Self {
        match self {
            Failure::Status(answer) => {
                Failure::Status(ErrorAnswer { body: provider.redact_body(answer.body), ..answer })
            }
            Failure::Protocol(what) => Failure::Protocol(provider.redact(&what)),
            Failure::Send(_) | Failure::Slow | Failure::Unfit(_) => self,
        }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Failure::Send(_) | Failure::Protocol(_) => Verdict::Again(None),
            Failure::Slow | Failure::Unfit(_) => Verdict::Leave,
            Failure::Status(answer) => match answer.status.as_u16() {
                429 => Verdict::Limited(answer.retry_after),
                503 if answer.retry_after.is_some() => Verdict::Limited(answer.retry_after),
                408 | 425 | 500..=599 => Verdict::Again(answer.retry_after),
                401..=404 => Verdict::Leave,
                400 | 413 | 422 if answer.read().is_some_and(|e| e.is_context_overflow()) => {
                    Verdict::Overflow
                }
                // A redirect, which is not followed, or a success that brings no answer.
                ..=399 => Verdict::Leave,
                _ => Verdict::Final,
            },
        }
    }

    /// Whether it speaks of ill health of the target (see `breaker`).
    pub(crate) fn is_ill_health(&self) -> bool {
        match self {
            Failure::Send(_) | Failure::Slow | Failure::Protocol(_) => true,
            Failure::Unfit(_) => false,
            Failure::Status(answer) => match answer.status.as_u16() {
                401..=403 => true,
                429 => false,
                other => other >= 500,
            },
        }
    }

    /// A name with few values, for metrics and traces (`error.type`).
    pub(crate) fn class(&self) -> &'static str {
        match self {
            Failure::Send(SendError::Connect(_)) => "connect",
            Failure::Send(_) => "broken",
            Failure::Slow => "timeout",
            Failure::Protocol(_) => "protocol",
            Failure::Unfit(_) => "unfit",
            Failure::Status(answer) => match answer.status.as_u16() {
                429 => "rate_limited",
                401..=403 => "credential",
                400..=499 => "refused",
                _ => "status",
            },
        }
    }

    /// For the log: the whole of it.
    pub(crate) fn detail(&self) -> String {
        match self {
            Failure::Send(error) => error.to_string(),
            Failure::Slow => "no answer in time".into(),
            Failure::Protocol(what) => clipped(what),
            Failure::Unfit(refusal) => clipped(&refusal.message),
            Failure::Status(answer) => match answer.read() {
                // Words about a credential may quote it.
                _ if matches!(answer.status.as_u16(), 401..=403) => format!("status {}", answer.status),
                Some(error) => format!("status {}: {}", answer.status, clipped(&error.message)),
                None => format!("status {}", answer.status),
            },
        }
    }

    /// What the client is told when nothing is left to try.
    pub(crate) fn into_error(self, target: &str) -> Error {
        let target = target.to_owned();
        match self {
            Failure::Slow => Error::TooSlow { target },
            Failure::Unfit(refusal) => Error::Refused(refusal),
            Failure::Send(SendError::Connect(_)) => Error::Failed { target, what: "no connection".into() },
            Failure::Send(_) => Error::Failed { target, what: "the connection broke".into() },
            Failure::Protocol(_) => {
                Error::Failed { target, what: "its answer broke off or was malformed".into() }
            }
            Failure::Status(answer) => match answer.status.as_u16() {
                429 => {
                    let asked = answer.retry_after.filter(|wait| !wait.is_zero());
                    Error::RateLimited { target, retry_after: asked.unwrap_or(DEFAULT_RETRY_AFTER) }
                }
                401..=403 => Error::Credential { target },
                status => Error::Failed { target, what: format!("it answered {status}") },
            },
        }
    }
}

impl ErrorAnswer {
    pub(crate) fn read(&self) -> Option<ProviderError> {
        match egress(self.dialect) {
            Some(dialect) => dialect.read_error(&self.body),
            None => read_error(&self.body),
        }
    }
}

/// At most 500 characters of somebody else's text.
pub(crate) fn clipped(text: &str) -> String {
    text.chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, retry_after: Option<u64>, body: &'static str) -> Failure {
        Failure::Status(ErrorAnswer {
            status: StatusCode::from_u16(code).unwrap(),
            dialect: Dialect::Chat,
            content_type: None,
            retry_after: retry_after.map(Duration::from_secs),
            body: Bytes::from_static(body.as_bytes()),
        })
    }

    #[test]
    fn each_status_has_its_verdict() {
        let overflow = r#"{"error":{"message":"m","code":"context_length_exceeded"}}"#;
        let two = Some(Duration::from_secs(2));
        for (failure, verdict) in [
            (status(400, None, "{}"), Verdict::Final),
            (status(400, None, overflow), Verdict::Overflow),
            (status(401, None, ""), Verdict::Leave),
            (status(404, None, ""), Verdict::Leave),
            (status(408, None, ""), Verdict::Again(None)),
            (status(422, None, ""), Verdict::Final),
            (status(429, Some(2), ""), Verdict::Limited(two)),
            (status(429, None, ""), Verdict::Limited(None)),
            (status(500, None, ""), Verdict::Again(None)),
            (status(503, Some(2), ""), Verdict::Limited(two)),
            (status(302, None, ""), Verdict::Leave),
            (status(202, None, ""), Verdict::Leave),
            (Failure::Slow, Verdict::Leave),
        ] {
            assert_eq!(failure.verdict(), verdict, "{failure:?}");
        }
    }

    #[test]
    fn a_refused_credential_is_never_quoted() {
        let refused = status(401, None, r#"{"error":{"message":"bad key sk-secret","code":"x"}}"#);
        assert!(!refused.detail().contains("sk-secret"));
        assert!(!refused.into_error("p/m").to_string().contains("sk-secret"));
    }
}
