//! The metrics as Prometheus reads them: their names, which dashboards and alerts are written against.

use testkit::{Behaviour, Upstream};

use super::hello;
use super::text_format::parse;
use crate::app::{PATIENCE, TestApp, alias};

/// What is promised, or told in `docs/telemetry.md`: name, type, labels.
const FAMILIES: &[(&str, &str, &[&str])] = &[
    ("http_requests_total", "counter", &["method", "route", "status"]),
    ("http_request_duration_seconds", "histogram", &["method", "route"]),
    ("dashflow_llm_duration_seconds", "histogram", &["provider", "model"]),
    ("trunkline_overhead_seconds", "histogram", &[]),
    ("trunkline_calls_total", "counter", &["operation", "target", "outcome"]),
    ("trunkline_calls_in_flight", "gauge", &[]),
    ("trunkline_calls_shed_total", "counter", &[]),
    ("trunkline_attempts_total", "counter", &["provider", "model", "result"]),
    ("trunkline_tokens_total", "counter", &["provider", "model", "type", "source"]),
    ("trunkline_breaker_state", "gauge", &["target"]),
    (
        "gen_ai_client_operation_duration_seconds",
        "histogram",
        &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "error_type"],
    ),
    (
        "gen_ai_client_token_usage",
        "histogram",
        &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_token_type"],
    ),
    (
        "gen_ai_server_time_to_first_token_seconds",
        "histogram",
        &["gen_ai_provider_name", "gen_ai_request_model"],
    ),
    ("process_cpu_seconds_total", "counter", &[]),
    ("process_resident_memory_bytes", "gauge", &[]),
    ("process_open_fds", "gauge", &[]),
    ("process_start_time_seconds", "gauge", &[]),
];

/// An application that has done some of everything.
async fn busy(test: &str) -> (TestApp, Upstream) {
    let id = |n: u32| format!("{test}-{n}");
    let upstream = Upstream::start();
    upstream.script([
        Behaviour::error(500, None),
        Behaviour::ok(),
        Behaviour::ok(),
        Behaviour::without_usage(),
    ]);
    let app = TestApp::start(&alias(&[upstream.base_url()], "{retries: 1, backoff: 1ms}")).await;
    assert_eq!(app.post("/v1/chat/completions", &id(1), hello(false)).await.status, 200);
    app.stream("/v1/chat/completions", &id(2), hello(true)).await.collect(PATIENCE).await;
    assert_eq!(app.post("/v1/chat/completions", &id(3), hello(false)).await.status, 200);
    // Names that a caller chose, as nasty as they can be.
    let nasty = r#"{"model":"a/\" } \\ {x=\"1\"} é 😀","messages":[{"role":"user","content":"hi"}]}"#;
    app.post("/v1/chat/completions", &id(4), nasty).await;
    assert_eq!(
        app.client().get("/v1/nowhere", &[app.auth()].each_ref().map(|(n, v)| (*n, v.as_str()))).await.status,
        404
    );
    assert_eq!(app.post("/v1/chat/completions", &id(5), "{").await.status, 400);
    for n in 1..=5 {
        app.record(&id(n)).await;
    }
    (app, upstream)
}

#[tokio::test]
async fn every_family_is_there_with_its_labels_and_the_text_parses() {
    let (app, _upstream) = busy("prom-families").await;
    let families = parse(&app.metrics().await);
    for (name, kind, labels) in FAMILIES {
        let family =
            families.get(*name).unwrap_or_else(|| panic!("{name} is missing: {:?}", families.keys()));
        assert_eq!(family.kind, *kind, "{name}");
        assert_eq!(family.labels(), labels.iter().copied().collect(), "{name}");
    }
    // What a caller chose came back as it was.
    let calls = &families["trunkline_calls_total"].samples;
    let nasty = "a/\" } \\ {x=\"1\"} é 😀";
    assert!(calls.iter().any(|(_, labels, _)| labels["target"] == nasty), "{calls:#?}");
}

#[tokio::test]
async fn the_documentation_names_every_family() {
    let (app, _upstream) = busy("prom-documented").await;
    let documented =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/telemetry.md")).unwrap();
    for name in parse(&app.metrics().await).keys() {
        assert!(documented.contains(&format!("`{name}`")), "docs/telemetry.md does not tell of {name}");
    }
}

