//! Where it listens, and what is served there.

use testkit::Client;

use super::program::chat_body;
use super::{Process, Program};

/// The URLs of its listeners, in their order, as the log tells them.
fn urls(process: &Process, count: usize) -> Vec<String> {
    let url = |line: String| line.split_once("url=").unwrap().1.split(' ').next().unwrap().to_owned();
    process.wait_for_lines(&["listening", "url="], count).into_iter().map(url).collect()
}

#[tokio::test]
async fn each_listener_serves_its_roles() {
    let settings = "server:\n  listeners:\n    - {addr: '127.0.0.1:0', roles: [admin]}\n    \
                    - {addr: '127.0.0.1:0', roles: [gateway]}\n";
    let process = Program::serve(settings).start();
    let urls = urls(&process, 2);
    let (name, value) = process.auth();
    let call = async |url: &str| {
        let client = Client::new(url);
        let body = chat_body("demo/chat", false);
        (
            client.post_json("/v1/chat/completions", &[(name, &value)], body).await.status,
            client.get("/v1/models", &[(name, &value)]).await.status,
            client.get("/health", &[]).await.status,
            client.get("/metrics", &[]).await.status,
        )
    };
    assert_eq!(call(&urls[0]).await, (404, 404, 200, 200), "the role admin has no models");
    assert_eq!(call(&urls[1]).await, (200, 200, 200, 200));
    // The one that is told is the one that answers calls.
    assert_eq!(process.url(), urls[1]);
}

#[tokio::test]
async fn metrics_are_on_every_api_port_and_on_their_own() {
    let settings = "server:\n  listeners:\n    - {addr: '127.0.0.1:0', roles: [gateway]}\n    \
                    - {addr: '[::1]:0', roles: [admin]}\n";
    let process = Program::serve(settings).start();
    assert_eq!(process.chat("demo/chat").await.status, 200);
    let mut places = urls(&process, 2);
    places.push(process.metrics_url());
    for place in places {
        let metrics = Client::new(&place).get("/metrics", &[]).await;
        assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        // One application, one set of figures, wherever they are read.
        let line = r#"http_requests_total{method="POST",route="/v1/chat/completions",status="200"} 1"#;
        assert!(metrics.text().lines().any(|l| l == line), "{place}: {}", metrics.text());
    }
    // The metrics address has no models: it may be reachable for more than the API is.
    let (name, value) = process.auth();
    assert_eq!(Client::new(process.metrics_url()).get("/v1/models", &[(name, &value)]).await.status, 404);
}

#[tokio::test]
async fn metrics_can_ask_for_the_admin_key() {
    let process = Program::serve("server: {metrics_access: key}\n").start();
    let admin = format!("Bearer {}", process.ready["admin_key"].as_str().unwrap());
    let (_, key) = process.auth();
    for url in [process.url(), process.metrics_url()] {
        let client = Client::new(url);
        let get = async |headers: &[(&str, &str)]| client.get("/metrics", headers).await.status;
        assert_eq!(get(&[]).await, 401);
        assert_eq!(get(&[("authorization", "Bearer wrong")]).await, 401);
        assert_eq!(get(&[("authorization", &key)]).await, 403);
        assert_eq!(get(&[("authorization", &admin)]).await, 200);
        assert_eq!(client.get("/health", &[]).await.status, 200, "health stays open");
    }
}

#[tokio::test]
async fn without_a_metrics_address_there_is_none() {
    let program = Program::new(&["serve", "--listen", "127.0.0.1:0"])
        .env("TRUNKLINE_SERVER__METRICS", "null")
        .env("TRUNKLINE_SERVER__DRAIN_DELAY", "0s");
    let process = program.start();
    assert!(process.ready["metrics_url"].is_null(), "{}", process.ready);
    assert_eq!(process.get("/metrics").await.status, 200);
}
