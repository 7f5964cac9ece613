//! What nginx does to requests and streams on their way.

use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::services::PrivateNginx;
use testkit::{Behaviour, Client, Upstream};

use super::{Certificate, guide};
use crate::app::PATIENCE;
use crate::process::program::{Process, Program, chat_body};

const ADMIN: &str = "an-admin-key-of-this-test-that-is-long-enough";

fn gateway(upstream: &Upstream, more: &str) -> Process {
    let url = upstream.base_url();
    let yaml = format!(
        "providers: {{lab: {{kind: openai-compatible, base_url: '{url}'}}}}\n\
         models: {{m: {{targets: [{{provider: lab, model: x}}]}}}}\n{more}"
    );
    Program::serve(&yaml).env("TRUNKLINE_ADMIN_KEY", ADMIN).start()
}

/// Mutation: a relay that sends no comments is cut off by nginx after a second of silence; an edge that takes
/// `Connection: upgrade` for an upgrade refuses every call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_c12_the_guides_nginx_in_front_breaks_neither_calls_nor_silent_streams() {
    let upstream = Upstream::start();
    // Comments come often enough for a proxy that gives up after a second.
    let process = gateway(&upstream, "resilience: {keep_alive: 200ms, retries: 0}\n");
    let urls = [process.url()];
    let certificate = Certificate::new();
    let started = PrivateNginx::start(&certificate.files(), |ports| guide(ports, &urls, &urls, "1s"));
    let Some(nginx) = started else { return };
    let (_, auth) = process.auth();
    let post = |stream: bool| {
        let request =
            certificate.client.post(format!("https://127.0.0.1:{}/v1/chat/completions", nginx.port(0)));
        let request = request.header("authorization", &auth).header("content-type", "application/json");
        request.body(chat_body("m", stream)).send()
    };
    // Each location says `Connection: upgrade`, whatever the client wants; without an `Upgrade` it means nothing.
    let whole = post(false).await.unwrap();
    assert_eq!(whole.status().as_u16(), 200);
    assert!(serde_json::from_str::<Value>(&whole.text().await.unwrap()).is_ok());
    let health = format!("https://127.0.0.1:{}/health", nginx.port(0));
    assert_eq!(certificate.client.get(health).send().await.unwrap().status().as_u16(), 200);
    let listed = certificate.client.get(format!("https://127.0.0.1:{}/api/groups", nginx.port(1)));
    assert_eq!(listed.bearer_auth(ADMIN).send().await.unwrap().status().as_u16(), 200);
    // The two headers together, as nginx sends them, straight to us.
    let raw =
        format!("GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: {auth}\r\nconnection: upgrade\r\n\r\n");
    let answer =
        String::from_utf8(process.client().raw_for(raw.as_bytes(), Duration::from_millis(500)).await)
            .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    // The provider begins and then says nothing for three times as long as nginx waits.
    let pause = Duration::from_secs(3);
    upstream.script([Behaviour::custom("a pause within", move |ask| {
        let mut reply = Behaviour::ok().reply(ask);
        reply.pieces[2].after = pause;
        reply
    })]);
    let began = Instant::now();
    let mut answer = post(true).await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let mut text = String::new();
    loop {
        match tokio::time::timeout(PATIENCE, answer.chunk()).await.unwrap() {
            Ok(Some(piece)) => text += std::str::from_utf8(&piece).unwrap(),
            Ok(None) => break,
            Err(error) => panic!("cut off: {error}: {text}"),
        }
    }
    assert!(began.elapsed() >= pause, "{:?}", began.elapsed());
    assert!(text.contains("\n\n: keep-alive\n\n"), "{text}");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    // What is no comment is as the provider sent it.
    let events: Vec<&str> = text.split("\n\n").filter(|event| event.starts_with("data: ")).collect();
    assert!(
        events.len() > 3
            && events.iter().all(|e| *e == "data: [DONE]" || serde_json::from_str::<Value>(&e[6..]).is_ok())
    );
}

/// Mutation: an edge that believes the headers of any peer, or of none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_c12_forwarded_headers_are_believed_from_trusted_proxies_only() {
    let upstream = Upstream::start();
    let rules =
        "ip: {trusted_proxies: ['127.0.0.1/32'], bans: {failures: 2}, filter: {deny: ['203.0.113.0/24']}}\n";
    let (trusting, other) =
        (gateway(&upstream, rules), gateway(&upstream, &rules.replace("127.0.0.1/32", "192.0.2.1")));
    let (urls, others) = ([trusting.url()], [other.url()]);
    let certificate = Certificate::new();
    let started =
        PrivateNginx::start(&certificate.files(), |ports: [u16; 2]| guide(ports, &urls, &urls, "5s"));
    let Some(nginx) = started else { return };
    let started =
        PrivateNginx::start(&certificate.files(), |ports: [u16; 2]| guide(ports, &others, &others, "5s"));
    let Some(in_front_of_other) = started else { return };
    let models = async |nginx: &PrivateNginx, process: &Process, forged: &[(&str, &str)]| {
        let request = certificate.client.get(format!("https://127.0.0.1:{}/v1/models", nginx.port(0)));
        let request = request.header("authorization", process.auth().1);
        let request = forged.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.send().await.unwrap().status().as_u16()
    };
    // nginx appends the address it saw, 127.0.0.1; what stands before it, a trusted proxy would have to say.
    assert_eq!(models(&nginx, &trusting, &[]).await, 200);
    assert_eq!(models(&nginx, &trusting, &[("x-forwarded-for", "203.0.113.9")]).await, 403);
    assert_eq!(models(&nginx, &trusting, &[("x-real-ip", "203.0.113.9")]).await, 200, "nginx replaces it");
    assert_eq!(models(&in_front_of_other, &other, &[("x-forwarded-for", "203.0.113.9")]).await, 200);
    // Only X-Real-IP: believed from the one, not from the other.
    for (process, status) in [(&trusting, 403), (&other, 200)] {
        let (_, auth) = process.auth();
        let headers = [("authorization", auth.as_str()), ("x-real-ip", "203.0.113.9")];
        assert_eq!(Client::new(process.url()).get("/v1/models", &headers).await.status, status);
    }
    // A wrong key bans whom the proxy names, not the proxy.
    for _ in 0..2 {
        let headers = [("authorization", "Bearer sk-wrong"), ("x-forwarded-for", "198.51.100.7")];
        assert_eq!(Client::new(trusting.url()).get("/v1/models", &headers).await.status, 401);
    }
    assert_eq!(models(&nginx, &trusting, &[("x-forwarded-for", "198.51.100.7")]).await, 403);
    assert_eq!(models(&nginx, &trusting, &[("x-forwarded-for", "198.51.100.8")]).await, 200);
}
