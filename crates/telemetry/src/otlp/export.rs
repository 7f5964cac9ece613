//! Sending: one POST at a time for each signal, with retries.

use std::error::Error as StdError;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use prost::bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::{Notify, watch};

use super::Resource;
use crate::Error;
use crate::metrics::Counter;
use crate::settings::OtlpSettings;

/// The limit on one POST, as the specification's exporters have it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often a batch is sent at most.
const ATTEMPTS: u32 = 5;
/// The first pause between attempts; each further one is twice as long.
const BACKOFF: Duration = Duration::from_secs(1);
/// The longest pause, even when the collector asks for more.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// A failure is logged no more often than this.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// The most we read of an answer.
const MAX_ANSWER: usize = 64 << 10;

/// Where each signal goes.
pub(super) struct Endpoints {
    pub(super) traces: Option<Url>,
    pub(super) metrics: Option<Url>,
}

impl Endpoints {
    /// Checks every setting of the section that can be wrong.
    pub(super) fn new(settings: &OtlpSettings) -> Result<Self, Error> {
        if !(0.0..=1.0).contains(&settings.sample_ratio) {
            return Err(wrong("sample_ratio", "write a number from 0 to 1"));
        }
        if settings.metrics_interval.0.is_zero() {
            return Err(wrong("metrics_interval", "write a duration above zero, as `30s`"));
        }
        let base = settings.endpoint.as_deref().map(|text| parse("endpoint", text)).transpose()?;
        let url = |setting, full: &Option<String>, path| match (full, &base) {
            (Some(text), _) => parse(setting, text).map(Some),
            (None, Some(base)) => {
                let mut url = base.clone();
                url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
                Ok(Some(url))
            }
            (None, None) => Ok(None),
        };
        Ok(Endpoints {
            traces: url("traces_endpoint", &settings.traces_endpoint, "/v1/traces")?,
            metrics: url("metrics_endpoint", &settings.metrics_endpoint, "/v1/metrics")?,
        })
    }

    /// Whether there is nowhere to send to.
    pub(super) fn is_empty(&self) -> bool {
        self.traces.is_none() && self.metrics.is_none()
    }

    fn any_https(&self) -> bool {
        [&self.traces, &self.metrics].into_iter().flatten().any(|url| url.scheme() == "https")
    }
}

/// Never repeats what was written: a URL may hold a key.
fn parse(setting: &str, text: &str) -> Result<Url, Error> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(url),
        _ => Err(wrong(setting, "write a URL, as `http://127.0.0.1:4318`")),
    }
}

fn wrong(setting: &str, reason: &str) -> Error {
    Error::Otlp { setting: setting.into(), reason: reason.into() }
}

