//! Amazon Bedrock: its Converse API, signed with AWS's Signature Version 4 or opened with a Bedrock API key.
//!
//! Sources: <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html>,
//! <https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys.html>,
//! <https://docs.aws.amazon.com/general/latest/gr/bedrock.html> (addresses).

use std::fmt::Write as _;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base::sigv4::{self, Credentials, Scope};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;

use super::anthropic::no_such;
use super::openai::{Endpoint, secret};
use crate::client::Origin;
use crate::eventstream::{Decoder, MEDIA};
use crate::provider::BodyError;
use crate::{Client, Dialect, Inbound, InboundBody, Operation, Outbound, Provider, SendError};

/// What requests are signed for.
const SERVICE: &str = "bedrock";

/// Where requests go when no region is given: AWS's first.
const DEFAULT_REGION: &str = "us-east-1";

/// What AWS wants to know beside an [`Endpoint`].
#[derive(Clone, Debug, Default)]
pub struct Aws {
    /// As `eu-central-1`; without it that of the base URL, else `us-east-1`.
    pub region: Option<String>,
    /// Who signs; `None` where the endpoint's key opens it.
    pub credentials: Option<Credentials>,
}

/// A provider that speaks Converse.
pub struct Bedrock {
    origin: Origin,
    /// What stands before `/model/…` in paths.
    root: String,
    /// As it is sent, which is signed.
    authority: String,
    host: String,
    region: String,
    credentials: Option<Credentials>,
    headers: HeaderMap,
}

