//! HTTPS, by PEM files and by PKCS#12.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use p12_keystore::{
    Certificate, EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, PrivateKey, PrivateKeyChain,
};
use reqwest::Version;
use serde_json::json;

use super::{Process, Program};
use crate::app::PATIENCE;

/// A certificate for this machine, in every form.
struct Identity {
    cert_pem: String,
    key_pem: String,
    cert_der: Vec<u8>,
    key_der: Vec<u8>,
}

impl Identity {
    fn new() -> Self {
        let made =
            rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        Identity {
            cert_pem: made.cert.pem(),
            key_pem: made.signing_key.serialize_pem(),
            cert_der: made.cert.der().to_vec(),
            key_der: made.signing_key.serialize_der(),
        }
    }

    fn pkcs12(&self, password: &str, encryption: EncryptionAlgorithm, mac: MacAlgorithm) -> Vec<u8> {
        let key = PrivateKey::from_der(&self.key_der).unwrap();
        let chain = PrivateKeyChain::new("conduit", key, [Certificate::from_der(&self.cert_der).unwrap()]);
        let mut store = KeyStore::new();
        store.add_entry("conduit", KeyStoreEntry::PrivateKeyChain(chain));
        store.writer(password).encryption_algorithm(encryption).mac_algorithm(mac).write().unwrap()
    }

    /// As `openssl pkcs12 -export` of today writes it.
    fn modern(&self, password: &str) -> Vec<u8> {
        self.pkcs12(password, EncryptionAlgorithm::PbeWithHmacSha256AndAes256, MacAlgorithm::HmacSha256)
    }

    /// A client that trusts this certificate and no other.
    fn client(&self) -> reqwest::Client {
        drop(rustls::crypto::ring::default_provider().install_default());
        let root = reqwest::Certificate::from_der(&self.cert_der).unwrap();
        reqwest::Client::builder().no_proxy().tls_certs_only([root]).build().unwrap()
    }

    /// A chat over TLS: its status, and which HTTP was spoken.
    async fn chat(&self, url: &str, key: &str) -> (u16, Version) {
        let body = json!({"model": "demo/chat", "messages": [{"role": "user", "content": "hi"}]});
        let request = self.client().post(format!("{url}/v1/chat/completions")).bearer_auth(key);
        let request = request.header("content-type", "application/json").body(body.to_string());
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.version())
    }
}

fn key(process: &Process) -> &str {
    process.ready["key"].as_str().unwrap()
}

/// Names and contents.
type Files<'f> = &'f [(&'f str, &'f [u8])];

fn with_files(yaml: &str, files: Files<'_>) -> Program {
    let program = Program::serve(yaml);
    for (name, content) in files {
        std::fs::write(program.dir().join(name), content).unwrap();
    }
    program
}

const PEM: &str = "server: {tls: {cert: cert.pem, key: key.pem}}\n";
const PKCS12: &str = "server: {tls: {pkcs12: store.pfx, password: '${STORE_PASSWORD}'}}\n";

/// The variables as Conduit's guide prints them, but for the port. Fails when one of the three names leaves
/// `settings::legacy::TABLE`, or `server::tls` no longer reads PKCS#12 or PEM.
#[tokio::test]
async fn promise_c11_https_by_the_guides_variables_and_by_pem() {
    let identity = Identity::new();
    let guide = with_files("", &[("conduit.pfx", &identity.modern("certificate-password"))]);
    let path = guide.dir().join("conduit.pfx");
    let guide = guide
        .env("CONDUITLLM__KESTREL__ENDPOINTS__HTTPS__URL", "https://0.0.0.0:0")
        .env("CONDUITLLM__KESTREL__ENDPOINTS__HTTPS__CERTIFICATE__PATH", path)
        .env("CONDUITLLM__KESTREL__ENDPOINTS__HTTPS__CERTIFICATE__PASSWORD", "certificate-password");
    // `listen` from the command line would take the place of what the variables add.
    let guide = guide.start();
    let secure = guide.wait_for_line(&["listening", "url=https://0.0.0.0:"]);
    let port = secure.split_once("https://0.0.0.0:").unwrap().1.split(' ').next().unwrap();
    let url = format!("https://127.0.0.1:{port}");
    assert_eq!(identity.chat(&url, key(&guide)).await, (200, Version::HTTP_2));
    // The plain listener stays beside it.
    assert_eq!(guide.chat("demo/chat").await.status, 200);

    let files = [("cert.pem", identity.cert_pem.as_bytes()), ("key.pem", identity.key_pem.as_bytes())];
    let pem = with_files(PEM, &files).start();
    assert!(pem.url().starts_with("https://"), "{}", pem.url());
    assert_eq!(identity.chat(&pem.url(), key(&pem)).await, (200, Version::HTTP_2));
}

#[tokio::test]
async fn http_1_is_spoken_to_who_knows_no_other() {
    let identity = Identity::new();
    let files = [("cert.pem", identity.cert_pem.as_bytes()), ("key.pem", identity.key_pem.as_bytes())];
    let process = with_files(PEM, &files).start();
    let root = reqwest::Certificate::from_der(&identity.cert_der).unwrap();
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = reqwest::Client::builder().no_proxy().http1_only().tls_certs_only([root]).build().unwrap();
    let answer = client.get(format!("{}/health", process.url())).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_11));
}

