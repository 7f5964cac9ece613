//! Secrets go nowhere but where they must: a program with every kind of secret does good and bad work at the
//! most talkative level, and all that came out of it is searched.

use std::sync::Arc;

use testkit::{Behaviour, Client, Collector, Upstream, attribute};

use super::program::chat_body;
use super::{Process, Program};
use crate::app::PATIENCE;

const PROVIDER_KEY: &str = "sk-prov-7f3a9c51d2e84b60";
const PROVIDER_HEADER: &str = "hdr-5b1e77aa90c34d12";
const OTLP_HEADER: &str = "otlp-c0ffee1234567890";
const PASSWORD: &str = "pfx-pass-91ab33de";
const ADMIN: &str = "admin-44d0e9b7c6a1";
/// Somebody's key for something else, sent to us by mistake.
const STRANGER: &str = "sk-stranger-0011223344";

/// Everything that came out.
#[derive(Default)]
struct Seen(Vec<(String, String)>);

impl Seen {
    fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.0.push((place.into(), text.into()));
    }

    fn answer(&mut self, what: &str, answer: &testkit::Response) {
        self.add(what, format!("{:?} {}", answer.headers, String::from_utf8_lossy(&answer.body)));
    }

    fn search(&self, secrets: &[&str]) {
        for (place, text) in &self.0 {
            for secret in secrets {
                // As they are, and as a careless `{:?}` of bytes or base64 of a header would print them.
                let bytes = format!("{:?}", secret.as_bytes());
                let found = [*secret, bytes.trim_matches(['[', ']'])].into_iter().find(|s| text.contains(*s));
                assert!(found.is_none(), "{place} shows {secret}: {}", around(text, secret));
            }
        }
    }
}

fn around<'t>(text: &'t str, secret: &str) -> &'t str {
    let at = text.find(secret).unwrap_or_default();
    let from = text[..at].char_indices().rev().nth(200).map_or(0, |(at, _)| at);
    let to = text[at..].char_indices().nth(200).map_or(text.len(), |(more, _)| at + more);
    &text[from..to]
}

fn settings(upstream: &Upstream, collector: &Collector, format: &str) -> String {
    format!(
        "server:\n  metrics_access: key\n  listeners:\n    - {{addr: '127.0.0.1:0', roles: [gateway]}}\n    \
         - {{addr: '127.0.0.1:0', roles: [gateway], tls: {{pkcs12: store.pfx, password: '${{PFX_PASSWORD}}'}}}}\n\
         providers:\n  up:\n    kind: openai-compatible\n    base_url: '{}'\n    api_key: {PROVIDER_KEY}\n    \
         headers: {{x-tenant-token: '{PROVIDER_HEADER}'}}\n\
         models: {{m: {{targets: [{{provider: up, model: n}}]}}}}\n\
         resilience: {{retries: 1, backoff: 1ms, idle_timeout: 200ms, request_timeout: 2s, breaker: {{failures: 1000}}}}\n\
         telemetry: {{log: {{level: trace, format: {format}}}, otlp: {{endpoint: '{}', metrics_interval: 100ms, headers: {{x-api-key: '{OTLP_HEADER}'}}}}}}\n",
        upstream.base_url(),
        collector.base_url()
    )
}

/// An error that quotes what we sent, as a careless provider writes it.
fn quoting(status: u16) -> Behaviour {
    let message =
        format!("Request headers: Authorization: Bearer {PROVIDER_KEY}, x-tenant-token: {PROVIDER_HEADER}.");
    Behaviour::custom(format!("quoting({status})"), move |_| {
        let body = format!(
            r#"{{"error":{{"message":"{message}","type":"invalid_request_error","param":null,"code":null}}}}"#
        );
        testkit::Reply::whole(status, "application/json", body)
    })
}

/// The same within a stream, at its beginning or after some content.
fn quoting_in_stream(content: usize) -> Behaviour {
    Behaviour::custom("quoting_in_stream", move |_| {
        let mut events = testkit::chat::events(false);
        events.truncate(content);
        events.push(format!(r#"data: {{"error":{{"message":"bad key {PROVIDER_KEY} {PROVIDER_HEADER}"}}}}"#));
        testkit::Reply::events(events)
    })
}

async fn good_and_bad_calls(process: &Process, upstream: &Upstream, seen: &mut Seen) {
    let (name, key) = process.auth();
    let client = process.client();
    let post = async |what: &str, auth: &str, body: String, seen: &mut Seen| {
        let answer = client.post_json("/v1/chat/completions", &[(name, auth)], body).await;
        seen.answer(what, &answer);
        answer.status
    };
    assert_eq!(post("a good call", &key, chat_body("m", false), seen).await, 200);
    for status in [400, 401, 403, 404, 422, 429, 500, 503] {
        upstream.set_default(quoting(status));
        let what = format!("a provider's {status}");
        let answered = post(&what, &key, chat_body("m", false), seen).await;
        assert!(answered >= 400, "{what} became {answered}");
    }
    for content in [0, 3] {
        upstream.set_default(quoting_in_stream(content));
        let mut stream = client.stream("/v1/chat/completions", &[(name, &key)], chat_body("m", true)).await;
        let events = stream.collect(PATIENCE).await;
        seen.add(format!("a stream that fails after {content}"), format!("{:?} {events:?}", stream.headers));
        seen.add("its bytes", String::from_utf8_lossy(stream.received()));
    }
    upstream.set_default(Behaviour::reset());
    assert_eq!(post("a broken connection", &key, chat_body("m", false), seen).await, 502);
    upstream.set_default(Behaviour::ok());
    assert_eq!(post("a model that is a key", &key, chat_body("nobody", false), seen).await, 404);
    assert_eq!(post("bad JSON", &key, "{".into(), seen).await, 400);
    let stranger = format!("Bearer {STRANGER}");
    assert_eq!(post("a stranger", &stranger, chat_body("m", false), seen).await, 401);
    for headers in [[("x-api-key", STRANGER)], [("authorization", STRANGER)]] {
        seen.answer("a stranger's metrics", &client.get("/metrics", &headers).await);
    }
    seen.answer(
        "a key in the query",
        &client.get(&format!("/v1/models?key={STRANGER}"), &[(name, &key)]).await,
    );
    let metrics = Client::new(process.metrics_url()).get("/metrics", &[("x-api-key", ADMIN)]).await;
    assert_eq!(metrics.status, 200);
    seen.answer("the metrics", &metrics);
    for path in ["/health", "/health/ready", "/version"] {
        seen.answer(path, &client.get(path, &[]).await);
    }
}

/// The same key over HTTP/2, whose frames the libraries below us like to print.
async fn over_http_2(process: &Process, certificate: &[u8], seen: &mut Seen) {
    drop(rustls::crypto::ring::default_provider().install_default());
    let root = reqwest::Certificate::from_der(certificate).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([root]).build().unwrap();
    let line = process.wait_for_line(&["listening", "https://"]);
    let url = line.split_once("https://").unwrap().1.split([' ', '"']).next().unwrap().to_owned();
    let request = client.post(format!("https://{url}/v1/chat/completions")).body(chat_body("m", false));
    let request = request.header("content-type", "application/json");
    let answer = request.bearer_auth(process.ready["key"].as_str().unwrap()).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));
    seen.add("HTTP/2", format!("{:?} {}", answer.headers().clone(), answer.text().await.unwrap()));
}