/// The HTTP client of both signals.
pub(super) fn client(
    settings: &OtlpSettings,
    endpoints: &Endpoints,
    resource: &Resource,
) -> Result<Client, Error> {
    let mut headers =
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))]);
    for (name, value) in &settings.headers {
        let setting = format!("headers.{name}");
        let name = HeaderName::try_from(name).map_err(|_| wrong(&setting, "this is not a header's name"))?;
        let mut value = HeaderValue::from_str(value.expose())
            .map_err(|_| wrong(&setting, "its value holds characters a header cannot"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    let tls = tls(endpoints.any_https()).map_err(|error| wrong("endpoint", &error.to_string()))?;
    let client = Client::builder()
        .default_headers(headers)
        .user_agent(format!("trunkline/{}", resource.version()))
        .timeout(TIMEOUT)
        // A redirect would carry the headers, and with them the key, to another host.
        .redirect(reqwest::redirect::Policy::none())
        .tls_backend_preconfigured(tls);
    client.build().map_err(|error| wrong("endpoint", &cause(&error)))
}

/// Roots are Mozilla's plus the machine's own (which follow `SSL_CERT_FILE`), so that both a bare container
/// and a company with its own authority work; none are read when no endpoint needs them. The client's own
/// choice, the platform's verifier, fails where the machine has no certificates.
fn tls(https: bool) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    if https {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // A client that is given its TLS whole adds nothing to it.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Sends the exports of one signal, one after the other.
pub(super) struct Exporter {
    client: Client,
    url: Url,
    signal: &'static str,
    dropped: Counter,
    stop: watch::Receiver<bool>,
    logged: Option<Instant>,
}

/// What became of one attempt.
enum Attempt {
    /// Taken, but for so many items.
    Done(u64),
    /// Not now; the collector may have said when.
    Later(String, Option<Duration>),
    /// Never.
    Refused(String),
}

impl Exporter {
    pub(super) fn new(
        client: Client,
        url: Url,
        signal: &'static str,
        dropped: Counter,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Exporter { client, url, signal, dropped, stop, logged: None }
    }

    /// Waits for the time, the notification or the end. `true` at the end.
    pub(super) async fn pause(&mut self, time: Duration, wake: Option<&Notify>) -> bool {
        let woken = async {
            match wake {
                Some(notify) => notify.notified().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // A sender that is gone has dropped the exporter: that is the end as well.
            _ = self.stop.wait_for(|stop| *stop) => true,
            () = tokio::time::sleep(time) => false,
            () = woken => false,
        }
    }

    /// Sends one export of so many items, and says whether the collector took it, be it in part. What
    /// cannot be sent is counted as dropped, and logged at most once a minute.
    pub(super) async fn send(&mut self, message: &impl Message, items: u64) -> bool {
        let body = Bytes::from(message.encode_to_vec());
        let mut backoff = BACKOFF;
        let mut stopping = *self.stop.borrow() || self.stop.has_changed().is_err();
        for attempt in 1.. {
            let (reason, after) = match self.post(body.clone()).await {
                Attempt::Done(0) => return true,
                Attempt::Done(rejected) => {
                    // The specification forbids sending these again.
                    self.lost(rejected.min(items), "the collector rejected some of them");
                    return true;
                }
                Attempt::Refused(reason) => {
                    self.lost(items, &reason);
                    return false;
                }
                Attempt::Later(reason, after) => (reason, after),
            };
            // At the end there is one attempt: a collector that is down must not hold up the process.
            if stopping || attempt == ATTEMPTS {
                self.lost(items, &reason);
                return false;
            }
            let pause = after.unwrap_or_else(|| jitter(backoff)).min(MAX_BACKOFF);
            backoff = (backoff * 2).min(MAX_BACKOFF);
            stopping = self.pause(pause, None).await;
        }
        false
    }

    async fn post(&self, body: Bytes) -> Attempt {
        let answer = match self.client.post(self.url.clone()).body(body).send().await {
            Ok(answer) => answer,
            Err(error) => return Attempt::Later(cause(&error), None),
        };
        match answer.status() {
            status if status.is_success() => Attempt::Done(rejected(answer).await),
            status @ (StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT) => {
                Attempt::Later(format!("status {}", status.as_u16()), retry_after(answer.headers()))
            }
            status => Attempt::Refused(format!("status {}", status.as_u16())),
        }
    }

    /// Counts, and says so without the URL's path and query, the headers and the answer's body.
    fn lost(&mut self, items: u64, reason: &str) {
        self.dropped.inc_by(items);
        if self.logged.is_some_and(|logged| logged.elapsed() < LOG_INTERVAL) {
            return;
        }
        self.logged = Some(Instant::now());
        let collector = self.url.host_str().unwrap_or_default();
        let total = self.dropped.get();
        tracing::warn!(signal = self.signal, collector, error = reason, dropped = total, "cannot export");
    }
}

/// How many items a collector that answered with success did not take. Both signals' answers have the same
/// form on the wire.
async fn rejected(mut answer: Response) -> u64 {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        if body.len() + chunk.len() > MAX_ANSWER {
            return 0;
        }
        body.extend_from_slice(&chunk);
    }
    let answer = ExportTraceServiceResponse::decode(body.as_slice()).unwrap_or_default();
    answer.partial_success.map_or(0, |partial| u64::try_from(partial.rejected_spans).unwrap_or(0))
}

/// Seconds or a date (RFC 9110 §10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Between half and all of it, so that replicas do not come back all at once.
fn jitter(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) as f64 / u64::MAX as f64;
    pause.mul_f64(0.5 + random / 2.0)
}

/// The innermost cause, which says what happened (`Connection refused`) and, unlike the outer ones, does
/// not show the URL.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "timed out".into();
    }
    let mut inner: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(next) = inner.and_then(StdError::source) {
        inner = Some(next);
    }
    inner.map_or_else(|| "the request failed".into(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_their_places_under_the_endpoint_or_their_own() {
        let urls = |settings: &OtlpSettings| {
            let endpoints = Endpoints::new(settings).unwrap();
            [endpoints.traces, endpoints.metrics].map(|url| url.map(String::from).unwrap_or_default())
        };
        let mut settings = OtlpSettings::default();
        assert_eq!(urls(&settings), ["", ""]);
        settings.metrics_endpoint = Some("https://m.example/otlp".into());
        assert_eq!(urls(&settings), ["", "https://m.example/otlp"]);
        for endpoint in ["http://c:4318/base/", "http://c:4318/base"] {
            settings.endpoint = Some(endpoint.into());
            assert_eq!(urls(&settings), ["http://c:4318/base/v1/traces", "https://m.example/otlp"]);
        }
    }

    #[test]
    fn settings_that_cannot_work_are_named_and_not_repeated() {
        let good = OtlpSettings { endpoint: Some("http://c".into()), ..Default::default() };
        let resource = Resource::new(&Default::default(), "1");
        let check = |settings: &OtlpSettings| {
            Endpoints::new(settings).and_then(|endpoints| client(settings, &endpoints, &resource)).map(drop)
        };
        check(&good).unwrap();
        let header = |name: &str, value: &str| [(name.to_owned(), value.to_owned().into())].into();
        for (setting, bad) in [
            ("endpoint", OtlpSettings { endpoint: Some("s3cret:4318".into()), ..good.clone() }),
            ("traces_endpoint", OtlpSettings { traces_endpoint: Some("/s3cret".into()), ..good.clone() }),
            ("sample_ratio", OtlpSettings { sample_ratio: 1.5, ..good.clone() }),
            ("sample_ratio", OtlpSettings { sample_ratio: f64::NAN, ..good.clone() }),
            (
                "metrics_interval",
                OtlpSettings { metrics_interval: base::Duration::from_secs(0), ..good.clone() },
            ),
            ("headers.a b", OtlpSettings { headers: header("a b", "x"), ..good.clone() }),
            ("headers.key", OtlpSettings { headers: header("key", "s3cret\n"), ..good.clone() }),
        ] {
            let text = check(&bad).unwrap_err().to_string();
            assert!(text.starts_with(&format!("telemetry.otlp.{setting}: ")), "{text}");
            assert!(!text.contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn reads_retry_after_in_both_forms() {
        let read = |value: &str| {
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).unwrap())]))
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Fri, 01 Jan 2016 00:00:00 GMT"), Some(Duration::ZERO));
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        assert!((90..=100).contains(&read(&date).unwrap().as_secs()));
        assert_eq!(read("soon"), None);
        let pause = jitter(Duration::from_secs(4));
        assert!((2..=4).contains(&pause.as_secs()));
    }
}