#[tokio::test]
async fn a_stream_goes_over_http_2() {
    let identity = Identity::new();
    let files = [("cert.pem", identity.cert_pem.as_bytes()), ("key.pem", identity.key_pem.as_bytes())];
    let process = with_files(PEM, &files).start();
    let body = super::program::chat_body("demo/chat", true);
    let request = identity.client().post(format!("{}/v1/chat/completions", process.url()));
    let request = request.bearer_auth(key(&process)).header("content-type", "application/json").body(body);
    let answer = request.send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
    let text = answer.text().await.unwrap();
    assert!(text.starts_with("data: {") && text.ends_with("data: [DONE]\n\n"), "{text}");
}

#[tokio::test]
async fn stores_of_today_and_of_the_past_are_read() {
    let identity = Identity::new();
    let stores = [
        identity.modern("s3cret"),
        identity.pkcs12("s3cret", EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc, MacAlgorithm::HmacSha1),
        identity.pkcs12("s3cret", EncryptionAlgorithm::PbeWithShaAnd40BitRc4Cbc, MacAlgorithm::HmacSha1),
    ];
    for store in stores {
        let process = with_files(PKCS12, &[("store.pfx", &store)]).env("STORE_PASSWORD", "s3cret").start();
        assert_eq!(identity.chat(&process.url(), key(&process)).await.0, 200);
    }
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_without_the_password() {
    let identity = Identity::new();
    let store = identity.modern("right-password");
    let other = Identity::new().key_pem;
    let cases: [(&str, Files<'_>, &[&str]); 6] = [
        (PKCS12, &[("store.pfx", &store)], &["store.pfx", "is the password right?"]),
        (PKCS12, &[("store.pfx", b"no store")], &["store.pfx"]),
        (PKCS12, &[], &["store.pfx", "No such file"]),
        (PEM, &[("cert.pem", b"nothing"), ("key.pem", other.as_bytes())], &["cert.pem", "no certificate"]),
        (PEM, &[("cert.pem", identity.cert_pem.as_bytes()), ("key.pem", b"nothing")], &["key.pem"]),
        (
            PEM,
            &[("cert.pem", identity.cert_pem.as_bytes()), ("key.pem", other.as_bytes())],
            &["certificate and key do not fit together"],
        ),
    ];
    for (yaml, files, words) in cases {
        let served = with_files(yaml, files).env("STORE_PASSWORD", "wrong-password").run();
        assert_eq!(served.code(), 1, "{served:?}");
        assert!(words.iter().all(|word| served.stderr.contains(word)), "{words:?} in {served:?}");
        assert!(served.stderr.contains("cannot serve TLS on 127.0.0.1:"), "{served:?}");
        assert!(
            !served.stderr.contains("wrong-password") && !served.stderr.contains("PRIVATE KEY"),
            "{served:?}"
        );
    }
}

#[test]
fn the_probe_asks_a_tls_listener() {
    let identity = Identity::new();
    let files = [("cert.pem", identity.cert_pem.as_bytes()), ("key.pem", identity.key_pem.as_bytes())];
    let process = with_files(PEM, &files).start();
    let probed = Program::new(&["health", "--ready", "--url", &process.url()]).run();
    assert_eq!((probed.code(), probed.stderr.as_str()), (0, ""));
    let listen = process.url().replace("https://", "");
    let settings = Program::within(process.folder(), &["health"]).env("TRUNKLINE_SERVER__LISTEN", listen);
    assert_eq!(settings.run().code(), 0, "the settings say that it speaks TLS");
}

#[tokio::test]
async fn a_client_that_speaks_no_tls_disturbs_nobody() {
    let identity = Identity::new();
    let files = [("cert.pem", identity.cert_pem.as_bytes()), ("key.pem", identity.key_pem.as_bytes())];
    let mut process = with_files(PEM, &files).start();
    let plain = testkit::Client::new(process.url().replace("https://", "http://"));
    let answer = plain.raw(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(identity.chat(&process.url(), key(&process)).await.0, 200);
    // Our end of the HTTP/2 connection has its part in closing it: it must be able to run.
    assert_eq!(tokio::task::spawn_blocking(move || process.stop()).await.unwrap(), Some(0));
}

/// Passes bytes between a port of its own and another; counts the connections made to it.
async fn counting_proxy(to: u16) -> (u16, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut far = tokio::net::TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
            });
        }
    });
    (port, count)
}

/// A second Trunkline is the provider here: it offers HTTP/2 by ALPN, as the large providers do.
#[tokio::test]
async fn a_provider_over_tls_is_asked_by_http_2_on_one_connection() {
    let identity = Identity::new();
    let files = [("cert.pem", identity.cert_pem.as_bytes()), ("key.pem", identity.key_pem.as_bytes())];
    let provider = with_files(PEM, &files).start();
    let (port, connections) =
        counting_proxy(provider.url().rsplit(':').next().unwrap().parse().unwrap()).await;
    let yaml = format!(
        "server: {{threads: 1}}\n\
         providers: {{far: {{kind: openai-compatible, base_url: 'https://localhost:{port}/v1', api_key: {}}}}}\n\
         resilience: {{retries: 0}}\n",
        key(&provider)
    );
    let trusting = Program::serve(&yaml).env("SSL_CERT_FILE", provider.dir().join("cert.pem")).start();
    assert_eq!(trusting.chat("far/demo/chat").await.status, 200);
    let many = futures_util::future::join_all((0..20).map(|_| trusting.chat("far/demo/chat"))).await;
    assert!(many.iter().all(|answer| answer.status == 200));
    let mut stream = trusting.stream("far/demo/chat").await;
    assert_eq!(stream.collect(PATIENCE).await.last().map(String::as_str), Some("data: [DONE]"));
    assert_eq!(connections.load(Ordering::Relaxed), 1, "twenty-two calls on one connection");

    let wary = Program::serve(&yaml).start();
    let refused = wary.chat("far/demo/chat").await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (502, &json!("upstream_failed")));
}
