//! Opening connections.

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower_service::Service as _;

use super::http1::{Http1, Stream};
use super::{Origin, SharedH2, root_cause};
use crate::SendError;

/// How often an HTTP/2 connection is asked whether it is still there.
const H2_PING: Duration = Duration::from_secs(20);

/// A connection that was opened, or found.
pub(super) enum Opened {
    Http1(Http1),
    Http2(SharedH2),
}

/// Resolves names, tries addresses of both families, and makes TLS handshakes.
pub(super) struct Connector {
    tcp: HttpConnector,
}

impl Default for Connector {
    fn default() -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        tcp.enforce_http(false);
        Connector { tcp }
    }
}

impl Connector {
    /// A new connection, handshakes and all within `timeout`.
    pub(super) async fn open(&self, origin: &Origin, timeout: Duration) -> Result<Opened, SendError> {
        match tokio::time::timeout(timeout, self.connect(origin)).await {
            Ok(opened) => opened,
            Err(_) => Err(SendError::Connect(format!("no connection within {} ms", timeout.as_millis()))),
        }
    }

    async fn connect(&self, origin: &Origin) -> Result<Opened, SendError> {
        let failed = |error: &dyn std::error::Error| SendError::Connect(root_cause(error));
        let tcp = self.tcp.clone().call(origin.uri.clone()).await.map_err(|e| failed(&e))?.into_inner();
        if !origin.tls {
            return http1(Stream::Plain(tcp)).await;
        }
        let host = origin.uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|e| failed(&e))?;
        let tls = TlsConnector::from(Arc::clone(&TLS)).connect(name, tcp).await.map_err(|e| failed(&e))?;
        if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
            http2(tls).await
        } else {
            http1(Stream::Tls(Box::new(tls))).await
        }
    }
}

async fn http1(stream: Stream) -> Result<Opened, SendError> {
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|e| SendError::Connect(root_cause(&e)))?;
    Ok(Opened::Http1(Http1::new(sender, connection)))
}

async fn http2(stream: tokio_rustls::client::TlsStream<TcpStream>) -> Result<Opened, SendError> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).keep_alive_interval(H2_PING).adaptive_window(true);
    let handshake = builder.handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|e| SendError::Connect(root_cause(&e)))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an HTTP/2 connection to a provider ended");
        }
    });
    Ok(Opened::Http2(SharedH2 { sender, requests: Arc::new(AtomicU32::new(0)) }))
}

/// Roots are Mozilla's plus the machine's own (which follow `SSL_CERT_FILE`), so that both a bare container
/// and a company with its own authority work. Read once, when the first TLS connection is made.
static TLS: LazyLock<Arc<rustls::ClientConfig>> = LazyLock::new(|| {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = match versions {
        Ok(builder) => builder.with_root_certificates(roots).with_no_client_auth(),
        Err(error) => unreachable!("ring supports the default TLS versions: {error}"),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
});
