//! OpenAI, and everything that speaks its protocol at an address of its own.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Full;

use crate::client::Origin;
use crate::{AskKept, Client, Dialect, Inbound, InboundBody, Operation, Outbound, Provider, SendError};

/// Where a provider is, and what it wants to see.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// For example `https://api.openai.com/v1`, with or without a slash at the end.
    pub base_url: String,
    /// Sent as `Authorization: Bearer`.
    pub api_key: Option<String>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
}

/// A provider that speaks OpenAI's protocol over HTTP.
pub struct OpenAi {
    origin: Origin,
    /// Paths, as they stand in the request line.
    operations: Vec<Uri>,
    models: Uri,
    host: String,
    headers: HeaderMap,
    completions: Uri,
    responses: Uri,
    dialects: &'static [Dialect],
}

impl OpenAi {
    /// Prepares everything that is the same for each request. The error says what is wrong with the
    /// settings, without their values.
    pub fn new(endpoint: &Endpoint) -> Result<Self, String> {
        let base = endpoint.base_url.trim_end_matches('/');
        let url: Uri = base.parse().map_err(|e| format!("base_url is not a URL: {e}"))?;
        let origin = Origin::new(&url)?;
        if url.query().is_some() {
            return Err("base_url must not have a query".into());
        }
        let path = |path: &str| {
            let text = format!("{}{path}", url.path().trim_end_matches('/'));
            text.parse::<Uri>().map_err(|e| format!("base_url: {e}"))
        };
        let key = endpoint.api_key.as_ref().map(|key| format!("Bearer {key}"));
        let headers = fixed_headers(endpoint, AUTHORIZATION, key.as_deref())?;
        Ok(OpenAi {
            origin,
            operations: Operation::ALL
                .map(|operation| path(operation.path()))
                .into_iter()
                .collect::<Result<_, _>>()?,
            models: path("/models")?,
            host: url.host().unwrap_or_default().to_owned(),
            headers,
            completions: path("/completions")?,
            responses: path("/responses")?,
            dialects: &[Dialect::Chat, Dialect::Completions],
        })
    }

    /// The same for a provider that speaks the responses too.
    pub fn with_responses(self) -> Self {
        OpenAi { dialects: &[Dialect::Chat, Dialect::Completions, Dialect::Responses], ..self }
    }

    fn request(&self, call: Outbound) -> Result<(Request<Full<Bytes>>, Duration), SendError> {
        let uri = match (call.operation, call.dialect) {
            (Operation::Chat, Dialect::Completions) => &self.completions,
            (Operation::Chat, Dialect::Responses) => &self.responses,
            (operation, _) => &self.operations[operation.index()],
        };
        let mut request = Request::new(Full::new(call.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        let accept = match call.operation {
            _ if call.stream => "text/event-stream",
            Operation::Speech | Operation::Transcription | Operation::Translation => "*/*",
            _ => "application/json",
        };
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        let value =
            |text: &[u8]| HeaderValue::from_bytes(text).map_err(|e| SendError::Request(e.to_string()));
        headers.insert("traceparent", value(&call.trace.to_header())?);
        headers.insert("x-request-id", value(call.request_id.as_str().as_bytes())?);
        for (name, value) in call.headers {
            headers.insert(name, value);
        }
        Ok((request, call.connect_timeout))
    }
}

/// The headers that are the same for each request: `key` in the header `auth`, and those of the settings.
pub(super) fn fixed_headers(
    endpoint: &Endpoint,
    auth: HeaderName,
    key: Option<&str>,
) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("trunkline/", env!("CARGO_PKG_VERSION"))));
    if let Some(key) = key {
        headers.insert(auth, secret(key, "api_key")?);
    }
    for (name, value) in &endpoint.headers {
        let parsed = name.parse::<HeaderName>().map_err(|_| format!("`{name}` is not a header name"))?;
        headers.insert(parsed, secret(value, name)?);
    }
    Ok(headers)
}

/// A header value that is never printed or indexed by HTTP/2 compression.
pub(super) fn secret(text: &str, what: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| format!("the value of {what} has characters that a header cannot carry"))?;
    value.set_sensitive(true);
    Ok(value)
}

impl Provider for OpenAi {
    fn dialects(&self) -> &'static [Dialect] {
        self.dialects
    }

    fn serves(&self, _: Operation) -> bool {
        true
    }

    fn send<'a>(&'a self, client: &'a Client, call: Outbound) -> BoxFuture<'a, Result<Inbound, SendError>> {
        Box::pin(async move {
            let (request, connect_timeout) = self.request(call)?;
            let (answer, hold) = client.send(&self.origin, request, connect_timeout).await?;
            let (head, body) = answer.into_parts();
            Ok(Inbound { status: head.status, headers: head.headers, body: InboundBody::Wire(body, hold) })
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
        Some(Box::pin(async move {
            let (answer, hold) = client.send(&self.origin, request, connect_timeout).await?;
            let (head, body) = answer.into_parts();
            Ok(Inbound { status: head.status, headers: head.headers, body: InboundBody::Wire(body, hold) })
        }))
    }

    fn ask_kept<'a>(
        &'a self,
        client: &'a Client,
        ask: AskKept,
    ) -> Option<BoxFuture<'a, Result<Inbound, SendError>>> {
        if !self.dialects.contains(&Dialect::Responses) {
            return None;
        }
        Some(Box::pin(async move {
            let wrong = |error: &dyn std::fmt::Display| SendError::Request(error.to_string());
            let uri = format!("{}{}", self.responses, ask.below);
            let mut request = Request::new(Full::default());
            *request.uri_mut() = uri.parse().map_err(|e: http::uri::InvalidUri| wrong(&e))?;
            let value = |text: &[u8]| HeaderValue::from_bytes(text).map_err(|e| wrong(&e));
            request.headers_mut().clone_from(&self.headers);
            if ask.method != Method::POST {
                request.headers_mut().remove(CONTENT_TYPE);
            }
            *request.method_mut() = ask.method;
            request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
            request.headers_mut().insert("traceparent", value(&ask.trace.to_header())?);
            request.headers_mut().insert("x-request-id", value(ask.request_id.as_str().as_bytes())?);
            let (answer, hold) = client.send(&self.origin, request, ask.connect_timeout).await?;
            let (head, body) = answer.into_parts();
            Ok(Inbound { status: head.status, headers: head.headers, body: InboundBody::Wire(body, hold) })
        }))
    }

    fn address(&self) -> &str {
        &self.host
    }
}
