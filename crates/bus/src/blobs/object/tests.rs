//! Against moto, a fake S3 from PyPI in `target/moto-venv`, the library's store in memory, and a server that
//! only counts.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::testing::{free_port, metrics, until};

const LIMIT: u64 = 24 << 20;

/// Without credentials, which are nobody's business here; those of the environment are set aside.
fn open(endpoint: &str, url: &str, change: impl FnOnce(&mut BlobsSettings)) -> ObjectBlobs {
    let mut settings = BlobsSettings {
        backend: url.into(),
        endpoint: Some(endpoint.to_owned()),
        max_size: base::ByteSize(LIMIT),
        ..BlobsSettings::default()
    };
    change(&mut settings);
    drop(rustls::crypto::ring::default_provider().install_default());
    let bucket = Url::parse(url).unwrap();
    let store =
        s3(&bucket, &settings).with_access_key_id("test").with_secret_access_key("hidden1").build().unwrap();
    let store = Arc::new(store);
    let prefix = bucket.path().trim_matches('/').to_owned();
    ObjectBlobs::on(Arc::clone(&store) as _, Some(store), &prefix, &settings, &metrics().1)
}

#[tokio::test]
async fn conforms_in_memory() {
    let settings = BlobsSettings { max_size: base::ByteSize(LIMIT), ..BlobsSettings::default() };
    for prefix in ["", "some/prefix"] {
        let store = Arc::new(object_store::memory::InMemory::new());
        let blobs = ObjectBlobs::on(store, None, prefix, &settings, &metrics().1);
        crate::conformance::blobs(&blobs, "run", LIMIT).await.unwrap();
        assert_eq!(blobs.signed_url("x", Duration::from_secs(60)).await.unwrap(), None);
    }
}

/// A fake S3.
struct Moto {
    child: Child,
    port: u16,
}

impl Moto {
    async fn start() -> Option<Self> {
        let venv = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/moto-venv");
        let server = venv.join("bin/moto_server");
        if !server.exists() {
            let run = |command: &mut Command| {
                command.stdout(Stdio::null()).status().is_ok_and(|status| status.success())
            };
            let made = run(Command::new("python3").args(["-m", "venv"]).arg(&venv))
                && run(Command::new(venv.join("bin/pip")).args(["install", "-q", "moto[s3,server]"]));
            if !made {
                let message = "no moto: it cannot be had from PyPI";
                assert!(std::env::var("TRUNKLINE_REQUIRE_SERVICES").as_deref() != Ok("1"), "{message}");
                println!("skipped: {message}");
                return None;
            }
        }
        let port = free_port();
        let child = Command::new(venv.join("bin/python"))
            .arg(&server)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let moto = Moto { child, port };
        until("moto comes up", || async { TcpStream::connect(("127.0.0.1", port)).is_ok() }).await;
        Some(moto)
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// One request by hand; its status and body.
    async fn request(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            self.port
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned())
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_on_s3() {
    let Some(moto) = Moto::start().await else { return };
    assert_eq!(moto.request("PUT", "/bucket").await.0, 200);
    let blobs = open(&moto.endpoint(), "s3://bucket/some/prefix", |_| {});
    crate::conformance::blobs(&blobs, "run", LIMIT).await.unwrap();
    crate::conformance::blobs(&open(&moto.endpoint(), "s3://bucket", |_| {}), "run", LIMIT).await.unwrap();

    blobs.put("a/b.txt", <dyn Body>::whole("signed")).await.unwrap();
    let url = blobs.signed_url("a/b.txt", Duration::from_secs(60)).await.unwrap().unwrap();
    let path = url.strip_prefix(&moto.endpoint()).unwrap();
    assert!(path.starts_with("/bucket/some/prefix/a/b.txt?") && !path.contains("hidden1"), "{path}");
    assert_eq!(moto.request("GET", path).await, (200, "signed".to_owned()));
    assert!(blobs.signed_url("a", Duration::from_secs(8 * 24 * 3600)).await.is_err());

    let nowhere = open(&moto.endpoint(), "s3://no-such-bucket", |_| {});
    assert!(nowhere.put("x", <dyn Body>::whole("x")).await.is_err());
}

/// A server that answers each request after a while, and counts how many it has at once.
async fn counting(most: Arc<AtomicUsize>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let now = Arc::new(AtomicUsize::new(0));
        while let Ok((mut stream, _)) = listener.accept().await {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            tokio::spawn(async move {
                let mut buffer = [0; 8192];
                while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nlast-modified: Fri, 20 Nov 2026 00:00:00 GMT\r\netag: \"x\"\r\n\r\nx";
                    now.fetch_sub(1, Ordering::SeqCst);
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    format!("http://{address}")
}

/// P04. Mutation tried: a thousand permits whatever the setting.
#[tokio::test(flavor = "multi_thread")]
async fn promise_p04_no_more_connections_are_used_at_once_than_the_setting_allows() {
    let most = Arc::new(AtomicUsize::new(0));
    let blobs =
        open(&counting(Arc::clone(&most)).await, "s3://bucket", |settings| settings.max_connections = 3);
    let read = |_| async { blobs.get("k").await.unwrap().1.collect(10).await.unwrap() };
    assert_eq!(join_all((0..12).map(read)).await.len(), 12);
    assert_eq!(most.load(Ordering::SeqCst), 3);

    // Who holds a connection without reading keeps others waiting only so long.
    let blobs = open(&counting(most).await, "s3://bucket", |settings| {
        settings.max_connections = 1;
        settings.connect_timeout = base::Duration::from_millis(200);
    });
    let held = blobs.get("k").await.unwrap();
    let error = blobs.get("k").await.map(drop).unwrap_err();
    assert!(matches!(error, SeamError::Unavailable { .. }), "{error:?}");
    drop(held);
    blobs.get("k").await.unwrap();
}

/// P04. Mutation tried: `with_connect_timeout` left out (then it takes the library's 5 s).
#[tokio::test(flavor = "multi_thread")]
async fn promise_p04_connecting_takes_no_longer_than_the_setting_allows() {
    // It takes the connection and never speaks TLS.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("https://{}", silent.local_addr().unwrap());
    let blobs = open(&endpoint, "s3://bucket", |settings| {
        settings.connect_timeout = base::Duration::from_millis(200);
        settings.timeout = base::Duration::from_secs(20);
    });
    let began = Instant::now();
    let error = blobs.head("k").await.unwrap_err();
    assert!(matches!(error, SeamError::Unavailable { .. }), "{error:?}");
    // Some tries of 200 ms each.
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let defaults = BlobsSettings::default();
    assert_eq!((defaults.max_connections, defaults.connect_timeout.0), (100, Duration::from_secs(10)));
}

#[test]
fn a_token_in_an_address_is_not_repeated() {
    let text = "error sending request for url (https://a.blob/c/k?sv=1&sig=hidden1): timed out";
    assert_eq!(cleaned(text), "error sending request for url (https://a.blob/c/k?***): timed out");
}

#[test]
fn a_bucket_that_cannot_be_is_refused() {
    let open = |url: &str| {
        let settings = BlobsSettings { backend: url.into(), ..BlobsSettings::default() };
        ObjectBlobs::open(&settings, &metrics().1).map(drop)
    };
    for bad in ["bucket", "ftp://bucket", "s3://key:hidden1@bucket", "s3://bucket/a b", "s3://bucket/é"] {
        let error = open(bad).unwrap_err();
        assert!(matches!(error, SeamError::Invalid(_)) && !error.to_string().contains("hidden1"), "{error}");
    }
}