fn exports(collector: &Collector, seen: &mut Seen) {
    assert!(collector.headers().iter().all(|h| h.contains(&("x-api-key".into(), OTLP_HEADER.into()))));
    let spans = collector.spans();
    assert!(spans.iter().any(|span| attribute(&span.attributes, "error.type").is_some()));
    seen.add("the traces", format!("{spans:?} {:?}", collector.resources()));
    seen.add("the exported metrics", format!("{:?}", collector.metrics()));
}

/// Fails when `ErrorAnswer` or a stream's error keeps the provider's words as they are, when a `Secret`
/// becomes a `String` in any settings struct, or when a header loses its `set_sensitive`.
#[tokio::test]
async fn promise_d11_no_key_in_logs_metrics_or_errors() {
    for format in ["json", "text"] {
        let (upstream, collector) = (Upstream::start(), Collector::start());
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let yaml = settings(&upstream, &collector, format);
        std::fs::write(folder.path().join("store.pfx"), store(&made)).unwrap();
        let program = Program::serve_within(Arc::clone(&folder), &yaml);
        let mut process = program.env("PFX_PASSWORD", PASSWORD).env("TRUNKLINE_ADMIN_KEY", ADMIN).start();
        let mut seen = Seen::default();
        good_and_bad_calls(&process, &upstream, &mut seen).await;
        over_http_2(&process, made.cert.der(), &mut seen).await;
        // The provider did get what is ours to send.
        let received = &upstream.requests()[0];
        assert_eq!(received.header("authorization"), Some(format!("Bearer {PROVIDER_KEY}").as_str()));
        assert_eq!(received.header("x-tenant-token"), Some(PROVIDER_HEADER));
        assert_ne!(received.header("authorization"), Some(process.auth().1.as_str()));

        // A bad file right beside the secrets, read again.
        std::fs::write(folder.path().join("trunkline.yaml"), format!("{yaml}resilence: {{}}\n")).unwrap();
        process.signal("HUP");
        process.wait_for_line(&["settings not reloaded"]);
        let key = process.ready["key"].as_str().unwrap().to_owned();
        // Our end of the HTTP/2 connection has its part in closing it: it must be able to run.
        let stopping = tokio::task::spawn_blocking(move || (process.stop(), process));
        let (code, process) = stopping.await.unwrap();
        assert_eq!(code, Some(0));
        assert!(process.stdout().len() + process.stderr().len() > 100, "the log is not talkative");
        seen.add("stdout", process.stdout().join("\n"));
        seen.add("stderr", process.stderr().join("\n"));
        exports(&collector, &mut seen);
        std::fs::write(folder.path().join("trunkline.yaml"), &yaml).unwrap();
        for arguments in
            [&["config", "show"][..], &["config", "show", "--json"], &["config", "check", "trunkline.yaml"]]
        {
            let shown = Program::within(Arc::clone(&folder), arguments).env("PFX_PASSWORD", PASSWORD).run();
            assert_eq!(shown.code(), 0, "{shown:?}");
            seen.add(arguments.join(" "), format!("{}{}", shown.stdout, shown.stderr));
        }
        let stored = std::fs::read(folder.path().join("trunkline-data/trunkline.db")).unwrap();
        seen.add("the store", String::from_utf8_lossy(&stored).into_owned());
        seen.search(&[PROVIDER_KEY, PROVIDER_HEADER, OTLP_HEADER, PASSWORD, ADMIN, STRANGER, &key]);
    }
}

fn store(made: &rcgen::CertifiedKey<rcgen::KeyPair>) -> Vec<u8> {
    use p12_keystore::{Certificate, KeyStore, KeyStoreEntry, PrivateKey, PrivateKeyChain};
    let key = PrivateKey::from_der(&made.signing_key.serialize_der()).unwrap();
    let chain = PrivateKeyChain::new("a", key, [Certificate::from_der(made.cert.der()).unwrap()]);
    let mut store = KeyStore::new();
    store.add_entry("a", KeyStoreEntry::PrivateKeyChain(chain));
    store.writer(PASSWORD).write().unwrap()
}
