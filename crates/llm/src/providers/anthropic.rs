//! Anthropic, and everybody who serves its messages at an address of their own.
//!
//! Source: <https://platform.claude.com/docs/en/api/overview>.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;

use super::openai::{Endpoint, secret};
use crate::client::Origin;
use crate::dialects::messages::VERSION;
use crate::openai::{ErrorBody, error_body};
use crate::{Client, Dialect, Inbound, InboundBody, Operation, Outbound, Provider, SendError};

const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");

/// A provider that speaks Anthropic's messages over HTTP.
pub struct Anthropic {
    origin: Origin,
    messages: Uri,
    count: Uri,
    models: Uri,
    host: String,
    headers: HeaderMap,
}

impl Anthropic {
    /// Prepares everything that is the same for each request. The base URL may end before or after `/v1`. The error
    /// says what is wrong with the settings, without their values.
    pub fn new(endpoint: &Endpoint) -> Result<Self, String> {
        let base = endpoint.base_url.trim_end_matches('/');
        let url: Uri = base.parse().map_err(|e| format!("base_url is not a URL: {e}"))?;
        let origin = Origin::new(&url)?;
        if url.query().is_some() {
            return Err("base_url must not have a query".into());
        }
        let root = url.path().trim_end_matches('/').trim_end_matches("/v1");
        let path =
            |path: &str| format!("{root}/v1{path}").parse::<Uri>().map_err(|e| format!("base_url: {e}"));
        let mut headers = HeaderMap::with_capacity(16);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers
            .insert(USER_AGENT, HeaderValue::from_static(concat!("trunkline/", env!("CARGO_PKG_VERSION"))));
        headers.insert(ANTHROPIC_VERSION, HeaderValue::from_static(VERSION));
        if let Some(key) = &endpoint.api_key {
            headers.insert("x-api-key", secret(key, "api_key")?);
        }
        for (name, value) in &endpoint.headers {
            let parsed = name.parse::<HeaderName>().map_err(|_| format!("`{name}` is not a header name"))?;
            headers.insert(parsed, secret(value, name)?);
        }
        Ok(Anthropic {
            origin,
            messages: path("/messages")?,
            count: path("/messages/count_tokens")?,
            models: path("/models")?,
            host: url.host().unwrap_or_default().to_owned(),
            headers,
        })
    }

    fn request(&self, uri: &Uri, call: Outbound) -> Result<(Request<Full<Bytes>>, Duration), SendError> {
        let mut request = Request::new(Full::new(call.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        let accept = if call.stream { "text/event-stream" } else { "application/json" };
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        let value =
            |text: &[u8]| HeaderValue::from_bytes(text).map_err(|e| SendError::Request(e.to_string()));
        headers.insert("traceparent", value(&call.trace.to_header())?);
        headers.insert("x-request-id", value(call.request_id.as_str().as_bytes())?);
        // A forwarded body is written in the version that its client names.
        for (name, value) in call.headers {
            headers.insert(name, value);
        }
        Ok((request, call.connect_timeout))
    }

    async fn ask(
        &self,
        client: &Client,
        (request, connect_timeout): (Request<Full<Bytes>>, Duration),
    ) -> Result<Inbound, SendError> {
        let (answer, hold) = client.send(&self.origin, request, connect_timeout).await?;
        let (head, body) = answer.into_parts();
        Ok(Inbound { status: head.status, headers: head.headers, body: InboundBody::Wire(body, hold) })
    }
}

impl Provider for Anthropic {
    fn dialects(&self) -> &'static [Dialect] {
        &[Dialect::Messages]
    }

    fn send<'a>(&'a self, client: &'a Client, call: Outbound) -> BoxFuture<'a, Result<Inbound, SendError>> {
        Box::pin(async move {
            if call.operation != Operation::Chat {
                return Ok(no_such("Anthropic"));
            }
            self.ask(client, self.request(&self.messages, call)?).await
        })
    }

    fn count_tokens<'a>(
        &'a self,
        client: &'a Client,
        call: Outbound,
    ) -> Option<BoxFuture<'a, Result<Inbound, SendError>>> {
        Some(Box::pin(async move { self.ask(client, self.request(&self.count, call)?).await }))
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
        Some(Box::pin(self.ask(client, (request, connect_timeout))))
    }

    fn address(&self) -> &str {
        &self.host
    }
}

/// The answer to an operation that a provider has not. In OpenAI's form, since only its dialect has the operation.
pub(super) fn no_such(provider: &str) -> Inbound {
    let message = format!("{provider} answers chats only: ask a model of another provider for this.");
    let body = error_body(&ErrorBody {
        message: message.into(),
        class: "invalid_request_error",
        param: Some("model"),
        code: Some("unsupported_operation"),
    });
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let body = InboundBody::Local(Box::pin(futures_util::stream::iter([body])));
    Inbound { status: StatusCode::BAD_REQUEST, headers, body }
}
