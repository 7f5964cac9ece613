//! Metrics over OTLP: under the names of the conventions, where these have one.

use testkit::{Collector, Upstream, attribute};

use super::{hello, to};
use crate::app::{PATIENCE, TestApp, alias};

#[tokio::test]
async fn metrics_have_the_dotted_names_units_and_attributes_of_the_conventions() {
    let (collector, upstream) = (Collector::start(), Upstream::start());
    let settings = alias(&[upstream.base_url()], "{}");
    let app = TestApp::start(&format!("{settings}{}", to(&collector))).await;
    assert_eq!(app.post("/v1/chat/completions", "exported-1", hello(false)).await.status, 200);
    app.stream("/v1/chat/completions", "exported-2", hello(true)).await.collect(PATIENCE).await;
    app.record("exported-1").await;
    app.record("exported-2").await;
    // The last export, made while it stops, has everything.
    app.stop().await;
    let metrics = collector.metrics();
    let latest = |name: &str| metrics.iter().rfind(|m| m.name == name).unwrap_or_else(|| panic!("{name}"));
    for (name, unit) in [
        ("gen_ai.client.token.usage", "{token}"),
        ("gen_ai.client.operation.duration", "s"),
        ("gen_ai.server.time_to_first_token", "s"),
        ("http_requests_total", ""),
        ("trunkline_overhead_seconds", "s"),
        ("trunkline_calls_total", ""),
    ] {
        let metric = latest(name);
        assert!(metric.unit == unit || unit.is_empty(), "{name} in {:?}", metric.unit);
        assert!(!metric.description.is_empty(), "{name}");
    }
    assert!(metrics.iter().all(|metric| !metric.name.starts_with("gen_ai_")), "a name without its dots");
    let usage = format!("{:?}", latest("gen_ai.client.token.usage"));
    for key in ["gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.token.type"]
    {
        assert!(usage.contains(&format!("\"{key}\"")), "{key} in {usage}");
    }
    assert!(usage.contains("sum: Some(22.0)") && usage.contains("sum: Some(14.0)"), "{usage}");
    assert_eq!(collector.refused(), Vec::<String>::new());
    let resources = collector.resources();
    let names = resources.iter().map(|resource| attribute(&resource.attributes, "service.name"));
    assert!(names.into_iter().all(|name| name.as_deref() == Some("trunkline")));
}

#[tokio::test]
async fn nothing_is_sent_without_an_endpoint() {
    let (collector, upstream) = (Collector::start(), Upstream::start());
    // A collector is there, and nobody told of it.
    let app = TestApp::start(&alias(&[upstream.base_url()], "{}")).await;
    assert_eq!(app.post("/v1/chat/completions", "exported-3", hello(false)).await.status, 200);
    app.stop().await;
    assert_eq!(collector.headers().len(), 0);
}

#[tokio::test]
async fn traces_and_metrics_can_go_to_different_places() {
    let (traces, metrics, upstream) = (Collector::start(), Collector::start(), Upstream::start());
    let otlp = format!(
        "telemetry: {{otlp: {{traces_endpoint: '{}/v1/traces', metrics_endpoint: '{}/v1/metrics'}}}}\n",
        traces.base_url(),
        metrics.base_url()
    );
    let app = TestApp::start(&format!("{}{otlp}", alias(&[upstream.base_url()], "{}"))).await;
    assert_eq!(app.post("/v1/chat/completions", "exported-4", hello(false)).await.status, 200);
    app.stop().await;
    assert_eq!((traces.spans().len(), traces.metrics().len()), (2, 0));
    assert!(metrics.spans().is_empty() && !metrics.metrics().is_empty());
}
