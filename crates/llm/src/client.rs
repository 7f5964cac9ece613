//! The HTTP client to providers.
//!
//! Each worker thread owns one [`Client`] with connections of its own, so that a request and the
//! connection it uses live on the same thread and waking one never crosses to another core.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::SendError;

type Pool = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// How long an unused connection is kept. Shorter than the 60 s after which many servers and load
/// balancers close theirs, so that we seldom send into a connection that is just being closed.
const IDLE: Duration = Duration::from_secs(50);

/// Connections to providers, pooled by address and shared by nothing but one worker.
#[derive(Clone, Default)]
pub struct Client {
    /// One pool for each connect timeout in use: a connector has one timeout, and settings rarely more than
    /// one or two.
    pools: Arc<Mutex<HashMap<Duration, Pool>>>,
}

impl Client {
    /// Sends a request and waits for the head of the answer.
    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
        connect_timeout: Duration,
    ) -> Result<Response<Incoming>, SendError> {
        let pool = {
            let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
            pools.entry(connect_timeout).or_insert_with(|| pool(connect_timeout)).clone()
        };
        pool.request(request).await.map_err(|error| {
            let connect = error.is_connect();
            let cause = root_cause(&error);
            if connect { SendError::Connect(cause) } else { SendError::Broken(cause) }
        })
    }
}

fn pool(connect_timeout: Duration) -> Pool {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(Duration::from_secs(60)));
    tcp.set_connect_timeout(Some(connect_timeout));
    tcp.enforce_http(false);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(TLS.clone())
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(tcp);
    legacy::Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(1024)
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(Duration::from_secs(20))
        .http2_adaptive_window(true)
        .build(connector)
}

/// Roots are Mozilla's plus the machine's own (which follow `SSL_CERT_FILE`), so that both a bare container
/// and a company with its own authority work. Read once, when the first connection is made.
static TLS: LazyLock<rustls::ClientConfig> = LazyLock::new(|| {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    match versions {
        Ok(builder) => builder.with_root_certificates(roots).with_no_client_auth(),
        Err(error) => unreachable!("ring supports the default TLS versions: {error}"),
    }
});

/// The innermost error's text: "connection refused" says more than "client error (Connect)".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
