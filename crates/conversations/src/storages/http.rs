//! What storages over HTTP share: a bounded number of requests at once, a time limit over the whole of each,
//! bounded answers, and errors that tell whether to try again and hold neither a secret nor what people said.

use std::sync::Arc;
use std::time::Duration;

use base::Secret;
use bytes::{Bytes, BytesMut};
use reqwest::{Client, RequestBuilder};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::options::OptionsError;
use crate::storage::{StorageContext, StorageError};

/// The most requests of one storage at once.
const AT_ONCE: usize = 16;
/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 << 20;
/// How much of a server's own words is told.
const MAX_TOLD: usize = 300;

/// A client of one service.
#[derive(Clone)]
pub(super) struct Http {
    client: Client,
    permits: Arc<Semaphore>,
    timeout: Duration,
    secrets: Vec<Secret>,
}

/// What a service answered.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

impl Http {
    /// A client whose requests take at most so long, the answer's body included. These secrets are hidden
    /// wherever the service repeats them.
    pub(super) fn new(client: &Client, timeout: Duration, secrets: Vec<Secret>) -> Self {
        Http { client: client.clone(), permits: Arc::new(Semaphore::new(AT_ONCE)), timeout, secrets }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Sends a request, part of the trace of a save when there is one.
    pub(super) async fn send(
        &self,
        request: RequestBuilder,
        context: Option<&StorageContext>,
    ) -> Result<Answer, StorageError> {
        let request = match context {
            Some(context) => request.header("traceparent", &context.trace.to_header()[..]),
            None => request,
        };
        match tokio::time::timeout(self.timeout, self.exchange(request)).await {
            Ok(result) => result,
            Err(_) => Err(StorageError::temporary(format!("no answer within {:?}", self.timeout))),
        }
    }

    async fn exchange(&self, request: RequestBuilder) -> Result<Answer, StorageError> {
        let Ok(_permit) = self.permits.acquire().await else {
            return Err(StorageError::temporary("the storage is closed"));
        };
        let mut response = request.send().await?;
        let status = response.status().as_u16();
        let mut body = BytesMut::new();
        while let Some(piece) = response.chunk().await? {
            if body.len() + piece.len() > MAX_ANSWER {
                return Err(StorageError::permanent(format!("the answer is larger than {MAX_ANSWER} bytes")));
            }
            body.extend_from_slice(&piece);
        }
        Ok(Answer { status, body: body.freeze() })
    }

    /// The error of an answer that is none of those expected: its status, and the server's words at the first of
    /// these JSON pointers where there are some.
    pub(super) fn refused(&self, what: &str, answer: &Answer, words: &[&str]) -> StorageError {
        let json = answer.json().unwrap_or_default();
        let told = words.iter().find_map(|pointer| json.pointer(pointer)?.as_str());
        let told = told.map(|text| format!(": {}", self.cleaned(text))).unwrap_or_default();
        let reason = format!("{what}: the answer was {}{told}", answer.status);
        match answer.status {
            // About what was sent. Everything else is about the service, its settings or ours, which somebody may
            // change before the last attempt.
            400 | 413 | 414 | 415 | 422 | 431 => StorageError::permanent(reason),
            _ => StorageError::temporary(reason),
        }
    }

    /// Foreign words without our secrets, and not too many of them.
    pub(super) fn cleaned(&self, text: &str) -> String {
        cleaned(text, &self.secrets)
    }
}

/// Foreign words without these secrets, and not too many of them.
pub(super) fn cleaned(text: &str, secrets: &[Secret]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().map(Secret::expose).filter(|secret| secret.len() >= 4) {
        text = text.replace(secret, Secret::HIDDEN);
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TOLD).collect()
}

impl Answer {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(super) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// An address from options: absolute, http or https, without a slash at its end.
pub(super) fn base_url(option: &str, text: &str) -> Result<String, OptionsError> {
    let text = text.trim().trim_end_matches('/');
    match reqwest::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(text.to_owned()),
        // The address may hold a password: it is not repeated.
        _ => Err(OptionsError::new(format!("`{option}` must be an address as https://host:port"))),
    }
}

/// Refuses a time limit that is none.
pub(super) fn seconds(option: &str, seconds: f64) -> Result<Duration, OptionsError> {
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if !time.is_zero() && time <= Duration::from_secs(3600) => Ok(time),
        _ => Err(OptionsError::new(format!("`{option}` must be more than 0 and at most 3600 seconds"))),
    }
}