#[tokio::test]
async fn requests_are_counted_by_route_and_status() {
    let (app, _upstream) = busy("prom-requests").await;
    let chats =
        |status: &'static str| [("method", "POST"), ("route", "/v1/chat/completions"), ("status", status)];
    assert_eq!(app.metric("http_requests_total", &chats("200")).await, 4.0);
    assert_eq!(app.metric("http_requests_total", &chats("400")).await, 1.0);
    // A path that nobody knows is its caller's invention, and must not become a series of its own.
    assert_eq!(app.metric("http_requests_total", &[("route", "unmatched"), ("status", "404")]).await, 1.0);
    assert!(!app.metrics().await.contains("/v1/nowhere"));
    let bucket = [("route", "/v1/chat/completions"), ("le", "+Inf")];
    assert_eq!(app.metric("http_request_duration_seconds_bucket", &bucket).await, 5.0);
    assert_eq!(app.metric("http_request_duration_seconds_count", &bucket[..1]).await, 5.0);
}

#[tokio::test]
async fn calls_attempts_and_tokens_are_counted_by_target() {
    let (app, _upstream) = busy("prom-calls").await;
    let ok = [("operation", "chat"), ("target", "a/up-a"), ("outcome", "ok")];
    assert_eq!(app.metric("trunkline_calls_total", &ok).await, 3.0);
    let attempts = |result: &'static str| [("provider", "a"), ("model", "up-a"), ("result", result)];
    assert_eq!(app.metric("trunkline_attempts_total", &attempts("ok")).await, 3.0);
    assert_eq!(app.metric("trunkline_attempts_total", &attempts("status")).await, 1.0);
    let tokens =
        |kind: &'static str, source: &'static str| [("model", "up-a"), ("type", kind), ("source", source)];
    assert_eq!(app.metric("trunkline_tokens_total", &tokens("input", "provider")).await, 22.0);
    assert_eq!(app.metric("trunkline_tokens_total", &tokens("output", "provider")).await, 14.0);
    // The provider that sent none was counted for, and is told apart.
    assert!(app.metric("trunkline_tokens_total", &tokens("output", "estimate")).await > 0.0);
    let of_a = [("provider", "a"), ("model", "up-a")];
    assert_eq!(app.metric("dashflow_llm_duration_seconds_count", &of_a).await, 3.0);
    let of_a = [("gen_ai_provider_name", "a"), ("gen_ai_request_model", "up-a")];
    assert_eq!(app.metric("gen_ai_client_operation_duration_seconds_count", &of_a).await, 3.0);
    assert_eq!(app.metric("gen_ai_server_time_to_first_token_seconds_count", &of_a).await, 1.0);
    assert_eq!(app.metric("trunkline_calls_in_flight", &[]).await, 0.0);
}

#[tokio::test]
async fn our_own_time_is_measured_from_ten_microseconds_on() {
    let (app, _upstream) = busy("prom-overhead").await;
    let families = parse(&app.metrics().await);
    let bounds = families["trunkline_overhead_seconds"].bounds();
    assert_eq!(bounds[0].parse::<f64>().unwrap(), 0.000_01, "{bounds:?}");
    assert!(bounds.len() > 10, "{bounds:?}");
    assert_eq!(app.metric("trunkline_overhead_seconds_count", &[]).await, 5.0);
    // It leaves the provider's time out.
    let slow = Upstream::start();
    slow.set_default(Behaviour::slow_first_token(std::time::Duration::from_millis(300)));
    let app = TestApp::start(&alias(&[slow.base_url()], "{}")).await;
    app.post("/v1/chat/completions", "overhead-1", hello(false)).await;
    let record = app.record("overhead-1").await;
    let (whole, ours) = (record["duration_us"].as_u64().unwrap(), record["overhead_us"].as_u64().unwrap());
    assert!(whole >= 300_000 && ours <= whole - 300_000, "{whole} µs, of which ours {ours}");
}

#[tokio::test]
async fn a_caller_cannot_make_series_without_end() {
    let upstream = Upstream::start();
    let app = TestApp::start(&alias(&[upstream.base_url()], "{}")).await;
    let long = "x".repeat(300);
    for path in [format!("/v1/models/{long}"), format!("/{long}"), "/v1/models/a?b=c".to_owned()] {
        let (name, value) = app.auth();
        app.client().get(&path, &[(name, &value)]).await;
    }
    for method in ["BREW", "PROPFIND"] {
        app.client().try_send(method, "/health", &[], b"").await.unwrap();
    }
    let text = app.metrics().await;
    assert!(!text.contains(&long) && !text.contains("BREW") && !text.contains("b=c"), "{text}");
    assert_eq!(app.metric("http_requests_total", &[("method", "other")]).await, 2.0);
    assert_eq!(app.metric("http_requests_total", &[("route", "/v1/models/{id}")]).await, 2.0);
}