impl Bedrock {
    /// Prepares everything that is the same for each request. Without a base URL it is AWS's of the region. The error
    /// says what is wrong with the settings, without their values.
    pub fn new(endpoint: &Endpoint, aws: Aws) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let region = aws.region.or_else(|| region_of(&endpoint.base_url));
        let region = region.unwrap_or_else(|| DEFAULT_REGION.to_owned());
        if region.is_empty() || !region.chars().all(plain) {
            return Err("aws.region must be a region's name, as `eu-central-1`".into());
        }
        if aws.credentials.is_none() && endpoint.api_key.is_none() {
            let text =
                "give `aws.access_key_id` and `aws.secret_access_key`, or a Bedrock API key as `api_key`";
            return Err(text.into());
        }
        let base = match endpoint.base_url.trim_end_matches('/') {
            "" => {
                let top = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
                format!("https://bedrock-runtime.{region}.{top}")
            }
            base => base.to_owned(),
        };
        let url: Uri = base.parse().map_err(|e| format!("base_url is not a URL: {e}"))?;
        let origin = Origin::new(&url)?;
        if url.query().is_some() {
            return Err("base_url must not have a query".into());
        }
        let mut headers = HeaderMap::with_capacity(16);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers
            .insert(USER_AGENT, HeaderValue::from_static(concat!("trunkline/", env!("CARGO_PKG_VERSION"))));
        if let (Some(key), None) = (&endpoint.api_key, &aws.credentials) {
            headers.insert(AUTHORIZATION, secret(&format!("Bearer {key}"), "api_key")?);
        }
        for (name, value) in &endpoint.headers {
            let parsed = name.parse::<HeaderName>().map_err(|_| format!("`{name}` is not a header name"))?;
            headers.insert(parsed, secret(value, name)?);
        }
        Ok(Bedrock {
            origin,
            root: url.path().trim_end_matches('/').to_owned(),
            authority: url.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default(),
            host: url.host().unwrap_or_default().to_owned(),
            region,
            credentials: aws.credentials,
            headers,
        })
    }

    fn request(&self, call: Outbound, now: u64) -> Result<Request<Full<Bytes>>, SendError> {
        let operation = if call.stream { "converse-stream" } else { "converse" };
        let path = format!("{}/model/{}/{operation}", self.root, encoded(&call.model));
        let failed = |text: String| SendError::Request(text);
        let uri = path.parse::<Uri>().map_err(|e| failed(e.to_string()))?;
        let mut headers = self.headers.clone();
        let accept = if call.stream { "application/vnd.amazon.eventstream" } else { "application/json" };
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        let value = |text: &[u8]| HeaderValue::from_bytes(text).map_err(|e| failed(e.to_string()));
        headers.insert("traceparent", value(&call.trace.to_header())?);
        headers.insert("x-request-id", value(call.request_id.as_str().as_bytes())?);
        if let Some(credentials) = &self.credentials {
            let scope = Scope { region: &self.region, service: SERVICE, time: now };
            let request = sigv4::Request {
                method: "POST",
                host: &self.authority,
                path: &path,
                query: &[],
                headers: &[("content-type", "application/json")],
                body: &call.body,
            };
            for (name, text) in sigv4::sign(credentials, &scope, &request) {
                let mut value = value(text.as_bytes())?;
                value.set_sensitive(true);
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        let mut request = Request::new(Full::new(call.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }

    async fn ask(&self, client: &Client, call: Outbound) -> Result<Inbound, SendError> {
        let connect_timeout: Duration = call.connect_timeout;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let request = self.request(call, now)?;
        let (answer, hold) = client.send(&self.origin, request, connect_timeout).await?;
        let (mut head, body) = answer.into_parts();
        let mut body = InboundBody::Wire(body, hold);
        let media = head.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        if media.starts_with(MEDIA) {
            head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
            body = InboundBody::Framed(Box::new(Framed { body, decoder: Decoder::default(), over: false }));
        }
        // 424 says that the model failed, not that the request is wrong.
        let status = match head.status {
            StatusCode::FAILED_DEPENDENCY => StatusCode::BAD_GATEWAY,
            status => status,
        };
        Ok(Inbound { status, headers: head.headers, body })
    }
}

impl Provider for Bedrock {
    fn dialects(&self) -> &'static [Dialect] {
        &[Dialect::Converse]
    }

    fn send<'a>(&'a self, client: &'a Client, call: Outbound) -> BoxFuture<'a, Result<Inbound, SendError>> {
        Box::pin(async move {
            match call.operation {
                Operation::Chat => self.ask(client, call).await,
                _ => Ok(no_such("Bedrock's Converse API")),
            }
        })
    }

    fn address(&self) -> &str {
        &self.host
    }
}

/// A model's name within a path: names of profiles have slashes and colons.
fn encoded(model: &str) -> String {
    let mut out = String::with_capacity(model.len() + 8);
    for byte in model.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a text cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The region in AWS's own addresses.
fn region_of(base_url: &str) -> Option<String> {
    let url: Uri = base_url.parse().ok()?;
    let mut labels = url.host()?.split('.');
    let service = labels.next()?;
    let region = labels.next()?;
    (matches!(service, "bedrock-runtime" | "bedrock-runtime-fips") && labels.next() == Some("amazonaws"))
        .then(|| region.to_owned())
}

/// A body in AWS's framing, read as server-sent events.
pub struct Framed {
    body: InboundBody,
    decoder: Decoder,
    over: bool,
}

impl Framed {
    /// The next event, `None` at the proper end.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            if self.over {
                return Poll::Ready(None);
            }
            match self.decoder.next_event() {
                Ok(Some(event)) => return Poll::Ready(Some(Ok(event))),
                Ok(None) => {}
                Err(broken) => {
                    self.over = true;
                    return Poll::Ready(Some(Err(BodyError(broken.to_string()))));
                }
            }
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(bytes)) => self.decoder.push(&bytes),
                Some(Err(error)) => {
                    self.over = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.over = true;
                    if self.decoder.is_partial() {
                        return Poll::Ready(Some(Err(BodyError("it ended within a message".into()))));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base::{RequestId, Secret, TraceContext};

    use super::*;

    fn endpoint(base_url: &str, api_key: Option<&str>) -> Endpoint {
        Endpoint { base_url: base_url.into(), api_key: api_key.map(str::to_owned), headers: Vec::new() }
    }

    fn outbound(stream: bool) -> Outbound {
        Outbound {
            operation: Operation::Chat,
            dialect: Dialect::Converse,
            model: Arc::from("arn:aws:bedrock:eu-west-1:1:inference-profile/eu.anthropic.claude-v1:0"),
            stream,
            body: Bytes::from_static(b"{}"),
            headers: Vec::new(),
            trace: TraceContext::from_header(None),
            request_id: RequestId::from_header(None),
            connect_timeout: Duration::from_secs(1),
        }
    }

    fn signer() -> Credentials {
        let secret_key = Secret::from("secret".to_owned());
        Credentials { access_key: "AKID".into(), secret_key, session_token: None }
    }

    #[test]
    fn a_request_is_signed_for_where_it_goes() {
        let aws = Aws { region: Some("eu-west-1".into()), credentials: Some(signer()) };
        let bedrock = Bedrock::new(&endpoint("", None), aws).unwrap();
        assert_eq!(bedrock.address(), "bedrock-runtime.eu-west-1.amazonaws.com");
        let request = bedrock.request(outbound(true), 1_440_938_160).unwrap();
        assert_eq!(
            request.uri(),
            "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Ainference-profile%2Feu.anthropic.claude-v1%3A0/converse-stream"
        );
        let authorization = request.headers()[AUTHORIZATION].to_str().unwrap();
        let begins = "AWS4-HMAC-SHA256 Credential=AKID/20150830/eu-west-1/bedrock/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=";
        assert!(authorization.starts_with(begins), "{authorization}");
        assert!(request.headers()[AUTHORIZATION].is_sensitive());
    }

    #[test]
    fn an_api_key_opens_it_too() {
        let bedrock = Bedrock::new(
            &endpoint("https://bedrock-runtime.us-west-2.amazonaws.com", Some("k")),
            Aws::default(),
        );
        let bedrock = bedrock.unwrap();
        assert_eq!(bedrock.region, "us-west-2");
        let request = bedrock.request(outbound(false), 0).unwrap();
        assert_eq!(request.headers()[AUTHORIZATION], "Bearer k");
        assert!(request.uri().path().ends_with("/converse"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let wrong = |endpoint: &Endpoint, aws| Bedrock::new(endpoint, aws).err().unwrap();
        assert!(wrong(&endpoint("", None), Aws::default()).contains("aws.access_key_id"));
        let region = Aws { region: Some("eu west".into()), credentials: Some(signer()) };
        assert!(wrong(&endpoint("", None), region).contains("aws.region"));
    }
}
