//! Small HTTP requests to services that the operator names: an issuer of tokens, a vault of secrets.
//!
//! Bounded in time and size, and without redirects: one would carry a credential, or the choice of whom to
//! trust, to another host. Private addresses are allowed, because who writes the settings chooses them.
//! What is asked travels in `what` for the messages; URLs, headers and bodies never stand in an error.

use std::error::Error as StdError;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Client, Method, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::error::IdentityError;

/// For the TCP and TLS handshakes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest file with certificate authorities.
const MAX_CA_FILE: u64 = 1 << 20;

/// A client with limits.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client,
    max_body: usize,
}

/// One request.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// What is asked, for messages: `Vault at http://127.0.0.1:8200`.
    pub what: &'a str,
    /// `GET` or `POST`.
    pub method: &'a str,
    /// Where.
    pub url: &'a Url,
    /// Names and values; every value is treated as a secret.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: Option<&'a [u8]>,
}

/// What came back.
#[derive(Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body, whole.
    pub body: Vec<u8>,
}

impl Http {
    /// A client that takes at most `timeout` for a request and reads at most `max_body` bytes of an answer.
    /// `ca_file` names further certificate authorities.
    pub fn new(ca_file: Option<&Path>, timeout: Duration, max_body: usize) -> Result<Self, IdentityError> {
        let client = Client::builder()
            .user_agent("trunkline")
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .tls_backend_preconfigured(tls(ca_file)?)
            .build()
            .map_err(|e| IdentityError::Tls(root_cause(&e)))?;
        Ok(Http { client, max_body })
    }

    /// Sends one request and reads the answer, whatever its status but for redirects.
    pub async fn send(&self, call: Call<'_>) -> Result<Answer, IdentityError> {
        let wrong = |message: String| IdentityError::service(call.what, message);
        let method = Method::from_bytes(call.method.as_bytes()).map_err(|e| wrong(e.to_string()))?;
        let mut request = self.client.request(method, call.url.clone());
        for (name, value) in call.headers {
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(|e| wrong(e.to_string()))?;
            let mut value = HeaderValue::from_str(value)
                .map_err(|_| wrong(format!("the value of `{name}` holds characters that a header cannot")))?;
            value.set_sensitive(true);
            request = request.header(header, value);
        }
        if let Some(body) = call.body {
            request = request.body(body.to_vec());
        }
        let failed = |error: reqwest::Error| {
            if error.is_timeout() {
                return wrong("no answer in time".into());
            }
            let what = if error.is_connect() { "cannot be reached" } else { "the exchange failed" };
            wrong(format!("{what}: {}", root_cause(&error)))
        };
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        if status.is_redirection() {
            return Err(wrong(format!(
                "answers {} with a redirect, which is not followed: write the address it leads to",
                status.as_u16()
            )));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > self.max_body {
                return Err(wrong(format!("its answer is larger than {} bytes", self.max_body)));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status: status.as_u16(), body })
    }
}

/// Mozilla's roots plus the machine's own plus the operator's, as everywhere in the house: the platform's
/// verifier fails in a container without certificates.
fn tls(ca_file: Option<&Path>) -> Result<ClientConfig, IdentityError> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let wrong = |message: String| IdentityError::Authority { path: path.to_owned(), message };
        let file = std::fs::File::open(path).map_err(|e| wrong(e.to_string()))?;
        let mut reader = BufReader::new(std::io::Read::take(file, MAX_CA_FILE));
        let mut found = 0;
        for certificate in CertificateDer::pem_reader_iter(&mut reader) {
            let certificate = certificate.map_err(|e| wrong(e.to_string()))?;
            roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
            found += 1;
        }
        if found == 0 {
            return Err(wrong("holds no certificate".into()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| IdentityError::Tls(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The innermost cause: the outer ones repeat the URL.
fn root_cause(error: &dyn StdError) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
