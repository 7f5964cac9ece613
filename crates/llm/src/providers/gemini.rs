//! Gemini, by its own API.
//!
//! Source: <https://ai.google.dev/api>: the model is named in the path, the key is in `x-goog-api-key`.

mod embed;

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Full;

use super::openai::{Endpoint, fixed_headers};
use crate::client::Origin;
use crate::{Client, Dialect, Inbound, InboundBody, Operation, Outbound, Provider, SendError};

const KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// A provider that speaks Gemini's protocol over HTTP.
pub struct Gemini {
    origin: Origin,
    /// The path of the base URL, without a slash at the end.
    root: String,
    models: Uri,
    host: String,
    headers: HeaderMap,
}

impl Gemini {
    /// Prepares everything that is the same for each request. The error says what is wrong with the
    /// settings, without their values.
    pub fn new(endpoint: &Endpoint) -> Result<Self, String> {
        let base = endpoint.base_url.trim_end_matches('/');
        let url: Uri = base.parse().map_err(|e| format!("base_url is not a URL: {e}"))?;
        let origin = Origin::new(&url)?;
        if url.query().is_some() {
            return Err("base_url must not have a query".into());
        }
        let root = url.path().trim_end_matches('/').to_owned();
        Ok(Gemini {
            origin,
            models: format!("{root}/models").parse().map_err(|e| format!("base_url: {e}"))?,
            root,
            host: url.host().unwrap_or_default().to_owned(),
            headers: fixed_headers(endpoint, KEY, endpoint.api_key.as_deref())?,
        })
    }

    /// The path of a call. A model's name is one segment of it, whatever its caller wrote.
    fn uri(&self, call: &Outbound) -> Result<Uri, SendError> {
        let method = match (call.operation, call.stream) {
            (Operation::Chat, false) => ":generateContent",
            (Operation::Chat, true) => ":streamGenerateContent?alt=sse",
            (_, _) => ":batchEmbedContents",
        };
        let text = format!("{}/{}{method}", self.root, resource(&call.model));
        text.parse().map_err(|_| SendError::Request("the model's name makes no path".into()))
    }

    fn request(&self, call: Outbound) -> Result<Request<Full<Bytes>>, SendError> {
        let uri = self.uri(&call)?;
        let mut request = Request::new(Full::new(call.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        let accept = if call.stream { "text/event-stream" } else { "application/json" };
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        let value =
            |text: &[u8]| HeaderValue::from_bytes(text).map_err(|e| SendError::Request(e.to_string()));
        headers.insert("traceparent", value(&call.trace.to_header())?);
        headers.insert("x-request-id", value(call.request_id.as_str().as_bytes())?);
        headers.extend(call.headers);
        Ok(request)
    }

    async fn ask(
        &self,
        client: &Client,
        request: Request<Full<Bytes>>,
        connect_timeout: Duration,
    ) -> Result<Inbound, SendError> {
        let (answer, hold) = client.send(&self.origin, request, connect_timeout).await?;
        let (head, body) = answer.into_parts();
        Ok(Inbound { status: head.status, headers: head.headers, body: InboundBody::Wire(body, hold) })
    }
}

/// A model's name as the API has it: `models/gemini-2.5-pro`.
fn resource(model: &str) -> String {
    let (collection, name) = ["models", "tunedModels"]
        .iter()
        .find_map(|kind| Some((*kind, model.strip_prefix(kind)?.strip_prefix('/')?)))
        .unwrap_or(("models", model));
    let mut out = format!("{collection}/");
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

impl Provider for Gemini {
    fn dialects(&self) -> &'static [Dialect] {
        &[Dialect::Gemini]
    }

    fn serves(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Chat | Operation::Embeddings)
    }

    fn send<'a>(&'a self, client: &'a Client, call: Outbound) -> BoxFuture<'a, Result<Inbound, SendError>> {
        Box::pin(async move {
            let connect_timeout = call.connect_timeout;
            if call.operation == Operation::Embeddings {
                let (body, asked) = match embed::request(&call.body, &resource(&call.model)) {
                    Ok(read) => read,
                    Err(refusal) => return Ok(embed::refused(&refusal)),
                };
                let model = call.model.to_string();
                let request = self.request(Outbound { body, ..call })?;
                let answer = self.ask(client, request, connect_timeout).await?;
                return embed::answer(answer, &asked, &model).await;
            }
            let request = self.request(call)?;
            self.ask(client, request, connect_timeout).await
        })
    }

    fn ask_models<'a>(
        &'a self,
        client: &'a Client,
        connect_timeout: Duration,
    ) -> Option<BoxFuture<'a, Result<Inbound, SendError>>> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = self.models.clone();
        request.headers_mut().clone_from(&self.headers);
        request.headers_mut().remove(CONTENT_TYPE);
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        Some(Box::pin(self.ask(client, request, connect_timeout)))
    }

    fn address(&self) -> &str {
        &self.host
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_name_is_one_segment() {
        for (model, path) in [
            ("gemini-2.5-pro", "models/gemini-2.5-pro"),
            ("models/gemini-2.5-pro", "models/gemini-2.5-pro"),
            ("tunedModels/mine", "tunedModels/mine"),
            ("../files?x#y z", "models/..%2Ffiles%3Fx%23y%20z"),
            ("models/../..", "models/..%2F.."),
        ] {
            assert_eq!(resource(model), path);
        }
    }
}
