//! TLS from PEM files or a PKCS#12 store.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use p12_keystore::{KeyStore, Pkcs12ImportPolicy};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use crate::settings::TlsSettings;

/// The largest certificate file we read.
const MAX_FILE: u64 = 1 << 20;

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1. The error says which file is wrong and how, without its content.
pub(crate) fn acceptor(settings: &TlsSettings) -> Result<TlsAcceptor, String> {
    let (chain, key) = identity(settings)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| format!("certificate and key do not fit together: {e}"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn identity(settings: &TlsSettings) -> Result<Identity, String> {
    match (&settings.cert, &settings.key, &settings.pkcs12) {
        (Some(cert), Some(key), None) => from_pem(cert, key),
        (None, None, Some(store)) => {
            let password = settings.password.as_ref().map_or("", |p| p.expose());
            from_pkcs12(store, password)
        }
        _ => Err("tls needs either `cert` and `key`, or `pkcs12`".into()),
    }
}

fn from_pem(cert: &Path, key: &Path) -> Result<Identity, String> {
    let wrong = |path: &Path, e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(cert)?)
        .collect::<Result<_, _>>()
        .map_err(|e| wrong(cert, &e))?;
    if chain.is_empty() {
        return Err(wrong(cert, &"it holds no certificate"));
    }
    let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|e| wrong(key, &e))?;
    Ok((chain, key))
}

fn from_pkcs12(path: &Path, password: &str) -> Result<Identity, String> {
    let wrong = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    let store = KeyStore::from_pkcs12(&read(path)?, password, Pkcs12ImportPolicy::Relaxed)
        .map_err(|e| wrong(&format!("{e} (is the password right?)")))?;
    let (_, chain) =
        store.private_key_chain().ok_or_else(|| wrong(&"it holds no private key with a certificate"))?;
    let certificates = chain.certs().iter().map(|c| CertificateDer::from(c.as_der().to_vec())).collect();
    let key = PrivatePkcs8KeyDer::from(chain.key().as_der().to_vec());
    Ok((certificates, PrivateKeyDer::Pkcs8(key)))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let size = fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?.len();
    if size > MAX_FILE {
        return Err(format!("{}: larger than {MAX_FILE} bytes", path.display()));
    }
    fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}
